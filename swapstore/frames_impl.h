/* SPDX-License-Identifier: MIT */
/*
 * frames_impl: what arena.c (chunks, and the thread that populates and releases them) and frames.c (taking and giving
 * back frames) share, and nobody else sees.
 *
 * A frame has memory, or is absent.  A chunk is cold when all of its frames are.  Ordinarily a chunk has memory for
 * all of its frames or for none; when the arena has been made smaller while frames in use lay everywhere, the free
 * frames between them are absent, too.  Who takes a frame sees free ones only; absent ones become free again before
 * a cold chunk does.
 *
 *   absent --- arena's thread: memory, while fewer than total have it ---> free --- frames_alloc ---> in use
 *          <-- arena's thread: all of the chunk is free, or more than total have memory -- free <--- frame_put
 */
#ifndef SWAPSTORE_FRAMES_IMPL_H
#define SWAPSTORE_FRAMES_IMPL_H

#include "swapstore/frames.h"

#include <pthread.h>

#define CHUNK_BYTES ((size_t)FRAMES_PER_CHUNK * FRAME_SIZE)
#define CHUNK_WORDS (FRAMES_PER_CHUNK / 64)
#define NO_CHUNK    UINT32_MAX

/*
 * COLD: no memory.  EMPTY: none of its frames is in use.  FULL: none is free.  SLAB: as PARTIAL, but kept for bookkeeping
 * as long as data finds frames elsewhere.  LEAVING: handed to nobody while it is vacated (giveback.c).
 */
enum chunk_list { CHUNK_COLD, CHUNK_EMPTY, CHUNK_PARTIAL, CHUNK_SLAB, CHUNK_FULL, CHUNK_LEAVING, CHUNK_LISTS };

struct chunk {
	uint64_t free[CHUNK_WORDS];   /* 1 = free */
	uint64_t absent[CHUNK_WORDS]; /* 1 = without memory; never free as well */
	uint32_t prev, next;
	uint16_t nfree, nabsent;
	uint16_t described; /* so many of its first descriptors have memory */
	uint8_t list;
	bool slab;     /* since it was empty, a frame was taken for bookkeeping */
	bool leaving;
	uint8_t stays; /* times that frames_vacate() passes it over, since it could not be vacated */
};

struct frames {
	/* set at creation */
	uint32_t nchunks; /* of address space */
	char *arena;
	void *arena_map;
	size_t arena_map_bytes;
	struct frame *frame;
	size_t frame_map_bytes;
	size_t chunk_map_bytes;
	uint32_t held; /* so many frames never lose their memory */
	struct frames_pressure pressure;
	bool (*may_take)(void *ctx, size_t bytes);
	void *may_take_ctx;
	pthread_t thread;
	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t freed; /* a frame was freed, populated or taken away, or reclaim gave up */
	pthread_cond_t work;  /* the arena's thread has something to do */
	struct chunk *chunk;
	uint32_t head[CHUNK_LISTS];
	uint32_t count[CHUNK_LISTS];
	uint32_t nused;	     /* chunks that have ever been used: the first ones */
	uint32_t total;	     /* frames that may have memory */
	uint32_t populated;  /* frames that have; more than total while the arena is made smaller */
	uint32_t nfree;	     /* populated and free, but for those of leaving chunks */
	uint32_t nleaving;   /* and these */
	uint32_t give_back;  /* wholly free chunks whose memory shall go now */
	uint32_t nfree_slab; /* of those, the ones in chunks for bookkeeping */
	uint32_t nholes;     /* absent frames of chunks that are not cold */
	uint64_t ndescribed; /* descriptors that have memory */
	struct frames_shares shares;
	uint32_t keep; /* wholly free chunks that stay populated */
	uint32_t waiters;
	uint64_t stuck; /* times that reclaim said that nothing can be evicted */
	bool populate_failed;
	bool stalled; /* populating takes long, fails or is refused: cold frames are not to be had for now */
	bool refused; /* may_take() has said no */
	int64_t refused_ms; /* when */
	bool stopping;
	/* atomic: copies for those who only want to know */
	_Atomic uint32_t left;	 /* arena_left_locked() */
	_Atomic uint32_t spare;	 /* the same, were nothing stalled */
	_Atomic uint32_t extent; /* the larger of total and populated */
};

/* Frames that may get memory yet. */
static inline uint32_t frames_cold_locked(const struct frames *fr)
{
	return fr->total > fr->populated ? fr->total - fr->populated : 0;
}

/* Frames that must lose theirs. */
static inline uint32_t frames_surplus_locked(const struct frames *fr)
{
	return fr->populated > fr->total ? fr->populated - fr->total : 0;
}

/*
 * The system may have this memory of the arena.  Of a huge page that goes in parts it takes nothing before it is split,
 * and the cgroup is charged for all of it until the kernel finds time for that: MADV_COLD splits it now.  No lock.
 */
void arena_release(void *start, size_t bytes);

/* --- arena.c; all under lock ------------------------------------------------------------------------------------ */

/* Sets left and extent. */
void arena_publish_locked(struct frames *fr);

/* Frames to be had: those without memory count unless the system has none for them at the moment. */
uint32_t arena_left_locked(const struct frames *fr);

/* Sets total and what follows from it. */
void arena_share_out_locked(struct frames *fr, uint32_t total, const struct frames_shares *shares);

/* The list that a chunk's counts ask for, and putting it there; one that is empty is for anything again. */
enum chunk_list arena_list_of(const struct chunk *ch);
void arena_relist_locked(struct frames *fr, uint32_t c);

/* Has the arena's thread something to do? */
bool arena_must_grow_locked(const struct frames *fr);
bool arena_may_shrink_locked(const struct frames *fr);

/* Can it do without so many free frames: eviction and those who allocate find some, and it need not grow again? */
bool arena_can_spare_locked(const struct frames *fr, uint32_t n);

#endif
