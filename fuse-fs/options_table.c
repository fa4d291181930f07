/* SPDX-License-Identifier: MIT */
/*
 * options_table.c: what may stand behind -o: the options of spillfs, those of every file system, and those that only
 * mount(8) and fstab understand.  Owns nothing; needs no lock.  Called by options.c.
 */
#include "fuse-fs/options_impl.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

static const struct {
	const char *name;
	int (*parse)(struct options_parser *p, const char *value);
} options_with_value[] = {
	{ "size", options_size },
	{ "ram", options_ram },
	{ "swap", options_swap },
	{ "swapsize", options_swapsize },
	{ "reserve", options_reserve },
	{ "mode", options_mode },
	{ "uid", options_uid },
	{ "gid", options_gid },
	{ "cache", options_cache },
	{ "nr_inodes", options_nr_inodes },
	{ "nr_blocks", options_nr_blocks },
	{ "huge", options_huge },
	{ "mpol", options_mpol },
	{ "usrquota_block_hardlimit", options_usr_blocks },
	{ "usrquota_inode_hardlimit", options_usr_inodes },
	{ "grpquota_block_hardlimit", options_grp_blocks },
	{ "grpquota_inode_hardlimit", options_grp_inodes },
};

/* --- words of spillfs's own --------------------------------------------------------------------------------- */

static void options_noswap(struct options *opt)
{
	opt->noswap = true;
	opt->given |= OPTIONS_NOSWAP;
}

static void options_debug(struct options *opt)
{
	opt->debug = opt->foreground = true;
}

static void options_remount(struct options *opt)
{
	opt->remount = true;
}

static void options_inode64(struct options *opt)
{
	opt->inode32 = false;
	opt->given |= OPTIONS_INODE_BITS;
}

static void options_inode32(struct options *opt)
{
	opt->inode32 = true;
	opt->given |= OPTIONS_INODE_BITS;
}

static void options_acl(struct options *opt)
{
	opt->noacl = false;
	opt->given |= OPTIONS_ACL;
}

static void options_noacl(struct options *opt)
{
	opt->noacl = true;
	opt->given |= OPTIONS_ACL;
}

static void options_usrquota(struct options *opt)
{
	opt->usrquota = true;
	opt->given |= OPTIONS_USRQUOTA;
}

static void options_grpquota(struct options *opt)
{
	opt->grpquota = true;
	opt->given |= OPTIONS_GRPQUOTA;
}

static void options_quota(struct options *opt)
{
	options_usrquota(opt);
	options_grpquota(opt);
}

static const struct {
	const char *name;
	void (*take)(struct options *opt);
} options_words[] = {
	{ "noswap", options_noswap },
	{ "debug", options_debug },
	{ "remount", options_remount },
	{ "acl", options_acl },
	{ "noacl", options_noacl },
	{ "inode64", options_inode64 },
	{ "inode32", options_inode32 },
	{ "quota", options_quota },
	{ "usrquota", options_usrquota },
	{ "grpquota", options_grpquota },
};

/* --- the options of every file system ----------------------------------------------------------------------- */

/* The flags of mount(2) behind a word; what libfuse hears: it knows most words, but not all that deny another. */
static const struct {
	const char *name;
	unsigned long set, clear;
	enum { OPTIONS_KEEP, OPTIONS_PASS, OPTIONS_DENY } libfuse;
} options_flags_of[] = {
	{ "ro", MS_RDONLY, 0, OPTIONS_PASS },
	{ "rw", 0, MS_RDONLY, OPTIONS_PASS },
	{ "nosuid", MS_NOSUID, 0, OPTIONS_PASS },
	{ "suid", 0, MS_NOSUID, OPTIONS_PASS },
	{ "nodev", MS_NODEV, 0, OPTIONS_PASS },
	{ "dev", 0, MS_NODEV, OPTIONS_PASS },
	{ "noexec", MS_NOEXEC, 0, OPTIONS_PASS },
	{ "exec", 0, MS_NOEXEC, OPTIONS_PASS },
	{ "sync", MS_SYNCHRONOUS, 0, OPTIONS_PASS },
	{ "async", 0, MS_SYNCHRONOUS, OPTIONS_PASS },
	{ "dirsync", MS_DIRSYNC, 0, OPTIONS_PASS },
	{ "nosymfollow", MS_NOSYMFOLLOW, 0, OPTIONS_PASS },
	{ "symfollow", 0, MS_NOSYMFOLLOW, OPTIONS_PASS },
	{ "noatime", MS_NOATIME, 0, OPTIONS_PASS },
	{ "atime", 0, MS_NOATIME, OPTIONS_DENY },
	{ "nodiratime", MS_NODIRATIME, 0, OPTIONS_PASS },
	{ "diratime", 0, MS_NODIRATIME, OPTIONS_DENY },
	{ "relatime", MS_RELATIME, 0, OPTIONS_KEEP },
	{ "norelatime", 0, MS_RELATIME, OPTIONS_KEEP },
	{ "strictatime", MS_STRICTATIME, 0, OPTIONS_KEEP },
	{ "nostrictatime", 0, MS_STRICTATIME, OPTIONS_KEEP },
	{ "lazytime", MS_LAZYTIME, 0, OPTIONS_KEEP },
	{ "nolazytime", 0, MS_LAZYTIME, OPTIONS_KEEP },
};

/* What libfuse, fusermount or the kernel want to see besides. */
static const char *const options_passed_on[] = {
	"allow_other", "allow_root",  "auto_unmount", "default_permissions",
	"context=",    "fscontext=",  "defcontext=",  "rootcontext=",
};

/* What mount(8) and fstab may carry and a helper has to put up with. */
static const char *const options_ignored[] = {
	"defaults", "auto",	"noauto", "nofail", "_netdev", "user",	 "nouser",   "users", "owner",	 "group",
	"nogroup",  "noowner",	"mand",	  "nomand", "silent",  "loud",	 "iversion", "noiversion", "comment=", "user=",
	"x-",	    "X-",	"helper=", "uhelper=",
};

/* What the kernel lists of a FUSE mount, and mount(8) hands back with what shall be changed. */
static const char *const options_told_back[] = {
	"fd=", "rootmode=", "user_id=", "group_id=", "max_read=", "blksize=", "fsname=", "subtype=", "seclabel",
};

/* An entry that ends in = or - stands for all that begins with it. */
static bool options_in_list(const char *const *list, size_t n, const char *item)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(list[i]);
		bool prefix = list[i][len - 1] == '=' || list[i][len - 1] == '-';

		if (prefix ? strncmp(item, list[i], len) == 0 : strcmp(item, list[i]) == 0)
			return true;
	}
	return false;
}

int options_pass_on(struct options_parser *p, const char *item)
{
	char *old = p->opt->fuse_opts;
	size_t len = old != NULL ? strlen(old) : 0;
	char *list = realloc(old, len + 2 * strlen(item) + 2);

	if (list == NULL)
		return options_fail(p, "out of memory");
	p->opt->fuse_opts = list;
	if (len > 0)
		list[len++] = ',';
	for (; *item != '\0'; item++) {
		if (*item == ',' || *item == '\\')
			list[len++] = '\\';
		list[len++] = *item;
	}
	list[len] = '\0';
	return 0;
}

/* "atime": what was passed on as ",noatime" was not meant.  default_permissions leads the list, so it has a comma. */
static void options_take_back(struct options *opt, const char *item)
{
	const size_t len = strlen(",no") + strlen(item);

	for (char *at = opt->fuse_opts; (at = strstr(at, ",no")) != NULL;) {
		if (strncmp(at + strlen(",no"), item, strlen(item)) == 0 && (at[len] == ',' || at[len] == '\0'))
			memmove(at, at + len, strlen(at + len) + 1);
		else
			at++;
	}
}

/* --- one item ----------------------------------------------------------------------------------------------- */

/* A word without a value.  Some are ours and the kernel's as well. */
static int options_word(struct options_parser *p, const char *item, bool *known)
{
	struct options *opt = p->opt;
	int err = 0;

	for (size_t i = 0; i < sizeof(options_words) / sizeof(options_words[0]); i++) {
		if (strcmp(options_words[i].name, item) == 0) {
			options_words[i].take(opt);
			*known = true;
		}
	}
	for (size_t i = 0; i < sizeof(options_flags_of) / sizeof(options_flags_of[0]); i++) {
		if (strcmp(options_flags_of[i].name, item) != 0)
			continue;
		opt->ms_clear = (opt->ms_clear | options_flags_of[i].clear) & ~options_flags_of[i].set;
		opt->ms_set = (opt->ms_set & ~options_flags_of[i].clear) | options_flags_of[i].set;
		*known = true;
		if (options_flags_of[i].libfuse == OPTIONS_PASS)
			err = options_pass_on(p, item);
		else if (options_flags_of[i].libfuse == OPTIONS_DENY)
			options_take_back(opt, item);
	}
	return err;
}

static int options_item(struct options_parser *p, char *item)
{
	char *value = strchr(item, '=');
	const size_t name_len = value != NULL ? (size_t)(value - item) : strlen(item);
	bool known = false;
	int err = 0;

	for (size_t i = 0; i < sizeof(options_with_value) / sizeof(options_with_value[0]); i++) {
		if (strlen(options_with_value[i].name) != name_len ||
		    memcmp(options_with_value[i].name, item, name_len) != 0)
			continue;
		if (value == NULL)
			return options_fail(p, "option '%s' needs a value", item);
		return options_with_value[i].parse(p, value + 1);
	}
	err = options_word(p, item, &known);
	if (known)
		return err;
	if (options_in_list(options_passed_on, sizeof(options_passed_on) / sizeof(char *), item))
		return options_pass_on(p, item);
	if (options_in_list(options_ignored, sizeof(options_ignored) / sizeof(char *), item))
		return 0;
	if (options_in_list(options_told_back, sizeof(options_told_back) / sizeof(char *), item))
		return p->remount_only != NULL ? 0 : options_set_string(p, &p->remount_only, item);
	return options_fail(p, "unknown option '%s'", item);
}

static void options_free_string(char **s)
{
	free(*s);
}

/* Does the item end at this comma?  A list of nodes has commas of its own, and a number goes on after them. */
static bool options_ends(const char *item, const char *text, bool quoted)
{
	if (*text == '\0')
		return true;
	if (quoted || *text != ',')
		return false;
	return strncmp(item, "mpol=", strlen("mpol=")) != 0 || !isdigit((unsigned char)text[1]);
}

int options_list(struct options_parser *p, const char *text)
{
	char *item __attribute__((cleanup(options_free_string))) = NULL;
	int err = 0;

	item = malloc(strlen(text) + 1);
	if (item == NULL)
		return options_fail(p, "out of memory");
	while (err == 0 && *text != '\0') {
		const char *begin = text;
		size_t n = 0;
		bool quoted = false;

		/* A backslash takes the next character as it is, quotes (SELinux contexts) protect commas. */
		for (; !options_ends(begin, text, quoted); text++) {
			if (*text == '\\' && text[1] != '\0')
				text++;
			else if (*text == '"')
				quoted = !quoted;
			item[n++] = *text;
		}
		item[n] = '\0';
		if (*text == ',')
			text++;
		if (n > 0)
			err = options_item(p, item);
	}
	return err;
}
