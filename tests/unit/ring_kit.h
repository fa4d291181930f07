/* SPDX-License-Identifier: MIT */
/*
 * ring_kit: what the tests of test_ring.c are made of: unnamed files, page-aligned memory, pools of either engine
 * and children that may be limited or forbidden something.
 */
#ifndef TESTS_UNIT_RING_KIT_H
#define TESTS_UNIT_RING_KIT_H

#include "swapstore/ring.h"

#include "tests/unit/ring_spoil.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096U

static uint64_t seed(void)
{
	const char *text = getenv("SPILLFS_TEST_SEED");
	uint64_t s = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();

	printf("SPILLFS_TEST_SEED=%llu\n", (unsigned long long)s);
	fflush(stdout);
	return spoil_rng = s ? s : 1;
}

static int temp_file(size_t bytes)
{
	const char *dir = getenv("TMPDIR");
	int fd = open(dir && *dir ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);

	ck_assert_msg(fd >= 0, "O_TMPFILE|O_DIRECT: %s", strerror(errno));
	ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static char *pages(size_t bytes)
{
	char *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert(mem != MAP_FAILED);
	return mem;
}

static void fill(void *mem, size_t bytes)
{
	for (size_t i = 0; i < bytes / 8; i++)
		((uint64_t *)mem)[i] = spoil_random();
}

static enum ring_engine engine_of(int i)
{
	return i == 0 ? RING_URING : RING_THREADS;
}

/* NULL, with a word why, where the kernel refuses io_uring. */
static struct ring_pool *pool_of(int i, int fd, unsigned count, size_t bounce, unsigned depth, const char *test)
{
	struct ring_pool *pool = NULL;
	int rc = ring_pool_create(fd, engine_of(i), count, bounce, depth, &pool);

	if (rc < 0 && engine_of(i) == RING_URING && (rc == -EPERM || rc == -ENOSYS)) {
		/* test: __func__, to whose name check adds "_fn" */
		printf("SKIP %.*s with io_uring: the kernel refuses it (%s)\n", (int)strlen(test) - 3, test,
		       strerror(-rc));
		return NULL;
	}
	ck_assert_int_eq(rc, 0);
	ck_assert_int_eq(ring_pool_engine(pool), engine_of(i));
	return pool;
}

#define POOL_OR_SKIP(pool, i, fd, count, bounce, depth)                          \
	struct ring_pool *pool = pool_of(i, fd, count, bounce, depth, __func__); \
	if (!pool)                                                               \
	return

/* Cuts [mem, mem + npages) into at most max pieces at random. */
static int cut_iov(struct iovec *iov, int max, char *mem, size_t npages)
{
	int n = 0;

	while (npages > 0) {
		size_t take = n == max - 1 ? npages : 1 + spoil_random() % npages;

		iov[n++] = (struct iovec){ .iov_base = mem, .iov_len = take * PAGE };
		mem += take * PAGE;
		npages -= take;
	}
	return n;
}

static int do_one(struct ring *ring, enum ring_op op, void *mem, size_t bytes, uint64_t offset)
{
	struct iovec iov = { .iov_base = mem, .iov_len = bytes };
	struct ring_req req = { .op = op, .offset = offset, .iov = &iov, .iovcnt = 1, .result = -1 };

	ring_run(ring, &req, 1);
	return req.result;
}

static void same_on_disk(int fd, const char *want, size_t bytes)
{
	char *got = pages(bytes);

	for (size_t done = 0; done < bytes;) {
		ssize_t n = pread(fd, got + done, bytes - done, (off_t)done);

		ck_assert_int_gt(n, 0);
		done += (size_t)n;
	}
	ck_assert(memcmp(got, want, bytes) == 0);
	munmap(got, bytes);
}

/* Runs fn in a child, where limits and filters may be changed for good.  It returns an exit status. */
static void in_child(int (*fn)(int), int arg)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		_exit(fn(arg));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status), "child: signal %d", WTERMSIG(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}

static unsigned count_dir(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	ck_assert(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

#define CHILD_ASSERT(cond)                                                                       \
	do {                                                                                     \
		if (!(cond)) {                                                                   \
			fprintf(stderr, "%s:%d: in the child: %s\n", __FILE__, __LINE__, #cond); \
			return 1;                                                                \
		}                                                                                \
	} while (0)

/* Forbids one system call, as a container's seccomp profile does. */
static int forbid(long call)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		return -errno;
	return 0;
}

#endif
