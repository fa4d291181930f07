/* SPDX-License-Identifier: MIT */
/*
 * wire: objects whose pages stay in RAM, and where the pages of any object are.  obj->lock guards obj->wired and the
 * tree; the frames' part is lru.c's, and the limit store_wire_limit().  Called by fuse-fs through swapstore.h, and by
 * whoever puts a frame with new bytes into a tree.
 *
 * A wired frame is on no queue, so reclaim never sees it.  It is DIRTY and has no slot: a page that takes a frame for
 * good must not take a slot as well, or what was promised a place would find none.  The word is Mach's.
 */
#include "swapstore/store.h"

#include "swapstore/checksum.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

#define WIRE_BATCH  128U   /* pages brought in by one submission; half of what a struct release holds */
#define WIRE_NAP_NS 500000 /* a frame in reclaim's hands is back, or gone, after one write to the disk */
#define WIRE_SLICE  1024U  /* entries looked at under one hold of the lock */

void wire_add_locked(struct swapstore *store, struct ss_object *obj, struct frame *const *f, unsigned n)
{
	if (obj->wired)
		lru_add_wired(&store->lru, f, n, store_wire_limit(store));
	else
		lru_add_many(&store->lru, f, n, false);
}

/* --- where the pages are --------------------------------------------------------------------------------------------- */

static void wire_count_locked(struct swapstore *store, struct ss_object *obj, entry_t e, struct ss_object_stats *st)
{
	st->pages++;
	if (entry_is_frame(e)) {
		const struct frame *f = entry_frame(e);

		st->frames++;
		st->dirty += f->state != FRAME_CLEAN;
		st->wired += obj->wired && lru_is_wired(&store->lru, f);
	} else if (entry_is_swap(e)) {
		st->swapped++;
	} else if (e == ENTRY_ZERO) {
		st->zero++;
	} else {
		st->unwritten++;
	}
}

void object_get_stats(struct swapstore *store, struct ss_object *obj, uint64_t end_page, struct ss_object_stats *st)
{
	uint64_t index = 0;
	bool more = true;

	*st = (struct ss_object_stats){0};
	while (more) {
		entry_t e;
		UTIL_LOCKED(&obj->lock);

		st->is_wired = obj->wired;
		for (unsigned i = 0; i < WIRE_SLICE && (more = tree_next(&obj->tree, &index, UINT64_MAX, &e)); i++) {
			wire_count_locked(store, obj, e, st);
			st->below_end += index < end_page;
			index++;
		}
	}
}

/* --- wiring ------------------------------------------------------------------------------------------------------------ */

/* One object_wire(), while it is worked on. */
struct wiring {
	struct swapstore *store;
	struct ss_object *obj;
	struct ss_walk *walk;
	unsigned looked;
	unsigned n; /* swapped pages to bring in: these */
	uint64_t index[WIRE_BATCH];
	entry_t entry[WIRE_BATCH];
	struct frame *frame[WIRE_BATCH];
	int error[WIRE_BATCH];
	struct iovec iov[WIRE_BATCH];
	struct ring_req req[WIRE_BATCH];
	struct release rel;
};

static int wire_frame_locked(struct wiring *w, struct frame *f)
{
	int err = lru_wire(&w->store->lru, f, store_wire_limit(w->store));

	if (!err)
		object_dirty_locked(w->obj, f, &w->rel);
	return err;
}

/*
 * Wires the frames that it finds and notes the swapped pages, from walk->next on.  -EAGAIN: a frame in reclaim's hands;
 * -ENOMEM: the limit; -ECANCELED: the object is not to be wired any more.
 */
static int wire_look(struct wiring *w)
{
	struct ss_walk *walk = w->walk;
	int err = 0;
	UTIL_LOCKED(&w->obj->lock);

	if (!w->obj->wired)
		return -ECANCELED;
	w->n = 0;
	while (w->n < WIRE_BATCH && w->rel.count < WIRE_BATCH && w->looked < SS_WALK_PAGES) {
		entry_t e;

		if (!tree_next(&w->obj->tree, &walk->next, UINT64_MAX, &e)) {
			walk->done = w->n == 0;
			break;
		}
		if (entry_is_swap(e)) {
			w->index[w->n] = walk->next;
			w->entry[w->n++] = e;
		} else if (entry_is_frame(e)) {
			err = wire_frame_locked(w, entry_frame(e));
			if (err)
				break;
		}
		walk->next++;
		w->looked++;
	}
	return w->n ? 0 : err; /* first what has been noted; then it comes this way again */
}

/*
 * Reads the first n noted pages into their frames, neighbours on the disk as one request.  A slot that is in no area
 * any more: nothing to read, and the entry has changed.
 */
static void wire_fetch(struct wiring *w, unsigned n)
{
	struct ring *ring = ring_get(w->store->rings);
	unsigned nreq = 0;
	int which[WIRE_BATCH]; /* request of each page: ring_run() may change the rest of it */

	for (unsigned i = 0; i < n; i++) {
		w->iov[i] = (struct iovec){frame_data(w->store->frames, w->frame[i]), SS_PAGE_SIZE};
		if (i && entry_slot(w->entry[i]) == (uint64_t)entry_slot(w->entry[i - 1]) + 1) {
			which[i] = which[i - 1];
			if (which[i] >= 0)
				w->req[which[i]].iovcnt++;
			continue;
		}
		w->req[nreq] = (struct ring_req){.op = RING_READ, .iov = &w->iov[i], .iovcnt = 1};
		which[i] = swapareas_locate(w->store, entry_slot(w->entry[i]), &w->req[nreq]) ? (int)nreq++ : -1;
	}
	ring_run(ring, w->req, nreq);
	ring_put(w->store->rings, ring);
	for (unsigned i = 0; i < n; i++)
		w->error[i] = which[i] < 0 ? -ESTALE : w->req[which[i]].result;
	for (unsigned i = 0; i < n; i++)
		if (!w->error[i] && checksum_page(frame_data(w->store->frames, w->frame[i])) != entry_sum(w->entry[i]))
			w->error[i] = -EILSEQ;
}

/* Puts the pages that were read into the tree.  Returns how many; those frames are no longer in w->frame. */
static unsigned wire_install(struct wiring *w, unsigned n)
{
	struct swapstore *store = w->store;
	struct ss_object *obj = w->obj;
	struct tree_stash stash = {0}; /* an entry in place of an entry: no node comes or goes */
	unsigned done = 0;
	UTIL_LOCKED(&obj->lock);

	for (unsigned i = 0; i < n; i++) {
		struct frame *f = w->frame[i];

		if (w->error[i] || tree_replace(&obj->tree, w->index[i], w->entry[i], entry_of_frame(f), &stash) < 0)
			continue;
		frame_fill_dirty(f, obj, w->index[i]);
		tree_tag_set(&obj->tree, w->index[i], TREE_DIRTY);
		release_add(&w->rel, w->entry[i]);
		wire_add_locked(store, obj, &f, 1);
		w->frame[i] = NULL;
		done++;
	}
	atomic_fetch_add_explicit(&store->data_frames, done, memory_order_relaxed);
	return done;
}

/* A page that could not be read, if it is still there: object_fetch() tries once more, alone, and says so. */
static int wire_retry(struct wiring *w, unsigned n)
{
	int err = 0;

	for (unsigned i = 0; i < n && !err; i++)
		if (w->error[i])
			err = object_fetch(w->store, w->obj, w->index[i], w->entry[i],
					   frame_data(w->store->frames, w->frame[i]));
	return err == -ESTALE ? 0 : err;
}

/* The noted pages, or as many as there are frames for.  They are looked at once more then, and found wired. */
static int wire_bring_in(struct wiring *w)
{
	int got = frames_alloc(w->store->frames, w->frame, w->n, 0), err;
	unsigned done;

	w->walk->next = w->index[0];
	if (got < 0)
		return -ENOMEM;
	wire_fetch(w, (unsigned)got);
	done = wire_install(w, (unsigned)got);
	err = wire_retry(w, (unsigned)got);
	for (int i = 0; i < got; i++)
		if (w->frame[i])
			frame_put(w->store->frames, w->frame[i]);
	store_count(&w->store->count.swapin_pages, done);
	w->walk->moved += done;
	return err;
}

/* Before anything is moved: would all that is there now fit? */
static int wire_begin(struct swapstore *store, struct ss_object *obj)
{
	struct ss_object_stats st;

	object_get_stats(store, obj, 0, &st);
	if (st.frames + st.swapped - st.wired + lru_wired(&store->lru) > store_wire_limit(store))
		return -ENOMEM;
	pthread_mutex_lock(&obj->lock);
	obj->wired = true;
	pthread_mutex_unlock(&obj->lock);
	return 0;
}

int object_wire(struct swapstore *store, struct ss_object *obj, struct ss_walk *walk)
{
	const struct timespec nap = {.tv_nsec = WIRE_NAP_NS};
	struct wiring w = {.store = store, .obj = obj, .walk = walk};
	int err = walk->next == 0 ? wire_begin(store, obj) : 0;

	while (!err && !walk->done && w.looked < SS_WALK_PAGES) {
		err = wire_look(&w);
		release_all(store, &w.rel);
		if (err == -EAGAIN) {
			nanosleep(&nap, NULL);
			err = 0;
		} else if (!err && w.n) {
			err = wire_bring_in(&w);
			release_all(store, &w.rel);
		}
	}
	if (err)
		object_unwire(store, obj);
	return err;
}

bool object_is_wired(struct ss_object *obj)
{
	UTIL_LOCKED(&obj->lock);

	return obj->wired;
}

void object_unwire(struct swapstore *store, struct ss_object *obj)
{
	uint64_t index = 0;
	bool more = true;

	while (more) {
		entry_t e;
		UTIL_LOCKED(&obj->lock);

		obj->wired = false;
		for (unsigned i = 0; i < WIRE_SLICE && (more = tree_next(&obj->tree, &index, UINT64_MAX, &e)); i++) {
			if (entry_is_frame(e))
				lru_unwire(&store->lru, entry_frame(e));
			index++;
		}
	}
}
