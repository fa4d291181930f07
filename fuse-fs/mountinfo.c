/* SPDX-License-Identifier: MIT */
/*
 * mountinfo.c: reads /proc/self/mountinfo.  Owns nothing and needs no lock.  Called by main.c's checks before
 * mounting, by session.c at the end (is our mount still there?), and by memavail.c (where are the cgroups?).
 */
#include "fuse-fs/mountinfo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOUNTINFO_FILE "/proc/self/mountinfo"

/* Space, tab, newline and backslash come as \ooo. */
static void mountinfo_unescape(char *s)
{
	char *out = s;

	while (*s != '\0') {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
		    s[3] <= '7') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = '\0';
}

/* id parent major:minor root mountpoint options [optional fields ...] - type source super-options */
static bool mountinfo_parse(char *line, struct mountinfo *mi)
{
	char *save = NULL;
	char *field[6];
	char *word = NULL;

	for (int i = 0; i < 6; i++) {
		field[i] = strtok_r(i == 0 ? line : NULL, " \n", &save);
		if (field[i] == NULL)
			return false;
	}
	if (sscanf(field[2], "%u:%u", &mi->major, &mi->minor) != 2)
		return false;
	do {
		word = strtok_r(NULL, " \n", &save);
		if (word == NULL)
			return false;
	} while (strcmp(word, "-") != 0);
	mountinfo_unescape(field[3]);
	mountinfo_unescape(field[4]);
	mi->root = field[3];
	mi->mountpoint = field[4];
	mi->options = field[5];
	mi->type = strtok_r(NULL, " \n", &save);
	/* The source is not used here. */
	word = strtok_r(NULL, " \n", &save);
	mi->super_options = strtok_r(NULL, " \n", &save);
	if (mi->super_options == NULL) {
		/* An empty source leaves two words of the three. */
		mi->super_options = word != NULL ? word : "";
	}
	return mi->type != NULL;
}

int mountinfo_each_of(const char *file, int (*fn)(const struct mountinfo *mi, void *ctx), void *ctx)
{
	FILE *f = fopen(file, "re");
	char *line = NULL;
	size_t size = 0;
	int ret = 0;

	if (f == NULL)
		return -errno;
	while (ret == 0 && getline(&line, &size, f) > 0) {
		struct mountinfo mi;

		if (mountinfo_parse(line, &mi))
			ret = fn(&mi, ctx);
	}
	free(line);
	fclose(f);
	return ret;
}

int mountinfo_each(int (*fn)(const struct mountinfo *mi, void *ctx), void *ctx)
{
	return mountinfo_each_of(MOUNTINFO_FILE, fn, ctx);
}

struct mountinfo_search {
	const char *path;
	bool found;
	unsigned major, minor;
};

/* Later lines lie over earlier ones: the last one of this path counts. */
static int mountinfo_match(const struct mountinfo *mi, void *ctx)
{
	struct mountinfo_search *search = ctx;

	if (strcmp(mi->mountpoint, search->path) == 0) {
		search->found = strcmp(mi->type, "fuse.spillfs") == 0;
		search->major = mi->major;
		search->minor = mi->minor;
	}
	return 0;
}

bool mountinfo_find_spillfs(const char *path, unsigned *major, unsigned *minor)
{
	struct mountinfo_search search = { .path = path };

	mountinfo_each(mountinfo_match, &search);
	*major = search.major;
	*minor = search.minor;
	return search.found;
}

uint64_t mountinfo_mount_id(const char *path)
{
	/* A struct statx, 256 bytes: Debian 12's headers know neither this bit nor, some of them, the member. */
	static const uint32_t mnt_id_unique = 0x4000;
	uint64_t stx[32] = { 0 };
	uint32_t mask = 0;

	if (syscall(SYS_statx, AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, mnt_id_unique, stx) != 0)
		return 0;
	memcpy(&mask, stx, sizeof(mask));
	return (mask & mnt_id_unique) != 0 ? stx[0x90 / sizeof(stx[0])] : 0;
}
