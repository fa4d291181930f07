/* SPDX-License-Identifier: MIT */
/*
 * space_impl.h: what claim.c needs of space.c.  All under fs->space.lock, but for space_payer() and space_unsent_pages().
 */
#ifndef FUSE_FS_SPACE_IMPL_H
#define FUSE_FS_SPACE_IMPL_H

#include "fuse-fs/fs.h"
#include "fuse-fs/quota.h"

/* Whose limits what this caller adds to this inode is held to; NULL: nobody's. */
const struct quota_owner *space_payer(fuse_req_t req, const struct inode *inode);

/* The most that the kernel may hold and not have sent. */
uint64_t space_unsent_pages(struct fs *fs);

/* Does what payer owes count against this limit?  of: NULL for the store's own. */
bool space_counts_against(const struct quota_owner *payer, const struct quota_id *of);

void space_asks_again_locked(struct space *sp, pid_t pid, uint64_t ino);

/* Do what is promised or claimed and so much more fit?  Also where more than plenty is left, whatever is promised. */
bool space_fits_locked(struct fs *fs, const struct quota_owner *payer, uint64_t need, uint64_t plenty);

/*
 * Until what is promised or claimed and `need` pages more fit, or nothing is, or there is no page left.  Drops the lock
 * and waits for flushes: in the flusher's thread alone.
 */
void space_settle_locked(struct fs *fs, const struct quota_owner *payer, uint64_t need);

#endif
