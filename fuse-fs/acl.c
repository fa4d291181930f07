/* SPDX-License-Identifier: MIT */
/*
 * acl: owns what POSIX ACLs mean: their form, their relation to the mode, their inheritance.  They are stored by
 * xattr.c, in the list at the inode and under its lock.  Who may set one, and what one allows, is the kernel's part.
 * Called by xattr.c and namei.c.  The rules are those of POSIX 1003.1e draft 17, as Linux has them.
 */
#include "fuse-fs/acl.h"

#include "fuse-fs/xattr.h"
#include "swapstore/util.h"

#include <endian.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/xattr.h>
#include <string.h>

#define ACL_RWX (ACL_READ | ACL_WRITE | ACL_EXECUTE)

/* As struct posix_acl_xattr_entry, but wherever it lies: neither requests nor attributes are aligned. */
struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
} __attribute__((packed));

struct acl_header {
	uint32_t version;
} __attribute__((packed));

/* One as the kernel sends it: a header, then entries, all little-endian. */
struct acl {
	const struct acl_entry *entry;
	size_t count;
};

static bool acl_is_access(const char *name)
{
	return strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS) == 0;
}

bool acl_is_name(const char *name)
{
	return acl_is_access(name) || strcmp(name, XATTR_NAME_POSIX_ACL_DEFAULT) == 0;
}

static struct acl acl_of(const void *value, size_t size)
{
	return (struct acl){
		.entry = (const void *)((const char *)value + sizeof(struct acl_header)),
		.count = (size - sizeof(struct acl_header)) / sizeof(struct acl_entry),
	};
}

static unsigned acl_tag(const struct acl_entry *e)
{
	return le16toh(e->tag);
}

static unsigned acl_perm(const struct acl_entry *e)
{
	return le16toh(e->perm);
}

/* Entries are sorted by tag, and only users and groups come more than once. */
static bool acl_in_order(unsigned before, unsigned tag)
{
	return tag > before || (tag == before && (tag == ACL_USER || tag == ACL_GROUP));
}

/* The kernel has checked more than this; it is what the code here relies on. */
static int acl_check(const void *value, size_t size)
{
	const unsigned needed = ACL_USER_OBJ | ACL_GROUP_OBJ | ACL_OTHER;
	const struct acl_header *header = value;
	unsigned before = 0, seen = 0;
	struct acl acl;

	if (size > ACL_BYTES_MAX)
		return -E2BIG;
	if (size < sizeof(*header) || (size - sizeof(*header)) % sizeof(struct acl_entry) != 0)
		return -EINVAL;
	if (le32toh(header->version) != POSIX_ACL_XATTR_VERSION)
		return -EINVAL;
	acl = acl_of(value, size);
	for (size_t i = 0; i < acl.count; i++) {
		const unsigned tag = acl_tag(&acl.entry[i]);

		if (!acl_in_order(before, tag) || (acl_perm(&acl.entry[i]) & ~ACL_RWX))
			return -EINVAL;
		seen |= tag;
		before = tag;
	}
	if ((seen & needed) != needed || (seen & ~(needed | ACL_USER | ACL_GROUP | ACL_MASK)))
		return -EINVAL;
	return (seen & (ACL_USER | ACL_GROUP)) && !(seen & ACL_MASK) ? -EINVAL : 0;
}

static bool acl_has_mask(const struct acl *acl)
{
	for (size_t i = 0; i < acl->count; i++)
		if (acl_tag(&acl->entry[i]) == ACL_MASK)
			return true;
	return false;
}

/* By how much the mode is shifted for what this entry says; -1: nothing in the mode says it. */
static int acl_shift(const struct acl *acl, const struct acl_entry *e)
{
	switch (acl_tag(e)) {
	case ACL_USER_OBJ:
		return 6;
	case ACL_GROUP_OBJ:
		return acl_has_mask(acl) ? -1 : 3;
	case ACL_MASK:
		return 3;
	case ACL_OTHER:
		return 0;
	default:
		return -1;
	}
}

/* The nine bits of a mode that the ACL says. */
static mode_t acl_to_mode(const struct acl *acl)
{
	mode_t mode = 0;

	for (size_t i = 0; i < acl->count; i++) {
		const int shift = acl_shift(acl, &acl->entry[i]);

		if (shift >= 0)
			mode |= (mode_t)acl_perm(&acl->entry[i]) << shift;
	}
	return mode;
}

static void acl_put_mode(void *value, size_t size, mode_t mode)
{
	const struct acl acl = acl_of(value, size);
	struct acl_entry *entry = (void *)((char *)value + sizeof(struct acl_header));

	for (size_t i = 0; i < acl.count; i++) {
		const int shift = acl_shift(&acl, &entry[i]);

		if (shift >= 0)
			entry[i].perm = htole16((uint16_t)(mode >> shift & ACL_RWX));
	}
}

/* --- set and get ---------------------------------------------------------------------------------------- */

static int acl_set_access(struct fs *fs, struct inode *inode, const void *value, size_t size, bool kill_sgid)
{
	const struct acl acl = size ? acl_of(value, size) : (struct acl){ .count = 0 };
	struct xattr *xa = NULL, *old;
	mode_t mode;

	if (size && acl_has_mask(&acl)) {
		xa = xattr_new(fs, XATTR_NAME_POSIX_ACL_ACCESS, value, size);
		if (!xa)
			return -ENOSPC;
	}
	pthread_mutex_lock(&inode->lock);
	mode = inode->mode;
	if (size)
		mode = (mode & ~(mode_t)0777) | acl_to_mode(&acl);
	if (kill_sgid)
		mode &= ~(mode_t)S_ISGID;
	inode->mode = mode;
	old = xattr_replace_locked(inode, xattr_find_locked(inode, XATTR_NAME_POSIX_ACL_ACCESS), xa);
	inode_touch_locked(inode, TOUCH_CTIME);
	pthread_mutex_unlock(&inode->lock);
	xattr_put(fs, old);
	return 0;
}

static int acl_set_default(struct fs *fs, struct inode *inode, const void *value, size_t size)
{
	struct xattr *xa = NULL, *old;

	if (!S_ISDIR(inode->mode))
		return size ? -EACCES : 0;
	if (size) {
		xa = xattr_new(fs, XATTR_NAME_POSIX_ACL_DEFAULT, value, size);
		if (!xa)
			return -ENOSPC;
	}
	pthread_mutex_lock(&inode->lock);
	old = xattr_replace_locked(inode, xattr_find_locked(inode, XATTR_NAME_POSIX_ACL_DEFAULT), xa);
	inode_touch_locked(inode, TOUCH_CTIME);
	pthread_mutex_unlock(&inode->lock);
	xattr_put(fs, old);
	return 0;
}

int acl_set(struct fs *fs, struct inode *inode, const char *name, const void *value, size_t size, bool kill_sgid)
{
	int err = size ? acl_check(value, size) : 0;

	if (err)
		return err;
	if (S_ISLNK(inode->mode))
		return -EOPNOTSUPP;
	return acl_is_access(name) ? acl_set_access(fs, inode, value, size, kill_sgid)
				   : acl_set_default(fs, inode, value, size);
}

ssize_t acl_get(struct fs *fs, struct inode *inode, const char *name, char buf[static ACL_BYTES_MAX])
{
	struct xattr *xa = xattr_get(inode, name);
	ssize_t size;

	if (!xa)
		return -ENODATA;
	size = xa->value_len;
	memcpy(buf, xattr_value(xa), xa->value_len);
	xattr_put(fs, xa);
	if (acl_is_access(name))
		acl_put_mode(buf, (size_t)size, inode->mode);
	return size;
}

/* --- inheritance ---------------------------------------------------------------------------------------- */

/* What the creator asked for, but no more than the default ACL grants to each. */
static int acl_inherit_access(struct fs *fs, struct inode *inode, struct xattr *from)
{
	const struct acl acl = acl_of(xattr_value(from), from->value_len);

	inode->mode &= ~(mode_t)0777 | acl_to_mode(&acl);
	if (!acl_has_mask(&acl))
		return 0;
	inode->xattrs = xattr_new(fs, XATTR_NAME_POSIX_ACL_ACCESS, xattr_value(from), from->value_len);
	return inode->xattrs ? 0 : -ENOSPC;
}

int acl_inherit(struct fs *fs, uint64_t dir_ino, struct inode *inode, mode_t umask)
{
	struct inode *dir = inode_get(fs, dir_ino);
	struct xattr *from, *copy;
	int err;

	if (S_ISLNK(inode->mode))
		return 0;
	from = dir ? xattr_get(dir, XATTR_NAME_POSIX_ACL_DEFAULT) : NULL;
	if (!from) {
		inode->mode &= ~(umask & (mode_t)0777);
		return 0;
	}
	err = acl_inherit_access(fs, inode, from);
	if (!err && S_ISDIR(inode->mode)) {
		copy = xattr_new(fs, XATTR_NAME_POSIX_ACL_DEFAULT, xattr_value(from), from->value_len);
		if (copy)
			copy->next = inode->xattrs;
		inode->xattrs = copy ? copy : inode->xattrs;
		err = copy ? 0 : -ENOSPC;
	}
	xattr_put(fs, from);
	return err;
}
