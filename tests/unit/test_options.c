/* SPDX-License-Identifier: MIT */
/*
 * test_options: what the command line means, that a wrong option names itself, and what is read from files
 * that describe mounts and cgroups.  Needs options*.c, memavail.c and mountinfo.c, and no mount.
 */
#include "fuse-fs/mountinfo.h"
#include "fuse-fs/options.h"
#include "tests/unit/run.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB	 (UINT64_C(1) << 20)
#define ARGS_MAX 16

static struct options opt;
static char why[256];

/* Splits line at blanks and parses it; getopt may move the words, so they are a copy. */
static int parse(const char *line)
{
	static char copy[1024];
	char *argv[ARGS_MAX + 1] = { NULL };
	int argc = 0;

	options_free(&opt);
	why[0] = '\0';
	ck_assert_uint_lt(strlen(line), sizeof(copy));
	strcpy(copy, line);
	for (char *w = strtok(copy, " "); w != NULL; w = strtok(NULL, " ")) {
		ck_assert_int_lt(argc, ARGS_MAX);
		argv[argc++] = w;
	}
	return options_parse(argc, argv, &opt, why, sizeof(why));
}

static void accept_line(const char *line)
{
	int err = parse(line);

	ck_assert_msg(err == 0, "'%s' refused: %s", line, why);
}

/* Refused with one line that has word in it. */
static void refuse_line(const char *line, const char *word)
{
	int err = parse(line);

	ck_assert_msg(err == -EINVAL, "'%s' gave %d", line, err);
	ck_assert_msg(strstr(why, word) != NULL, "'%s': '%s' does not name '%s'", line, why, word);
	ck_assert_ptr_null(strchr(why, '\n'));
}

static void setup(void)
{
	unsetenv("TMPDIR");
}

static void teardown(void)
{
	options_free(&opt);
}

/* --- sizes ------------------------------------------------------------------------------------------------------ */

START_TEST(sizes_take_the_suffixes_of_tmpfs)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 },
		{ "4096", 4096 },
		{ "1k", 1024 },
		{ "1K", 1024 },
		{ "64m", 64 * MIB },
		{ "2G", 2048 * MIB },
		{ "3t", UINT64_C(3) << 40 },
		{ "50%", 500 * MIB },
		{ "200%", 2000 * MIB },
		{ "9223372036854775807", INT64_MAX },
		{ "8388607T", UINT64_C(8388607) << 40 },
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint64_t bytes = 1;

		ck_assert_msg(options_parse_bytes(good[i].text, 1000 * MIB, &bytes) == 0, "%s", good[i].text);
		ck_assert_msg(bytes == good[i].bytes, "%s is %llu", good[i].text, (unsigned long long)bytes);
	}
}
END_TEST

START_TEST(sizes_that_are_none_are_refused)
{
	static const char *const bad[] = { "",	  "m",	  "abc",  "-1",	 "+1", " 1", "1 ",
					   "1mb", "1.5g", "0x10", "1%%", "%",  "1e3" };
	uint64_t bytes = 77;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(options_parse_bytes(bad[i], MIB, &bytes) == -EINVAL, "'%s'", bad[i]);
	ck_assert_int_eq(options_parse_bytes("10%", 0, &bytes), -EINVAL);
	ck_assert_uint_eq(bytes, 77);
}
END_TEST

START_TEST(sizes_beyond_63_bits_are_refused)
{
	static const char *const bad[] = { "9223372036854775808", "99999999999999999999999", "8388608t",
					   "18446744073709551615k" };
	uint64_t bytes = 0;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(options_parse_bytes(bad[i], 0, &bytes) == -ERANGE, "'%s'", bad[i]);
	ck_assert_int_eq(options_parse_bytes("9223372036854775807%", UINT64_MAX, &bytes), -ERANGE);
}
END_TEST

/* --- the command line ------------------------------------------------------------------------------------------- */

START_TEST(defaults_are_those_of_tmpfs)
{
	const uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	accept_line("spillfs /mnt/x");
	ck_assert_str_eq(opt.source, "spillfs");
	ck_assert_str_eq(opt.mountpoint, "/mnt/x");
	ck_assert_uint_eq(opt.mode, 01777);
	ck_assert_uint_eq(opt.uid, getuid());
	ck_assert_uint_eq(opt.gid, getgid());
	ck_assert_uint_eq(opt.size_bytes, 0);
	ck_assert_uint_eq(opt.swap_bytes, 0);
	ck_assert_uint_eq(opt.inodes_limit, machine / 4096 / 2);
	ck_assert_int_eq(opt.cache, SPILLFS_CACHE_KERNEL);
	ck_assert_str_eq(opt.swap_path, "/var/tmp");
	ck_assert(!opt.foreground && !opt.debug && !opt.noswap && opt.atime == SPILLFS_ATIME_RELATIVE);
	ck_assert_uint_gt(opt.ram_bytes, 0);
	ck_assert_uint_le(opt.ram_bytes, machine / 4);
	ck_assert_ptr_nonnull(strstr(opt.fuse_opts, "default_permissions"));
	ck_assert_int_eq(strstr(opt.fuse_opts, "allow_other") != NULL, geteuid() == 0);
}
END_TEST

START_TEST(swap_goes_to_tmpdir_unless_told)
{
	setenv("TMPDIR", "/some/where", 1);
	accept_line("spillfs /mnt");
	ck_assert_str_eq(opt.swap_path, "/some/where");
	accept_line("spillfs -o swap=/dev/sdz /mnt");
	ck_assert_str_eq(opt.swap_path, "/dev/sdz");
	accept_line("spillfs -o noswap /mnt");
	ck_assert_ptr_null(opt.swap_path);
	ck_assert(opt.noswap && !opt.noacl);
	accept_line("spillfs -o acl,noacl /mnt");
	ck_assert(opt.noacl && (opt.given & OPTIONS_ACL));
	accept_line("spillfs -o noacl,acl /mnt");
	ck_assert(!opt.noacl);
	setenv("TMPDIR", "", 1);
	accept_line("spillfs /mnt");
	ck_assert_str_eq(opt.swap_path, "/var/tmp");
}
END_TEST

START_TEST(every_option_is_taken)
{
	accept_line(
		"spillfs -o size=1g,ram=64m,swap=/s,swapsize=2g,nr_inodes=10k -o mode=750,uid=7,gid=8,cache=none /m");
	ck_assert_uint_eq(opt.size_bytes, 1024 * MIB);
	ck_assert_uint_eq(opt.ram_bytes, 64 * MIB);
	ck_assert_str_eq(opt.swap_path, "/s");
	ck_assert_uint_eq(opt.swap_bytes, 2048 * MIB);
	ck_assert_uint_eq(opt.inodes_limit, 10240);
	ck_assert_uint_eq(opt.mode, 0750);
	ck_assert_uint_eq(opt.uid, 7);
	ck_assert_uint_eq(opt.gid, 8);
	ck_assert_int_eq(opt.cache, SPILLFS_CACHE_NONE);
	accept_line("spillfs -o nr_blocks=2k /m");
	ck_assert_uint_eq(opt.size_bytes, 2048 * 4096);
	accept_line("spillfs -o size=0,nr_inodes=0,uid=root,gid=root /m");
	ck_assert_uint_eq(opt.size_bytes, 0);
	ck_assert_uint_eq(opt.inodes_limit, 0);
	ck_assert_uint_eq(opt.uid, 0);
	ck_assert_uint_eq(opt.gid, 0);
}
END_TEST

START_TEST(what_tmpfs_takes_is_taken)
{
	accept_line("spillfs -o reserve=2g,inode32,quota,grpquota_inode_hardlimit=5k,huge=never /m");
	ck_assert_uint_eq(opt.reserve_bytes, 2048 * MIB);
	ck_assert(opt.inode32 && opt.usrquota && opt.grpquota);
	ck_assert_uint_eq(opt.usr_hardlimit.block_bytes, 0);
	ck_assert_uint_eq(opt.usr_hardlimit.inodes, 0);
	ck_assert_uint_eq(opt.grp_hardlimit.inodes, 5120);
	ck_assert_int_eq(opt.huge, SPILLFS_HUGE_NEVER);
	accept_line("spillfs -o inode32,inode64,usrquota_block_hardlimit=3m,usrquota_inode_hardlimit=9 /m "
		    "-o grpquota_block_hardlimit=1g");
	ck_assert(!opt.inode32 && opt.usrquota && opt.grpquota);
	ck_assert_uint_eq(opt.usr_hardlimit.block_bytes, 3 * MIB);
	ck_assert_uint_eq(opt.usr_hardlimit.inodes, 9);
	ck_assert_uint_eq(opt.grp_hardlimit.block_bytes, 1024 * MIB);
	ck_assert_int_eq(opt.huge, SPILLFS_HUGE_ALWAYS);
	accept_line("spillfs -o quota /m"); /* both, as on tmpfs */
	ck_assert(opt.usrquota && opt.grpquota);
	accept_line("spillfs -o usrquota /m");
	ck_assert(opt.usrquota && !opt.grpquota);
	accept_line("spillfs -o huge=within_size,huge=advise /m");
	ck_assert_int_eq(opt.huge, SPILLFS_HUGE_ADVISE);
	accept_line("spillfs /m");
	ck_assert(!opt.inode32 && !opt.usrquota && !opt.grpquota);
	ck_assert_uint_eq(opt.reserve_bytes, 0);
}
END_TEST

START_TEST(memory_policies_are_read_as_tmpfs_reads_them)
{
	accept_line("spillfs -o mpol=bind=static:0-2,64,7-7,size=7m /m");
	ck_assert_int_eq(opt.mpol.mode, MPOL_IS_BIND);
	ck_assert(opt.mpol.is_static && !opt.mpol.is_relative);
	ck_assert_uint_eq(opt.mpol.nodes[0], 0x87);
	ck_assert_uint_eq(opt.mpol.nodes[1], 1);
	ck_assert_uint_eq(opt.size_bytes, 7 * MIB);
	accept_line("spillfs -o mpol=interleave /m");
	ck_assert(opt.mpol.mode == MPOL_IS_INTERLEAVE && opt.mpol.all_nodes);
	accept_line("spillfs -o mpol=interleave=relative:1 /m");
	ck_assert(opt.mpol.mode == MPOL_IS_INTERLEAVE && !opt.mpol.all_nodes && opt.mpol.is_relative);
	accept_line("spillfs -o mpol=prefer:3 /m");
	ck_assert_int_eq(opt.mpol.mode, MPOL_IS_PREFER);
	ck_assert_uint_eq(opt.mpol.nodes[0], 8);
	accept_line("spillfs -o mpol=bind:0,mpol=default /m");
	ck_assert_int_eq(opt.mpol.mode, MPOL_IS_DEFAULT);
	ck_assert_uint_eq(opt.mpol.nodes[0], 0);
	accept_line("spillfs -o mpol=local /m");
	ck_assert_int_eq(opt.mpol.mode, MPOL_IS_LOCAL);
}
END_TEST

START_TEST(access_times_are_the_kernels_flags)
{
	static const struct {
		const char *list;
		enum spillfs_atime atime;
		bool nodiratime;
	} rows[] = {
		{ "rw", SPILLFS_ATIME_RELATIVE, false },
		{ "noatime", SPILLFS_ATIME_NEVER, false },
		{ "noatime,relatime", SPILLFS_ATIME_NEVER, false }, /* as mount(2) */
		{ "noatime,atime", SPILLFS_ATIME_RELATIVE, false },
		{ "noatime,strictatime", SPILLFS_ATIME_STRICT, false },
		{ "strictatime,nodiratime", SPILLFS_ATIME_STRICT, true },
		{ "strictatime,nostrictatime,lazytime,nolazytime", SPILLFS_ATIME_RELATIVE, false },
		{ "nodiratime,diratime,norelatime", SPILLFS_ATIME_RELATIVE, false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char line[128];

		snprintf(line, sizeof(line), "spillfs -o %s /m", rows[i].list);
		accept_line(line);
		ck_assert_msg(opt.atime == rows[i].atime, "%s", rows[i].list);
		ck_assert_msg(opt.nodiratime == rows[i].nodiratime, "%s", rows[i].list);
	}
	/* What libfuse has no word to deny, it is not told at all. */
	accept_line("spillfs -o noatime,nodiratime,nodev,atime,diratime /m");
	ck_assert_ptr_null(strstr(opt.fuse_opts, "noatime"));
	ck_assert_ptr_null(strstr(opt.fuse_opts, "diratime"));
	ck_assert_ptr_nonnull(strstr(opt.fuse_opts, "nodev"));
}
END_TEST

START_TEST(a_remount_says_only_what_was_said)
{
	accept_line("mount.spillfs scratch /m -o rw,nodev,relatime,user_id=0,group_id=0,default_permissions,"
		    "allow_other,max_read=65536,remount,size=5m,noexec,exec");
	ck_assert(opt.remount);
	ck_assert_uint_eq(opt.given, OPTIONS_SIZE);
	ck_assert_uint_eq(opt.ram_bytes, 0);
	ck_assert_ptr_null(opt.swap_path);
	ck_assert_uint_eq(opt.ms_set, MS_NODEV | MS_RELATIME);
	ck_assert_uint_eq(opt.ms_clear, MS_RDONLY | MS_NOEXEC);
	accept_line("spillfs -o remount,ram=1g,swapsize=2g,nr_inodes=0,inode32,huge=never /m");
	ck_assert_uint_eq(opt.given, OPTIONS_RAM | OPTIONS_SWAPSIZE | OPTIONS_INODES | OPTIONS_INODE_BITS |
					     OPTIONS_HUGE);
	refuse_line("spillfs -o user_id=0 /m", "user_id=0");
}
END_TEST

START_TEST(the_last_of_two_counts)
{
	accept_line("spillfs -o size=1m,size=2m /m -o nr_blocks=1,ram=1m -o ram=3m,swap=/a,swap=/b");
	ck_assert_uint_eq(opt.size_bytes, 4096);
	ck_assert_uint_eq(opt.ram_bytes, 3 * MIB);
	ck_assert_str_eq(opt.swap_path, "/b");
}
END_TEST

START_TEST(flags_may_stand_anywhere)
{
	accept_line("spillfs /m -f");
	ck_assert(opt.foreground && !opt.debug);
	accept_line("spillfs -d /m");
	ck_assert(opt.foreground && opt.debug);
	accept_line("spillfs -o ram=9m -fd /m -osize=8m");
	ck_assert(opt.foreground && opt.debug);
	ck_assert_uint_eq(opt.ram_bytes, 9 * MIB);
	ck_assert_uint_eq(opt.size_bytes, 8 * MIB);
	accept_line("spillfs -o noswap -- -dash");
	ck_assert_str_eq(opt.mountpoint + strlen(opt.mountpoint) - 6, "/-dash");
}
END_TEST

START_TEST(help_and_version_need_nothing_else)
{
	accept_line("spillfs -h");
	ck_assert(opt.help);
	accept_line("spillfs --help");
	ck_assert(opt.help);
	accept_line("spillfs -V");
	ck_assert(opt.version);
	accept_line("spillfs --version");
	ck_assert(opt.version);
	ck_assert_ptr_nonnull(strstr(options_help(), "swapsize="));
}
END_TEST

START_TEST(mount_8_can_call_it)
{
	accept_line(
		"mount.spillfs scratch /mnt/s -n -s -v -o rw,noauto,user,x-systemd.automount,size=5m,_netdev,comment=a");
	ck_assert_str_eq(opt.source, "scratch");
	ck_assert_str_eq(opt.mountpoint, "/mnt/s");
	ck_assert_uint_eq(opt.size_bytes, 5 * MIB);
	ck_assert_ptr_null(strstr(opt.fuse_opts, "noauto"));
	ck_assert_ptr_null(strstr(opt.fuse_opts, "x-systemd"));
	accept_line("mount.spillfs none /mnt/s -t fuse.spillfs -o defaults,nofail");
	ck_assert_str_eq(opt.source, "none");
}
END_TEST

START_TEST(mount_flags_are_passed_on_in_order)
{
	const char *first = NULL;
	const char *last = NULL;

	accept_line("spillfs -o ro,nodev,nosuid,noexec,noatime,dirsync,allow_other,auto_unmount,relatime /m");
	ck_assert_int_eq(opt.atime, SPILLFS_ATIME_NEVER);
	ck_assert_ptr_nonnull(
		strstr(opt.fuse_opts, ",ro,nodev,nosuid,noexec,noatime,dirsync,allow_other,auto_unmount"));
	ck_assert_ptr_null(strstr(opt.fuse_opts, "relatime"));
	/* libfuse takes the last word, so root's default must come before what was said. */
	if (geteuid() == 0) {
		first = strstr(opt.fuse_opts, ",dev");
		last = strstr(opt.fuse_opts, ",nodev");
		ck_assert(first != NULL && first < last);
	}
}
END_TEST

START_TEST(commas_can_be_escaped_and_quoted)
{
	accept_line("spillfs -o swap=/a\\,b,size=1m /m");
	ck_assert_str_eq(opt.swap_path, "/a,b");
	ck_assert_uint_eq(opt.size_bytes, MIB);
	accept_line("spillfs -o context=\"system_u:object_r:tmp_t:s0:c1,c2\",size=2m /m");
	ck_assert_uint_eq(opt.size_bytes, 2 * MIB);
	ck_assert_ptr_nonnull(strstr(opt.fuse_opts, "context=\"system_u:object_r:tmp_t:s0:c1\\,c2\""));
}
END_TEST

START_TEST(relative_mount_points_become_absolute)
{
	char *cwd = getcwd(NULL, 0);
	char expected[4096];

	accept_line("spillfs some/dir");
	snprintf(expected, sizeof(expected), "%s/some/dir", cwd);
	ck_assert_str_eq(opt.mountpoint, expected);
	free(cwd);
}
END_TEST

START_TEST(wrong_options_name_themselves)
{
	static const struct {
		const char *line, *word;
	} bad[] = {
		{ "spillfs -o foo /m", "'foo'" },
		{ "spillfs -o size=1m,Size=2m /m", "'Size=2m'" },
		{ "spillfs -o foo=bar /m", "'foo=bar'" },
		{ "spillfs -o size=abc /m", "size=abc" },
		{ "spillfs -o size /m", "'size'" },
		{ "spillfs -o ram= /m", "ram=" },
		{ "spillfs -o ram=-1 /m", "ram=-1" },
		{ "spillfs -o ram=0 /m", "ram=0" },
		{ "spillfs -o ram=99999999999t /m", "too large" },
		{ "spillfs -o mode=999 /m", "mode=999" },
		{ "spillfs -o mode=17777 /m", "mode=17777" },
		{ "spillfs -o mode= /m", "mode=" },
		{ "spillfs -o uid=no-such-user /m", "uid=no-such-user" },
		{ "spillfs -o gid=no-such-group /m", "gid=no-such-group" },
		{ "spillfs -o uid=4294967295 /m", "uid=4294967295" },
		{ "spillfs -o uid= /m", "uid=" },
		{ "spillfs -o cache=foo /m", "cache=foo" },
		{ "spillfs -o nr_inodes=x /m", "nr_inodes=x" },
		{ "spillfs -o nr_blocks=5% /m", "nr_blocks=5%" },
		{ "spillfs -o nr_blocks=9007199254740992 /m", "nr_blocks=" },
		{ "spillfs -o swapsize=0x /m", "swapsize=0x" },
		{ "spillfs -o swapsize=0 /m", "swapsize=0" },
		{ "spillfs -o reserve=x /m", "reserve=x" },
		{ "spillfs -o reserve /m", "'reserve'" },
		{ "spillfs -o noswap,ram=1m,reserve=2m /m", "reserve=" },
		{ "spillfs -o usrquota=1 /m", "'usrquota=1'" },
		{ "spillfs -o usrquota_block_hardlimit=0 /m", "usrquota_block_hardlimit=0" },
		{ "spillfs -o grpquota_inode_hardlimit=5% /m", "grpquota_inode_hardlimit=5%" },
		{ "spillfs -o inode32=1 /m", "'inode32=1'" },
		{ "spillfs -o huge=yes /m", "huge=yes" },
		{ "spillfs -o huge= /m", "huge=" },
		{ "spillfs -o mpol= /m", "mpol=" },
		{ "spillfs -o mpol=bind /m", "mpol=bind" },
		{ "spillfs -o mpol=bind: /m", "mpol=bind:" },
		{ "spillfs -o mpol=bind:3-1 /m", "mpol=bind:3-1" },
		{ "spillfs -o mpol=bind:1024 /m", "mpol=bind:1024" },
		{ "spillfs -o mpol=prefer:0-1 /m", "mpol=prefer:0-1" },
		{ "spillfs -o mpol=local:0 /m", "mpol=local:0" },
		{ "spillfs -o mpol=default=static /m", "mpol=default=static" },
		{ "spillfs -o mpol=interleave=fixed:0 /m", "mpol=interleave=fixed:0" },
		{ "spillfs -o swap= /m", "swap=" },
		{ "spillfs -o noswap,swap=/tmp /m", "noswap" },
		{ "spillfs -o swapsize=1g,noswap /m", "noswap" },
		{ "spillfs -z /m", "'-z'" },
		{ "spillfs --nonsense /m", "'--nonsense'" },
		{ "spillfs /m -o", "'-o'" },
		{ "spillfs", "mount point" },
		{ "spillfs -o size=1m", "mount point" },
		{ "spillfs a /b c", "'c'" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refuse_line(bad[i].line, bad[i].word);
}
END_TEST

/* --- files that describe the machine ---------------------------------------------------------------------------- */

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[512];
	FILE *f = NULL;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

/* What the kernel tells of a memory cgroup, in the files of v2 or of v1; stat: NULL for none. */
static void write_cgroup(const char *dir, bool v2, const char *limit, const char *usage, const char *stat)
{
	write_file(dir, v2 ? "memory.max" : "memory.limit_in_bytes", limit);
	write_file(dir, v2 ? "memory.current" : "memory.usage_in_bytes", usage);
	if (stat)
		write_file(dir, "memory.stat", stat);
}

static void remove_files(const char *dir)
{
	static const char *const names[] = {
		"memory.max", "memory.current", "memory.stat", "memory.limit_in_bytes", "memory.usage_in_bytes",
		"mountinfo"
	};
	char path[512];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	ck_assert_int_eq(rmdir(dir), 0);
}

static struct options_room room_below(const char *below, const char *top, bool v2, bool all_cache)
{
	struct options_room room;

	options_cgroup_levels(below, top, v2, all_cache, &room);
	return room;
}

START_TEST(the_tightest_cgroup_above_counts)
{
	char top[] = "/tmp/spillfs-test-XXXXXX";
	char below[64];

	ck_assert_ptr_nonnull(mkdtemp(top));
	snprintf(below, sizeof(below), "%s/below", top);
	ck_assert_int_eq(mkdir(below, 0700), 0);
	write_cgroup(below, true, "max\n", "1000\n", NULL);
	ck_assert_uint_eq(room_below(below, top, true, false).room, UINT64_MAX);
	write_cgroup(top, true, "1000000\n", "400000\n", "anon 1\ninactive_file 100000\nactive_file 5\n");
	ck_assert_uint_eq(room_below(below, top, true, false).room, 700000);
	write_file(below, "memory.max", "1500\n");
	ck_assert_uint_eq(room_below(below, top, true, false).room, 500);
	write_file(below, "memory.current", "2000\n");
	ck_assert_uint_eq(room_below(below, top, true, false).room, 0);
	/* v1: other names, and no limit is a huge number */
	write_file(top, "memory.limit_in_bytes", "9223372036854771712\n");
	write_cgroup(below, false, "5000000\n", "1000000\n", NULL);
	ck_assert_uint_eq(room_below(below, top, false, false).room, 4000000);
	remove_files(below);
	remove_files(top);
}
END_TEST

/* Clean page cache goes before anybody is killed, whatever is dirty does not. */
START_TEST(dirty_page_cache_is_no_room)
{
	char dir[] = "/tmp/spillfs-test-XXXXXX";
	struct options_room room;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	write_cgroup(dir, true, "1000000\n", "900000\n",
		     "anon 1\nfile_dirty 300\nfile_writeback 20\ninactive_file 400000\nactive_file 200000\n");
	room = room_below(dir, dir, true, true);
	ck_assert_uint_eq(room.limit, 1000000);
	ck_assert_uint_eq(room.dirty, 320);
	ck_assert_uint_eq(room.room, 100000 + 600000 - 320);
	room = room_below(dir, dir, true, false);
	ck_assert_uint_eq(room.room, 100000 + 400000);
	/* v1; and nothing but dirty pages leaves no more than what is free */
	write_cgroup(dir, false, "1000000\n", "900000\n",
		     "inactive_file 1\ndirty 1\ntotal_inactive_file 500000\ntotal_active_file 0\n"
		     "total_dirty 800000\ntotal_writeback 100000\n");
	room = room_below(dir, dir, false, true);
	ck_assert_uint_eq(room.dirty, 900000);
	ck_assert_uint_eq(room.room, 100000);
	remove_files(dir);
}
END_TEST

START_TEST(memory_available_is_a_sane_number)
{
	const uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	const uint64_t available = options_memory_available(NULL);

	ck_assert_uint_gt(available, 0);
	ck_assert_uint_le(available, machine);
}
END_TEST

struct seen {
	int n;
	char mountpoint[64], type[32], super[32];
	unsigned minor;
};

static int look(const struct mountinfo *mi, void *ctx)
{
	struct seen *seen = ctx;

	seen->n++;
	snprintf(seen->mountpoint, sizeof(seen->mountpoint), "%s", mi->mountpoint);
	snprintf(seen->type, sizeof(seen->type), "%s", mi->type);
	snprintf(seen->super, sizeof(seen->super), "%s", mi->super_options);
	seen->minor = mi->minor;
	return strcmp(mi->mountpoint, "/a b") == 0 ? 7 : 0;
}

START_TEST(mountinfo_lines_are_understood)
{
	char dir[] = "/tmp/spillfs-test-XXXXXX";
	char file[64];
	struct seen seen = { 0 };

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/mountinfo", dir);
	write_file(dir, "mountinfo",
		   "21 1 8:1 / / rw,relatime shared:1 master:2 - ext4 /dev/root rw\n"
		   "nonsense\n"
		   "22 21 0:41 / /a\\040b rw - fuse.spillfs scratch rw,user_id=0\n"
		   "23 21 0:42 / /never rw - tmpfs none rw\n");
	ck_assert_int_eq(mountinfo_each_of(file, look, &seen), 7);
	ck_assert_int_eq(seen.n, 2);
	ck_assert_str_eq(seen.mountpoint, "/a b");
	ck_assert_str_eq(seen.type, "fuse.spillfs");
	ck_assert_str_eq(seen.super, "rw,user_id=0");
	ck_assert_uint_eq(seen.minor, 41);
	ck_assert_int_eq(mountinfo_each_of("/nonexistent", look, &seen), -ENOENT);
	remove_files(dir);
}
END_TEST

static Suite *options_suite(void)
{
	Suite *s = suite_create("options");
	TCase *tc = tcase_create("options");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, sizes_take_the_suffixes_of_tmpfs);
	tcase_add_test(tc, sizes_that_are_none_are_refused);
	tcase_add_test(tc, sizes_beyond_63_bits_are_refused);
	tcase_add_test(tc, defaults_are_those_of_tmpfs);
	tcase_add_test(tc, swap_goes_to_tmpdir_unless_told);
	tcase_add_test(tc, every_option_is_taken);
	tcase_add_test(tc, what_tmpfs_takes_is_taken);
	tcase_add_test(tc, memory_policies_are_read_as_tmpfs_reads_them);
	tcase_add_test(tc, access_times_are_the_kernels_flags);
	tcase_add_test(tc, a_remount_says_only_what_was_said);
	tcase_add_test(tc, the_last_of_two_counts);
	tcase_add_test(tc, flags_may_stand_anywhere);
	tcase_add_test(tc, help_and_version_need_nothing_else);
	tcase_add_test(tc, mount_8_can_call_it);
	tcase_add_test(tc, mount_flags_are_passed_on_in_order);
	tcase_add_test(tc, commas_can_be_escaped_and_quoted);
	tcase_add_test(tc, relative_mount_points_become_absolute);
	tcase_add_test(tc, wrong_options_name_themselves);
	tcase_add_test(tc, the_tightest_cgroup_above_counts);
	tcase_add_test(tc, dirty_page_cache_is_no_room);
	tcase_add_test(tc, memory_available_is_a_sane_number);
	tcase_add_test(tc, mountinfo_lines_are_understood);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	return run_suite(options_suite(), CK_FORK_GETENV);
}
