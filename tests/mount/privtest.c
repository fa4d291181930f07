/* SPDX-License-Identifier: MIT */
/*
 * privtest: when suid, sgid and file capabilities go, by whatever way a file changes.  Each case runs in its own
 * process (check_that.h); tmpfs-like.sh runs all of it on a tmpfs as well, so that it says what tmpfs does.
 */
#include "tests/mount/check_that.h"

#include <endian.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#define OWNER 1000
#define OTHER 1001
#define GROUP 4321

static mode_t mode_of(const char *path)
{
	return check_stat(path).st_mode & 07777;
}

/* --- ways to change a file ------------------------------------------------------------------------------------ */

static void way_write(void)
{
	int fd = check_open("f", O_WRONLY, 0);

	CHECK_EQ(write(fd, "x", 1), 1);
}

static void way_append(void)
{
	int fd = check_open("f", O_WRONLY | O_APPEND, 0);

	CHECK_EQ(write(fd, "x", 1), 1);
}

static void way_writev(void)
{
	struct iovec iov = { .iov_base = (char[]){ 'x' }, .iov_len = 1 };
	int fd = check_open("f", O_WRONLY, 0);

	CHECK_EQ(pwritev(fd, &iov, 1, 50), 1);
}

static void way_truncate(void)
{
	CHECK_EQ(truncate("f", 5), 0);
}

static void way_ftruncate(void)
{
	CHECK_EQ(ftruncate(check_open("f", O_WRONLY, 0), 500), 0);
}

static void way_open_trunc(void)
{
	close(check_open("f", O_WRONLY | O_TRUNC, 0));
}

static void way_allocate(void)
{
	CHECK_EQ(fallocate(check_open("f", O_WRONLY, 0), 0, 0, 10000), 0);
}

static void way_punch(void)
{
	CHECK_EQ(fallocate(check_open("f", O_WRONLY, 0), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 50), 0);
}

static void way_copy(void)
{
	int in = check_open("source", O_RDONLY, 0), out = check_open("f", O_WRONLY, 0);

	CHECK_EQ(copy_file_range(in, NULL, out, NULL, 10, 0), 10);
}

static void way_mmap(void)
{
	int fd = check_open("f", O_RDWR, 0);
	char *map = mmap(NULL, 100, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	CHECK(map != MAP_FAILED);
	map[5] = 'x';
	CHECK_EQ(msync(map, 100, MS_SYNC), 0);
}

static const struct way {
	const char *name;
	void (*change)(void);
	bool keeps; /* a store is no system call that could be looked at */
} ways[] = {
	{ "write", way_write, false },	       { "append", way_append, false },
	{ "pwritev", way_writev, false },      { "truncate", way_truncate, false },
	{ "ftruncate", way_ftruncate, false }, { "O_TRUNC", way_open_trunc, false },
	{ "fallocate", way_allocate, false },  { "punch", way_punch, false },
	{ "copy", way_copy, false },	       { "mmap", way_mmap, true },
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static void make(mode_t mode)
{
	unlink("f");
	check_make_file("f", 100, 1);
	CHECK_EQ(chown("f", OWNER, GROUP), 0);
	CHECK_EQ(chmod("f", mode), 0);
	CHECK_EQ(mode_of("f"), mode);
}

static void expect_mode(const struct way *way, mode_t mode)
{
	if (mode_of("f") != mode)
		printf("     %s: %o\n", way->name, mode_of("f"));
	CHECK_EQ(mode_of("f"), mode);
}

static void bits_go_when_others_change_the_file(void)
{
	check_need_root();
	check_make_file("source", 10, 1);
	CHECK_EQ(chmod(".", 0755), 0);
	for (size_t i = 0; i < WAYS; i++) {
		make(06777);
		check_as_user(OTHER, ways[i].change);
		expect_mode(&ways[i], ways[i].keeps ? 06777 : 0777);
		make(06777);
		check_as_user(OWNER, ways[i].change);
		expect_mode(&ways[i], ways[i].keeps ? 06777 : 0777);
	}
}

/* Where the group may not execute, sgid is no privilege, but an outsider's change takes it all the same. */
static void an_idle_sgid_goes_when_outsiders_change_the_file(void)
{
	check_need_root();
	check_make_file("source", 10, 1);
	CHECK_EQ(chmod(".", 0755), 0);
	for (size_t i = 0; i < WAYS; i++) {
		make(02666);
		check_as_user(OTHER, ways[i].change);
		expect_mode(&ways[i], ways[i].keeps ? 02666 : 0666);
		make(02666);
		CHECK_EQ(chown("f", OWNER, OTHER), 0);
		CHECK_EQ(chmod("f", 02666), 0);
		check_as_user(OTHER, ways[i].change);
		expect_mode(&ways[i], 02666);
	}
}

static void bits_stay_when_root_changes_the_file(void)
{
	check_need_root();
	check_make_file("source", 10, 1);
	for (size_t i = 0; i < WAYS; i++) {
		make(06777);
		ways[i].change();
		expect_mode(&ways[i], 06777);
	}
}

static void chown_to_group(void)
{
	CHECK_EQ(chown("f", (uid_t)-1, OWNER), 0);
}

/* tmpfs refuses it; here the kernel does not ask, and nothing must come of it. */
static void chown_to_nobody(void)
{
	(void)!chown("f", (uid_t)-1, (gid_t)-1);
}

static void bits_go_with_the_owner(void)
{
	check_need_root();
	CHECK_EQ(chmod(".", 0755), 0);
	make(06777);
	CHECK_EQ(chown("f", OTHER, OTHER), 0); /* even by root */
	CHECK_EQ(mode_of("f"), 0777);
	make(02767);
	CHECK_EQ(chown("f", OTHER, OTHER), 0);
	CHECK_EQ(mode_of("f"), 02767);
	make(06777);
	check_as_user(OWNER, chown_to_group);
	CHECK_EQ(mode_of("f"), 0777);
	make(06777);
	CHECK_EQ(chown("f", (uid_t)-1, (gid_t)-1), 0);
	CHECK_EQ(mode_of("f"), 0777);
	make(06777);
	check_as_user(OTHER, chown_to_nobody);
	CHECK_EQ(mode_of("f"), 06777);
	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(chmod("d", 06755), 0);
	CHECK_EQ(chown("d", OWNER, OWNER), 0);
	CHECK_EQ(mode_of("d"), 06755);
}

static void chmod_setgid(void)
{
	CHECK_EQ(chmod("f", 02755), 0);
}

static void sgid_is_for_members_of_the_group(void)
{
	check_need_root();
	CHECK_EQ(chmod(".", 0755), 0);
	make(0755);
	check_as_user(OWNER, chmod_setgid);
	CHECK_EQ(mode_of("f"), 0755);
	CHECK_EQ(chown("f", OWNER, OWNER), 0);
	check_as_user(OWNER, chmod_setgid);
	CHECK_EQ(mode_of("f"), 02755);
}

static void make_in_setgid_directory(void)
{
	umask(0);
	close(check_open("d/f", O_CREAT | O_WRONLY, 02777));
	CHECK_EQ(mkdir("d/sub", 0755), 0);
	close(check_open("d/plain", O_CREAT | O_WRONLY, 02767));
	CHECK_EQ(mknod("d/node", S_IFREG | 06777, 0), 0);
	CHECK_EQ(symlink("x", "d/link"), 0);
}

static void setgid_directories_inherit(void)
{
	check_need_root();
	CHECK_EQ(chmod(".", 0755), 0);
	CHECK_EQ(mkdir("d", 0777), 0);
	CHECK_EQ(chown("d", 0, GROUP), 0);
	CHECK_EQ(chmod("d", 02777), 0);
	check_as_user(OWNER, make_in_setgid_directory);
	CHECK_EQ(mode_of("d/f"), 0777); /* not his group: no sgid of its own */
	CHECK_EQ(mode_of("d/plain"), 02767);
	CHECK_EQ(mode_of("d/node"), 04777);
	CHECK_EQ(mode_of("d/sub"), 02755);
	CHECK_EQ(check_stat("d/f").st_gid, GROUP);
	CHECK_EQ(check_stat("d/sub").st_gid, GROUP);
	CHECK_EQ(check_stat("d/link").st_gid, GROUP);
	CHECK_EQ(check_stat("d/link").st_uid, OWNER);
}

/* --- capabilities ------------------------------------------------------------------------------------------------ */

static void set_capability(void)
{
	struct vfs_cap_data cap = { .magic_etc = htole32(VFS_CAP_REVISION_2), .data[0].permitted = htole32(1) };

	CHECK_EQ(setxattr("f", "security.capability", &cap, XATTR_CAPS_SZ_2, 0), 0);
}

static void capabilities_go_when_the_file_changes(void)
{
	check_need_root();
	check_make_file("source", 10, 1);
	CHECK_EQ(chmod(".", 0755), 0);
	for (size_t i = 0; i < WAYS; i++) {
		for (int root = 0; root < 2; root++) {
			bool has;

			make(0777);
			set_capability();
			if (root)
				ways[i].change();
			else
				check_as_user(OTHER, ways[i].change);
			has = getxattr("f", "security.capability", NULL, 0) >= 0;
			if (has != ways[i].keeps)
				printf("     %s:\n", ways[i].name);
			CHECK(has == ways[i].keeps);
		}
	}
	make(0777);
	set_capability();
	CHECK_EQ(chown("f", OTHER, OTHER), 0);
	CHECK_ERR(getxattr("f", "security.capability", NULL, 0), ENODATA);
	set_capability();
	CHECK_EQ(chmod("f", 0700), 0);
	CHECK_EQ(getxattr("f", "security.capability", NULL, 0), XATTR_CAPS_SZ_2);
}

/* What the kernel has buffered is written later, and is no reason any more. */
static void a_capability_outlives_what_was_written_before(void)
{
	int fd;

	check_need_root();
	make(0777);
	fd = check_open("f", O_RDWR, 0);
	CHECK_EQ(write(fd, "later", 5), 5);
	set_capability();
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(getxattr("f", "security.capability", NULL, 0), XATTR_CAPS_SZ_2);
}

static void root_takes_the_capability_alone(void)
{
	check_need_root();
	make(06777);
	set_capability();
	way_write();
	CHECK_ERR(getxattr("f", "security.capability", NULL, 0), ENODATA);
	CHECK_EQ(mode_of("f"), 06777);
}

static const struct check_case cases[] = {
	CASE(bits_go_when_others_change_the_file),
	CASE(an_idle_sgid_goes_when_outsiders_change_the_file),
	CASE(bits_stay_when_root_changes_the_file),
	CASE(bits_go_with_the_owner),
	CASE(sgid_is_for_members_of_the_group),
	CASE(setgid_directories_inherit),
	CASE(capabilities_go_when_the_file_changes),
	CASE(a_capability_outlives_what_was_written_before),
	CASE(root_takes_the_capability_alone),
};

int main(int argc, char **argv)
{
	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
