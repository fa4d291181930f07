/* SPDX-License-Identifier: MIT */
/*
 * acl: POSIX access control lists.  They lie among an inode's extended attributes, as the kernel sends them.
 *
 * What an access ACL says of owner, mask and others is what the mode says of owner, group and others.  The mode
 * alone holds it: it is put into the ACL whenever that is read, so chmod needs neither to change an ACL nor memory.
 * An ACL that says no more than a mode can is not stored.
 */
#ifndef FUSE_FS_ACL_H
#define FUSE_FS_ACL_H

#include "fuse-fs/fs.h"

/* As much as the kernel's FUSE takes of one: a page. */
#define ACL_BYTES_MAX 4096

bool acl_is_name(const char *name);

/*
 * Sets or, with size 0, removes an ACL; an access ACL sets the mode's bits as well.  That none was there is no error.
 * kill_sgid: whoever asks may not keep the file's sgid.  -EINVAL, -E2BIG, -EACCES (a default ACL of what is no
 * directory), -ENOSPC.  May wait for memory: no lock held.
 */
int acl_set(struct fs *fs, struct inode *inode, const char *name, const void *value, size_t size, bool kill_sgid);

/* Copies the ACL to buf.  Returns its length or -ENODATA. */
ssize_t acl_get(struct fs *fs, struct inode *inode, const char *name, char buf[static ACL_BYTES_MAX]);

/*
 * Gives an inode that is in no table yet the ACLs that the directory's default ACL makes for it; where there is none,
 * the umask takes its bits from the mode.  0 or -ENOSPC.  May wait for memory: no lock held.
 */
int acl_inherit(struct fs *fs, uint64_t dir_ino, struct inode *inode, mode_t umask);

#endif
