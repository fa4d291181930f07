/* SPDX-License-Identifier: MIT */
/*
 * arena: the memory below the frames: the address space, its chunks, and the thread that populates and releases them.
 * Guarded by the lock of struct frames; only the thread (before it runs, frames_create) makes frames absent or not, so
 * it may drop the lock while the system finds or takes the memory.  frames.c takes and frees frames.
 */
#include "swapstore/frames_impl.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define KEEP_MAX	 4U   /* the most chunks that stay populated though wholly free */
#define RELEASE_AFTER_MS 1000 /* how long a surplus must last before it goes back to the system */
#define RETRY_MS	 1000 /* after the system had no memory */
#define ASK_AGAIN_MS	 50   /* after may_take() said no */
#define ASK_LATER_MS	 200  /* the same while eviction makes do with the memory there is */

/* --- lists ---------------------------------------------------------------------------------------------------- */

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

static void chunk_enlist(struct frames *fr, uint32_t c, enum chunk_list list)
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

enum chunk_list arena_list_of(const struct chunk *ch)
{
	if (ch->leaving)
		return CHUNK_LEAVING;
	if (ch->nabsent == FRAMES_PER_CHUNK)
		return CHUNK_COLD;
	if (ch->nfree + ch->nabsent == FRAMES_PER_CHUNK)
		return CHUNK_EMPTY;
	return ch->nfree == 0 ? CHUNK_FULL : ch->slab ? CHUNK_SLAB : CHUNK_PARTIAL;
}

void arena_relist_locked(struct frames *fr, uint32_t c)
{
	struct chunk *ch = &fr->chunk[c];
	enum chunk_list list = arena_list_of(ch);

	if (ch->list == list)
		return;
	if (ch->slab && (list == CHUNK_EMPTY || list == CHUNK_COLD)) {
		fr->nfree_slab -= ch->nfree;
		ch->slab = false;
	}
	chunk_unlist(fr, c);
	chunk_enlist(fr, c, list);
}

static uint32_t arena_ready_locked(const struct frames *fr)
{
	uint32_t surplus = frames_surplus_locked(fr);

	return fr->nfree > surplus ? fr->nfree - surplus : 0;
}

uint32_t arena_left_locked(const struct frames *fr)
{
	return arena_ready_locked(fr) + (fr->populate_failed || fr->stalled ? 0 : frames_cold_locked(fr));
}

void arena_publish_locked(struct frames *fr)
{
	atomic_store_explicit(&fr->left, arena_left_locked(fr), memory_order_relaxed);
	atomic_store_explicit(&fr->spare, arena_ready_locked(fr) + (fr->populate_failed ? 0 : frames_cold_locked(fr)),
			      memory_order_relaxed);
	atomic_store_explicit(&fr->extent, fr->total > fr->populated ? fr->total : fr->populated,
			      memory_order_relaxed);
}

void arena_share_out_locked(struct frames *fr, uint32_t total, const struct frames_shares *shares)
{
	uint32_t chunks = total / FRAMES_PER_CHUNK + (total % FRAMES_PER_CHUNK != 0);

	assert(total <= fr->nchunks * FRAMES_PER_CHUNK);
	fr->total = total;
	fr->shares = *shares;
	fr->keep = chunks / 32 < 1 ? 1 : chunks / 32 < KEEP_MAX ? chunks / 32 : KEEP_MAX;
	arena_publish_locked(fr);
}

/* --- memory: nobody else touches what is absent, so no lock --------------------------------------------------- */

static char *frame_memory(struct frames *fr, uint32_t c, unsigned i)
{
	return fr->arena + (size_t)c * CHUNK_BYTES + (size_t)i * FRAME_SIZE;
}

void arena_release(void *start, size_t bytes)
{
	if (bytes < CHUNK_BYTES)
		madvise(start, bytes, MADV_COLD);
	madvise(start, bytes, MADV_DONTNEED);
}

/* The next run of set bits in map at or after *from, at most want long; its length, 0 if there is none. */
static unsigned bits_run(const uint64_t *map, unsigned *from, unsigned want)
{
	unsigned n = 0;

	while (*from < FRAMES_PER_CHUNK && !(map[*from / 64] >> (*from % 64) & 1))
		++*from;
	while (n < want && *from + n < FRAMES_PER_CHUNK && map[(*from + n) / 64] >> ((*from + n) % 64) & 1)
		n++;
	return n;
}

static void bits_flip(uint64_t *map, unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		map[i / 64] ^= UINT64_C(1) << (i % 64);
}

/* Address space becomes memory that may be used: before, it counts against nothing, not even strict overcommit. */
static int chunk_open(struct frames *fr, uint32_t c)
{
	struct frame *desc = &fr->frame[(size_t)c * FRAMES_PER_CHUNK];

	if (mprotect(frame_memory(fr, c, 0), CHUNK_BYTES, PROT_READ | PROT_WRITE) < 0 ||
	    mprotect(desc, FRAMES_PER_CHUNK * sizeof(*desc), PROT_READ | PROT_WRITE) < 0)
		return -errno;
	return 0;
}

/* --- growing ------------------------------------------------------------------------------------------------ */

/* A chunk with absent frames that is not cold.  There is one. */
static uint32_t arena_find_hole_locked(const struct frames *fr)
{
	uint32_t c = 0;

	while (fr->chunk[c].list == CHUNK_COLD || !fr->chunk[c].nabsent)
		c++;
	return c;
}

/* A cold chunk; a new one if need be. */
static int arena_find_cold_locked(struct frames *fr, uint32_t *c)
{
	struct chunk *ch = &fr->chunk[fr->nused];
	int err;

	*c = fr->head[CHUNK_COLD];
	if (*c != NO_CHUNK)
		return 0;
	assert(fr->nused < fr->nchunks);
	err = chunk_open(fr, fr->nused);
	if (err)
		return err;
	*c = fr->nused++;
	memset(ch->absent, 0xff, sizeof(ch->absent));
	ch->nabsent = FRAMES_PER_CHUNK;
	chunk_enlist(fr, *c, CHUNK_COLD);
	return 0;
}

/* A run of absent frames of the chunk has got its memory: they are free. */
static void chunk_came_locked(struct frames *fr, uint32_t c, unsigned from, unsigned run)
{
	struct chunk *ch = &fr->chunk[c];

	if (ch->list == CHUNK_COLD)
		fr->nholes += FRAMES_PER_CHUNK;
	bits_flip(ch->absent, from, run);
	bits_flip(ch->free, from, run);
	ch->nabsent -= (uint16_t)run;
	ch->nfree += (uint16_t)run;
	fr->nholes -= run;
	fr->populated += run;
	fr->nfree += run;
	fr->nfree_slab += ch->slab ? run : 0;
	if (from + run > ch->described) {
		fr->ndescribed += from + run - ch->described;
		ch->described = (uint16_t)(from + run);
	}
	arena_relist_locked(fr, c);
}

/* Memory for n of the chunk's absent frames, lowest first.  Drops the lock while it is faulted in. */
static int chunk_grow_locked(struct frames *fr, uint32_t c, unsigned n)
{
	const struct chunk *ch = &fr->chunk[c];
	struct frame *desc = &fr->frame[(size_t)c * FRAMES_PER_CHUNK];
	unsigned from = 0, run, done = 0;
	int err = 0;

	while (done < n && !err && (run = bits_run(ch->absent, &from, n - done)) > 0) {
		pthread_mutex_unlock(&fr->lock);
		err = util_populate(&desc[from], run * sizeof(*desc));
		if (!err)
			err = util_populate(frame_memory(fr, c, from), (size_t)run * FRAME_SIZE);
		pthread_mutex_lock(&fr->lock);
		if (err)
			break;
		chunk_came_locked(fr, c, from, run);
		from += run;
		done += run;
	}
	return done ? 0 : err;
}

static int arena_grow_locked(struct frames *fr)
{
	uint32_t room = frames_cold_locked(fr), c;
	int err = 0;

	if (fr->nholes)
		c = arena_find_hole_locked(fr);
	else
		err = arena_find_cold_locked(fr, &c);
	if (!err)
		err = chunk_grow_locked(fr, c, room < FRAMES_PER_CHUNK ? room : FRAMES_PER_CHUNK);
	if (err)
		return err;
	fr->stalled = false;
	arena_publish_locked(fr);
	pthread_cond_broadcast(&fr->freed);
	return 0;
}

/* May a chunk be populated?  Not if may_take() says no, unless eviction has found nothing since it was last asked. */
static bool arena_may_grow_locked(struct frames *fr, uint64_t *stuck)
{
	bool may = true;

	if (fr->may_take != NULL) {
		pthread_mutex_unlock(&fr->lock);
		may = fr->may_take(fr->may_take_ctx, CHUNK_BYTES);
		pthread_mutex_lock(&fr->lock);
	}
	may |= fr->stuck != *stuck;
	*stuck = fr->stuck;
	return may;
}

/* --- shrinking ------------------------------------------------------------------------------------------------ */

/* Takes the memory of up to n of the chunk's free frames, dropping the lock meanwhile. */
static void chunk_shrink_locked(struct frames *fr, uint32_t c, unsigned n)
{
	struct chunk *ch = &fr->chunk[c];
	unsigned from = 0, run, gone = 0;

	while (gone < n && (run = bits_run(ch->free, &from, n - gone)) > 0) {
		bits_flip(ch->free, from, run);
		bits_flip(ch->absent, from, run);
		ch->nfree -= (uint16_t)run;
		ch->nabsent += (uint16_t)run;
		fr->nfree -= run;
		fr->nfree_slab -= ch->slab ? run : 0;
		fr->populated -= run;
		fr->nholes += run;
		arena_relist_locked(fr, c);
		if (ch->list == CHUNK_COLD)
			fr->nholes -= FRAMES_PER_CHUNK;
		arena_publish_locked(fr);
		pthread_mutex_unlock(&fr->lock);
		arena_release(frame_memory(fr, c, from), (size_t)run * FRAME_SIZE);
		pthread_mutex_lock(&fr->lock);
		from += run;
		gone += run;
	}
	if (ch->list == CHUNK_COLD) {
		struct frame *desc = &fr->frame[(size_t)c * FRAMES_PER_CHUNK];

		fr->ndescribed -= ch->described;
		ch->described = 0;
		madvise(desc, FRAMES_PER_CHUNK * sizeof(*desc), MADV_DONTNEED); /* whole pages, since chunks are */
	}
}

bool arena_can_spare_locked(const struct frames *fr, uint32_t n)
{
	uint32_t ready = fr->nfree - fr->nfree_slab;

	return ready >= n + fr->keep * FRAMES_PER_CHUNK / 2 && ready >= n + fr->shares.reserve &&
	       fr->populated >= n + fr->held;
}

/* The next of the chunks that shall go, or none can. */
static void arena_give_back_locked(struct frames *fr)
{
	uint32_t c = fr->head[CHUNK_EMPTY];

	if (c != NO_CHUNK && arena_can_spare_locked(fr, fr->chunk[c].nfree)) {
		fr->give_back--;
		chunk_shrink_locked(fr, c, FRAMES_PER_CHUNK);
	} else {
		fr->give_back = 0;
	}
	pthread_cond_broadcast(&fr->freed);
}

/* Whole chunks first, as they are huge pages. */
static void arena_shrink_locked(struct frames *fr)
{
	uint32_t surplus = frames_surplus_locked(fr), c = fr->head[CHUNK_EMPTY];
	uint32_t most = FRAMES_PER_CHUNK;

	if (surplus) {
		/* What eviction itself needs stays; more comes free as it goes on. */
		most = fr->nfree - fr->shares.floor;
		most = most < surplus ? most : surplus;
		if (c == NO_CHUNK || fr->chunk[c].nfree > most) {
			uint32_t part = fr->head[CHUNK_PARTIAL] != NO_CHUNK ? fr->head[CHUNK_PARTIAL] : fr->head[CHUNK_SLAB];

			c = part != NO_CHUNK ? part : c;
		}
	}
	chunk_shrink_locked(fr, c, most);
	pthread_cond_broadcast(&fr->freed);
}

bool arena_must_grow_locked(const struct frames *fr)
{
	return frames_cold_locked(fr) > 0 &&
	       (fr->nfree - fr->nfree_slab < fr->keep * FRAMES_PER_CHUNK / 2 || fr->populated < fr->held);
}

/* More have memory than may, and some of them are free. */
static bool arena_must_shrink_locked(const struct frames *fr)
{
	return frames_surplus_locked(fr) > 0 && fr->nfree > fr->shares.floor;
}

bool arena_may_shrink_locked(const struct frames *fr)
{
	return arena_must_shrink_locked(fr) ||
	       (fr->count[CHUNK_EMPTY] > fr->keep && fr->populated >= fr->held + FRAMES_PER_CHUNK);
}

/* --- the thread ----------------------------------------------------------------------------------------------- */

/* How long may_take()'s no is heeded yet. */
static long arena_heeds_ms_locked(const struct frames *fr)
{
	return (long)(fr->refused_ms + (arena_must_grow_locked(fr) ? ASK_AGAIN_MS : ASK_LATER_MS) - util_now_ms());
}

/*
 * Is it time to grow?  Once refused or stalled also if nothing is needed at the moment: nobody else would find out that
 * there is room again.
 */
static bool arena_is_to_grow_locked(const struct frames *fr)
{
	if (fr->populate_failed)
		return false;
	return fr->refused ? arena_heeds_ms_locked(fr) <= 0 : fr->stalled || arena_must_grow_locked(fr);
}

static void arena_try_to_grow_locked(struct frames *fr, uint64_t *stuck)
{
	fr->refused = !arena_may_grow_locked(fr, stuck);
	fr->stalled = fr->refused;
	if (fr->refused) {
		fr->refused_ms = util_now_ms();
		pthread_cond_broadcast(&fr->freed);
	} else {
		/* The lock was dropped: the cap may have been lowered meanwhile. */
		fr->populate_failed = arena_must_grow_locked(fr) && arena_grow_locked(fr) != 0;
	}
	arena_publish_locked(fr);
}

/* Waits for work; while there is a surplus (since that moment), or no memory, only for a while. */
static void arena_wait_locked(struct frames *fr, int64_t surplus_since)
{
	if (fr->refused) {
		long ms;

		while (!fr->stopping && !fr->give_back && (ms = arena_heeds_ms_locked(fr)) > 0)
			util_cond_wait_ms(&fr->work, &fr->lock, ms < ASK_AGAIN_MS ? ms : ASK_AGAIN_MS);
	} else if (fr->populate_failed) {
		util_cond_wait_ms(&fr->work, &fr->lock, RETRY_MS);
		fr->populate_failed = fr->stalled = false;
		arena_publish_locked(fr);
	} else if (surplus_since) {
		int64_t ms = surplus_since + RELEASE_AFTER_MS - util_now_ms();

		util_cond_wait_ms(&fr->work, &fr->lock, ms > 0 ? (long)ms : 1);
	} else {
		pthread_cond_wait(&fr->work, &fr->lock);
	}
}

static void *arena_thread(void *arg)
{
	struct frames *fr = arg;
	int64_t surplus_since = 0;
	uint64_t stuck = 0;

	pthread_setname_np(pthread_self(), "spill-arena");
	util_touch_stack();
	pthread_mutex_lock(&fr->lock);
	while (!fr->stopping) {
		if (arena_is_to_grow_locked(fr)) {
			arena_try_to_grow_locked(fr, &stuck);
			continue;
		}
		if (arena_must_shrink_locked(fr)) {
			arena_shrink_locked(fr);
			continue;
		}
		if (fr->give_back > 0) {
			arena_give_back_locked(fr);
			continue;
		}
		if (!arena_may_shrink_locked(fr)) {
			surplus_since = 0;
		} else if (!surplus_since) {
			surplus_since = util_now_ms();
		} else if (util_now_ms() - surplus_since >= RELEASE_AFTER_MS) {
			arena_shrink_locked(fr);
			continue;
		}
		arena_wait_locked(fr, surplus_since);
	}
	pthread_mutex_unlock(&fr->lock);
	return NULL;
}

/* --- life ----------------------------------------------------------------------------------------------------- */

size_t frames_overhead(void)
{
	return sizeof(struct frame) + sizeof(struct chunk) / FRAMES_PER_CHUNK + 1;
}

static void *arena_map(size_t bytes, int prot)
{
	void *p = mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void arena_unmap(struct frames *fr)
{
	if (fr->arena_map)
		munmap(fr->arena_map, fr->arena_map_bytes);
	if (fr->frame)
		munmap(fr->frame, fr->frame_map_bytes);
	if (fr->chunk)
		munmap(fr->chunk, fr->chunk_map_bytes);
	fr->arena_map = NULL;
	fr->frame = NULL;
	fr->chunk = NULL;
}

/* Address space for so many frames. */
static int arena_map_for(struct frames *fr, uint32_t most)
{
	fr->nchunks = most / FRAMES_PER_CHUNK + (most % FRAMES_PER_CHUNK != 0);
	fr->arena_map_bytes = (size_t)fr->nchunks * CHUNK_BYTES + CHUNK_BYTES; /* room to align */
	fr->frame_map_bytes = (size_t)fr->nchunks * FRAMES_PER_CHUNK * sizeof(struct frame);
	fr->chunk_map_bytes = (size_t)fr->nchunks * sizeof(struct chunk);
	fr->arena_map = arena_map(fr->arena_map_bytes, PROT_NONE);
	fr->frame = arena_map(fr->frame_map_bytes, PROT_NONE);
	fr->chunk = arena_map(fr->chunk_map_bytes, PROT_READ | PROT_WRITE);
	if (!fr->arena_map || !fr->frame || !fr->chunk) {
		arena_unmap(fr);
		return -ENOMEM;
	}
	fr->arena = (char *)(((uintptr_t)fr->arena_map + CHUNK_BYTES - 1) & ~(uintptr_t)(CHUNK_BYTES - 1));
	madvise(fr->arena, (size_t)fr->nchunks * CHUNK_BYTES, MADV_DONTDUMP);
	return 0;
}

static int arena_start(struct frames *fr, const struct frames_config *config)
{
	int err = arena_map_for(fr, config->most > config->total ? config->most : config->total);

	if (err && config->most > config->total) /* a limit on address space: without room to grow, then */
		err = arena_map_for(fr, config->total);
	if (!err)
		err = frames_place(fr, config->place, config->place_ctx);
	pthread_mutex_lock(&fr->lock);
	arena_share_out_locked(fr, config->total, &config->shares);
	while (!err && arena_must_grow_locked(fr))
		err = arena_grow_locked(fr);
	pthread_mutex_unlock(&fr->lock);
	return err ? err : util_thread_start(&fr->thread, arena_thread, fr);
}

int frames_create(const struct frames_config *config, struct frames **out)
{
	struct frames *fr = calloc(1, sizeof(*fr));
	int err;

	assert(config->total >= 8 && config->shares.floor <= config->shares.reserve &&
	       config->shares.reserve < config->total);
	if (!fr)
		return -ENOMEM;
	fr->may_take = config->may_take;
	fr->may_take_ctx = config->may_take_ctx;
	fr->held = config->held < config->total ? config->held : config->total;
	for (unsigned l = 0; l < CHUNK_LISTS; l++)
		fr->head[l] = NO_CHUNK;
	pthread_mutex_init(&fr->lock, NULL);
	util_cond_init(&fr->freed);
	util_cond_init(&fr->work);
	err = arena_start(fr, config);
	if (err) {
		fr->thread = 0;
		frames_destroy(fr);
		return err;
	}
	*out = fr;
	return 0;
}

void frames_stop(struct frames *fr)
{
	if (!fr || !fr->thread)
		return;
	pthread_mutex_lock(&fr->lock);
	fr->stopping = true;
	pthread_cond_signal(&fr->work);
	pthread_mutex_unlock(&fr->lock);
	pthread_join(fr->thread, NULL);
	fr->thread = 0;
}

void frames_destroy(struct frames *fr)
{
	if (!fr)
		return;
	frames_stop(fr);
	arena_unmap(fr);
	pthread_cond_destroy(&fr->freed);
	pthread_cond_destroy(&fr->work);
	pthread_mutex_destroy(&fr->lock);
	free(fr);
}

/* --- another size ------------------------------------------------------------------------------------------------ */

int frames_place(struct frames *fr, int (*place)(void *ctx, void *start, size_t bytes), void *ctx)
{
	size_t bytes = (size_t)fr->nchunks * CHUNK_BYTES;

	if (place)
		return place(ctx, fr->arena, bytes);
	madvise(fr->arena, bytes, MADV_HUGEPAGE); /* a hint: refused where huge pages are off */
	return 0;
}

uint32_t frames_most(const struct frames *fr)
{
	return fr->nchunks * FRAMES_PER_CHUNK;
}

uint32_t frames_fit(struct frames *fr, uint64_t bytes)
{
	const size_t each = FRAME_SIZE + frames_overhead();
	uint64_t described, kept, n;

	pthread_mutex_lock(&fr->lock);
	described = fr->ndescribed;
	/* The thread may be at work on one more chunk at this moment. */
	described += FRAMES_PER_CHUNK;
	kept = described * sizeof(struct frame) + ((uint64_t)fr->nused + 1) * sizeof(struct chunk);
	pthread_mutex_unlock(&fr->lock);
	n = bytes / each;
	if (n < described) /* the descriptors that have memory keep it, scattered as they are */
		n = bytes > kept ? (bytes - kept) / FRAME_SIZE : 0;
	return n < frames_most(fr) ? (uint32_t)n : frames_most(fr);
}

void frames_set_total(struct frames *fr, uint32_t total, const struct frames_shares *shares)
{
	pthread_mutex_lock(&fr->lock);
	arena_share_out_locked(fr, total, shares);
	fr->populate_failed = fr->stalled = false;
	pthread_cond_signal(&fr->work);
	pthread_cond_broadcast(&fr->freed);
	pthread_mutex_unlock(&fr->lock);
	if (fr->pressure.kick)
		fr->pressure.kick(fr->pressure.ctx);
}

uint32_t frames_await_total(struct frames *fr, long ms)
{
	int64_t until = util_now_ms() + ms;
	uint32_t surplus;

	pthread_mutex_lock(&fr->lock);
	while ((surplus = frames_surplus_locked(fr)) > 0 && util_now_ms() < until) {
		pthread_mutex_unlock(&fr->lock);
		if (fr->pressure.kick)
			fr->pressure.kick(fr->pressure.ctx);
		pthread_mutex_lock(&fr->lock);
		util_cond_wait_ms(&fr->freed, &fr->lock, 10);
	}
	pthread_mutex_unlock(&fr->lock);
	return surplus;
}
