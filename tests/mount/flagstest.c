/* SPDX-License-Identifier: MIT */
/*
 * flagstest: the flags of chattr(1): who may set which, and what they forbid.  Each case runs in its own process
 * (check_that.h); flags.sh runs all of it on a tmpfs as well, so that it says what tmpfs does.  Each case takes the
 * flags off again, else its directory could not be removed.
 */
#include "tests/mount/check_that.h"

#include <linux/fs.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>

#define OWNER 1000

static int set_flags(const char *path, int flags)
{
	int fd = check_open(path, O_RDONLY | O_NONBLOCK, 0);
	int rc = ioctl(fd, FS_IOC_SETFLAGS, &flags), err = errno;

	close(fd);
	errno = err;
	return rc;
}

static int get_flags(const char *path)
{
	int fd = check_open(path, O_RDONLY, 0), flags = -1;

	CHECK_EQ(ioctl(fd, FS_IOC_GETFLAGS, &flags), 0);
	close(fd);
	return flags;
}

static int fsx_get(const char *path, struct fsxattr *fsx)
{
	int fd = check_open(path, O_RDONLY, 0);
	int rc = ioctl(fd, FS_IOC_FSGETXATTR, fsx);

	close(fd);
	return rc;
}

static int fsx_set(const char *path, struct fsxattr *fsx)
{
	int fd = check_open(path, O_RDONLY, 0);
	int rc = ioctl(fd, FS_IOC_FSSETXATTR, fsx), err = errno;

	close(fd);
	errno = err;
	return rc;
}

static void flags_are_kept_and_shown(void)
{
	static const int known[] = { FS_NODUMP_FL, FS_NOATIME_FL, FS_IMMUTABLE_FL, FS_APPEND_FL,
				     FS_NODUMP_FL | FS_NOATIME_FL | FS_IMMUTABLE_FL | FS_APPEND_FL };

	check_need_root();
	check_make_file("f", 10, 1);
	CHECK_EQ(mkdir("d", 0755), 0);
	for (int i = 0; i < 2; i++) {
		const char *path = i ? "d" : "f";

		CHECK_EQ(get_flags(path), 0);
		for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++) {
			CHECK_EQ(set_flags(path, known[k]), 0);
			CHECK_EQ(get_flags(path), known[k]);
		}
		CHECK_ERR(set_flags(path, FS_COMPR_FL), EOPNOTSUPP);
		CHECK_ERR(set_flags(path, FS_SYNC_FL), EOPNOTSUPP);
		CHECK_ERR(set_flags(path, FS_PROJINHERIT_FL), EOPNOTSUPP);
		CHECK_EQ(get_flags(path), known[4]);
		CHECK_EQ(set_flags(path, 0), 0);
		CHECK_EQ(get_flags(path), 0);
	}
}

static void the_other_ioctl_says_the_same(void)
{
	struct fsxattr fsx;

	check_need_root();
	check_make_file("f", 10, 1);
	CHECK_EQ(set_flags("f", FS_APPEND_FL | FS_NODUMP_FL), 0);
	CHECK_EQ(fsx_get("f", &fsx), 0);
	CHECK_EQ(fsx.fsx_xflags, FS_XFLAG_APPEND | FS_XFLAG_NODUMP);
	fsx.fsx_xflags = FS_XFLAG_IMMUTABLE | FS_XFLAG_NOATIME;
	CHECK_EQ(fsx_set("f", &fsx), 0);
	CHECK_EQ(get_flags("f"), FS_IMMUTABLE_FL | FS_NOATIME_FL);
	fsx.fsx_xflags = 0;
	CHECK_EQ(fsx_set("f", &fsx), 0);
	CHECK_EQ(get_flags("f"), 0);
	fsx.fsx_xflags = FS_XFLAG_REALTIME;
	CHECK_ERR(fsx_set("f", &fsx), EOPNOTSUPP);
}

/* A file's, too, but under its writeback cache the kernel keeps ctime itself and does not take this for a change. */
static void ctime_of_a_directory_moves_with_its_flags(void)
{
	struct stat before, after;

	CHECK_EQ(mkdir("d", 0755), 0);
	before = check_stat("d");
	usleep(15000);
	CHECK_EQ(set_flags("d", FS_NODUMP_FL), 0);
	after = check_stat("d");
	CHECK(after.st_ctim.tv_sec != before.st_ctim.tv_sec || after.st_ctim.tv_nsec > before.st_ctim.tv_nsec);
	CHECK_EQ(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
}

static void owner_sets(void)
{
	CHECK_EQ(set_flags("f", FS_NODUMP_FL | FS_NOATIME_FL), 0);
	CHECK_ERR(set_flags("f", FS_NODUMP_FL | FS_NOATIME_FL | FS_IMMUTABLE_FL), EPERM);
	CHECK_ERR(set_flags("f", FS_APPEND_FL), EPERM);
	CHECK_EQ(get_flags("f"), FS_NODUMP_FL | FS_NOATIME_FL);
	CHECK_ERR(set_flags("g", FS_NODUMP_FL), EPERM); /* not his */
	CHECK_ERR(set_flags("i", 0), EPERM);
}

static void only_root_sets_immutable_and_append_only(void)
{
	check_need_root();
	check_make_file("f", 10, 1);
	check_make_file("g", 10, 1);
	check_make_file("i", 10, 1);
	CHECK_EQ(chown("f", OWNER, OWNER), 0);
	CHECK_EQ(chown("i", OWNER, OWNER), 0);
	CHECK_EQ(set_flags("i", FS_IMMUTABLE_FL), 0);
	check_as_user(OWNER, owner_sets);
	CHECK_EQ(set_flags("i", 0), 0);
}

static void new_files_inherit_nodump_and_noatime(void)
{
	check_need_root();
	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(set_flags("d", FS_NODUMP_FL | FS_NOATIME_FL | FS_APPEND_FL), 0);
	check_make_file("d/f", 10, 1);
	CHECK_EQ(mkdir("d/sub", 0755), 0);
	CHECK_EQ(get_flags("d/f"), FS_NODUMP_FL | FS_NOATIME_FL);
	CHECK_EQ(get_flags("d/sub"), FS_NODUMP_FL | FS_NOATIME_FL);
	CHECK_EQ(set_flags("d", 0), 0);
	check_make_file("d/g", 10, 1);
	CHECK_EQ(get_flags("d/g"), 0);
}

/* --- +i --------------------------------------------------------------------------------------------------------- */

static void refuse_change_of_attributes(const char *path)
{
	struct timespec set[2] = { { 1, 1 }, { 1, 1 } };

	CHECK_ERR(chmod(path, 0600), EPERM);
	CHECK_ERR(chown(path, 5, 5), EPERM);
	CHECK_ERR(utimensat(AT_FDCWD, path, set, 0), EPERM);
	CHECK_ERR(setxattr(path, "user.a", "1", 1, 0), EPERM);
	CHECK_ERR(removexattr(path, "user.b"), EPERM);
	CHECK_ERR(setxattr(path, "trusted.a", "1", 1, 0), EPERM);
}

static void immutable_files_do_not_change(void)
{
	char buf[10];
	int fd;

	check_need_root();
	check_make_file("f", 10, 1);
	CHECK_EQ(setxattr("f", "user.b", "1", 1, 0), 0);
	check_make_file("g", 10, 1);
	CHECK_EQ(set_flags("f", FS_IMMUTABLE_FL), 0);
	CHECK_ERR(open("f", O_WRONLY), EPERM);
	CHECK_ERR(open("f", O_RDWR), EPERM);
	CHECK_ERR(open("f", O_WRONLY | O_APPEND), EPERM);
	CHECK_ERR(open("f", O_WRONLY | O_TRUNC), EPERM);
	CHECK_ERR(open("f", O_WRONLY | O_CREAT, 0600), EPERM);
	CHECK_ERR(truncate("f", 5), EPERM);
	refuse_change_of_attributes("f");
	CHECK_ERR(utimensat(AT_FDCWD, "f", NULL, 0), EPERM);
	CHECK_ERR(link("f", "h"), EPERM);
	CHECK_ERR(unlink("f"), EPERM);
	CHECK_ERR(rename("f", "h"), EPERM);
	CHECK_ERR(rename("g", "f"), EPERM);
	CHECK_ERR(renameat2(AT_FDCWD, "g", AT_FDCWD, "f", RENAME_EXCHANGE), EPERM);
	fd = check_open("f", O_RDONLY, 0);
	CHECK_EQ(read(fd, buf, 10), 10);
	CHECK_EQ(getxattr("f", "user.b", buf, 10), 1);
	CHECK_EQ(check_stat("f").st_size, 10);
	CHECK_EQ(set_flags("f", 0), 0);
	CHECK_EQ(chmod("f", 0600), 0);
	CHECK_EQ(unlink("f"), 0);
}

static void immutable_directories_keep_their_names(void)
{
	check_need_root();
	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(mkdir("d/sub", 0755), 0);
	CHECK_EQ(setxattr("d", "user.b", "1", 1, 0), 0);
	check_make_file("d/f", 10, 1);
	check_make_file("f", 10, 1);
	CHECK_EQ(set_flags("d", FS_IMMUTABLE_FL), 0);
	CHECK_ERR(open("d/new", O_CREAT | O_WRONLY, 0600), EPERM);
	CHECK_ERR(open("d", O_TMPFILE | O_WRONLY, 0600), EPERM);
	CHECK_ERR(mkdir("d/new", 0700), EPERM);
	CHECK_ERR(mknod("d/new", S_IFIFO | 0600, 0), EPERM);
	CHECK_ERR(symlink("x", "d/new"), EPERM);
	CHECK_ERR(link("f", "d/new"), EPERM);
	CHECK_ERR(rename("f", "d/new"), EPERM);
	CHECK_ERR(rename("d/f", "new"), EPERM);
	CHECK_ERR(rename("d/f", "d/new"), EPERM);
	CHECK_ERR(unlink("d/f"), EPERM);
	CHECK_ERR(rmdir("d/sub"), EPERM);
	CHECK_ERR(rename("d", "e"), EPERM);
	CHECK_ERR(rmdir("d"), EPERM);
	CHECK_ERR(mkdir("d/sub", 0700), EEXIST);
	CHECK_ERR(unlink("d/absent"), ENOENT);
	refuse_change_of_attributes("d");
	check_make_file("d/f", 20, 2); /* the files in it do change */
	CHECK_EQ(chmod("d/f", 0600), 0);
	CHECK_EQ(set_flags("d", 0), 0);
	CHECK_EQ(unlink("d/f"), 0);
}

/* As everywhere on Linux: permission is a matter of open(). */
static void who_has_it_open_goes_on(void)
{
	struct stat st;
	int fd;

	check_need_root();
	fd = check_open("f", O_RDWR | O_CREAT, 0600);
	CHECK_EQ(write(fd, "0123456789", 10), 10);
	CHECK_EQ(set_flags("f", FS_IMMUTABLE_FL), 0);
	CHECK_EQ(write(fd, "0123456789", 10), 10);
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(ftruncate(fd, 5), 0);
	CHECK_ERR(fallocate(fd, 0, 0, 8192), EPERM);
	CHECK_ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), EPERM);
	CHECK_ERR(fchmod(fd, 0644), EPERM);
	CHECK_EQ(pwrite(fd, "abc", 3, 0), 3);
	CHECK_EQ(close(fd), 0);
	st = check_stat("f");
	CHECK_EQ(st.st_size, 5);
	CHECK(st.st_mtim.tv_sec >= time(NULL) - 20);
	CHECK_EQ(set_flags("f", 0), 0);
}

/* --- +a --------------------------------------------------------------------------------------------------------- */

static void append_only_files_only_grow(void)
{
	char buf[32];
	int fd;

	check_need_root();
	check_make_file("f", 10, 1);
	check_make_file("g", 10, 1);
	CHECK_EQ(setxattr("f", "user.b", "1", 1, 0), 0);
	CHECK_EQ(set_flags("f", FS_APPEND_FL), 0);
	CHECK_ERR(open("f", O_WRONLY), EPERM);
	CHECK_ERR(open("f", O_RDWR), EPERM);
	CHECK_ERR(open("f", O_WRONLY | O_APPEND | O_TRUNC), EPERM);
	CHECK_ERR(truncate("f", 5), EPERM);
	refuse_change_of_attributes("f");
	CHECK_EQ(utimensat(AT_FDCWD, "f", NULL, 0), 0);
	CHECK_ERR(link("f", "h"), EPERM);
	CHECK_ERR(unlink("f"), EPERM);
	CHECK_ERR(rename("f", "h"), EPERM);
	CHECK_ERR(rename("g", "f"), EPERM);
	fd = check_open("f", O_RDWR | O_APPEND, 0);
	CHECK_EQ(write(fd, "abc", 3), 3);
	CHECK_EQ(pwrite(fd, "def", 3, 0), 3); /* O_APPEND has it at the end */
	CHECK_ERR(ftruncate(fd, 0), EPERM);
	CHECK_EQ(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8192), 0);
	CHECK_ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), EPERM);
	CHECK_ERR(fchmod(fd, 0600), EPERM);
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), 16);
	CHECK(memcmp(buf + 10, "abcdef", 6) == 0);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(check_stat("f").st_size, 16);
	CHECK_EQ(set_flags("f", 0), 0);
	CHECK_EQ(truncate("f", 0), 0);
}

/* Taking O_APPEND back must not help; tmpfs refuses the fcntl(), a FUSE mount can only refuse the write(). */
static void append_only_files_cannot_be_overwritten_by_a_trick(void)
{
	char want[10], got[10];
	int fd;

	check_need_root();
	check_make_file("f", 10, 1);
	check_fill(want, 10, 1);
	CHECK_EQ(set_flags("f", FS_APPEND_FL), 0);
	fd = check_open("f", O_RDWR | O_APPEND, 0);
	CHECK(fcntl(fd, F_SETFL, 0) == 0 || errno == EPERM);
	if (!(fcntl(fd, F_GETFL) & O_APPEND)) {
		CHECK_ERR(pwrite(fd, "x", 1, 0), EPERM);
		CHECK_ERR(pwrite(fd, "x", 1, 9), EPERM);
		CHECK_EQ(pwrite(fd, "xy", 2, 10), 2);
	} else {
		CHECK_EQ(write(fd, "xy", 2), 2);
	}
	close(fd);
	fd = check_open("f", O_RDONLY, 0);
	CHECK_EQ(pread(fd, got, 10, 0), 10);
	CHECK(memcmp(got, want, 10) == 0);
	CHECK_EQ(check_stat("f").st_size, 12);
	CHECK_EQ(set_flags("f", 0), 0);
}

static void append_only_directories_only_gain_names(void)
{
	check_need_root();
	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(setxattr("d", "user.b", "1", 1, 0), 0);
	check_make_file("f", 10, 1);
	check_make_file("d/old", 10, 1);
	CHECK_EQ(set_flags("d", FS_APPEND_FL), 0);
	check_make_file("d/new", 10, 1);
	CHECK_EQ(mkdir("d/sub", 0755), 0);
	CHECK_EQ(link("f", "d/link"), 0);
	CHECK_EQ(rename("f", "d/moved"), 0);
	CHECK_ERR(unlink("d/old"), EPERM);
	CHECK_ERR(rmdir("d/sub"), EPERM);
	CHECK_ERR(rename("d/old", "d/older"), EPERM);
	CHECK_ERR(rename("d/old", "old"), EPERM);
	check_make_file("g", 10, 1);
	CHECK_ERR(rename("g", "d/old"), EPERM);
	refuse_change_of_attributes("d");
	CHECK_EQ(set_flags("d", 0), 0);
	CHECK_EQ(unlink("d/old"), 0);
}

/* --- +A --------------------------------------------------------------------------------------------------------- */

static void noatime_files_keep_their_atime(void)
{
	struct timespec old[2] = { { 1000, 0 }, { 2000, 0 } };
	char c;

	for (int i = 0; i < 2; i++) {
		const char *path = i ? "g" : "f";
		int fd;

		check_make_file(path, 10, 1);
		CHECK_EQ(utimensat(AT_FDCWD, path, old, 0), 0);
		CHECK_EQ(set_flags(path, i ? 0 : FS_NOATIME_FL), 0);
		fd = check_open(path, O_RDONLY, 0);
		check_drop(fd);
		CHECK_EQ(read(fd, &c, 1), 1);
		CHECK_EQ(close(fd), 0);
		CHECK(i ? check_stat(path).st_atim.tv_sec != 1000 : check_stat(path).st_atim.tv_sec == 1000);
	}
}

static const struct check_case cases[] = {
	CASE(flags_are_kept_and_shown),
	CASE(the_other_ioctl_says_the_same),
	CASE(ctime_of_a_directory_moves_with_its_flags),
	CASE(only_root_sets_immutable_and_append_only),
	CASE(new_files_inherit_nodump_and_noatime),
	CASE(immutable_files_do_not_change),
	CASE(immutable_directories_keep_their_names),
	CASE(who_has_it_open_goes_on),
	CASE(append_only_files_only_grow),
	CASE(append_only_files_cannot_be_overwritten_by_a_trick),
	CASE(append_only_directories_only_gain_names),
	CASE(noatime_files_keep_their_atime),
};

int main(int argc, char **argv)
{
	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
