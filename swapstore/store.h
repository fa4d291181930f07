/* SPDX-License-Identifier: MIT */
/*
 * store: what the modules of swapstore share and nobody else sees: the struct behind swapstore.h, objects, and
 * the lock order.
 *
 * Lock order, each edge with a function that takes it:
 *   object->lock -> lru.lock      detach_locked (frame off its queue before it leaves the tree)
 *   object->lock -> frames.lock   frame_put while a batch is detached
 *   object->lock -> nothing else: slots, slab and the ring pool are used with no object lock held
 *   slab class, slots -> frames.lock   (a bitmap page or a frame of small objects comes or goes)
 *   slots -> reclaim.lock	   reclaim_kick, from frames_alloc for a bitmap page
 *   trouble.lock -> slots.lock    trouble_write_failed (a run goes on probation)
 *   areas.lock -> slots.lock	   swapareas_alloc
 *   object->lock -> areas.lock	   writing_install_locked, by swapareas_free() while a disk is sick;
 *                                 writing_may_go_around_locked
 *   areas.change -> any of the others, and it is held across I/O and a wait for frames: whoever does those for a
 *                                 living (reclaim, readers, writers) never takes it; the trimmer only tries to
 *   objects.lock -> nothing
 *   two object locks are never held at once
 * No other lock is held across I/O or a wait for memory.
 *
 * Who may wait for whom: a caller waiting for a frame holds no frame, pin or I/O context; a holder of an I/O
 * context waits for the disk alone; reclaim waits for the disk and has contexts of its own.  So every wait ends.
 */
#ifndef SWAPSTORE_STORE_H
#define SWAPSTORE_STORE_H

#include "swapstore/frames.h"
#include "swapstore/lru.h"
#include "swapstore/slab.h"
#include "swapstore/slots.h"
#include "swapstore/swaparea.h"
#include "swapstore/swapstore.h"

#include <pthread.h>
#include <stdatomic.h>

struct ss_object {
	pthread_mutex_t lock;	   /* guards tree and the state of its frames */
	struct tree tree;	   /* page index -> entry */
	_Atomic uint64_t pages;	   /* entries in tree; written under lock */
	_Atomic uint32_t refs;	   /* the owner's, and one for each frame that reclaim works on */
	bool wired;		   /* wire.c; under lock: new frames stay off the queues */
	uint64_t touched;	   /* the page used last; under lock */
	_Atomic(const struct ss_payer *) payer; /* account.c; written under lock */
	struct ss_object *prev, *next; /* leave.c, under objects.lock */
};

struct store_counters {
	_Atomic uint64_t swapin_pages, swapout_pages, swapin_errors, swapout_errors, checksum_errors;
	_Atomic uint64_t zero_pages, clean_evictions, readthrough_pages, writearound_pages;
};

#define RECLAIM_WORKERS_MAX 2

struct reclaim {
	/* frames; limits.c */
	_Atomic uint32_t step; /* start when fewer than the reserve and this are left, stop at twice this */
	_Atomic uint32_t batch; /* so many in one go */
	unsigned nworkers; /* more may come when RAM does */
	struct reclaim_worker {
		struct swapstore *store;
		struct batch *batch;
		pthread_t thread;
	} worker[RECLAIM_WORKERS_MAX];
	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t work;
	bool stopping;
	/* atomic */
	_Atomic uint32_t idle;	    /* workers that wait for work */
	_Atomic uint32_t fruitless; /* pages refused by slots or disk since the last that went, or since that was said */
};

struct trimmer {
	pthread_t thread;
	bool started;
	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t work;
	bool stopping;
	/* atomic, set under lock */
	_Atomic bool kicked;
};

struct swapstore {
	/* atomic, for they may be changed: limits.c */
	_Atomic uint64_t ram_bytes;	   /* the cap */
	_Atomic uint64_t size_pages;
	_Atomic uint64_t squeeze_pages;	   /* what ordinary writes may fill while limits are about to change */
	_Atomic uint64_t limits_turn;	   /* how often limits have been lowered */
	_Atomic uint32_t nframes;
	_Atomic uint64_t nslots;	   /* that may be used */
	_Atomic uint32_t frames_reserve;   /* frames that only work which frees others may take */
	_Atomic uint32_t data_floor;	   /* frames that bookkeeping leaves to data */
	_Atomic uint32_t work_frames;	   /* frames that wired pages leave to everything else */
	/* under areas.change */
	uint32_t floor;	     /* of the frames, see store_set_floor() */
	/* set at open */
	uint64_t ram_fixed;  /* what of the cap is taken before the first frame */
	uint64_t held_bytes; /* RAM that is never given back: part of reserve_bytes */
	uint64_t reserve_bytes;
	size_t io_bytes;
	unsigned contexts;	 /* in the pool of rings, RAM permitting */
	enum ring_engine engine; /* as asked for */
	bool read_through;
	bool (*may_take)(void *ctx, size_t bytes);
	void *may_take_ctx;
	struct ring_hook io_hook;
	/* set with the first area, under areas.change, and kept: a store that has none has no swapped page either */
	struct ring_pool *rings;
	void *rings_charge; /* NULL: they are part of ram_fixed */
	/* each with a lock of its own */
	struct frames *frames;
	struct slab *slab;
	struct swapareas areas;
	struct lru lru;
	struct reclaim reclaim;
	struct trimmer trimmer;
	struct {
		pthread_mutex_t lock;
		struct ss_object *head; /* all objects, for leave.c */
	} objects;
	/* atomic */
	_Atomic uint64_t pages;	      /* of all objects */
	_Atomic uint32_t data_frames; /* frames that trees hold */
	_Atomic uint64_t misses;      /* pages read from swap: the ghosts' clock */
	struct store_counters count;
	void *zero_page;	      /* a page of zeroes to lend to readers */
};

static inline void store_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline void store_uncount(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_sub_explicit(counter, n, memory_order_relaxed);
}

/* --- swapstore.c ------------------------------------------------------------------------------------------------ */

/* Which frames the pages of a write may take. */
static inline unsigned store_frames_flags(unsigned write_flags)
{
	return write_flags & SS_WRITE_ACKED ? FRAMES_RESERVE : 0;
}

/* ss_stash_fill() with enum frames_flags. */
int store_stash_fill(struct swapstore *store, struct tree_stash *stash, unsigned nodes, unsigned frames_flags);

/* The moment in the ghosts' clock: it ticks once for each arenaful of misses. */
uint16_t store_epoch(struct swapstore *store);

/* --- limits.c --------------------------------------------------------------------------------------------------- */

#define STORE_FRAMES_MIN 16U
#define STORE_FRAMES_MAX (UINT32_MAX - 1 - FRAMES_PER_CHUNK)

/* How many frames there are, and for what. */
struct store_shares {
	uint32_t nframes, data_floor, work_frames, step, batch;
	uint64_t acked_reserve;
	struct frames_shares frames;
};
void store_shares_of(uint32_t nframes, uint64_t nslots, uint32_t floor, struct store_shares *sh);
void store_take_shares(struct swapstore *store, const struct store_shares *sh);

/*
 * Frames that a batch of eviction may need for bitmaps of slots: two groups of slots, with two pages each; with several
 * areas one group more for each.
 */
#define STORE_BITMAP_FRAMES 4U

/* Sets so many frames aside for them, if there are fewer so far: in a live store, areas.change held. */
void store_set_floor(struct swapstore *store, uint32_t floor);

/* Pages that RAM and all areas that are IN_USE could hold. */
uint64_t store_room_in_use(struct swapstore *store);

/* size= in pages; 0 is no limit. */
uint64_t store_size_pages(uint64_t size_bytes);

/* Takes n pages out of the room that is left, or refuses (false).  store_uncharge gives them back. */
bool store_charge(struct swapstore *store, uint64_t n, unsigned write_flags);
bool store_is_full(struct swapstore *store, unsigned write_flags);
void store_uncharge(struct swapstore *store, uint64_t n);

/* The size that df tells. */
uint64_t store_size(struct swapstore *store);

/* May bookkeeping take so many frames more?  For slab.c; flags: enum frames_flags. */
bool store_may_grow(void *store, uint32_t frames, unsigned flags);

/* The most frames that may be wired: what bookkeeping has left, but for a share that everything else works with. */
uint32_t store_wire_limit(struct swapstore *store);

/* --- object.c: lifetime, and leaving the tree --------------------------------------------------------------------- */

void object_ref(struct ss_object *obj);
void object_unref(struct swapstore *store, struct ss_object *obj);

/* Entries taken out of a tree, whose frames and slots are given back once no lock is held. */
#define RELEASE_MAX 256
struct release {
	unsigned count;
	entry_t entry[RELEASE_MAX]; /* frames: with the tree's reference; swap entries: with their slot */
};
static inline bool release_full(const struct release *rel)
{
	return rel->count == RELEASE_MAX;
}
void release_add(struct release *rel, entry_t e);
/* No lock held.  Sets count to 0. */
void release_all(struct swapstore *store, struct release *rel);

/*
 * The entry at index leaves the tree for good (obj->lock held); what it held goes to rel, which must have room
 * for two.  Emptied nodes go to the stash.
 */
void object_drop_locked(struct swapstore *store, struct ss_object *obj, uint64_t index, entry_t e,
			struct tree_stash *stash, struct release *rel);

/*
 * The frame is used (obj->lock held).  A run of uses of one page counts as one: small records read or written one
 * after the other are a pass over the file, and the pages of that are not to be taken for warm ones.
 */
static inline void object_touch_locked(struct ss_object *obj, struct frame *f)
{
	if (f->index == obj->touched)
		lru_touch_again(f);
	else
		lru_touch(f);
	obj->touched = f->index;
}

/* The frame is about to be written to, pinned by the caller: DIRTY or REDIRTIED; an old slot goes to rel. */
void object_dirty_locked(struct ss_object *obj, struct frame *f, struct release *rel);

/* --- read.c -------------------------------------------------------------------------------------------------------- */

/*
 * Reads the page of a swap entry into page (4096 bytes of anybody's memory).  0; -EIO; -ESTALE: the entry at
 * index is no longer e, look again.
 */
int object_fetch(struct swapstore *store, struct ss_object *obj, uint64_t index, entry_t e, void *page);

/* --- account.c ---------------------------------------------------------------------------------------------------- */

static inline const struct ss_payer *object_payer(struct ss_object *obj)
{
	return atomic_load_explicit(&obj->payer, memory_order_acquire); /* it may be new, and no lock be held */
}

/* All of the payer's accounts, or false and none of them.  The lock of the object that it is for held; payer or NULL. */
bool account_charge(const struct ss_payer *payer, uint64_t n, unsigned write_flags);
void account_uncharge(const struct ss_payer *payer, uint64_t n);
bool account_is_full(const struct ss_payer *payer, unsigned write_flags);

/* --- wire.c ------------------------------------------------------------------------------------------------------- */

/* Frames with new bytes have come into the object's tree (obj->lock held): onto a queue, or wired. */
void wire_add_locked(struct swapstore *store, struct ss_object *obj, struct frame *const *f, unsigned n);

/* --- leave.c ------------------------------------------------------------------------------------------------------- */

/* The list of all objects: one that has just been made, one whose last reference has just gone. */
void objects_add(struct swapstore *store, struct ss_object *obj);
void objects_remove(struct swapstore *store, struct ss_object *obj);

/* Ends a swapoff that nobody goes on with; returns ms until it wants to be called again, 0: there is none. */
long leave_look_after(struct swapstore *store);

/* --- reclaim.c ----------------------------------------------------------------------------------------------------- */

int reclaim_start(struct swapstore *store);
void reclaim_stop(struct swapstore *store);
void reclaim_kick(void *store);

/* Would taking n frames more bring the store to where eviction goes on, once it has begun? */
bool reclaim_is_near(struct swapstore *store, unsigned n);

/* Evicts up to want pages now, in the caller's thread; waits for the disk.  Returns how many went. */
size_t reclaim_evict(struct swapstore *store, size_t want);

/* swapstore_give_back(). */
size_t reclaim_give_back(struct swapstore *store, size_t pages);

/* --- trim.c ---------------------------------------------------------------------------------------------------------- */

int trimmer_start(struct swapstore *store);
void trimmer_stop(struct swapstore *store);
void trimmer_kick(struct swapstore *store);

#endif
