/* SPDX-License-Identifier: MIT */
/*
 * parity_xattrs: parity's steps on extended attributes, access control lists among them.  Keeps no state.
 */
#include "tests/mount/parity.h"

#include <linux/capability.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/xattr.h>
#include <sys/xattr.h>

#define ACL_ENTRIES 8

static const char *const par_xattr_names[] = { "user.a",	  "user.b",	   "user.c",	  "trusted.t",
					       "security.s",	  "user.",	   "nospace",	  "system.x",
					       "trusted.",	  "user.a",	   "trusted.t",	  "security.capability",
					       "other.name" };

/* Sets a name's attribute by path, by path without following, or by descriptor. */
struct par_target {
	unsigned how;
	char path[PAR_PATH];
	struct par_fd *h;
};

static void par_pick_target(struct par *p, struct par_target *t)
{
	t->how = (unsigned)par_below(p, 4);
	t->h = par_pick_fd(p);
	par_pick_odd(p, t->path);
	if (par_chance(p, 50)) /* often the same, or nothing would be found where it was set */
		strcpy(t->path, par_chance(p, 50) ? "d0/f1" : "d0/e0/f5");
}

static const char *par_target_name(const struct par_target *t)
{
	return t->how == 3 ? t->h->path : t->path;
}

static long par_set(const struct par_target *t, int s, const char *name, const void *value, size_t len, int flags)
{
	return t->how == 3   ? fsetxattr(t->h->fd[s], name, value, len, flags)
	       : t->how == 2 ? lsetxattr(t->path, name, value, len, flags)
			     : setxattr(t->path, name, value, len, flags);
}

static long par_get(const struct par_target *t, int s, const char *name, void *value, size_t len)
{
	return t->how == 3   ? fgetxattr(t->h->fd[s], name, value, len)
	       : t->how == 2 ? lgetxattr(t->path, name, value, len)
			     : getxattr(t->path, name, value, len);
}

static const char *par_pick_name(struct par *p, char *buf)
{
	size_t len = 250 + par_below(p, 8);

	if (par_chance(p, 40))
		return "user.a"; /* what one step sets, others find */
	if (!par_chance(p, 4))
		return PAR_PICK(p, par_xattr_names);
	memset(buf, 'x', len);
	memcpy(buf, "user.", 5);
	buf[len] = '\0';
	return buf;
}

static void par_op_setxattr(struct par *p)
{
	static const size_t sizes[] = { 0, 1, 20, 20, 20, 100, 4096, 65536, 65537 };
	static const int flags[] = { 0, 0, 0, XATTR_CREATE, XATTR_REPLACE, XATTR_CREATE | XATTR_REPLACE, 8 };
	struct vfs_cap_data cap = { .magic_etc = VFS_CAP_REVISION_2, .data = { { 1U << CAP_NET_RAW, 0 } } };
	size_t len = par_chance(p, 90) ? sizes[par_below(p, 6)] : PAR_PICK(p, sizes);
	int how = PAR_PICK(p, flags);
	struct par_outcome o[2];
	struct par_target t;
	const char *name;
	char buf[300];

	name = par_pick_name(p, buf);
	par_pick_target(p, &t);
	par_fill(p, len);
	if (strcmp(name, "security.capability") == 0) {
		memcpy(p->wbuf, &cap, sizeof(cap));
		len = XATTR_CAPS_SZ_2;
	}
	par_log(p, "%.100s %.20s len %zu flags %d", par_target_name(&t), name, len, how);
	PAR_BOTH(o, par_set(&t, s, name, p->wbuf, len, how));
	par_same(p, o);
	PAR_BOTH(o, par_get(&t, s, name, p->rbuf[s], PAR_IO_MAX));
	if (par_same(p, o))
		par_same_bytes(p, p->rbuf[0], p->rbuf[1], (size_t)o[0].rc, 0);
}

static void par_op_getxattr(struct par *p)
{
	size_t len = par_chance(p, 60) ? 65536 : par_below(p, 30);
	struct par_outcome o[2];
	struct par_target t;
	const char *name;
	char buf[300];

	name = par_pick_name(p, buf);
	par_pick_target(p, &t);
	par_log(p, "%.100s %.20s len %zu", par_target_name(&t), name, len);
	PAR_BOTH(o, par_get(&t, s, name, p->rbuf[s], len));
	if (par_same(p, o) && len > 0)
		par_same_bytes(p, p->rbuf[0], p->rbuf[1], (size_t)o[0].rc, 0);
}

/* What is listed comes in any order: as text it is par_same_xattrs() that compares; here the length, and errors. */
static void par_op_listxattr(struct par *p)
{
	size_t len = par_chance(p, 70) ? 65536 : par_below(p, 30);
	struct par_outcome o[2];
	struct par_target t;

	par_pick_target(p, &t);
	par_log(p, "%.100s len %zu", par_target_name(&t), len);
	PAR_BOTH(o, t.how == 3	 ? flistxattr(t.h->fd[s], (char *)p->rbuf[s], len)
		    : t.how == 2 ? llistxattr(t.path, (char *)p->rbuf[s], len)
				 : listxattr(t.path, (char *)p->rbuf[s], len));
	if (par_same(p, o) && t.how != 3)
		par_same_xattrs(p, t.path);
}

static void par_op_removexattr(struct par *p)
{
	struct par_outcome o[2];
	struct par_target t;
	const char *name;
	char buf[300];

	name = par_chance(p, 10) ? "system.posix_acl_access" : par_pick_name(p, buf);
	par_pick_target(p, &t);
	par_log(p, "%.100s %.30s", par_target_name(&t), name);
	PAR_BOTH(o, t.how == 3	 ? fremovexattr(t.h->fd[s], name)
		    : t.how == 2 ? lremovexattr(t.path, name)
				 : removexattr(t.path, name));
	par_same(p, o);
}

/* --- access control lists ----------------------------------------------------------------------------------------- */

struct par_acl {
	struct posix_acl_xattr_header header;
	struct posix_acl_xattr_entry entry[ACL_ENTRIES];
};

static void par_acl_add(struct par_acl *acl, unsigned *n, unsigned tag, unsigned perm, unsigned id)
{
	acl->entry[(*n)++] =
		(struct posix_acl_xattr_entry){ .e_tag = (uint16_t)tag, .e_perm = (uint16_t)perm, .e_id = id };
}

/* Mostly a valid one; now and then with its entries out of order, without a mask, or of another version. */
static size_t par_pick_acl(struct par *p, struct par_acl *acl)
{
	unsigned n = 0, odd = (unsigned)par_below(p, 20);
	bool named = par_chance(p, 70);

	acl->header.a_version = odd == 0 ? 1 : POSIX_ACL_XATTR_VERSION;
	par_acl_add(acl, &n, ACL_USER_OBJ, (unsigned)par_below(p, odd == 1 ? 16 : 8), ACL_UNDEFINED_ID);
	if (named) {
		par_acl_add(acl, &n, ACL_USER, (unsigned)par_below(p, 8), 1001);
		if (par_chance(p, 50))
			par_acl_add(acl, &n, ACL_USER, (unsigned)par_below(p, 8), odd == 2 ? 1001 : 1003);
	}
	par_acl_add(acl, &n, ACL_GROUP_OBJ, (unsigned)par_below(p, 8), ACL_UNDEFINED_ID);
	if (named && par_chance(p, 50))
		par_acl_add(acl, &n, ACL_GROUP, (unsigned)par_below(p, 8), 2000);
	if ((named && odd != 3) || par_chance(p, 20))
		par_acl_add(acl, &n, ACL_MASK, (unsigned)par_below(p, 8), ACL_UNDEFINED_ID);
	par_acl_add(acl, &n, ACL_OTHER, (unsigned)par_below(p, 8), ACL_UNDEFINED_ID);
	return sizeof(acl->header) + n * sizeof(acl->entry[0]) - (odd == 4 ? 3 : 0);
}

static void par_op_acl(struct par *p)
{
	bool dflt = par_chance(p, 35), empty = par_chance(p, 10);
	const char *name = dflt ? XATTR_NAME_POSIX_ACL_DEFAULT : XATTR_NAME_POSIX_ACL_ACCESS;
	struct par_outcome o[2];
	struct par_target t;
	struct par_acl acl;
	size_t len;

	len = par_pick_acl(p, &acl);
	if (empty)
		len = par_chance(p, 50) ? 0 : sizeof(acl.header);
	par_pick_target(p, &t);
	if (t.how < 3)
		par_pick_any(p, t.path);
	par_log(p, "%.100s %s len %zu", par_target_name(&t), name, len);
	PAR_BOTH(o, par_set(&t, s, name, &acl, len, 0));
	par_same(p, o);
	PAR_BOTH(o, par_get(&t, s, name, p->rbuf[s], 4096));
	if (par_same(p, o))
		par_same_bytes(p, p->rbuf[0], p->rbuf[1], (size_t)o[0].rc, 0);
	if (t.how < 3)
		par_same_lstat(p, t.path);
}

const struct par_op par_xattr_ops[] = {
	{ "setxattr", 25, par_op_setxattr },
	{ "getxattr", 15, par_op_getxattr },
	{ "listxattr", 10, par_op_listxattr },
	{ "removexattr", 10, par_op_removexattr },
	{ "acl", 10, par_op_acl },
	{ NULL, 0, NULL },
};
