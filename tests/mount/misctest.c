/* SPDX-License-Identifier: MIT */
/*
 * misctest: the rest of what programs expect of a tmpfs: special files, leases, notification, limits, flags of reads
 * and writes.  Each case runs in its own process (check_that.h); tmpfs-like.sh runs all of it on a tmpfs as well, so
 * that it says what tmpfs does.
 */
#include "tests/mount/check_that.h"

#include <dirent.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>

#define OTHER 1001

/* --- special files ---------------------------------------------------------------------------------------------- */

static void fifos_connect_two_processes(void)
{
	char buf[4] = "";
	pid_t pid;
	int fd;

	CHECK_EQ(mkfifo("p", 0600), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		fd = check_open("p", O_WRONLY, 0);
		CHECK_EQ(write(fd, "abc", 3), 3);
		_exit(0);
	}
	fd = check_open("p", O_RDONLY, 0);
	CHECK_EQ(read(fd, buf, 4), 3);
	CHECK(memcmp(buf, "abc", 3) == 0);
	check_child(pid);
	CHECK_EQ(check_stat("p").st_size, 0);
}

static void sockets_are_bound_and_connected_to(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0), fd;
	char c;

	CHECK_EQ(bind(server, (struct sockaddr *)&addr, sizeof(addr)), 0);
	CHECK(S_ISSOCK(check_stat("sock").st_mode));
	CHECK_EQ(listen(server, 1), 0);
	CHECK_EQ(connect(client, (struct sockaddr *)&addr, sizeof(addr)), 0);
	fd = accept(server, NULL, NULL);
	CHECK(fd >= 0);
	CHECK_EQ(write(client, "x", 1), 1);
	CHECK_EQ(read(fd, &c, 1), 1);
	CHECK_EQ(c, 'x');
	CHECK_ERR(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&addr, sizeof(addr)), EADDRINUSE);
	CHECK_ERR(open("sock", O_RDONLY), ENXIO);
	CHECK_EQ(rename("sock", "sock2"), 0);
	strcpy(addr.sun_path, "sock2");
	CHECK_EQ(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&addr, sizeof(addr)), 0);
	CHECK_EQ(unlink("sock2"), 0);
	CHECK_ERR(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&addr, sizeof(addr)), ENOENT);
}

static void devices_work(void)
{
	char buf[16];
	int fd;

	check_need_root();
	CHECK_EQ(mknod("null", S_IFCHR | 0666, makedev(1, 3)), 0);
	CHECK_EQ(mknod("zero", S_IFCHR | 0666, makedev(1, 5)), 0);
	CHECK_EQ(mknod("block", S_IFBLK | 0600, makedev(259, 12345)), 0);
	fd = check_open("zero", O_RDONLY, 0);
	CHECK_EQ(read(fd, buf, 16), 16);
	CHECK(check_zeroes(buf, 16));
	CHECK_EQ(write(check_open("null", O_WRONLY, 0), buf, 16), 16);
	CHECK_ERR(open("block", O_RDONLY), ENXIO);
	CHECK_EQ(mknod("regular", S_IFREG | 0640, 0), 0);
	CHECK_EQ(mknod("typeless", 0640, 0), 0);
	CHECK_EQ(check_stat("typeless").st_mode, S_IFREG | 0640);
	CHECK_ERR(mknod("dir", S_IFDIR | 0755, 0), EPERM);
	CHECK_ERR(mknod("link", S_IFLNK | 0777, 0), EINVAL);
}

/* --- programs, leases, notification ------------------------------------------------------------------------------- */

static void copy_program(const char *to)
{
	int in = check_open("/proc/self/exe", O_RDONLY, 0), out = check_open(to, O_WRONLY | O_CREAT, 0755);
	ssize_t n;

	while ((n = sendfile(out, in, NULL, 1 << 20)) > 0)
		;
	CHECK_EQ(n, 0);
	close(in);
	close(out);
}

static void a_running_program_is_not_written_to(void)
{
	int go[2], up[2], fd;
	char c;
	pid_t pid;

	CHECK_EQ(pipe(go), 0);
	CHECK_EQ(pipe(up), 0);
	copy_program("prog");
	fd = check_open("prog", O_WRONLY, 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		execl("prog", "prog", "--wait", NULL);
		_exit(errno == ETXTBSY ? 0 : 1); /* open for writing: not to be run */
	}
	check_child(pid);
	close(fd);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		dup2(go[0], 0);
		dup2(up[1], 1);
		close(go[1]);
		execl("prog", "prog", "--wait", NULL);
		_exit(1);
	}
	close(go[0]);
	CHECK_EQ(read(up[0], &c, 1), 1); /* it runs */
	CHECK_ERR(open("prog", O_WRONLY), ETXTBSY);
	CHECK_ERR(truncate("prog", 0), ETXTBSY);
	CHECK_EQ(unlink("prog"), 0);
	CHECK_EQ(close(go[1]), 0);
	check_child(pid);
}

static void leases_are_broken(void)
{
	int fd, other;

	check_make_file("f", 1, 1);
	fd = check_open("f", O_RDONLY, 0);
	CHECK_EQ(fcntl(fd, F_GETLEASE), F_UNLCK);
	CHECK_EQ(fcntl(fd, F_SETLEASE, F_RDLCK), 0);
	CHECK_EQ(fcntl(fd, F_GETLEASE), F_RDLCK);
	signal(SIGIO, SIG_IGN);
	other = open("f", O_WRONLY | O_NONBLOCK);
	CHECK(other == -1 && errno == EWOULDBLOCK);
	CHECK_EQ(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
	other = check_open("f", O_WRONLY | O_NONBLOCK, 0);
	CHECK_ERR(fcntl(fd, F_SETLEASE, F_RDLCK), EAGAIN); /* it is open for writing */
	close(other);
	CHECK_EQ(fcntl(fd, F_SETLEASE, F_WRLCK), 0);
	close(fd);
}

/* The first that has come. */
static uint32_t first_event(int fd, char *name)
{
	char buf[4096] __attribute__((aligned(8)));
	struct inotify_event *event = (struct inotify_event *)(void *)buf;

	if (read(fd, buf, sizeof(buf)) <= 0)
		return 0;
	snprintf(name, NAME_MAX + 1, "%.255s", event->len ? event->name : "");
	return event->mask;
}

static void inotify_tells_of_changes(void)
{
	static const uint32_t masks[] = { IN_CREATE, IN_MODIFY, IN_ATTRIB, IN_MOVED_FROM, IN_DELETE };
	int fds[5];
	char name[NAME_MAX + 1];

	for (int i = 0; i < 5; i++) {
		fds[i] = inotify_init1(IN_NONBLOCK);
		CHECK(fds[i] >= 0);
		CHECK(inotify_add_watch(fds[i], ".", masks[i]) >= 0);
	}
	check_make_file("f", 1, 1);
	CHECK_EQ(chmod("f", 0600), 0);
	CHECK_EQ(rename("f", "g"), 0);
	CHECK_EQ(unlink("g"), 0);
	for (int i = 0; i < 5; i++) {
		CHECK_EQ(first_event(fds[i], name), masks[i]);
		CHECK(strcmp(name, i == 4 ? "g" : "f") == 0);
	}
}

static void fanotify_tells_of_changes(void)
{
	char buf[4096] __attribute__((aligned(8)));
	struct fanotify_event_metadata *event = (struct fanotify_event_metadata *)(void *)buf;
	int fd;

	check_need_root();
	fd = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY);
	if (fd < 0)
		check_skip("no fanotify here");
	check_make_file("f", 1, 1);
	CHECK_EQ(fanotify_mark(fd, FAN_MARK_ADD, FAN_CLOSE_WRITE, AT_FDCWD, "f"), 0);
	check_make_file("f", 10, 1);
	CHECK(read(fd, buf, sizeof(buf)) >= (ssize_t)sizeof(*event));
	CHECK(event->mask & FAN_CLOSE_WRITE);
}

/* --- limits ------------------------------------------------------------------------------------------------------- */

static void a_file_has_as_many_links_as_one_likes(void)
{
	enum { LINKS = 65100 }; /* more than 16 bits count, and than other file systems allow */
	char name[16];

	check_make_file("f", 1, 1);
	CHECK_EQ(mkdir("d", 0700), 0);
	CHECK_EQ(chdir("d"), 0);
	for (int i = 1; i < LINKS; i++) {
		snprintf(name, sizeof(name), "%d", i);
		CHECK_EQ(link("../f", name), 0);
	}
	CHECK_EQ(check_stat("../f").st_nlink, LINKS);
	for (int i = 1; i < LINKS; i++) {
		snprintf(name, sizeof(name), "%d", i);
		CHECK_EQ(unlink(name), 0);
	}
	CHECK_EQ(check_stat("../f").st_nlink, 1);
}

static void paths_are_as_deep_as_one_likes(void)
{
	enum { DEPTH = 2100 }; /* far beyond PATH_MAX */
	struct stat st;
	char path[5000];

	for (int i = 0; i < DEPTH; i++) {
		CHECK_EQ(mkdir("dir", 0700), 0);
		CHECK_EQ(chdir("dir"), 0);
	}
	check_make_file("f", 5, 1);
	CHECK_ERR((getcwd(path, 4096) ? 0 : -1), ERANGE);
	memset(path, 0, sizeof(path));
	for (size_t i = 0; i + 3 < 4095; i += 3)
		memcpy(path + i, "../", 3);
	CHECK_EQ(stat(path, &st), 0);
	memcpy(path + strlen(path), "../../../../../..", 17);
	CHECK_ERR(stat(path, &st), ENAMETOOLONG);
	CHECK_EQ(unlink("f"), 0);
	for (int i = 0; i < DEPTH; i++) {
		CHECK_EQ(chdir(".."), 0);
		CHECK_EQ(rmdir("dir"), 0);
	}
}

static void the_largest_file_is_8_eib_less_one(void)
{
	const off_t max = INT64_MAX;
	int fd = check_open("f", O_RDWR | O_CREAT, 0600);
	char c;

	CHECK_EQ(ftruncate(fd, max), 0);
	CHECK_EQ(check_stat("f").st_size, max);
	CHECK_EQ(pwrite(fd, "x", 1, max - 1), 1);
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(pread(fd, &c, 1, max - 1), 1);
	CHECK_EQ(c, 'x');
	CHECK_ERR(pread(fd, &c, 1, max), EINVAL);
	CHECK_ERR(pwrite(fd, "x", 1, max), EINVAL);
	CHECK_EQ(lseek(fd, 0, SEEK_END), max);
	CHECK_ERR(lseek(fd, 1, SEEK_CUR), EINVAL);
	CHECK(check_stat("f").st_blocks <= 16);
	CHECK_EQ(ftruncate(fd, 0), 0);
}

static void attribute_lists_end_at_64_kib(void)
{
	static char list[70000];
	char name[256];
	int made = 0;

	check_make_file("f", 1, 1);
	memset(name, 'n', sizeof(name));
	for (; made < 300; made++) {
		snprintf(name, sizeof(name), "user.%03d", made);
		name[8] = 'n';
		name[255] = '\0';
		CHECK_EQ(setxattr("f", name, "1", 1, 0), 0);
	}
	CHECK_ERR(listxattr("f", list, sizeof(list)), E2BIG); /* 76,800 bytes */
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "user.%03d", i);
		name[8] = 'n';
		CHECK_EQ(removexattr("f", name), 0);
	}
	CHECK_EQ(listxattr("f", list, sizeof(list)), 240 * 256);
	CHECK_EQ(listxattr("f", NULL, 0), 240 * 256);
}

/* --- O_TMPFILE -------------------------------------------------------------------------------------------------- */

static void temporary_files_get_a_name_if_they_may(void)
{
	char path[64];
	int fd = check_open(".", O_TMPFILE | O_RDWR, 0600);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK_EQ(write(fd, "abc", 3), 3);
	CHECK_EQ(linkat(AT_FDCWD, path, AT_FDCWD, "f", AT_SYMLINK_FOLLOW), 0);
	CHECK_EQ(check_stat("f").st_size, 3);
	CHECK_EQ(check_stat("f").st_nlink, 1);
	CHECK_EQ(linkat(AT_FDCWD, path, AT_FDCWD, "g", AT_SYMLINK_FOLLOW), 0);
	CHECK_EQ(check_stat("f").st_nlink, 2);
	CHECK_EQ(close(fd), 0);
	fd = check_open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK_ERR(linkat(AT_FDCWD, path, AT_FDCWD, "h", AT_SYMLINK_FOLLOW), ENOENT);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(unlink("f"), 0);
	fd = check_open("g", O_RDONLY, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK_EQ(unlink("g"), 0);
	CHECK_ERR(linkat(AT_FDCWD, path, AT_FDCWD, "g", AT_SYMLINK_FOLLOW), ENOENT); /* had one: gone for good */
}

/* --- flags of reads and writes ------------------------------------------------------------------------------------ */

static void reads_and_writes_take_flags(void)
{
	char buf[8192] __attribute__((aligned(4096)));
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	int fd = check_open("f", O_RDWR | O_CREAT, 0600);

	check_fill(buf, sizeof(buf), 1);
	CHECK_EQ(pwritev2(fd, &iov, 1, 0, RWF_SYNC), sizeof(buf));
	CHECK_EQ(pwritev2(fd, &iov, 1, 0, RWF_DSYNC), sizeof(buf));
	CHECK_EQ(pwritev2(fd, &iov, 1, 0, RWF_APPEND), sizeof(buf));
	CHECK_EQ(check_stat("f").st_size, 2 * sizeof(buf));
	CHECK_EQ(preadv2(fd, &iov, 1, 0, RWF_HIPRI), sizeof(buf));
	CHECK_ERR(preadv2(fd, &iov, 1, 0, 1 << 30), EOPNOTSUPP);
	CHECK_EQ(pwritev2(fd, &iov, 1, -1, RWF_APPEND), sizeof(buf));
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 3 * sizeof(buf));
	CHECK_EQ(close(fd), 0);
}

static void direct_io_reads_what_was_written(void)
{
	char *buf, *got;
	int fd, plain;

	CHECK_EQ(posix_memalign((void **)&buf, 4096, 65536), 0);
	CHECK_EQ(posix_memalign((void **)&got, 4096, 65536), 0);
	fd = check_open("f", O_RDWR | O_CREAT | O_DIRECT, 0600);
	plain = check_open("f", O_RDWR, 0);
	for (uint64_t i = 0; i < 20; i++) {
		check_fill(buf, 65536, i);
		CHECK_EQ(pwrite(i % 2 ? fd : plain, buf, 65536, 0), 65536);
		CHECK_EQ(pread(i % 2 ? plain : fd, got, 65536, 0), 65536);
		CHECK(memcmp(buf, got, 65536) == 0);
	}
	CHECK_EQ(pwrite(fd, buf, 512, 100), 512); /* no alignment is asked for, as on tmpfs */
	CHECK_EQ(pread(plain, got, 512, 100), 512);
	CHECK(memcmp(buf, got, 512) == 0);
	CHECK(fcntl(plain, F_SETFL, O_DIRECT) == 0);
}

static void statfs_tells_what_it_is(void)
{
	struct statfs st;

	CHECK_EQ(statfs(".", &st), 0);
	CHECK_EQ(st.f_namelen, 255);
	CHECK_EQ(st.f_bsize, PAGE);
	CHECK(st.f_blocks > 0 && st.f_bfree <= st.f_blocks && st.f_bavail <= st.f_bfree);
}

static const struct check_case cases[] = {
	CASE(fifos_connect_two_processes),
	CASE(sockets_are_bound_and_connected_to),
	CASE(devices_work),
	CASE(a_running_program_is_not_written_to),
	CASE(leases_are_broken),
	CASE(inotify_tells_of_changes),
	CASE(fanotify_tells_of_changes),
	CASE(a_file_has_as_many_links_as_one_likes),
	CASE(paths_are_as_deep_as_one_likes),
	CASE(the_largest_file_is_8_eib_less_one),
	CASE(attribute_lists_end_at_64_kib),
	CASE(temporary_files_get_a_name_if_they_may),
	CASE(reads_and_writes_take_flags),
	CASE(direct_io_reads_what_was_written),
	CASE(statfs_tells_what_it_is),
};

/* "--wait": the copy of this program that a_running_program_is_not_written_to() runs. */
int main(int argc, char **argv)
{
	char c;

	if (argc == 2 && strcmp(argv[1], "--wait") == 0)
		return write(1, "x", 1) != 1 || read(0, &c, 1) < 0;
	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
