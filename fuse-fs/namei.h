/* SPDX-License-Identifier: MIT */
/*
 * namei: what namei.c and rename.c share: the shape of an operation on names.  It brings memory (no lock held, may
 * wait), takes fs->ns for writing, looks again, changes or refuses, unlocks, frees what was left over or fell out.
 */
#ifndef FUSE_FS_NAMEI_H
#define FUSE_FS_NAMEI_H

#include "fuse-fs/fs.h"

/* What an operation brings into the lock and takes out of it; all that is still here at the end is freed. */
struct namei_work {
	struct tree_stash stash;
	struct dentry *de;   /* a new name */
	struct inode *inode; /* a new inode, in no table */
	struct dentry *old;  /* a name that was removed */
	struct inode *dead;  /* an inode that lost its last name and has no other reference */
	struct inode *found; /* what the reply is about; held */
	int short_of;	     /* rename: 0, or why what it would bring is not all here */
};

/* No lock held. */
void namei_finish(struct fs *fs, struct namei_work *w);

/* Brings a name and tree nodes.  -ENAMETOOLONG, -ENOSPC; namei_finish() in any case. */
int namei_bring_name(struct fs *fs, struct namei_work *w, const char *name);

/* Brings an inode that belongs to the caller of the request; its group is the directory's if that has sgid. */
int namei_bring_inode(struct namei_work *w, fuse_req_t req, fuse_ino_t parent, mode_t mode, dev_t rdev);

/* The directory of a number, if names may be put into it. */
int namei_dir_locked(struct fs *fs, uint64_t ino, struct inode **dir);

struct dentry *namei_find_locked(struct fs *fs, struct inode *dir, const char *name);

/* fs->ns held for writing; takes the inode's lock. */
void namei_add_nlink(struct inode *inode, int n, unsigned touch);

/* The inode has lost a name: a directory is gone with it, "." included. */
void namei_drop_locked(struct fs *fs, struct inode *inode, struct namei_work *w);

/* May the inode lose its name in dir, for all that chattr knows?  0 or -EPERM. */
int namei_may_take_out(struct inode *dir, struct inode *inode);

/*
 * In a directory with sgid new directories carry the bit on; and some flags of chattr go from a directory to what is
 * new in it.
 */
void namei_inherit(struct inode *dir, struct inode *inode);

/* rename.c's part of fs_ops_names() */
void rename_ops(struct fuse_lowlevel_ops *ops);

#endif
