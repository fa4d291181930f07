/* SPDX-License-Identifier: MIT */
/*
 * trim: gives the disk space of freed slots back, in a thread of its own, because punching a hole may take long;
 * and looks after swap disks that are in trouble (trouble.c) and a swapoff that was abandoned (leave.c).
 * It waits for a quiet moment: while pages are being swapped out, slots just freed are about to be used again.
 * No lock is held while the file system works; slots.c keeps the run from being handed out meanwhile.
 */
#include "swapstore/store.h"

#include "swapstore/util.h"

#define QUIET_MS 250
#define PIECE	 2048U /* slots: 8 MiB */
#define PATIENCE 20 /* times QUIET_MS: trims at last even if it is never quiet */

/* Waits ms or until the end.  Returns false at the end. */
static bool trimmer_wait_locked(struct trimmer *tr, long ms)
{
	if (!tr->stopping)
		util_cond_wait_ms(&tr->work, &tr->lock, ms);
	return !tr->stopping;
}

static uint64_t trimmer_activity(struct swapstore *store)
{
	return atomic_load(&store->count.swapout_pages) + atomic_load(&store->count.swapin_pages);
}

static bool trimmer_wait_for_quiet_locked(struct swapstore *store)
{
	uint64_t before, now = trimmer_activity(store);
	int patience = PATIENCE;

	do {
		before = now;
		if (!trimmer_wait_locked(&store->trimmer, QUIET_MS))
			return false;
		now = trimmer_activity(store);
	} while (now != before && --patience);
	return true;
}

static bool trimmer_stopping(struct trimmer *tr)
{
	UTIL_LOCKED(&tr->lock);

	return tr->stopping;
}

/*
 * In pieces: while a file system punches a hole, it may let no other I/O to the file go on.  run is numbered within
 * the area.
 */
static void trimmer_punch(struct swaparea *area, struct slot_run run)
{
	struct swapstore *store = area->store;

	for (uint32_t done = 0; done < run.count; done += PIECE) {
		uint32_t n = run.count - done < PIECE ? run.count - done : PIECE;

		/* A refusal clears can_trim; the data is safe either way. */
		if (!area->file.can_trim || trimmer_stopping(&store->trimmer) ||
		    swaparea_state(area) == SWAPAREA_NONE)
			return;
		swapfile_trim(&area->file, ((uint64_t)run.first + done) * SS_PAGE_SIZE, (uint64_t)n * SS_PAGE_SIZE);
	}
}

static void trimmer_trim(struct swaparea *area)
{
	struct slot_run run;

	/* Whoever closes the area waits for us. */
	while (!trimmer_stopping(&area->store->trimmer) && swaparea_state(area) != SWAPAREA_NONE &&
	       slots_trim_next(area->slots, &run)) {
		trimmer_punch(area, run);
		slots_trim_done(area->slots, run);
	}
}

static void trimmer_trim_all(struct swapstore *store)
{
	for (unsigned i = 0; i < SWAPAREA_MAX; i++) {
		struct swaparea *area = swaparea_get(store, i);

		if (!area)
			continue;
		trimmer_trim(area);
		swaparea_put(area);
	}
}

/* What else there is to do now and then.  Returns ms until it is wanted again; 0: not before the next kick. */
static long trimmer_look_after(struct swapstore *store)
{
	long trouble_ms = trouble_look_after(store), leave_ms = leave_look_after(store);

	return !trouble_ms || (leave_ms && leave_ms < trouble_ms) ? leave_ms : trouble_ms;
}

static void *trimmer_thread(void *arg)
{
	struct swapstore *store = arg;
	struct trimmer *tr = &store->trimmer;
	long trial_ms = 0;

	pthread_setname_np(pthread_self(), "spill-trim");
	util_touch_stack();
	pthread_mutex_lock(&tr->lock);
	while (!tr->stopping) {
		if (!atomic_load(&tr->kicked)) {
			if (trial_ms)
				util_cond_wait_ms(&tr->work, &tr->lock, trial_ms);
			else
				pthread_cond_wait(&tr->work, &tr->lock);
			if (!trial_ms || atomic_load(&tr->kicked) || tr->stopping)
				continue;
		}
		if (!trimmer_wait_for_quiet_locked(store))
			break;
		atomic_store(&tr->kicked, false);
		pthread_mutex_unlock(&tr->lock);
		trimmer_trim_all(store);
		trial_ms = trimmer_look_after(store);
		pthread_mutex_lock(&tr->lock);
	}
	pthread_mutex_unlock(&tr->lock);
	return NULL;
}

void trimmer_kick(struct swapstore *store)
{
	struct trimmer *tr = &store->trimmer;

	if (atomic_load_explicit(&tr->kicked, memory_order_relaxed))
		return;
	pthread_mutex_lock(&tr->lock);
	atomic_store(&tr->kicked, true);
	pthread_cond_signal(&tr->work);
	pthread_mutex_unlock(&tr->lock);
}

int trimmer_start(struct swapstore *store)
{
	if (store->trimmer.started)
		return 0;

	int err = util_thread_start(&store->trimmer.thread, trimmer_thread, store);

	store->trimmer.started = err == 0;
	return err;
}

void trimmer_stop(struct swapstore *store)
{
	struct trimmer *tr = &store->trimmer;

	if (!tr->started)
		return;
	pthread_mutex_lock(&tr->lock);
	tr->stopping = true;
	pthread_cond_signal(&tr->work);
	pthread_mutex_unlock(&tr->lock);
	pthread_join(tr->thread, NULL);
	tr->started = false;
}
