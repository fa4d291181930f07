/* SPDX-License-Identifier: MIT */
/*
 * spillctl_quota: the verb quota: a table of what users and groups have in a mount and may have, as repquota(8) has
 * for other file systems, and the limits of one id.  quotactl(2) does not reach a FUSE mount, so this goes through the
 * mount like all else (fuse-fs/ctl.h).  One thread, no locks, no state that outlives a command.
 */
#include "tools/spillctl.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <inttypes.h>
#include <jansson.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { QUOTA_USERS, QUOTA_GROUPS, QUOTA_KINDS };

/* What the command line says. */
struct quota_args {
	bool kind[QUOTA_KINDS]; /* which were asked about */
	bool has_id, json;
	struct spillfs_quota quota; /* kind and id of the one that was named; with set, its limits */
};

static void quota_name(unsigned kind, uint32_t id, char *buf, size_t len)
{
	const struct passwd *pw = kind == QUOTA_USERS ? getpwuid(id) : NULL;
	const struct group *gr = kind == QUOTA_GROUPS ? getgrgid(id) : NULL;

	if (pw != NULL || gr != NULL)
		snprintf(buf, len, "%s", pw != NULL ? pw->pw_name : gr->gr_name);
	else
		snprintf(buf, len, "#%" PRIu32, id);
}

static void quota_print_row(const struct spillfs_quota *q)
{
	char name[64], used[32], limit[32] = "none", inodes[32] = "none";

	quota_name(q->kind, q->id, name, sizeof(name));
	if (q->block_limit_bytes != 0)
		spillctl_human_bytes(q->block_limit_bytes, limit, sizeof(limit));
	if (q->inodes_limit != 0)
		snprintf(inodes, sizeof(inodes), "%" PRIu64, q->inodes_limit);
	printf("%-16s %c%c %12s %12s %12" PRIu64 " %12s\n", name,
	       q->block_limit_bytes != 0 && q->block_used_bytes >= q->block_limit_bytes ? '+' : '-',
	       q->inodes_limit != 0 && q->inodes_used >= q->inodes_limit ? '+' : '-',
	       spillctl_human_bytes(q->block_used_bytes, used, sizeof(used)), limit, q->inodes_used, inodes);
}

static json_t *quota_to_json(const struct spillfs_quota *q)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "id", (json_int_t)q->id, "block_used_bytes",
			 (json_int_t)q->block_used_bytes, "block_limit_bytes", (json_int_t)q->block_limit_bytes,
			 "inodes_used", (json_int_t)q->inodes_used, "inodes_limit", (json_int_t)q->inodes_limit);
}

/* All records of a kind, or the one that was named, to rows or to the array.  0, -ESRCH: that quota is off, or -errno. */
static int quota_list(int fd, unsigned kind, const struct quota_args *args, json_t *array)
{
	struct spillfs_quota q = { .kind = kind, .id = args->has_id ? args->quota.id : 0 };
	bool first = true;

	for (;; q.id++) {
		q.version = SPILLFS_CTL_VERSION;
		if (ioctl(fd, SPILLFS_IOC_QUOTA_NEXT, &q) != 0)
			return errno == ENOENT ? 0 : -errno;
		if (args->has_id && q.id != args->quota.id)
			return 0;
		if (array != NULL && json_array_append_new(array, quota_to_json(&q)) != 0)
			return -ENOMEM;
		if (array == NULL && first)
			printf("%-16s    %12s %12s %12s %12s\n", kind == QUOTA_USERS ? "user" : "group", "used", "limit",
			       "inodes", "limit");
		if (array == NULL)
			quota_print_row(&q);
		if (args->has_id || q.id == UINT32_MAX)
			return 0;
		first = false;
	}
}

static int quota_list_json(int fd, const struct quota_args *args)
{
	static const char *const names[QUOTA_KINDS] = { "users", "groups" };
	json_t *root = json_object();
	bool any = false;
	int err = 0;

	for (unsigned k = 0; k < QUOTA_KINDS && err == 0; k++) {
		json_t *array = args->kind[k] ? json_array() : NULL;

		if (array == NULL)
			continue;
		err = quota_list(fd, k, args, array);
		any |= err == 0;
		if (err == 0 && json_object_set(root, names[k], array) != 0)
			err = -ENOMEM;
		err = err == -ESRCH ? 0 : err;
		json_decref(array);
	}
	if (err == 0 && !any)
		err = -ESRCH;
	if (err == 0) {
		(void)!json_dumpf(root, stdout, JSON_INDENT(2)); /* what stdout did not take, spillctl_flush() says */
		putchar('\n');
	}
	json_decref(root);
	return err;
}

static int quota_list_human(int fd, const struct quota_args *args)
{
	bool any = false;

	for (unsigned k = 0; k < QUOTA_KINDS; k++) {
		int err = args->kind[k] ? quota_list(fd, k, args, NULL) : -ESRCH;

		if (err != 0 && err != -ESRCH)
			return err;
		any |= err == 0;
	}
	return any ? 0 : -ESRCH;
}

/* --- the command line ------------------------------------------------------------------------------------------------- */

/* A number, with a suffix (powers of 1024) where one may be; all of text.  0 or -EINVAL. */
static int quota_parse_number(const char *text, uint64_t *value)
{
	static const char suffixes[] = "kmgt";
	char *end = NULL;
	const char *suffix = NULL;

	errno = 0;
	*value = strtoull(text, &end, 10);
	if (end == text || errno != 0 || text[0] == '-')
		return -EINVAL;
	suffix = *end != '\0' ? strchr(suffixes, *end | 0x20) : NULL;
	if (suffix != NULL) {
		unsigned shift = 10 * (unsigned)(suffix - suffixes + 1);

		if (*value > UINT64_MAX >> shift)
			return -EINVAL;
		*value <<= shift;
		end++;
	}
	return *end == '\0' ? 0 : -EINVAL;
}

/* "block=10m,inode=1k" */
static int quota_parse_set(char *text, struct spillfs_quota *q)
{
	static char block[] = "block", inode[] = "inode";
	char *const tokens[] = { block, inode, NULL };
	char *value = NULL;

	while (*text != '\0') {
		int which = getsubopt(&text, tokens, &value);

		if (which < 0 || value == NULL ||
		    quota_parse_number(value, which == 0 ? &q->block_limit_bytes : &q->inodes_limit) != 0)
			return -EINVAL;
		q->set |= which == 0 ? SPILLFS_QUOTA_BLOCK : SPILLFS_QUOTA_INODE;
	}
	return q->set != 0 ? 0 : -EINVAL;
}

/* A name, or a number. */
static int quota_parse_id(const char *text, unsigned kind, uint32_t *id)
{
	const struct passwd *pw = kind == QUOTA_USERS ? getpwnam(text) : NULL;
	const struct group *gr = kind == QUOTA_GROUPS ? getgrnam(text) : NULL;
	char *end = NULL;
	unsigned long long number = 0;

	if (pw != NULL || gr != NULL) {
		*id = pw != NULL ? pw->pw_uid : gr->gr_gid;
		return 0;
	}
	number = strtoull(text, &end, 10);
	if (end == text || *end != '\0' || number >= UINT32_MAX || text[0] == '-')
		return -EINVAL;
	*id = (uint32_t)number;
	return 0;
}

static enum exit_code quota_take(struct quota_args *args, int opt, char *text, char *const *argv)
{
	const unsigned kind = opt == 'g' ? QUOTA_GROUPS : QUOTA_USERS;

	switch (opt) {
	case 'u':
	case 'g':
		if (args->has_id)
			return spillctl_bad_usage("quota: one user or group at a time", NULL);
		if (quota_parse_id(text, kind, &args->quota.id) != 0)
			return spillctl_bad_usage(kind == QUOTA_USERS ? "quota: no such user" : "quota: no such group", text);
		args->quota.kind = kind;
		args->has_id = args->kind[kind] = true;
		return EXIT_OK;
	case 's':
		if (quota_parse_set(text, &args->quota) != 0)
			return spillctl_bad_usage("quota: --set takes block=BYTES,inode=NUMBER", NULL);
		return EXIT_OK;
	case 'j':
		args->json = true;
		return EXIT_OK;
	default:
		return spillctl_bad_option(argv);
	}
}

static int quota_do(const char *path, struct quota_args *args)
{
	int fd = spillctl_open(path), err = 0;

	if (fd < 0)
		return fd;
	args->quota.version = SPILLFS_CTL_VERSION;
	if (args->quota.set != 0)
		err = ioctl(fd, SPILLFS_IOC_QUOTA_SET, &args->quota) != 0 ? -errno : 0;
	else
		err = args->json ? quota_list_json(fd, args) : quota_list_human(fd, args);
	close(fd);
	return err;
}

enum exit_code spillctl_quota(int argc, char **argv)
{
	static const struct option options[] = {
		{ "user", required_argument, NULL, 'u' },
		{ "group", required_argument, NULL, 'g' },
		{ "set", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct quota_args args = { 0 };
	int opt = 0, err = 0;

	while ((opt = getopt_long(argc, argv, "u:g:s:jh", options, NULL)) != -1) {
		enum exit_code code = opt == 'h' ? spillctl_help() : quota_take(&args, opt, optarg, argv);

		if (opt == 'h' || code != EXIT_OK)
			return code;
	}
	if (optind + 1 != argc)
		return spillctl_bad_usage(optind == argc ? "quota: no mountpoint given" : "quota: more than one mountpoint",
					  optind == argc ? NULL : argv[optind + 1]);
	if (args.quota.set != 0 && !args.has_id)
		return spillctl_bad_usage("quota: --set needs -u or -g", NULL);
	if (!args.has_id)
		args.kind[QUOTA_USERS] = args.kind[QUOTA_GROUPS] = true;
	err = quota_do(argv[optind], &args);
	if (err == -ESRCH)
		fprintf(stderr, "spillctl: %s: mounted without %s\n", argv[optind],
			!args.has_id ? "quotas (-o quota)" : args.quota.kind == QUOTA_USERS ? "usrquota" : "grpquota");
	else if (err == -EPERM)
		fprintf(stderr, "spillctl: %s: only who mounted it and root may set limits\n", argv[optind]);
	else if (err != 0)
		spillctl_complain(argv[optind], err);
	return err != 0 ? EXIT_FAILED : spillctl_flush();
}
