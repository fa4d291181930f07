/* SPDX-License-Identifier: MIT */
/*
 * ring_impl: what ring.c shares with its two engines.  Nobody else includes this, tests that break an engine on
 * purpose excepted.
 *
 *      ring_run ── hook ──> requests marked RING_PENDING ──> engine->run ─┬─ ring_uring.c ──> io_uring_enter
 *                                                                         └─ ring_threads.c ─> ring_xfer_sync
 *
 * An engine takes the pending requests of a batch, each by way of a struct ring_xfer (what is left of it), and
 * returns when none is pending.
 */
#ifndef SWAPSTORE_RING_IMPL_H
#define SWAPSTORE_RING_IMPL_H

#include "swapstore/ring.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#define RING_ALIGN   4096U
#define RING_PENDING 1 /* a request's result until it has one; results are never positive */

/* The longest piece given to the kernel at once: below every 32-bit limit on the way, and 4096-aligned. */
#define RING_PIECE_MAX (UINT32_C(1) << 30)

struct ring_uring;
struct ring_team;

/* What is left to do of one request. */
struct ring_xfer {
	struct ring_req *req;
	struct iovec *iov;
	int iovcnt;
	uint64_t offset;
	unsigned tries; /* EAGAINs in a row */
};

struct ring_engine_ops {
	enum ring_engine engine;
	int (*start)(struct ring_pool *pool); /* all of the pool's contexts, or none and -errno */
	void (*stop)(struct ring_pool *pool);
	void (*run)(struct ring *ring, struct ring_req *reqs, unsigned n);
	void (*set_file)(struct ring_pool *pool, unsigned file, int fd); /* may be NULL; pool->fd is set already */
};

extern const struct ring_engine_ops ring_uring_ops;
extern const struct ring_engine_ops ring_threads_ops;

struct ring {
	/* set at creation */
	struct ring_pool *pool;
	void *bounce;
	size_t bounce_bytes;
	struct ring_uring *uring; /* io_uring engine only */
	/* under pool->lock */
	struct ring *next_free;
	bool held;
	uint64_t puts; /* how often it was given back */
	/* under the team's lock; threads engine only */
	pthread_cond_t done;
};

struct ring_pool {
	/* by file number; -1: none.  A number that is in use does not change */
	_Atomic int fd[RING_FILES];
	/* set at creation */
	unsigned depth;
	unsigned count;
	size_t map_bytes;    /* this struct and the contexts behind it */
	size_t bounce_bytes; /* all contexts' bounce buffers, one mapping */
	void *bounce;
	size_t engine_bytes; /* what the engine holds besides */
	const struct ring_engine_ops *ops;
	struct ring_team *team; /* threads engine only */
	/* set before the first I/O */
	struct ring_hook hook;
	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t freed;
	pthread_cond_t put; /* some context was, while somebody waits for that */
	unsigned quiescing; /* so many do */
	struct ring *free;

	struct ring rings[];
};

/* Starts on req.  False when there is nothing to move (its result is then 0). */
bool ring_xfer_init(struct ring_xfer *x, struct ring_req *req);

/*
 * Takes in one transfer's outcome: bytes moved, or -errno.  Returns true when the request is over (its result
 * is set), false when the rest of it is still to be done.  The caller deals with EINTR and EAGAIN.
 */
bool ring_xfer_moved(struct ring_xfer *x, ssize_t res);

/* Does what is left with preadv/pwritev and sets the result.  Any thread, no lock held. */
void ring_xfer_sync(const struct ring_pool *pool, struct ring_xfer *x);

/* The descriptor of the file that a request is for. */
static inline int ring_fd(const struct ring_pool *pool, const struct ring_req *req)
{
	return atomic_load_explicit(&pool->fd[req->file], memory_order_relaxed);
}

/* Sleeps before try number tries (from 0 on): 0.1 ms doubling to 6.4 ms. */
void ring_nap(unsigned tries);

#endif
