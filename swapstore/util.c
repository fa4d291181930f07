/* SPDX-License-Identifier: MIT */
/*
 * util: small helpers around pthreads; no state but each thread's own, no locks.  Called from everywhere in swapstore.
 */
#include "swapstore/util.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#define STACK_BYTES (2 * UTIL_STACK_TOUCHED)
/* ThreadSanitizer keeps its own state of a thread on the thread's stack, about 1 MiB. */
#ifdef __SANITIZE_THREAD__
#define STACK_EXTRA (1024 * 1024)
#else
#define STACK_EXTRA 0
#endif

void util_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

int util_cond_wait_ms(pthread_cond_t *cond, pthread_mutex_t *lock, long ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	return pthread_cond_timedwait(cond, lock, &until);
}

static __thread struct {
	void (*call)(void *ctx, bool begins);
	void *ctx;
	unsigned depth;
} util_waiter;

void util_on_wait(void (*wait)(void *ctx, bool begins), void *ctx)
{
	util_waiter.call = wait;
	util_waiter.ctx = ctx;
	util_waiter.depth = 0;
}

void util_wait_begin(void)
{
	if (util_waiter.call && util_waiter.depth++ == 0)
		util_waiter.call(util_waiter.ctx, true);
}

void util_wait_end(void)
{
	if (util_waiter.call && --util_waiter.depth == 0)
		util_waiter.call(util_waiter.ctx, false);
}

int64_t util_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void util_touch_stack(void)
{
	volatile char deep[UTIL_STACK_TOUCHED];

	for (size_t i = 0; i < sizeof(deep); i += 4096)
		deep[i] = 0;
}

#define PAGE_BYTES 4096U
#define HUGE_BYTES (2U << 20)

int util_populate(void *start, size_t bytes)
{
	uintptr_t first = (uintptr_t)start & ~(uintptr_t)(PAGE_BYTES - 1);
	uintptr_t end = ((uintptr_t)start + bytes + PAGE_BYTES - 1) & ~(uintptr_t)(PAGE_BYTES - 1);

	while (madvise((void *)first, end - first, MADV_POPULATE_WRITE) < 0) {
		if (errno == EINVAL) { /* a kernel before 5.14: touch each page, which keeps what is there */
			for (volatile char *p = (char *)first; p < (char *)end; p += PAGE_BYTES)
				*p = *p;
			return 0;
		}
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
	return 0;
}

/* Rounded up to whole huge pages, where that adds no more than an eighth. */
size_t util_map_bytes(size_t bytes)
{
	size_t huge = (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;

	return huge - bytes <= bytes / 8 ? huge : (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

void *util_map(size_t bytes)
{
	const size_t wanted = util_map_bytes(bytes), slack = wanted >= HUGE_BYTES ? HUGE_BYTES : 0;
	char *mem = mmap(NULL, wanted + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return NULL;
	if (slack) { /* its start is moved to where a huge page can begin */
		size_t front = -(uintptr_t)mem % HUGE_BYTES;

		if (front)
			munmap(mem, front);
		if (front < slack)
			munmap(mem + front + wanted, slack - front);
		mem += front;
		madvise(mem, wanted, MADV_HUGEPAGE); /* a hint: refused where huge pages are off */
	}
	if (util_populate(mem, wanted) < 0) {
		munmap(mem, wanted);
		return NULL;
	}
	return mem;
}

void util_unmap(void *mem, size_t bytes)
{
	munmap(mem, util_map_bytes(bytes));
}

int util_thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES + STACK_EXTRA);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(thread, &attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -err;
}
