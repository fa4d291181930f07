/* SPDX-License-Identifier: MIT */
/*
 * quota: what each user and each group has in the mount, and may have at most: inodes, and pages of data.
 *
 *   inode --> quota_owner (uid, gid) --> quota_id (uid): pages, inodes, limits
 *                    |                --> quota_id (gid): the same
 *   object --> ss_payer in it: the store charges each page that comes or goes
 *
 * Semantics are tmpfs's: hard limits alone, the mount's defaults for every id but 0, and root is not held to any.
 * Records are made when an id first owns something or is given a limit, and stay to the end of the mount: so whoever
 * has a pointer to one needs no lock.  Where neither quota is on there are none, and inode->owner is NULL.
 */
#ifndef FUSE_FS_QUOTA_H
#define FUSE_FS_QUOTA_H

#include "fuse-fs/fs.h"

struct quota_id {
	/* set at creation */
	uint32_t id;
	/* atomic */
	struct ss_account pages;
	_Atomic uint64_t inodes, inodes_limit; /* limit: 0 is none */
	_Atomic bool near; /* its limit of pages: fewer are left than the kernel may hold unsent */
};

struct quota_owner {
	struct ss_payer payer; /* points into id[] */
	struct quota_id *id[QUOTA_KINDS]; /* NULL: that quota is off */
};

/* Before the first inode, with fs->quota's "set before" members set; and after the last. */
void quota_init(struct fs *fs);
void quota_destroy(struct fs *fs);

/*
 * A new inode of this owner: counts it, and says in inode->owner who pays.  -EDQUOT; -ENOSPC: no memory for a record.
 * May wait for memory: no lock held.  And its end.  Nothing where there are no quotas.
 */
int quota_charge_inode(struct fs *fs, struct inode *inode);
void quota_uncharge_inode(struct inode *inode);

/* The inode's new object is charged to the inode's owner, and becomes its object unless it has one: returns that one. */
struct ss_object *quota_attach(struct fs *fs, struct inode *inode, struct ss_object *made);

/*
 * Before the inode gets this owner: what it takes moves to the new accounts.  forced: whatever their limits say.
 * -EDQUOT, -ENOSPC as above: nothing has changed.
 */
int quota_transfer(struct fs *fs, struct inode *inode, uid_t uid, gid_t gid, bool forced);

/* Is the inode's owner near a limit of pages?  Atomics alone. */
bool quota_is_near(const struct inode *inode);

/* After pages of the inode came or went, or moved: turns "near" on (and has writers ask) or off. */
void quota_changed(struct fs *fs, const struct inode *inode);

/* Whole pages alone fit below a limit in bytes; but a limit stays one. */
static inline uint64_t quota_limit_pages(uint64_t bytes)
{
	return bytes != 0 && bytes < SS_PAGE_SIZE ? 1 : bytes >> SS_PAGE_SHIFT;
}

/* Who makes this request is not held to limits, as the kernel's ignore_hardlimit(). */
static inline bool quota_is_privileged(fuse_req_t req)
{
	return fuse_req_ctx(req)->uid == 0;
}

/* ctl.c's ioctls about quotas: replies.  False: not one of them. */
bool quota_ioctl(fuse_req_t req, unsigned cmd, const void *in, size_t in_len, size_t out_len);

#endif
