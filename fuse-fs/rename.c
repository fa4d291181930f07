/* SPDX-License-Identifier: MIT */
/*
 * rename: the one operation that changes two directories: moves, exchanges, whiteouts.  Owns nothing; it has the
 * shape of all operations on names (namei.c) and works under fs->ns, held for writing.  Called by workers.
 */
#include "fuse-fs/namei.h"

#include <stdio.h>
#include <string.h>

struct rename_ends {
	struct inode *from, *to;
	struct dentry *src, *dst; /* dst: NULL if the new name is free */
};

/* Finds both ends, or says why the rename may not be. */
static int rename_ends_locked(struct fs *fs, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
			      const char *newname, unsigned flags, struct rename_ends *ends)
{
	struct inode *over;
	int err = namei_dir_locked(fs, parent, &ends->from);

	if (!err)
		err = namei_dir_locked(fs, newparent, &ends->to);
	if (err)
		return err;
	ends->src = namei_find_locked(fs, ends->from, name);
	ends->dst = namei_find_locked(fs, ends->to, newname);
	if (!ends->src)
		return -ENOENT;
	if (namei_may_take_out(ends->from, ends->src->inode) ||
	    (ends->dst && namei_may_take_out(ends->to, ends->dst->inode)))
		return -EPERM;
	if (flags & RENAME_EXCHANGE)
		return ends->dst ? 0 : -ENOENT;
	if (!ends->dst)
		return 0;
	if (flags & RENAME_NOREPLACE)
		return -EEXIST;
	over = ends->dst->inode;
	if (S_ISDIR(ends->src->inode->mode) != S_ISDIR(over->mode))
		return S_ISDIR(over->mode) ? -EISDIR : -ENOTDIR;
	if (S_ISDIR(over->mode) && over != ends->src->inode && over->dir.nentries != 0)
		return -ENOTEMPTY;
	return 0;
}

/* The inode's name is now in to. */
static void rename_moved(struct inode *inode, struct inode *from, struct inode *to)
{
	if (S_ISDIR(inode->mode)) {
		inode->dir.parent_ino = to->ino;
		namei_add_nlink(from, -1, 0);
		namei_add_nlink(to, 1, 0);
	}
	inode_touch(inode, TOUCH_CTIME);
}

static void rename_exchange_locked(struct rename_ends *ends)
{
	struct inode *inode = ends->src->inode, *other = ends->dst->inode;

	ends->src->inode = other;
	ends->dst->inode = inode;
	rename_moved(inode, ends->from, ends->to);
	rename_moved(other, ends->to, ends->from);
}

/* What stays under the old name: nothing, or a whiteout (a character device 0/0, which overlayfs hides by). */
static void rename_vacate_locked(struct fs *fs, struct rename_ends *ends, struct namei_work *w)
{
	int err;

	if (!w->inode) {
		dentry_unlink_locked(fs, ends->from, ends->src, &w->stash);
		w->old = ends->src;
		return;
	}
	namei_inherit(ends->from, w->inode);
	err = inode_insert_locked(fs, w->inode, &w->stash);
	assert(err == 0); /* the stash is full: the caller has looked at short_of */
	(void)err;
	w->inode->nlink = 1;
	ends->src->inode = w->inode;
	w->inode = NULL;
}

/*
 * A name that exists is pointed at the other inode, so replacing a file, as editors and databases do to commit,
 * needs no memory.
 */
static int rename_move_locked(struct fs *fs, struct rename_ends *ends, struct namei_work *w, unsigned flags)
{
	struct inode *inode = ends->src->inode;
	struct inode *over = ends->dst ? ends->dst->inode : NULL;

	if (w->short_of && (!over || (flags & RENAME_WHITEOUT)))
		return w->short_of;
	if (over) {
		ends->dst->inode = inode;
	} else {
		int err = dentry_link_locked(fs, ends->to, w->de, inode, &w->stash);

		if (err)
			return err;
		w->de = NULL;
	}
	rename_vacate_locked(fs, ends, w);
	rename_moved(inode, ends->from, ends->to);
	if (over) {
		if (S_ISDIR(over->mode))
			namei_add_nlink(ends->to, -1, 0);
		namei_drop_locked(fs, over, w);
	}
	return 0;
}

static int rename_locked(struct fs *fs, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
			 unsigned flags, struct namei_work *w)
{
	struct rename_ends ends;
	int err = rename_ends_locked(fs, parent, name, newparent, newname, flags, &ends);

	/* Two names of one inode: POSIX has nothing happen. */
	if (err || (ends.dst && ends.dst->inode == ends.src->inode))
		return err;
	if (flags & RENAME_EXCHANGE)
		rename_exchange_locked(&ends);
	else
		err = rename_move_locked(fs, &ends, w, flags);
	if (err)
		return err;
	inode_touch(ends.from, TOUCH_MTIME | TOUCH_CTIME);
	if (ends.to != ends.from)
		inode_touch(ends.to, TOUCH_MTIME | TOUCH_CTIME);
	return 0;
}

static bool rename_flags_ok(unsigned flags)
{
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return false;
	return !(flags & RENAME_EXCHANGE) || flags == RENAME_EXCHANGE;
}

static void rename_op(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
		      unsigned int flags)
{
	struct fs *fs = fs_of(req);
	struct namei_work w = { 0 };
	int err = 0;

	if (!rename_flags_ok(flags))
		err = -EINVAL;
	else if (strlen(name) > FS_NAME_MAX || strlen(newname) > FS_NAME_MAX)
		err = -ENAMETOOLONG;
	if (err) {
		fs_reply(req, err);
		return;
	}
	if (!(flags & RENAME_EXCHANGE))
		w.short_of = namei_bring_name(fs, &w, newname);
	if (!w.short_of && (flags & RENAME_WHITEOUT))
		w.short_of = namei_bring_inode(&w, req, parent, S_IFCHR, 0);

	pthread_rwlock_wrlock(&fs->ns);
	err = rename_locked(fs, parent, name, newparent, newname, flags, &w);
	pthread_rwlock_unlock(&fs->ns);

	namei_finish(fs, &w);
	fs_reply(req, err);
}

void rename_ops(struct fuse_lowlevel_ops *ops)
{
	ops->rename = rename_op;
}
