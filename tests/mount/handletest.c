/* SPDX-License-Identifier: MIT */
/*
 * handletest: files opened by handle (open_by_handle_at(2)), as an NFS server does, with names and inodes out of the
 * kernel's caches and in them.  Each case runs in its own process (check_that.h).  Needs root.
 */
#include "tests/mount/check_that.h"

struct handle {
	struct file_handle head;
	unsigned char room[MAX_HANDLE_SZ]; /* f_handle */
};

static void handle_of(const char *path, struct handle *h)
{
	int mount_id;

	h->head.handle_bytes = MAX_HANDLE_SZ;
	CHECK_EQ(name_to_handle_at(AT_FDCWD, path, &h->head, &mount_id, 0), 0);
}

static int open_handle(struct handle *h, int flags)
{
	int dir = check_open(".", O_RDONLY | O_DIRECTORY, 0);
	int fd = open_by_handle_at(dir, &h->head, flags), err = errno;

	close(dir);
	errno = err;
	return fd;
}

/* Names and inodes that nobody uses leave the kernel's caches, and FORGETs reach the daemon. */
static void forget(void)
{
	int fd = check_open("/proc/sys/vm/drop_caches", O_WRONLY, 0);

	CHECK_EQ(write(fd, "2", 1), 1);
	CHECK_EQ(close(fd), 0);
}

static void content_is(int fd, size_t len, uint64_t seed)
{
	char want[100], got[100];

	CHECK(len <= sizeof(want));
	check_fill(want, len, seed);
	CHECK_EQ(pread(fd, got, sizeof(got), 0), len);
	CHECK(memcmp(want, got, len) == 0);
}

static void files_are_opened_by_handle(void)
{
	struct handle h, same;
	int fd;

	check_need_root();
	CHECK_EQ(mkdir("a", 0700), 0);
	CHECK_EQ(mkdir("a/b", 0700), 0);
	check_make_file("a/b/f", 50, 1);
	handle_of("a/b/f", &h);
	for (int i = 0; i < 2; i++) {
		fd = open_handle(&h, O_RDWR);
		CHECK(fd >= 0);
		content_is(fd, 50, 1);
		CHECK_EQ(close(fd), 0);
		forget();
	}
	CHECK_EQ(rename("a/b/f", "g"), 0); /* a handle is the file's, not the name's */
	forget();
	fd = open_handle(&h, O_RDONLY);
	CHECK(fd >= 0);
	content_is(fd, 50, 1);
	CHECK_EQ(close(fd), 0);
	handle_of("g", &same);
	CHECK_EQ(same.head.handle_bytes, h.head.handle_bytes);
	CHECK(memcmp(same.room, h.room, h.head.handle_bytes) == 0);
}

/* The kernel has to find the way from a forgotten directory to the root. */
static void directories_are_opened_by_handle_and_know_their_parents(void)
{
	char path[200] = "", name[32], cwd[4096], got[4096];
	struct handle h;
	int fd;

	check_need_root();
	CHECK(getcwd(cwd, sizeof(cwd) - sizeof(path)));
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "%slevel-%d", i ? "/" : "", i);
		strcat(path, name);
		CHECK_EQ(mkdir(path, 0700), 0);
	}
	handle_of(path, &h);
	forget();
	fd = open_handle(&h, O_RDONLY | O_DIRECTORY);
	CHECK(fd >= 0);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	memset(got, 0, sizeof(got));
	CHECK(readlink(name, got, sizeof(got) - 1) > 0);
	strcat(cwd, "/");
	strcat(cwd, path);
	CHECK(strcmp(got, cwd) == 0);
	CHECK_EQ(openat(fd, "..", O_RDONLY) >= 0, 1);
	check_make_file(strcat(path, "/f"), 10, 1);
	CHECK_EQ(faccessat(fd, "f", R_OK, 0), 0);
}

/* RELEASE is asynchronous, and until it is answered the kernel keeps the inode, which may then be opened. */
static void expect_stale(struct handle *h)
{
	int fd;

	for (int i = 0; i < 1000 && (fd = open_handle(h, O_RDONLY)) >= 0; i++) {
		CHECK_EQ(close(fd), 0);
		usleep(10000);
		forget();
	}
	CHECK_ERR(open_handle(h, O_RDONLY), ESTALE);
}

static void handles_of_deleted_files_are_stale(void)
{
	struct handle h, d;
	int fd;

	check_need_root();
	check_make_file("f", 50, 1);
	CHECK_EQ(mkdir("d", 0700), 0);
	handle_of("f", &h);
	handle_of("d", &d);
	CHECK_EQ(unlink("f"), 0);
	CHECK_EQ(rmdir("d"), 0);
	forget();
	expect_stale(&h);
	expect_stale(&d);
	/* what is new is not taken for it, whatever its number is */
	for (int i = 0; i < 100; i++) {
		char name[16];

		snprintf(name, sizeof(name), "new-%d", i);
		check_make_file(name, 50, 2);
	}
	expect_stale(&h);
	forget();
	expect_stale(&h);
	/* one that has no name left but is open */
	check_make_file("f", 50, 3);
	handle_of("f", &h);
	fd = check_open("f", O_RDONLY, 0);
	CHECK_EQ(unlink("f"), 0);
	content_is(fd, 50, 3);
	CHECK_EQ(close(fd), 0);
	forget();
	expect_stale(&h);
}

/* FORGET may still be under way when the kernel asks for the handle. */
static void handles_of_deleted_files_are_stale_at_once(void)
{
	struct handle h;

	check_need_root();
	for (int i = 0; i < 2000; i++) {
		CHECK_EQ(mknod("f", S_IFREG | 0600, 0), 0); /* and not open(), whose RELEASE keeps the kernel's inode */
		handle_of("f", &h);
		CHECK_EQ(unlink("f"), 0);
		CHECK_ERR(open_handle(&h, O_RDONLY), ESTALE);
	}
}

static void a_handle_of_nonsense_is_stale(void)
{
	struct handle h;

	check_need_root();
	check_make_file("f", 50, 1);
	/* The generation, and numbers far from any in use: not its low bytes, the fifth and sixth of a FUSE handle. */
	for (unsigned i = 0; i < 12; i++) {
		int fd;

		if (i == 4 || i == 5)
			continue;
		handle_of("f", &h);
		CHECK(h.head.handle_bytes >= 12);
		h.room[i] ^= 0x5a;
		fd = open_handle(&h, O_RDONLY);
		CHECK(fd == -1 && errno == ESTALE);
	}
}

static const struct check_case cases[] = {
	CASE(files_are_opened_by_handle),
	CASE(directories_are_opened_by_handle_and_know_their_parents),
	CASE(handles_of_deleted_files_are_stale),
	CASE(handles_of_deleted_files_are_stale_at_once),
	CASE(a_handle_of_nonsense_is_stale),
};

int main(int argc, char **argv)
{
	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
