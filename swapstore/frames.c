/* SPDX-License-Identifier: MIT */
/*
 * frames: the arena, its chunks and the thread that populates and releases them.  One mutex guards the chunk
 * bitmaps and counters; the state of a frame in use is its owner's business (frames.h).  Called by the page
 * cache (allocation), reclaim (through frame_put) and slab.c.
 */
#include "swapstore/frames.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define CHUNK_BYTES   ((size_t)FRAMES_PER_CHUNK * FRAME_SIZE)
#define CHUNK_WORDS   (FRAMES_PER_CHUNK / 64)
#define NO_CHUNK      UINT32_MAX
#define KEEP_MAX      4U /* the most chunks that stay populated though wholly free */
#define GROW_PATIENCE_MS 5000 /* so long a cold frame is waited for when nothing can be evicted */
#define RELEASE_AFTER_MS 1000 /* how long a surplus must last before it goes back to the system */
#define RETRY_MS	 1000 /* after the system had no memory */

/* SLAB: as PARTIAL, but kept for bookkeeping as long as data finds frames elsewhere. */
enum chunk_list { CHUNK_COLD, CHUNK_EMPTY, CHUNK_PARTIAL, CHUNK_SLAB, CHUNK_FULL, CHUNK_LISTS };

struct chunk {
	uint64_t free[CHUNK_WORDS]; /* 1 = free */
	uint32_t prev, next;
	uint16_t frames; /* FRAMES_PER_CHUNK but in the last one */
	uint16_t nfree;
	uint8_t list;
	bool slab; /* was taken for bookkeeping when it was empty */
};

struct frames {
	/* set at creation */
	uint32_t total, reserve, floor, low, nchunks;
	uint32_t keep; /* wholly free chunks that stay populated */
	char *arena;
	void *arena_map;
	size_t arena_map_bytes;
	struct frame *frame;
	struct frames_pressure pressure;
	pthread_t thread;
	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t freed; /* a frame was freed or populated, or reclaim gave up */
	pthread_cond_t work;  /* the arena's thread has something to do */
	struct chunk *chunk;
	uint32_t head[CHUNK_LISTS];
	uint32_t count[CHUNK_LISTS];
	uint32_t nfree;	     /* populated and free */
	uint32_t nfree_slab; /* of those, the ones in chunks for bookkeeping */
	uint32_t ncold;	     /* frames of cold chunks */
	uint32_t waiters;
	uint64_t stuck;	     /* times that reclaim said that nothing can be evicted */
	bool populate_failed;
	bool stalled;	     /* populating takes long or fails: cold frames are not to be had for now */
	bool stopping;
	/* atomic: a copy of nfree + ncold (nfree if stalled) for those who only want to know */
	_Atomic uint32_t left;
};

/* --- chunks; all under lock ------------------------------------------------------------------------------ */

static void chunk_unlist(struct frames *fr, uint32_t c)
{
	struct chunk *ch = &fr->chunk[c];

	if (ch->prev != NO_CHUNK)
		fr->chunk[ch->prev].next = ch->next;
	else
		fr->head[ch->list] = ch->next;
	if (ch->next != NO_CHUNK)
		fr->chunk[ch->next].prev = ch->prev;
	fr->count[ch->list]--;
}

static void chunk_list(struct frames *fr, uint32_t c, enum chunk_list list)
{
	struct chunk *ch = &fr->chunk[c];

	ch->list = list;
	ch->prev = NO_CHUNK;
	ch->next = fr->head[list];
	if (ch->next != NO_CHUNK)
		fr->chunk[ch->next].prev = c;
	fr->head[list] = c;
	fr->count[list]++;
}

static void chunk_move(struct frames *fr, uint32_t c, enum chunk_list list)
{
	if (fr->chunk[c].list == list)
		return;
	chunk_unlist(fr, c);
	chunk_list(fr, c, list);
}

/* Frames to be had: cold ones count unless the system has no memory for them at the moment. */
static uint32_t frames_left_locked(const struct frames *fr)
{
	return fr->nfree + (fr->populate_failed || fr->stalled ? 0 : fr->ncold);
}

static void frames_publish_left_locked(struct frames *fr)
{
	atomic_store_explicit(&fr->left, frames_left_locked(fr), memory_order_relaxed);
}

static enum chunk_list chunk_list_of(const struct chunk *ch)
{
	return ch->nfree == 0 ? CHUNK_FULL : ch->nfree == ch->frames ? CHUNK_EMPTY : ch->slab ? CHUNK_SLAB : CHUNK_PARTIAL;
}

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
	chunk_move(fr, c, chunk_list_of(ch));
	return got;
}

/* The chunk to take frames from; there are some. */
static uint32_t chunk_choose_locked(struct frames *fr, unsigned flags)
{
	static const uint8_t for_data[] = { CHUNK_PARTIAL, CHUNK_EMPTY, CHUNK_SLAB };
	static const uint8_t for_slab[] = { CHUNK_SLAB, CHUNK_EMPTY, CHUNK_PARTIAL };
	const uint8_t *order = flags & FRAMES_SLAB ? for_slab : for_data;
	uint32_t c = NO_CHUNK;

	for (unsigned i = 0; i < sizeof(for_data) && c == NO_CHUNK; i++)
		c = fr->head[order[i]];
	assert(c != NO_CHUNK);
	if (flags & FRAMES_SLAB && fr->chunk[c].list == CHUNK_EMPTY) {
		fr->chunk[c].slab = true;
		fr->nfree_slab += fr->chunk[c].nfree;
	}
	return c;
}

/* --- populating and releasing: the arena's thread ---------------------------------------------------------- */

static char *chunk_memory(struct frames *fr, uint32_t c)
{
	return fr->arena + (size_t)c * CHUNK_BYTES;
}

static int populate(void *start, size_t length)
{
	uintptr_t first = (uintptr_t)start & ~(uintptr_t)(FRAME_SIZE - 1);
	uintptr_t end = ((uintptr_t)start + length + FRAME_SIZE - 1) & ~(uintptr_t)(FRAME_SIZE - 1);

	while (madvise((void *)first, end - first, MADV_POPULATE_WRITE) < 0) {
		if (errno == EINVAL) { /* a kernel before 5.14: touch each page, which keeps what is there */
			for (volatile char *p = (char *)first; p < (char *)end; p += FRAME_SIZE)
				*p = *p;
			return 0;
		}
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
	return 0;
}

static int chunk_populate(struct frames *fr, uint32_t c)
{
	struct frame *desc = &fr->frame[(size_t)c * FRAMES_PER_CHUNK];
	unsigned n = fr->chunk[c].frames;
	int err = populate(desc, n * sizeof(*desc));

	return err ? err : populate(chunk_memory(fr, c), (size_t)n * FRAME_SIZE);
}

/* A cold chunk becomes an empty one.  Drops the lock while the memory is faulted in. */
static int frames_grow_locked(struct frames *fr)
{
	uint32_t c = fr->head[CHUNK_COLD];
	int err;

	chunk_unlist(fr, c);
	pthread_mutex_unlock(&fr->lock);
	err = chunk_populate(fr, c);
	pthread_mutex_lock(&fr->lock);
	if (err) {
		chunk_list(fr, c, CHUNK_COLD);
		return err;
	}
	chunk_list(fr, c, CHUNK_EMPTY);
	fr->ncold -= fr->chunk[c].frames;
	fr->nfree += fr->chunk[c].frames;
	fr->stalled = false;
	frames_publish_left_locked(fr);
	pthread_cond_broadcast(&fr->freed);
	return 0;
}

/* An empty chunk becomes a cold one; its memory goes back to the system. */
static void frames_shrink_locked(struct frames *fr)
{
	uint32_t c = fr->head[CHUNK_EMPTY];

	chunk_unlist(fr, c);
	fr->nfree -= fr->chunk[c].frames;
	fr->ncold += fr->chunk[c].frames;
	pthread_mutex_unlock(&fr->lock);
	madvise(chunk_memory(fr, c), (size_t)fr->chunk[c].frames * FRAME_SIZE, MADV_DONTNEED);
	pthread_mutex_lock(&fr->lock);
	chunk_list(fr, c, CHUNK_COLD);
}

static bool frames_must_grow_locked(const struct frames *fr)
{
	return fr->head[CHUNK_COLD] != NO_CHUNK && fr->nfree - fr->nfree_slab < fr->keep * FRAMES_PER_CHUNK / 2;
}

static bool frames_may_shrink_locked(const struct frames *fr)
{
	return fr->count[CHUNK_EMPTY] > fr->keep;
}

/* Waits for work; while there is a surplus (since that moment), or no memory, only for a while. */
static void frames_wait_locked(struct frames *fr, int64_t surplus_since)
{
	if (fr->populate_failed) {
		util_cond_wait_ms(&fr->work, &fr->lock, RETRY_MS);
		fr->populate_failed = fr->stalled = false;
		frames_publish_left_locked(fr);
	} else if (surplus_since) {
		int64_t ms = surplus_since + RELEASE_AFTER_MS - util_now_ms();

		util_cond_wait_ms(&fr->work, &fr->lock, ms > 0 ? (long)ms : 1);
	} else {
		pthread_cond_wait(&fr->work, &fr->lock);
	}
}

static void *frames_thread(void *arg)
{
	struct frames *fr = arg;
	int64_t surplus_since = 0;

	pthread_setname_np(pthread_self(), "spill-arena");
	util_touch_stack();
	pthread_mutex_lock(&fr->lock);
	while (!fr->stopping) {
		if (frames_must_grow_locked(fr) && !fr->populate_failed) {
			fr->populate_failed = frames_grow_locked(fr) != 0;
			frames_publish_left_locked(fr);
			continue;
		}
		if (!frames_may_shrink_locked(fr)) {
			surplus_since = 0;
		} else if (!surplus_since) {
			surplus_since = util_now_ms();
		} else if (util_now_ms() - surplus_since >= RELEASE_AFTER_MS) {
			frames_shrink_locked(fr);
			continue;
		}
		frames_wait_locked(fr, surplus_since);
	}
	pthread_mutex_unlock(&fr->lock);
	return NULL;
}

/* --- life --------------------------------------------------------------------------------------------------- */

size_t frames_overhead(void)
{
	return sizeof(struct frame) + sizeof(struct chunk) / FRAMES_PER_CHUNK + 1;
}

static void *map_lazily(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int frames_map(struct frames *fr)
{
	size_t bytes = (size_t)fr->total * FRAME_SIZE;

	fr->arena_map_bytes = bytes + CHUNK_BYTES; /* room to align */
	fr->arena_map = map_lazily(fr->arena_map_bytes);
	fr->frame = map_lazily((size_t)fr->total * sizeof(struct frame));
	fr->chunk = calloc(fr->nchunks, sizeof(*fr->chunk));
	if (!fr->arena_map || !fr->frame || !fr->chunk)
		return -ENOMEM;
	fr->arena = (char *)(((uintptr_t)fr->arena_map + CHUNK_BYTES - 1) & ~(uintptr_t)(CHUNK_BYTES - 1));
	madvise(fr->arena, bytes, MADV_HUGEPAGE); /* a hint: refused where huge pages are off */
	madvise(fr->arena, bytes, MADV_DONTDUMP);
	return 0;
}

static void frames_list_chunks(struct frames *fr)
{
	for (unsigned l = 0; l < CHUNK_LISTS; l++)
		fr->head[l] = NO_CHUNK;
	for (uint32_t c = fr->nchunks; c-- > 0;) { /* so that the first chunk heads the list */
		struct chunk *ch = &fr->chunk[c];
		uint32_t n = fr->total - c * FRAMES_PER_CHUNK;

		ch->frames = ch->nfree = (uint16_t)(n < FRAMES_PER_CHUNK ? n : FRAMES_PER_CHUNK);
		for (unsigned i = 0; i < ch->frames; i++)
			ch->free[i / 64] |= UINT64_C(1) << (i % 64);
		chunk_list(fr, c, CHUNK_COLD);
	}
	fr->ncold = fr->total;
}

int frames_create(uint32_t total, uint32_t reserve, uint32_t floor, uint32_t low, struct frames **out)
{
	struct frames *fr = calloc(1, sizeof(*fr));
	int err = -ENOMEM;

	if (!fr)
		return -ENOMEM;
	assert(total >= 8 && floor <= reserve && reserve < total);
	fr->total = total;
	fr->reserve = reserve;
	fr->floor = floor;
	fr->low = low;
	fr->nchunks = (total + FRAMES_PER_CHUNK - 1) / FRAMES_PER_CHUNK;
	fr->keep = fr->nchunks / 32 < 1 ? 1 : fr->nchunks / 32 < KEEP_MAX ? fr->nchunks / 32 : KEEP_MAX;
	pthread_mutex_init(&fr->lock, NULL);
	util_cond_init(&fr->freed);
	util_cond_init(&fr->work);
	err = frames_map(fr);
	if (err)
		goto fail;
	frames_list_chunks(fr);
	pthread_mutex_lock(&fr->lock);
	while (!err && frames_must_grow_locked(fr))
		err = frames_grow_locked(fr);
	pthread_mutex_unlock(&fr->lock);
	if (!err)
		err = util_thread_start(&fr->thread, frames_thread, fr);
	if (err)
		goto fail;
	*out = fr;
	return 0;
fail:
	fr->thread = 0;
	frames_destroy(fr);
	return err;
}

void frames_set_pressure(struct frames *fr, const struct frames_pressure *pressure)
{
	fr->pressure = *pressure;
}

void frames_destroy(struct frames *fr)
{
	if (!fr)
		return;
	if (fr->thread) {
		pthread_mutex_lock(&fr->lock);
		fr->stopping = true;
		pthread_cond_signal(&fr->work);
		pthread_mutex_unlock(&fr->lock);
		pthread_join(fr->thread, NULL);
	}
	if (fr->arena_map)
		munmap(fr->arena_map, fr->arena_map_bytes);
	if (fr->frame)
		munmap(fr->frame, (size_t)fr->total * sizeof(struct frame));
	free(fr->chunk);
	pthread_cond_destroy(&fr->freed);
	pthread_cond_destroy(&fr->work);
	pthread_mutex_destroy(&fr->lock);
	free(fr);
}

/* --- allocation -------------------------------------------------------------------------------------------- */

/* Of the last frames so many are not for a caller with these flags. */
static uint32_t frames_kept(const struct frames *fr, unsigned flags)
{
	return flags & FRAMES_CRITICAL ? 0 : flags & FRAMES_RESERVE ? fr->floor : fr->reserve;
}

static int frames_take_locked(struct frames *fr, struct frame **out, unsigned want, unsigned flags)
{
	uint32_t keep = frames_kept(fr, flags);
	/* What is kept is a share of all that is left: while cold chunks cover it, every populated frame may go. */
	uint32_t left = frames_left_locked(fr);
	uint32_t may = left > keep ? left - keep : 0, ready = fr->nfree;
	unsigned got = 0;

	/* But for the last few, which eviction may need before a cold one can be had. */
	if (!(flags & FRAMES_CRITICAL))
		ready = ready > fr->floor ? ready - fr->floor : 0;
	if (may > ready)
		may = ready;
	if (want > may)
		want = may;
	while (got < want)
		got += chunk_take_locked(fr, chunk_choose_locked(fr, flags), out + got, want - got);
	frames_publish_left_locked(fr);
	if (frames_must_grow_locked(fr))
		pthread_cond_signal(&fr->work);
	return (int)got;
}

/* Is there still hope that the arena grows?  *since: when it was first asked so, 0 before. */
static bool frames_may_come_locked(const struct frames *fr, uint32_t keep, int64_t *since)
{
	if (fr->populate_failed || fr->nfree + fr->ncold <= keep)
		return false;
	if (*since == 0)
		*since = util_now_ms();
	return util_now_ms() - *since < GROW_PATIENCE_MS;
}

int frames_alloc(struct frames *fr, struct frame **out, unsigned want, unsigned flags)
{
	const uint32_t keep = frames_kept(fr, flags);
	int64_t slow_since = 0;
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
		if (fr->stuck - stuck_at_start >= 2 && !frames_may_come_locked(fr, keep, &slow_since)) {
			got = -ENOSPC;
			break;
		}
		fr->waiters++;
		if (fr->ncold)
			pthread_cond_signal(&fr->work);
		pthread_mutex_unlock(&fr->lock);
		fr->pressure.kick(fr->pressure.ctx);
		pthread_mutex_lock(&fr->lock);
		/*
		 * Never sleeps without end: a missed kick costs a moment, not a hang.  And whoever populates may have
		 * to wait for write-back that waits for us, where a cgroup is full of our own files' dirty pages: so
		 * after a moment frames that have memory are evicted instead.
		 */
		if (util_cond_wait_ms(&fr->freed, &fr->lock, fr->nfree > fr->floor ? 2 : 20) == ETIMEDOUT && fr->ncold &&
		    fr->nfree <= fr->floor) {
			fr->stalled = true;
			frames_publish_left_locked(fr);
		}
		fr->waiters--;
	}
	low = frames_left_locked(fr) < fr->low;
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
	pthread_mutex_lock(&fr->lock);
	fr->stuck++;
	pthread_cond_broadcast(&fr->freed);
	pthread_mutex_unlock(&fr->lock);
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
	fr->nfree++;
	fr->nfree_slab += ch->slab;
	if (ch->slab && ch->nfree == ch->frames) {
		fr->nfree_slab -= ch->frames;
		ch->slab = false;
	}
	chunk_move(fr, c, chunk_list_of(ch));
}

/* Frames have come free: tells who waits for them, and the arena's thread if there are too many now. */
static void frames_freed_locked(struct frames *fr, bool were_too_many)
{
	frames_publish_left_locked(fr);
	if (fr->waiters)
		pthread_cond_broadcast(&fr->freed);
	if (!were_too_many && frames_may_shrink_locked(fr))
		pthread_cond_signal(&fr->work);
}

void frames_lend(struct frames *fr, struct frame *f)
{
	assert(f->state == FRAME_FILLING);
	madvise(frame_data(fr, f), FRAME_SIZE, MADV_DONTNEED);
}

int frames_unlend(struct frames *fr, struct frame *f)
{
	assert(f->state == FRAME_FILLING);
	return populate(frame_data(fr, f), FRAME_SIZE);
}

/* --- addresses and references -------------------------------------------------------------------------------- */

uint32_t frame_number(const struct frames *fr, const struct frame *f)
{
	return (uint32_t)(f - fr->frame);
}

struct frame *frame_at(const struct frames *fr, uint32_t number)
{
	assert(number < fr->total);
	return &fr->frame[number];
}

void *frame_data(const struct frames *fr, const struct frame *f)
{
	return fr->arena + (size_t)frame_number(fr, f) * FRAME_SIZE;
}

bool frames_contains(const struct frames *fr, const void *data)
{
	return (const char *)data >= fr->arena && (const char *)data < fr->arena + (size_t)fr->total * FRAME_SIZE;
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
			too_many = frames_may_shrink_locked(fr);
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

void frames_get_stats(struct frames *fr, struct frames_stats *st)
{
	pthread_mutex_lock(&fr->lock);
	st->total = fr->total;
	st->free = fr->nfree + fr->ncold;
	st->populated = fr->total - fr->ncold;
	st->bytes = (uint64_t)st->populated * (FRAME_SIZE + sizeof(struct frame)) +
		    (uint64_t)fr->nchunks * sizeof(struct chunk);
	pthread_mutex_unlock(&fr->lock);
}

void frames_check(struct frames *fr)
{
	uint32_t nfree = 0, nfree_slab = 0, ncold = 0, count[CHUNK_LISTS] = {0};

	pthread_mutex_lock(&fr->lock);
	for (uint32_t c = 0; c < fr->nchunks; c++) {
		struct chunk *ch = &fr->chunk[c];
		uint32_t free = 0;

		count[ch->list]++;
		for (unsigned i = 0; i < ch->frames; i++) {
			bool is_free = ch->free[i / 64] >> (i % 64) & 1;

			free += is_free;
			if (ch->list != CHUNK_COLD) /* a cold chunk's descriptors may never have been touched */
				assert(is_free == (fr->frame[(size_t)c * FRAMES_PER_CHUNK + i].state == FRAME_FREE));
		}
		assert(free == ch->nfree);
		assert(ch->list == CHUNK_COLD ? free == ch->frames : ch->list == chunk_list_of(ch));
		nfree_slab += ch->slab ? free : 0;
		if (ch->list == CHUNK_COLD)
			ncold += free;
		else
			nfree += free;
	}
	for (unsigned l = 0; l < CHUNK_LISTS; l++)
		assert(count[l] == fr->count[l]);
	assert(nfree == fr->nfree && nfree_slab == fr->nfree_slab && ncold == fr->ncold);
	pthread_mutex_unlock(&fr->lock);
}
