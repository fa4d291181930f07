/* SPDX-License-Identifier: MIT */
/*
 * trouble: what a store knows of the health of a swap area's disk, and what it does about it.
 *
 *          a write fails                              a trial write succeeds
 *   WELL ─────────────────► the run goes on probation ───────────────────────► WELL
 *     │                     (its slots are out of use)
 *     │ the disk is full, or TROUBLE_RUN writes in a row have failed
 *     └──────────────────────────────────────────────► SICK ──── trial write succeeds ───► WELL
 *
 * SICK: no page is written to it; pages go to other areas, and where there is none they stay in RAM and the store is
 * as large as the RAM that is left.  Trials are made by the trimmer's thread, twice a second and then less often, and by whoever is about to be told ENOSPC.
 * Each incident is reported once, when it begins and when it is over.
 *
 * Context: one mutex inside, a leaf, never held across I/O.  trouble_try() takes an I/O context and waits for the
 * disk; the rest does not sleep.
 */
#ifndef SWAPSTORE_TROUBLE_H
#define SWAPSTORE_TROUBLE_H

#include "swapstore/slots.h"

#include <pthread.h>
#include <stdatomic.h>

struct swapstore;
struct swaparea;

#define TROUBLE_RUN	  4    /* writes that fail in a row before it is the disk, not the place */
#define TROUBLE_PROBATION 1024 /* runs; what fails beyond that stays out of use */

enum trouble_kind { TROUBLE_WRITE, TROUBLE_READ, TROUBLE_SUM, TROUBLE_KINDS };

struct trouble {
	/* set at open */
	void (*report)(void *ctx, const char *line);
	void *ctx;
	/* atomic */
	atomic_bool sick;
	/* under lock */
	pthread_mutex_t lock;
	unsigned failed_in_a_row;
	unsigned nprobation;
	struct slot_run probation[TROUBLE_PROBATION]; /* numbered within the area */
	long wait_ms; /* between trials */
	uint64_t trial_ms, well_ms; /* when the next trial may be; when one succeeded last */
	uint64_t said_ms[TROUBLE_KINDS];
	uint64_t unsaid[TROUBLE_KINDS];
	bool told; /* of writes that failed, and not yet that they succeed again */
};

void trouble_init(struct trouble *tr, void (*report)(void *ctx, const char *line), void *ctx);

/* Another disk has come, or the one has gone: nothing is known of it. */
void trouble_reset(struct swaparea *area);

/*
 * A run (numbered over all areas) that was to be written is on the disk; or is not, for -errno: its slots are freed
 * or kept out of use.
 */
void trouble_wrote(struct swaparea *area);
void trouble_write_failed(struct swaparea *area, struct slot_run run, int err);

/* A page could not be read back from its slot: -errno, or -EILSEQ when it came back altered. */
void trouble_read_failed(struct swapstore *store, uint32_t slot, int err);

static inline bool trouble_is_sick(const struct trouble *tr)
{
	return atomic_load_explicit(&tr->sick, memory_order_relaxed);
}

/* A trial write to each area that is sick: true if one is well again (or none was sick).  Waits; hold nothing. */
bool trouble_try(struct swapstore *store);

/* What the trimmer does now and then; returns ms until it wants to be called again, 0: all is well. */
long trouble_look_after(struct swapstore *store);

#endif
