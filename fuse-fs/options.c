/* SPDX-License-Identifier: MIT */
/*
 * options.c: turns the command line into a struct options, or into one line that says which option is wrong.
 * Owns nothing that outlives a call but what options_free() releases; needs no lock.  Called by main.c.
 */
#include "fuse-fs/options.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define OPTIONS_BLOCK_BYTES 4096

/* One parse: the result, where the error goes, and what must be known of other options in the end. */
struct options_parser {
	struct options *opt;
	char *why;
	size_t why_len;
	uint64_t machine_bytes;
	bool swap_named; /* swap= or swapsize= */
	bool inodes_given;
};

static int options_fail(struct options_parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int options_fail(struct options_parser *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->why, p->why_len, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static uint64_t options_machine_bytes(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* --- values ------------------------------------------------------------------------------------------------- */

/* A plain decimal number: no sign, no space, no other base. */
static int options_parse_digits(const char *text, uint64_t *value, const char **end)
{
	uint64_t n = 0;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	for (; *text >= '0' && *text <= '9'; text++) {
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return -ERANGE;
	}
	*value = n;
	*end = text;
	return 0;
}

/* How far a suffix shifts a number to the left; -1: it is none. */
static int options_suffix_shift(char c)
{
	switch (c) {
	case '\0':
		return 0;
	case 'k':
	case 'K':
		return 10;
	case 'm':
	case 'M':
		return 20;
	case 'g':
	case 'G':
		return 30;
	case 't':
	case 'T':
		return 40;
	default:
		return -1;
	}
}

int options_parse_bytes(const char *text, uint64_t total, uint64_t *bytes)
{
	const char *end = NULL;
	uint64_t n = 0;
	int shift = 0;
	int err = options_parse_digits(text, &n, &end);

	if (err != 0)
		return err;
	if (*end == '%' && end[1] == '\0' && total != 0) {
		unsigned __int128 part = (unsigned __int128)total * n / 100;

		if (part > INT64_MAX)
			return -ERANGE;
		*bytes = (uint64_t)part;
		return 0;
	}
	shift = options_suffix_shift(*end);
	if (shift < 0 || (*end != '\0' && end[1] != '\0'))
		return -EINVAL;
	if (n > (uint64_t)INT64_MAX >> shift)
		return -ERANGE;
	*bytes = n << shift;
	return 0;
}

/* The same with an error line that names the option. */
static int options_bytes(struct options_parser *p, const char *name, const char *value, uint64_t total, uint64_t *out)
{
	switch (options_parse_bytes(value, total, out)) {
	case 0:
		return 0;
	case -ERANGE:
		return options_fail(p, "'%s=%s': the number is too large", name, value);
	default:
		return options_fail(p, "'%s=%s' is not a number (with k, m, g or t%s after it)", name, value,
				    total != 0 ? ", or %" : "");
	}
}

static int options_mode(struct options_parser *p, const char *value)
{
	char *end = NULL;
	unsigned long mode = strtoul(value, &end, 8);

	if (*value < '0' || *value > '7' || *end != '\0' || mode > 07777)
		return options_fail(p, "'mode=%s' is not an octal mode (0 to 7777)", value);
	p->opt->mode = (mode_t)mode;
	return 0;
}

/* A number is a number even when somebody is called so. */
static bool options_id(const char *value, uint64_t *id)
{
	const char *end = NULL;

	return options_parse_digits(value, id, &end) == 0 && *end == '\0' && *id < UINT32_MAX;
}

static int options_uid(struct options_parser *p, const char *value)
{
	uint64_t id = 0;
	const struct passwd *pw = NULL;

	if (!options_id(value, &id)) {
		pw = getpwnam(value);
		if (pw == NULL)
			return options_fail(p, "'uid=%s' is neither a number nor a user here", value);
		id = pw->pw_uid;
	}
	p->opt->uid = (uid_t)id;
	return 0;
}

static int options_gid(struct options_parser *p, const char *value)
{
	uint64_t id = 0;
	const struct group *gr = NULL;

	if (!options_id(value, &id)) {
		gr = getgrnam(value);
		if (gr == NULL)
			return options_fail(p, "'gid=%s' is neither a number nor a group here", value);
		id = gr->gr_gid;
	}
	p->opt->gid = (gid_t)id;
	return 0;
}

static int options_cache(struct options_parser *p, const char *value)
{
	if (strcmp(value, "kernel") == 0)
		p->opt->cache = SPILLFS_CACHE_KERNEL;
	else if (strcmp(value, "none") == 0)
		p->opt->cache = SPILLFS_CACHE_NONE;
	else
		return options_fail(p, "'cache=%s': it can be kernel or none", value);
	return 0;
}

/* Replaces *where by a copy of value. */
static int options_set_string(struct options_parser *p, char **where, const char *value)
{
	char *copy = strdup(value);

	if (copy == NULL)
		return options_fail(p, "out of memory");
	free(*where);
	*where = copy;
	return 0;
}

static int options_swap(struct options_parser *p, const char *value)
{
	if (*value == '\0')
		return options_fail(p, "'swap=' names no directory, file or device");
	p->swap_named = true;
	return options_set_string(p, &p->opt->swap_path, value);
}

/* tmpfs takes size=0 and nr_blocks=0 for "no limit": then RAM and swap are the limit. */
static int options_size(struct options_parser *p, const char *value)
{
	return options_bytes(p, "size", value, p->machine_bytes, &p->opt->size_bytes);
}

static int options_nr_blocks(struct options_parser *p, const char *value)
{
	uint64_t blocks = 0;
	int err = options_bytes(p, "nr_blocks", value, 0, &blocks);

	if (err != 0)
		return err;
	if (blocks > INT64_MAX / OPTIONS_BLOCK_BYTES)
		return options_fail(p, "'nr_blocks=%s': the number is too large", value);
	p->opt->size_bytes = blocks * OPTIONS_BLOCK_BYTES;
	return 0;
}

static int options_nr_inodes(struct options_parser *p, const char *value)
{
	p->inodes_given = true;
	return options_bytes(p, "nr_inodes", value, 0, &p->opt->inodes_limit);
}

static int options_ram(struct options_parser *p, const char *value)
{
	int err = options_bytes(p, "ram", value, p->machine_bytes, &p->opt->ram_bytes);

	if (err == 0 && p->opt->ram_bytes == 0)
		return options_fail(p, "'ram=%s' leaves no memory at all", value);
	return err;
}

static int options_swapsize(struct options_parser *p, const char *value)
{
	int err = options_bytes(p, "swapsize", value, 0, &p->opt->swap_bytes);

	if (err == 0 && p->opt->swap_bytes == 0)
		return options_fail(p, "'swapsize=%s' leaves no swap: say noswap", value);
	p->swap_named = true;
	return err;
}

/* --- the list behind -o ------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int (*parse)(struct options_parser *p, const char *value);
} options_with_value[] = {
	{ "size", options_size },
	{ "ram", options_ram },
	{ "swap", options_swap },
	{ "swapsize", options_swapsize },
	{ "mode", options_mode },
	{ "uid", options_uid },
	{ "gid", options_gid },
	{ "cache", options_cache },
	{ "nr_inodes", options_nr_inodes },
	{ "nr_blocks", options_nr_blocks },
};

/* What libfuse, fusermount or the kernel want to see, with or without a value. */
static const char *const options_passed_on[] = {
	"ro",	       "rw",	     "nodev",	    "dev",	    "nosuid",	    "suid",
	"noexec",      "exec",	     "sync",	    "async",	    "dirsync",	    "nodiratime",
	"nosymfollow", "symfollow",  "allow_other", "allow_root",   "auto_unmount", "default_permissions",
	"context=",    "fscontext=", "defcontext=", "rootcontext=",
};

/* What mount(8) and fstab may carry and a helper has to put up with. */
static const char *const options_ignored[] = {
	"defaults",    "auto",		"noauto",   "nofail",	  "_netdev",  "user",	    "nouser",	  "users",
	"owner",       "group",		"nogroup",  "noowner",	  "atime",    "relatime",   "norelatime", "diratime",
	"strictatime", "nostrictatime", "lazytime", "nolazytime", "iversion", "noiversion", "mand",	  "nomand",
	"silent",      "loud",		"comment=", "user=",	  "x-",	      "X-",	    "helper=",	  "uhelper=",
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

/* Appends to the list for libfuse, which splits at commas again. */
static int options_pass_on(struct options_parser *p, const char *item)
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

static int options_item(struct options_parser *p, char *item)
{
	char *value = strchr(item, '=');
	const size_t name_len = value != NULL ? (size_t)(value - item) : strlen(item);

	for (size_t i = 0; i < sizeof(options_with_value) / sizeof(options_with_value[0]); i++) {
		if (strlen(options_with_value[i].name) != name_len ||
		    memcmp(options_with_value[i].name, item, name_len) != 0)
			continue;
		if (value == NULL)
			return options_fail(p, "option '%s' needs a value", item);
		return options_with_value[i].parse(p, value + 1);
	}
	if (strcmp(item, "noswap") == 0) {
		p->opt->noswap = true;
		return 0;
	}
	if (strcmp(item, "debug") == 0) {
		p->opt->debug = p->opt->foreground = true;
		return 0;
	}
	if (strcmp(item, "noatime") == 0) {
		p->opt->noatime = true;
		return options_pass_on(p, item);
	}
	if (options_in_list(options_passed_on, sizeof(options_passed_on) / sizeof(char *), item))
		return options_pass_on(p, item);
	if (options_in_list(options_ignored, sizeof(options_ignored) / sizeof(char *), item))
		return 0;
	return options_fail(p, "unknown option '%s'", item);
}

static void options_free_string(char **s)
{
	free(*s);
}

/* Splits at commas; a backslash takes the next character as it is, quotes (SELinux contexts) protect commas. */
static int options_list(struct options_parser *p, const char *text)
{
	char *item __attribute__((cleanup(options_free_string))) = NULL;
	int err = 0;

	item = malloc(strlen(text) + 1);
	if (item == NULL)
		return options_fail(p, "out of memory");
	while (err == 0 && *text != '\0') {
		size_t n = 0;
		bool quoted = false;

		for (; *text != '\0' && (quoted || *text != ','); text++) {
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

/* --- the command line --------------------------------------------------------------------------------------- */

static const char options_help_text[] =
	"usage: spillfs [-f] [-d] [-o OPT[,OPT...]] MOUNTPOINT\n"
	"       spillfs SOURCE MOUNTPOINT -o OPT[,OPT...]      (as mount(8) calls it)\n"
	"\n"
	"A RAM file system with a memory budget of its own and swap of its own.\n"
	"\n"
	"  -f              stay in the foreground\n"
	"  -d              stay in the foreground and show every request\n"
	"  -h, --help      this text\n"
	"  -V, --version   the version\n"
	"\n"
	"  -o size=N       most file data the mount may hold (default: ram + swapsize)\n"
	"  -o ram=N        cap on the memory for data and bookkeeping (default: 25% of what is available)\n"
	"  -o swap=PATH    directory, file or block device to swap to (default: $TMPDIR, else /var/tmp)\n"
	"  -o swapsize=N   most bytes of swap (default: half of what is free there)\n"
	"  -o noswap       never write data to disk\n"
	"  -o nr_inodes=N  most inodes, 0 for no limit (default: half the number of pages of RAM)\n"
	"  -o nr_blocks=N  as size=, in pages of 4 KiB\n"
	"  -o mode=OCTAL   permissions of the root directory (default: 1777)\n"
	"  -o uid=, gid=   owner of the root directory (default: the mounter)\n"
	"  -o cache=MODE   kernel: the kernel caches hot pages and buffers writes (default); none: direct I/O\n"
	"\n"
	"N takes k, m, g or t after it; size and ram also % of this machine's RAM.  The options of mount(8) work,\n"
	"too: ro, nodev, nosuid, noexec, noatime, allow_other, auto_unmount and others.\n";

const char *options_help(void)
{
	return options_help_text;
}

/* Absolute by text alone: asking the file system may hang when something dead is mounted there. */
static int options_mountpoint(struct options_parser *p, const char *path)
{
	char *cwd = NULL;
	int n = 0;

	if (*path == '\0')
		return options_fail(p, "the mount point's name is empty");
	if (*path == '/')
		return options_set_string(p, &p->opt->mountpoint, path);
	cwd = getcwd(NULL, 0);
	if (cwd == NULL)
		return options_fail(p, "mount point '%s': cannot tell the current directory", path);
	n = asprintf(&p->opt->mountpoint, "%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, path);
	free(cwd);
	if (n < 0) {
		p->opt->mountpoint = NULL;
		return options_fail(p, "out of memory");
	}
	return 0;
}

static int options_words(struct options_parser *p, int n, char **word)
{
	int err = 0;

	if (n == 0)
		return options_fail(p, "no mount point given");
	if (n > 2)
		return options_fail(p, "too many arguments: '%s'", word[2]);
	err = options_set_string(p, &p->opt->source, n == 2 ? word[0] : "spillfs");
	if (err != 0)
		return err;
	return options_mountpoint(p, word[n - 1]);
}

/*
 * Flags come first to last; -n -s -v -t -N are what mount(8) hands to a helper and mean nothing here.
 * getopt(3) moves the words behind the flags.
 */
static int options_flags(struct options_parser *p, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c = 0, err = 0;

	optind = 0; /* also resets getopt's own state */
	opterr = 0;
	while (err == 0 && (c = getopt_long(argc, argv, ":fdhVo:nsvrwt:N:", longs, NULL)) != -1) {
		switch (c) {
		case 'f':
			p->opt->foreground = true;
			break;
		case 'd':
			p->opt->foreground = p->opt->debug = true;
			break;
		case 'h':
			p->opt->help = true;
			break;
		case 'V':
			p->opt->version = true;
			break;
		case 'o':
			err = options_list(p, optarg);
			break;
		case 'r':
			err = options_pass_on(p, "ro");
			break;
		case ':':
			err = options_fail(p, "option '%s' needs a value", argv[optind - 1]);
			break;
		case '?':
			if (optopt != 0)
				err = options_fail(p, "unknown option '-%c'", optopt);
			else
				err = options_fail(p, "unknown option '%s'", argv[optind - 1]);
			break;
		default:
			break;
		}
	}
	return err;
}

/* What holds unless something else is said.  tmpfs is for everybody and has devices; so has root's spillfs. */
static int options_defaults(struct options_parser *p)
{
	int err = options_pass_on(p, "default_permissions");

	p->opt->mode = 01777;
	p->opt->uid = getuid();
	p->opt->gid = getgid();
	p->opt->cache = SPILLFS_CACHE_KERNEL;
	if (err == 0 && geteuid() == 0) {
		/* libfuse starts from nosuid,nodev and takes the last word. */
		err = options_pass_on(p, "suid");
		err = err != 0 ? err : options_pass_on(p, "dev");
		err = err != 0 ? err : options_pass_on(p, "allow_other");
	}
	return err;
}

/* $TMPDIR, else /var/tmp; not a directory in RAM, where swapping would only cost. */
static const char *options_default_swap(void)
{
	const char *tmpdir = getenv("TMPDIR");
	struct statfs sf;

	if (tmpdir == NULL || *tmpdir == '\0')
		return "/var/tmp";
	if (statfs(tmpdir, &sf) == 0 && (sf.f_type == TMPFS_MAGIC || sf.f_type == RAMFS_MAGIC))
		return "/var/tmp";
	return tmpdir;
}

static int options_finish(struct options_parser *p)
{
	struct options *opt = p->opt;

	if (opt->noswap && p->swap_named)
		return options_fail(p, "'noswap' contradicts 'swap=' and 'swapsize='");
	if (opt->ram_bytes == 0)
		opt->ram_bytes = options_memory_available() / 4;
	if (!p->inodes_given)
		opt->inodes_limit = p->machine_bytes / OPTIONS_BLOCK_BYTES / 2;
	if (opt->noswap || opt->swap_path != NULL)
		return 0;
	return options_set_string(p, &opt->swap_path, options_default_swap());
}

int options_parse(int argc, char **argv, struct options *opt, char *why, size_t why_len)
{
	struct options_parser p = {
		.opt = opt,
		.why = why,
		.why_len = why_len,
		.machine_bytes = options_machine_bytes(),
	};
	int err = 0;

	memset(opt, 0, sizeof(*opt));
	err = options_defaults(&p);
	if (err == 0)
		err = options_flags(&p, argc, argv);
	if (err != 0 || opt->help || opt->version)
		return err;
	err = options_words(&p, argc - optind, argv + optind);
	return err != 0 ? err : options_finish(&p);
}

void options_free(struct options *opt)
{
	free(opt->source);
	free(opt->mountpoint);
	free(opt->swap_path);
	free(opt->fuse_opts);
	memset(opt, 0, sizeof(*opt));
}
