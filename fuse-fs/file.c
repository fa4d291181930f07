/* SPDX-License-Identifier: MIT */
/*
 * file.c: byte ranges of regular files: open, release, read, write, truncate.  It owns an inode's size and
 * count of writers; the size is under inode->lock, which is never held while the store is asked for pages
 * (that may wait for memory or for the disk).  Called by workers, file_truncate() also by attr.c.
 *
 * Nobody but the kernel writes, and it holds the inode's own lock over a truncate against writes and other
 * truncates, so those need no order here.  Reads do come at any time.
 *
 * The ranges beyond plain reads and writes (fallocate, lseek, copy_file_range) are in range.c.
 */
#include "fuse-fs/file.h"

#include "fuse-fs/flags.h"
#include "fuse-fs/quota.h"
#include "fuse-fs/session.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>

/*
 * fi->fh of a regular file: whether the handle may write, and whether only behind the end, because the file was
 * append-only when it was opened.  Nothing else need be known of a handle.
 */
enum file_rights { FILE_HANDLE_READS, FILE_HANDLE_WRITES, FILE_HANDLE_APPENDS };

bool file_handle_writes(const struct fuse_file_info *fi)
{
	return fi->fh != FILE_HANDLE_READS;
}

int file_opened(struct fs *fs, struct inode *inode, struct fuse_file_info *fi)
{
	bool first = false;

	fi->fh = (fi->flags & O_ACCMODE) == O_RDONLY ? FILE_HANDLE_READS : FILE_HANDLE_WRITES;
	if (file_handle_writes(fi) && flags_has(inode, FS_APPEND_FL)) {
		fi->fh = FILE_HANDLE_APPENDS;
		/* So that each write() comes here to be judged: the kernel lets a process take O_APPEND back. */
		fi->direct_io = 1;
	}
	if (file_handle_writes(fi)) {
		space_changed(fs); /* the room there is may have gone to names, inodes and extended attributes */
		quota_changed(fs, inode); /* a small quota is near its limit from the start */
		if (writers_add(&fs->writers, inode, !space_stays_near(fs, inode), &first) != 0)
			return -ENOMEM;
		if (first)
			space_opened(fs, inode);
		/* The kernel may hold endless attributes of it from before (space.c): not when this is answered. */
		if (space_is_near(fs, inode))
			session_attrs_changed(fs->session, inode->ino);
	}
	/* What the kernel cached stays right: only the kernel changes it.  With direct I/O that is mapped pages. */
	fi->keep_cache = 1;
	if (fs->cache == SPILLFS_CACHE_NONE) {
		fi->direct_io = 1;
		/* Pages are copied under their own locks, and the kernel lets no two writers past the end. */
		fi->parallel_direct_writes = 1;
	}
	return 0;
}

void file_closed(struct fs *fs, struct inode *inode, const struct fuse_file_info *fi)
{
	/* The last close has written everything back. */
	if (file_handle_writes(fi) && writers_remove(&fs->writers, inode))
		space_closed(fs, inode);
}

static void file_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *inode = inode_get(fs, ino);
	int err = inode == NULL ? -ESTALE : flags_may_open(inode, fi->flags);

	if (err == 0 && (fi->flags & O_TRUNC) != 0)
		err = file_truncate(fs, inode, 0, file_kill(req, inode, fi->kill_suidgid));
	if (err == 0)
		err = file_opened(fs, inode, fi);
	if (err != 0) {
		fs_reply(req, err);
		return;
	}
	/* The opener was interrupted: there will be no release. */
	if (fuse_reply_open(req, fi) != 0)
		file_closed(fs, inode, fi);
}

static void file_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *inode = inode_get(fs, ino);

	if (inode != NULL)
		file_closed(fs, inode, fi);
	fs_reply(req, inode == NULL ? -ESTALE : 0);
}

uint64_t file_size(struct inode *inode)
{
	uint64_t size = 0;

	pthread_mutex_lock(&inode->lock);
	size = inode->size;
	pthread_mutex_unlock(&inode->lock);
	return size;
}

unsigned file_write_flags(fuse_req_t req)
{
	return quota_is_privileged(req) ? SS_WRITE_FORCED : 0;
}

struct ss_object *file_object(struct fs *fs, struct inode *inode, unsigned write_flags)
{
	struct ss_object *object = atomic_load(&inode->object), *made = NULL;

	if (object != NULL || object_create(fs->store, write_flags, &made) != 0)
		return object;
	object = quota_attach(fs, inode, made);
	if (object != made)
		object_destroy(fs->store, made); /* somebody was faster */
	return object;
}

#define FILE_GROUPS_MAX 256

/* Of the file's group, by what /proc says of the caller; where it says nothing, for what the bit is worth, yes. */
static bool file_caller_in_group(fuse_req_t req, gid_t gid)
{
	gid_t groups[FILE_GROUPS_MAX];
	int n;

	if (fuse_req_ctx(req)->gid == gid)
		return true;
	n = fuse_req_getgroups(req, FILE_GROUPS_MAX, groups);
	for (int i = 0; i < n && i < FILE_GROUPS_MAX; i++) {
		if (groups[i] == gid)
			return true;
	}
	return n < 0;
}

enum inode_kill file_kill(fuse_req_t req, struct inode *inode, bool kill)
{
	mode_t mode = inode->mode;
	gid_t gid;

	if (!kill)
		return INODE_KEEP_BITS;
	if ((mode & S_ISGID) == 0 || (mode & S_IXGRP) != 0)
		return INODE_KILL_BITS;
	pthread_mutex_lock(&inode->lock);
	gid = inode->gid;
	pthread_mutex_unlock(&inode->lock);
	return file_caller_in_group(req, gid) ? INODE_KILL_BITS : INODE_KILL_OUTSIDER;
}

void file_changed(struct fs *fs, struct inode *inode, const struct file_change *change)
{
	mode_t before = 0, after = 0;

	pthread_mutex_lock(&inode->lock);
	if (change->end > inode->size)
		inode->size = change->end;
	if (change->touch)
		inode_touch_locked(inode, TOUCH_MTIME | TOUCH_CTIME);
	before = inode->mode;
	inode_kill_suidgid_locked(inode, change->kill);
	after = inode->mode;
	pthread_mutex_unlock(&inode->lock);
	if (!change->keep_capability)
		inode_kill_capability(fs, inode);
	if (after != before)
		session_attrs_changed(fs->session, inode->ino);
	space_changed(fs);
	quota_changed(fs, inode);
}

/* --- read ------------------------------------------------------------------------------------------------------- */

/* A file with a length and no pages. */
static void file_reply_zeroes(fuse_req_t req, size_t length)
{
	static const char zeroes[SS_PAGE_SIZE];
	struct iovec iov[SS_IO_PAGES];
	int n = 0;

	for (; length > 0; n++) {
		iov[n].iov_base = (void *)(uintptr_t)zeroes; /* only read */
		iov[n].iov_len = length < SS_PAGE_SIZE ? length : SS_PAGE_SIZE;
		length -= iov[n].iov_len;
	}
	fuse_reply_iov(req, iov, n);
}

static void file_read(fuse_req_t req, fuse_ino_t ino, size_t length, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *inode = inode_get(fs, ino);
	const uint64_t offset = (uint64_t)off;
	uint64_t size = 0;
	struct ss_object *object = NULL;
	struct ss_read rd;
	int err = 0;

	if (inode == NULL) {
		fs_reply(req, -ESTALE);
		return;
	}
	size = file_size(inode);
	if (length > 0 && (fi->flags & O_NOATIME) == 0)
		inode_touch_read(fs, inode);
	if (offset >= size || length == 0) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	if (length > size - offset)
		length = (size_t)(size - offset);
	object = atomic_load(&inode->object);
	if (object == NULL) {
		file_reply_zeroes(req, length);
		return;
	}
	rd.bounce = session_buffer(fs->session, &rd.bounce_bytes);
	err = object_read(fs->store, object, offset, length, &rd);
	if (err != 0) {
		fs_reply(req, err);
		return;
	}
	/* Straight out of the frames, which stay until the end of the read. */
	fuse_reply_iov(req, rd.iov, rd.iovcnt);
	object_read_end(fs->store, &rd);
}

/* --- write ------------------------------------------------------------------------------------------------------ */

static void file_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t length, off_t off,
		       struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *inode = inode_get(fs, ino);
	const unsigned flags = fi->writepage ? SS_WRITE_ACKED : file_write_flags(req);
	struct space_claim claim = { 0 };
	struct ss_object *object = NULL;
	ssize_t n = -ENOSPC;

	if (inode == NULL) {
		fs_reply(req, -ESTALE);
		return;
	}
	if (off < 0 || length > (size_t)(FILE_SIZE_MAX - off)) {
		fs_reply(req, -EFBIG);
		return;
	}
	if (fi->fh == FILE_HANDLE_APPENDS && !fi->writepage && (uint64_t)off < file_size(inode)) {
		fs_reply(req, -EPERM);
		return;
	}
	object = file_object(fs, inode, flags);
	if (fi->writepage)
		space_arrived(fs, inode, length);
	else if (fi->fh == FILE_HANDLE_APPENDS || (fi->flags & O_DIRECT) != 0)
		space_claim(fs, req, inode, length, &claim);
	/* Else the kernel writes through, with the page locked that a flush would wait for: it has asked, as any write(). */
	if (object != NULL)
		n = object_write(fs->store, object, buf, length, (uint64_t)off, flags);
	space_claimed(fs, &claim);
	/* Nobody should have been let write this: whoever did, shall ask from now on. */
	if (fi->writepage && n < (ssize_t)length)
		session_attrs_changed(fs->session, ino);
	if (n < 0) {
		space_changed(fs);
		quota_changed(fs, inode);
		fs_reply(req, (int)n);
		return;
	}
	file_changed(fs, inode,
		     &(struct file_change){
			     .end = n > 0 ? (uint64_t)off + (uint64_t)n : 0,
			     /* The writeback cache keeps the times itself and sends them in a SETATTR. */
			     .touch = !(fi->writepage && fs->cache == SPILLFS_CACHE_KERNEL),
			     .kill = file_kill(req, inode, fi->kill_suidgid),
			     .keep_capability = fi->writepage,
		     });
	/* The kernel takes a short reply to a write from its cache for a whole one, and the rest would be lost in silence. */
	if (fi->writepage && (size_t)n < length)
		fs_reply(req, -ENOSPC);
	else
		fuse_reply_write(req, (size_t)n);
}

/* --- truncate --------------------------------------------------------------------------------------------------- */

/*
 * Shrinking lowers the size first, so that no read finds the zeroes behind the new end.  Then the rest of the
 * last page is zeroed, which may need the disk; if that fails, the old size comes back and nothing has
 * happened.  Erasing whole pages cannot fail.  As whatever lies behind the end is gone or zero at all times,
 * growing is setting the size.
 */
int file_truncate(struct fs *fs, struct inode *inode, uint64_t size, enum inode_kill kill)
{
	const uint64_t whole = (size + SS_PAGE_SIZE - 1) & ~(uint64_t)(SS_PAGE_SIZE - 1);
	struct ss_object *object = atomic_load(&inode->object);
	uint64_t old = 0;
	int err = 0;

	if (size > FILE_SIZE_MAX)
		return -EFBIG;
	pthread_mutex_lock(&inode->lock);
	old = inode->size;
	if (size < old)
		inode->size = size;
	pthread_mutex_unlock(&inode->lock);

	if (object != NULL && size < old && size < whole)
		err = object_erase(fs->store, object, size, whole);
	/* Also with the size as it was: fallocate may have set pages aside behind it. */
	if (object != NULL && err == 0 && size <= old)
		err = object_erase(fs->store, object, whole, UINT64_MAX);

	pthread_mutex_lock(&inode->lock);
	inode->size = err == 0 ? size : old;
	if (err == 0) {
		inode_touch_locked(inode, TOUCH_MTIME | TOUCH_CTIME);
		inode_kill_suidgid_locked(inode, kill);
	}
	pthread_mutex_unlock(&inode->lock);
	if (err == 0)
		inode_kill_capability(fs, inode);
	space_changed(fs);
	quota_changed(fs, inode);
	return err;
}

/*
 * No flush and no fsync: both are answered ENOSYS once, which the kernel takes for success from then on,
 * having written back its dirty pages before it asks.  There is nothing further down that could be flushed.
 * No locks either: without them the kernel does flock, POSIX and OFD locks on its own.
 */
void fs_ops_files(struct fuse_lowlevel_ops *ops)
{
	ops->open = file_open;
	ops->release = file_release;
	ops->read = file_read;
	ops->write = file_write;
	file_ops_ranges(ops);
}
