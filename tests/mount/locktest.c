/* SPDX-License-Identifier: MIT */
/*
 * locktest: flock, POSIX and open-file-description locks between two processes.  Each case runs in its own
 * process (check_that.h); the other party is a child that tells through a pipe when it holds its lock.
 */
#include "tests/mount/check_that.h"

#include <sys/file.h>

/* Starts a child that runs lock(fd of its own), reports, and holds on until release() closes the pipe. */
struct holder {
	pid_t pid;
	int go;
};

static struct holder hold(void (*lock)(int fd))
{
	int ready[2], go[2];
	struct holder h;
	char c;

	CHECK_EQ(pipe(ready), 0);
	CHECK_EQ(pipe(go), 0);
	h.pid = fork();
	CHECK(h.pid >= 0);
	if (h.pid == 0) {
		close(go[1]);
		lock(check_open("f", O_RDWR, 0));
		CHECK_EQ(write(ready[1], "r", 1), 1);
		CHECK_EQ(read(go[0], &c, 1), 0);
		_exit(0);
	}
	close(go[0]);
	close(ready[1]);
	CHECK_EQ(read(ready[0], &c, 1), 1);
	h.go = go[1];
	return h;
}

static void release(struct holder h)
{
	close(h.go);
	check_child(h.pid);
}

static struct flock range(short type, off_t start, off_t len)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };
}

static void lock_flock(int fd)
{
	CHECK_EQ(flock(fd, LOCK_EX), 0);
}

static void lock_flock_shared(int fd)
{
	CHECK_EQ(flock(fd, LOCK_SH), 0);
}

static void lock_posix(int fd)
{
	CHECK_EQ(fcntl(fd, F_SETLK, &(struct flock){ .l_type = F_WRLCK, .l_start = 10, .l_len = 10 }), 0);
}

static void lock_ofd(int fd)
{
	CHECK_EQ(fcntl(fd, F_OFD_SETLK, &(struct flock){ .l_type = F_WRLCK, .l_start = 10, .l_len = 10 }), 0);
}

static void flock_excludes(void)
{
	struct holder h;
	int fd;

	check_make_file("f", 100, 1);
	fd = check_open("f", O_RDWR, 0);
	h = hold(lock_flock);
	CHECK_ERR(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	CHECK_ERR(flock(fd, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	release(h);
	CHECK_EQ(flock(fd, LOCK_EX | LOCK_NB), 0);
	CHECK_EQ(flock(fd, LOCK_UN), 0);
	h = hold(lock_flock_shared);
	CHECK_EQ(flock(fd, LOCK_SH | LOCK_NB), 0);
	CHECK_ERR(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	release(h);
}

static void posix_locks_exclude_by_range(void)
{
	struct flock fl = range(F_WRLCK, 15, 1);
	struct holder h;
	int fd;

	check_make_file("f", 100, 1);
	fd = check_open("f", O_RDWR, 0);
	h = hold(lock_posix);
	CHECK_ERR(fcntl(fd, F_SETLK, &fl), EAGAIN);
	CHECK_EQ(fcntl(fd, F_GETLK, &fl), 0);
	CHECK_EQ(fl.l_type, F_WRLCK);
	CHECK_EQ(fl.l_pid, h.pid);
	CHECK_EQ(fl.l_start, 10);
	CHECK_EQ(fl.l_len, 10);
	fl = range(F_WRLCK, 20, 5);
	CHECK_EQ(fcntl(fd, F_SETLK, &fl), 0);
	release(h);
	fl = range(F_WRLCK, 0, 0);
	CHECK_EQ(fcntl(fd, F_SETLK, &fl), 0);
}

static void ofd_locks_exclude_by_range(void)
{
	struct flock fl = range(F_RDLCK, 5, 10);
	struct holder h;
	int fd;

	check_make_file("f", 100, 1);
	fd = check_open("f", O_RDWR, 0);
	h = hold(lock_ofd);
	CHECK_ERR(fcntl(fd, F_OFD_SETLK, &fl), EAGAIN);
	release(h);
	CHECK_EQ(fcntl(fd, F_OFD_SETLK, &fl), 0);
}

static void a_waiter_gets_the_lock_when_the_holder_dies(void)
{
	struct flock fl = range(F_WRLCK, 0, 0);
	struct holder h;
	int fd;

	check_make_file("f", 100, 1);
	fd = check_open("f", O_RDWR, 0);
	h = hold(lock_posix);
	CHECK_EQ(kill(h.pid, SIGKILL), 0);
	CHECK_EQ(fcntl(fd, F_SETLKW, &fl), 0);
	CHECK(waitpid(h.pid, NULL, 0) == h.pid);
	h = hold(lock_flock);
	CHECK_EQ(kill(h.pid, SIGKILL), 0);
	CHECK_EQ(flock(fd, LOCK_EX), 0);
	CHECK(waitpid(h.pid, NULL, 0) == h.pid);
}

static const struct check_case cases[] = {
	CASE(flock_excludes),
	CASE(posix_locks_exclude_by_range),
	CASE(ofd_locks_exclude_by_range),
	CASE(a_waiter_gets_the_lock_when_the_holder_dies),
};

int main(int argc, char **argv)
{
	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
