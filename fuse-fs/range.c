/* SPDX-License-Identifier: MIT */
/*
 * range.c: ranges of regular files without their data passing through the caller: fallocate, SEEK_DATA and
 * SEEK_HOLE, copy_file_range.  Owns nothing; sizes are file.c's, under inode->lock, which is never held while
 * the store is asked.  Called by workers; an answer to lseek that had to wait for a flush comes from the
 * notifier's thread.
 *
 * Before fallocate and copy_file_range the kernel flushes the ranges, and afterwards it drops them from its
 * cache, so what is done here is seen.  Before lseek it does not.
 */
#include "fuse-fs/file.h"
#include "fuse-fs/flags.h"
#include "fuse-fs/session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

/* One copy_file_range answers after so much at the latest: a worker that copies serves nobody else. */
#define RANGE_COPY_MAX (64U << 20)

/* --- fallocate -------------------------------------------------------------------------------------------------- */

/*
 * Zeroes the range and keeps it allocated.  What is missing is allocated first, all or nothing, so that a full
 * mount refuses before anything is lost.  Erasing frees no more than is taken again just after.
 */
static int range_zero(struct fs *fs, struct ss_object *object, uint64_t first, uint64_t end, unsigned flags)
{
	int err = object_allocate(fs->store, object, first, end, flags);

	if (err == 0)
		err = object_erase(fs->store, object, first, end);
	if (err == 0)
		err = object_allocate(fs->store, object, first, end, flags);
	return err;
}

static int range_allocate(fuse_req_t req, struct inode *inode, int mode, uint64_t first, uint64_t end,
			  struct space_claim *claim)
{
	struct fs *fs = fs_of(req);
	const bool punch = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
	struct ss_object *object = punch ? atomic_load(&inode->object) : file_object(fs, inode, 0);

	if (object == NULL)
		return punch ? 0 : -ENOSPC;
	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
		space_claim(fs, req, inode, end - first, claim);
		return object_allocate(fs->store, object, first, end, file_write_flags(req));
	case FALLOC_FL_PUNCH_HOLE:
		return object_erase(fs->store, object, first, end);
	case FALLOC_FL_ZERO_RANGE:
		space_claim(fs, req, inode, end - first, claim);
		return range_zero(fs, object, first, end, file_write_flags(req));
	default:
		return -EOPNOTSUPP;
	}
}

static void range_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			    struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *inode = inode_get(fs, ino);
	struct space_claim claim = { 0 };
	int err = 0;

	(void)fi;
	if (inode == NULL)
		err = -ESTALE;
	else if (offset < 0 || length <= 0)
		err = -EINVAL;
	else if (length > FILE_SIZE_MAX - offset)
		err = -EFBIG;
	else if ((mode & FALLOC_FL_PUNCH_HOLE) != 0 && (mode & FALLOC_FL_KEEP_SIZE) == 0)
		err = -EOPNOTSUPP;
	else
		err = flags_may_fallocate(inode, mode);
	if (err == 0)
		err = range_allocate(req, inode, mode, (uint64_t)offset, (uint64_t)(offset + length), &claim);
	if (err == 0)
		file_changed(
			fs, inode,
			&(struct file_change){
				.end = (mode & FALLOC_FL_KEEP_SIZE) != 0 ? 0 : (uint64_t)(offset + length),
				.touch = true,
				/* The request does not say whether the caller has CAP_FSETID; root is the likely one. */
				.kill = file_kill(req, inode, fuse_req_ctx(req)->uid != 0),
			});
	space_claimed(fs, &claim);
	fs_reply(req, err);
}

/* --- lseek ------------------------------------------------------------------------------------------------------ */

/* The offset that SEEK_DATA or SEEK_HOLE finds, or -ENXIO.  There is a hole at the end of every file. */
static int64_t range_seek(struct inode *inode, uint64_t offset, int whence)
{
	struct ss_object *object = atomic_load(&inode->object);
	const uint64_t size = file_size(inode);
	int64_t found = 0;

	if (offset >= size)
		return -ENXIO;
	if (whence == SEEK_DATA) {
		found = object != NULL ? object_seek_data(object, offset) : -ENXIO;
		return found >= 0 && (uint64_t)found < size ? found : -ENXIO;
	}
	found = object != NULL ? object_seek_hole(object, offset) : (int64_t)offset;
	return found >= 0 && (uint64_t)found < size ? found : (int64_t)size;
}

static void range_reply_seek(fuse_req_t req, struct inode *inode, uint64_t offset, int whence)
{
	const int64_t found = range_seek(inode, offset, whence);

	if (found < 0)
		fs_reply(req, (int)found);
	else
		fuse_reply_lseek(req, found);
}

/* A seek that waits for the kernel's dirty pages.  The open file keeps the inode. */
struct range_waiting_seek {
	struct session_flush flush;
	fuse_req_t req;
	struct inode *inode;
	uint64_t offset;
	int whence;
};

static void range_flushed(struct session_flush *flush)
{
	struct range_waiting_seek *seek = (struct range_waiting_seek *)flush;

	range_reply_seek(seek->req, seek->inode, seek->offset, seek->whence);
	free(seek);
}

/*
 * Pages that the kernel has not written yet are holes to us.  Only a file that is open for writing can have
 * any (the last close writes them, mappings included); with direct I/O only mappings make them.
 */
static void range_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *inode = inode_get(fs, ino);
	struct range_waiting_seek *seek = NULL;

	(void)fi;
	if (inode == NULL) {
		fs_reply(req, -ESTALE);
		return;
	}
	if (off < 0 || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
		fs_reply(req, off < 0 ? -ENXIO : -EINVAL);
		return;
	}
	if (atomic_load(&inode->writers) == 0) {
		range_reply_seek(req, inode, (uint64_t)off, whence);
		return;
	}
	seek = malloc(sizeof(*seek));
	if (seek == NULL) {
		fs_reply(req, -ENOMEM);
		return;
	}
	*seek = (struct range_waiting_seek){
		.flush = { .ino = ino, .done = range_flushed },
		.req = req,
		.inode = inode,
		.offset = (uint64_t)off,
		.whence = whence,
	};
	session_flush_inode(fs->session, &seek->flush);
}

/* --- copy_file_range -------------------------------------------------------------------------------------------- */

static int range_copy_check(const struct inode *in, off_t off_in, const struct inode *out, off_t off_out, size_t length,
			    int flags)
{
	if (in == NULL || out == NULL)
		return -ESTALE;
	if (flags != 0 || off_in < 0 || off_out < 0)
		return -EINVAL;
	if (length > (size_t)(FILE_SIZE_MAX - off_out))
		return -EFBIG;
	if (in == out && off_in < off_out + (off_t)length && off_out < off_in + (off_t)length)
		return -EINVAL;
	return 0;
}

static ssize_t range_copy_pages(fuse_req_t req, struct inode *in, off_t off_in, struct inode *out, off_t off_out,
				size_t length)
{
	struct fs *fs = fs_of(req);
	struct ss_object *from = atomic_load(&in->object), *to = NULL;
	int err = 0;

	if (from != NULL) {
		to = file_object(fs, out, 0);
		return to == NULL ? -ENOSPC
				  : object_copy(fs->store, from, (uint64_t)off_in, to, (uint64_t)off_out, length,
						file_write_flags(req));
	}
	/* All hole here: a hole there. */
	to = atomic_load(&out->object);
	if (to != NULL)
		err = object_erase(fs->store, to, (uint64_t)off_out, (uint64_t)off_out + length);
	return err != 0 ? err : (ssize_t)length;
}

static void range_copy(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
		       fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t length, int flags)
{
	struct fs *fs = fs_of(req);
	struct inode *in = inode_get(fs, ino_in);
	struct inode *out = inode_get(fs, ino_out);
	uint64_t size = in != NULL ? file_size(in) : 0;
	struct space_claim claim = { 0 };
	ssize_t n = 0;
	int err = 0;

	(void)fi_in;
	(void)fi_out;
	if (length > RANGE_COPY_MAX)
		length = RANGE_COPY_MAX;
	if ((uint64_t)off_in >= size)
		length = 0;
	else if (length > size - (uint64_t)off_in)
		length = (size_t)(size - (uint64_t)off_in);
	err = range_copy_check(in, off_in, out, off_out, length, flags);
	if (err == 0)
		err = flags_refuse(out, FS_IMMUTABLE_FL);
	if (err == 0 && length > 0)
		space_claim(fs, req, out, length, &claim);
	if (err == 0 && length > 0)
		n = range_copy_pages(req, in, off_in, out, off_out, length);
	space_claimed(fs, &claim);
	if (err == 0 && n < 0)
		err = (int)n;
	if (err != 0) {
		fs_reply(req, err);
		return;
	}
	if (n > 0) {
		inode_touch_read(fs, in);
		file_changed(fs, out,
			     &(struct file_change){
				     .end = (uint64_t)off_out + (uint64_t)n,
				     .touch = true,
				     .kill = file_kill(req, out, fuse_req_ctx(req)->uid != 0),
			     });
	}
	fuse_reply_write(req, (size_t)n);
}

void file_ops_ranges(struct fuse_lowlevel_ops *ops)
{
	ops->fallocate = range_fallocate;
	ops->lseek = range_lseek;
	ops->copy_file_range = range_copy;
}
