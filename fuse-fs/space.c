/* SPDX-License-Identifier: MIT */
/*
 * space.c: how a full mount says so when the kernel buffers writes.  Owns fs->near_full and the grants, all
 * atomics: no lock.  Called by file.c (open, write, release), inode.c and attr.c (timeouts), and it stands in
 * front of getattr.
 *
 * Far from full, root's mounts let the kernel have more dirty pages (bdi.h), which makes small writes fast.
 *
 * With the writeback cache write() succeeds before we hear of it; refused later, its data is lost silently.
 * But before each write() the kernel asks for the attributes, with the file handle, unless it has valid ones;
 * an error there becomes the error of write().  So, with few pages left:
 *
 *   plenty --- fewer than near_full_pages left: writers' attributes are invalidated ---> near full
 *   near full: attributes of files open for writing are good for one use, so each write() asks: a grant
 *     fewer than flush_pages left, and grants enough to fill them: the kernel first flushes the file, which
 *     takes its grants back and makes the count of pages left true
 *     0 pages left: the answer is ENOSPC
 *   near full --- more than 5/4 of near_full_pages left ---> plenty
 *
 * Both windows come from how much the kernel lets a FUSE mount have dirty, since so much may be under way when
 * we first hear of it; a mount smaller than that is near full at all times.  How much a write() will write is
 * not said: one of more than SPACE_GRANT_PAGES, and mappings, can still run past the end.  The store's reserve
 * is for that, and what does not fit there is an error of fsync() and close().
 *
 * A refused GETATTR cannot tell an overwrite from an extension: when full, an overwrite of existing data is
 * refused, too, where tmpfs allows it.  With cache=none every write() comes here itself, and overwrites
 * succeed as on tmpfs.
 */
#include "fuse-fs/file.h"
#include "fuse-fs/options.h"
#include "fuse-fs/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The kernel's dirty limit for the mount, in pages, is taken to lie between these (16 MiB, 64 MiB). */
#define SPACE_DIRTY_MIN	  4096
#define SPACE_DIRTY_MAX	  16384
/* The most that the kernel is ever allowed to have dirty (1 GiB). */
#define SPACE_WINDOW_MAX  262144
/* What one write() is taken to be at most (4 MiB). */
#define SPACE_GRANT_PAGES 1024

/* A positive number in a file of /proc/sys; 0 when there is none. */
static uint64_t space_read_sysctl(const char *path)
{
	unsigned long long n = 0;
	FILE *f = fopen(path, "re");

	if (f == NULL)
		return 0;
	if (fscanf(f, "%llu", &n) != 1)
		n = 0;
	fclose(f);
	return n;
}

/* A FUSE mount starts with 1 % of the machine's dirty limit (max_ratio of its BDI, strictly). */
static uint64_t space_dirty_pages(void)
{
	uint64_t pages = space_read_sysctl("/proc/sys/vm/dirty_bytes") >> SS_PAGE_SHIFT;

	if (pages == 0)
		pages = (uint64_t)sysconf(_SC_PHYS_PAGES) * space_read_sysctl("/proc/sys/vm/dirty_ratio") / 100;
	pages /= 100;
	return pages < SPACE_DIRTY_MIN ? SPACE_DIRTY_MIN : pages > SPACE_DIRTY_MAX ? SPACE_DIRTY_MAX : pages;
}

/*
 * What the kernel may keep dirty while that is far from all the room there is: half of the RAM that the mount may
 * use, and no more than a quarter of what is left to this process, as dirty pages and frames share one cgroup.
 */
static uint64_t space_window_pages(uint64_t ram_bytes, uint64_t least)
{
	uint64_t available = options_memory_available(), pages = ram_bytes / 2;

	available = available > ram_bytes ? (available - ram_bytes) / 4 : 0;
	pages = (pages < available ? pages : available) >> SS_PAGE_SHIFT;
	pages = pages < SPACE_WINDOW_MAX ? pages : SPACE_WINDOW_MAX;
	return pages >= least ? pages : 0;
}

void space_init(struct fs *fs, uint64_t ram_bytes)
{
	fs->flush_pages = space_dirty_pages();
	fs->window_pages = space_window_pages(ram_bytes, 2 * fs->flush_pages);
	fs->near_full_pages = 2 * fs->flush_pages;
	atomic_store(&fs->near_full, false);
	atomic_store(&fs->grants, 0);
}

/* The window closes well before what it lets in could be more than there is room for. */
static void space_adjust_window(struct fs *fs, uint64_t left)
{
	bool wide = atomic_load_explicit(&fs->wide, memory_order_relaxed);
	bool want = left > (wide ? 4 : 5) * fs->window_pages;

	if (want != wide && fs->window_pages != 0 && fs->session != NULL &&
	    atomic_compare_exchange_strong(&fs->wide, &wide, want))
		session_adjust_window(fs->session);
}

void space_changed(struct fs *fs)
{
	bool near = atomic_load_explicit(&fs->near_full, memory_order_relaxed);
	uint64_t left = 0;

	if (fs->cache != SPILLFS_CACHE_KERNEL)
		return;
	left = swapstore_pages_left(fs->store);
	space_adjust_window(fs, left);
	if (!near && left < fs->near_full_pages) {
		/* Whoever turns the switch tells the kernel, once. */
		if (atomic_compare_exchange_strong(&fs->near_full, &near, true) && fs->session != NULL)
			session_invalidate_writers(fs->session);
	} else if (near && left > fs->near_full_pages + fs->near_full_pages / 4) {
		atomic_store(&fs->near_full, false);
	}
}

int file_may_write(struct fs *fs, struct inode *inode, const struct fuse_file_info *fi)
{
	(void)inode;
	if (fs->cache != SPILLFS_CACHE_KERNEL || !file_handle_writes(fi))
		return 0;
	return swapstore_pages_left(fs->store) == 0 ? -ENOSPC : 0;
}

double fs_attr_timeout(struct fs *fs, struct inode *inode)
{
	if (atomic_load(&fs->near_full) && atomic_load(&inode->writers) > 0)
		return 0;
	return FS_TIMEOUT_FOREVER;
}

/* --- grants ------------------------------------------------------------------------------------------------- */

static void space_grant(struct fs *fs, struct inode *inode)
{
	atomic_fetch_add(&inode->grants, 1);
	atomic_fetch_add(&fs->grants, 1);
}

void space_flushed(struct fs *fs, struct inode *inode)
{
	uint32_t grants = atomic_load_explicit(&inode->grants, memory_order_relaxed);

	if (grants != 0) {
		grants = atomic_exchange(&inode->grants, 0);
		atomic_fetch_sub(&fs->grants, grants);
	}
}

/* --- getattr, before its turn ------------------------------------------------------------------------------- */

struct space_getattr {
	struct session_flush flush;
	struct fs *fs;
	struct inode *inode;
	fuse_req_t req;
	struct fuse_file_info fi;
};

static void space_getattr_flushed(struct session_flush *flush)
{
	struct space_getattr *wait = (struct space_getattr *)flush;

	space_flushed(wait->fs, wait->inode);
	space_grant(wait->fs, wait->inode);
	wait->fs->getattr(wait->req, flush->ino, &wait->fi);
	free(wait);
}

/* Could what was granted before, and this, fill what is left?  Nothing to wait for when it is full already. */
static bool space_must_flush(struct fs *fs)
{
	const uint64_t left = swapstore_pages_left(fs->store);

	return left > 0 && left < fs->flush_pages && (atomic_load(&fs->grants) + 1) * SPACE_GRANT_PAGES >= left;
}

/* The inode, if this request is (most likely) a write() that asks, and it matters. */
static struct inode *space_asked(struct fs *fs, fuse_ino_t ino, const struct fuse_file_info *fi)
{
	struct inode *inode = NULL;

	if (fi == NULL || !atomic_load_explicit(&fs->near_full, memory_order_relaxed))
		return NULL;
	inode = inode_get(fs, ino);
	return inode != NULL && S_ISREG(inode->mode) && file_handle_writes(fi) ? inode : NULL;
}

/* A worker cannot wait for a flush, which needs workers.  So the notifier does, and answers. */
static void space_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *inode = space_asked(fs, ino, fi);
	struct space_getattr *wait = inode != NULL && space_must_flush(fs) ? malloc(sizeof(*wait)) : NULL;

	if (wait == NULL) {
		/* Also without memory for the detour: the answer is only less exact. */
		if (inode != NULL)
			space_grant(fs, inode);
		fs->getattr(req, ino, fi);
		return;
	}
	*wait = (struct space_getattr){
		.flush = { .ino = ino, .done = space_getattr_flushed },
		.fs = fs,
		.inode = inode,
		.req = req,
		.fi = *fi,
	};
	session_flush_inode(fs->session, &wait->flush);
}

void fs_ops_space(struct fs *fs, struct fuse_lowlevel_ops *ops)
{
	fs->getattr = ops->getattr;
	ops->getattr = space_getattr;
}
