/* SPDX-License-Identifier: MIT */
/*
 * readdir: lists directories.  Owns nothing: it walks a directory's tree of cookies with fs->ns held for
 * reading and copies names into a buffer on its own stack.  The offset that the kernel hands back is the next
 * cookie to look at: 0 is ".", 1 is "..", names begin at 2.  Cookies only grow, so whoever adds or removes
 * names meanwhile makes a walk neither skip a name nor repeat one.
 */
#include "fuse-fs/fs.h"

#include <stddef.h>
#include <string.h>

/* A reply's worth: on the stack, so that a directory can be listed (and emptied) when no memory is left. */
#define READDIR_BYTES	 16384
/* No entry of a readdirplus reply is shorter than its fixed part. */
#define READDIR_PLUS_MAX (READDIR_BYTES / sizeof(struct stat))

struct readdir_reply {
	fuse_req_t req;
	struct fs *fs;
	bool plus;
	size_t used, size;
	unsigned nheld; /* inodes that the reply tells the kernel of: a reference each */
	uint64_t held[READDIR_PLUS_MAX];
	char buf[READDIR_BYTES];
};

/* Adds one entry; next is the offset that continues behind it.  False: no room. */
static bool readdir_add(struct readdir_reply *r, const char *name, const struct fuse_entry_param *e, uint64_t next)
{
	char *at = r->buf + r->used;
	size_t room = r->size - r->used;
	size_t need;

	if (r->plus)
		need = fuse_add_direntry_plus(r->req, at, room, name, e, (off_t)next);
	else
		need = fuse_add_direntry(r->req, at, room, name, &e->attr, (off_t)next);
	if (need > room)
		return false;
	r->used += need;
	return true;
}

/* "." and "..": their number and type, and no reference, which the kernel expects of neither. */
static bool readdir_add_dot(struct readdir_reply *r, const char *name, uint64_t ino, uint64_t next)
{
	struct fuse_entry_param e = { .attr = { .st_ino = ino, .st_mode = S_IFDIR } };

	return readdir_add(r, name, &e, next);
}

static bool readdir_add_name_locked(struct readdir_reply *r, struct dentry *de)
{
	struct fuse_entry_param e;

	fs_assert_ns_held(r->fs);
	if (!r->plus) {
		memset(&e, 0, sizeof(e));
		e.attr.st_ino = de->inode->ino;
		e.attr.st_mode = de->inode->mode;
		return readdir_add(r, de->name, &e, de->cookie + 1);
	}
	if (r->nheld == READDIR_PLUS_MAX)
		return false;
	inode_entry(r->fs, de->inode, &e);
	if (!readdir_add(r, de->name, &e, de->cookie + 1))
		return false;
	inode_hold_locked(r->fs, de->inode);
	r->held[r->nheld++] = de->inode->ino;
	return true;
}

static void readdir_fill_locked(struct readdir_reply *r, struct inode *dir, uint64_t off)
{
	struct dentry *de;

	fs_assert_ns_held(r->fs);
	if (off == 0 && readdir_add_dot(r, ".", dir->ino, 1))
		off = 1;
	if (off == 1 && readdir_add_dot(r, "..", dir->dir.parent_ino, 2))
		off = 2;
	if (off < 2)
		return;
	while ((de = dentry_next_locked(r->fs, dir, off)) && readdir_add_name_locked(r, de))
		off = de->cookie + 1;
}

static void readdir_reply(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct fs *fs = fs_of(req);
	struct inode *dir = inode_get(fs, ino);
	struct readdir_reply r;

	if (!dir || !S_ISDIR(dir->mode)) {
		fs_reply(req, dir ? -ENOTDIR : -ESTALE);
		return;
	}
	if (off < 0) {
		fs_reply(req, -EINVAL);
		return;
	}
	r.req = req;
	r.fs = fs;
	r.plus = plus;
	r.used = 0;
	r.size = size < READDIR_BYTES ? size : READDIR_BYTES;
	r.nheld = 0;

	pthread_rwlock_rdlock(&fs->ns);
	readdir_fill_locked(&r, dir, (uint64_t)off);
	pthread_rwlock_unlock(&fs->ns);

	inode_touch_read(fs, dir);
	if (fuse_reply_buf(req, r.buf, r.used) != 0)
		for (unsigned i = 0; i < r.nheld; i++)
			inode_forget(fs, r.held[i], 1);
}

/* --- operations ----------------------------------------------------------------------------------------- */

/*
 * ENOSYS is success here (FUSE_CAP_NO_OPENDIR_SUPPORT, which libfuse asks for where the kernel has it): the
 * kernel sends no OPENDIR and no RELEASEDIR again, and keeps what it has read of a directory until it changes.
 */
static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fs_reply(req, -ENOSYS);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	readdir_reply(req, ino, size, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	readdir_reply(req, ino, size, off, true);
}

/* Nothing outlives the mount, so there is nothing to sync; and the kernel need not ask again. */
static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	fs_reply(req, -ENOSYS);
}

void fs_ops_dirs(struct fuse_lowlevel_ops *ops)
{
	ops->opendir = op_opendir;
	ops->readdir = op_readdir;
	ops->readdirplus = op_readdirplus;
	ops->fsyncdir = op_fsyncdir;
}
