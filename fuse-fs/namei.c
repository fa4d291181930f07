/* SPDX-License-Identifier: MIT */
/*
 * namei: the operations on names but rename: lookup and forget, everything that creates, links and removes.  Owns
 * nothing.  They all have one shape: bring memory (no lock held, may wait), take fs->ns for writing, look
 * again, change or refuse, unlock, free what was left over or fell out, reply.  What a process may do, the
 * kernel has checked (default_permissions); it also holds its own locks on the directories involved, and keeps
 * a directory from being moved into itself.  What it checks of existence and type is checked here again.
 */
#include "fuse-fs/namei.h"

#include "fuse-fs/acl.h"
#include "fuse-fs/flags.h"
#include "swapstore/util.h"

#include <limits.h>
#include <string.h>

/* One tree for the inode table, two directories: more no operation changes. */
#define NAMEI_NODES (3 * TREE_MAX_DEPTH)

void namei_finish(struct fs *fs, struct namei_work *w)
{
	ss_stash_drain(fs->store, &w->stash);
	if (w->de)
		dentry_free(fs, w->de);
	if (w->old)
		dentry_free(fs, w->old);
	if (w->inode)
		inode_free(fs, w->inode);
	if (w->dead)
		inode_free(fs, w->dead);
}

int namei_bring_name(struct fs *fs, struct namei_work *w, const char *name)
{
	size_t len = strlen(name);

	if (len > FS_NAME_MAX)
		return -ENAMETOOLONG;
	w->de = dentry_new(fs, name, len);
	if (!w->de)
		return -ENOSPC;
	return ss_stash_fill(fs->store, &w->stash, NAMEI_NODES);
}

/* The kernel keeps the directory as it is while something is created in it. */
static gid_t namei_group_in(struct inode *dir, gid_t otherwise)
{
	UTIL_LOCKED(&dir->lock);

	return dir->mode & S_ISGID ? dir->gid : otherwise;
}

int namei_bring_inode(struct namei_work *w, fuse_req_t req, fuse_ino_t parent, mode_t mode, dev_t rdev)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct inode *dir = inode_get(fs_of(req), parent);

	return dir ? inode_new(fs_of(req), mode, ctx->uid, namei_group_in(dir, ctx->gid), rdev, &w->inode) : -ESTALE;
}

int namei_dir_locked(struct fs *fs, uint64_t ino, struct inode **dir)
{
	*dir = inode_find_locked(fs, ino);
	if (!*dir)
		return -ESTALE;
	if (!S_ISDIR((*dir)->mode))
		return -ENOTDIR;
	if ((*dir)->nlink == 0)
		return -ENOENT; /* removed, but still open or somebody's working directory */
	return flags_refuse(*dir, FS_IMMUTABLE_FL);
}

struct dentry *namei_find_locked(struct fs *fs, struct inode *dir, const char *name)
{
	return dentry_find_locked(fs, dir->ino, name, strlen(name));
}

void namei_add_nlink(struct inode *inode, int n, unsigned touch)
{
	UTIL_LOCKED(&inode->lock);

	assert(n >= 0 || inode->nlink >= (uint32_t)-n);
	inode->nlink += (uint32_t)n;
	inode_touch_locked(inode, touch);
}

void namei_drop_locked(struct fs *fs, struct inode *inode, struct namei_work *w)
{
	namei_add_nlink(inode, S_ISDIR(inode->mode) ? -(int)inode->nlink : -1, TOUCH_CTIME);
	if (inode_detach_if_dead_locked(fs, inode, &w->stash))
		w->dead = inode;
}

void namei_inherit(struct inode *dir, struct inode *inode)
{
	UTIL_LOCKED(&dir->lock);

	inode->flags = dir->flags & FLAGS_INHERITED;
	/* A file's own sgid, if its maker is not in the group, the kernel has taken away already. */
	if (dir->mode & S_ISGID && S_ISDIR(inode->mode))
		inode->mode |= S_ISGID;
}

/* --- lookup and forget ---------------------------------------------------------------------------------- */

/* 0 and *found held, or NULL: no such name, which the kernel may remember as well. */
static int namei_lookup_locked(struct fs *fs, fuse_ino_t parent, const char *name, struct inode **found)
{
	struct inode *dir = inode_find_locked(fs, parent);

	*found = NULL;
	if (!dir)
		return -ESTALE;
	if (strcmp(name, ".") == 0) { /* open_by_handle_at() and NFS ask so, for any type */
		if (dir->nlink == 0) /* whoever has it open needs no LOOKUP: the last RELEASE or FORGET is on its way */
			return -ESTALE;
		*found = dir;
	} else if (!S_ISDIR(dir->mode)) {
		return -ENOTDIR;
	} else if (strcmp(name, "..") == 0) {
		*found = inode_find_locked(fs, dir->dir.parent_ino);
		if (!*found)
			return -ESTALE;
	} else {
		struct dentry *de = namei_find_locked(fs, dir, name);

		*found = de ? de->inode : NULL;
	}
	if (*found)
		inode_hold_locked(fs, *found);
	return 0;
}

/* Tells the kernel of an inode that has been held for this reply. */
static void namei_reply_entry_for(fuse_req_t req, struct fs *fs, struct inode *inode, double timeout)
{
	struct fuse_entry_param e;

	inode_entry(fs, inode, &e);
	e.attr_timeout = timeout;
	if (fuse_reply_entry(req, &e) != 0)
		inode_forget(fs, e.ino, 1);
}

static void namei_reply_entry(fuse_req_t req, struct fs *fs, struct inode *inode)
{
	namei_reply_entry_for(req, fs, inode, fs_attr_timeout(fs, inode));
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct inode *found;
	int err;

	if (strlen(name) > FS_NAME_MAX) {
		fs_reply(req, -ENAMETOOLONG);
		return;
	}
	pthread_rwlock_rdlock(&fs->ns);
	err = namei_lookup_locked(fs, parent, name, &found);
	pthread_rwlock_unlock(&fs->ns);

	if (err) {
		fs_reply(req, err);
	} else if (found) {
		namei_reply_entry(req, fs, found);
	} else {
		struct fuse_entry_param none = { .entry_timeout = FS_TIMEOUT_FOREVER };

		fuse_reply_entry(req, &none);
	}
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	inode_forget(fs_of(req), ino, nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		inode_forget(fs_of(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* --- new inodes ----------------------------------------------------------------------------------------- */

/* Gives the new inode its number; without a name it is a temporary file's (O_TMPFILE). */
static int namei_add_locked(struct fs *fs, fuse_ino_t parent, bool named, struct namei_work *w)
{
	struct inode *inode = w->inode, *dir;
	bool is_dir = S_ISDIR(inode->mode);
	int err = namei_dir_locked(fs, parent, &dir);

	if (err)
		return err;
	if (named && dentry_find_locked(fs, parent, w->de->name, w->de->name_len))
		return -EEXIST;
	namei_inherit(dir, inode);
	err = inode_insert_locked(fs, inode, &w->stash);
	if (err)
		return err;
	if (named) {
		if (is_dir)
			inode->dir.parent_ino = parent;
		inode->nlink = is_dir ? 2 : 1;
		err = dentry_link_locked(fs, dir, w->de, inode, &w->stash);
		assert(err == 0); /* the stash was filled for both trees */
		w->de = NULL;
		namei_add_nlink(dir, is_dir, TOUCH_MTIME | TOUCH_CTIME);
	}
	inode_hold_locked(fs, inode);
	w->found = inode;
	w->inode = NULL;
	return 0;
}

/* Creates an inode, with a name if there is one; w->inode has been brought if the type needs more than this. */
static int namei_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
			struct namei_work *w)
{
	struct fs *fs = fs_of(req);
	int err = w->inode ? 0 : namei_bring_inode(w, req, parent, mode, rdev);

	if (!err)
		err = acl_inherit(fs, parent, w->inode, fuse_req_ctx(req)->umask);
	if (!err)
		err = name ? namei_bring_name(fs, w, name) : ss_stash_fill(fs->store, &w->stash, NAMEI_NODES);
	if (!err) {
		pthread_rwlock_wrlock(&fs->ns);
		err = namei_add_locked(fs, parent, name != NULL, w);
		pthread_rwlock_unlock(&fs->ns);
	}
	namei_finish(fs, w);
	space_changed(fs);
	return err;
}

static void namei_create_reply(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct namei_work w = { 0 };
	int err = namei_create(req, parent, name, mode, rdev, &w);

	if (err)
		fs_reply(req, err);
	else
		namei_reply_entry(req, fs_of(req), w.found);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode) && !S_ISCHR(mode) && !S_ISBLK(mode))
		fs_reply(req, -EINVAL);
	else
		namei_create_reply(req, parent, name, mode, S_ISCHR(mode) || S_ISBLK(mode) ? rdev : 0);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	namei_create_reply(req, parent, name, S_IFDIR | (mode & 07777), 0);
}

/* Brings an inode with its target. */
static int namei_bring_symlink(struct namei_work *w, fuse_req_t req, fuse_ino_t parent, const char *target)
{
	size_t len = strlen(target);
	int err;

	if (len >= PATH_MAX)
		return -ENAMETOOLONG;
	err = namei_bring_inode(w, req, parent, S_IFLNK | 0777, 0);
	if (err)
		return err;
	w->inode->target = ss_alloc(fs_of(req)->store, len + 1);
	if (!w->inode->target)
		return -ENOSPC;
	memcpy(w->inode->target, target, len);
	w->inode->size = len;
	return 0;
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct namei_work w = { 0 };
	int err = namei_bring_symlink(&w, req, parent, target);

	if (err)
		namei_finish(fs, &w);
	else
		err = namei_create(req, parent, name, S_IFLNK | 0777, 0, &w);
	if (err)
		fs_reply(req, err);
	else
		namei_reply_entry(req, fs, w.found);
}

/* Creates and opens: a file with a name, or (name NULL) a temporary one. */
static void namei_create_open(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
			      struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct namei_work w = { 0 };
	struct fuse_entry_param e;
	int err = namei_create(req, parent, name, S_IFREG | (mode & 07777), 0, &w);

	if (!err) {
		err = file_opened(fs, w.found, fi);
		if (err) /* the file is there, but not open */
			inode_forget(fs, w.found->ino, 1);
	}
	if (err) {
		fs_reply(req, err);
		return;
	}
	inode_entry(fs, w.found, &e);
	if (fuse_reply_create(req, &e, fi) != 0) {
		file_closed(fs, w.found, fi);
		inode_forget(fs, e.ino, 1);
	}
}

/* The name is new, O_EXCL or not: the kernel has looked it up with the directory locked. */
static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	namei_create_open(req, parent, name, mode, fi);
}

static void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	namei_create_open(req, parent, NULL, mode, fi);
}

/* --- link, unlink, rmdir -------------------------------------------------------------------------------- */

static int namei_link_locked(struct fs *fs, fuse_ino_t ino, fuse_ino_t parent, struct namei_work *w)
{
	struct inode *inode = inode_find_locked(fs, ino), *dir;
	int err = namei_dir_locked(fs, parent, &dir);

	if (err)
		return err;
	if (!inode)
		return -ESTALE;
	if (S_ISDIR(inode->mode))
		return -EPERM;
	if (flags_refuse(inode, FLAGS_FIXED))
		return -EPERM;
	if (inode->nlink == UINT32_MAX)
		return -EMLINK;
	if (dentry_find_locked(fs, parent, w->de->name, w->de->name_len))
		return -EEXIST;
	err = dentry_link_locked(fs, dir, w->de, inode, &w->stash);
	if (err)
		return err;
	w->de = NULL;
	/* No name before: a temporary file gets its first.  The kernel lets no other inode without one come here. */
	namei_add_nlink(inode, 1, TOUCH_CTIME);
	inode_touch(dir, TOUCH_MTIME | TOUCH_CTIME);
	inode_hold_locked(fs, inode);
	w->found = inode;
	return 0;
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct fs *fs = fs_of(req);
	struct namei_work w = { 0 };
	int err = namei_bring_name(fs, &w, newname);

	if (!err) {
		pthread_rwlock_wrlock(&fs->ns);
		err = namei_link_locked(fs, ino, newparent, &w);
		pthread_rwlock_unlock(&fs->ns);
	}
	namei_finish(fs, &w);
	if (err)
		fs_reply(req, err);
	else
		namei_reply_entry_for(req, fs, w.found, fs_attr_timeout_late(fs, w.found));
}

int namei_may_take_out(struct inode *dir, struct inode *inode)
{
	return flags_refuse(dir, FS_APPEND_FL) || flags_refuse(inode, FLAGS_FIXED) ? -EPERM : 0;
}

/* Removing gives tree nodes back and needs none: it works when no memory is left. */
static int namei_remove_locked(struct fs *fs, fuse_ino_t parent, const char *name, bool is_dir, struct namei_work *w)
{
	struct inode *dir;
	struct dentry *de;
	int err = namei_dir_locked(fs, parent, &dir);

	if (err)
		return err;
	de = namei_find_locked(fs, dir, name);
	if (!de)
		return -ENOENT;
	if (namei_may_take_out(dir, de->inode))
		return -EPERM;
	if (S_ISDIR(de->inode->mode) != is_dir)
		return is_dir ? -ENOTDIR : -EISDIR;
	if (is_dir && de->inode->dir.nentries != 0)
		return -ENOTEMPTY;
	dentry_unlink_locked(fs, dir, de, &w->stash);
	w->old = de;
	namei_add_nlink(dir, is_dir ? -1 : 0, TOUCH_MTIME | TOUCH_CTIME);
	namei_drop_locked(fs, de->inode, w);
	return 0;
}

static void namei_remove_reply(fuse_req_t req, fuse_ino_t parent, const char *name, bool is_dir)
{
	struct fs *fs = fs_of(req);
	struct namei_work w = { 0 };
	int err = -ENAMETOOLONG;

	if (strlen(name) <= FS_NAME_MAX) {
		pthread_rwlock_wrlock(&fs->ns);
		err = namei_remove_locked(fs, parent, name, is_dir, &w);
		pthread_rwlock_unlock(&fs->ns);
		namei_finish(fs, &w);
	}
	fs_reply(req, err);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	namei_remove_reply(req, parent, name, false);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	namei_remove_reply(req, parent, name, true);
}

void fs_ops_names(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = op_lookup;
	ops->forget = op_forget;
	ops->forget_multi = op_forget_multi;
	ops->mknod = op_mknod;
	ops->mkdir = op_mkdir;
	ops->symlink = op_symlink;
	ops->create = op_create;
	ops->tmpfile = op_tmpfile;
	ops->link = op_link;
	ops->unlink = op_unlink;
	ops->rmdir = op_rmdir;
	rename_ops(ops);
}
