/* SPDX-License-Identifier: MIT */
/*
 * write: bytes into pages.  A run of pages that have frames is pinned and marked dirty in one locked step, then
 * filled; a run of pages that have none gets fresh frames (waiting with nothing held when none is free), which
 * are filled first and put into the tree by compare-and-replace.  A page that is written whole is never read.
 * obj->lock guards the tree and the frames' states; bytes are copied with no lock, under a pin.  Called by
 * fuse-fs through swapstore.h.
 */
#include "swapstore/store.h"

#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define WRITE_BATCH 128U /* pages; bounds what one writer pins and takes at a time */
#define BULK_PAGES  16U	 /* so many new pages at once make it likely that a tree node is needed */
#define COPY_BYTES  (32U << 10)

/* One object_write(), while it is worked on. */
struct writing {
	struct swapstore *store;
	struct ss_object *obj;
	const char *buf;	 /* the bytes that belong at offset */
	uint64_t offset, end;	 /* what is still to be written */
	unsigned flags;
	struct tree_stash stash;
	struct release rel;
	struct frame *frame[WRITE_BATCH];
	entry_t entry[WRITE_BATCH]; /* what the tree held at the last look */
};

static uint64_t writing_page(const struct writing *w)
{
	return w->offset >> SS_PAGE_SHIFT;
}

/* The bytes of page that are to be written: [*from, *to) of its 4096.  True if that is all of them. */
static bool writing_part(const struct writing *w, uint64_t page, size_t *from, size_t *to)
{
	uint64_t start = page << SS_PAGE_SHIFT;

	*from = w->offset > start ? w->offset - start : 0;
	*to = w->end - start < SS_PAGE_SIZE ? w->end - start : SS_PAGE_SIZE;
	return *from == 0 && *to == SS_PAGE_SIZE;
}

static void writing_copy(const struct writing *w, uint64_t page, void *data)
{
	size_t from, to;

	writing_part(w, page, &from, &to);
	memcpy((char *)data + from, w->buf + ((page << SS_PAGE_SHIFT) + from - w->offset), to - from);
}

/* The first n pages are done. */
static void writing_advance(struct writing *w, uint64_t pages)
{
	uint64_t next = (writing_page(w) + pages) << SS_PAGE_SHIFT;

	if (!pages) /* the first one may be half done already: do not go back to its start */
		return;
	if (next > w->end)
		next = w->end;
	w->buf += next - w->offset;
	w->offset = next;
}

/*
 * Looks at the next pages: pins and dirties the run that has frames (returns its length), or, where the first
 * has none, notes the entries of the run without (returns 0, *nmissing its length).
 */
static unsigned writing_pin(struct writing *w, unsigned *nmissing)
{
	uint64_t first = writing_page(w), pages = ((w->end - 1) >> SS_PAGE_SHIFT) - first + 1;
	unsigned n = pages < WRITE_BATCH ? (unsigned)pages : WRITE_BATCH, pinned = 0, missing = 0;
	UTIL_LOCKED(&w->obj->lock);

	tree_load_range(&w->obj->tree, first, n, w->entry);
	while (pinned < n && entry_is_frame(w->entry[pinned]) && !release_full(&w->rel)) {
		struct frame *f = entry_frame(w->entry[pinned]);

		frame_get(f);
		object_touch_locked(w->obj, f);
		object_dirty_locked(w->obj, f, &w->rel);
		w->frame[pinned++] = f;
	}
	while (!pinned && missing < n && !entry_is_frame(w->entry[missing]))
		missing++;
	*nmissing = missing;
	return pinned;
}

static void writing_fill_pinned(struct writing *w, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		writing_copy(w, writing_page(w) + i, frame_data(w->store->frames, w->frame[i]));
	frames_put(w->store->frames, w->frame, n);
	writing_advance(w, n);
}

/* Makes the bytes of a fresh frame what the page shall be.  0, -EIO, or -ESTALE: the page has changed. */
static int writing_fill_fresh(struct writing *w, unsigned i)
{
	uint64_t page = writing_page(w) + i;
	void *data = frame_data(w->store->frames, w->frame[i]);
	size_t from, to;
	int err = 0;

	if (!writing_part(w, page, &from, &to)) {
		if (entry_is_swap(w->entry[i]))
			err = object_fetch(w->store, w->obj, page, w->entry[i], data);
		else
			memset(data, 0, SS_PAGE_SIZE);
	}
	if (!err)
		writing_copy(w, page, data);
	return err;
}

/* One more page: in the store, and for who pays. */
static int writing_charge_locked(struct writing *w)
{
	if (!store_charge(w->store, 1, w->flags))
		return -ENOSPC;
	if (account_charge(object_payer(w->obj), 1, w->flags))
		return 0;
	store_uncharge(w->store, 1);
	return -EDQUOT;
}

/* Puts one filled frame into the tree.  0; -ESTALE; -ENOMEM: the stash is empty; -ENOSPC, -EDQUOT: no room for a page. */
static int writing_install_locked(struct writing *w, unsigned i)
{
	struct swapstore *store = w->store;
	struct ss_object *obj = w->obj;
	uint64_t page = writing_page(w) + i;
	entry_t old = w->entry[i];
	int err;

	if (entry_is_empty(old)) {
		err = writing_charge_locked(w);
		if (err)
			return err;
	}
	err = tree_replace(&obj->tree, page, old, entry_of_frame(w->frame[i]), &w->stash);
	if (err) {
		if (entry_is_empty(old)) {
			account_uncharge(object_payer(obj), 1);
			store_uncharge(store, 1);
		}
		return err;
	}
	frame_fill_dirty(w->frame[i], obj, page);
	obj->touched = page;
	tree_tag_set(&obj->tree, page, TREE_DIRTY);
	if (entry_is_empty(old))
		atomic_fetch_add_explicit(&obj->pages, 1, memory_order_relaxed);
	else if (entry_is_swap(old))
		release_add(&w->rel, old);
	return 0;
}

/* Nodes for n new pages. */
static int writing_fill_stash(struct writing *w, unsigned n)
{
	return store_stash_fill(w->store, &w->stash, TREE_STORE_NODES + n / TREE_WAYS + 1,
				store_frames_flags(w->flags));
}

/* Fills fresh frames for the first n missing pages and installs them.  0 (some or all done) or -errno. */
static int writing_fill_missing(struct writing *w, unsigned n)
{
	unsigned filled = 0, done = 0;
	int err = 0, fill_err = 0, got;

	if (entry_is_empty(w->entry[0]) && store_is_full(w->store, w->flags))
		return -ENOSPC; /* before anything is evicted in vain */
	if (entry_is_empty(w->entry[0]) && account_is_full(object_payer(w->obj), w->flags))
		return -EDQUOT;
	/* Many new pages: without nodes, filling their frames would be work in vain.  Pages in swap have theirs. */
	if (n >= BULK_PAGES && entry_is_empty(w->entry[0])) {
		err = writing_fill_stash(w, n);
		if (err)
			return err;
	}
	got = frames_alloc(w->store->frames, w->frame, n, store_frames_flags(w->flags));
	if (got < 0)
		return got;
	while (filled < (unsigned)got && (fill_err = writing_fill_fresh(w, filled)) == 0)
		filled++;
	pthread_mutex_lock(&w->obj->lock);
	while (done < filled && !release_full(&w->rel) && (err = writing_install_locked(w, done)) == 0)
		done++;
	atomic_fetch_add_explicit(&w->store->data_frames, done, memory_order_relaxed);
	wire_add_locked(w->store, w->obj, w->frame, done);
	pthread_mutex_unlock(&w->obj->lock);
	frames_put(w->store->frames, w->frame + done, (unsigned)got - done);
	writing_advance(w, done);
	return err ? err : done ? 0 : fill_err;
}

static int writing_step(struct writing *w)
{
	unsigned missing = 0, pinned = writing_pin(w, &missing);
	int err = 0;

	if (pinned)
		writing_fill_pinned(w, pinned);
	else if (missing)
		err = writing_fill_missing(w, missing);
	release_all(w->store, &w->rel);
	if (err == -ENOMEM)
		err = writing_fill_stash(w, missing);
	return err == -ESTALE ? 0 : err; /* the page has changed: look again */
}

ssize_t object_write(struct swapstore *store, struct ss_object *obj, const void *buf, size_t length, uint64_t offset,
		     unsigned flags)
{
	struct writing w;
	uint64_t start = offset;
	bool tried = false;
	int err = 0;

	w.store = store;
	w.obj = obj;
	w.buf = buf;
	w.offset = offset;
	w.end = offset + length;
	w.flags = flags;
	w.stash = (struct tree_stash){0};
	w.rel.count = 0;
	while (w.offset < w.end && !err) {
		err = writing_step(&w);
		/* Before it is said that the disk is out of order, one more look at it. */
		if (err == -ENOSPC && !tried && swapareas_any_sick(store) && trouble_try(store))
			err = 0;
		tried |= err == -ENOSPC;
	}
	ss_stash_drain(store, &w.stash);
	return w.offset > start ? (ssize_t)(w.offset - start) : err;
}

/* --- copy ---------------------------------------------------------------------------------------------------------------- */

/* Copies through a small buffer: lent frames must not be held while a frame is waited for. */
static ssize_t copy_data(struct swapstore *store, struct ss_object *src, uint64_t from, struct ss_object *dst,
			 uint64_t to, size_t length, unsigned write_flags)
{
	char buf[COPY_BYTES];
	size_t part = length < sizeof(buf) ? length : sizeof(buf);
	int err;

	if (part > store->io_bytes)
		part = store->io_bytes;
	err = object_pread(store, src, buf, part, from);
	return err ? err : object_write(store, dst, buf, part, to, write_flags);
}

ssize_t object_copy(struct swapstore *store, struct ss_object *src, uint64_t src_offset, struct ss_object *dst,
		    uint64_t dst_offset, size_t length, unsigned write_flags)
{
	uint64_t end = src_offset + length, data_end = src_offset; /* up to there all is data, as far as is known */
	size_t done = 0;

	while (done < length) {
		uint64_t from = src_offset + done, to = dst_offset + done;
		int64_t data = from < data_end ? (int64_t)from : object_seek_data(src, from);
		uint64_t next = data < 0 || (uint64_t)data > end ? end : (uint64_t)data;
		ssize_t n;

		if (next > from) { /* a hole here is a hole there */
			int err = object_erase(store, dst, to, to + (next - from));

			n = err ? err : (ssize_t)(next - from);
		} else {
			if (from >= data_end)
				data_end = (uint64_t)object_seek_hole(src, from);
			n = copy_data(store, src, from, dst, to, (data_end < end ? data_end : end) - from, write_flags);
		}
		if (n < 0)
			return done ? (ssize_t)done : n;
		done += (size_t)n;
	}
	return (ssize_t)done;
}
