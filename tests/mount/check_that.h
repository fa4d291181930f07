/* SPDX-License-Identifier: MIT */
/*
 * check_that: what the C programs of the mounted tests share.
 *
 *    program DIR [CASE...]          runs all cases (or those named), each in its own process and its own new
 *                                   directory DIR/CASE, which is also its working directory
 *
 * A case that breaks a CHECK prints file:line and what it saw, and ends; the others still run.  Exit status 0:
 * all passed (or were skipped, each with its reason); 1: at least one failed.
 */
#ifndef TESTS_MOUNT_CHECK_THAT_H
#define TESTS_MOUNT_CHECK_THAT_H

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CASE_SECONDS 60
#define CASE_SKIPPED 77
#define PAGE	     4096

#define CHECK(cond)                                                     \
	do {                                                            \
		if (!(cond))                                            \
			check_failed(__FILE__, __LINE__, #cond, errno); \
	} while (0)

/* The call must return -1 and set errno to err. */
#define CHECK_ERR(call, err)                                                                \
	do {                                                                                \
		errno = 0;                                                                  \
		long check_rc_ = (long)(call);                                              \
		if (check_rc_ != -1 || errno != (err))                                      \
			check_failed_err(__FILE__, __LINE__, #call, check_rc_, errno, err); \
	} while (0)

#define CHECK_EQ(got, want)                                                                 \
	do {                                                                                \
		errno = 0;                                                                  \
		long long check_got_ = (long long)(got), check_want_ = (long long)(want);   \
		if (check_got_ != check_want_)                                              \
			check_failed_eq(__FILE__, __LINE__, #got, check_got_, check_want_); \
	} while (0)

#define CASE(fn) {#fn, fn}

struct check_case {
	const char *name;
	void (*run)(void);
};

_Noreturn static inline void check_failed(const char *file, int line, const char *what, int err)
{
	fprintf(stderr, "%s:%d: %s (%s)\n", file, line, what, strerror(err));
	_exit(1);
}

_Noreturn static inline void check_failed_err(const char *file, int line, const char *what, long rc, int err, int want)
{
	fprintf(stderr, "%s:%d: %s returned %ld (%s), not -1 (%s)\n", file, line, what, rc, strerror(err),
		strerror(want));
	_exit(1);
}

_Noreturn static inline void check_failed_eq(const char *file, int line, const char *what, long long got,
					     long long want)
{
	fprintf(stderr, "%s:%d: %s is %lld, not %lld (errno: %s)\n", file, line, what, got, want, strerror(errno));
	_exit(1);
}

_Noreturn static inline void check_skip(const char *why)
{
	printf("     %s\n", why);
	fflush(stdout);
	_exit(CASE_SKIPPED);
}

/* Waits for a child of the case; it must have ended with status 0. */
static inline void check_child(pid_t pid)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Bytes that depend on seed and position, so that a page from the wrong place shows. */
static inline void check_fill(void *buf, size_t len, uint64_t seed)
{
	uint64_t x = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
	unsigned char *p = buf;

	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
		}
		p[i] = (unsigned char)(x >> (i % 8 * 8));
	}
}

static inline bool check_zeroes(const void *buf, size_t len)
{
	const unsigned char *p = buf;

	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* Opens or creates; a failure ends the case. */
static inline int check_open(const char *path, int flags, mode_t mode)
{
	int fd = open(path, flags, mode);

	if (fd < 0)
		check_failed(path, 0, "open", errno);
	return fd;
}

/* Makes an ordinary file with len bytes of check_fill(seed). */
static inline void check_make_file(const char *path, size_t len, uint64_t seed)
{
	int fd = check_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	char *buf = malloc(len + 1);

	CHECK(buf != NULL);
	check_fill(buf, len, seed);
	CHECK_EQ(write(fd, buf, len), len);
	CHECK_EQ(close(fd), 0);
	free(buf);
}

/* Writes the file back and makes the kernel forget its pages, so that the next read asks the file system. */
static inline void check_drop(int fd)
{
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
}

static inline struct stat check_stat(const char *path)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		check_failed(path, 0, "lstat", errno);
	return st;
}

/* Becomes an ordinary user for the rest of the process. */
static inline void check_become(uid_t uid, gid_t gid)
{
	CHECK_EQ(setgroups(0, NULL), 0);
	CHECK_EQ(setresgid(gid, gid, gid), 0);
	CHECK_EQ(setresuid(uid, uid, uid), 0);
}

static inline void check_need_root(void)
{
	if (geteuid() != 0)
		check_skip("needs root");
}

/* Runs fn as an ordinary user in a child; its checks are the case's. */
static inline void check_as_user(uid_t uid, void (*fn)(void))
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

static inline int check_run_case(const char *dir, const struct check_case *c)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		alarm(CASE_SECONDS);
		umask(022);
		CHECK(chdir(dir) == 0);
		CHECK(mkdir(c->name, 0755) == 0);
		CHECK(chdir(c->name) == 0);
		c->run();
		fflush(NULL);
		_exit(0); /* no leak report: a case may end with memory and files still its own */
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	if (WIFSIGNALED(status))
		fprintf(stderr, "%s: killed by signal %d%s\n", c->name, WTERMSIG(status),
			WTERMSIG(status) == 14 ? " (took too long)" : "");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static inline int check_main(int argc, char **argv, const struct check_case *cases, size_t ncases)
{
	int failed = 0, ran = 0;

	if (argc < 2) {
		fprintf(stderr, "usage: %s DIR [CASE...]\n", argv[0]);
		return 2;
	}
	for (size_t i = 0; i < ncases; i++) {
		bool wanted = argc == 2;

		for (int a = 2; a < argc; a++)
			wanted |= strcmp(argv[a], cases[i].name) == 0;
		if (!wanted)
			continue;
		int rc = check_run_case(argv[1], &cases[i]);

		printf("%s %s\n", rc == 0 ? "ok  " : rc == CASE_SKIPPED ? "skip" : "FAIL", cases[i].name);
		failed += rc != 0 && rc != CASE_SKIPPED;
		ran++;
	}
	printf("%d cases, %d failed\n", ran, failed);
	return failed != 0 || ran == 0;
}

#endif
