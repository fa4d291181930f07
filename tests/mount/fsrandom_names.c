/* SPDX-License-Identifier: MIT */
/*
 * fsrandom_names: the operations of fsrandom on names, attributes and extended attributes.  Keeps no state of
 * its own; called from fsrandom.c's table.
 */
#include "tests/mount/fsrandom.h"

#include <sys/time.h>
#include <sys/xattr.h>

#define NXATTRS	    5
#define XATTR_BYTES 200 /* few enough for file systems that keep them in one block */

/* A file's name below one of the directories: mostly the one it started in, so that most calls find something. */
void fsr_pick_path(struct run *r, char *path)
{
	unsigned file = (unsigned)fsr_below(r, r->nfiles + 4);
	unsigned dir = fsr_chance(r, 75) ? file % NDIRS : (unsigned)fsr_below(r, NDIRS);

	snprintf(path, PATH_LEN, "%s/f%u", fsr_dirs[dir], file);
}

/* Mostly a file, sometimes a directory, for calls that take either. */
static void fsr_pick_any(struct run *r, char *path)
{
	if (fsr_chance(r, 20))
		snprintf(path, PATH_LEN, "%s", fsr_dirs[fsr_below(r, NDIRS)]);
	else
		fsr_pick_path(r, path);
}

static void fsr_same_lstat(struct run *r, const char *path)
{
	struct stat st[2];
	struct outcome o[2];

	FSR_BOTH(o, fstatat(r->side[s].root, path, &st[s], AT_SYMLINK_NOFOLLOW));
	if (fsr_same(r, o))
		fsr_same_stat(r, &st[0], &st[1], path);
}

void fsr_op_stat(struct run *r)
{
	struct stat st[2];
	struct outcome o[2];
	char path[PATH_LEN];
	int flags = fsr_chance(r, 50) ? AT_SYMLINK_NOFOLLOW : 0;

	fsr_pick_any(r, path);
	fsr_log(r, "stat %s flags %#x", path, flags);
	FSR_BOTH(o, fstatat(r->side[s].root, path, &st[s], flags));
	if (fsr_same(r, o))
		fsr_same_stat(r, &st[0], &st[1], path);
}

void fsr_op_truncate(struct run *r)
{
	char path[PATH_LEN], full[2][PATH_LEN * 4];
	off_t size = (off_t)fsr_below(r, r->max_size);
	struct outcome o[2];

	fsr_pick_path(r, path);
	fsr_log(r, "truncate %s %lld", path, (long long)size);
	for (int s = 0; s < 2; s++)
		snprintf(full[s], sizeof(full[s]), "%s/%s", r->side[s].path, path);
	FSR_BOTH(o, truncate(full[s], size));
	fsr_same(r, o);
	fsr_same_lstat(r, path);
}

static void fsr_renaming(struct run *r, const char *from, const char *to, unsigned flags)
{
	struct outcome o[2];

	fsr_log(r, "rename %s to %s flags %u", from, to, flags);
	FSR_BOTH(o, renameat2(r->side[s].root, from, r->side[s].root, to, flags));
	fsr_same(r, o);
	fsr_same_lstat(r, from);
	fsr_same_lstat(r, to);
}

static unsigned fsr_rename_flags(struct run *r)
{
	static const unsigned flags[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE };

	return flags[fsr_below(r, 6)];
}

void fsr_op_rename(struct run *r)
{
	char from[PATH_LEN], to[PATH_LEN];

	fsr_pick_path(r, from);
	fsr_pick_any(r, to);
	fsr_renaming(r, from, to, fsr_rename_flags(r));
}

/* Mostly exchanges: a directory moved away takes its files out of the other operations' reach. */
void fsr_op_rename_dir(struct run *r)
{
	const char *from = fsr_dirs[fsr_below(r, NDIRS)], *to = fsr_dirs[fsr_below(r, NDIRS)];

	fsr_renaming(r, from, to, fsr_chance(r, 70) ? RENAME_EXCHANGE : fsr_rename_flags(r));
}

void fsr_op_link(struct run *r)
{
	char from[PATH_LEN], to[PATH_LEN];
	struct outcome o[2];

	fsr_pick_any(r, from);
	fsr_pick_path(r, to);
	fsr_log(r, "link %s as %s", from, to);
	FSR_BOTH(o, linkat(r->side[s].root, from, r->side[s].root, to, 0));
	fsr_same(r, o);
	fsr_same_lstat(r, from);
}

void fsr_op_unlink(struct run *r)
{
	struct outcome o[2];
	char path[PATH_LEN];

	fsr_pick_any(r, path);
	fsr_log(r, "unlink %s", path);
	FSR_BOTH(o, unlinkat(r->side[s].root, path, 0));
	fsr_same(r, o);
}

/* The target climbs one directory at most, and links lie at least one below the top: none leaves the tree. */
void fsr_op_symlink(struct run *r)
{
	char path[PATH_LEN], target[PATH_LEN], inner[PATH_LEN];
	struct outcome o[2];

	fsr_pick_any(r, inner);
	snprintf(target, sizeof(target), "../%.100s", inner);
	fsr_pick_path(r, path);
	fsr_log(r, "symlink %s to %s", path, target);
	FSR_BOTH(o, symlinkat(target, r->side[s].root, path));
	fsr_same(r, o);
}

void fsr_op_readlink(struct run *r)
{
	char path[PATH_LEN];
	struct outcome o[2];

	fsr_pick_any(r, path);
	fsr_log(r, "readlink %s", path);
	FSR_BOTH(o, readlinkat(r->side[s].root, path, (char *)r->rbuf[s], PATH_LEN));
	if (fsr_same(r, o))
		fsr_same_bytes(r, r->rbuf[0], r->rbuf[1], (size_t)o[0].rc, 0);
}

void fsr_op_mkdir(struct run *r)
{
	const char *path = fsr_dirs[fsr_below(r, NDIRS)];
	mode_t mode = 0700 | (mode_t)fsr_below(r, 0100);
	struct outcome o[2];

	fsr_log(r, "mkdir %s %o", path, mode);
	FSR_BOTH(o, mkdirat(r->side[s].root, path, mode));
	fsr_same(r, o);
	fsr_same_lstat(r, path);
}

void fsr_op_rmdir(struct run *r)
{
	struct outcome o[2];
	char path[PATH_LEN];

	fsr_pick_any(r, path);
	fsr_log(r, "rmdir %s", path);
	FSR_BOTH(o, unlinkat(r->side[s].root, path, AT_REMOVEDIR));
	fsr_same(r, o);
}

void fsr_op_readdir(struct run *r)
{
	const char *path = fsr_chance(r, 15) ? "." : fsr_dirs[fsr_below(r, NDIRS)];
	struct outcome o[2], plain[2];

	fsr_log(r, "readdir %s", path);
	FSR_BOTH(o, openat(r->side[s].root, path, O_RDONLY | O_DIRECTORY));
	for (int s = 0; s < 2; s++)
		plain[s] = (struct outcome){ o[s].rc < 0 ? -1 : 0, o[s].err };
	if (fsr_same(r, plain))
		fsr_compare_dir(r, (int)o[0].rc, (int)o[1].rc, path);
}

void fsr_op_chmod(struct run *r)
{
	mode_t mode = (mode_t)fsr_below(r, 010000) | 0600;
	struct outcome o[2];
	char path[PATH_LEN];

	fsr_pick_any(r, path);
	fsr_log(r, "chmod %s %o", path, mode);
	FSR_BOTH(o, fchmodat(r->side[s].root, path, mode, 0));
	fsr_same(r, o);
	fsr_same_lstat(r, path);
}

void fsr_op_chown(struct run *r)
{
	static const uid_t ids[] = { 0, 1000, 65534, (uid_t)-1 };
	uid_t uid = ids[fsr_below(r, 4)];
	gid_t gid = ids[fsr_below(r, 4)];
	struct outcome o[2];
	char path[PATH_LEN];

	/* Changing neither clears the set-id bits on ext4; the kernel does not pass that on to a FUSE file system. */
	if (uid == (uid_t)-1 && gid == (gid_t)-1)
		uid = 0;
	fsr_pick_any(r, path);
	fsr_log(r, "lchown %s %d:%d", path, (int)uid, (int)gid);
	FSR_BOTH(o, fchownat(r->side[s].root, path, uid, gid, AT_SYMLINK_NOFOLLOW));
	fsr_same(r, o);
	fsr_same_lstat(r, path);
}

void fsr_op_utimens(struct run *r)
{
	struct timespec ts[2] = { { (time_t)fsr_below(r, 1U << 31), (long)fsr_below(r, 1000000000) },
				  { (time_t)fsr_below(r, 1U << 31), (long)fsr_below(r, 1000000000) } };
	struct stat st[2];
	struct outcome o[2];
	char path[PATH_LEN];

	fsr_pick_any(r, path);
	fsr_log(r, "utimensat %s mtime %lld.%09ld", path, (long long)ts[1].tv_sec, ts[1].tv_nsec);
	FSR_BOTH(o, utimensat(r->side[s].root, path, ts, AT_SYMLINK_NOFOLLOW));
	if (!fsr_same(r, o))
		return;
	FSR_BOTH(o, fstatat(r->side[s].root, path, &st[s], AT_SYMLINK_NOFOLLOW));
	fsr_same(r, o);
	if (st[0].st_mtim.tv_sec != st[1].st_mtim.tv_sec || st[0].st_mtim.tv_nsec != st[1].st_mtim.tv_nsec ||
	    st[0].st_atim.tv_sec != st[1].st_atim.tv_sec || st[0].st_atim.tv_nsec != st[1].st_atim.tv_nsec)
		fsr_differ(r, "mtime in A is %lld.%09ld", (long long)st[0].st_mtim.tv_sec, st[0].st_mtim.tv_nsec);
}

/* Picks the object and the attribute's name of an extended attribute call. */
static void fsr_pick_xattr(struct run *r, const char *what, char full[2][PATH_LEN * 4], char *name)
{
	char path[PATH_LEN];

	fsr_pick_any(r, path);
	snprintf(name, 32, "user.x%u", (unsigned)fsr_below(r, NXATTRS));
	fsr_log(r, "%s %s %s", what, path, name);
	for (int s = 0; s < 2; s++)
		snprintf(full[s], PATH_LEN * 4, "%s/%s", r->side[s].path, path);
}

void fsr_op_setxattr(struct run *r)
{
	static const int flags[] = { 0, 0, XATTR_CREATE, XATTR_REPLACE };
	char full[2][PATH_LEN * 4], name[32];
	int flag = flags[fsr_below(r, 4)];
	size_t len = fsr_below(r, XATTR_BYTES);
	struct outcome o[2];

	fsr_pick_xattr(r, "setxattr", full, name);
	fsr_fill(r, len);
	FSR_BOTH(o, lsetxattr(full[s], name, r->wbuf, len, flag));
	fsr_same(r, o);
}

void fsr_op_getxattr(struct run *r)
{
	char full[2][PATH_LEN * 4], name[32];
	size_t len = fsr_chance(r, 30) ? fsr_below(r, XATTR_BYTES) : XATTR_BYTES;
	struct outcome o[2];

	fsr_pick_xattr(r, "getxattr", full, name);
	FSR_BOTH(o, lgetxattr(full[s], name, r->rbuf[s], len));
	if (fsr_same(r, o) && len > 0)
		fsr_same_bytes(r, r->rbuf[0], r->rbuf[1], (size_t)o[0].rc, 0);
}

void fsr_op_removexattr(struct run *r)
{
	char full[2][PATH_LEN * 4], name[32];
	struct outcome o[2];

	fsr_pick_xattr(r, "removexattr", full, name);
	FSR_BOTH(o, lremovexattr(full[s], name));
	fsr_same(r, o);
}

static int fsr_cmp_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int fsr_list_xattrs(const char *path, char *text, size_t len)
{
	char list[4096], *names[64];
	ssize_t n = llistxattr(path, list, sizeof(list));
	size_t used = 0;
	int count = 0;

	if (n < 0)
		return -1;
	for (char *p = list; p < list + n; p += strlen(p) + 1) {
		if (strncmp(p, "user.", 5) == 0 && count < 64)
			names[count++] = p;
	}
	qsort(names, (size_t)count, sizeof(names[0]), fsr_cmp_names);
	text[0] = '\0';
	for (int i = 0; i < count && used < len; i++)
		used += (size_t)snprintf(text + used, len - used, "%s ", names[i]);
	return count;
}

void fsr_op_listxattr(struct run *r)
{
	char full[2][PATH_LEN * 4], name[32], text[2][1024];
	struct outcome o[2];

	fsr_pick_xattr(r, "listxattr", full, name);
	FSR_BOTH(o, fsr_list_xattrs(full[s], text[s], sizeof(text[s])));
	if (fsr_same(r, o) && strcmp(text[0], text[1]) != 0)
		fsr_differ(r, "A has attributes %s, B %s", text[0], text[1]);
}
