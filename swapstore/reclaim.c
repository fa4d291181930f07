/* SPDX-License-Identifier: MIT */
/*
 * reclaim: evicts cold pages.  Workers sleep until fewer than `low` frames are left and work in batches until
 * `high` are.  A batch: victims from the LRU, sorted by (object, index); clean ones go at once (their slot has
 * the same bytes); all-zero ones become zero markers; the rest get contiguous slots, are written by one
 * submission, and are replaced by swap entries when that has succeeded.  A page stays in its tree, readable and
 * writable, until then.  Object locks are taken one at a time, never across I/O.  Kicked by frames_alloc().
 */
#include "swapstore/store.h"

#include "swapstore/checksum.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX 512U
#define RUN_MAX	  256U /* slots in one request: 1 MiB */
#define STUCK_MS  20   /* rest after a pass in which nothing could be evicted, while somebody waits */
#define IDLE_RESTS 50  /* such rests while nobody does */
#define PATIENCE  8U   /* passes in vain, while somebody might help, before they count */
#define SICK_MS	  100  /* the same while the disk refuses writes */
#define BUSY_MS	  1    /* rest when all that could be evicted is in somebody's hands for a moment */

/* What becomes of a victim. */
enum fate {
	FATE_KEPT,	/* not ours to evict (any more): nothing left to do but to let go */
	FATE_EVICTED,	/* out of its tree */
	FATE_WRITE,	/* in WRITEBACK, waiting for its slot or for the disk */
	FATE_ZERO,	/* in WRITEBACK, all zero: becomes a marker */
	FATE_UNWRITTEN, /* in WRITEBACK, but there was no slot, or the disk refused */
};

struct victim {
	struct frame *frame;
	struct ss_object *obj;
	uint64_t index;
	uint32_t sum, slot;
	enum fate fate;
};

/* One batch and all the memory it needs, allocated once: reclaim must not ask for memory. */
struct batch {
	struct swapstore *store;
	unsigned n, nreq;
	unsigned busy;	  /* frames that somebody holds, or asked for meanwhile: may go next time */
	unsigned refused; /* pages for which there was no slot, or which the disk did not take */
	bool slots_will_be; /* there was no slot, but some are only being trimmed */
	unsigned evicted;
	struct victim victim[BATCH_MAX];
	struct frame *frame[BATCH_MAX];
	struct ring_req req[BATCH_MAX];
	unsigned req_first[BATCH_MAX + 1]; /* index into written[] of each request's first page */
	struct victim *written[BATCH_MAX];
	struct iovec iov[BATCH_MAX];
	struct slot_run run[BATCH_MAX]; /* of each request, and the area that it is in */
	struct swaparea *area[BATCH_MAX];
	struct release release;
};

static struct batch *batch_new(struct swapstore *store)
{
	struct batch *b = malloc(sizeof(*b));

	if (b) {
		memset(b, 0, sizeof(*b)); /* touches every page of it now */
		b->store = store;
	}
	return b;
}

/* --- 1: victims --------------------------------------------------------------------------------------------------------- */

/* Under the LRU lock: the frame is in a tree, so its object is alive. */
static void batch_take(struct frame *f, void *ctx)
{
	struct batch *b = ctx;

	object_ref(f->object);
	atomic_store_explicit(&f->uses, 0, memory_order_relaxed);
	b->victim[b->n++] = (struct victim){.frame = f, .obj = f->object, .index = f->index};
}

static bool victim_before(const struct victim *a, const struct victim *b)
{
	if (a->obj != b->obj)
		return (uintptr_t)a->obj < (uintptr_t)b->obj;
	return a->index < b->index;
}

/* Shell's sort, with Ciura's gaps: in place.  (qsort() allocates, and here memory is what there is none of.) */
static void batch_sort(struct batch *b)
{
	static const unsigned gaps[] = {301, 132, 57, 23, 10, 4, 1};

	for (unsigned g = 0; g < sizeof(gaps) / sizeof(gaps[0]); g++) {
		for (unsigned i = gaps[g]; i < b->n; i++) {
			struct victim v = b->victim[i];
			unsigned k = i;

			for (; k >= gaps[g] && victim_before(&v, &b->victim[k - gaps[g]]); k -= gaps[g])
				b->victim[k] = b->victim[k - gaps[g]];
			b->victim[k] = v;
		}
	}
}

/* Calls step for every victim with its object locked, one lock for each object's run of victims. */
static void batch_for_each_locked(struct batch *b, void (*step)(struct batch *b, struct victim *v))
{
	for (unsigned i = 0; i < b->n;) {
		struct ss_object *obj = b->victim[i].obj;

		pthread_mutex_lock(&obj->lock);
		while (i < b->n && b->victim[i].obj == obj && b->release.count + 2 <= RELEASE_MAX)
			step(b, &b->victim[i++]);
		pthread_mutex_unlock(&obj->lock);
		release_all(b->store, &b->release);
	}
}

static bool victim_in_tree_locked(const struct victim *v)
{
	return v->frame->state != FRAME_DETACHED && v->frame->object == v->obj;
}

/* Only the tree and this batch hold the frame, and nobody has asked for it since it was chosen. */
static bool victim_unwanted_locked(const struct victim *v)
{
	return frame_refs(v->frame) == 2 && atomic_load_explicit(&v->frame->uses, memory_order_relaxed) == 0;
}

/* The frame leaves its tree for entry e. */
static void victim_evict_locked(struct batch *b, struct victim *v, entry_t e)
{
	struct tree_stash stash = {0}; /* an entry in place of an entry: no node comes or goes */
	int err = tree_replace(&v->obj->tree, v->index, entry_of_frame(v->frame), e, &stash);

	assert(err == 0);
	(void)err;
	frame_detach(v->frame);
	atomic_fetch_sub_explicit(&b->store->data_frames, 1, memory_order_relaxed);
	release_add(&b->release, entry_of_frame(v->frame)); /* the tree's reference */
	v->fate = FATE_EVICTED;
	b->evicted++;
}

static void victim_begin_locked(struct batch *b, struct victim *v)
{
	struct frame *f = v->frame;

	v->fate = FATE_KEPT;
	if (!victim_in_tree_locked(v))
		return;
	if (frame_refs(f) != 2) {
		b->busy++;
		lru_add(&b->store->lru, f, true);
	} else if (f->state == FRAME_CLEAN) {
		victim_evict_locked(b, v, f->swap);
		store_count(&b->store->count.clean_evictions, 1);
	} else {
		frame_writeback_begin(f);
		tree_tag_clear(&v->obj->tree, v->index, TREE_DIRTY);
		tree_tag_set(&v->obj->tree, v->index, TREE_WRITEBACK);
		v->fate = FATE_WRITE;
	}
}

/* --- 2: slots and requests ------------------------------------------------------------------------------------------------ */

/* Zero pages need no slot.  Returns how many others there are.  No lock: what changes now is REDIRTIED. */
static unsigned batch_sort_out(struct batch *b)
{
	unsigned n = 0;

	for (unsigned i = 0; i < b->n; i++) {
		struct victim *v = &b->victim[i];

		if (v->fate != FATE_WRITE)
			continue;
		if (checksum_page_is_zero(frame_data(b->store->frames, v->frame)))
			v->fate = FATE_ZERO;
		else
			b->written[n++] = v;
	}
	return n;
}

/* One request for written[first .. first + run.count): frames that are neighbours in memory share an iovec. */
static unsigned batch_add_request(struct batch *b, unsigned first, struct slot_run run, unsigned niov)
{
	struct ring_req *req = &b->req[b->nreq];
	unsigned start = niov;
	bool found;

	for (unsigned i = 0; i < run.count; i++) {
		struct victim *v = b->written[first + i];
		char *data = frame_data(b->store->frames, v->frame);

		v->slot = run.first + i;
		v->sum = checksum_page(data);
		if (niov > start && (char *)b->iov[niov - 1].iov_base + b->iov[niov - 1].iov_len == data)
			b->iov[niov - 1].iov_len += SS_PAGE_SIZE;
		else
			b->iov[niov++] = (struct iovec){data, SS_PAGE_SIZE};
	}
	*req = (struct ring_req){.op = RING_WRITE, .iov = &b->iov[start], .iovcnt = (int)(niov - start)};
	found = swapareas_locate(b->store, run.first, req);
	assert(found); /* a slot in use keeps its area */
	(void)found;
	b->run[b->nreq] = run;
	b->req_first[b->nreq++] = first;
	return niov;
}

static void batch_plan(struct batch *b, unsigned n)
{
	unsigned i = 0, niov = 0;

	b->nreq = 0;
	while (i < n) {
		struct slot_run run;

		if (swapareas_alloc(b->store, n - i < RUN_MAX ? n - i : RUN_MAX, &run, &b->area[b->nreq]) < 0)
			break;
		niov = batch_add_request(b, i, run, niov);
		i += run.count;
	}
	b->slots_will_be = i < n && swapareas_free(b->store) > 0;
	for (; i < n; i++)
		b->written[i]->fate = FATE_UNWRITTEN;
}

static void batch_write(struct batch *b)
{
	struct swapstore *store = b->store;
	struct ring *ring;

	if (!b->nreq)
		return;
	ring = ring_get(store->rings);
	ring_run(ring, b->req, b->nreq);
	ring_put(store->rings, ring);
	for (unsigned r = 0; r < b->nreq; r++) {
		struct slot_run run = b->run[r];

		if (!b->req[r].result) {
			store_count(&store->count.swapout_pages, run.count);
			trouble_wrote(b->area[r]);
			continue;
		}
		for (unsigned i = 0; i < run.count; i++)
			b->written[b->req_first[r] + i]->fate = FATE_UNWRITTEN;
		trouble_write_failed(b->area[r], run, b->req[r].result);
	}
}

/* --- 3: what was written leaves RAM ------------------------------------------------------------------------------------------ */

/* Stays: DIRTY again, back on a queue. */
static void victim_undo_locked(struct batch *b, struct victim *v)
{
	if (v->frame->state == FRAME_REDIRTIED || b->slots_will_be)
		b->busy++;
	else
		b->refused++;
	frame_writeback_undo(v->frame);
	tree_tag_clear(&v->obj->tree, v->index, TREE_WRITEBACK);
	tree_tag_set(&v->obj->tree, v->index, TREE_DIRTY);
	lru_add(&b->store->lru, v->frame, true);
}

static void victim_finish_locked(struct batch *b, struct victim *v)
{
	bool written = v->fate == FATE_WRITE;
	entry_t swap = written ? entry_of_slot(v->slot, v->sum) : ENTRY_EMPTY;

	if (v->fate == FATE_KEPT || v->fate == FATE_EVICTED)
		return;
	if (!victim_in_tree_locked(v)) { /* truncated meanwhile: the slot holds nothing of interest */
		if (written)
			release_add(&b->release, swap);
	} else if (v->frame->state == FRAME_REDIRTIED || v->fate == FATE_UNWRITTEN) {
		victim_undo_locked(b, v);
		if (written)
			release_add(&b->release, swap);
	} else if (v->fate == FATE_ZERO) {
		victim_evict_locked(b, v, ENTRY_ZERO);
		store_count(&b->store->count.zero_pages, 1);
	} else if (victim_unwanted_locked(v)) {
		victim_evict_locked(b, v, swap);
	} else {
		b->busy++;
		frame_writeback_done(v->frame, swap);
		tree_tag_clear(&v->obj->tree, v->index, TREE_WRITEBACK);
		lru_add(&b->store->lru, v->frame, true);
	}
}

static void batch_let_go(struct batch *b)
{
	frames_put(b->store->frames, b->frame, b->n);
	for (unsigned i = 0; i < b->n; i++)
		object_unref(b->store, b->victim[i].obj);
}

/* --- the batch ------------------------------------------------------------------------------------------------------------------ */

enum outcome { OUTCOME_FREED, OUTCOME_BUSY, OUTCOME_STUCK };

/* Frames that are neither free nor on a queue nor wired nor bookkeeping: in somebody's hands, to come free or be queued. */
static bool reclaim_in_flight(struct swapstore *store)
{
	int64_t rest = (int64_t)frames_extent(store->frames) - frames_spare(store->frames) - slab_frames(store->slab) -
		       lru_count(&store->lru) - lru_wired(&store->lru);

	return rest > 0;
}

static void batch_begin(struct batch *b)
{
	b->n = b->busy = b->refused = b->evicted = 0;
	b->slots_will_be = false;
}

/* All steps after the choice of victims. */
static void batch_run(struct batch *b)
{
	batch_sort(b);
	batch_for_each_locked(b, victim_begin_locked);
	batch_plan(b, batch_sort_out(b));
	batch_write(b);
	batch_for_each_locked(b, victim_finish_locked);
	batch_let_go(b);
}

static enum outcome reclaim_batch(struct batch *b, unsigned want)
{
	struct swapstore *store = b->store;
	struct reclaim *rc = &store->reclaim;
	uint64_t fruitless, queued;

	batch_begin(b);
	lru_isolate(&store->lru, b->frame, want < BATCH_MAX ? want : BATCH_MAX, atomic_load(&rc->fruitless) > 0, &b->busy,
		    batch_take, b);
	batch_run(b);

	if (b->evicted) {
		atomic_store(&rc->fruitless, 0);
		return OUTCOME_FREED;
	}
	/*
	 * Stuck is a strong word: every page has been refused once (a refused one goes to the main queue, and the
	 * small one is looked at first), and nobody is about to help, or so often that this does not matter.
	 */
	fruitless = atomic_fetch_add(&rc->fruitless, b->refused) + b->refused;
	queued = lru_count(&store->lru);
	if (fruitless < queued || (fruitless < PATIENCE * (queued + BATCH_MAX) && (b->busy || reclaim_in_flight(store))))
		return OUTCOME_BUSY;
	atomic_store(&rc->fruitless, 0);
	return OUTCOME_STUCK;
}

size_t reclaim_evict(struct swapstore *store, size_t want)
{
	struct batch *b = batch_new(store);
	size_t evicted = 0;

	while (b && evicted < want) {
		size_t rest = want - evicted;

		if (reclaim_batch(b, rest < BATCH_MAX ? (unsigned)rest : BATCH_MAX) != OUTCOME_FREED)
			break;
		evicted += b->evicted;
	}
	free(b);
	return evicted;
}

/* Evicts what it can of a chunk, whatever its age, and has its memory go.  False: no chunk can be spared. */
static bool reclaim_vacate(struct batch *b)
{
	struct swapstore *store = b->store;
	uint32_t first = 0;

	if (!frames_vacate(store->frames, &first))
		return false;
	batch_begin(b);
	lru_isolate_range(&store->lru, first, FRAMES_PER_CHUNK, b->frame, batch_take, b);
	batch_run(b);
	if (frames_vacated(store->frames, first))
		frames_release(store->frames, 1);
	return true;
}

/*
 * Free frames alone are no memory for others: that is given back in chunks.  So after the oldest pages those follow that
 * keep the emptiest chunks, as many again at most.
 */
size_t reclaim_give_back(struct swapstore *store, size_t pages)
{
	const uint32_t want = (uint32_t)((pages + FRAMES_PER_CHUNK - 1) / FRAMES_PER_CHUNK);
	struct frames_stats before, now;
	struct batch *b = swapareas_any(store) ? batch_new(store) : NULL;

	frames_get_stats(store->frames, &before);
	reclaim_evict(store, pages);
	frames_release(store->frames, want);
	frames_get_stats(store->frames, &now);
	for (uint32_t i = 0; b && i < want && now.populated + pages > before.populated; i++) {
		if (swapareas_all_sick(store) || !reclaim_vacate(b))
			break;
		frames_get_stats(store->frames, &now);
	}
	free(b);
	return before.populated > now.populated ? before.populated - now.populated : 0;
}

/* --- one object's pages ---------------------------------------------------------------------------------------------------------- */

/* The next victims of the object.  What is in other hands is passed over: it goes, or was wanted. */
static void batch_collect(struct batch *b, struct ss_object *obj, struct ss_walk *walk)
{
	entry_t e;
	UTIL_LOCKED(&obj->lock);

	batch_begin(b);
	for (; b->n < BATCH_MAX; walk->next++) {
		walk->done = !tree_next(&obj->tree, &walk->next, UINT64_MAX, &e);
		if (walk->done)
			return;
		if (entry_is_frame(e) && lru_take(&b->store->lru, entry_frame(e))) {
			b->frame[b->n] = entry_frame(e);
			batch_take(entry_frame(e), b);
		}
	}
}

int object_evict(struct swapstore *store, struct ss_object *obj, struct ss_walk *walk)
{
	struct batch *b;
	unsigned seen = 0;
	int err = 0;

	if (!swapareas_any(store))
		return -EOPNOTSUPP;
	b = batch_new(store);
	if (!b)
		return -ENOMEM;
	while (!err && !walk->done && seen < SS_WALK_PAGES) {
		batch_collect(b, obj, walk);
		seen += b->n;
		batch_run(b);
		walk->moved += b->evicted;
		if (b->refused)
			err = swapareas_all_sick(store) ? -EIO : -ENOSPC;
	}
	free(b);
	return err;
}

/* --- the workers -------------------------------------------------------------------------------------------------------------------- */

/* The reserve and so many steps, in frames.  Steps shrink with what bookkeeping leaves to data. */
static uint32_t reclaim_mark(struct swapstore *store, uint32_t steps)
{
	uint32_t data = store->nframes - slab_frames(store->slab) - lru_wired(&store->lru), step = store->reclaim.step;

	if (step > data / 8)
		step = data / 8 + 1;
	return store->frames_reserve + steps * step;
}

static bool reclaim_needed(struct swapstore *store, uint32_t steps)
{
	return frames_left(store->frames) < reclaim_mark(store, steps);
}

bool reclaim_is_near(struct swapstore *store, unsigned n)
{
	return frames_spare(store->frames) < reclaim_mark(store, 2) + n;
}

/* Rests for ms, or until the end.  Returns false at the end. */
static bool reclaim_rest(struct reclaim *rc, long ms)
{
	UTIL_LOCKED(&rc->lock);

	if (!rc->stopping)
		util_cond_wait_ms(&rc->work, &rc->lock, ms);
	return !rc->stopping;
}

/* Nothing can be evicted: tries again soon for those who wait, now and then if nobody does. */
static bool reclaim_rest_stuck(struct swapstore *store)
{
	bool go_on = true;

	for (int i = 0; i < IDLE_RESTS && go_on && (i == 0 || !frames_wanted(store->frames)); i++)
		go_on = reclaim_rest(&store->reclaim, STUCK_MS);
	return go_on;
}

/* The disk is out of order: a longer rest, but whoever waits for a frame shall not wait for its end. */
static bool reclaim_rest_sick(struct reclaim *rc)
{
	bool go_on;

	atomic_fetch_add(&rc->idle, 1);
	go_on = reclaim_rest(rc, SICK_MS);
	atomic_fetch_sub(&rc->idle, 1);
	return go_on;
}

static bool reclaim_wait_for_work(struct swapstore *store)
{
	struct reclaim *rc = &store->reclaim;
	UTIL_LOCKED(&rc->lock);

	atomic_fetch_add(&rc->idle, 1);
	while (!rc->stopping && !reclaim_needed(store, 1))
		pthread_cond_wait(&rc->work, &rc->lock);
	atomic_fetch_sub(&rc->idle, 1);
	return !rc->stopping;
}

static void *reclaim_thread(void *arg)
{
	struct reclaim_worker *worker = arg;
	struct swapstore *store = worker->store;
	struct reclaim *rc = &store->reclaim;
	struct batch *b = worker->batch;
	bool go_on = true;

	pthread_setname_np(pthread_self(), "spill-reclaim");
	util_touch_stack();
	while (go_on && reclaim_wait_for_work(store)) {
		while (go_on && reclaim_needed(store, 2)) {
			enum outcome outcome = reclaim_batch(b, rc->batch);

			if (outcome == OUTCOME_STUCK) {
				frames_no_progress(store->frames);
				go_on = swapareas_all_sick(store) ? reclaim_rest_sick(rc) : reclaim_rest_stuck(store);
			} else if (outcome == OUTCOME_BUSY) {
				go_on = reclaim_rest(rc, BUSY_MS);
			}
		}
	}
	return NULL;
}

void reclaim_kick(void *arg)
{
	struct swapstore *store = arg;
	struct reclaim *rc = &store->reclaim;

	if (!atomic_load(&rc->idle))
		return;
	pthread_mutex_lock(&rc->lock);
	pthread_cond_broadcast(&rc->work);
	pthread_mutex_unlock(&rc->lock);
}

int reclaim_start(struct swapstore *store)
{
	struct reclaim *rc = &store->reclaim;
	int err;

	for (; rc->nworkers < (store->nframes >= 4096 ? RECLAIM_WORKERS_MAX : 1); rc->nworkers++) {
		struct reclaim_worker *worker = &rc->worker[rc->nworkers];

		worker->store = store;
		worker->batch = batch_new(store);
		err = worker->batch ? util_thread_start(&worker->thread, reclaim_thread, worker) : -ENOMEM;
		if (err) {
			free(worker->batch);
			return err;
		}
	}
	return 0;
}

void reclaim_stop(struct swapstore *store)
{
	struct reclaim *rc = &store->reclaim;

	pthread_mutex_lock(&rc->lock);
	rc->stopping = true;
	pthread_cond_broadcast(&rc->work);
	pthread_mutex_unlock(&rc->lock);
	while (rc->nworkers > 0) {
		struct reclaim_worker *worker = &rc->worker[--rc->nworkers];

		pthread_join(worker->thread, NULL);
		free(worker->batch);
	}
}
