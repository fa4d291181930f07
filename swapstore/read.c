/* SPDX-License-Identifier: MIT */
/*
 * read: from a byte range to memory that holds the bytes.  Frames are pinned and lent as they are, holes are
 * lent a page of zeroes, and all pages in swap are read by one batch into the bounce buffer of an I/O context (or of
 * the caller, if that is too small), checked, and lent from there; those worth it take a frame on the way.  obj->lock
 * guards every look at the tree and is not held while the disk works: after it, each entry is compared with the one
 * that was read, and what has changed is looked up again.  Called by fuse-fs through swapstore.h, and by object.c and
 * write.c.
 */
#include "swapstore/store.h"

#include "swapstore/checksum.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define REQ_PAGES  256U /* one request reads up to 1 MiB: less does not keep a fast disk busy */
#define READ_AHEAD 32U /* pages: what one read may become, 128 KiB as the kernel's default */

/* One read of up to SS_IO_PAGES pages, while it is worked on. */
struct reading {
	struct swapstore *store;
	struct ss_object *obj;
	struct ss_read *rd;
	uint64_t first;	 /* page */
	unsigned n;
	unsigned wanted; /* of these n, the first so many were asked for; the others are read ahead */
	unsigned room;	 /* pages that there is memory for */
	unsigned missing;		/* pages without memory yet: those in swap */
	entry_t entry[SS_IO_PAGES];
	char *page[SS_IO_PAGES];	/* where the bytes are; NULL while missing */
	int error[SS_IO_PAGES];		/* of the last attempt to read it */
	unsigned failed;		/* after -EIO: the page that it was */
	bool seen_before[SS_IO_PAGES];	/* missed before, not long ago */
};

static void reading_resolve_locked(struct reading *r, unsigned i, entry_t e)
{
	r->entry[i] = e;
	if (entry_is_frame(e)) {
		struct frame *f = entry_frame(e);

		frame_get(f);
		object_touch_locked(r->obj, f);
		r->rd->pins[r->rd->npins++] = f;
		r->page[i] = frame_data(r->store->frames, f);
	} else if (entry_is_swap(e)) {
		r->page[i] = NULL;
		r->missing++;
	} else {
		r->page[i] = r->store->zero_page;
	}
}

/*
 * The requests that read all missing pages, neighbours on disk and in the range as one; first_page[]: where each
 * begins.  Returns how many.  A page whose slot is in no area any more has changed: -ESTALE is its error.
 */
static unsigned reading_plan(struct reading *r, char *bounce, struct ring_req *req, struct iovec *iov,
			     unsigned *first_page)
{
	unsigned nreq = 0;
	uint64_t next_slot = UINT64_MAX;

	for (unsigned i = 0; i < r->n; i++) {
		if (r->page[i]) {
			next_slot = UINT64_MAX;
			continue;
		}
		uint64_t slot = entry_slot(r->entry[i]);

		if (slot == next_slot && iov[nreq - 1].iov_len < REQ_PAGES * SS_PAGE_SIZE) {
			iov[nreq - 1].iov_len += SS_PAGE_SIZE;
		} else {
			iov[nreq] = (struct iovec){bounce + (size_t)i * SS_PAGE_SIZE, SS_PAGE_SIZE};
			req[nreq] = (struct ring_req){.op = RING_READ, .iov = &iov[nreq], .iovcnt = 1};
			if (!swapareas_locate(r->store, (uint32_t)slot, &req[nreq])) {
				r->error[i] = -ESTALE;
				next_slot = UINT64_MAX;
				continue;
			}
			first_page[nreq++] = i;
		}
		next_slot = slot + 1;
	}
	return nreq;
}

/* Reads one page into its place in the bounce buffer.  0 or -errno. */
static int reading_fetch_one(struct reading *r, unsigned i, char *bounce)
{
	struct iovec iov = {bounce + (size_t)i * SS_PAGE_SIZE, SS_PAGE_SIZE};
	struct ring_req req = {.op = RING_READ, .iov = &iov, .iovcnt = 1};

	if (!swapareas_locate(r->store, entry_slot(r->entry[i]), &req))
		return -ESTALE;
	ring_run(r->rd->ring, &req, 1);
	return req.result;
}

/* Reads the missing pages into the bounce buffer and notes each one's error.  No lock. */
static void reading_fetch(struct reading *r, char *bounce)
{
	struct ring_req req[SS_IO_PAGES];
	struct iovec iov[SS_IO_PAGES];
	unsigned first_page[SS_IO_PAGES];
	unsigned nreq;

	for (unsigned i = 0; i < r->n; i++)
		r->error[i] = 0;
	nreq = reading_plan(r, bounce, req, iov, first_page);
	ring_run(r->rd->ring, req, nreq);
	for (unsigned k = 0; k < nreq; k++) {
		if (!req[k].result)
			continue;
		/* One page may be what failed: the others are not to suffer for lying next to it. */
		unsigned first = first_page[k];

		for (unsigned i = first; i < r->n && !r->page[i] && i < first + REQ_PAGES; i++)
			r->error[i] = i < r->wanted ? reading_fetch_one(r, i, bounce) : req[k].result;
	}
	for (unsigned i = 0; i < r->n; i++) {
		if (!r->page[i] && !r->error[i] &&
		    checksum_page(bounce + (size_t)i * SS_PAGE_SIZE) != entry_sum(r->entry[i]))
			r->error[i] = -EILSEQ;
	}
}

/*
 * Accepts what was read if its entry is still the same; looks up again what has changed.  Pages read ahead end
 * at the first that has changed or failed.  0 or -EIO.
 */
static int reading_accept_locked(struct reading *r, char *bounce, uint16_t epoch, unsigned *accepted)
{
	r->missing = 0;
	for (unsigned i = 0; i < r->n; i++) {
		entry_t now;

		if (r->page[i])
			continue;
		now = tree_load(&r->obj->tree, r->first + i);
		if (i >= r->wanted && (now != r->entry[i] || r->error[i])) {
			r->n = i;
			break;
		}
		if (now != r->entry[i]) {
			reading_resolve_locked(r, i, now);
			continue;
		}
		if (r->error[i]) {
			r->failed = i;
			return -EIO;
		}
		r->seen_before[i] = i < r->wanted && tree_ghost_note(&r->obj->tree, r->first + i, epoch);
		r->page[i] = bounce + (size_t)i * SS_PAGE_SIZE;
		(*accepted)++;
	}
	return 0;
}

/* --- pages that were read and are worth a frame --------------------------------------------------------------------- */

static void reading_install(struct reading *r, struct frame **frame, const unsigned *which, unsigned n)
{
	struct swapstore *store = r->store;

	pthread_mutex_lock(&r->obj->lock);
	for (unsigned k = 0; k < n; k++) {
		unsigned i = which[k];
		struct tree_stash stash = {0}; /* an entry in place of an entry: no node comes or goes */

		if (tree_replace(&r->obj->tree, r->first + i, r->entry[i], entry_of_frame(frame[k]), &stash) < 0)
			continue;
		frame_fill_clean(frame[k], r->obj, r->first + i, r->entry[i]);
		atomic_fetch_add_explicit(&store->data_frames, 1, memory_order_relaxed);
		lru_add(&store->lru, frame[k], r->seen_before[i]);
		frame[k] = NULL;
	}
	pthread_mutex_unlock(&r->obj->lock);
}

/*
 * Gives frames to pages that came from swap: to all of them, or where the client caches too (read_through) to
 * those that it has asked for before.  Takes only frames that are free: reading must not wait for eviction.
 */
static void reading_promote(struct reading *r, const char *bounce)
{
	struct swapstore *store = r->store;
	struct frame *frame[SS_IO_PAGES];
	unsigned which[SS_IO_PAGES], n = 0;
	int got;

	for (unsigned i = 0; i < r->n; i++)
		if (r->page[i] == bounce + (size_t)i * SS_PAGE_SIZE && (r->seen_before[i] || !store->read_through))
			which[n++] = i;
	got = n ? frames_alloc(store->frames, frame, n, FRAMES_NOWAIT) : 0;
	if (got <= 0)
		return;
	for (int k = 0; k < got; k++)
		memcpy(frame_data(store->frames, frame[k]), r->page[which[k]], SS_PAGE_SIZE);
	reading_install(r, frame, which, (unsigned)got);
	for (int k = 0; k < got; k++) {
		if (frame[k]) /* somebody was faster */
			frame_put(store->frames, frame[k]);
		else
			store_uncount(&store->count.readthrough_pages, 1);
	}
}

/*
 * Reads ahead when the page before is at hand too (somebody goes through the file), as far as the swapped pages
 * that follow lie side by side on the disk.  Where the client has a cache of its own, it reads ahead itself.
 */
static void reading_extend_locked(struct reading *r)
{
	unsigned last = r->n - 1;

	if (r->store->read_through || r->page[last] || r->n >= READ_AHEAD || r->n >= r->room ||
	    frames_left(r->store->frames) < r->store->frames_reserve + READ_AHEAD ||
	    (r->first > 0 && !entry_is_frame(tree_load(&r->obj->tree, r->first - 1))))
		return;
	tree_load_range(&r->obj->tree, r->first + r->n, READ_AHEAD - r->n, r->entry + r->n);
	for (; r->n < READ_AHEAD && r->n < r->room; r->n++) {
		entry_t e = r->entry[r->n];

		if (!entry_is_swap(e) || entry_slot(e) != entry_slot(r->entry[last]) + (r->n - last))
			break;
		reading_resolve_locked(r, r->n, e);
	}
}

/* --- the parts of a read ------------------------------------------------------------------------------------------------ */

static int reading_swap_in(struct reading *r)
{
	struct swapstore *store = r->store;
	uint16_t epoch = store_epoch(store);
	unsigned accepted = 0;
	size_t bounce_bytes;
	char *bounce;
	int err = 0;

	r->rd->ring = ring_get(store->rings);
	/* The ring's own is registered, the caller's the larger. */
	bounce = ring_bounce(r->rd->ring, &bounce_bytes);
	if (r->n * (size_t)SS_PAGE_SIZE > bounce_bytes)
		bounce = r->rd->bounce;
	while (r->missing && !err) {
		reading_fetch(r, bounce);
		pthread_mutex_lock(&r->obj->lock);
		err = reading_accept_locked(r, bounce, epoch, &accepted);
		pthread_mutex_unlock(&r->obj->lock);
	}
	store_count(&store->count.swapin_pages, accepted);
	store_count(&store->count.readthrough_pages, accepted);
	atomic_fetch_add_explicit(&store->misses, accepted, memory_order_relaxed);
	if (!err)
		reading_promote(r, bounce);
	else
		trouble_read_failed(store, entry_slot(r->entry[r->failed]), r->error[r->failed]);
	return err;
}

static void reading_lend(const struct reading *r, uint64_t offset, size_t length)
{
	struct iovec *iov = r->rd->iov;
	size_t skip = offset % SS_PAGE_SIZE;
	int n = 0;

	for (unsigned i = 0; length > 0; i++, skip = 0) {
		size_t part = SS_PAGE_SIZE - skip < length ? SS_PAGE_SIZE - skip : length;
		char *from = r->page[i] + skip;

		if (n && (char *)iov[n - 1].iov_base + iov[n - 1].iov_len == from)
			iov[n - 1].iov_len += part;
		else
			iov[n++] = (struct iovec){from, part};
		length -= part;
	}
	r->rd->iovcnt = n;
}

int object_read(struct swapstore *store, struct ss_object *obj, uint64_t offset, size_t length, struct ss_read *rd)
{
	const size_t own = store->io_bytes + SS_PAGE_SIZE; /* an I/O context's buffer */
	struct reading r;
	int err = 0;

	assert(length > 0 && (uintptr_t)rd->bounce % SS_PAGE_SIZE == 0);
	r.store = store;
	r.obj = obj;
	r.rd = rd;
	r.first = offset >> SS_PAGE_SHIFT;
	r.n = (unsigned)(((offset + length - 1) >> SS_PAGE_SHIFT) - r.first + 1);
	r.wanted = r.n;
	r.room = (unsigned)((own < rd->bounce_bytes ? rd->bounce_bytes : own) / SS_PAGE_SIZE);
	r.missing = 0;
	assert(r.n <= r.room && r.room <= SS_IO_PAGES);
	rd->npins = 0;
	rd->ring = NULL;

	pthread_mutex_lock(&obj->lock);
	tree_load_range(&obj->tree, r.first, r.n, r.entry);
	for (unsigned i = 0; i < r.n; i++)
		reading_resolve_locked(&r, i, r.entry[i]);
	obj->touched = r.first + r.n - 1;
	if (r.missing)
		reading_extend_locked(&r);
	pthread_mutex_unlock(&obj->lock);

	if (r.missing)
		err = reading_swap_in(&r);
	if (err)
		object_read_end(store, rd);
	else
		reading_lend(&r, offset, length);
	return err;
}

void object_read_end(struct swapstore *store, struct ss_read *rd)
{
	frames_put(store->frames, rd->pins, (unsigned)rd->npins);
	if (rd->ring)
		ring_put(store->rings, rd->ring);
}

int object_pread(struct swapstore *store, struct ss_object *obj, void *buf, size_t length, uint64_t offset)
{
	char *to = buf;
	struct ss_read rd;
	int err;

	rd.bounce = NULL;
	rd.bounce_bytes = 0;
	while (length > 0) {
		size_t part = length < store->io_bytes ? length : store->io_bytes;

		err = object_read(store, obj, offset, part, &rd);
		if (err)
			return err;
		for (int i = 0; i < rd.iovcnt; i++) {
			memcpy(to, rd.iov[i].iov_base, rd.iov[i].iov_len);
			to += rd.iov[i].iov_len;
		}
		object_read_end(store, &rd);
		offset += part;
		length -= part;
	}
	return 0;
}

int object_fetch(struct swapstore *store, struct ss_object *obj, uint64_t index, entry_t e, void *page)
{
	struct iovec iov = {page, SS_PAGE_SIZE};
	struct ring_req req = {.op = RING_READ, .iov = &iov, .iovcnt = 1, .result = -ESTALE};
	struct ring *ring = ring_get(store->rings);
	bool intact, same;

	if (swapareas_locate(store, entry_slot(e), &req))
		ring_run(ring, &req, 1);
	ring_put(store->rings, ring);
	intact = !req.result && checksum_page(page) == entry_sum(e);
	if (intact) {
		store_count(&store->count.swapin_pages, 1);
		return 0;
	}
	pthread_mutex_lock(&obj->lock);
	same = tree_load(&obj->tree, index) == e;
	pthread_mutex_unlock(&obj->lock);
	if (!same)
		return -ESTALE;
	trouble_read_failed(store, entry_slot(e), req.result ? req.result : -EILSEQ);
	return -EIO;
}
