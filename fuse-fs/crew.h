/* SPDX-License-Identifier: MIT */
/*
 * crew: how many of the workers are about at a time.
 *
 * There are as many workers as may wait for the disk at once, many more than processors.  If all of them sat in
 * read(), the kernel would wake another one for each request that arrives while the last is still being served, only
 * to find nothing left: that was up to a third of the time of small writes and of work on names.  So while it is calm,
 * that is when nobody has begun to wait for the disk or for memory for a second, a worker that would be one more than
 * the limit does not go to read but parks; and whoever is about to wait calls all who are parked.  The idea is that of
 * Windows' I/O completion ports.
 *
 *               about > limit, and calm                 read(): a request
 *   ┌── PARKED <───────────────── returns from serving ───────────────────> SERVING ──┐ has to wait:
 *   │                                       ^                                  ^      v calls all
 *   └── called ─────────────────────────────┘                                  └── WAITING
 *
 * Who waits without saying so (there are reasons enough, rare ones) must not leave the mount without a reader either:
 * when nobody has come to read for a while, a timer has the main thread call.
 *
 * While one thread alone asks, one worker alone may serve: the follower (follow.h), which is none of those counted
 * above.  Then all others park, until somebody calls, for whatever reason, or nobody has come to read for a moment:
 *
 *               crew_lone_begin()                          crew_lone_end(), or any call
 *   all read ────────────────────────> the follower reads ──────────────────────────────> all read
 *
 * Context: any thread; crew_read_begin() may wait for long, nothing else does.  The lock is the innermost of all.
 */
#ifndef FUSE_FS_CREW_H
#define FUSE_FS_CREW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct crew {
	int limit;		       /* of those who are about */
	int timer;		       /* a timerfd */
	_Atomic uint64_t reads;	       /* low half: workers in read(); high half: how often one, or the follower, went */
	_Atomic int about;	       /* workers neither parked nor waiting */
	_Atomic int64_t waited_ms;     /* when one last began to wait */
	_Atomic unsigned parked;       /* and not called since; changed under the lock */
	atomic_bool lone;	       /* only the follower is to read */
	atomic_bool follower_rests;    /* in crew_lone_await(); changed under the lock */
	atomic_bool watched;	       /* the timer is set: */
	_Atomic uint64_t watched_reads; /* and this was reads then */
	bool (*dismiss)(void *ctx, bool late); /* see crew_follower(); set before there are threads */
	void *dismiss_ctx;
	pthread_mutex_t lock;
	pthread_cond_t called, lone_begins;
	uint64_t calls;		       /* how often (lock) */
	bool ended;		       /* nobody parks any more (lock) */
};

/* Of so many workers (not the follower), as many as there are processors are to be about, but at least two.  0 or -errno. */
int crew_init(struct crew *crew, unsigned workers);
void crew_destroy(struct crew *crew);

/* Around a worker's read() of the next request. */
void crew_read_begin(struct crew *crew);
void crew_read_end(struct crew *crew);

/* A worker that serves a request is about to wait (begins), or has waited. */
void crew_wait(struct crew *crew, bool begins);

/* Somebody has to poll crew->timer for POLLIN and call this then. */
void crew_timer_fired(struct crew *crew);

/* All parked workers come back, and nobody parks from now on; the follower's wait is over. */
void crew_end(struct crew *crew);

/*
 * There is a follower.  dismiss is called when it is not to serve alone any more: it has to get it out of read(), and
 * returns whether it may still be there, in which case it is called again soon.  late: because it has not come to read
 * for a moment.  Any thread, any lock held.
 */
void crew_follower(struct crew *crew, bool (*dismiss)(void *ctx, bool late), void *ctx);

/* Has nobody begun to wait for a second?  Only then is there a use in few workers, or in one. */
bool crew_is_calm(struct crew *crew);

/*
 * From now on only the follower is to read; the others park when they have served what they may still get.  false: it
 * is still busy with what it had, and they had better not.
 */
bool crew_lone_begin(struct crew *crew);
void crew_lone_end(struct crew *crew);
bool crew_is_lone(struct crew *crew);
bool crew_follower_rests(struct crew *crew);

/* The follower waits until it is to read; false: it never will again. */
bool crew_lone_await(struct crew *crew);

/* The follower goes to read.  It is not one of the readers that others may rely on. */
void crew_lone_read(struct crew *crew);

#endif
