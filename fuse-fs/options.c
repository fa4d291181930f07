/* SPDX-License-Identifier: MIT */
/*
 * options.c: turns the command line into a struct options, or into one line that says which option is wrong.
 * Owns nothing that outlives a call but what options_free() releases; needs no lock.  Called by main.c.
 */
#include "fuse-fs/options_impl.h"

#include <errno.h>
#include <getopt.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

int options_fail(struct options_parser *p, const char *fmt, ...)
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
	"  -o reserve=N    RAM, then swap, that is set aside at once and kept\n"
	"  -o nr_inodes=N  most inodes, 0 for no limit (default: half the number of pages of RAM)\n"
	"  -o nr_blocks=N  as size=, in pages of 4 KiB\n"
	"  -o mode=OCTAL   permissions of the root directory (default: 1777)\n"
	"  -o uid=, gid=   owner of the root directory (default: the mounter)\n"
	"  -o quota        count for users and groups; or usrquota, grpquota; with limits:\n"
	"                  usrquota_block_hardlimit=N, usrquota_inode_hardlimit=N, the same with grp\n"
	"  -o inode32      inode numbers below 2^32; inode64: larger ones, too (default)\n"
	"  -o huge=WHEN, mpol=POLICY   huge pages and NUMA nodes, as in tmpfs(5) (default: always, none)\n"
	"  -o remount,...  change a mount that is there: size=, ram=, swapsize=, nr_inodes=, ro, noatime and others\n"
	"  -o cache=MODE   kernel: the kernel caches hot pages and buffers writes (default); none: direct I/O\n"
	"  -o noacl        no POSIX ACLs (default: acl)\n"
	"\n"
	"N takes k, m, g or t after it; size, ram and reserve also % of this machine's RAM.  The options of mount(8) work,\n"
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

static int options_operands(struct options_parser *p, int n, char **word)
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
			err = options_list(p, "ro");
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
	p->opt->huge = SPILLFS_HUGE_ALWAYS; /* chunks of 2 MiB cost nothing, and huge pages save much of the TLB */
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

/* As the kernel reads them: strictatime counts for more than noatime, and that for more than relatime. */
enum spillfs_atime options_atime_of(unsigned long ms_flags)
{
	if ((ms_flags & MS_STRICTATIME) != 0)
		return SPILLFS_ATIME_STRICT;
	return (ms_flags & MS_NOATIME) != 0 ? SPILLFS_ATIME_NEVER : SPILLFS_ATIME_RELATIVE;
}

static int options_finish(struct options_parser *p)
{
	struct options *opt = p->opt;
	int err = 0;

	if (p->remount_only != NULL && !opt->remount)
		return options_fail(p, "option '%s' is for remount alone", p->remount_only);
	if (opt->noswap && (opt->given & (OPTIONS_SWAP | OPTIONS_SWAPSIZE)) != 0)
		return options_fail(p, "'noswap' contradicts 'swap=' and 'swapsize='");
	opt->atime = options_atime_of(opt->ms_set);
	opt->nodiratime = (opt->ms_set & MS_NODIRATIME) != 0;
	if (opt->remount) /* what was not said stays as it is */
		return 0;
	if (opt->ram_bytes == 0)
		opt->ram_bytes = options_memory_available(NULL) / 4;
	if ((opt->given & OPTIONS_INODES) == 0)
		opt->inodes_limit = p->machine_bytes / OPTIONS_BLOCK_BYTES / 2;
	if (opt->noswap && opt->reserve_bytes > opt->ram_bytes)
		return options_fail(p, "'reserve=' is more than 'ram=', and with noswap that is all there is");
	if (!opt->noswap && opt->swap_path == NULL)
		err = options_set_string(p, &opt->swap_path, options_default_swap());
	return err;
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
	if (err != 0 || opt->help || opt->version) {
		free(p.remount_only);
		return err;
	}
	err = options_operands(&p, argc - optind, argv + optind);
	err = err != 0 ? err : options_finish(&p);
	free(p.remount_only);
	return err;
}

void options_free(struct options *opt)
{
	free(opt->source);
	free(opt->mountpoint);
	free(opt->swap_path);
	free(opt->fuse_opts);
	memset(opt, 0, sizeof(*opt));
}
