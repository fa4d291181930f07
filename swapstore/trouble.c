/* SPDX-License-Identifier: MIT */
/*
 * trouble: the health of each swap area's disk.  Owns its struct trouble (its lock guards the list of runs on probation
 * and what has been said) and the slots on probation, which count as bad.  Called by reclaim (outcomes of writes),
 * by readers (failed reads), by the trimmer (trials) and by writers that find no room.
 */
#include "swapstore/trouble.h"

#include "swapstore/store.h"
#include "swapstore/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TRIAL_FIRST_MS 100
#define TRIAL_LAST_MS  4000
#define TRIAL_NAP_MS   200  /* a writer waits so long for a trial before it is told ENOSPC */
#define RELAPSE_MS     5000 /* sick again so soon: the trial said little, a full disk may have a place here and there */
#define PROBATION_MS   2000
#define SAY_AGAIN_MS   60000 /* of one kind of incident one line in so long, the others are counted */

void trouble_init(struct trouble *tr, void (*report)(void *ctx, const char *line), void *ctx)
{
	pthread_mutex_init(&tr->lock, NULL);
	tr->report = report;
	tr->ctx = ctx;
}

void trouble_reset(struct swaparea *area)
{
	struct trouble *tr = &area->trouble;
	UTIL_LOCKED(&tr->lock);

	atomic_store(&tr->sick, false);
	atomic_store(&area->bad, 0);
	__atomic_store_n(&tr->failed_in_a_row, 0, __ATOMIC_RELAXED);
	tr->nprobation = 0;
	tr->wait_ms = 0;
	tr->trial_ms = tr->well_ms = 0;
	tr->told = false;
	memset(tr->said_ms, 0, sizeof(tr->said_ms));
	memset(tr->unsaid, 0, sizeof(tr->unsaid));
}

/* May this be said now?  No lock held. */
static bool trouble_may_say(struct trouble *tr, enum trouble_kind kind, uint64_t *unsaid)
{
	uint64_t now = (uint64_t)util_now_ms();
	UTIL_LOCKED(&tr->lock);

	if (tr->said_ms[kind] && now - tr->said_ms[kind] < SAY_AGAIN_MS) {
		tr->unsaid[kind]++;
		return false;
	}
	*unsaid = tr->unsaid[kind];
	tr->unsaid[kind] = 0;
	tr->said_ms[kind] = now;
	tr->told |= kind == TROUBLE_WRITE;
	return true;
}

/* The area is pinned, or the caller has slots of it. */
static void trouble_say(struct swaparea *area, enum trouble_kind kind, const char *what, uint32_t slot, int err)
{
	struct trouble *tr = &area->trouble;
	char line[512], more[64] = "";
	uint64_t unsaid = 0;

	if (!tr->report || !trouble_may_say(tr, kind, &unsaid))
		return;
	if (unsaid)
		snprintf(more, sizeof(more), " (and %llu times before this, unsaid)", (unsigned long long)unsaid);
	snprintf(line, sizeof(line), "swap: %.200s: %s at byte %llu: %s%s", area->path, what,
		 (unsigned long long)(slot - area->first) * SS_PAGE_SIZE, err == -EILSEQ ? "not what was written" : strerror(-err), more);
	tr->report(tr->ctx, line);
}

/* A disk that is full may have room again, and it matters little where one writes. */
static bool error_is_of_the_disk(int err)
{
	return err == -ENOSPC || err == -EDQUOT || err == -ENOMEM;
}

void trouble_wrote(struct swaparea *area)
{
	struct trouble *tr = &area->trouble;
	char line[256];
	bool was_sick, told;

	/* Nearly always nothing to do: look before taking the lock. */
	if (__atomic_load_n(&tr->failed_in_a_row, __ATOMIC_RELAXED) == 0 && !trouble_is_sick(tr))
		return;
	pthread_mutex_lock(&tr->lock);
	__atomic_store_n(&tr->failed_in_a_row, 0, __ATOMIC_RELAXED);
	was_sick = atomic_exchange(&tr->sick, false);
	told = was_sick && tr->told;
	if (was_sick) {
		tr->well_ms = (uint64_t)util_now_ms();
		tr->told = false;
	}
	pthread_mutex_unlock(&tr->lock);
	if (was_sick)
		atomic_store(&area->store->reclaim.fruitless, 0);
	if (!told || !tr->report)
		return;
	snprintf(line, sizeof(line), "swap: %.200s: the disk takes writes again", area->path);
	tr->report(tr->ctx, line);
}

static void trouble_wait_longer_locked(struct trouble *tr)
{
	tr->wait_ms = tr->wait_ms < TRIAL_FIRST_MS ? TRIAL_FIRST_MS : tr->wait_ms * 2;
	if (tr->wait_ms > TRIAL_LAST_MS)
		tr->wait_ms = TRIAL_LAST_MS;
	tr->trial_ms = (uint64_t)util_now_ms() + (uint64_t)tr->wait_ms;
}

static void trouble_fall_sick_locked(struct trouble *tr)
{
	if (atomic_exchange(&tr->sick, true))
		return;
	if (tr->well_ms && (uint64_t)util_now_ms() - tr->well_ms < RELAPSE_MS) {
		trouble_wait_longer_locked(tr);
	} else {
		tr->wait_ms = 0;
		tr->trial_ms = 0;
	}
}

void trouble_write_failed(struct swaparea *area, struct slot_run run, int err)
{
	struct slot_run local = {run.first - area->first, run.count};
	struct swapstore *store = area->store;
	struct trouble *tr = &area->trouble;
	bool sick;

	store_count(&store->count.swapout_errors, run.count);
	trouble_say(area, TROUBLE_WRITE, "cannot write", run.first, err);
	pthread_mutex_lock(&tr->lock);
	__atomic_store_n(&tr->failed_in_a_row, tr->failed_in_a_row + 1, __ATOMIC_RELAXED);
	sick = error_is_of_the_disk(err) || tr->failed_in_a_row >= TROUBLE_RUN;
	if (!sick) { /* the place's fault */
		for (uint32_t i = 0; i < run.count; i++)
			slots_mark_bad(area->slots, local.first + i);
		if (tr->nprobation < TROUBLE_PROBATION)
			tr->probation[tr->nprobation++] = local;
		atomic_fetch_add_explicit(&area->bad, run.count, memory_order_relaxed);
	}
	if (sick)
		trouble_fall_sick_locked(tr);
	pthread_mutex_unlock(&tr->lock);
	if (sick)
		slots_free(area->slots, local); /* from here on the area may go */
	trimmer_kick(store);
}

void trouble_read_failed(struct swapstore *store, uint32_t slot, int err)
{
	bool altered = err == -EILSEQ;
	struct ring_req at;
	struct swaparea *area;

	store_count(altered ? &store->count.checksum_errors : &store->count.swapin_errors, 1);
	area = swapareas_locate(store, slot, &at) ? swaparea_get(store, at.file) : NULL;
	if (!area)
		return;
	if (swaparea_has(area, slot))
		trouble_say(area, altered ? TROUBLE_SUM : TROUBLE_READ, "cannot read back", slot, err);
	swaparea_put(area);
}

/* --- trials ------------------------------------------------------------------------------------------------------------- */

/* Writes zeroes to one slot (numbered within the area) in use by the caller.  0 or -errno. */
static int trouble_write_zeroes(struct swaparea *area, uint32_t slot)
{
	struct swapstore *store = area->store;
	struct ring *ring = ring_get(store->rings);
	size_t bytes;
	struct iovec iov = {ring_bounce(ring, &bytes), SS_PAGE_SIZE};
	struct ring_req req = {.op = RING_WRITE,
			       .file = area->number,
			       .offset = (uint64_t)slot * SS_PAGE_SIZE,
			       .iov = &iov,
			       .iovcnt = 1};

	memset(iov.iov_base, 0, SS_PAGE_SIZE);
	ring_run(ring, &req, 1);
	ring_put(store->rings, ring);
	return req.result;
}

/* How long until a trial may be made; the one that is told 0 makes it. */
static long trouble_claim_trial(struct trouble *tr)
{
	uint64_t now = (uint64_t)util_now_ms();
	UTIL_LOCKED(&tr->lock);

	if (now < tr->trial_ms)
		return (long)(tr->trial_ms - now);
	trouble_wait_longer_locked(tr);
	return 0;
}

/* A trial write if the area is sick: true if it is well (again).  The area is pinned. */
static bool trouble_try_area(struct swaparea *area)
{
	struct trouble *tr = &area->trouble;
	struct slot_run run;
	long rest;
	int err;

	while (trouble_is_sick(tr) && (rest = trouble_claim_trial(tr)) > 0) {
		if (rest > TRIAL_NAP_MS)
			return false;
		nanosleep(&(struct timespec){.tv_nsec = rest * 1000000L}, NULL);
	}
	if (!trouble_is_sick(tr))
		return true;
	if (slots_alloc(area->slots, 1, &run) < 0)
		return false;
	err = trouble_write_zeroes(area, run.first);
	slots_free(area->slots, run);
	if (err)
		store_count(&area->store->count.swapout_errors, 1);
	else
		trouble_wrote(area);
	return err == 0;
}

bool trouble_try(struct swapstore *store)
{
	bool sick = false, well = false;

	for (unsigned i = 0; i < SWAPAREA_MAX; i++) {
		struct swaparea *area = swaparea_get(store, i);

		if (!area)
			continue;
		if (trouble_is_sick(&area->trouble)) {
			sick = true;
			well |= trouble_try_area(area);
		}
		swaparea_put(area);
	}
	return well || !sick;
}

/* Tries every page of a run on probation.  True: all can be written, and the run is free again. */
static bool trouble_try_run(struct swaparea *area, struct slot_run run)
{
	for (uint32_t i = 0; i < run.count; i++)
		if (trouble_write_zeroes(area, run.first + i) != 0)
			return false;
	for (uint32_t i = 0; i < run.count; i++)
		slots_unmark_bad(area->slots, run.first + i);
	atomic_fetch_sub_explicit(&area->bad, run.count, memory_order_relaxed);
	slots_free(area->slots, run);
	return true;
}

/*
 * Goes once through the runs on probation; those that fail again stay there.  From the last to the first: what others
 * add meanwhile comes behind, and nobody else takes runs out, so each run keeps its place while it is tried.
 */
static void trouble_try_probation(struct swaparea *area)
{
	struct trouble *tr = &area->trouble;

	pthread_mutex_lock(&tr->lock);
	for (unsigned i = tr->nprobation; i-- > 0;) {
		struct slot_run run = tr->probation[i];

		pthread_mutex_unlock(&tr->lock);
		bool well = trouble_try_run(area, run);

		pthread_mutex_lock(&tr->lock);
		if (well)
			tr->probation[i] = tr->probation[--tr->nprobation];
	}
	pthread_mutex_unlock(&tr->lock);
}

static long trouble_look_after_area(struct swaparea *area)
{
	struct trouble *tr = &area->trouble;
	bool well = trouble_try_area(area);

	if (well)
		trouble_try_probation(area);
	UTIL_LOCKED(&tr->lock);
	if (well && !tr->nprobation)
		return 0;
	return well || tr->wait_ms < TRIAL_FIRST_MS ? PROBATION_MS : tr->wait_ms;
}

long trouble_look_after(struct swapstore *store)
{
	long soonest = 0;

	for (unsigned i = 0; i < SWAPAREA_MAX; i++) {
		struct swaparea *area = swaparea_get(store, i);
		long ms;

		if (!area)
			continue;
		ms = trouble_look_after_area(area);
		swaparea_put(area);
		if (ms && (!soonest || ms < soonest))
			soonest = ms;
	}
	return soonest;
}
