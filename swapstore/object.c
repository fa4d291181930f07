/* SPDX-License-Identifier: MIT */
/*
 * object: the lifetime of objects, and how pages leave their trees: erase, allocate and seek.  obj->lock guards
 * the tree; what an entry held (a frame's reference, a slot) is collected in a struct release and given back
 * after unlocking.  Called by fuse-fs through swapstore.h.
 */
#include "swapstore/store.h"

#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define LAST_PAGE (UINT64_MAX >> SS_PAGE_SHIFT)

int object_create(struct swapstore *store, unsigned write_flags, struct ss_object **out)
{
	struct ss_object *obj = slab_alloc(store->slab, sizeof(*obj), store_frames_flags(write_flags));

	if (!obj)
		return -ENOSPC;
	pthread_mutex_init(&obj->lock, NULL);
	atomic_store(&obj->refs, 1);
	objects_add(store, obj);
	*out = obj;
	return 0;
}

void object_ref(struct ss_object *obj)
{
	atomic_fetch_add_explicit(&obj->refs, 1, memory_order_relaxed);
}

void object_unref(struct swapstore *store, struct ss_object *obj)
{
	if (atomic_fetch_sub_explicit(&obj->refs, 1, memory_order_acq_rel) != 1)
		return;
	assert(entry_is_empty(obj->tree.root));
	objects_remove(store, obj);
	pthread_mutex_destroy(&obj->lock);
	ss_free(store, obj, sizeof(*obj));
}

void object_destroy(struct swapstore *store, struct ss_object *obj)
{
	int err = object_erase(store, obj, 0, UINT64_MAX);

	assert(err == 0); /* no edge page, so nothing to read back */
	(void)err;
	object_unref(store, obj);
}

uint64_t object_pages(const struct ss_object *obj)
{
	return atomic_load_explicit(&obj->pages, memory_order_relaxed);
}

/* --- entries on their way out -------------------------------------------------------------------------------------- */

void release_add(struct release *rel, entry_t e)
{
	assert(!release_full(rel));
	rel->entry[rel->count++] = e;
}

void release_all(struct swapstore *store, struct release *rel)
{
	struct frame *frame[RELEASE_MAX];
	struct slot_run run = {0};
	unsigned nframes = 0;
	bool freed_slots = false;

	for (unsigned i = 0; i < rel->count; i++) {
		entry_t e = rel->entry[i];

		if (entry_is_frame(e)) {
			frame[nframes++] = entry_frame(e);
			continue;
		}
		freed_slots = true;
		if (run.count && entry_slot(e) == (uint64_t)run.first + run.count) {
			run.count++;
			continue;
		}
		if (run.count)
			swapareas_free_run(store, run);
		run = (struct slot_run){entry_slot(e), 1};
	}
	if (run.count)
		swapareas_free_run(store, run);
	if (nframes)
		frames_put(store->frames, frame, nframes);
	rel->count = 0;
	if (freed_slots)
		trimmer_kick(store);
}

void object_drop_locked(struct swapstore *store, struct ss_object *obj, uint64_t index, entry_t e,
			struct tree_stash *stash, struct release *rel)
{
	int err = tree_replace(&obj->tree, index, e, ENTRY_EMPTY, stash);

	assert(err == 0);
	(void)err;
	atomic_fetch_sub_explicit(&obj->pages, 1, memory_order_relaxed);
	if (entry_is_frame(e)) {
		struct frame *f = entry_frame(e);

		lru_remove(&store->lru, f);
		if (f->state == FRAME_CLEAN)
			release_add(rel, f->swap);
		frame_detach(f);
		atomic_fetch_sub_explicit(&store->data_frames, 1, memory_order_relaxed);
		release_add(rel, e);
	} else if (entry_is_swap(e)) {
		release_add(rel, e);
	}
}

void object_dirty_locked(struct ss_object *obj, struct frame *f, struct release *rel)
{
	switch (f->state) {
	case FRAME_CLEAN:
		release_add(rel, f->swap);
		frame_dirty(f);
		tree_tag_set(&obj->tree, f->index, TREE_DIRTY);
		break;
	case FRAME_WRITEBACK:
		frame_redirty(f);
		tree_tag_set(&obj->tree, f->index, TREE_DIRTY);
		break;
	default:
		assert(f->state == FRAME_DIRTY || f->state == FRAME_REDIRTIED);
	}
}

/* --- erase ------------------------------------------------------------------------------------------------------------ */

/* Puts a zeroed part into a page that is in swap: it comes back into a frame.  -ESTALE: look again. */
static int zero_part_swapped(struct swapstore *store, struct ss_object *obj, uint64_t index, entry_t e, size_t from,
			     size_t to)
{
	struct tree_stash stash = {0};
	struct release rel = {0};
	struct frame *f;
	char *data;
	int err = frames_alloc(store->frames, &f, 1, FRAMES_CRITICAL);

	if (err < 0)
		return err;
	data = frame_data(store->frames, f);
	err = object_fetch(store, obj, index, e, data);
	if (err) {
		frame_put(store->frames, f);
		return err;
	}
	memset(data + from, 0, to - from);
	pthread_mutex_lock(&obj->lock);
	err = tree_replace(&obj->tree, index, e, entry_of_frame(f), &stash);
	if (err == 0) {
		frame_fill_dirty(f, obj, index);
		tree_tag_set(&obj->tree, index, TREE_DIRTY);
		atomic_fetch_add_explicit(&store->data_frames, 1, memory_order_relaxed);
		wire_add_locked(store, obj, &f, 1);
		release_add(&rel, e);
	}
	pthread_mutex_unlock(&obj->lock);
	if (err)
		frame_put(store->frames, f);
	release_all(store, &rel);
	return err;
}

/* Zeroes the bytes [from, to) of one page, if it exists. */
static int zero_part(struct swapstore *store, struct ss_object *obj, uint64_t index, size_t from, size_t to)
{
	struct release rel = {0};
	struct frame *f = NULL;
	entry_t e;
	int err;

	do {
		pthread_mutex_lock(&obj->lock);
		e = tree_load(&obj->tree, index);
		if (entry_is_frame(e)) {
			f = entry_frame(e);
			frame_get(f);
			object_dirty_locked(obj, f, &rel);
		}
		pthread_mutex_unlock(&obj->lock);
		err = entry_is_swap(e) ? zero_part_swapped(store, obj, index, e, from, to) : 0;
	} while (err == -ESTALE);
	if (f) {
		memset((char *)frame_data(store->frames, f) + from, 0, to - from);
		frame_put(store->frames, f);
	}
	release_all(store, &rel);
	return err;
}

static void erase_pages(struct swapstore *store, struct ss_object *obj, uint64_t first, uint64_t last)
{
	struct tree_stash stash = {0};
	struct release rel = {0};
	uint64_t dropped, index = first;
	bool more = true;

	while (more && first <= last) {
		entry_t e;

		dropped = 0;
		pthread_mutex_lock(&obj->lock);
		while ((more = tree_next(&obj->tree, &index, last, &e)) && rel.count + 2 <= RELEASE_MAX &&
		       dropped < RELEASE_MAX) {
			object_drop_locked(store, obj, index, e, &stash, &rel);
			dropped++;
		}
		account_uncharge(object_payer(obj), dropped);
		pthread_mutex_unlock(&obj->lock);
		store_uncharge(store, dropped);
		release_all(store, &rel);
		ss_stash_drain(store, &stash);
	}
}

int object_erase(struct swapstore *store, struct ss_object *obj, uint64_t first, uint64_t end)
{
	uint64_t page = first >> SS_PAGE_SHIFT, end_page = end >> SS_PAGE_SHIFT;
	size_t head = first % SS_PAGE_SIZE, tail = end % SS_PAGE_SIZE;
	int err = 0, err2;

	if (first >= end)
		return 0;
	if (end == UINT64_MAX) { /* no tail: to the very last page */
		end_page = LAST_PAGE + 1;
		tail = 0;
	}
	if (head && page == end_page)
		return zero_part(store, obj, page, head, tail);
	/* The whole pages first: an edge that is in swap needs a frame, and they may have one. */
	if (end_page > page + (head != 0))
		erase_pages(store, obj, page + (head != 0), end_page - 1);
	if (head)
		err = zero_part(store, obj, page, head, SS_PAGE_SIZE);
	if (tail) {
		err2 = zero_part(store, obj, end_page, 0, tail);
		err = err ? err : err2;
	}
	return err;
}

/* --- allocate ---------------------------------------------------------------------------------------------------------- */

static uint64_t count_missing(struct ss_object *obj, uint64_t first, uint64_t last)
{
	uint64_t missing = last - first + 1, index = first;
	entry_t e;
	UTIL_LOCKED(&obj->lock);

	while (index <= last && tree_next(&obj->tree, &index, last, &e)) {
		missing--;
		index++;
	}
	return missing;
}

/* Charges so many pages, and to whom: it can change before they are all there. */
static int allocate_charge(struct swapstore *store, struct ss_object *obj, uint64_t missing, unsigned write_flags,
			   const struct ss_payer **payer)
{
	UTIL_LOCKED(&obj->lock);

	*payer = object_payer(obj);
	if (!store_charge(store, missing, write_flags & ~(unsigned)SS_WRITE_ACKED))
		return -ENOSPC;
	if (account_charge(*payer, missing, write_flags))
		return 0;
	store_uncharge(store, missing);
	return -EDQUOT;
}

/* Sets aside up to RELEASE_MAX pages from *index on, under one hold of the lock. */
static int allocate_some(struct swapstore *store, struct ss_object *obj, uint64_t *index, uint64_t last,
			 uint64_t *missing, const struct ss_payer *payer, struct tree_stash *stash)
{
	uint64_t stop = *index + RELEASE_MAX, taken = 0;
	int err = 0;

	pthread_mutex_lock(&obj->lock);
	for (; *index <= last && *index < stop && taken < *missing; (*index)++) {
		err = tree_replace(&obj->tree, *index, ENTRY_EMPTY, ENTRY_UNWRITTEN, stash);
		if (err == -ENOMEM)
			break;
		taken += err == 0;
	}
	atomic_fetch_add_explicit(&obj->pages, taken, memory_order_relaxed);
	if (object_payer(obj) != payer) {
		account_charge(object_payer(obj), taken, SS_WRITE_FORCED);
		account_uncharge(payer, taken);
	}
	pthread_mutex_unlock(&obj->lock);
	*missing -= taken;
	/* Only if pages around the range went away meanwhile does it need more nodes than were counted. */
	return err == -ENOMEM ? store_stash_fill(store, stash, TREE_STORE_NODES, FRAMES_RESERVE) : 0;
}

int object_allocate(struct swapstore *store, struct ss_object *obj, uint64_t first, uint64_t end,
		    unsigned write_flags)
{
	const struct ss_payer *payer = NULL;
	uint64_t index = first >> SS_PAGE_SHIFT, last, missing, nodes;
	struct tree_stash stash = {0};
	int err = 0;

	if (first >= end)
		return 0;
	last = (end - 1) >> SS_PAGE_SHIFT;
	missing = last - index + 1;
	/* First everything that can fail: room for the pages, and nodes for their entries. */
	if (missing > store->nframes + swapareas_total(store))
		return -ENOSPC;
	missing = count_missing(obj, index, last);
	if (!missing)
		return 0;
	err = allocate_charge(store, obj, missing, write_flags, &payer);
	if (err)
		return err;
	nodes = missing / TREE_WAYS + missing / (TREE_WAYS * TREE_WAYS / 2) + 2 * TREE_STORE_NODES;
	err = ss_stash_fill(store, &stash, (unsigned)(nodes < UINT32_MAX ? nodes : UINT32_MAX));
	while (!err && index <= last && missing)
		err = allocate_some(store, obj, &index, last, &missing, payer, &stash);
	/* Pages that came into being meanwhile were charged by their writers. */
	store_uncharge(store, missing);
	account_uncharge(payer, missing);
	ss_stash_drain(store, &stash);
	return err;
}

/* --- seek ----------------------------------------------------------------------------------------------------------------- */

int64_t object_seek_data(struct ss_object *obj, uint64_t offset)
{
	uint64_t index = offset >> SS_PAGE_SHIFT, at;
	entry_t e = ENTRY_EMPTY;
	UTIL_LOCKED(&obj->lock);

	while (tree_next(&obj->tree, &index, LAST_PAGE, &e) && !entry_is_data(e)) {
		if (index++ == LAST_PAGE)
			return -ENXIO;
	}
	if (!entry_is_data(e))
		return -ENXIO;
	at = index << SS_PAGE_SHIFT;
	return (int64_t)(at > offset ? at : offset);
}

int64_t object_seek_hole(struct ss_object *obj, uint64_t offset)
{
	uint64_t index = offset >> SS_PAGE_SHIFT;
	entry_t e[TREE_WAYS];

	for (uint64_t first = index;; first += TREE_WAYS) {
		pthread_mutex_lock(&obj->lock);
		tree_load_range(&obj->tree, first, TREE_WAYS, e);
		pthread_mutex_unlock(&obj->lock);
		for (unsigned i = 0; i < TREE_WAYS; i++) {
			if (entry_is_data(e[i]))
				continue;
			uint64_t at = first + i <= INT64_MAX >> SS_PAGE_SHIFT ? (first + i) << SS_PAGE_SHIFT : INT64_MAX;

			return (int64_t)(at > offset ? at : offset);
		}
	}
}
