/* SPDX-License-Identifier: MIT */
/*
 * flags: what chattr(1) sets: +i (immutable), +a (append-only), +d (no dump), +A (no atime), as on tmpfs.
 *
 * Only for regular files and directories, as the kernel asks for no other; what is new inherits d and A.  The kernel
 * has checked that whoever sets them owns the file, and has CAP_LINUX_IMMUTABLE for i and a.  It does not know what
 * they mean in a FUSE mount, so they are honoured here, by the rules that it has for others.
 */
#ifndef FUSE_FS_FLAGS_H
#define FUSE_FS_FLAGS_H

#include "fuse-fs/fs.h"

#include <linux/fs.h>

/* In either case nothing but content may change. */
#define FLAGS_FIXED	(FS_IMMUTABLE_FL | FS_APPEND_FL)
#define FLAGS_INHERITED (FS_NODUMP_FL | FS_NOATIME_FL)

static inline bool flags_has(struct inode *inode, unsigned flags)
{
	return atomic_load_explicit(&inode->flags, memory_order_relaxed) & flags;
}

/* -EPERM if the inode has one of these flags. */
static inline int flags_refuse(struct inode *inode, unsigned flags)
{
	return flags_has(inode, flags) ? -EPERM : 0;
}

/* May a file be opened with these flags of open(2)?  0 or -EPERM. */
int flags_may_open(struct inode *inode, int open_flags);

/* May these attributes be set (FUSE_SET_ATTR_*)?  fi: through which handle, or NULL.  0 or -EPERM. */
int flags_may_set_attr(struct inode *inode, int to_set, const struct fuse_file_info *fi);

/* May fallocate(2) do this?  0 or -EPERM. */
int flags_may_fallocate(struct inode *inode, int mode);

/* Answers an ioctl that is about flags, and returns true; or does nothing. */
bool flags_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, const void *in, size_t in_size, size_t out_size);

#endif
