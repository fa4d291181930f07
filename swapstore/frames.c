/* SPDX-License-Identifier: MIT */
/*
 * frames: takes frames and gives them back.  The lock of struct frames guards the bitmaps and counters; the state of a
 * frame in use is its owner's business (frames.h).  Called by the page cache (allocation), reclaim (through frame_put)
 * and slab.c; arena.c provides the memory.
 */
#include "swapstore/frames_impl.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

#define GROW_PATIENCE_MS 5000 /* so long a cold frame is waited for when nothing can be evicted */
#define STALL_MS	 100 /* a chunk that takes longer is not waited for; on a busy machine 20 is no rarity */

/* Takes up to want free frames of one chunk, lowest first: neighbours in time become neighbours in memory. */
static unsigned chunk_take_locked(struct frames *fr, uint32_t c, struct frame **out, unsigned want)
{
	struct chunk *ch = &fr->chunk[c];
	unsigned got = 0;

	for (unsigned w = 0; w < CHUNK_WORDS && got < want; w++) {
		while (ch->free[w] && got < want) {
			unsigned bit = (unsigned)__builtin_ctzll(ch->free[w]);
			struct frame *f = &fr->frame[(size_t)c * FRAMES_PER_CHUNK + w * 64 + bit];

			ch->free[w] &= ch->free[w] - 1;
			assert(f->state == FRAME_FREE);
			f->state = FRAME_FILLING;
			f->object = NULL;
			f->swap = ENTRY_EMPTY;
			f->queue = 0;
			atomic_store_explicit(&f->uses, 0, memory_order_relaxed);
			atomic_store_explicit(&f->refs, 1, memory_order_relaxed);
			out[got++] = f;
		}
	}
	ch->nfree -= (uint16_t)got;
	fr->nfree -= got;
	fr->nfree_slab -= ch->slab ? got : 0;
	arena_relist_locked(fr, c);
	return got;
}

void frames_set_pressure(struct frames *fr, const struct frames_pressure *pressure)
{
	fr->pressure = *pressure;
}

/* --- allocation -------------------------------------------------------------------------------------------- */

/* Of the last frames so many are not for a caller with these flags. */
static uint32_t frames_kept_locked(const struct frames *fr, unsigned flags)
{
	return flags & FRAMES_CRITICAL ? 0 : flags & FRAMES_RESERVE ? fr->shares.floor : fr->shares.reserve;
}

/* The chunk to take frames from; there are some. */
static uint32_t frames_choose_locked(struct frames *fr, unsigned flags)
{
	static const uint8_t for_data[] = {CHUNK_PARTIAL, CHUNK_EMPTY, CHUNK_SLAB};
	static const uint8_t for_slab[] = {CHUNK_SLAB, CHUNK_EMPTY, CHUNK_PARTIAL};
	const uint8_t *order = flags & FRAMES_SLAB ? for_slab : for_data;
	uint32_t c = NO_CHUNK;

	for (unsigned i = 0; i < sizeof(for_data) && c == NO_CHUNK; i++)
		c = fr->head[order[i]];
	assert(c != NO_CHUNK);
	/* One that is in use as well: with no empty one left, frames of bookkeeping would end up everywhere. */
	if (flags & FRAMES_SLAB && !fr->chunk[c].slab) {
		fr->chunk[c].slab = true;
		fr->nfree_slab += fr->chunk[c].nfree;
	}
	return c;
}

static int frames_take_locked(struct frames *fr, struct frame **out, unsigned want, unsigned flags)
{
	uint32_t keep = frames_kept_locked(fr, flags);
	/* What is kept is a share of all that is left: while cold chunks cover it, every populated frame may go. */
	uint32_t left = flags & FRAMES_CRITICAL ? fr->nfree : arena_left_locked(fr);
	uint32_t may = left > keep ? left - keep : 0, ready = fr->nfree;
	unsigned got = 0;

	/* But for the last few, which eviction may need before a cold one can be had. */
	if (!(flags & FRAMES_CRITICAL))
		ready = ready > fr->shares.floor ? ready - fr->shares.floor : 0;
	if (may > ready)
		may = ready;
	if (want > may)
		want = may;
	while (got < want)
		got += chunk_take_locked(fr, frames_choose_locked(fr, flags), out + got, want - got);
	arena_publish_locked(fr);
	if (!fr->refused && arena_must_grow_locked(fr))
		pthread_cond_signal(&fr->work);
	return (int)got;
}

/* Is there still hope that the arena grows?  *since: when it was first asked so, 0 before. */
static bool frames_may_come_locked(const struct frames *fr, uint32_t keep, int64_t *since)
{
	if (fr->populate_failed || fr->nfree + frames_cold_locked(fr) <= keep)
		return false;
	if (*since == 0)
		*since = util_now_ms();
	return util_now_ms() - *since < GROW_PATIENCE_MS;
}

int frames_alloc(struct frames *fr, struct frame **out, unsigned want, unsigned flags)
{
	int64_t slow_since = 0, waiting_since = 0;
	uint64_t stuck_at_start;
	bool low;
	int got;

	assert(want > 0);
	pthread_mutex_lock(&fr->lock);
	stuck_at_start = fr->stuck;
	while ((got = frames_take_locked(fr, out, want, flags)) == 0) {
		if (flags & FRAMES_NOWAIT) {
			got = -EAGAIN;
			break;
		}
		/*
		 * The pass under way may have begun before what could be evicted now: only the next one counts.  Cold
		 * frames that are only slow to come are waited for, but not for ever: what makes them slow may be us.
		 */
		if (fr->stuck - stuck_at_start >= 2 && !frames_may_come_locked(fr, frames_kept_locked(fr, flags), &slow_since)) {
			got = -ENOSPC;
			break;
		}
		fr->waiters++;
		if (!fr->refused && (frames_cold_locked(fr) || frames_surplus_locked(fr)))
			pthread_cond_signal(&fr->work);
		pthread_mutex_unlock(&fr->lock);
		fr->pressure.kick(fr->pressure.ctx);
		pthread_mutex_lock(&fr->lock);
		/*
		 * Never sleeps without end: a missed kick costs a moment, not a hang.  And whoever populates may have
		 * to wait for write-back that waits for us, where a cgroup is full of our own files' dirty pages: so
		 * after a while frames that have memory are evicted instead.
		 */
		if (waiting_since == 0)
			waiting_since = util_now_ms();
		util_wait_begin();
		if (util_cond_wait_ms(&fr->freed, &fr->lock, fr->nfree > fr->shares.floor ? 2 : 20) == ETIMEDOUT &&
		    frames_cold_locked(fr) && fr->nfree <= fr->shares.floor &&
		    util_now_ms() - waiting_since >= STALL_MS) {
			fr->stalled = true;
			arena_publish_locked(fr);
			pthread_cond_signal(&fr->work);
		}
		util_wait_end();
		fr->waiters--;
	}
	low = arena_left_locked(fr) < fr->shares.low;
	pthread_mutex_unlock(&fr->lock);
	if (low && fr->pressure.kick)
		fr->pressure.kick(fr->pressure.ctx);
	return got;
}

bool frames_wanted(struct frames *fr)
{
	UTIL_LOCKED(&fr->lock);

	return fr->waiters > 0;
}

void frames_no_progress(struct frames *fr)
{
	UTIL_LOCKED(&fr->lock);

	fr->stuck++;
	pthread_cond_broadcast(&fr->freed);
}

static void frame_free_locked(struct frames *fr, struct frame *f)
{
	uint32_t n = frame_number(fr, f), c = n / FRAMES_PER_CHUNK, bit = n % FRAMES_PER_CHUNK;
	struct chunk *ch = &fr->chunk[c];

	assert(f->state == FRAME_FILLING || f->state == FRAME_DETACHED || f->state == FRAME_SLAB);
	assert(f->queue == 0);
	f->state = FRAME_FREE;
	assert(!(ch->free[bit / 64] >> (bit % 64) & 1));
	ch->free[bit / 64] |= UINT64_C(1) << (bit % 64);
	ch->nfree++;
	if (ch->leaving) {
		fr->nleaving++;
		return;
	}
	fr->nfree++;
	fr->nfree_slab += ch->slab;
	arena_relist_locked(fr, c);
}

/* Frames have come free: tells who waits for them, and the arena's thread if there are too many now. */
static void frames_freed_locked(struct frames *fr, bool were_too_many)
{
	arena_publish_locked(fr);
	if (fr->waiters)
		pthread_cond_broadcast(&fr->freed);
	if (!were_too_many && arena_may_shrink_locked(fr))
		pthread_cond_signal(&fr->work);
}

void frames_lend(struct frames *fr, struct frame *f)
{
	assert(f->state == FRAME_FILLING);
	arena_release(frame_data(fr, f), FRAME_SIZE);
}

int frames_unlend(struct frames *fr, struct frame *f)
{
	assert(f->state == FRAME_FILLING);
	return util_populate(frame_data(fr, f), FRAME_SIZE);
}

/* --- addresses and references -------------------------------------------------------------------------------- */

uint32_t frame_number(const struct frames *fr, const struct frame *f)
{
	return (uint32_t)(f - fr->frame);
}

struct frame *frame_at(const struct frames *fr, uint32_t number)
{
	assert(number < frames_most(fr));
	return &fr->frame[number];
}

void *frame_data(const struct frames *fr, const struct frame *f)
{
	return fr->arena + (size_t)frame_number(fr, f) * FRAME_SIZE;
}

bool frames_contains(const struct frames *fr, const void *data)
{
	return (const char *)data >= fr->arena && (const char *)data < fr->arena + (size_t)frames_most(fr) * FRAME_SIZE;
}

struct frame *frame_of(const struct frames *fr, const void *data)
{
	assert(frames_contains(fr, data));
	return &fr->frame[(size_t)((const char *)data - fr->arena) / FRAME_SIZE];
}

void frame_get(struct frame *f)
{
	uint32_t was = atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);

	assert(was > 0);
	(void)was;
}

/* Drops a reference; true if that was the last. */
static bool frame_unref(struct frame *f)
{
	uint32_t was = atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel);

	assert(was > 0);
	return was == 1;
}

void frame_put(struct frames *fr, struct frame *f)
{
	frames_put(fr, &f, 1);
}

void frames_put(struct frames *fr, struct frame *const *f, unsigned n)
{
	bool locked = false, too_many = false;

	for (unsigned i = 0; i < n; i++) {
		if (!frame_unref(f[i]))
			continue;
		if (!locked) {
			pthread_mutex_lock(&fr->lock);
			too_many = arena_may_shrink_locked(fr);
			locked = true;
		}
		frame_free_locked(fr, f[i]);
	}
	if (locked) {
		frames_freed_locked(fr, too_many);
		pthread_mutex_unlock(&fr->lock);
	}
}

/* --- counts --------------------------------------------------------------------------------------------------- */

uint32_t frames_left(struct frames *fr)
{
	return atomic_load_explicit(&fr->left, memory_order_relaxed);
}

uint32_t frames_spare(struct frames *fr)
{
	return atomic_load_explicit(&fr->spare, memory_order_relaxed);
}

uint32_t frames_extent(struct frames *fr)
{
	return atomic_load_explicit(&fr->extent, memory_order_relaxed);
}

void frames_get_stats(struct frames *fr, struct frames_stats *st)
{
	pthread_mutex_lock(&fr->lock);
	st->total = fr->total;
	st->opened = fr->nused * FRAMES_PER_CHUNK;
	st->used = fr->populated - fr->nfree - fr->nleaving;
	st->populated = fr->populated;
	st->bytes = (uint64_t)fr->populated * FRAME_SIZE + fr->ndescribed * sizeof(struct frame) +
		    (uint64_t)fr->nused * sizeof(struct chunk);
	pthread_mutex_unlock(&fr->lock);
}

/* One chunk's bitmaps against its counts and its frames' states; what it adds to the sums. */
static void frames_check_chunk(const struct frames *fr, uint32_t c, uint32_t *nfree, uint32_t *nabsent)
{
	const struct chunk *ch = &fr->chunk[c];
	uint32_t free = 0, absent = 0;

	for (unsigned i = 0; i < FRAMES_PER_CHUNK; i++) {
		bool is_free = ch->free[i / 64] >> (i % 64) & 1, is_absent = ch->absent[i / 64] >> (i % 64) & 1;

		free += is_free;
		absent += is_absent;
		assert(!(is_free && is_absent));
		assert(is_absent || i < ch->described);
		if (ch->list != CHUNK_COLD && i < ch->described)
			assert((is_free || is_absent) ==
			       (fr->frame[(size_t)c * FRAMES_PER_CHUNK + i].state == FRAME_FREE));
	}
	assert(free == ch->nfree && absent == ch->nabsent);
	assert(ch->list == arena_list_of(ch));
	assert(!ch->slab || ch->list == CHUNK_SLAB || ch->list == CHUNK_FULL);
	*nfree += free;
	*nabsent += absent;
}

void frames_check(struct frames *fr)
{
	uint32_t nfree = 0, nfree_slab = 0, nabsent = 0, cold = 0, count[CHUNK_LISTS] = {0};
	uint64_t described = 0;

	pthread_mutex_lock(&fr->lock);
	for (uint32_t c = 0; c < fr->nused; c++) {
		frames_check_chunk(fr, c, &nfree, &nabsent);
		count[fr->chunk[c].list]++;
		nfree_slab += fr->chunk[c].slab ? fr->chunk[c].nfree : 0;
		cold += fr->chunk[c].list == CHUNK_COLD ? FRAMES_PER_CHUNK : 0;
		described += fr->chunk[c].described;
	}
	for (unsigned l = 0; l < CHUNK_LISTS; l++)
		assert(count[l] == fr->count[l]);
	assert(nfree_slab == fr->nfree_slab);
	assert(nfree == fr->nfree + fr->nleaving && nabsent - cold == fr->nholes && described == fr->ndescribed);
	assert(fr->populated == fr->nused * FRAMES_PER_CHUNK - nabsent);
	pthread_mutex_unlock(&fr->lock);
}
