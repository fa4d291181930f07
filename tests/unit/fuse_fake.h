/* SPDX-License-Identifier: MIT */
/*
 * fuse_fake: stands in for libfuse and for file.c, so that the operations on names, attributes, directories and
 * xattrs run with no mount.  An operation is called as libfuse calls it; what it replies is kept in the request.
 * A request can be told that its reply does not get through, as when the caller was interrupted.
 */
#ifndef TESTS_FUSE_FAKE_H
#define TESTS_FUSE_FAKE_H

#include "fuse-fs/file.h"
#include "fuse-fs/fs.h"
#include "fuse-fs/log.h"
#include "fuse-fs/session.h"

#include <check.h>
#include <string.h>

#define FAKE_BUF 70000

struct fuse_req {
	struct fs *fs;
	struct fuse_ctx ctx;
	bool lose_reply;
	unsigned replies;
	int err;
	struct fuse_entry_param entry;
	struct stat attr;
	size_t len;
	char buf[FAKE_BUF];
};

/* How readdir's buffer looks here; the real one is the kernel's business. */
struct fake_dirent {
	uint64_t ino, next;
	uint32_t type, len;
	char name[FS_NAME_MAX + 1];
};

static unsigned fake_logged; /* lines */

void fs_log(int level, const char *fmt, ...)
{
	(void)level;
	(void)fmt;
	fake_logged++;
}

void *fuse_req_userdata(fuse_req_t req)
{
	return req->fs;
}

const struct fuse_ctx *fuse_req_ctx(fuse_req_t req)
{
	return &req->ctx;
}

static int fake_reply(fuse_req_t req, int err)
{
	if (req->replies != 0)
		ck_abort_msg("a request was answered twice");
	req->replies = 1;
	req->err = -err;
	return req->lose_reply ? -ENOENT : 0;
}

int fuse_reply_err(fuse_req_t req, int err)
{
	return fake_reply(req, err);
}

void fuse_reply_none(fuse_req_t req)
{
	fake_reply(req, 0);
}

int fuse_reply_entry(fuse_req_t req, const struct fuse_entry_param *e)
{
	req->entry = *e;
	return fake_reply(req, 0);
}

int fuse_reply_create(fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi)
{
	(void)fi;
	return fuse_reply_entry(req, e);
}

int fuse_reply_attr(fuse_req_t req, const struct stat *attr, double timeout)
{
	(void)timeout;
	req->attr = *attr;
	return fake_reply(req, 0);
}

int fuse_reply_statx(fuse_req_t req, int flags, struct statx *stx, double timeout)
{
	(void)flags;
	(void)timeout;
	req->attr.st_ino = stx->stx_ino;
	return fake_reply(req, 0);
}

int fuse_reply_statfs(fuse_req_t req, const struct statvfs *sv)
{
	(void)sv;
	return fake_reply(req, 0);
}

int fuse_reply_buf(fuse_req_t req, const char *buf, size_t size)
{
	if (size > sizeof(req->buf))
		ck_abort_msg("a reply of %zu bytes", size);
	if (size)
		memcpy(req->buf, buf, size);
	req->len = size;
	return fake_reply(req, 0);
}

int fuse_reply_readlink(fuse_req_t req, const char *link)
{
	return fuse_reply_buf(req, link, strlen(link) + 1);
}

int fuse_reply_xattr(fuse_req_t req, size_t count)
{
	req->len = count;
	return fake_reply(req, 0);
}

size_t fuse_add_direntry(fuse_req_t req, char *buf, size_t size, const char *name, const struct stat *st, off_t off)
{
	struct fake_dirent d = { .ino = st->st_ino, .next = (uint64_t)off, .type = st->st_mode & S_IFMT };

	(void)req;
	if (size >= sizeof(d)) {
		d.len = (uint32_t)strlen(name);
		memcpy(d.name, name, d.len);
		memcpy(buf, &d, sizeof(d));
	}
	return sizeof(d);
}

size_t fuse_add_direntry_plus(fuse_req_t req, char *buf, size_t size, const char *name,
			      const struct fuse_entry_param *e, off_t off)
{
	return fuse_add_direntry(req, buf, size, name, &e->attr, off);
}

int fuse_reply_ioctl(fuse_req_t req, int result, const void *buf, size_t size)
{
	(void)result;
	return fuse_reply_buf(req, buf, size);
}

/* session.c's: what it is told is counted. */
static unsigned fake_attrs_changed;

void session_attrs_changed(struct session *se, fuse_ino_t ino)
{
	(void)se;
	(void)ino;
	fake_attrs_changed++;
}

/* file.c's part: handles are only counted, and a size only noted. */
int file_opened(struct fs *fs, struct inode *inode, struct fuse_file_info *fi)
{
	bool first;

	(void)fi;
	return writers_add(&fs->writers, inode, false, &first);
}

void file_closed(struct fs *fs, struct inode *inode, const struct fuse_file_info *fi)
{
	(void)fi;
	writers_remove(&fs->writers, inode);
}

bool file_handle_writes(const struct fuse_file_info *fi)
{
	return fi->fh != 0;
}

int file_may_write(fuse_req_t req, struct inode *inode, const struct fuse_file_info *fi)
{
	(void)req;
	(void)inode;
	(void)fi;
	return 0;
}

void space_ask(struct fs *fs)
{
	(void)fs;
}

void space_changed(struct fs *fs)
{
	(void)fs;
}

double fs_attr_timeout(struct fs *fs, struct inode *inode)
{
	(void)fs;
	(void)inode;
	return FS_TIMEOUT_FOREVER;
}

double fs_attr_timeout_late(struct fs *fs, struct inode *inode)
{
	return fs_attr_timeout(fs, inode);
}

enum inode_kill file_kill(fuse_req_t req, struct inode *inode, bool kill)
{
	(void)req;
	(void)inode;
	return kill ? INODE_KILL_BITS : INODE_KEEP_BITS;
}

int file_truncate(struct fs *fs, struct inode *inode, uint64_t size, enum inode_kill kill)
{
	(void)fs;
	pthread_mutex_lock(&inode->lock);
	inode->size = size;
	inode_kill_suidgid_locked(inode, kill);
	pthread_mutex_unlock(&inode->lock);
	return 0;
}

#endif
