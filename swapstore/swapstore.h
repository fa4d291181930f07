/* SPDX-License-Identifier: MIT */
/*
 * swapstore: objects made of pages, held in a bounded amount of RAM, the cold ones in a swap file.
 *
 * This header is all that fuse-fs (or a test) needs.  An object is a sparse array of 2^52 pages of 4 KiB with
 * no length of its own: the length of a file, and what lies beyond it, is the caller's business.  What was
 * never written reads as zeroes and costs nothing.
 *
 *   read:   object_read -> tree entry -> frame: hit | nothing: zeroes | swap entry: slot -> ring -> reply
 *   write:  object_write -> frame (found, or allocated: waits for reclaim only when none is free) -> DIRTY
 *   evict:  reclaim -> lru victims -> slots (one run) -> ring -> replace(frame -> swap entry)
 *
 * Context: every function may be called from any thread; objects need no outside locking.  Functions that may
 * wait for I/O or for memory say so.  All return 0 (or a count) or -errno.
 */
#ifndef SWAPSTORE_SWAPSTORE_H
#define SWAPSTORE_SWAPSTORE_H

#include "swapstore/ring.h"
#include "swapstore/swapfile.h"
#include "swapstore/tree.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define SS_PAGE_SHIFT 12
#define SS_PAGE_SIZE  (1U << SS_PAGE_SHIFT)
#define SS_IO_MAX     (1U << 20)		    /* bytes: most that one object_read() takes */
#define SS_IO_PAGES   (SS_IO_MAX / SS_PAGE_SIZE + 1) /* an unaligned request touches one page more */

struct swapstore;
struct ss_object;

struct swapstore_config {
	uint64_t ram_bytes;	/* hard cap on frames and all bookkeeping, I/O buffers included */
	uint64_t ram_taken;	/* part of it that the caller uses for itself (its request buffers) */
	uint64_t reserve_bytes; /* so much of RAM, then of swap, is the store's from the start and stays so */
	uint64_t size_bytes;	/* most data; 0: as much as RAM and swap hold */
	const char *swap_path;	/* NULL: no swap, nothing is ever written to disk */
	uint64_t swap_bytes;	/* 0: see swapfile_open() */
	unsigned contexts;	/* I/O contexts for callers: how many threads may wait for the disk at once */
	size_t io_bytes;	/* bounce buffer of a context: the largest read by a caller who lends no memory of his
				   own, a power of two <= SS_IO_MAX */
	enum ring_engine engine;
	void (*report)(void *ctx, const char *line); /* trouble with the swap disk, one line for each incident; any
						       thread, may be NULL */
	void *report_ctx;
	uint64_t ram_most;	/* what ram_bytes may be raised to later: costs address space alone; 0: it may not */
	/* Says how the arena's memory is to be placed, before it is touched; may be NULL.  See frames_place(). */
	int (*place)(void *ctx, void *start, size_t bytes);
	void *place_ctx;
	/* May the store take so many more bytes of memory now?  If not, it evicts first and asks again later, but takes
	 * them when nothing can be evicted, and does not ask when there is no swap left.  From the arena's thread alone;
	 * may be NULL. */
	bool (*may_take)(void *ctx, size_t bytes);
	void *may_take_ctx;
	bool read_through;	/* the caller's client has a cache of its own: a page read from swap takes a frame only
				   at its second miss, and while RAM is full, runs of pages of large objects that are
				   written with SS_WRITE_ACKED from page-aligned memory go to swap without one */
};

/* Smallest ram_bytes that a config with these contexts and io_bytes can work with. */
uint64_t swapstore_ram_min(const struct swapstore_config *config);

/*
 * Opens a store: arena, swap file, engine, workers.  On failure returns -errno and one line in why.
 * Starts threads: call after fork().
 */
int swapstore_open(const struct swapstore_config *config, struct swapstore **out, char *why, size_t why_len);

/* Ends the workers and frees everything; no object may be left.  The swap file's space is free at once. */
void swapstore_close(struct swapstore *store);

/* --- swap areas ----------------------------------------------------------------------------------------- */

#define SS_AREAS_MAX	 16
#define SS_PRIORITY_AUTO (-1)
#define SS_PRIORITY_MAX	 32767

struct ss_area {
	unsigned number; /* its name as long as it is there */
	int priority;	 /* slots are taken from the highest first, from equal ones in turns; below 0: SS_PRIORITY_AUTO */
	enum swapfile_kind kind;
	bool is_sick;	 /* its disk refuses writes; pages go elsewhere */
	bool is_leaving; /* its pages are being moved away */
	uint64_t total_pages, used_pages, bad_pages;
	char path[4096]; /* as the daemon sees it */
};

/* The first area whose number is not below from.  0 or -ENOENT. */
int swapstore_area_next(struct swapstore *store, unsigned from, struct ss_area *out);

/*
 * Opens path as one more area (swapfile_open()); priority: 0 .. SS_PRIORITY_MAX, or SS_PRIORITY_AUTO: below all that
 * are there.  Waits for the disk.  0, or -errno and one line in why.
 */
int swapstore_swapon(struct swapstore *store, const char *path, uint64_t bytes, int priority, char *why,
		     size_t why_len);

/*
 * Takes an area away, in steps, so that whoever asked can stop, or be stopped, between any two; a swapoff with no step
 * for five seconds is over, and the area stays in use.
 *
 * begin: ordinary writes count on its room no more.  The caller makes sure that no more than is known of has been
 *   acknowledged (so that nothing depends on that room) before the first step.  -ENOENT; -EBUSY: another is going.
 * step: moves pages to RAM and to the other areas for about ms milliseconds.  0: the area is closed; -EAGAIN: call
 *   again; else it stays in use, nothing is lost, and why has one line: -ENOSPC: not everything fits elsewhere; -EIO:
 *   some pages cannot be read back; -EBUSY: reserve_bytes are in it; -ECANCELED: somebody stopped it.
 */
int swapstore_swapoff_begin(struct swapstore *store, unsigned number);
int swapstore_swapoff_step(struct swapstore *store, unsigned number, unsigned ms, char *why, size_t why_len);
void swapstore_swapoff_cancel(struct swapstore *store, unsigned number);

/* --- objects ------------------------------------------------------------------------------------------- */


/* Drops the caller's reference: erases the object and frees it (when reclaim is done with it, too). */
void object_destroy(struct swapstore *store, struct ss_object *obj);

/* Pages that exist (in a frame, in swap or as a zero marker): what st_blocks counts, in units of 4 KiB. */
uint64_t object_pages(const struct ss_object *obj);

/*
 * A read in progress: iov[0 .. iovcnt) points at the bytes (frames, a shared page of zeroes, or a bounce
 * buffer) until object_read_end().  Big (about 12 KiB): one per thread stack.
 */
struct ss_read {
	/* Set by the caller: page-aligned memory that large reads from swap may use until the end, up to SS_IO_PAGES;
	   NULL and 0: none. */
	void *bounce;
	size_t bounce_bytes;
	/* set by object_read() */
	struct iovec iov[SS_IO_PAGES + 1];
	int iovcnt;
	int npins;
	struct frame *pins[SS_IO_PAGES];
	struct ring *ring;
};

/*
 * Reads length bytes at offset: all their pages together fit into io_bytes and a page, or into rd->bounce.  Waits for
 * I/O.  -EIO: a page could not be read back, or came back altered.  Only on 0 must object_read_end() follow, soon: it
 * gives the frames and the I/O context back.
 */
int object_read(struct swapstore *store, struct ss_object *obj, uint64_t offset, size_t length,
		struct ss_read *rd);
void object_read_end(struct swapstore *store, struct ss_read *rd);

/* Copies instead of lending: reads length bytes (any length) into buf.  Returns 0 or -errno. */
int object_pread(struct swapstore *store, struct ss_object *obj, void *buf, size_t length, uint64_t offset);

enum ss_write_flags {
	SS_WRITE_ACKED = 1, /* already acknowledged to an application: may go past size_bytes into the reserve */
	SS_WRITE_FORCED = 2, /* may go past the limits of the payer's accounts; so may what is acknowledged */
};

/*
 * A new, empty object with one reference, for data to be written with these flags.  May wait for memory.  -ENOSPC
 * when the RAM cap leaves none.
 */
int object_create(struct swapstore *store, unsigned write_flags, struct ss_object **out);

/*
 * Writes length bytes at offset; whole pages never read the old page in.  May wait for a frame.  Returns the
 * number of bytes written, short only when space ran out on the way, or -ENOSPC or -EDQUOT (nothing written), or -EIO
 * (part of a page was to be written and the rest could not be read back).
 */
ssize_t object_write(struct swapstore *store, struct ss_object *obj, const void *buf, size_t length,
		     uint64_t offset, unsigned flags);

/*
 * Erases the bytes [first, end): whole pages cease to exist, the rest of a page at either edge is zeroed.
 * end = UINT64_MAX: everything from first on (truncate).  Needs no free space.  0; or -EIO (an edge page could not be
 * read back) or -ENOSPC (it is in swap, and while no area takes a page, RAM has no room for it): that edge is as it was,
 * whole pages are erased all the same.
 */
int object_erase(struct swapstore *store, struct ss_object *obj, uint64_t first, uint64_t end);

/* Sets space aside for the pages of [first, end) that do not exist yet.  All or nothing: 0, -ENOSPC or -EDQUOT. */
int object_allocate(struct swapstore *store, struct ss_object *obj, uint64_t first, uint64_t end,
		    unsigned write_flags);

/*
 * Byte offset of the next data (or hole) at or after offset, page-exact; pages set aside but never written are
 * holes.  object_seek_data: -ENXIO when there is none.  Beyond the last page all is hole.
 */
int64_t object_seek_data(struct ss_object *obj, uint64_t offset);
int64_t object_seek_hole(struct ss_object *obj, uint64_t offset);

/*
 * Copies length bytes between objects (or within one, ranges not overlapping) with no round trip through the
 * caller; what does not exist in the source is erased in the destination.  Returns bytes copied or -errno.
 */
ssize_t object_copy(struct swapstore *store, struct ss_object *src, uint64_t src_offset, struct ss_object *dst,
		    uint64_t dst_offset, size_t length, unsigned write_flags);

/* --- who pays for the pages of an object ---------------------------------------------------------------------- */

/* Pages that exist, of all objects that are charged to it; atomic.  limit: 0 is none. */
struct ss_account {
	_Atomic uint64_t pages, limit;
};

/* An object's pages are charged to each of these; NULL: to one less.  Must live as long as the objects it pays for. */
#define SS_ACCOUNTS 2
struct ss_payer {
	struct ss_account *account[SS_ACCOUNTS];
};

/*
 * From now on this one pays (NULL: nobody); the pages that there are move to its accounts.  -EDQUOT, and nothing
 * changed: they exceed a limit.  A new object has no payer.
 */
int object_set_payer(struct ss_object *obj, const struct ss_payer *payer, unsigned write_flags);

/* Pages until the limit; UINT64_MAX: there is none. */
uint64_t ss_account_left(const struct ss_account *account);

/* --- where the pages of an object are ------------------------------------------------------------------------ */

struct ss_object_stats {
	uint64_t pages;	    /* that exist: the sum of the next four */
	uint64_t frames;    /* in RAM */
	uint64_t swapped;   /* in swap alone */
	uint64_t zero;	    /* all zero: a mark, neither in RAM nor in swap */
	uint64_t unwritten; /* set aside, never written */
	uint64_t dirty;	    /* frames that swap does not hold as well */
	uint64_t wired;	    /* frames that are not evicted */
	uint64_t below_end; /* pages below the end that was asked about */
	bool is_wired;
};

/* Counts them, a part at a time: of an object that changes meanwhile it is no snapshot.  end_page: for below_end. */
void object_get_stats(struct swapstore *store, struct ss_object *obj, uint64_t end_page, struct ss_object_stats *st);

/* How far one of the two functions below has come: they do SS_WALK_PAGES at most, and are called until done. */
#define SS_WALK_PAGES 4096U
struct ss_walk {
	uint64_t next;	/* page to go on with; 0 at first */
	uint64_t moved; /* pages that went, or were brought in, in all calls so far */
	bool done;
};

/*
 * Brings pages into RAM and keeps them there: they are wired, as mlock() would have them, and so are pages written
 * later.  Waits for the disk and for frames.  -ENOMEM: more than may be wired, at this moment (store_wire_limit());
 * -EIO: a page could not be read back.  After an error nothing of the object is wired.  Pages that are written later
 * and exceed the limit are ordinary ones.
 */
int object_wire(struct swapstore *store, struct ss_object *obj, struct ss_walk *walk);

/* Its pages may be evicted again.  Nothing if it is not wired. */
void object_unwire(struct swapstore *store, struct ss_object *obj);
bool object_is_wired(struct ss_object *obj);

/*
 * Evicts the object's pages, but for those that are wired or in use.  Waits for the disk.  -EOPNOTSUPP: there is no
 * swap; -ENOSPC: swap is full; -EIO: the disk refuses writes.
 */
int object_evict(struct swapstore *store, struct ss_object *obj, struct ss_walk *walk);

/* --- memory for the caller's own bookkeeping, under the same cap ------------------------------------------ */

/*
 * Zeroed memory, charged to the RAM cap; may wait for reclaim to make room.  NULL when the cap leaves none.
 * ss_free needs the size again.
 */
void *ss_alloc(struct swapstore *store, size_t size);
void ss_free(struct swapstore *store, void *ptr, size_t size);

/*
 * Tree nodes for a caller's own trees: fills the stash to at least nodes (may wait; -ENOSPC when the cap
 * leaves none), and takes what is left over back.
 */
int ss_stash_fill(struct swapstore *store, struct tree_stash *stash, unsigned nodes);
void ss_stash_drain(struct swapstore *store, struct tree_stash *stash);

/* --- what is used ---------------------------------------------------------------------------------------- */

struct swapstore_stats {
	uint64_t size_limit_pages; /* the smaller of size_bytes and what RAM and swap can hold at this moment */
	uint64_t size_used_pages;  /* pages that exist in all objects */
	uint64_t ram_limit_bytes, ram_used_bytes;
	uint64_t frames_used; /* frames that hold pages of objects */
	uint64_t bookkeeping_bytes; /* frames that hold anything else: trees, slot map, what ss_alloc() gave out */
	uint64_t size_given_bytes; /* the limit that was set; 0: none */
	uint64_t swap_limit_pages, swap_used_pages, swap_bad_pages;
	uint64_t swapin_pages, swapout_pages, swapin_errors, swapout_errors, checksum_errors;
	uint64_t zero_pages, clean_evictions, readthrough_pages;
	uint64_t writearound_pages; /* part of swapout_pages: that never had a frame */
	uint64_t wired_pages, wired_limit_pages; /* frames that are not evicted, and the most there may be */
	bool has_swap;
	bool swap_sick; /* the disk refuses writes; it is tried again now and then */
	enum ring_engine engine;
};
void swapstore_get_stats(struct swapstore *store, struct swapstore_stats *st);

/* Cheap: pages that ordinary writes may still create.  0 = full. */
uint64_t swapstore_pages_left(struct swapstore *store);

/* The same for SS_WRITE_ACKED writes, which have the reserve as well. */
uint64_t swapstore_pages_left_acked(struct swapstore *store);

/*
 * Other limits, for a store in use.  In two steps, as a client may hold back writes that it has acknowledged:
 * begin lets ordinary writes fill no more than the new limits allow, while SS_WRITE_ACKED ones still find the old room;
 * then the caller has its client send what it holds back; commit refuses (-EINVAL) limits below what is there, and else
 * waits until RAM beyond a smaller cap is free.  -ENOSPC: swap does not take the pages, and the old limits hold again.
 * Both leave one line in why when they fail.  One change at a time; after begin has succeeded, commit must follow.
 */
struct swapstore_limits {
	uint64_t ram_bytes;  /* 0: as it is */
	uint64_t size_bytes; /* 0: no limit; UINT64_MAX: as it is */
	uint64_t swap_bytes; /* the most swap to use, up to what was opened; 0: as it is */
};
int swapstore_limits_begin(struct swapstore *store, const struct swapstore_limits *want, char *why, size_t why_len);
int swapstore_limits_commit(struct swapstore *store, const struct swapstore_limits *want, char *why, size_t why_len);

/* Places the arena anew, as config.place did.  0 or -errno. */
int swapstore_place(struct swapstore *store, int (*place)(void *ctx, void *start, size_t bytes), void *ctx);

/* Evicts up to pages cold pages now (waits).  Returns how many went; for tests. */
size_t swapstore_evict(struct swapstore *store, size_t pages);

/*
 * Evicts cold pages and gives the memory of about so many back to the system now (waits), for memory pressure.  The arena
 * takes it again when there are pages for it.  Returns how many pages of memory went.
 */
size_t swapstore_give_back(struct swapstore *store, size_t pages);

/* Checks every invariant of an object / of the store at rest (asserts); for tests. */
void object_check(struct ss_object *obj);
void swapstore_check(struct swapstore *store);

/* For tests: sees, fails or delays swap I/O.  Set before the first page is swapped. */
void swapstore_set_io_hook(struct swapstore *store, const struct ring_hook *hook);

#endif
