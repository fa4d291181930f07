/* SPDX-License-Identifier: MIT */
/*
 * flags: owns the flags of chattr(1): reads and sets them, and knows what they forbid.  They are changed under
 * inode->lock, and read without.  Called by workers: by ctl.c for its ioctl, by whoever changes an inode to ask.
 */
#include "fuse-fs/flags.h"

#include "fuse-fs/file.h"
#include "fuse-fs/session.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

/* All that may be set, in both forms that the kernel speaks. */
#define FLAGS_KNOWN (FLAGS_FIXED | FLAGS_INHERITED)

static const struct {
	unsigned flag, xflag;
} flags_pairs[] = {
	{ FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE },
	{ FS_APPEND_FL, FS_XFLAG_APPEND },
	{ FS_NODUMP_FL, FS_XFLAG_NODUMP },
	{ FS_NOATIME_FL, FS_XFLAG_NOATIME },
};
#define FLAGS_PAIRS (sizeof(flags_pairs) / sizeof(flags_pairs[0]))

static unsigned flags_of(struct inode *inode)
{
	return atomic_load_explicit(&inode->flags, memory_order_relaxed);
}

static int flags_set(struct fs *fs, struct inode *inode, unsigned flags)
{
	if (flags & ~(unsigned)FLAGS_KNOWN)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&inode->lock);
	atomic_store(&inode->flags, (uint8_t)flags);
	inode_touch_locked(inode, TOUCH_CTIME);
	pthread_mutex_unlock(&inode->lock);
	/* The kernel does not take an ioctl for a change.  (Of a file under its writeback cache it never asks ctime.) */
	session_attrs_changed(fs->session, inode->ino);
	return 0;
}

static unsigned flags_to_xflags(unsigned flags)
{
	unsigned xflags = 0;

	for (size_t i = 0; i < FLAGS_PAIRS; i++)
		xflags |= flags & flags_pairs[i].flag ? flags_pairs[i].xflag : 0;
	return xflags;
}

/* There are no extents and no projects. */
static int flags_set_fsxattr(struct fs *fs, struct inode *inode, const struct fsxattr *fsx)
{
	unsigned flags = 0;

	for (size_t i = 0; i < FLAGS_PAIRS; i++)
		flags |= fsx->fsx_xflags & flags_pairs[i].xflag ? flags_pairs[i].flag : 0;
	if (flags_to_xflags(flags) != fsx->fsx_xflags || fsx->fsx_extsize || fsx->fsx_cowextsize || fsx->fsx_projid)
		return -EOPNOTSUPP;
	return flags_set(fs, inode, flags);
}

/* --- the ioctls --------------------------------------------------------------------------------------------- */

static void flags_reply_set(fuse_req_t req, int err)
{
	if (err)
		fs_reply(req, err);
	else
		fuse_reply_ioctl(req, 0, NULL, 0);
}

/* The kernel sends an int, whatever the macro of the ioctl says. */
static void flags_do_ioctl(fuse_req_t req, struct inode *inode, unsigned cmd, const void *in, size_t in_size,
			   size_t out_size)
{
	struct fsxattr fsx = { .fsx_xflags = flags_to_xflags(flags_of(inode)) };
	unsigned flags = flags_of(inode);

	if (cmd == FS_IOC_GETFLAGS && out_size >= sizeof(flags)) {
		fuse_reply_ioctl(req, 0, &flags, sizeof(flags));
	} else if (cmd == FS_IOC_FSGETXATTR && out_size >= sizeof(fsx)) {
		fuse_reply_ioctl(req, 0, &fsx, sizeof(fsx));
	} else if (cmd == FS_IOC_SETFLAGS && in_size >= sizeof(flags)) {
		memcpy(&flags, in, sizeof(flags));
		flags_reply_set(req, flags_set(fs_of(req), inode, flags));
	} else if (cmd == FS_IOC_FSSETXATTR && in_size >= sizeof(fsx)) {
		memcpy(&fsx, in, sizeof(fsx));
		flags_reply_set(req, flags_set_fsxattr(fs_of(req), inode, &fsx));
	} else {
		fs_reply(req, -EINVAL);
	}
}

bool flags_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, const void *in, size_t in_size, size_t out_size)
{
	struct inode *inode;

	if (cmd != FS_IOC_GETFLAGS && cmd != FS_IOC_SETFLAGS && cmd != FS_IOC_FSGETXATTR && cmd != FS_IOC_FSSETXATTR)
		return false;
	inode = inode_get(fs_of(req), ino);
	if (inode)
		flags_do_ioctl(req, inode, cmd, in, in_size, out_size);
	else
		fs_reply(req, -ESTALE);
	return true;
}

/* --- what they forbid ----------------------------------------------------------------------------------------- */

int flags_may_open(struct inode *inode, int open_flags)
{
	const bool writes = (open_flags & O_ACCMODE) != O_RDONLY;
	const unsigned flags = flags_of(inode);

	if ((flags & FS_IMMUTABLE_FL) && (writes || (open_flags & O_TRUNC)))
		return -EPERM;
	if ((flags & FS_APPEND_FL) && ((writes && !(open_flags & O_APPEND)) || (open_flags & O_TRUNC)))
		return -EPERM;
	return 0;
}

int flags_may_set_attr(struct inode *inode, int to_set, const struct fuse_file_info *fi)
{
	const unsigned flags = flags_of(inode) & FLAGS_FIXED;
	const bool writer = fi && file_handle_writes(fi);

	if (!flags)
		return 0;
	if (to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		return -EPERM;
	/* Who has opened the file before it became immutable may go on. */
	if (to_set & FUSE_SET_ATTR_SIZE)
		return (flags & FS_APPEND_FL) || !writer ? -EPERM : 0;
	/* Nobody has asked for these: they are the times of writes that the kernel has buffered. */
	if (writer && to_set == (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME))
		return 0;
	if (!(to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)))
		return 0;
	/* What is append-only may be touched; with a writeback cache that is an atime of now and the kernel's mtime. */
	return (flags & FS_IMMUTABLE_FL) || !(to_set & FUSE_SET_ATTR_ATIME_NOW) ? -EPERM : 0;
}

int flags_may_fallocate(struct inode *inode, int mode)
{
	return flags_refuse(inode, FS_IMMUTABLE_FL | (mode & ~FALLOC_FL_KEEP_SIZE ? FS_APPEND_FL : 0));
}
