/* SPDX-License-Identifier: MIT */
/*
 * leave: moves the pages of a swap area away, in steps that the caller repeats: nobody but the caller waits for it,
 * and who stops calling, by an interrupt or by dying, leaves the area in use with nothing lost.  Owns swapareas.leave
 * (under swapareas.change).  Called by fuse-fs through swapstore.h, and by the trimmer for what was abandoned.
 *
 * A step goes through the objects' trees.  Pages that are in the area come into frames, DIRTY, from where reclaim
 * writes them to the other areas as it does with any page; a CLEAN frame, which has a slot there as well, only drops
 * that.  Object locks are held for SCAN_MAX entries at most, and not while the disk works.  The walk looks at all
 * entries, not at those with TREE_SWAPPED alone: frames that are CLEAN have no tag.  What is being written to the area
 * when it becomes LEAVING is met by the next pass; the area is empty when none of its slots is in use.
 */
#include "swapstore/checksum.h"
#include "swapstore/store.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BATCH_MAX  64U
#define SCAN_MAX   1024U
#define NAP_US	   2000	 /* between two passes: what is left is in somebody's hands */
#define PATIENCE_MS 5000 /* so long after its last step a swapoff is over */

/* Pages of one object that are in the area, on their way into frames. */
struct leaving {
	struct swaparea *area;
	struct ss_object *obj;
	unsigned n;
	uint64_t index[BATCH_MAX];
	entry_t entry[BATCH_MAX];
	struct frame *frame[BATCH_MAX];
	int error[BATCH_MAX];
	struct release release;
};

/* --- the objects ---------------------------------------------------------------------------------------------------- */

void objects_add(struct swapstore *store, struct ss_object *obj)
{
	UTIL_LOCKED(&store->objects.lock);

	/* In front: a walk that is under way need not see it. */
	obj->next = store->objects.head;
	if (obj->next)
		obj->next->prev = obj;
	store->objects.head = obj;
}

void objects_remove(struct swapstore *store, struct ss_object *obj)
{
	UTIL_LOCKED(&store->objects.lock);

	if (obj->prev)
		obj->prev->next = obj->next;
	else
		store->objects.head = obj->next;
	if (obj->next)
		obj->next->prev = obj->prev;
}

/* A reference, unless the last one is just being dropped. */
static bool object_try_ref(struct ss_object *obj)
{
	uint32_t refs = atomic_load_explicit(&obj->refs, memory_order_relaxed);

	while (refs && !atomic_compare_exchange_weak(&obj->refs, &refs, refs + 1))
		;
	return refs > 0;
}

/* The object after obj (NULL: the first), with a reference; obj's is given back.  NULL after the last. */
static struct ss_object *objects_next(struct swapstore *store, struct ss_object *obj)
{
	struct ss_object *next;

	pthread_mutex_lock(&store->objects.lock);
	next = obj ? obj->next : store->objects.head;
	while (next && !object_try_ref(next))
		next = next->next;
	pthread_mutex_unlock(&store->objects.lock);
	if (obj)
		object_unref(store, obj);
	return next;
}

/* --- one batch ---------------------------------------------------------------------------------------------------------- */

/* Notes the next pages that are in the area, and drops the slots of clean frames; true if there may be more. */
static bool leaving_collect_locked(struct leaving *l, uint64_t *index)
{
	entry_t e = ENTRY_EMPTY;

	for (unsigned scanned = 0; scanned < SCAN_MAX && l->n < BATCH_MAX; scanned++, (*index)++) {
		if (release_full(&l->release))
			return true;
		if (!tree_next(&l->obj->tree, index, UINT64_MAX, &e))
			return false;
		if (entry_is_swap(e) && swaparea_has(l->area, entry_slot(e))) {
			l->index[l->n] = *index;
			l->entry[l->n++] = e;
		} else if (entry_is_frame(e) && entry_frame(e)->state == FRAME_CLEAN &&
			   swaparea_has(l->area, entry_slot(entry_frame(e)->swap))) {
			object_dirty_locked(l->obj, entry_frame(e), &l->release);
		}
	}
	return true;
}

/* Reads page i alone. */
static void leaving_read_one(struct leaving *l, struct ring *ring, unsigned i)
{
	struct iovec iov = {frame_data(l->area->store->frames, l->frame[i]), SS_PAGE_SIZE};
	struct ring_req req = {.op = RING_READ, .iov = &iov, .iovcnt = 1};

	l->error[i] = -ESTALE;
	if (swapareas_locate(l->area->store, entry_slot(l->entry[i]), &req)) {
		ring_run(ring, &req, 1);
		l->error[i] = req.result;
	}
}

/* Reads all pages into their frames, neighbours on the disk by one request; notes what became of each. */
static void leaving_read(struct leaving *l)
{
	struct swapstore *store = l->area->store;
	struct iovec iov[BATCH_MAX];
	struct ring_req req[BATCH_MAX];
	unsigned first[BATCH_MAX + 1], nreq = 0;
	struct ring *ring = ring_get(store->rings);

	for (unsigned i = 0; i < l->n; i++) {
		iov[i] = (struct iovec){frame_data(store->frames, l->frame[i]), SS_PAGE_SIZE};
		l->error[i] = 0;
		if (i > 0 && entry_slot(l->entry[i]) == entry_slot(l->entry[i - 1]) + 1) {
			req[nreq - 1].iovcnt++;
			continue;
		}
		first[nreq] = i;
		req[nreq] = (struct ring_req){.op = RING_READ, .iov = &iov[i], .iovcnt = 1};
		/* The area stays while it is left, whatever becomes of the entry. */
		if (!swapareas_locate(store, entry_slot(l->entry[i]), &req[nreq++]))
			assert(false);
	}
	first[nreq] = l->n;
	ring_run(ring, req, nreq);
	for (unsigned r = 0; r < nreq; r++)
		for (unsigned i = first[r]; req[r].result && i < first[r + 1]; i++)
			leaving_read_one(l, ring, i);
	ring_put(store->rings, ring);
	for (unsigned i = 0; i < l->n; i++)
		if (!l->error[i] && checksum_page(frame_data(store->frames, l->frame[i])) != entry_sum(l->entry[i]))
			l->error[i] = -EILSEQ;
}

/* Puts what was read into the tree, where the entry is still the same.  Returns how many pages cannot be read. */
static unsigned leaving_install_locked(struct leaving *l)
{
	struct swapstore *store = l->area->store;
	unsigned unreadable = 0, done = 0;

	for (unsigned i = 0; i < l->n; i++) {
		struct tree_stash stash = {0}; /* an entry in place of an entry: no node comes or goes */
		struct tree *tree = &l->obj->tree;

		if (l->error[i]) {
			if (tree_load(tree, l->index[i]) == l->entry[i])
				unreadable++;
			else
				l->error[i] = 0;
			continue;
		}
		if (tree_replace(tree, l->index[i], l->entry[i], entry_of_frame(l->frame[i]), &stash) < 0)
			continue;
		frame_fill_dirty(l->frame[i], l->obj, l->index[i]);
		tree_tag_set(tree, l->index[i], TREE_DIRTY);
		wire_add_locked(store, l->obj, &l->frame[i], 1);
		release_add(&l->release, l->entry[i]);
		l->frame[i] = NULL;
		done++;
	}
	atomic_fetch_add_explicit(&store->data_frames, done, memory_order_relaxed);
	store_count(&store->count.swapin_pages, done);
	return unreadable;
}

/* Moves the pages that were collected, as many as there are frames for at once.  Returns how many, or -errno. */
static int leaving_move(struct leaving *l, uint64_t *unreadable)
{
	struct swapstore *store = l->area->store;
	int got = frames_alloc(store->frames, l->frame, l->n, 0);

	if (got < 0)
		return got;
	l->n = (unsigned)got;
	leaving_read(l);
	pthread_mutex_lock(&l->obj->lock);
	*unreadable += leaving_install_locked(l);
	pthread_mutex_unlock(&l->obj->lock);
	for (unsigned i = 0; i < l->n; i++) {
		if (l->error[i])
			trouble_read_failed(store, entry_slot(l->entry[i]), l->error[i]);
		if (l->frame[i])
			frame_put(store->frames, l->frame[i]);
	}
	release_all(store, &l->release);
	return got;
}

/* --- steps, swapareas.change held ---------------------------------------------------------------------------------------- */

/* The next batch.  1; 0: that was all of this pass; or -errno. */
static int leave_some(struct swapstore *store, struct swaparea *area)
{
	struct leave *lv = &store->areas.leave;
	struct leaving l = {.area = area};
	uint64_t index;
	bool more;
	int got;

	if (!lv->object) {
		lv->object = objects_next(store, NULL);
		lv->index = 0;
		if (!lv->object)
			return 0;
	}
	l.obj = lv->object;
	index = lv->index;
	pthread_mutex_lock(&l.obj->lock);
	more = leaving_collect_locked(&l, &index);
	pthread_mutex_unlock(&l.obj->lock);
	release_all(store, &l.release);
	if (l.n) {
		unsigned wanted = l.n;

		got = leaving_move(&l, &lv->unreadable);
		if (got < 0)
			return got;
		if ((unsigned)got < wanted) { /* the others next time */
			index = l.index[got];
			more = true;
		}
	}
	lv->index = index;
	if (more)
		return 1;
	lv->object = objects_next(store, lv->object);
	lv->index = 0;
	return lv->object != NULL;
}

static uint64_t area_used(const struct swaparea *area)
{
	struct slots_stats st;

	slots_get_stats(area->slots, &st); /* under its lock, so that who freed the last one is done with it */
	return st.used;
}

static void leave_forget(struct swapstore *store)
{
	struct leave *lv = &store->areas.leave;

	if (lv->object)
		object_unref(store, lv->object);
	*lv = (struct leave){.number = SWAPAREA_NO_NUMBER};
}

static void leave_cancel(struct swapstore *store)
{
	if (store->areas.leave.number == SWAPAREA_NO_NUMBER)
		return;
	swaparea_stay(&store->areas.area[store->areas.leave.number]);
	leave_forget(store);
	reclaim_kick(store);
}

/* CLOSING becomes LEAVING, if what is there fits elsewhere; else the caller makes it IN_USE again. */
static int leave_start(struct swapstore *store, struct swaparea *area, char *why, size_t why_len)
{
	uint64_t pages, room;

	if (swapfile_is_reserved(&area->file)) {
		snprintf(why, why_len, "its space was set aside for good by reserve=");
		return -EBUSY;
	}
	swaparea_leave(area);
	atomic_fetch_add(&store->limits_turn, 1); /* see store_charge() */
	pages = atomic_load(&store->pages);
	room = store_room_in_use(store);
	if (pages > room) {
		snprintf(why, why_len,
			 "the mount holds %llu MiB, and RAM and the other swap areas have room for %llu MiB of it",
			 (unsigned long long)(pages >> 8), (unsigned long long)(room >> 8));
		return -ENOSPC;
	}
	return 0;
}

/* The end of a pass.  0: the area is closed; -EAGAIN: another pass; -EIO. */
static int leave_pass_end(struct swapstore *store, struct swaparea *area, char *why, size_t why_len)
{
	struct leave *lv = &store->areas.leave;

	if (area_used(area) == 0) {
		leave_forget(store);
		swaparea_close(area);
		return 0;
	}
	if (lv->unreadable) {
		snprintf(why, why_len, "%llu pages of it cannot be read back; everything else has been moved",
			 (unsigned long long)lv->unreadable);
		return -EIO;
	}
	usleep(NAP_US);
	return -EAGAIN;
}

static int leave_go_on(struct swapstore *store, struct swaparea *area, unsigned ms, char *why, size_t why_len)
{
	int64_t until = util_now_ms() + ms;
	int rc = -EAGAIN;

	if (swaparea_state(area) == SWAPAREA_CLOSING) {
		rc = leave_start(store, area, why, why_len);
		if (rc)
			return rc;
	}
	do {
		rc = leave_some(store, area);
		if (rc == 0)
			rc = leave_pass_end(store, area, why, why_len);
		else if (rc > 0)
			rc = -EAGAIN;
		else
			snprintf(why, why_len, "RAM and the other swap areas have no room for what is left of it");
	} while (rc == -EAGAIN && util_now_ms() < until);
	return rc;
}

/* --- the interface -------------------------------------------------------------------------------------------------------- */

int swapstore_swapoff_begin(struct swapstore *store, unsigned number)
{
	struct swapareas *areas = &store->areas;
	UTIL_LOCKED(&areas->change);

	if (number >= SWAPAREA_MAX || swaparea_state(&areas->area[number]) == SWAPAREA_NONE)
		return -ENOENT;
	if (areas->leave.number != SWAPAREA_NO_NUMBER)
		return -EBUSY;
	areas->leave = (struct leave){.number = number, .until_ms = util_now_ms() + PATIENCE_MS};
	swaparea_close_begin(&areas->area[number]);
	trimmer_kick(store); /* it looks after what is abandoned */
	return 0;
}

int swapstore_swapoff_step(struct swapstore *store, unsigned number, unsigned ms, char *why, size_t why_len)
{
	struct swapareas *areas = &store->areas;
	int rc;
	UTIL_LOCKED(&areas->change);

	if (areas->leave.number != number) {
		snprintf(why, why_len, "swapoff was stopped");
		return -ECANCELED;
	}
	rc = leave_go_on(store, &areas->area[number], ms, why, why_len);
	if (rc == -EAGAIN)
		areas->leave.until_ms = util_now_ms() + PATIENCE_MS;
	else if (rc)
		leave_cancel(store);
	return rc;
}

void swapstore_swapoff_cancel(struct swapstore *store, unsigned number)
{
	UTIL_LOCKED(&store->areas.change);

	if (store->areas.leave.number == number)
		leave_cancel(store);
}

long leave_look_after(struct swapstore *store)
{
	struct swapareas *areas = &store->areas;
	long rest = PATIENCE_MS;

	if (pthread_mutex_trylock(&areas->change) != 0)
		return PATIENCE_MS; /* somebody is at it */
	if (areas->leave.number == SWAPAREA_NO_NUMBER)
		rest = 0;
	else if (util_now_ms() >= areas->leave.until_ms)
		leave_cancel(store), rest = 0;
	pthread_mutex_unlock(&areas->change);
	return rest;
}
