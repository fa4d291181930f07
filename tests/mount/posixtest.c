/* SPDX-License-Identifier: MIT */
/*
 * posixtest: names, open flags, permissions, times and links, as POSIX and tmpfs have them.  Each case runs in
 * its own process (check_that.h); cases that need another user's identity skip without root.
 */
#include "tests/mount/check_that.h"

#include <linux/stat.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>

#define OWNER 1000
#define OTHER 1001

static void need_root(void)
{
	if (geteuid() != 0)
		check_skip("needs root");
}

/* Runs fn as an ordinary user in a child; its checks are this case's checks. */
static void as_user(uid_t uid, void (*fn)(void))
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		check_become(uid, uid);
		fn();
		_exit(0);
	}
	check_child(pid);
}

static mode_t mode_of(const char *path)
{
	return check_stat(path).st_mode & 07777;
}

static void names_longer_than_255_bytes_are_refused(void)
{
	char ok[256], bad[257];
	struct stat st;

	memset(ok, 'n', 255);
	ok[255] = '\0';
	memset(bad, 'n', 256);
	bad[256] = '\0';
	check_make_file(ok, 1, 1);
	CHECK_EQ(check_stat(ok).st_size, 1);
	CHECK_ERR(open(bad, O_RDWR | O_CREAT, 0600), ENAMETOOLONG);
	CHECK_ERR(stat(bad, &st), ENAMETOOLONG);
	CHECK_ERR(mkdir(bad, 0700), ENAMETOOLONG);
	CHECK_ERR(symlink("x", bad), ENAMETOOLONG);
	CHECK_ERR(mknod(bad, S_IFIFO | 0600, 0), ENAMETOOLONG);
	CHECK_ERR(link(ok, bad), ENAMETOOLONG);
	CHECK_ERR(rename(ok, bad), ENAMETOOLONG);
	CHECK_ERR(rename(bad, ok), ENAMETOOLONG);
	CHECK_ERR(unlink(bad), ENAMETOOLONG);
	CHECK_ERR(rmdir(bad), ENAMETOOLONG);
}

static void symlinks_hold_up_to_4095_bytes(void)
{
	static char target[4097], got[4097];
	static const int lengths[] = { 1, 59, 128, 1000, 4095 };

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		char name[16];

		memset(target, 't', sizeof(target));
		target[lengths[i]] = '\0';
		snprintf(name, sizeof(name), "s%d", lengths[i]);
		CHECK_EQ(symlink(target, name), 0);
		CHECK_EQ(readlink(name, got, sizeof(got)), lengths[i]);
		CHECK(memcmp(got, target, (size_t)lengths[i]) == 0);
		CHECK_EQ(check_stat(name).st_size, lengths[i]);
	}
	memset(target, 't', sizeof(target));
	target[4096] = '\0';
	CHECK_ERR(symlink(target, "long"), ENAMETOOLONG);
	CHECK_EQ(symlink("loop2", "loop1"), 0);
	CHECK_EQ(symlink("loop1", "loop2"), 0);
	CHECK_ERR(open("loop1", O_RDONLY), ELOOP);
	CHECK_ERR(symlink("x", "loop1"), EEXIST);
}

static void open_flags(void)
{
	struct stat st;
	int fd;

	check_make_file("f", 5000, 1);
	CHECK_ERR(open("f", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	CHECK_ERR(open("absent", O_RDWR), ENOENT);
	CHECK_ERR(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
	CHECK_ERR(open(".", O_RDWR), EISDIR);
	CHECK_EQ(symlink("f", "s"), 0);
	CHECK_ERR(open("s", O_RDONLY | O_NOFOLLOW), ELOOP);
	CHECK_ERR(open("s", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	fd = check_open("s", O_PATH | O_NOFOLLOW, 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK(S_ISLNK(st.st_mode));
	fd = check_open("f", O_WRONLY | O_TRUNC, 0);
	CHECK_EQ(check_stat("f").st_size, 0);
	CHECK_EQ(check_stat("f").st_blocks, 0);
	CHECK_ERR(read(fd, &st, 1), EBADF);
	fd = check_open("f", O_RDONLY, 0);
	CHECK_ERR(write(fd, "x", 1), EBADF);
	umask(027);
	close(check_open("masked", O_CREAT | O_WRONLY, 0666));
	CHECK_EQ(mode_of("masked"), 0640);
}

static void sticky_as_other(void)
{
	CHECK_ERR(unlink("sticky/f"), EPERM);
	CHECK_ERR(rename("sticky/f", "sticky/g"), EPERM);
	CHECK_ERR(rmdir("sticky/d"), EPERM);
	check_make_file("sticky/mine", 1, 1);
	CHECK_ERR(rename("sticky/mine", "sticky/f"), EPERM);
	CHECK_EQ(unlink("sticky/mine"), 0);
}

static void sticky_as_owner(void)
{
	CHECK_EQ(rename("sticky/f", "sticky/g"), 0);
	CHECK_EQ(unlink("sticky/g"), 0);
}

static void sticky_directories_keep_others_files(void)
{
	need_root();
	CHECK_EQ(mkdir("sticky", 0777), 0);
	CHECK_EQ(chmod("sticky", 01777), 0);
	CHECK_EQ(mode_of("sticky"), 01777);
	check_make_file("sticky/f", 1, 1);
	CHECK_EQ(mkdir("sticky/d", 0777), 0);
	CHECK_EQ(chown("sticky/f", OWNER, OWNER), 0);
	as_user(OTHER, sticky_as_other);
	as_user(OWNER, sticky_as_owner);
}

static void no_access(void)
{
	CHECK_ERR(open("secret", O_RDONLY), EACCES);
	CHECK_ERR(open("secret", O_WRONLY), EACCES);
	CHECK_ERR(open("new", O_WRONLY | O_CREAT, 0600), EACCES);
	CHECK_ERR(open("closed/f", O_RDONLY), EACCES);
	CHECK_ERR(chmod("secret", 0777), EPERM);
	CHECK_ERR(chown("secret", OTHER, OTHER), EPERM);
	CHECK_ERR(truncate("secret", 0), EACCES);
	CHECK_ERR(unlink("secret"), EACCES);
	CHECK_ERR(access("readable", W_OK), EACCES);
	CHECK_EQ(access("readable", R_OK), 0);
}

static void permissions_are_enforced(void)
{
	need_root();
	check_make_file("secret", 10, 1);
	CHECK_EQ(chmod("secret", 0600), 0);
	check_make_file("readable", 10, 1);
	CHECK_EQ(mkdir("closed", 0700), 0);
	check_make_file("closed/f", 10, 1);
	as_user(OTHER, no_access);
}

static void make_in_shared(void)
{
	check_make_file("shared/f", 1, 1);
	CHECK_EQ(mkdir("shared/d", 0755), 0);
}

static void setgid_directories_pass_their_group_on(void)
{
	need_root();
	CHECK_EQ(mkdir("shared", 0777), 0);
	CHECK_EQ(chown("shared", 0, 4321), 0);
	CHECK_EQ(chmod("shared", 02777), 0);
	as_user(OWNER, make_in_shared);
	CHECK_EQ(check_stat("shared/f").st_gid, 4321);
	CHECK_EQ(check_stat("shared/f").st_uid, OWNER);
	CHECK_EQ(check_stat("shared/d").st_gid, 4321);
	CHECK_EQ(mode_of("shared/d"), 02755);
	CHECK_EQ(symlink("x", "shared/s"), 0);
	CHECK_EQ(check_stat("shared/s").st_gid, 4321);
	CHECK_EQ(mknod("shared/p", S_IFIFO | 0600, 0), 0);
	CHECK_EQ(check_stat("shared/p").st_gid, 4321);
	close(check_open("shared", O_TMPFILE | O_WRONLY, 0600));
}

static void write_one(void)
{
	int fd = check_open("f", O_WRONLY, 0);

	CHECK_EQ(write(fd, "x", 1), 1);
}

static void truncate_one(void)
{
	CHECK_EQ(truncate("f", 5), 0);
}

static void open_trunc(void)
{
	close(check_open("f", O_WRONLY | O_TRUNC, 0));
}

static void fallocate_one(void)
{
	int fd = check_open("f", O_WRONLY, 0);

	CHECK_EQ(fallocate(fd, 0, 0, 10000), 0);
}

static void chown_own(void)
{
	CHECK_EQ(chown("f", (uid_t)-1, OWNER), 0);
}

static void suid_and_sgid_go_when_others_write(void)
{
	void (*change[])(void) = { write_one, truncate_one, open_trunc, fallocate_one };

	need_root();
	for (size_t i = 0; i < sizeof(change) / sizeof(change[0]); i++) {
		unlink("f");
		check_make_file("f", 100, 1);
		CHECK_EQ(chown("f", OWNER, OWNER), 0);
		CHECK_EQ(chmod("f", 06777), 0);
		CHECK_EQ(mode_of("f"), 06777);
		as_user(OTHER, change[i]);
		if (mode_of("f") != 0777)
			printf("     change %zu of write, truncate, O_TRUNC, fallocate:\n", i);
		CHECK_EQ(mode_of("f"), 0777);
	}
}

static void suid_and_sgid_go_with_chown_and_stay_for_root(void)
{
	need_root();
	check_make_file("f", 100, 1);
	CHECK_EQ(chown("f", OWNER, OWNER), 0);
	CHECK_EQ(chmod("f", 06777), 0);
	write_one();
	CHECK_EQ(mode_of("f"), 06777);
	truncate_one();
	CHECK_EQ(mode_of("f"), 06777);
	as_user(OWNER, chown_own);
	CHECK_EQ(mode_of("f"), 0777);
	CHECK_EQ(chmod("f", 06777), 0);
	CHECK_EQ(chown("f", OTHER, OTHER), 0);
	CHECK_EQ(mode_of("f"), 0777);
}

static void unlinked_files_live_until_closed(void)
{
	char buf[9000], want[9000];
	struct stat st;
	int fd;

	check_make_file("f", sizeof(buf), 7);
	check_fill(want, sizeof(want), 7);
	fd = check_open("f", O_RDWR, 0);
	CHECK_EQ(unlink("f"), 0);
	CHECK_ERR(open("f", O_RDONLY), ENOENT);
	check_make_file("f", 10, 8); /* the name is free for another file at once */
	check_drop(fd);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	CHECK(memcmp(buf, want, sizeof(buf)) == 0);
	CHECK_EQ(pwrite(fd, "end", 3, 20000), 3);
	CHECK_EQ(ftruncate(fd, 20002), 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_nlink, 0);
	CHECK_EQ(st.st_size, 20002);
	check_drop(fd);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 20000), 2);
	CHECK(memcmp(buf, "en", 2) == 0);
	CHECK_EQ(fchmod(fd, 0400), 0);
	CHECK_EQ(close(fd), 0);
}

static void o_tmpfile_and_linkat(void)
{
	char proc[64], buf[10];
	struct stat st;
	int fd = check_open(".", O_TMPFILE | O_RDWR, 0640);

	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_nlink, 0);
	CHECK_EQ(st.st_mode, S_IFREG | 0640);
	CHECK_EQ(write(fd, "0123456789", 10), 10);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	CHECK_EQ(linkat(AT_FDCWD, proc, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW), 0);
	CHECK_EQ(check_stat("linked").st_nlink, 1);
	CHECK_EQ(check_stat("linked").st_ino, st.st_ino);
	CHECK_EQ(close(fd), 0);
	fd = check_open("linked", O_RDONLY, 0);
	CHECK_EQ(read(fd, buf, 10), 10);
	CHECK(memcmp(buf, "0123456789", 10) == 0);
	fd = check_open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	CHECK_ERR(linkat(AT_FDCWD, proc, AT_FDCWD, "never", AT_SYMLINK_FOLLOW), ENOENT);
	CHECK_ERR(open("linked", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
}

static void mknod_makes_fifos_sockets_and_devices(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "sock" };
	char buf[5];
	int fd, sock;

	CHECK_EQ(mkfifo("fifo", 0600), 0);
	CHECK(S_ISFIFO(check_stat("fifo").st_mode));
	fd = check_open("fifo", O_RDWR, 0);
	CHECK_EQ(write(fd, "hello", 5), 5);
	CHECK_EQ(read(fd, buf, 5), 5);
	CHECK(memcmp(buf, "hello", 5) == 0);
	sock = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(sock >= 0);
	CHECK_EQ(bind(sock, (struct sockaddr *)&addr, sizeof(addr)), 0);
	CHECK_EQ(listen(sock, 1), 0);
	CHECK(S_ISSOCK(check_stat("sock").st_mode));
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_EQ(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	CHECK_EQ(mknod("plain", S_IFREG | 0604, 0), 0);
	CHECK_EQ(check_stat("plain").st_mode, S_IFREG | 0604);
	CHECK_ERR(mknod("plain", S_IFREG | 0604, 0), EEXIST);
	if (geteuid() == 0) {
		CHECK_EQ(mknod("dev", S_IFCHR | 0600, makedev(1, 3)), 0);
		CHECK(S_ISCHR(check_stat("dev").st_mode));
		CHECK_EQ(check_stat("dev").st_rdev, makedev(1, 3));
		CHECK_EQ(mknod("blk", S_IFBLK | 0600, makedev(259, 70000)), 0);
		CHECK_EQ(check_stat("blk").st_rdev, makedev(259, 70000));
	}
}

static void touch_others(void)
{
	struct timespec set[2] = { { 1, 1 }, { 1, 1 } };
	struct timespec now[2] = { { 0, UTIME_NOW }, { 0, UTIME_NOW } };

	CHECK_ERR(utimensat(AT_FDCWD, "f", set, 0), EPERM);
	CHECK_ERR(utimensat(AT_FDCWD, "f", now, 0), EACCES);
}

static void utimensat_omit_and_now(void)
{
	struct timespec ts[2] = { { 1000000001, 123456789 }, { 1500000002, 987654321 } };
	struct timespec omit[2] = { { 0, UTIME_OMIT }, { 42, 43 } };
	struct timespec now[2] = { { 0, UTIME_NOW }, { 0, UTIME_OMIT } };
	struct stat st;

	check_make_file("f", 1, 1);
	CHECK_EQ(utimensat(AT_FDCWD, "f", ts, 0), 0);
	st = check_stat("f");
	CHECK_EQ(st.st_atim.tv_sec, 1000000001);
	CHECK_EQ(st.st_atim.tv_nsec, 123456789);
	CHECK_EQ(st.st_mtim.tv_sec, 1500000002);
	CHECK_EQ(st.st_mtim.tv_nsec, 987654321);
	CHECK_EQ(utimensat(AT_FDCWD, "f", omit, 0), 0);
	st = check_stat("f");
	CHECK_EQ(st.st_atim.tv_sec, 1000000001);
	CHECK_EQ(st.st_mtim.tv_sec, 42);
	CHECK_EQ(st.st_mtim.tv_nsec, 43);
	CHECK_EQ(utimensat(AT_FDCWD, "f", now, 0), 0);
	st = check_stat("f");
	CHECK(st.st_atim.tv_sec >= time(NULL) - 10);
	CHECK_EQ(st.st_mtim.tv_sec, 42);
	if (geteuid() == 0)
		as_user(OTHER, touch_others);
}

/* With a writeback cache the kernel owns mtime for a while: what was set must win over what is written back. */
static void set_times_survive_write_back(void)
{
	struct timespec ts[2] = { { 1000, 5 }, { 2000, 6 } };
	char page[PAGE];
	int fd = check_open("f", O_RDWR | O_CREAT, 0600);

	check_fill(page, sizeof(page), 1);
	CHECK_EQ(write(fd, page, sizeof(page)), sizeof(page));
	CHECK_EQ(futimens(fd, ts), 0);
	CHECK_EQ(check_stat("f").st_mtim.tv_sec, 2000);
	check_drop(fd);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(check_stat("f").st_mtim.tv_sec, 2000);
	CHECK_EQ(check_stat("f").st_mtim.tv_nsec, 6);
	fd = check_open("f", O_WRONLY, 0);
	CHECK_EQ(write(fd, "x", 1), 1);
	CHECK(check_stat("f").st_mtim.tv_sec >= time(NULL) - 10);
	CHECK_EQ(close(fd), 0);
	CHECK(check_stat("f").st_mtim.tv_sec >= time(NULL) - 10);
}

static bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static void changes_advance_ctime_and_the_directorys_mtime(void)
{
	const struct timespec pause = { 0, 15000000 };
	struct stat dir, f;

	CHECK_EQ(mkdir("d", 0755), 0);
	dir = check_stat("d");
	nanosleep(&pause, NULL);
	check_make_file("d/f", 1, 1);
	CHECK(later(check_stat("d").st_mtim, dir.st_mtim));
	CHECK(later(check_stat("d").st_ctim, dir.st_ctim));
	f = check_stat("d/f");
	nanosleep(&pause, NULL);
	CHECK_EQ(chmod("d/f", 0600), 0);
	CHECK(later(check_stat("d/f").st_ctim, f.st_ctim));
	CHECK(!later(check_stat("d/f").st_mtim, f.st_mtim));
	f = check_stat("d/f");
	dir = check_stat("d");
	nanosleep(&pause, NULL);
	CHECK_EQ(link("d/f", "d/g"), 0);
	CHECK(later(check_stat("d/f").st_ctim, f.st_ctim));
	CHECK(later(check_stat("d").st_mtim, dir.st_mtim));
	f = check_stat("d/f");
	dir = check_stat("d");
	nanosleep(&pause, NULL);
	CHECK_EQ(unlink("d/g"), 0);
	CHECK(later(check_stat("d/f").st_ctim, f.st_ctim));
	CHECK(later(check_stat("d").st_mtim, dir.st_mtim));
	f = check_stat("d/f");
	nanosleep(&pause, NULL);
	CHECK_EQ(truncate("d/f", 100), 0);
	CHECK(later(check_stat("d/f").st_mtim, f.st_mtim));
}

static void statx_tells_the_birth_time(void)
{
	struct statx a, b;

	check_make_file("f", 1, 1);
	CHECK_EQ(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &a), 0);
	CHECK(a.stx_mask & STATX_BTIME);
	CHECK(a.stx_btime.tv_sec <= time(NULL) + 1 && a.stx_btime.tv_sec >= time(NULL) - 60);
	check_make_file("f", 10, 2);
	CHECK_EQ(chmod("f", 0600), 0);
	CHECK_EQ(rename("f", "g"), 0);
	CHECK_EQ(statx(AT_FDCWD, "g", 0, STATX_BASIC_STATS | STATX_BTIME, &b), 0);
	CHECK_EQ(b.stx_btime.tv_sec, a.stx_btime.tv_sec);
	CHECK_EQ(b.stx_btime.tv_nsec, a.stx_btime.tv_nsec);
}

static void hard_links_share_everything(void)
{
	struct stat a, b;

	check_make_file("a", 10, 1);
	CHECK_EQ(link("a", "b"), 0);
	CHECK_EQ(chmod("b", 0604), 0);
	CHECK_EQ(truncate("b", 5000), 0);
	a = check_stat("a");
	b = check_stat("b");
	CHECK_EQ(a.st_ino, b.st_ino);
	CHECK_EQ(a.st_nlink, 2);
	CHECK_EQ(a.st_size, 5000);
	CHECK_EQ(a.st_mode, S_IFREG | 0604);
	CHECK_EQ(rename("a", "b"), 0); /* two names of one file: nothing happens */
	CHECK_EQ(check_stat("a").st_nlink, 2);
	CHECK_EQ(unlink("a"), 0);
	CHECK_EQ(check_stat("b").st_nlink, 1);
	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_ERR(link("d", "e"), EPERM);
	CHECK_ERR(link("b", "d"), EEXIST);
	CHECK_ERR(link("absent", "e"), ENOENT);
}

static const struct check_case cases[] = {
	CASE(names_longer_than_255_bytes_are_refused),
	CASE(symlinks_hold_up_to_4095_bytes),
	CASE(open_flags),
	CASE(sticky_directories_keep_others_files),
	CASE(permissions_are_enforced),
	CASE(setgid_directories_pass_their_group_on),
	CASE(suid_and_sgid_go_when_others_write),
	CASE(suid_and_sgid_go_with_chown_and_stay_for_root),
	CASE(unlinked_files_live_until_closed),
	CASE(o_tmpfile_and_linkat),
	CASE(mknod_makes_fifos_sockets_and_devices),
	CASE(utimensat_omit_and_now),
	CASE(set_times_survive_write_back),
	CASE(changes_advance_ctime_and_the_directorys_mtime),
	CASE(statx_tells_the_birth_time),
	CASE(hard_links_share_everything),
};

int main(int argc, char **argv)
{
	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
