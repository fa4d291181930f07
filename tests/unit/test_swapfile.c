/* SPDX-License-Identifier: MIT */
/*
 * test_swapfile: what swap=PATH accepts, how much of it is used, how space is given back, and the line that a
 * user reads when it does not work.  Owns a directory under $TMPDIR for each test; no lock: check runs each test
 * in its own process.  What needs root (ramfs, a read-only mount, a loop device) is skipped by name without.
 */
#include "swapstore/swapfile.h"
#include "tests/unit/run.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096U
#define MIB  (1U << 20)

static char top[PATH_MAX / 4];
static char dir[PATH_MAX / 2];
static char why[512];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* Before and after all tests: a failed one ends without tidying up. */
static void set_up_all(void)
{
	const char *base = getenv("TMPDIR");

	snprintf(top, sizeof(top), "%s/test_swapfile.XXXXXX", base && *base ? base : "/var/tmp");
	ck_assert_ptr_nonnull(mkdtemp(top));
	ck_assert_int_eq(chmod(top, 0755), 0); /* for tests that give root up */
}

static void tear_down_all(void)
{
	nftw(top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void set_up(void)
{
	snprintf(dir, sizeof(dir), "%s/XXXXXX", top);
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static const char *in_dir(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* A file of bytes; filled with 0xa5 if full, else sparse. */
static void make_file(const char *path, size_t bytes, bool full)
{
	static char block[64 << 10];
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	memset(block, 0xa5, sizeof(block));
	for (size_t done = 0; full && done < bytes; done += sizeof(block))
		ck_assert_int_eq(write(fd, block, sizeof(block)), sizeof(block));
	ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
	ck_assert_int_eq(fsync(fd), 0);
	close(fd);
}

static void write_all(const struct swapfile *sf, size_t bytes, int value)
{
	char *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert(mem != MAP_FAILED);
	memset(mem, value, bytes);
	ck_assert_int_eq(pwrite(sf->fd, mem, bytes, 0), (ssize_t)bytes);
	munmap(mem, bytes);
}

/* Page i of the file holds value throughout? */
static bool page_is(const struct swapfile *sf, unsigned i, int value)
{
	char *mem = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool same = true;

	ck_assert(mem != MAP_FAILED);
	ck_assert_int_eq(pread(sf->fd, mem, PAGE, (off_t)i * PAGE), PAGE);
	for (unsigned j = 0; j < PAGE; j++)
		same = same && mem[j] == (char)value;
	munmap(mem, PAGE);
	return same;
}

static uint64_t disk_bytes(int fd)
{
	struct stat st;

	ck_assert_int_eq(fsync(fd), 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void opens(struct swapfile *sf, const char *path, uint64_t bytes)
{
	int rc = swapfile_open(sf, path, bytes, why, sizeof(why));

	ck_assert_msg(rc == 0, "%s", why);
	ck_assert_str_eq(why, "");
	ck_assert_int_ne(fcntl(sf->fd, F_GETFD) & FD_CLOEXEC, 0);
	ck_assert_int_ne(fcntl(sf->fd, F_GETFL) & O_DIRECT, 0);
}

/* Opening fails with err, in one line that names the path and has the words. */
static void refuses(const char *path, uint64_t bytes, int err, const char *words)
{
	struct swapfile sf;
	char start[PATH_MAX];
	int rc = swapfile_open(&sf, path, bytes, why, sizeof(why));

	snprintf(start, sizeof(start), "swap=%s: ", path);
	ck_assert_msg(rc == err, "%s: got %d (%s), want %d", path, rc, why, err);
	ck_assert_msg(strncmp(why, start, strlen(start)) == 0, "%s", why);
	ck_assert_msg(strstr(why, words) != NULL, "\"%s\" lacks \"%s\"", why, words);
	ck_assert_ptr_null(strchr(why, '\n'));
	ck_assert_int_eq(sf.fd, -1);
	swapfile_close(&sf); /* harmless */
}

/* test: __func__, to whose name check adds "_fn". */
static void skip(const char *test, const char *reason)
{
	printf("SKIP %.*s: %s\n", (int)strlen(test) - 3, test, reason);
	fflush(stdout);
}

/* A mount namespace of our own, so that nothing mounted here outlives the test.  False, with a word, if refused. */
static bool may_mount(const char *test)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		skip(test, "mounting is not allowed here");
		return false;
	}
	return true;
}

/* --- a directory --------------------------------------------------------------------------------------------- */

/* Bytes that are free where the swap files of these tests lie. */
static uint64_t disk_free(void)
{
	struct statvfs vfs;

	ck_assert_int_eq(statvfs(dir, &vfs), 0);
	return (uint64_t)vfs.f_bavail * vfs.f_frsize;
}

START_TEST(a_directory_gets_an_unnamed_private_file)
{
	struct swapfile sf;
	struct stat st;
	char name[PATH_MAX], self[64];

	umask(0277);
	opens(&sf, dir, 10 * MIB + 1234);
	ck_assert_int_eq(sf.kind, SWAPFILE_UNNAMED);
	ck_assert(sf.can_trim);
	ck_assert_uint_eq(sf.bytes, 10 * MIB);
	ck_assert_int_eq(fstat(sf.fd, &st), 0);
	ck_assert_uint_eq(st.st_mode, S_IFREG | 0600);
	ck_assert_uint_eq(st.st_nlink, 0);
	ck_assert_int_eq(st.st_size, 10 * MIB);
	ck_assert_uint_lt(disk_bytes(sf.fd), MIB); /* sparse */
	ck_assert_int_eq(rmdir(dir), 0);	   /* so nothing is in it */
	snprintf(name, sizeof(name), "%s/never", top);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", sf.fd);
	ck_assert_int_eq(linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW), -1);
	swapfile_close(&sf);
	ck_assert_int_eq(sf.fd, -1);
}
END_TEST

START_TEST(a_directory_without_a_size_gets_half_of_what_is_free)
{
	struct swapfile sf;
	uint64_t free_bytes = disk_free();

	opens(&sf, dir, 0);
	ck_assert_uint_eq(sf.bytes % PAGE, 0);
	/* Others use the disk meanwhile: within a tenth. */
	ck_assert_uint_gt(sf.bytes, free_bytes / 2 - free_bytes / 10);
	ck_assert_uint_lt(sf.bytes, free_bytes / 2 + free_bytes / 10);
	swapfile_close(&sf);
}
END_TEST

/* What <fcntl.h> calls fallocate() where files are large. */
int __real_fallocate64(int fd, int mode, off_t offset, off_t length);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length);

static unsigned allocations; /* that were tried */

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length)
{
	allocations += (mode & FALLOC_FL_PUNCH_HOLE) == 0;
	return __real_fallocate64(fd, mode, offset, length);
}

START_TEST(a_reserve_larger_than_the_disk_is_refused_before_it_is_filled)
{
	struct swapfile sf;
	uint64_t room = disk_free() / MIB * MIB;

	opens(&sf, dir, room + UINT64_C(4096) * MIB);
	allocations = 0;
	ck_assert_int_eq(swapfile_reserve(&sf, room + UINT64_C(4096) * MIB), -ENOSPC);
	ck_assert_uint_eq(allocations, 0);
	ck_assert_int_eq(swapfile_reserve(&sf, MIB), 0);
	ck_assert_uint_eq(allocations, 1);
	swapfile_close(&sf);
}
END_TEST

START_TEST(trimming_gives_disk_space_back_and_nothing_else)
{
	struct swapfile sf;
	uint64_t full;

	opens(&sf, dir, 4 * MIB);
	write_all(&sf, 4 * MIB, 0x77);
	full = disk_bytes(sf.fd);
	ck_assert_uint_ge(full, 4 * MIB);
	ck_assert_int_eq(swapfile_trim(&sf, MIB, 2 * MIB), 0);
	ck_assert(sf.can_trim);
	ck_assert_uint_le(disk_bytes(sf.fd), full - 2 * MIB);
	ck_assert(page_is(&sf, 255, 0x77));
	ck_assert(page_is(&sf, 256, 0));
	ck_assert(page_is(&sf, 767, 0));
	ck_assert(page_is(&sf, 768, 0x77));
	ck_assert_int_eq(lseek(sf.fd, 0, SEEK_END), 4 * MIB);
	swapfile_close(&sf);
}
END_TEST

START_TEST(a_refused_trim_is_not_tried_again)
{
	struct swapfile sf;
	int fd;

	opens(&sf, dir, MIB);
	/* What cannot be punched: the read end of a pipe would do; a read-only descriptor is nearer to life. */
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(dup3(fd, sf.fd, O_CLOEXEC), sf.fd);
	close(fd);
	ck_assert_int_eq(swapfile_trim(&sf, 0, PAGE), -EBADF);
	ck_assert(!sf.can_trim);
	ck_assert_int_eq(swapfile_trim(&sf, 0, PAGE), -EOPNOTSUPP);
	swapfile_close(&sf);
}
END_TEST

START_TEST(too_little_is_said)
{
	refuses(dir, MIB - 1, -ENOSPC, "too small");
	make_file(in_dir("short"), MIB - PAGE, false);
	refuses(in_dir("short"), 0, -ENOSPC, "too small");
	make_file(in_dir("file"), 2 * MIB, false);
	refuses(in_dir("file"), PAGE, -ENOSPC, "too small");
	refuses(in_dir("file"), 2 * MIB + 1, -ENOSPC, "there are 2097152");
	refuses(dir, UINT64_C(1) << 45, -EFBIG, "more than the most");
}
END_TEST

/* --- a regular file ------------------------------------------------------------------------------------------ */

START_TEST(an_empty_file_grows_and_is_emptied_at_the_end)
{
	struct swapfile sf;
	struct stat st;

	make_file(in_dir("empty"), 0, false);
	opens(&sf, in_dir("empty"), 3 * MIB);
	ck_assert_int_eq(sf.kind, SWAPFILE_REGULAR);
	ck_assert(sf.can_trim);
	ck_assert_uint_eq(sf.bytes, 3 * MIB);
	write_all(&sf, 3 * MIB, 1);
	ck_assert_uint_ge(disk_bytes(sf.fd), 3 * MIB);
	ck_assert_int_eq(swapfile_trim(&sf, 0, 2 * MIB), 0);
	ck_assert_uint_lt(disk_bytes(sf.fd), 2 * MIB);
	swapfile_close(&sf);
	ck_assert_int_eq(stat(in_dir("empty"), &st), 0);
	ck_assert_int_eq(st.st_size, 0);
	opens(&sf, in_dir("empty"), 0);
	ck_assert_uint_gt(sf.bytes, MIB);
	swapfile_close(&sf);
	ck_assert_int_eq(stat(in_dir("empty"), &st), 0);
	ck_assert_int_eq(st.st_size, 0);
}
END_TEST

START_TEST(a_full_file_is_used_to_its_length_and_never_punched)
{
	struct swapfile sf;
	struct stat before, after;

	make_file(in_dir("full"), 2 * MIB + 64 * 1024, true);
	ck_assert_int_eq(truncate(in_dir("full"), 2 * MIB + 5000), 0);
	ck_assert_int_eq(stat(in_dir("full"), &before), 0);
	opens(&sf, in_dir("full"), 0);
	ck_assert_uint_eq(sf.bytes, 2 * MIB + PAGE);
	ck_assert(!sf.can_trim);
	ck_assert_int_eq(swapfile_trim(&sf, 0, MIB), -EOPNOTSUPP);
	write_all(&sf, 2 * MIB, 3);
	swapfile_close(&sf);
	ck_assert_int_eq(stat(in_dir("full"), &after), 0);
	ck_assert_int_eq(after.st_size, before.st_size);
	ck_assert_int_ge(after.st_blocks, before.st_blocks);
	opens(&sf, in_dir("full"), MIB + 1);
	ck_assert_uint_eq(sf.bytes, MIB);
	swapfile_close(&sf);
}
END_TEST

START_TEST(a_sparse_file_keeps_its_length_and_is_punched_when_closed)
{
	struct swapfile sf;
	struct stat st;

	make_file(in_dir("sparse"), 4 * MIB, false);
	opens(&sf, in_dir("sparse"), 0);
	ck_assert_uint_eq(sf.bytes, 4 * MIB);
	ck_assert(sf.can_trim);
	write_all(&sf, 4 * MIB, 9);
	ck_assert_uint_ge(disk_bytes(sf.fd), 4 * MIB);
	swapfile_close(&sf);
	ck_assert_int_eq(stat(in_dir("sparse"), &st), 0);
	ck_assert_int_eq(st.st_size, 4 * MIB);
	ck_assert_int_lt(st.st_blocks, MIB / 512);
}
END_TEST

START_TEST(a_failed_opening_leaves_the_file_alone)
{
	struct swapfile sf = { .fd = -1 };
	char byte = 'x';

	/* A sparse file with data in it, and an empty one, each asked for what it cannot give. */
	make_file(in_dir("sparse"), 4 * MIB, false);
	sf.fd = open(in_dir("sparse"), O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(pwrite(sf.fd, &byte, 1, 0), 1);
	refuses(in_dir("sparse"), 8 * MIB, -ENOSPC, "too small");
	byte = 0;
	ck_assert_int_eq(pread(sf.fd, &byte, 1, 0), 1);
	ck_assert_int_eq(byte, 'x');
	close(sf.fd);
}
END_TEST

START_TEST(a_file_in_use_is_busy_until_its_user_ends)
{
	struct swapfile sf;
	struct stat st;
	int status, ready[2];
	char byte;
	pid_t pid;

	make_file(in_dir("one"), 0, false);
	opens(&sf, in_dir("one"), MIB);
	refuses(in_dir("one"), MIB, -EBUSY, "in use");
	ck_assert_int_eq(stat(in_dir("one"), &st), 0);
	ck_assert_int_eq(st.st_size, MIB); /* whoever was refused did not empty it */
	swapfile_close(&sf);
	/* A user that is killed; and while we wait for the lock, at that. */
	ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		_exit(swapfile_open(&sf, in_dir("one"), MIB, why, sizeof(why)) < 0 || write(ready[1], "x", 1) != 1 ||
		      usleep(300000) || raise(SIGKILL));
	}
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	opens(&sf, in_dir("one"), MIB);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert_uint_eq(sf.bytes, MIB);
	swapfile_close(&sf);
}
END_TEST

/* --- what does not work -------------------------------------------------------------------------------------- */

START_TEST(wrong_paths_are_named)
{
	refuses(in_dir("none"), 0, -ENOENT, "no such file or directory");
	make_file(in_dir("file"), 2 * MIB, false);
	refuses(in_dir("file/below"), 0, -ENOTDIR, "Not a directory");
	refuses("/dev/null", 0, -EINVAL, "not a directory, file or block device");
	ck_assert_int_eq(mkfifo(in_dir("fifo"), 0600), 0);
	refuses(in_dir("fifo"), 0, -EINVAL, "not a directory, file or block device");
	ck_assert_int_eq(symlink("nowhere", in_dir("link")), 0);
	refuses(in_dir("link"), 0, -ENOENT, "no such file or directory");
}
END_TEST

START_TEST(a_file_system_without_unnamed_files_is_said)
{
	if (geteuid() != 0) { /* others may not write there, which comes first */
		skip(__func__, "needs root");
		return;
	}
	refuses("/proc", 0, -EOPNOTSUPP, "this file system has no unnamed files (O_TMPFILE)");
}
END_TEST

START_TEST(a_long_path_does_not_overflow_the_line)
{
	struct swapfile sf;
	char line[16 + 8];

	memset(line, 'Z', sizeof(line));
	ck_assert_int_eq(swapfile_open(&sf, "/nowhere/at/all/really", 0, line, 16), -ENOENT);
	ck_assert_str_eq(line, "swap=/nowhere/a");
	ck_assert_int_eq(line[16], 'Z');
	ck_assert_int_eq(swapfile_open(&sf, "/nowhere", 0, line + 16, 0), -ENOENT);
	ck_assert_int_eq(line[16], 'Z');
}
END_TEST

START_TEST(what_may_not_be_written_is_said)
{
	make_file(in_dir("file"), 2 * MIB, false);
	ck_assert_int_eq(chmod(in_dir("file"), 0400), 0);
	ck_assert_int_eq(chmod(dir, 0555), 0);
	if (geteuid() == 0)
		ck_assert_int_eq(seteuid(65534), 0); /* its capabilities go with it */
	refuses(in_dir("file"), 0, -EACCES, "not writable");
	refuses(dir, MIB, -EACCES, "not writable");
	ck_assert_int_eq(seteuid(getuid()), 0);
	ck_assert_int_eq(chmod(dir, 0700), 0);
}
END_TEST

START_TEST(a_read_only_file_system_is_said)
{
	if (!may_mount(__func__))
		return;
	make_file(in_dir("file"), 2 * MIB, false);
	ck_assert_int_eq(mount(dir, dir, NULL, MS_BIND, NULL), 0);
	ck_assert_int_eq(mount(NULL, dir, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
	refuses(dir, MIB, -EROFS, "read-only file system");
	refuses(in_dir("file"), 0, -EROFS, "read-only file system");
	ck_assert_int_eq(umount(dir), 0);
}
END_TEST

START_TEST(a_file_system_without_direct_io_is_said)
{
	if (!may_mount(__func__))
		return;
	if (mount("ramfs", dir, "ramfs", 0, NULL) < 0) {
		skip(__func__, "no ramfs here");
		return;
	}
	make_file(in_dir("file"), 2 * MIB, false);
	refuses(dir, MIB, -EINVAL, "O_DIRECT");
	refuses(in_dir("file"), 0, -EINVAL, "O_DIRECT");
	ck_assert_int_eq(umount(dir), 0);
}
END_TEST

/* --- a block device ------------------------------------------------------------------------------------------ */

/*
 * A loop device on path: its name in dev.  It goes away when the descriptor returned (and every other) is closed,
 * so a failed test leaves none.  -1, with a word, if there is none to be had.
 */
static int loop_up(const char *path, char *dev, int len, const char *test)
{
	char command[PATH_MAX + 64];
	FILE *pipe;
	bool up;
	int hold;

	snprintf(command, sizeof(command), "losetup --find --show '%s' 2>/dev/null", path);
	pipe = popen(command, "re");
	ck_assert_ptr_nonnull(pipe);
	up = fgets(dev, len, pipe) != NULL;
	if (pclose(pipe) != 0 || !up) {
		skip(test, "no loop device to be had");
		return -1;
	}
	dev[strcspn(dev, "\n")] = '\0';
	hold = open(dev, O_RDONLY | O_CLOEXEC);
	snprintf(command, sizeof(command), "losetup -d '%s'", dev);
	ck_assert_int_eq(system(command), 0);
	ck_assert_int_ge(hold, 0);
	return hold;
}

START_TEST(a_block_device_is_used_alone_and_discarded)
{
	struct swapfile sf;
	char dev[64];
	int backing, hold;

	make_file(in_dir("disk"), 4 * MIB, false);
	hold = loop_up(in_dir("disk"), dev, sizeof(dev), __func__);
	if (hold < 0)
		return;
	backing = open(in_dir("disk"), O_RDONLY | O_CLOEXEC);
	opens(&sf, dev, 0);
	ck_assert_int_eq(sf.kind, SWAPFILE_BLOCK);
	ck_assert_uint_eq(sf.bytes, 4 * MIB);
	refuses(dev, 0, -EBUSY, "in use");
	write_all(&sf, 4 * MIB, 5);
	ck_assert_uint_ge(disk_bytes(backing), 4 * MIB);
	ck_assert_int_eq(swapfile_trim(&sf, MIB, 2 * MIB), 0);
	ck_assert_uint_le(disk_bytes(backing), 2 * MIB + 64 * 1024);
	ck_assert(page_is(&sf, 0, 5));
	ck_assert(page_is(&sf, 1023, 5));
	swapfile_close(&sf);
	refuses(dev, 5 * MIB, -ENOSPC, "there are 4194304");
	opens(&sf, dev, 2 * MIB);
	ck_assert_uint_eq(sf.bytes, 2 * MIB);
	swapfile_close(&sf);
	close(backing);
	close(hold);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("swapfile");
	TCase *tc = tcase_create("swapfile");

	tcase_set_timeout(tc, 60);
	tcase_add_unchecked_fixture(tc, set_up_all, tear_down_all);
	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_test(tc, a_directory_gets_an_unnamed_private_file);
	tcase_add_test(tc, a_directory_without_a_size_gets_half_of_what_is_free);
	tcase_add_test(tc, a_reserve_larger_than_the_disk_is_refused_before_it_is_filled);
	tcase_add_test(tc, trimming_gives_disk_space_back_and_nothing_else);
	tcase_add_test(tc, a_refused_trim_is_not_tried_again);
	tcase_add_test(tc, too_little_is_said);
	tcase_add_test(tc, an_empty_file_grows_and_is_emptied_at_the_end);
	tcase_add_test(tc, a_full_file_is_used_to_its_length_and_never_punched);
	tcase_add_test(tc, a_sparse_file_keeps_its_length_and_is_punched_when_closed);
	tcase_add_test(tc, a_failed_opening_leaves_the_file_alone);
	tcase_add_test(tc, a_file_in_use_is_busy_until_its_user_ends);
	tcase_add_test(tc, wrong_paths_are_named);
	tcase_add_test(tc, a_file_system_without_unnamed_files_is_said);
	tcase_add_test(tc, a_long_path_does_not_overflow_the_line);
	tcase_add_test(tc, what_may_not_be_written_is_said);
	tcase_add_test(tc, a_read_only_file_system_is_said);
	tcase_add_test(tc, a_file_system_without_direct_io_is_said);
	tcase_add_test(tc, a_block_device_is_used_alone_and_discarded);
	suite_add_tcase(suite, tc);
	return run_suite(suite, CK_FORK_GETENV);
}
