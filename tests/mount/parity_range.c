/* SPDX-License-Identifier: MIT */
/*
 * parity_range: parity's steps on the length and the ranges of files: seeking, truncating, allocating, punching,
 * copying inside the kernel, writing back, and forgetting what the kernel caches.
 */
#include "tests/mount/parity.h"

#include <linux/falloc.h>
#include <sys/mman.h>

static void par_op_lseek(struct par *p)
{
	static const int whences[] = { SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE, 5, -1 };
	struct par_fd *h = par_pick_fd(p);
	int whence = PAR_PICK(p, whences);
	struct par_outcome o[2];
	size_t len;
	off_t off;

	par_pick_range(p, &off, &len);
	if ((whence == SEEK_CUR || whence == SEEK_END) && par_chance(p, 70))
		off = -(off / 2);
	if (h->directory && whence != SEEK_SET)
		return; /* what a place in a directory is, each file system says for itself: see "directory" */
	if (h->directory)
		off = 0;
	if ((p->loose_holes || p->allocated > 1) && (whence == SEEK_DATA || whence == SEEK_HOLE))
		whence = SEEK_SET;
	par_log(p, "%s %lld whence %d", h->path, (long long)off, whence);
	PAR_BOTH(o, lseek(h->fd[s], off, whence));
	par_same(p, o);
}

static void par_op_data_map(struct par *p)
{
	struct par_fd *h = par_pick_regular(p);
	struct par_outcome o[2];
	char proc[64];

	if (!h)
		return;
	par_log(p, "%s", h->path);
	par_become(p, 0);
	PAR_BOTH(o, (snprintf(proc, sizeof(proc), "/proc/self/fd/%d", h->fd[s]), open(proc, O_RDONLY | O_NONBLOCK)));
	if (!par_same_fds(p, o))
		return;
	par_same_content(p, (int)o[0].rc, (int)o[1].rc, h->path);
	par_same_fstat(p, h);
	close((int)o[0].rc);
	close((int)o[1].rc);
}

static void par_op_truncate(struct par *p)
{
	struct par_outcome o[2];
	char path[PAR_PATH];
	size_t len;
	off_t off;

	par_pick_odd(p, path);
	par_pick_range(p, &off, &len);
	par_log(p, "%.100s %lld", path, (long long)off);
	PAR_BOTH(o, truncate(path, off));
	par_same(p, o);
	if (strlen(path) < PATH_MAX)
		par_same_lstat(p, path);
}

static void par_op_ftruncate(struct par *p)
{
	struct par_fd *h = par_pick_fd(p);
	struct par_outcome o[2];
	size_t len;
	off_t off;

	par_pick_range(p, &off, &len);
	par_log(p, "%s %lld", h->path, (long long)off);
	PAR_BOTH(o, ftruncate(h->fd[s], off));
	par_same(p, o);
	par_same_fstat(p, h);
}

static void par_op_fallocate(struct par *p)
{
	static const int modes[] = { 0,
				     0,
				     FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE,
				     FALLOC_FL_COLLAPSE_RANGE,
				     FALLOC_FL_INSERT_RANGE,
				     FALLOC_FL_UNSHARE_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_COLLAPSE_RANGE,
				     0x100 };
	struct par_fd *h = par_pick_fd(p);
	int mode = par_chance(p, 3) ? FALLOC_FL_ZERO_RANGE | (par_chance(p, 50) ? FALLOC_FL_KEEP_SIZE : 0) : PAR_PICK(p, modes);
	struct par_outcome o[2];
	size_t size;
	off_t off, len;

	par_pick_range(p, &off, &size);
	len = (off_t)size;
	if (par_chance(p, 3))
		len = PAR_PICK(p, ((const off_t[]){ 0, -1, INT64_MAX, 1LL << 50 }));
	par_log(p, "%s mode %#x off %lld len %lld", h->path, mode, (long long)off, (long long)len);
	p->allocated += (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE)) == 0;
	PAR_BOTH(o, fallocate(h->fd[s], mode, off, len));
	par_same(p, o);
	par_same_fstat(p, h);
}

/* tmpfs has no copying of its own: a hole arrives as zeroes, which spillfs does not store. */
static void par_op_copy_range(struct par *p)
{
	struct par_fd *in = par_pick_fd(p), *out = par_pick_fd(p);
	unsigned flags = par_chance(p, 3) ? 1 : 0;
	struct par_outcome o[2];
	off_t off, to;
	size_t len;

	par_pick_range(p, &off, &len);
	to = (off_t)par_below(p, p->max_size);
	if (in->regular && out->regular && !p->loose_holes && off >= 0) {
		off_t hole = lseek(in->fd[1], 0, SEEK_CUR), found = lseek(in->fd[1], off, SEEK_HOLE);

		lseek(in->fd[1], hole, SEEK_SET);
		p->loose_holes = found >= 0 && found < off + (off_t)len;
	}
	par_log(p, "from %s %lld to %s %lld len %zu flags %u", in->path, (long long)off, out->path, (long long)to, len,
		flags);
	PAR_BOTH(o, copy_file_range(in->fd[s], &(off_t){ off }, out->fd[s], &(off_t){ to }, len, flags));
	par_same(p, o);
	par_same_fstat(p, in);
	par_same_fstat(p, out);
}

static void par_op_sync(struct par *p)
{
	struct par_fd *h = par_pick_fd(p);
	unsigned how = (unsigned)par_below(p, 5), flags = par_chance(p, 10) ? 0x10 : 7;
	int advice = (int)par_below(p, 8);
	struct par_outcome o[2];
	size_t len;
	off_t off;

	par_pick_range(p, &off, &len);
	par_log(p, "how %u %s off %lld len %zu", how, h->path, (long long)off, len);
	PAR_BOTH(o, how == 0   ? fsync(h->fd[s])
		    : how == 1 ? fdatasync(h->fd[s])
		    : how == 2 ? sync_file_range(h->fd[s], off, (off_t)len, flags)
		    : how == 3 ? posix_fadvise(h->fd[s], off, (off_t)len, advice)
			       : readahead(h->fd[s], off, len));
	par_same(p, o);
	par_same_fstat(p, h);
}

/* The kernel forgets what it caches of the file: what is read next comes from the daemon, and there from swap. */
static void par_op_forget(struct par *p)
{
	struct par_fd *h = par_pick_regular(p);
	struct par_outcome o[2];

	if (!h)
		return;
	par_log(p, "%s", h->path);
	PAR_BOTH(o, fdatasync(h->fd[s]));
	par_same(p, o);
	PAR_BOTH(o, posix_fadvise(h->fd[s], 0, 0, POSIX_FADV_DONTNEED));
	par_same(p, o);
}

const struct par_op par_range_ops[] = {
	{ "lseek", 30, par_op_lseek },		 { "data_map", 12, par_op_data_map },
	{ "truncate", 15, par_op_truncate },	 { "ftruncate", 25, par_op_ftruncate },
	{ "fallocate", 35, par_op_fallocate },	 { "copy_range", 15, par_op_copy_range },
	{ "sync", 20, par_op_sync },		 { "forget", 30, par_op_forget },
	{ NULL, 0, NULL },
};
