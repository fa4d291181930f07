/* SPDX-License-Identifier: MIT */
/*
 * lru: which frames to evict first.  S3-FIFO (Yang et al., SOSP 2023) over frame numbers: new frames enter a
 * small queue; those used again while in it move to the main queue, the rest are evicted from there, so one pass
 * over a big file flushes only the small queue.  The main queue is a FIFO with second chances (a hit counts once
 * for each round, at most LRU_USES_MAX).  The ghosts, pages evicted a short while ago, live in the trees
 * (tree_ghost_note): a page that comes back soon enters the main queue at once.
 *
 * How long the small queue may become is learnt.  A tenth of all is best for what is read over and over; but
 * scratch files that are read back once would all be evicted before, while the main queue kept what was hot
 * yesterday.  So its aim grows with each frame that goes through the main queue unused, and falls with each that
 * does not (the idea of ARC, Megiddo and Modha, FAST 2003); and the main queue is looked at now and then even if
 * nothing asks for its room.  tests/unit/test_lru.c has the figures.
 *
 * FIFO order is by age over all objects, so a file gives up pages in proportion to what it has.
 *
 * A wired frame (wire.c) is on no queue, so that nothing here ever has to step over it; it is only counted.
 *
 * Context: one mutex inside, taken after an object's lock.  A frame is on a queue only while a tree holds it,
 * so an object cannot go while one of its frames is found here.
 */
#ifndef SWAPSTORE_LRU_H
#define SWAPSTORE_LRU_H

#include "swapstore/frames.h"

#include <pthread.h>

enum lru_queue { LRU_NONE, LRU_SMALL, LRU_MAIN, LRU_QUEUES, LRU_WIRED = LRU_QUEUES };

#define LRU_USES_MAX 3

struct lru {
	struct frames *frames;
	/* under lock */
	pthread_mutex_t lock;
	struct {
		uint32_t head, tail; /* newest, oldest */
		uint32_t count;
	} queue[LRU_QUEUES];
	uint32_t aim;	/* the small queue may be so long before it gives the victims */
	uint32_t aging; /* looks at it since the main queue was last looked at for age */
	_Atomic uint32_t wired; /* frames that are LRU_WIRED; written under lock */
};

void lru_init(struct lru *lru, struct frames *frames);
void lru_destroy(struct lru *lru);

/* A frame that a tree holds now: into the small queue, or (seen before, not long ago) into the main one. */
void lru_add(struct lru *lru, struct frame *f, bool seen_before);
void lru_add_many(struct lru *lru, struct frame *const *f, unsigned n, bool seen_before);

/* The frame was used.  No lock. */
static inline void lru_touch(struct frame *f)
{
	uint8_t uses = atomic_load_explicit(&f->uses, memory_order_relaxed);

	if (uses < LRU_USES_MAX) /* a lost update costs one chance */
		atomic_store_explicit(&f->uses, uses + 1, memory_order_relaxed);
}

/* It was used, but so it was just before: one use at least, and no more than it has had. */
static inline void lru_touch_again(struct frame *f)
{
	if (atomic_load_explicit(&f->uses, memory_order_relaxed) == 0)
		atomic_store_explicit(&f->uses, 1, memory_order_relaxed);
}

/*
 * Frames that a tree holds now, of an object that is wired: while fewer than limit frames are, they become so too; the
 * others are queued as lru_add() does.
 */
void lru_add_wired(struct lru *lru, struct frame *const *f, unsigned n, uint32_t limit);

/*
 * Off its queue, to be wired.  0, also if it was; -EAGAIN: it is in reclaim's hands; -ENOMEM: limit frames are wired.
 * And back to a queue, if it was wired.  The object's lock held.
 */
int lru_wire(struct lru *lru, struct frame *f, uint32_t limit);
void lru_unwire(struct lru *lru, struct frame *f);

/* Off its queue, or no longer wired, if it is.  Called (under the object's lock) before the frame leaves its tree. */
void lru_remove(struct lru *lru, struct frame *f);

/*
 * Takes up to want victims off the queues, oldest first, each with a reference added; take(frame, ctx) is
 * called for each under the LRU lock and may only take a reference on the frame's object.  Pinned frames are
 * passed over and counted in *busy.  small_first: take from the small queue as long as it has any, for a caller
 * that must see every frame once.  Looks at a bounded number of frames: none found is not the last word.
 */
unsigned lru_isolate(struct lru *lru, struct frame **out, unsigned want, bool small_first, unsigned *busy,
		     void (*take)(struct frame *f, void *ctx), void *ctx);

/* The same for those of the n frames from number first on that are on a queue, in whatever order they were used. */
unsigned lru_isolate_range(struct lru *lru, uint32_t first, uint32_t n, struct frame **out,
			   void (*take)(struct frame *f, void *ctx), void *ctx);

/*
 * Takes this one victim off its queue, with a reference added.  False: it is on none, or pinned.  The object's lock
 * held.
 */
bool lru_take(struct lru *lru, struct frame *f);

/* Frames on all queues; those that are wired; and whether this one is. */
uint32_t lru_count(struct lru *lru);
static inline uint32_t lru_wired(struct lru *lru)
{
	return atomic_load_explicit(&lru->wired, memory_order_relaxed);
}
bool lru_is_wired(struct lru *lru, const struct frame *f);

/* Walks the queues and all frames and compares with the counters (asserts); for tests. */
void lru_check(struct lru *lru);

#endif
