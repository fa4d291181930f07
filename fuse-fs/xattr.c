/* SPDX-License-Identifier: MIT */
/*
 * xattr: owns extended attributes: a short list at each inode, guarded by inode->lock, and the four operations
 * on it.  A value never changes, it is replaced; so a reply can be made from it without the lock, by counting
 * a reference.  Their memory counts against the RAM cap.  What ACLs among them mean is acl.c's.
 */
#include "fuse-fs/xattr.h"

#include "fuse-fs/acl.h"
#include "fuse-fs/flags.h"
#include "swapstore/util.h"

#include <linux/limits.h>
#include <linux/xattr.h>
#include <string.h>
#include <sys/xattr.h>

#define XATTR_CAPABILITY "security.capability"

static size_t xattr_bytes(const struct xattr *xa)
{
	return sizeof(*xa) + xa->name_len + xa->value_len;
}

struct xattr *xattr_new(struct fs *fs, const char *name, const void *value, size_t value_len)
{
	size_t name_len = strlen(name);
	struct xattr *xa = ss_alloc(fs->store, sizeof(*xa) + name_len + value_len);

	if (!xa)
		return NULL;
	xa->refs = 1;
	xa->name_len = (uint32_t)name_len;
	xa->value_len = (uint32_t)value_len;
	memcpy(xa->data, name, name_len);
	if (value_len)
		memcpy(xa->data + name_len, value, value_len);
	return xa;
}

void xattr_put(struct fs *fs, struct xattr *xa)
{
	if (xa && atomic_fetch_sub(&xa->refs, 1) == 1)
		ss_free(fs->store, xa, xattr_bytes(xa));
}

struct xattr **xattr_find_locked(struct inode *inode, const char *name)
{
	size_t len = strlen(name);
	struct xattr **link = &inode->xattrs;

	inode_assert_locked(inode);
	while (*link && ((*link)->name_len != len || memcmp((*link)->data, name, len) != 0))
		link = &(*link)->next;
	return link;
}

struct xattr *xattr_replace_locked(struct inode *inode, struct xattr **link, struct xattr *xa)
{
	struct xattr *old = *link;

	inode_assert_locked(inode);
	if (xa)
		xa->next = old ? old->next : NULL;
	else if (old)
		xa = old->next;
	*link = xa;
	return old;
}

static bool xattr_has_prefix(const char *name, size_t len, const char *prefix)
{
	size_t n = strlen(prefix);

	return len >= n && memcmp(name, prefix, n) == 0;
}

/* 0 for a name that may exist here.  The kernel has checked who may use trusted. and who may write user. */
static int xattr_check_name(const struct fs *fs, const char *name)
{
	static const char *const spaces[] = { XATTR_USER_PREFIX, XATTR_TRUSTED_PREFIX, XATTR_SECURITY_PREFIX };
	size_t len = strlen(name);

	if (len > XATTR_NAME_MAX)
		return -ERANGE;
	if (acl_is_name(name))
		return fs->acl ? 0 : -EOPNOTSUPP;
	for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++)
		if (xattr_has_prefix(name, len, spaces[i]))
			return name[strlen(spaces[i])] ? 0 : -EINVAL;
	return -EOPNOTSUPP;
}

static int xattr_set(struct fs *fs, struct inode *inode, const char *name, const char *value, size_t size, int flags)
{
	struct xattr **link, *old, *xa;

	if (size > XATTR_SIZE_MAX)
		return -E2BIG;
	xa = xattr_new(fs, name, value, size);
	if (!xa)
		return -ENOSPC;

	pthread_mutex_lock(&inode->lock);
	link = xattr_find_locked(inode, name);
	old = *link;
	if ((old && (flags & XATTR_CREATE)) || (!old && (flags & XATTR_REPLACE))) {
		pthread_mutex_unlock(&inode->lock);
		xattr_put(fs, xa);
		return old ? -EEXIST : -ENODATA;
	}
	xattr_replace_locked(inode, link, xa);
	if (strcmp(name, XATTR_CAPABILITY) == 0)
		inode->has_capability = true;
	inode_touch_locked(inode, TOUCH_CTIME);
	pthread_mutex_unlock(&inode->lock);

	xattr_put(fs, old);
	return 0;
}

/* -ENODATA if there is none. */
static int xattr_remove(struct fs *fs, struct inode *inode, const char *name)
{
	struct xattr **link, *old;

	pthread_mutex_lock(&inode->lock);
	link = xattr_find_locked(inode, name);
	old = *link;
	if (old) {
		xattr_replace_locked(inode, link, NULL);
		if (strcmp(name, XATTR_CAPABILITY) == 0)
			inode->has_capability = false;
		inode_touch_locked(inode, TOUCH_CTIME);
	}
	pthread_mutex_unlock(&inode->lock);

	xattr_put(fs, old);
	return old ? 0 : -ENODATA;
}

struct xattr *xattr_get(struct inode *inode, const char *name)
{
	struct xattr *xa;
	UTIL_LOCKED(&inode->lock);

	xa = *xattr_find_locked(inode, name);
	if (xa)
		atomic_fetch_add(&xa->refs, 1);
	return xa;
}

/*
 * The names one after the other, each with its NUL.  Returns their length, and has copied them if size is
 * enough; trusted ones only if asked for.
 */
static size_t xattr_list(struct inode *inode, char *buf, size_t size, bool with_trusted)
{
	size_t used = 0;
	UTIL_LOCKED(&inode->lock);

	for (struct xattr *xa = inode->xattrs; xa; xa = xa->next) {
		if (!with_trusted && xattr_has_prefix(xa->data, xa->name_len, XATTR_TRUSTED_PREFIX))
			continue;
		if (used + xa->name_len + 1 <= size) {
			memcpy(buf + used, xa->data, xa->name_len);
			buf[used + xa->name_len] = '\0';
		}
		used += xa->name_len + 1;
	}
	return used;
}

void xattrs_free(struct fs *fs, struct inode *inode)
{
	while (inode->xattrs) {
		struct xattr *xa = inode->xattrs;

		inode->xattrs = xa->next;
		xattr_put(fs, xa);
	}
}

bool xattr_drop_capability(struct fs *fs, struct inode *in)
{
	bool has;

	pthread_mutex_lock(&in->lock);
	has = in->has_capability;
	pthread_mutex_unlock(&in->lock);
	return has && xattr_remove(fs, in, XATTR_CAPABILITY) == 0;
}

/* --- operations ----------------------------------------------------------------------------------------- */

static int xattr_check_change(const struct fs *fs, struct inode *inode, const char *name)
{
	const int err = flags_refuse(inode, FLAGS_FIXED);

	return err ? err : xattr_check_name(fs, name);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct fs *fs = fs_of(req);
	struct inode *inode = inode_get(fs, ino);
	int err = inode ? xattr_check_change(fs, inode, name) : -ESTALE;

	if (!err)
		err = acl_is_name(name) ? acl_set(fs, inode, name, value, size, flags & FS_SETXATTR_KILL_SGID)
					: xattr_set(fs, inode, name, value, size, flags);
	space_changed(fs);
	fs_reply(req, err);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fs *fs = fs_of(req);
	struct inode *inode = inode_get(fs, ino);
	int err = inode ? xattr_check_change(fs, inode, name) : -ESTALE;

	if (!err)
		err = acl_is_name(name) ? acl_set(fs, inode, name, NULL, 0, false) : xattr_remove(fs, inode, name);
	fs_reply(req, err);
}

/* A value or its length: what was asked for by size. */
static void xattr_reply(fuse_req_t req, const char *value, size_t length, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, length);
	else if (size < length)
		fs_reply(req, -ERANGE);
	else
		fuse_reply_buf(req, value, length);
}

static void xattr_reply_acl(fuse_req_t req, struct inode *inode, const char *name, size_t size)
{
	char buf[ACL_BYTES_MAX];
	const ssize_t length = acl_get(fs_of(req), inode, name, buf);

	if (length < 0)
		fs_reply(req, (int)length);
	else
		xattr_reply(req, buf, (size_t)length, size);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *fs = fs_of(req);
	struct inode *inode = inode_get(fs, ino);
	int err = inode ? xattr_check_name(fs, name) : -ESTALE;
	struct xattr *xa = NULL;

	if (!err && acl_is_name(name)) {
		xattr_reply_acl(req, inode, name, size);
		return;
	}
	if (!err)
		xa = xattr_get(inode, name);
	if (xa)
		xattr_reply(req, xattr_value(xa), xa->value_len, size);
	else
		fs_reply(req, err ? err : -ENODATA);
	xattr_put(fs, xa);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fs *fs = fs_of(req);
	struct inode *inode = inode_get(fs, ino);
	bool trusted = fuse_req_ctx(req)->uid == 0;
	size_t need;
	char *buf;

	if (!inode) {
		fs_reply(req, -ESTALE);
		return;
	}
	need = xattr_list(inode, NULL, 0, trusted);
	if (size == 0) {
		fuse_reply_xattr(req, need);
		return;
	}
	/* More may be added before the second look; then the caller must ask again with more room. */
	buf = need && need <= size ? ss_alloc(fs->store, need) : NULL;
	if (need > size || (buf && xattr_list(inode, buf, need, trusted) > need))
		fs_reply(req, -ERANGE);
	else if (need && !buf)
		fs_reply(req, -ENOMEM);
	else
		fuse_reply_buf(req, buf, need);
	if (buf)
		ss_free(fs->store, buf, need);
}

void fs_ops_xattrs(struct fuse_lowlevel_ops *ops)
{
	ops->setxattr = op_setxattr;
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
	ops->removexattr = op_removexattr;
}
