/* SPDX-License-Identifier: MIT */
/*
 * frames: the RAM of a store.  One arena of 4 KiB frames, cut into chunks of 2 MiB (so that the kernel can back
 * it with huge pages), each frame with a small descriptor.
 *
 * A chunk is populated (its memory faulted in) by the arena's own thread, ahead of need, and given back to the
 * system when all of it has been free for a while, or frame by frame when the arena is made smaller.  A request never touches memory for the first time: it
 * finds a populated frame, or waits for one.
 *
 * A frame's life.  Each arrow is one function, and a wrong transition asserts:
 *
 *           frames_alloc            frame_fill_clean               frame_dirty
 *    FREE ───────────────► FILLING ──────────────────► CLEAN ─────────────────────► DIRTY ◄──────┐
 *     ▲                     │  │                        ▲  │                        ▲ │ frame_   │ frame_
 *     │      frame_put      │  └────────────────────────┼──┼── frame_fill_dirty ────┘ │ writeback│ writeback
 *     ├─────────────────────┘                 frame_    │  │ frame_detach             ▼ _begin   │ _undo
 *     │                                       writeback └──┼────────────────────── WRITEBACK ────┤
 *     │      frame_put               DETACHED ◄── _done ───┘                          │ frame_   │
 *     └────────────────────────────────┘ ▲                                            ▼ redirty  │
 *                                        └── frame_detach ── (DIRTY, WRITEBACK,    REDIRTIED ────┘
 *                                                             REDIRTIED, CLEAN)
 *    FREE ◄─► SLAB: the frame holds small objects of slab.c, or a bitmap of slots.c.
 *
 * CLEAN: a slot still holds the same bytes.  REDIRTIED: written to while its write-out is under way; the slot
 * is dropped when that ends.  DETACHED: out of the tree, kept by somebody's pin.
 *
 * References: the tree holds one, each pin one, reclaim one while it works on the frame.  The last frame_put()
 * frees it.  Pins are taken under the object's lock only, so a count that is too high for eviction there stays
 * a reason not to evict.
 *
 * Context: state, object, index and swap are guarded by the lock of the object whose tree holds the frame
 * (FILLING, DETACHED: private to the holder of the reference); the rest is said at each member.
 */
#ifndef SWAPSTORE_FRAMES_H
#define SWAPSTORE_FRAMES_H

#include "swapstore/entry.h"

#include <stdatomic.h>
#include <stddef.h>

#define FRAME_SIZE	 4096U
#define FRAMES_PER_CHUNK 512U
#define FRAME_NIL	 UINT32_MAX /* no frame, in the 32-bit links of lists */

enum frame_state {
	FRAME_FREE,
	FRAME_FILLING,
	FRAME_CLEAN,
	FRAME_DIRTY,
	FRAME_WRITEBACK,
	FRAME_REDIRTIED,
	FRAME_DETACHED,
	FRAME_SLAB,
};

struct ss_object;

struct frame {
	union {
		struct ss_object *object; /* owner; NULL when detached */
		void *slab_free;	  /* SLAB: first free object (slab.c) */
	};
	union {
		uint64_t index;	    /* page of the object */
		uint32_t slab_used; /* SLAB: objects in use (slab.c) */
	};
	entry_t swap;		/* CLEAN: the swap entry with the same bytes */
	uint32_t prev, next;	/* lru.c (its lock) or slab.c (the class's lock) */
	_Atomic uint32_t refs;
	uint8_t state;		/* enum frame_state */
	uint8_t queue;		/* enum lru_queue, under the LRU lock */
	_Atomic uint8_t uses;	/* hits since it was queued, saturating; lru.c */
};

struct frames;

/* What makes room when the arena is used up (reclaim.c): must not block.  A caller of frames_alloc() may hold the
 * lock of slots.c. */
struct frames_pressure {
	void (*kick)(void *ctx);
	void *ctx;
};

/*
 * Shares of the frames.  reserve: of the last so many ordinary callers get none; floor (less than reserve): of the last
 * so many only FRAMES_CRITICAL ones.  low: pressure is told when fewer are left.
 */
struct frames_shares {
	uint32_t reserve, floor, low;
};

struct frames_config {
	uint32_t total; /* frames that may have memory (>= 8) */
	uint32_t most;	/* what total may be raised to later: address space alone; where there is too little, total */
	uint32_t held;	/* so many have memory at once, and keep it */
	struct frames_shares shares;
	/* See frames_place(). */
	int (*place)(void *ctx, void *start, size_t bytes);
	void *place_ctx;
	bool (*may_take)(void *ctx, size_t bytes); /* see struct swapstore_config; called without a lock */
	void *may_take_ctx;
};

/* Starts the arena's thread.  0 or -errno. */
int frames_create(const struct frames_config *config, struct frames **out);
void frames_set_pressure(struct frames *fr, const struct frames_pressure *pressure);
/* Ends the thread, so that may_take() is not called any more: frames can still be put back, no more are to be had. */
void frames_stop(struct frames *fr);
void frames_destroy(struct frames *fr);

/*
 * Tells the system how the arena's memory shall be placed (huge pages, nodes), now and for what is populated later.
 * NULL: huge pages where it has them.  0, or what place() says.
 */
int frames_place(struct frames *fr, int (*place)(void *ctx, void *start, size_t bytes), void *ctx);

/* The most that total can be; and what it may be so that frames and descriptors take no more than bytes. */
uint32_t frames_most(const struct frames *fr);
uint32_t frames_fit(struct frames *fr, uint64_t bytes);

/*
 * Another total, at most frames_most().  A smaller one takes the memory of free frames as they come free; until then
 * only eviction is given any.  frames_await_total() waits up to ms for that; returns how many are still to go.
 */
void frames_set_total(struct frames *fr, uint32_t total, const struct frames_shares *shares);
uint32_t frames_await_total(struct frames *fr, long ms);

enum frames_flags {
	FRAMES_NOWAIT = 1,  /* do not wait, take what is there */
	FRAMES_RESERVE = 2, /* may use the reserve down to the floor: what was promised must find room */
	FRAMES_CRITICAL = 4, /* may use every frame: eviction itself needs it, and will give more back */
	FRAMES_SLAB = 8, /* for bookkeeping, which outlives data: not in between it, or no chunk comes wholly free */
};

/*
 * Takes 1 .. want frames, FILLING, one reference each, contents undefined.  Waits until there is at least one:
 * hold no frames, pins or I/O contexts while calling without FRAMES_NOWAIT.  Returns how many, or -ENOSPC
 * (reclaim says that nothing more can be evicted), or with FRAMES_NOWAIT -EAGAIN.
 */
int frames_alloc(struct frames *fr, struct frame **out, unsigned want, unsigned flags);

/* Does anybody wait for a frame? */
bool frames_wanted(struct frames *fr);

/*
 * Reclaim's word that a whole pass found nothing to evict: those who have waited for two of them get -ENOSPC, and the
 * arena grows without asking.
 */
void frames_no_progress(struct frames *fr);

/* The memory of a frame; the frame that memory belongs to (any address in it). */
void *frame_data(const struct frames *fr, const struct frame *f);
struct frame *frame_of(const struct frames *fr, const void *data);
uint32_t frame_number(const struct frames *fr, const struct frame *f);
struct frame *frame_at(const struct frames *fr, uint32_t number);
bool frames_contains(const struct frames *fr, const void *data);

/* References; frame_put() of the last one frees a FILLING, DETACHED or SLAB frame. */
void frame_get(struct frame *f);
void frame_put(struct frames *fr, struct frame *f);
/* The same for n of them, waking those who wait for frames once, when all are there. */
void frames_put(struct frames *fr, struct frame *const *f, unsigned n);
static inline uint32_t frame_refs(struct frame *f)
{
	return atomic_load_explicit(&f->refs, memory_order_acquire);
}

/*
 * Lends the frame's memory to the system (its bytes are used elsewhere, by malloc) and takes it back: how a
 * large allocation is charged to the arena.  The frame must be FILLING.  frames_unlend() returns 0 or -ENOMEM.
 */
void frames_lend(struct frames *fr, struct frame *f);
int frames_unlend(struct frames *fr, struct frame *f);

/*
 * Giving memory back before it has been free for long (giveback.c).  frames_release() waits until the memory of up to so
 * many chunks that are wholly free has gone.  Where free frames lie scattered, frames_vacate() chooses the chunk with the
 * most of them and hands out no more of it, until frames_vacated(), which the caller calls when it has evicted what it
 * could of the FRAMES_PER_CHUNK frames from *first on; true: now it is wholly free.  frames_vacate() is false when those
 * who allocate could not spare one.
 */
void frames_release(struct frames *fr, uint32_t chunks);
bool frames_vacate(struct frames *fr, uint32_t *first);
bool frames_vacated(struct frames *fr, uint32_t first);

/* Transitions (see the drawing). */
void frame_fill_clean(struct frame *f, struct ss_object *obj, uint64_t index, entry_t swap);
void frame_fill_dirty(struct frame *f, struct ss_object *obj, uint64_t index);
void frame_dirty(struct frame *f);
void frame_writeback_begin(struct frame *f);
void frame_redirty(struct frame *f);
void frame_writeback_done(struct frame *f, entry_t swap);
void frame_writeback_undo(struct frame *f);
void frame_detach(struct frame *f);
void frame_to_slab(struct frame *f);

struct frames_stats {
	uint32_t total;
	uint32_t opened;    /* the frames from 0 up to here have ever had memory, the others never */
	uint32_t used;	    /* in somebody's hands, or in a tree */
	uint32_t populated; /* backed by memory, used or not */
	uint64_t bytes;	    /* memory of the populated frames, of descriptors, and of the chunk table */
};
void frames_get_stats(struct frames *fr, struct frames_stats *st);

/* Frames left to take: free ones and those not populated yet.  Cheap. */
uint32_t frames_left(struct frames *fr);

/* The same, but populating may lag behind: how far RAM is from full.  Cheap. */
uint32_t frames_spare(struct frames *fr);

/* Frames that have or may have memory: total, or more while it is made smaller.  Cheap. */
uint32_t frames_extent(struct frames *fr);

/* Bookkeeping bytes for each frame of an arena. */
size_t frames_overhead(void);

/* Every free bitmap against every counter and state (asserts; nobody else may use fr); for tests. */
void frames_check(struct frames *fr);

#endif
