/* SPDX-License-Identifier: MIT */
/*
 * xattr: what xattr.c and acl.c share: the list of attributes at an inode.  The rest of fuse-fs needs only fs.h.
 */
#ifndef FUSE_FS_XATTR_H
#define FUSE_FS_XATTR_H

#include "fuse-fs/fs.h"

/* A new attribute in no list, with one reference.  May wait for memory; NULL when the RAM cap leaves none. */
struct xattr *xattr_new(struct fs *fs, const char *name, const void *value, size_t value_len);

/* Gives a reference back; xa may be NULL.  No lock held. */
void xattr_put(struct fs *fs, struct xattr *xa);

/* The attribute with a reference for the caller, or NULL.  Takes the lock. */
struct xattr *xattr_get(struct inode *inode, const char *name);

static inline char *xattr_value(struct xattr *xa)
{
	return xa->data + xa->name_len;
}

/* The link that points at the attribute, or at the end of the list.  inode->lock held. */
struct xattr **xattr_find_locked(struct inode *inode, const char *name);

/*
 * Puts xa where xattr_find_locked() has looked, in the place of what is there; xa NULL: that only goes.  Returns
 * what was there, with its reference, for xattr_put() after unlocking.
 */
struct xattr *xattr_replace_locked(struct inode *inode, struct xattr **link, struct xattr *xa);

#endif
