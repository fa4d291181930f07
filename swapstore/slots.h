/* SPDX-License-Identifier: MIT */
/*
 * slots: which 4 KiB slots of the swap file are in use.
 *
 * The file is cut into groups of SLOTS_PER_GROUP slots.  A group's two bitmaps (busy, to trim) are a page each,
 * taken from the caller's allocator when the group is first used and given back when it is empty and trimmed,
 * so swap that is not used costs next to no memory.  Slots are handed out in contiguous runs, first groups
 * first, so that victims sorted by (object, index) lie side by side on the disk and come back in one large read.
 *
 * Freed slots are remembered as "to trim" until slots_trim_next() hands them out as a run that is free, in use
 * by the trimmer alone, and whose disk space may be given back.  Where the file cannot be trimmed, the trimmer
 * calls slots_trim_next() and slots_trim_done() all the same: that is how bitmaps are given back.
 *
 * Context: one mutex inside; every function takes it; none sleeps under it.
 */
#ifndef SWAPSTORE_SLOTS_H
#define SWAPSTORE_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLOTS_PER_GROUP 32768U
#define SLOTS_TRIM_RUN	16U /* shortest free run worth a hole punch, unless its whole group is free */

struct slots;

/*
 * Where bitmap pages (4096 bytes, zeroed by slots.c) come from.  alloc must not sleep; NULL = none to be had.
 * Called with the mutex held: alloc by slots_alloc(), free by slots_alloc() and slots_trim_done() (never by
 * slots_free()).
 */
struct slots_page_ops {
	void *(*alloc)(void *ctx);
	void (*free)(void *ctx, void *page);
	void *ctx;
};

struct slot_run {
	uint32_t first;
	uint32_t count;
};

/* total: slots in the file, 1 .. ENTRY_SLOTS_MAX.  Returns 0, -EINVAL or -ENOMEM. */
int slots_create(uint64_t total, const struct slots_page_ops *ops, struct slots **out);
void slots_destroy(struct slots *slots);

/* Bytes of bookkeeping that slots_create() took for good (the group table). */
size_t slots_table_bytes(const struct slots *slots);

/*
 * Takes one contiguous run of at most want slots (want >= 1): one of the full length if a group in use or a
 * fresh one has it, else the longest found.  Returns 0, or -ENOSPC when no slot is free (or no bitmap page).
 * A run being trimmed cannot be had, though the statistics count it as free: -ENOSPC may mean "wait for it".
 */
int slots_alloc(struct slots *slots, uint32_t want, struct slot_run *run);

/* Gives slots back; each must be in use (asserts). */
void slots_free(struct slots *slots, struct slot_run run);

/* A slot whose write failed: stays in use, and counts as bad, until it is unmarked.  It must be in use (bad). */
void slots_mark_bad(struct slots *slots, uint32_t slot);
void slots_unmark_bad(struct slots *slots, uint32_t slot);

/*
 * The next run whose disk space may be given back: free, freed since it was last trimmed, and at least
 * SLOTS_TRIM_RUN long (or all that is free in a group with nothing in use).  It is in use by the caller, who
 * punches the hole and then calls slots_trim_done().  Returns false when there is nothing (more) to trim.
 */
bool slots_trim_next(struct slots *slots, struct slot_run *run);
void slots_trim_done(struct slots *slots, struct slot_run run);

/* No more than limit slots (1 .. total) are handed out from now on; -EBUSY: more are in use or bad. */
int slots_set_limit(struct slots *slots, uint64_t limit);

/* total (the limit, if there is one) = used + free + bad, at every moment (a run being trimmed counts as free). */
struct slots_stats {
	uint64_t total, used, bad, free;
};
void slots_get_stats(struct slots *slots, struct slots_stats *st);

/*
 * Slots that are free, those that are being trimmed included.  Takes no lock, may be out of date at once: when it
 * says that all are, slots_get_stats() is the one to ask before slots_destroy().
 */
uint64_t slots_count_free(const struct slots *slots);
static inline bool slots_any_free(const struct slots *slots)
{
	return slots_count_free(slots) > 0;
}

/* Recounts every bitmap and compares with the counters (asserts); for tests. */
void slots_check(struct slots *slots);

#endif
