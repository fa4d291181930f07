/* SPDX-License-Identifier: MIT */
/*
 * file: what file.c, range.c and space.c share about regular files.  The rest of fuse-fs needs only fs.h.
 */
#ifndef FUSE_FS_FILE_H
#define FUSE_FS_FILE_H

#include "fuse-fs/fs.h"

/* As the kernel's loff_t. */
#define FILE_SIZE_MAX INT64_MAX

/* May this handle of a regular file write?  From fi->fh, so also where the kernel tells no open flags. */
bool file_handle_writes(const struct fuse_file_info *fi);

uint64_t file_size(struct inode *inode);

/*
 * The file's pages.  Made at the first need, as many files stay empty for ever; until then inode->object is NULL, and
 * all of the file is a hole.  write_flags: of the write that needs them.  May wait for memory: no lock.  NULL when the
 * RAM cap leaves none.
 */
struct ss_object *file_object(struct fs *fs, struct inode *inode, unsigned write_flags);

/* With which flags of object_write() this request may take room: root is not held to quotas. */
unsigned file_write_flags(fuse_req_t req);

/* After data has changed: a new end (0: none), times, suid bits; and file capabilities. */
struct file_change {
	uint64_t end;
	bool touch;
	enum inode_kill kill;
	bool keep_capability; /* the kernel has seen to it when it took the data */
};
void file_changed(struct fs *fs, struct inode *inode, const struct file_change *change);

/* range.c's part of fs_ops_files() */
void file_ops_ranges(struct fuse_lowlevel_ops *ops);

#endif
