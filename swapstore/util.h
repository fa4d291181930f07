/* SPDX-License-Identifier: MIT */
/*
 * util: the few lines of pthreads that several modules share.
 */
#ifndef SWAPSTORE_UTIL_H
#define SWAPSTORE_UTIL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A condition variable whose timed waits follow CLOCK_MONOTONIC. */
void util_cond_init(pthread_cond_t *cond);

/* Waits at most ms milliseconds.  Returns 0 or ETIMEDOUT. */
int util_cond_wait_ms(pthread_cond_t *cond, pthread_mutex_t *lock, long ms);

/*
 * Tells whoever counts threads at work that the caller has nothing to do for a while: whatever waits here for the disk
 * or for memory stands between the two.  They may be nested.  Nothing happens in a thread that has not called
 * util_on_wait(), whose function is called when the outermost wait begins, and when it is over; it may be called with
 * any lock held, and must take none of ours.
 */
void util_wait_begin(void);
void util_wait_end(void);
void util_on_wait(void (*wait)(void *ctx, bool begins), void *ctx);

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t util_now_ms(void);

#define UTIL_STACK_TOUCHED (128U << 10)

/* Faults UTIL_STACK_TOUCHED bytes of the caller's stack in, as far as swapstore's deepest calls need it: not while somebody waits for them. */
void util_touch_stack(void);

/* Touches every page of the range for writing, keeping what it holds: nobody need wait for memory later.  0 or -errno. */
int util_populate(void *start, size_t bytes);

/*
 * Zeroed memory for I/O buffers, populated; in huge pages where it is large enough and the system has them, as a disk
 * takes few pieces at a time and memory that is contiguous is one.  NULL: none.
 */
void *util_map(size_t bytes);
void util_unmap(void *mem, size_t bytes);

/* What util_map() takes for so many bytes. */
size_t util_map_bytes(size_t bytes);

/* A thread with a small stack and all signals blocked.  0 or -errno. */
int util_thread_start(pthread_t *thread, void *(*run)(void *), void *arg);

static inline void util_unlock_cleanup(pthread_mutex_t **lock)
{
	pthread_mutex_unlock(*lock);
}

/* Takes a mutex until the end of the enclosing block. */
#define UTIL_LOCKED(mutex) \
	pthread_mutex_t *util_locked_ __attribute__((cleanup(util_unlock_cleanup), unused)) = util_lock(mutex)

static inline pthread_mutex_t *util_lock(pthread_mutex_t *lock)
{
	pthread_mutex_lock(lock);
	return lock;
}

#endif
