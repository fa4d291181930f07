/* SPDX-License-Identifier: MIT */
/*
 * lru: the two queues of S3-FIFO, linked through the frames' descriptors by frame number.  lru->lock guards the
 * links, the counts and frame->queue.  Called by the page cache (add, touch, remove), reclaim (isolate, take) and
 * wire.c.
 */
#include "swapstore/lru.h"

#include "swapstore/util.h"

#include <errno.h>

#define LEAST_SHARE 10 /* one in so many is left to either queue, however well the other does */

/* Victims of the small queue's for one look at the main queue that nothing but time asks for. */
#define AGING_EVERY 16

/* Frames looked at under one hold of the lock, which every page that comes or goes needs. */
#define LOOKS_MAX 8192

/* Uses while in the small queue that show a frame to be warm; one use may be the tail of the same access. */
#define WARM_USES 2

void lru_init(struct lru *lru, struct frames *frames)
{
	atomic_store(&lru->wired, 0);
	lru->frames = frames;
	lru->aim = lru->aging = 0;
	pthread_mutex_init(&lru->lock, NULL);
	for (int q = 0; q < LRU_QUEUES; q++) {
		lru->queue[q].head = lru->queue[q].tail = FRAME_NIL;
		lru->queue[q].count = 0;
	}
}

void lru_destroy(struct lru *lru)
{
	pthread_mutex_destroy(&lru->lock);
}

static void lru_push_locked(struct lru *lru, struct frame *f, enum lru_queue q)
{
	uint32_t n = frame_number(lru->frames, f);

	assert(f->queue == LRU_NONE);
	f->queue = (uint8_t)q;
	f->prev = FRAME_NIL;
	f->next = lru->queue[q].head;
	if (f->next != FRAME_NIL)
		frame_at(lru->frames, f->next)->prev = n;
	else
		lru->queue[q].tail = n;
	lru->queue[q].head = n;
	lru->queue[q].count++;
}

static void lru_unlink_locked(struct lru *lru, struct frame *f)
{
	enum lru_queue q = f->queue;

	assert(q != LRU_NONE);
	if (f->prev != FRAME_NIL)
		frame_at(lru->frames, f->prev)->next = f->next;
	else
		lru->queue[q].head = f->next;
	if (f->next != FRAME_NIL)
		frame_at(lru->frames, f->next)->prev = f->prev;
	else
		lru->queue[q].tail = f->prev;
	lru->queue[q].count--;
	f->queue = LRU_NONE;
}

static void lru_hold_locked(struct lru *lru, struct frame *f)
{
	assert(f->queue == LRU_NONE);
	f->queue = LRU_WIRED;
	atomic_fetch_add_explicit(&lru->wired, 1, memory_order_relaxed);
}

static void lru_let_go_locked(struct lru *lru, struct frame *f)
{
	assert(f->queue == LRU_WIRED && lru_wired(lru) > 0);
	f->queue = LRU_NONE;
	atomic_fetch_sub_explicit(&lru->wired, 1, memory_order_relaxed);
}

void lru_add_many(struct lru *lru, struct frame *const *f, unsigned n, bool seen_before)
{
	UTIL_LOCKED(&lru->lock);

	for (unsigned i = 0; i < n; i++)
		lru_push_locked(lru, f[i], seen_before ? LRU_MAIN : LRU_SMALL);
}

void lru_add(struct lru *lru, struct frame *f, bool seen_before)
{
	lru_add_many(lru, &f, 1, seen_before);
}

void lru_remove(struct lru *lru, struct frame *f)
{
	UTIL_LOCKED(&lru->lock);

	if (f->queue == LRU_WIRED)
		lru_let_go_locked(lru, f);
	else if (f->queue != LRU_NONE)
		lru_unlink_locked(lru, f);
}

/* --- wired frames --------------------------------------------------------------------------------------------------- */

void lru_add_wired(struct lru *lru, struct frame *const *f, unsigned n, uint32_t limit)
{
	UTIL_LOCKED(&lru->lock);

	for (unsigned i = 0; i < n; i++) {
		if (lru_wired(lru) < limit)
			lru_hold_locked(lru, f[i]);
		else
			lru_push_locked(lru, f[i], LRU_SMALL);
	}
}

int lru_wire(struct lru *lru, struct frame *f, uint32_t limit)
{
	UTIL_LOCKED(&lru->lock);

	if (f->queue == LRU_WIRED)
		return 0;
	if (f->queue == LRU_NONE)
		return -EAGAIN;
	if (lru_wired(lru) >= limit)
		return -ENOMEM;
	lru_unlink_locked(lru, f);
	lru_hold_locked(lru, f);
	return 0;
}

void lru_unwire(struct lru *lru, struct frame *f)
{
	UTIL_LOCKED(&lru->lock);

	if (f->queue != LRU_WIRED)
		return;
	lru_let_go_locked(lru, f);
	lru_push_locked(lru, f, LRU_SMALL);
}

bool lru_is_wired(struct lru *lru, const struct frame *f)
{
	UTIL_LOCKED(&lru->lock);

	return f->queue == LRU_WIRED;
}

/* --- victims -------------------------------------------------------------------------------------------------------- */

bool lru_take(struct lru *lru, struct frame *f)
{
	UTIL_LOCKED(&lru->lock);

	if (f->queue == LRU_NONE || f->queue == LRU_WIRED || frame_refs(f) > 1)
		return false;
	lru_unlink_locked(lru, f);
	frame_get(f);
	return true;
}

/*
 * Where to look for the next victim: at the main queue while the small one is not longer than its aim, and now and then
 * at any rate, or what was hot once would stay for ever where nothing comes back to push it out.
 */
static enum lru_queue lru_choose_locked(struct lru *lru, bool small_first)
{
	uint32_t small = lru->queue[LRU_SMALL].count, main = lru->queue[LRU_MAIN].count;
	uint32_t least = (small + main) / LEAST_SHARE, most = small + main - least;

	if (main == 0 || (small_first && small > 0))
		return LRU_SMALL;
	lru->aim = lru->aim < least ? least : lru->aim > most ? most : lru->aim;
	if (small <= lru->aim)
		return LRU_MAIN;
	if (++lru->aging < AGING_EVERY)
		return LRU_SMALL;
	lru->aging = 0;
	return LRU_MAIN;
}

/*
 * What has been used stays and goes (round) into the main queue.  One that is found used there says that this queue is
 * worth its room, one that is not (lru_isolate) that the small queue would make more of it.
 */
static bool lru_spare_locked(struct lru *lru, struct frame *f, enum lru_queue q)
{
	uint8_t uses = atomic_load_explicit(&f->uses, memory_order_relaxed);

	if (uses < (q == LRU_SMALL ? WARM_USES : 1))
		return false;
	if (q == LRU_MAIN && lru->aim > 0)
		lru->aim--;
	atomic_store_explicit(&f->uses, (uint8_t)(uses - 1), memory_order_relaxed);
	lru_push_locked(lru, f, LRU_MAIN);
	return true;
}

unsigned lru_isolate(struct lru *lru, struct frame **out, unsigned want, bool small_first, unsigned *busy,
		     void (*take)(struct frame *f, void *ctx), void *ctx)
{
	UTIL_LOCKED(&lru->lock);
	unsigned looks = LOOKS_MAX;
	unsigned got = 0;

	*busy = 0;
	for (; got < want && looks > 0 && lru->queue[LRU_SMALL].count + lru->queue[LRU_MAIN].count > 0; looks--) {
		enum lru_queue q = lru_choose_locked(lru, small_first);
		struct frame *f = frame_at(lru->frames, lru->queue[q].tail);

		lru_unlink_locked(lru, f);
		if (lru_spare_locked(lru, f, q))
			continue;
		if (frame_refs(f) > 1) {
			(*busy)++;
			lru_push_locked(lru, f, q);
			continue;
		}
		if (q == LRU_MAIN)
			lru->aim++;
		frame_get(f);
		take(f, ctx);
		out[got++] = f;
	}
	return got;
}

unsigned lru_isolate_range(struct lru *lru, uint32_t first, uint32_t n, struct frame **out,
			   void (*take)(struct frame *f, void *ctx), void *ctx)
{
	unsigned got = 0;
	UTIL_LOCKED(&lru->lock);

	for (uint32_t i = first; i < first + n; i++) {
		struct frame *f = frame_at(lru->frames, i);

		if (f->queue == LRU_NONE || f->queue == LRU_WIRED || frame_refs(f) > 1)
			continue;
		lru_unlink_locked(lru, f);
		frame_get(f);
		take(f, ctx);
		out[got++] = f;
	}
	return got;
}

uint32_t lru_count(struct lru *lru)
{
	UTIL_LOCKED(&lru->lock);

	return lru->queue[LRU_SMALL].count + lru->queue[LRU_MAIN].count;
}

void lru_check(struct lru *lru)
{
	struct frames_stats st;
	uint32_t wired = 0;

	frames_get_stats(lru->frames, &st);
	UTIL_LOCKED(&lru->lock);

	for (unsigned q = LRU_SMALL; q < LRU_QUEUES; q++) {
		uint32_t n = 0, prev = FRAME_NIL;

		for (uint32_t i = lru->queue[q].head; i != FRAME_NIL; i = frame_at(lru->frames, i)->next) {
			assert(frame_at(lru->frames, i)->queue == q);
			assert(frame_at(lru->frames, i)->prev == prev);
			prev = i;
			n++;
		}
		assert(prev == lru->queue[q].tail);
		assert(n == lru->queue[q].count);
	}
	for (uint32_t i = 0; i < st.opened; i++) {
		const struct frame *f = frame_at(lru->frames, i);

		if (f->queue != LRU_WIRED)
			continue;
		assert(f->state == FRAME_DIRTY); /* what stays in RAM has no slot */
		wired++;
	}
	assert(wired == lru_wired(lru));
}
