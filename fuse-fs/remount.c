/* SPDX-License-Identifier: MIT */
/*
 * remount.c: a change of a mount from outside (remount.h).  Owns nothing; one thread, no lock.  Called by main.c.
 *
 * Two parties hold the mount's properties: its daemon the limits (ask.h), the kernel the flags (mount(2)).  The daemon
 * is asked first, as it may refuse for many reasons; should the kernel refuse then, the daemon takes its change back.
 */
#include "fuse-fs/remount.h"

#include "fuse-fs/ask.h"
#include "fuse-fs/mountinfo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

struct remount_search {
	const char *path;
	bool found;
	unsigned long flags;
};

/* The flags of mount(2) that the kernel's list shows: a remount replaces all of them. */
static unsigned long remount_flags(const char *list)
{
	static const struct {
		const char *word;
		unsigned long flag;
	} words[] = {
		{ "ro", MS_RDONLY },	     { "nosuid", MS_NOSUID },	  { "nodev", MS_NODEV },
		{ "noexec", MS_NOEXEC },     { "sync", MS_SYNCHRONOUS },  { "dirsync", MS_DIRSYNC },
		{ "noatime", MS_NOATIME },   { "nodiratime", MS_NODIRATIME }, { "relatime", MS_RELATIME },
		{ "lazytime", MS_LAZYTIME }, { "nosymfollow", MS_NOSYMFOLLOW },
	};
	unsigned long flags = 0;

	while (*list != '\0') {
		size_t len = strcspn(list, ",");

		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
			if (strlen(words[i].word) == len && strncmp(words[i].word, list, len) == 0)
				flags |= words[i].flag;
		list += len + (list[len] == ',');
	}
	return flags;
}

/* Later lines lie over earlier ones: the last one of this path counts. */
static int remount_match(const struct mountinfo *mi, void *ctx)
{
	struct remount_search *search = ctx;

	if (strcmp(mi->mountpoint, search->path) == 0) {
		search->found = strcmp(mi->type, "fuse.spillfs") == 0;
		search->flags = remount_flags(mi->options) | remount_flags(mi->super_options);
	}
	return 0;
}

/* What the kernel shall have: what it has, and what was said. */
static unsigned long remount_new_flags(const struct options *opt, unsigned long old)
{
	unsigned long flags = (old & ~opt->ms_clear) | opt->ms_set;

	if ((flags & MS_STRICTATIME) != 0)
		flags &= ~(unsigned long)(MS_NOATIME | MS_RELATIME);
	return flags;
}

#define REMOUNT_TIME_FLAGS (MS_NOATIME | MS_RELATIME | MS_STRICTATIME | MS_NODIRATIME)

static int remount_kernel(const struct options *opt, const char *path, unsigned long flags, char *why, size_t why_len)
{
	if (mount(opt->source, path, "fuse.spillfs", MS_REMOUNT | flags, "") == 0)
		return 0;
	snprintf(why, why_len, "mount: %s", strerror(errno));
	return -errno;
}

int remount(const struct options *opt, char *why, size_t why_len)
{
	char *path = realpath(opt->mountpoint, NULL);
	struct remount_search search = { .path = path != NULL ? path : opt->mountpoint };
	unsigned long flags;
	char reason[256] = "", more[256];
	struct spillfs_set set;
	int err = mountinfo_each(remount_match, &search);

	if (err == 0 && !search.found) {
		snprintf(reason, sizeof(reason), "no spillfs is mounted there");
		err = -EINVAL;
	}
	flags = remount_new_flags(opt, search.flags);
	if (err == 0)
		err = ask_fill(opt, &set, reason, sizeof(reason));
	if (err == 0 && ((opt->ms_set | opt->ms_clear) & REMOUNT_TIME_FLAGS) != 0) {
		set.mask |= SPILLFS_SET_ATIME;
		set.atime = (uint32_t)options_atime_of(flags);
		set.nodiratime = (flags & MS_NODIRATIME) != 0;
	}
	if (err == 0 && set.mask != 0)
		err = ask_set(search.path, &set, reason, sizeof(reason));
	if (err == 0 && flags != search.flags) {
		err = remount_kernel(opt, search.path, flags, reason, sizeof(reason));
		if (err != 0 && set.mask != 0 && ask_set(search.path, &set, more, sizeof(more)) != 0)
			snprintf(reason + strlen(reason), sizeof(reason) - strlen(reason),
				 ", and the limits could not be taken back");
	}
	if (err != 0)
		snprintf(why, why_len, "remount of %s: %s", opt->mountpoint, reason[0] != '\0' ? reason : strerror(-err));
	free(path);
	return err;
}
