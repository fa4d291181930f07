/* SPDX-License-Identifier: MIT */
/*
 * util: small helpers around pthreads; no state, no locks of its own.  Called from everywhere in swapstore.
 */
#include "swapstore/util.h"

#include <errno.h>
#include <signal.h>
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
