/* SPDX-License-Identifier: MIT */
/*
 * swaparea: the swap areas of a store, up to SWAPAREA_MAX of them, which come and go while it runs.  Each has a file,
 * a map of its slots, a priority, and a disk whose health is its own (trouble.h).
 *
 *   slot numbers:   | area 0: groups 0 .. 7 | gap | area 2: groups 9 .. 40 | gap | area 1 ...
 *
 * An area's slots are a range of groups of the 32-bit slot numbers, with a group between any two areas that belongs
 * to none: so slots that follow each other are of one area, and no run, read or hole can cross into another.
 *
 *           swaparea_open             swaparea_close_begin          swaparea_leave
 *   NONE ─────────────────► IN_USE ◄──────────────────────► CLOSING ──────────────► LEAVING ── swaparea_close ──► NONE
 *                              ▲       swaparea_stay                                   │
 *                              └───────────────────────────────────────────────────────┘
 *
 * CLOSING: ordinary writes no longer count on its room, those that were acknowledged still may, and slots are still
 * handed out.  LEAVING: none are, and its pages are being moved away (leave.c).
 *
 * Who may look at an area: the holder of one of its slots (it cannot go before that is freed); whoever has pinned
 * it; and a reader with an I/O context, by swapareas_locate() alone, which may have an entry that is no longer true.
 *
 * Context: one mutex inside; slots.c's is taken under it.  What waits says so.
 */
#ifndef SWAPSTORE_SWAPAREA_H
#define SWAPSTORE_SWAPAREA_H

#include "swapstore/ring.h"
#include "swapstore/slots.h"
#include "swapstore/swapfile.h"
#include "swapstore/trouble.h"

#include <pthread.h>
#include <stdatomic.h>

#define SWAPAREA_MAX	   RING_FILES
#define SWAPAREA_NO_NUMBER SWAPAREA_MAX

struct swapstore;
struct ss_object;

enum swaparea_state { SWAPAREA_NONE, SWAPAREA_IN_USE, SWAPAREA_CLOSING, SWAPAREA_LEAVING };

struct swaparea {
	/* set at the store's open */
	struct swapstore *store;
	unsigned number; /* its place in swapareas.area[], and its file's in the rings */
	_Atomic uint64_t total; /* slots that may be used; may be lowered, and raised again to what the file has */
	/* set while the state is NONE */
	int priority;
	uint32_t first; /* slot number */
	char *path;
	void *charge; /* what its table takes of the RAM cap; NULL: part of ram_fixed */
	struct swapfile file;
	struct slots *slots;
	/* atomic */
	_Atomic enum swaparea_state state; /* changes under swapareas.lock */
	_Atomic uint64_t span; /* first group << 32 | groups, 0: none; for those who know no more than a slot */
	_Atomic uint64_t bad;  /* slots */
	/* under swapareas.lock */
	unsigned pins;
	/* a lock of its own */
	struct trouble trouble;
};

/* The area that is being moved away from, and how far that is; all under swapareas.change.  leave.c */
struct leave {
	unsigned number; /* SWAPAREA_NO_NUMBER: none */
	struct ss_object *object; /* with a reference; NULL: before the first */
	uint64_t index;
	uint64_t unreadable; /* pages, in this pass */
	int64_t until_ms; /* unless somebody goes on with it by then, the area stays */
};

struct swapareas {
	/* held by swapon and by each step of swapoff, which wait for disks; nothing else waits for it */
	pthread_mutex_t change;
	struct leave leave;
	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t unpinned;
	unsigned norder;
	uint8_t order[SWAPAREA_MAX]; /* those that slots are taken from, by priority, the next among equals first */
	/* atomic */
	_Atomic unsigned high; /* no number from here on was ever used */
	struct swaparea area[SWAPAREA_MAX];
};

/* No area yet; report as trouble_init().  And the end: closes all that are left; nobody uses the store any more. */
void swapareas_init(struct swapstore *store, void (*report)(void *ctx, const char *line), void *ctx);
void swapareas_destroy(struct swapstore *store);

/* RAM that so many I/O contexts take, with bounce buffers for reads of io_bytes. */
uint64_t swapareas_rings_bytes(unsigned contexts, size_t io_bytes);

/* --- what is there ------------------------------------------------------------------------------------------------- */

/* Is there any area; pages that all can hold (acked: for pages that were acknowledged already), bad slots not counted. */
bool swapareas_any(struct swapstore *store);
uint64_t swapareas_good(struct swapstore *store, bool acked);

/* Slots of all areas that are IN_USE, bad ones too; used, bad and free ones of all there are. */
uint64_t swapareas_total(struct swapstore *store);
void swapareas_get_stats(struct swapstore *store, struct slots_stats *st);

/* The one area there is, if it is IN_USE and there is no other; else NULL.  areas->change held. */
struct swaparea *swapareas_only(struct swapstore *store);

/* Each area's slots against its counters (asserts), nobody else using the store; for tests. */
void swapareas_check(struct swapstore *store);

/* Is any area's disk out of order; is that so for all there are (and there is one)? */
bool swapareas_any_sick(struct swapstore *store);
bool swapareas_all_sick(struct swapstore *store);

/* Slots that could be had at this moment or soon: free, on a disk that takes writes. */
uint64_t swapareas_free(struct swapstore *store);

/* The area of a number, pinned, or NULL.  The holder of a pin may wait for a disk. */
struct swaparea *swaparea_get(struct swapstore *store, unsigned number);
void swaparea_put(struct swaparea *area);

static inline enum swaparea_state swaparea_state(const struct swaparea *area)
{
	return atomic_load_explicit(&area->state, memory_order_acquire);
}

/* Is slot one of this area's?  The area is in use or pinned. */
static inline bool swaparea_has(const struct swaparea *area, uint32_t slot)
{
	return slot >= area->first && slot - area->first < area->file.bytes / 4096;
}

/* --- slots, numbered over all areas --------------------------------------------------------------------------------- */

/*
 * One contiguous run of at most want slots from the area whose turn it is: the highest priority that has any, equal
 * ones in turns; never from one that is sick.  0 or -ENOSPC.
 */
int swapareas_alloc(struct swapstore *store, uint32_t want, struct slot_run *run, struct swaparea **from);
void swapareas_free_run(struct swapstore *store, struct slot_run run);

/*
 * Where slot is: fills in req's file and offset.  False: no area has it, so the entry that it came from is gone.
 * Only with an I/O context in hands, or with the slot.
 */
bool swapareas_locate(struct swapstore *store, uint32_t slot, struct ring_req *req);

/* --- coming and going; areas->change held, but for a store that is just being opened ---------------------------------- */

/*
 * Opens path as a new area; priority SS_PRIORITY_AUTO: below all others.  As swapfile_open(), and -ENFILE, or -ENOSPC
 * when RAM has no room for what it needs.
 */
int swaparea_open(struct swapstore *store, const char *path, uint64_t bytes, int priority, char *why, size_t why_len);

void swaparea_close_begin(struct swaparea *area);
void swaparea_leave(struct swaparea *area);
void swaparea_stay(struct swaparea *area);

/* LEAVING, and none of its slots is in use: waits for the last who may look at it, and closes its file. */
void swaparea_close(struct swaparea *area);

#endif
