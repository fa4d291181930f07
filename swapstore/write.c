/* SPDX-License-Identifier: MIT */
/*
 * write: bytes into pages.  A run of pages that have frames is pinned and marked dirty in one locked step, then
 * filled; a run of pages that have none gets fresh frames (waiting with nothing held when none is free), which
 * are filled first and put into the tree by compare-and-replace.  A page that is written whole is never read.
 * obj->lock guards the tree and the frames' states; bytes are copied with no lock, under a pin.  Called by
 * fuse-fs through swapstore.h.
 *
 * Write-around (a cache that does not allocate on a write): a long run of pages that comes out of the client's own
 * cache, of an object too large for RAM, goes from the writer's memory straight to swap when RAM is full.  A frame
 * would only be a second copy of what the client still has, in place of a page that somebody may want.  What is written
 * twice within a short time takes frames, and so do small files, which may be gone before they are cold.
 */
#include "swapstore/store.h"

#include "swapstore/checksum.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define WRITE_BATCH 256U /* pages; bounds what one writer pins and takes at a time */
#define BULK_PAGES  16U	 /* so many new pages at once make it likely that a tree node is needed */
#define COPY_BYTES  (32U << 10)
#define AROUND_PAGES 16U   /* the shortest run that goes around the frames: a write of 64 KiB */
#define AROUND_SHARE 2U	   /* of an object with as many pages as one in two frames, or more */
#define AROUND_SLOTS 8192U /* so many slots free, or swap is nearly full and left to eviction */

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
	uint32_t sum[WRITE_BATCH];
	unsigned around; /* so many of the missing pages, from the first on, may go around the frames */
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

/* Is it of the kind that may: from a client's cache, page upon page, and of an object that RAM cannot hold anyway? */
static bool writing_is_bulk_locked(const struct writing *w)
{
	return w->store->read_through && (w->flags & SS_WRITE_ACKED) && w->offset % SS_PAGE_SIZE == 0 &&
	       (uintptr_t)w->buf % SS_PAGE_SIZE == 0 && !w->obj->wired &&
	       object_pages(w->obj) >= w->store->nframes / AROUND_SHARE;
}

/*
 * How many of the n missing pages may go around: all that are written whole, or none.  RAM must be short, by as much as
 * has reclaim at work, and yet leave the bitmaps of slots their frames.
 */
static unsigned writing_may_go_around_locked(struct writing *w, unsigned n)
{
	struct swapstore *store = w->store;
	const uint64_t first = writing_page(w);

	if ((first + n) << SS_PAGE_SHIFT > w->end)
		n--;
	if (n < AROUND_PAGES || !writing_is_bulk_locked(w) || !reclaim_is_near(store, n) ||
	    frames_left(store->frames) < store->frames_reserve + STORE_BITMAP_FRAMES || swapareas_any_sick(store) ||
	    swapareas_free(store) < AROUND_SLOTS)
		return 0;
	return tree_ghost_note_range(&w->obj->tree, first, n, store_epoch(store)) > n / 2 ? 0 : n;
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
	w->around = writing_may_go_around_locked(w, missing);
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

/*
 * Puts the new entry of a page into the tree.  0; -ESTALE; -ENOMEM: the stash is empty; -ENOSPC, -EDQUOT: no room for a
 * page.
 */
static int writing_replace_locked(struct writing *w, unsigned i, entry_t new)
{
	struct swapstore *store = w->store;
	struct ss_object *obj = w->obj;
	entry_t old = w->entry[i];
	int err;

	if (entry_is_empty(old)) {
		err = writing_charge_locked(w);
		if (err)
			return err;
	}
	err = tree_replace(&obj->tree, writing_page(w) + i, old, new, &w->stash);
	if (err) {
		if (entry_is_empty(old)) {
			account_uncharge(object_payer(obj), 1);
			store_uncharge(store, 1);
		}
		return err;
	}
	if (entry_is_empty(old))
		atomic_fetch_add_explicit(&obj->pages, 1, memory_order_relaxed);
	else if (entry_is_swap(old))
		release_add(&w->rel, old);
	return 0;
}

static int writing_install_locked(struct writing *w, unsigned i)
{
	struct ss_object *obj = w->obj;
	uint64_t page = writing_page(w) + i;
	int err = writing_replace_locked(w, i, entry_of_frame(w->frame[i]));

	if (err)
		return err;
	frame_fill_dirty(w->frame[i], obj, page);
	obj->touched = page;
	tree_tag_set(&obj->tree, page, TREE_DIRTY);
	return 0;
}

/* Nodes for n new pages. */
static int writing_fill_stash(struct writing *w, unsigned n)
{
	return store_stash_fill(w->store, &w->stash, TREE_STORE_NODES + n / TREE_WAYS + 1,
				store_frames_flags(w->flags));
}

/* Before anything is written or evicted in vain: is there room for n pages that begin with a new one? */
static int writing_make_room(struct writing *w, unsigned n)
{
	if (!entry_is_empty(w->entry[0])) /* pages in swap have their nodes */
		return 0;
	if (store_is_full(w->store, w->flags))
		return -ENOSPC;
	if (account_is_full(object_payer(w->obj), w->flags))
		return -EDQUOT;
	return n >= BULK_PAGES ? writing_fill_stash(w, n) : 0;
}

/* --- around the frames ----------------------------------------------------------------------------------------------- */

/* Of the pages that may go around, those up to the first that is all zero: that one needs no slot. */
static unsigned writing_sum_around(struct writing *w)
{
	unsigned n = 0;

	while (n < w->around) {
		const char *page = w->buf + (size_t)n * SS_PAGE_SIZE;

		if (checksum_page_is_zero(page))
			break;
		w->sum[n++] = checksum_page(page);
	}
	return n;
}

/* Writes the first run.count pages to the run's slots; its slots are gone unless it succeeds. */
static bool writing_put_around(struct writing *w, struct slot_run run, struct swaparea *area)
{
	struct swapstore *store = w->store;
	/* A write only reads it. */
	struct iovec iov = {(void *)(uintptr_t)w->buf, (size_t)run.count * SS_PAGE_SIZE};
	struct ring_req req = {.op = RING_WRITE, .iov = &iov, .iovcnt = 1};
	bool found = swapareas_locate(store, run.first, &req);
	struct ring *ring;

	assert(found); /* a slot in use keeps its area */
	(void)found;
	ring = ring_get(store->rings);
	ring_run(ring, &req, 1);
	ring_put(store->rings, ring);
	if (req.result) {
		trouble_write_failed(area, run, req.result);
		return false;
	}
	trouble_wrote(area);
	store_count(&store->count.swapout_pages, run.count);
	return true;
}

/* The run's slots become the pages' entries.  Returns how many; *err as of writing_replace_locked(). */
static unsigned writing_install_around(struct writing *w, struct slot_run run, int *err)
{
	struct ss_object *obj = w->obj;
	unsigned done = 0;
	UTIL_LOCKED(&obj->lock);

	*err = obj->wired ? -ESTALE : 0;
	while (!*err && done < run.count && !release_full(&w->rel)) {
		*err = writing_replace_locked(w, done, entry_of_slot(run.first + done, w->sum[done]));
		done += !*err;
	}
	if (done)
		tree_ghost_note_range(&obj->tree, writing_page(w), done, store_epoch(w->store));
	return done;
}

/* Returns 1 if the pages, or some, have gone around; 0: they have to take frames; -errno. */
static int writing_go_around(struct writing *w)
{
	struct swapstore *store = w->store;
	unsigned n = writing_sum_around(w), done = 0;
	struct swaparea *area;
	struct slot_run run;
	int err = 0;

	if (n < AROUND_PAGES || swapareas_alloc(store, n, &run, &area) < 0)
		return 0;
	if (run.count >= AROUND_PAGES) {
		if (!writing_put_around(w, run, area))
			return 0;
		done = writing_install_around(w, run, &err);
	}
	if (done < run.count)
		swapareas_free_run(store, (struct slot_run){run.first + done, run.count - done});
	store_count(&store->count.writearound_pages, done);
	atomic_fetch_add_explicit(&store->misses, done, memory_order_relaxed);
	writing_advance(w, done);
	return err ? err : done > 0;
}

/* --- into frames ------------------------------------------------------------------------------------------------------- */

/* Fills fresh frames for the first n missing pages and installs them.  0 (some or all done) or -errno. */
static int writing_fill_missing(struct writing *w, unsigned n)
{
	unsigned filled = 0, done = 0;
	int err = 0, fill_err = 0, got;

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

/* The first n missing pages, or some of them, around the frames or into them.  0 or -errno. */
static int writing_add_missing(struct writing *w, unsigned n)
{
	int rc = writing_make_room(w, n);

	if (!rc && w->around)
		rc = writing_go_around(w);
	if (!rc)
		rc = writing_fill_missing(w, n);
	return rc < 0 ? rc : 0;
}

static int writing_step(struct writing *w)
{
	unsigned missing = 0, pinned = writing_pin(w, &missing);
	int err = 0;

	if (pinned)
		writing_fill_pinned(w, pinned);
	else if (missing)
		err = writing_add_missing(w, missing);
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
