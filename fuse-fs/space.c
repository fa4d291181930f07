/* SPDX-License-Identifier: MIT */
/*
 * space.c: how a full mount says so when the kernel buffers writes.  Owns fs->near_full (atomic) and fs->space:
 * the promises made to writers, under space.lock, a leaf.  Called by file.c (open, write, release), range.c,
 * inode.c and attr.c (timeouts), and it stands in front of getattr; space_settle_locked() runs in the flusher's thread.
 *
 * Far from full, root's mounts let the kernel have more dirty pages (window.c), which makes small writes fast.
 *
 * With the writeback cache write() succeeds before we hear of it; refused later, its data is lost silently.
 * But before each write() the kernel asks for the attributes, with the file handle, unless it has valid ones;
 * an error there becomes the error of write().  So, with few pages left:
 *
 *   plenty --- fewer than space_near_pages() left: writers' attributes are invalidated ---> near full
 *   near full: attributes of files open for writing are good for one use, so each write() asks: each answer is a
 *     promise of as many pages as that write() may be long, and is written down (struct space_promise)
 *     promises, what others are about to take (claim.c) and this one fit into what is left, or more is left than the
 *     kernel may hold unsent: granted
 *     else the promises are settled first: whoever has asked again has done what it was promised, so its file is
 *       flushed and the count of pages left is true again; who has not is waited for, SPACE_PATIENCE_MS long
 *     0 pages left, or fewer than a write() of this file is known to take: the answer is ENOSPC
 * A limit of pages of the file's owner or group (quota.c) works the same way for that owner's files: near it they are
 * near full, promises that count against it have to fit, and with 0 pages left the answer is EDQUOT.
 *   near full --- more than 5/4 of space_near_pages() left ---> plenty
 *
 * Both windows come from how much the kernel lets a FUSE mount have dirty, since so much may be under way when
 * we first hear of it; a mount smaller than that is near full at all times.  How much a write() will write is
 * not said; it is taken to be SPACE_WRITE_PAGES at first, and learnt from the file's second one on, when what
 * came of one can be counted between two flushes.  So one write() for each file, and mappings, can still run past
 * the end.  The store's reserve is for that, and what does not fit there is an error of fsync() and close().
 *
 * A refused GETATTR cannot tell an overwrite from an extension: when full, an overwrite of existing data is
 * refused, too, where tmpfs allows it.  With cache=none every write() comes here itself, and overwrites
 * succeed as on tmpfs.
 */
#include "fuse-fs/file.h"
#include "fuse-fs/quota.h"
#include "fuse-fs/session.h"
#include "fuse-fs/space_impl.h"
#include "swapstore/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What one write() is taken to be at least, as long as nothing is known of longer ones (4 MiB). */
#define SPACE_WRITE_PAGES 1024
/* After so long a write() that was allowed is taken to be over, if its maker has not been heard of again. */
#define SPACE_PATIENCE_MS 1000
/* A file that was never measured is taken to be written as others were within so long. */
#define SPACE_LATELY_MS	  10000

void space_init(struct fs *fs, uint64_t ram_bytes)
{
	fs->ram_bytes = ram_bytes;
	window_init(fs);
	atomic_store(&fs->near_full, false);
	pthread_mutex_init(&fs->space.lock, NULL);
	fs->space.count = fs->space.nfiles = 0;
}

void space_mounted(struct fs *fs)
{
	window_open(fs);
	space_changed(fs); /* a small mount is near full from the start */
}

void space_resize(struct fs *fs, uint64_t ram_bytes)
{
	atomic_store(&fs->ram_bytes, ram_bytes);
	window_resize(fs);
	space_changed(fs);
}

/*
 * The most that the kernel may hold and not have sent; never taken to be less than its default, which leaves room for
 * several write()s of unknown length that have begun.
 */
uint64_t space_unsent_pages(struct fs *fs)
{
	uint64_t window = window_pages(fs);

	return window > fs->flush_pages ? window : fs->flush_pages;
}

/* What was counted of a file's write()s so far means nothing: far from the limits nobody asked. */
void space_ask(struct fs *fs)
{
	struct space *sp = &fs->space;

	pthread_mutex_lock(&sp->lock);
	for (unsigned i = 0; i < sp->nfiles; i++)
		sp->file[i].counting = false;
	pthread_mutex_unlock(&sp->lock);
	if (fs->session != NULL)
		session_invalidate_writers(fs->session);
}

void space_changed(struct fs *fs)
{
	const uint64_t near_pages = space_near_pages(fs);
	bool near = atomic_load(&fs->near_full);
	uint64_t left = 0;

	if (fs->cache != SPILLFS_CACHE_KERNEL)
		return;
	left = swapstore_pages_left(fs->store);
	window_adjust(fs, left);
	/* What a claim has freed, it may be about to take again. */
	if (near && left > near_pages + near_pages / 4 && atomic_load(&fs->space.linked) == 0) {
		atomic_store(&fs->near_full, near = false);
		left = swapstore_pages_left(fs->store); /* somebody may have taken it who still saw "near" */
	}
	/* Whoever turns the switch tells the kernel, once. */
	if (!near && left < near_pages && atomic_compare_exchange_strong(&fs->near_full, &near, true))
		space_ask(fs);
}

bool space_stays_near(struct fs *fs, const struct inode *inode)
{
	return atomic_load(&fs->near_full) || quota_is_near(inode);
}

bool space_is_near(struct fs *fs, const struct inode *inode)
{
	return space_stays_near(fs, inode) || atomic_load(&fs->space.squeezed) > 0;
}

const struct quota_owner *space_payer(fuse_req_t req, const struct inode *inode)
{
	return quota_is_privileged(req) ? NULL : atomic_load_explicit(&inode->owner, memory_order_acquire);
}

/* Pages until each limit that a write() is held to, the store's own first. */
struct space_room {
	const struct quota_id *of; /* NULL: the store's */
	uint64_t left;
};

#define SPACE_ROOMS (1 + QUOTA_KINDS)

static unsigned space_rooms(struct fs *fs, const struct quota_owner *payer, struct space_room *room)
{
	unsigned n = 1;

	room[0] = (struct space_room){ .left = swapstore_pages_left(fs->store) };
	for (unsigned k = 0; payer != NULL && k < QUOTA_KINDS; k++)
		if (payer->id[k] != NULL)
			room[n++] = (struct space_room){ payer->id[k], ss_account_left(&payer->id[k]->pages) };
	return n;
}

/* 0, or the error of whichever of them is used up. */
static int space_full(struct fs *fs, const struct quota_owner *payer)
{
	struct space_room room[SPACE_ROOMS];
	unsigned n = space_rooms(fs, payer, room);

	for (unsigned i = 0; i < n; i++)
		if (room[i].left == 0)
			return room[i].of == NULL ? -ENOSPC : -EDQUOT;
	return 0;
}

int file_may_write(fuse_req_t req, struct inode *inode, const struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);

	if (fs->cache != SPILLFS_CACHE_KERNEL || !file_handle_writes(fi))
		return 0;
	return space_full(fs, space_payer(req, inode));
}

double fs_attr_timeout(struct fs *fs, struct inode *inode)
{
	if ((space_is_near(fs, inode) || atomic_load(&fs->ending)) && atomic_load(&inode->writers) > 0)
		return 0;
	return FS_TIMEOUT_FOREVER;
}

/* Near a limit none at all: it may be opened for writing before the reply is taken. */
double fs_attr_timeout_late(struct fs *fs, struct inode *inode)
{
	return S_ISREG(inode->mode) && space_is_near(fs, inode) ? 0 : fs_attr_timeout(fs, inode);
}

/* --- promises ------------------------------------------------------------------------------------------------- */

static void space_remove_locked(struct space *sp, unsigned i)
{
	sp->promise[i] = sp->promise[--sp->count];
}

/*
 * Who asks again, has done what it was allowed before: from now on a flush of that file shows it.  All who are outside
 * our pid namespace have the number 0: of those it is one who writes to the same file.
 */
void space_asks_again_locked(struct space *sp, pid_t pid, uint64_t ino)
{
	for (unsigned i = 0; i < sp->count; i++) {
		struct space_promise *p = &sp->promise[i];

		if (p->pid == pid && (pid != 0 || p->ino == ino))
			p->done = true;
	}
}

bool space_counts_against(const struct quota_owner *payer, const struct quota_id *of)
{
	bool counts = of == NULL;

	for (unsigned k = 0; payer != NULL && k < QUOTA_KINDS; k++)
		counts |= payer->id[k] == of;
	return counts;
}

/* What is claimed and counts against this room. */
static uint64_t space_claimed_locked(const struct space *sp, const struct quota_id *of)
{
	uint64_t pages = 0;

	for (const struct space_claim *c = sp->claims; c != NULL; c = c->next)
		if (space_counts_against(c->payer, of))
			pages += c->pages;
	return pages;
}

/* What is promised and counts against it. */
static uint64_t space_promised_locked(const struct space *sp, const struct quota_id *of)
{
	uint64_t pages = 0;

	for (unsigned i = 0; i < sp->count; i++)
		if (space_counts_against(sp->promise[i].payer, of))
			pages += sp->promise[i].pages;
	return pages;
}

bool space_fits_locked(struct fs *fs, const struct quota_owner *payer, uint64_t need, uint64_t plenty)
{
	struct space_room room[SPACE_ROOMS];
	unsigned n = space_rooms(fs, payer, room);

	for (unsigned i = 0; i < n; i++) {
		uint64_t claimed = space_claimed_locked(&fs->space, room[i].of);
		uint64_t left = room[i].left > claimed ? room[i].left - claimed : 0;

		if (left < plenty && space_promised_locked(&fs->space, room[i].of) + need > left)
			return false;
	}
	return true;
}

static struct space_file *space_find_locked(struct space *sp, uint64_t ino)
{
	for (unsigned i = 0; i < sp->nfiles; i++)
		if (sp->file[i].ino == ino)
			return &sp->file[i];
	return NULL;
}

/* The file, from now on watched; in the place of the one that has been quiet longest if there is none left. */
static struct space_file *space_watch_locked(struct space *sp, uint64_t ino)
{
	struct space_file *f = space_find_locked(sp, ino);

	if (f == NULL && sp->nfiles < SPACE_FILES) {
		f = &sp->file[sp->nfiles++];
		*f = (struct space_file){ .ino = ino };
	} else if (f == NULL) {
		f = &sp->file[0];
		for (unsigned i = 1; i < sp->nfiles; i++)
			if (sp->file[i].used_ms < f->used_ms)
				f = &sp->file[i];
		*f = (struct space_file){ .ino = ino };
	}
	f->used_ms = (uint64_t)util_now_ms();
	return f;
}

/* Notes a promise.  Without a place for it, another one grows: the sum is right, and they will be settled sooner. */
static void space_promise_locked(struct space *sp, pid_t pid, const struct quota_owner *payer, const struct space_file *f,
				 uint64_t pages)
{
	const struct space_promise p = {
		.ino = f->ino,
		.at_ms = f->used_ms,
		.arrived = f->arrived,
		.pages = pages,
		.payer = payer,
		.pid = pid,
	};

	if (sp->count < SPACE_PROMISES)
		sp->promise[sp->count++] = p;
	else
		sp->promise[p.at_ms % SPACE_PROMISES].pages += pages;
}

/* Is no write() of this file under way?  A flush in the middle of one shows a part of it only. */
static bool space_is_quiet_locked(const struct space *sp, uint64_t ino)
{
	for (unsigned i = 0; i < sp->count; i++)
		if (sp->promise[i].ino == ino && !sp->promise[i].done)
			return false;
	return true;
}

/* What one write() of this file may take. */
static uint64_t space_write_pages(const struct space_file *f)
{
	return f->write_pages > SPACE_WRITE_PAGES ? f->write_pages : SPACE_WRITE_PAGES;
}

/*
 * A flush of this file has ended that began when it was quiet: the kernel holds nothing of it unsent.  What has
 * arrived since the last time is what the write()s in between were long, on average; the first time it may be older.
 */
static void space_learn_locked(struct space_file *f)
{
	uint64_t each = f->asked > 0 ? (f->arrived - f->arrived_at_flush + f->asked - 1) / f->asked : 0;

	if (f->counting && each > f->write_pages)
		f->write_pages = each;
	f->asked = 0;
	f->arrived_at_flush = f->arrived;
	f->counting = true;
}

void space_arrived(struct fs *fs, struct inode *inode, size_t bytes)
{
	struct space_file *f = NULL;

	if (!space_is_near(fs, inode))
		return;
	UTIL_LOCKED(&fs->space.lock);
	f = space_find_locked(&fs->space, inode->ino);
	if (f != NULL)
		f->arrived += (bytes + SS_PAGE_SIZE - 1) / SS_PAGE_SIZE;
}

/* Nobody could write, so the kernel holds nothing unsent: what arrives from now on is what was asked for. */
void space_opened(struct fs *fs, struct inode *inode)
{
	struct space_file *f = NULL;

	if (fs->cache != SPILLFS_CACHE_KERNEL || !space_is_near(fs, inode))
		return;
	UTIL_LOCKED(&fs->space.lock);
	f = space_watch_locked(&fs->space, inode->ino);
	f->asked = 0;
	f->arrived_at_flush = f->arrived;
	f->counting = true;
}

/* What is known of its write()s is kept: it may be opened again. */
void space_closed(struct fs *fs, struct inode *inode)
{
	struct space *sp = &fs->space;
	struct space_file *f = NULL;

	if (fs->cache != SPILLFS_CACHE_KERNEL)
		return;
	UTIL_LOCKED(&sp->lock);
	f = space_find_locked(sp, inode->ino);
	if (f != NULL)
		f->counting = false;
	for (unsigned i = sp->count; i-- > 0;)
		if (sp->promise[i].ino == inode->ino)
			space_remove_locked(sp, i);
}

/* --- settling: in the notifier's thread ------------------------------------------------------------------------- */

/* The file to flush next: the first of a promise that is done, or has waited long enough.  0: none. */
static uint64_t space_next_to_flush_locked(struct space *sp, uint64_t now)
{
	for (unsigned i = 0; i < sp->count; i++)
		if (sp->promise[i].done || now - sp->promise[i].at_ms >= SPACE_PATIENCE_MS)
			return sp->promise[i].ino;
	return 0;
}

/* The flush that begins now will show what came of all that is done for ino. */
static void space_flush_begins_locked(struct space *sp, uint64_t ino)
{
	for (unsigned i = 0; i < sp->count; i++)
		sp->promise[i].flushed = sp->promise[i].done && sp->promise[i].ino == ino;
}

/* Only now do the pages count as used; till then the promises had to, for workers that grant meanwhile. */
static void space_flush_ended_locked(struct space *sp)
{
	for (unsigned i = sp->count; i-- > 0;)
		if (sp->promise[i].flushed)
			space_remove_locked(sp, i);
}

/* What has waited long enough is over, unless pages have come of it meanwhile: a long write() that is throttled. */
static void space_take_old_locked(struct space *sp, uint64_t ino, const struct space_file *f)
{
	const uint64_t now = (uint64_t)util_now_ms();

	for (unsigned i = sp->count; i-- > 0;) {
		struct space_promise *p = &sp->promise[i];
		uint64_t came = f != NULL && f->arrived > p->arrived ? f->arrived - p->arrived : 0;

		if (p->ino != ino || p->done || now - p->at_ms < SPACE_PATIENCE_MS)
			continue;
		if (came == 0) {
			space_remove_locked(sp, i);
			continue;
		}
		p->at_ms = now;
		p->pages -= came < p->pages ? came : p->pages;
		p->arrived = f->arrived;
	}
}

static void space_flush(struct fs *fs, uint64_t ino, bool quiet)
{
	struct space_file *f = NULL;

	session_flush_now(fs->session, ino);
	UTIL_LOCKED(&fs->space.lock);
	f = space_find_locked(&fs->space, ino);
	if (f != NULL && quiet)
		space_learn_locked(f);
	space_flush_ended_locked(&fs->space);
	space_take_old_locked(&fs->space, ino, f);
}

/*
 * It ends: a claim lasts for one operation, a promise for SPACE_PATIENCE_MS and a flush, or as long as pages that the
 * kernel has promised to write keep coming.
 */
void space_settle_locked(struct fs *fs, const struct quota_owner *payer, uint64_t need)
{
	const struct timespec nap = { .tv_nsec = 500000 };
	struct space *sp = &fs->space;

	while ((sp->count > 0 || sp->claims != NULL) && space_full(fs, payer) == 0 &&
	       !space_fits_locked(fs, payer, need, UINT64_MAX)) {
		uint64_t ino = space_next_to_flush_locked(sp, (uint64_t)util_now_ms());
		bool quiet = space_is_quiet_locked(sp, ino);

		space_flush_begins_locked(sp, ino);
		pthread_mutex_unlock(&sp->lock);
		if (ino != 0)
			space_flush(fs, ino, quiet);
		else
			nanosleep(&nap, NULL);
		pthread_mutex_lock(&sp->lock);
	}
}

/* --- getattr, before its turn ------------------------------------------------------------------------------- */

struct space_getattr {
	struct session_flush flush;
	struct fs *fs;
	struct inode *inode;
	fuse_req_t req;
	struct fuse_file_info fi;
	bool quiet; /* when it asked, nobody else was writing to the file */
};

/* What a write() must find to be allowed: as much as this file's were seen to take, else as other files' lately. */
static uint64_t space_expected_locked(const struct space *sp, const struct space_file *f)
{
	uint64_t pages = f->write_pages;

	for (unsigned i = 0; i < sp->nfiles && f->write_pages == 0; i++)
		if (sp->file[i].write_pages > pages && f->used_ms - sp->file[i].used_ms < SPACE_LATELY_MS)
			pages = sp->file[i].write_pages;
	return pages;
}

/* The promise that an answer to this request is.  -ENOSPC: what this file's writes take is not there. */
static int space_grant_locked(struct fs *fs, struct inode *inode, fuse_req_t req)
{
	const struct quota_owner *payer = space_payer(req, inode);
	uint64_t left = swapstore_pages_left(fs->store), expected = 0;
	struct space_file *f = NULL;
	int err = space_full(fs, payer);

	if (err != 0)
		return err;
	f = space_watch_locked(&fs->space, inode->ino);
	expected = space_expected_locked(&fs->space, f);
	if (left < expected && expected > swapstore_pages_left_acked(fs->store))
		return -ENOSPC;
	space_promise_locked(&fs->space, fuse_req_ctx(req)->pid, payer, f, space_write_pages(f));
	f->asked++;
	return 0;
}

static void space_getattr_settle(struct session_flush *flush)
{
	struct space_getattr *wait = (struct space_getattr *)flush;
	struct fs *fs = wait->fs;
	struct space_file *f = NULL;
	uint64_t pages = 0;
	int err = 0;

	pthread_mutex_lock(&fs->space.lock);
	f = space_watch_locked(&fs->space, flush->ino);
	if (wait->quiet)
		space_learn_locked(f);
	pages = space_write_pages(f);
	space_settle_locked(fs, space_payer(wait->req, wait->inode), pages);
	err = space_grant_locked(fs, wait->inode, wait->req);
	pthread_mutex_unlock(&fs->space.lock);
	if (err == 0)
		fs->getattr(wait->req, flush->ino, &wait->fi);
	else
		fs_reply(wait->req, err);
	free(wait);
}

/*
 * Not while all that the kernel may hold unsent fits as well, unless this file's write()s have yet to be measured,
 * for which it is flushed twice.  Nothing to wait for when it is full already.
 */
static bool space_must_settle_locked(struct fs *fs, struct inode *inode, fuse_req_t req, bool *quiet)
{
	const struct quota_owner *payer = space_payer(req, inode);
	struct space_file *f = NULL;

	space_asks_again_locked(&fs->space, fuse_req_ctx(req)->pid, inode->ino);
	*quiet = space_is_quiet_locked(&fs->space, inode->ino);
	if (space_full(fs, payer) != 0)
		return false;
	if (fs->space.waiting > 0) /* behind the claim that waits: it would wait for ever if promises never ended */
		return true;
	f = space_watch_locked(&fs->space, inode->ino);
	if (!f->counting || (f->write_pages == 0 && f->asked > 0))
		return true;
	return !space_fits_locked(fs, payer, space_write_pages(f), space_unsent_pages(fs) + space_write_pages(f));
}

/* The inode, if this request is (most likely) a write() that asks, and it matters. */
static struct inode *space_asked(struct fs *fs, fuse_ino_t ino, const struct fuse_file_info *fi)
{
	struct inode *inode = NULL;

	if (fi == NULL || fs->cache != SPILLFS_CACHE_KERNEL)
		return NULL;
	inode = inode_get(fs, ino);
	return inode != NULL && space_is_near(fs, inode) && S_ISREG(inode->mode) && file_handle_writes(fi) ? inode : NULL;
}

/* A worker cannot wait for a flush, which needs workers.  So the notifier does, and answers. */
static void space_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *inode = space_asked(fs, ino, fi);
	struct space_getattr *wait = NULL;
	bool quiet = false;
	int err = 0;

	if (inode != NULL) {
		UTIL_LOCKED(&fs->space.lock);
		if (space_must_settle_locked(fs, inode, req, &quiet))
			wait = malloc(sizeof(*wait));
		/* Also without memory for the detour: the answer is only less exact. */
		if (wait == NULL)
			err = space_grant_locked(fs, inode, req);
	}
	if (wait == NULL) {
		if (err == 0)
			fs->getattr(req, ino, fi);
		else
			fs_reply(req, err);
		return;
	}
	*wait = (struct space_getattr){
		.flush = { .ino = ino, .done = space_getattr_settle },
		.fs = fs,
		.inode = inode,
		.req = req,
		.fi = *fi,
		.quiet = quiet,
	};
	session_flush_inode(fs->session, &wait->flush);
}

void fs_ops_space(struct fs *fs, struct fuse_lowlevel_ops *ops)
{
	fs->getattr = ops->getattr;
	ops->getattr = space_getattr;
}
