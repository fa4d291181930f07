/* SPDX-License-Identifier: MIT */
/*
 * attr: the operations on an inode's attributes: getattr, statx, setattr, readlink, and statfs for the mount.
 * Owns nothing; what it changes is guarded by inode->lock.  Who may change what, the kernel has checked
 * (default_permissions); what a change does to suid, sgid and capabilities is decided here.
 */
#include "fuse-fs/flags.h"
#include "fuse-fs/quota.h"
#include "swapstore/util.h"

#include <limits.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#define ATTR_KILL  (FUSE_SET_ATTR_KILL_SUID | FUSE_SET_ATTR_KILL_SGID)
#define ATTR_OWNER (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)

static void attr_reply(fuse_req_t req, struct inode *inode, double timeout)
{
	struct stat st;

	inode_stat(inode, &st);
	fuse_reply_attr(req, &st, timeout);
}

/* The inode, or NULL and *err.  With a handle this may be a write() that asks whether there is space. */
static struct inode *attr_inode(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi, int *err)
{
	struct inode *inode = inode_get(fs_of(req), ino);

	*err = inode ? 0 : -ESTALE;
	if (inode && fi && S_ISREG(inode->mode))
		*err = file_may_write(req, inode, fi);
	return *err ? NULL : inode;
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	int err;
	struct inode *inode = attr_inode(req, ino, fi, &err);

	if (inode)
		attr_reply(req, inode, fs_attr_timeout(fs, inode));
	else
		fs_reply(req, err);
}

/* --- statx ---------------------------------------------------------------------------------------------- */

static struct statx_timestamp attr_statx_time(struct timespec ts)
{
	return (struct statx_timestamp){ .tv_sec = ts.tv_sec, .tv_nsec = (uint32_t)ts.tv_nsec };
}

static void attr_fill_statx(const struct stat *st, struct timespec btime, struct statx *stx)
{
	memset(stx, 0, sizeof(*stx));
	stx->stx_mask = STATX_BASIC_STATS | STATX_BTIME;
	stx->stx_blksize = (uint32_t)st->st_blksize;
	stx->stx_nlink = (uint32_t)st->st_nlink;
	stx->stx_uid = st->st_uid;
	stx->stx_gid = st->st_gid;
	stx->stx_mode = (uint16_t)st->st_mode;
	stx->stx_ino = st->st_ino;
	stx->stx_size = (uint64_t)st->st_size;
	stx->stx_blocks = (uint64_t)st->st_blocks;
	stx->stx_atime = attr_statx_time(st->st_atim);
	stx->stx_btime = attr_statx_time(btime);
	stx->stx_ctime = attr_statx_time(st->st_ctim);
	stx->stx_mtime = attr_statx_time(st->st_mtim);
	stx->stx_rdev_major = major(st->st_rdev);
	stx->stx_rdev_minor = minor(st->st_rdev);
	/* stx_dev: the kernel puts the mount's own there. */
}

static void op_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	int err;
	struct inode *inode = attr_inode(req, ino, fi, &err);
	struct statx stx;
	struct stat st;
	double timeout;

	(void)flags; /* AT_STATX_*_SYNC: there is no remote side to be in step with */
	(void)mask;  /* all of it costs the same */
	if (!inode) {
		fs_reply(req, err);
		return;
	}
	timeout = fs_attr_timeout(fs, inode);
	inode_stat(inode, &st);
	attr_fill_statx(&st, inode->btime, &stx);
	fuse_reply_statx(req, 0, &stx, timeout);
}

/* --- setattr -------------------------------------------------------------------------------------------- */

/* A change of owner does, and so does one that sets nothing: chown() to the owner -1. */
static bool attr_takes_privileges(int to_set)
{
	return (to_set & (ATTR_OWNER | ATTR_KILL)) || (to_set & ~FUSE_SET_ATTR_CTIME) == 0;
}

/* With a writeback cache a chown() brings the ctime; without one, it is a write by root, who keeps suid and sgid. */
static bool attr_takes_capability_alone(struct fs *fs, struct inode *inode, int to_set)
{
	return to_set == 0 && fs->cache == SPILLFS_CACHE_KERNEL && S_ISREG(inode->mode);
}

/* The kernel lets anybody make a chown() that sets nothing, which tmpfs refuses to all but the owner. */
static bool attr_may_take_bits(fuse_req_t req, struct inode *inode, int to_set)
{
	const uid_t uid = fuse_req_ctx(req)->uid;
	struct stat st;

	if (to_set & (ATTR_OWNER | ATTR_KILL))
		return true;
	inode_stat(inode, &st);
	return uid == 0 || uid == st.st_uid;
}

/* All but the size, and whatever follows from the change. */
static void attr_set_locked(struct inode *inode, const struct stat *attr, int to_set, bool takes_bits)
{
	unsigned now = to_set & FUSE_SET_ATTR_CTIME ? 0 : TOUCH_CTIME;

	inode_assert_locked(inode);
	if (to_set & FUSE_SET_ATTR_UID)
		inode->uid = attr->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		inode->gid = attr->st_gid;
	/* As tmpfs: a change of owner takes suid away even if root makes it; directories keep their bits. */
	if (takes_bits)
		inode_kill_suidgid_locked(inode, INODE_KILL_BITS);
	if (to_set & FUSE_SET_ATTR_MODE)
		inode->mode = (inode->mode & S_IFMT) | (attr->st_mode & 07777);

	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		now |= TOUCH_ATIME;
	else if (to_set & FUSE_SET_ATTR_ATIME)
		inode->atime = attr->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		now |= TOUCH_MTIME;
	else if (to_set & FUSE_SET_ATTR_MTIME)
		inode->mtime = attr->st_mtim;
	if (to_set & FUSE_SET_ATTR_CTIME)
		inode->ctime = attr->st_ctim;
	inode_touch_locked(inode, now);
}

/* Before the owner changes: its quotas.  Only setattr changes it, which the kernel sends one at a time for an inode. */
static int attr_transfer(fuse_req_t req, struct inode *inode, const struct stat *attr, int to_set)
{
	struct stat st;

	inode_stat(inode, &st);
	return quota_transfer(fs_of(req), inode, to_set & FUSE_SET_ATTR_UID ? attr->st_uid : st.st_uid,
			      to_set & FUSE_SET_ATTR_GID ? attr->st_gid : st.st_gid, quota_is_privileged(req));
}

static int attr_set(fuse_req_t req, struct inode *inode, const struct stat *attr, int to_set)
{
	const int original = to_set;
	struct fs *fs = fs_of(req);
	const bool takes_privileges = attr_takes_privileges(to_set) && !S_ISDIR(inode->mode);
	bool takes_bits;

	if (to_set & FUSE_SET_ATTR_SIZE) {
		int err;

		if (!S_ISREG(inode->mode))
			return S_ISDIR(inode->mode) ? -EISDIR : -EINVAL;
		if (attr->st_size < 0)
			return -EINVAL;
		err = file_truncate(fs, inode, (uint64_t)attr->st_size, file_kill(req, inode, to_set & ATTR_KILL));
		if (err)
			return err;
		/* That has set times and dropped bits already; but a time that came with it counts for more. */
		to_set &= ~(FUSE_SET_ATTR_SIZE | ATTR_KILL);
		if (to_set == 0)
			return 0;
	}
	if (to_set & ATTR_OWNER) {
		int err = attr_transfer(req, inode, attr, to_set);

		if (err)
			return err;
	}

	takes_bits = takes_privileges && !attr_takes_capability_alone(fs, inode, original) &&
		     attr_may_take_bits(req, inode, original);
	pthread_mutex_lock(&inode->lock);
	attr_set_locked(inode, attr, to_set, takes_bits);
	pthread_mutex_unlock(&inode->lock);

	if (takes_privileges)
		xattr_drop_capability(fs, inode);
	return 0;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *inode = inode_get(fs, ino);
	int err = inode ? flags_may_set_attr(inode, to_set, fi) : -ESTALE;

	if (!err)
		err = attr_set(req, inode, attr, to_set);
	if (err)
		fs_reply(req, err);
	else
		attr_reply(req, inode, fs_attr_timeout_late(fs, inode));
}

/* --- the rest ------------------------------------------------------------------------------------------- */

/* The target never changes, but goes with the inode, which may go as soon as the kernel has the answer. */
static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct inode *inode = inode_get(fs_of(req), ino);
	char target[PATH_MAX];

	if (!inode || !S_ISLNK(inode->mode)) {
		fs_reply(req, inode ? -EINVAL : -ESTALE);
		return;
	}
	inode_touch_read(fs_of(req), inode);
	memcpy(target, inode->target, inode->size + 1);
	fuse_reply_readlink(req, target);
}

static uint64_t attr_less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	uint64_t left = swapstore_pages_left(fs->store);
	uint64_t inodes = atomic_load(&fs->inodes_used);
	struct swapstore_stats stats;
	struct statvfs sv = { .f_bsize = SS_PAGE_SIZE, .f_frsize = SS_PAGE_SIZE, .f_namemax = FS_NAME_MAX };

	(void)ino;
	swapstore_get_stats(fs->store, &stats);
	sv.f_blocks = stats.size_limit_pages;
	sv.f_bfree = attr_less(stats.size_limit_pages, stats.size_used_pages);
	/* What may really be written can be less: memory for bookkeeping counts, too. */
	sv.f_bavail = left < sv.f_bfree ? left : sv.f_bfree;
	/* No limit on inodes: 0 of 0, as tmpfs says it. */
	sv.f_files = fs->inodes_limit;
	sv.f_ffree = sv.f_favail = attr_less(fs->inodes_limit, inodes);
	fuse_reply_statfs(req, &sv);
}

void fs_ops_attrs(struct fuse_lowlevel_ops *ops)
{
	ops->getattr = op_getattr;
	ops->setattr = op_setattr;
	ops->statx = op_statx;
	ops->readlink = op_readlink;
	ops->statfs = op_statfs;
}
