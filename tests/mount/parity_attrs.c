/* SPDX-License-Identifier: MIT */
/*
 * parity_attrs: parity's steps that change attributes: modes, owners, times, the flags of chattr(1); and file handles,
 * which outlive names.  Keeps no state.
 */
#include "tests/mount/parity.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static void par_op_chmod(struct par *p)
{
	static const mode_t modes[] = { 0777, 0666, 0644, 0600, 0, 0111, 0700, 02755, 02745, 04755, 06777, 01777, 07777, 02666 };
	unsigned how = (unsigned)par_below(p, 4);
	struct par_fd *h = par_pick_fd(p);
	mode_t mode = PAR_PICK(p, modes);
	struct par_outcome o[2];
	char path[PAR_PATH];

	par_pick_any(p, path);
	par_log(p, "how %u %.100s mode %o", how, how == 3 ? h->path : path, mode);
	PAR_BOTH(o, how == 3   ? fchmod(h->fd[s], mode)
		    : how == 2 ? syscall(SYS_fchmodat2, AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW)
			       : chmod(path, mode));
	par_same(p, o);
	if (how == 3)
		par_same_fstat(p, h);
	else
		par_same_lstat(p, path);
}

static void par_op_chown(struct par *p)
{
	static const unsigned uids[] = { 0, 1001, 1002, 1003, (unsigned)-1 }, gids[] = { 0, 1001, 1002, 2000, (unsigned)-1 };
	unsigned how = (unsigned)par_below(p, 3), uid = PAR_PICK(p, uids), gid = PAR_PICK(p, gids);
	struct par_fd *h = par_pick_fd(p);
	struct par_outcome o[2];
	char path[PAR_PATH];

	par_pick_any(p, path);
	par_log(p, "how %u %.100s to %d:%d", how, how == 2 ? h->path : path, (int)uid, (int)gid);
	PAR_BOTH(o, how == 2 ? fchown(h->fd[s], uid, gid) : how == 1 ? lchown(path, uid, gid) : chown(path, uid, gid));
	par_same(p, o);
	if (how == 2)
		par_same_fstat(p, h);
	else
		par_same_lstat(p, path);
}

static struct timespec par_pick_time(struct par *p)
{
	static const struct timespec times[] = { { 0, 0 },	      { 1000000, 123456789 }, { 1, 999999999 },
						 { -1, 5 },	      { -2147483648L, 0 },    { 4294967296L, 1 },
						 { 17179869183L, 7 }, { 0, UTIME_NOW },	      { 0, UTIME_OMIT },
						 { 5, UTIME_NOW },    { 1000, 1000 },	      { 1, 1000000000 },
						 { 1, -5 },	      { 253402300800L, 0 } };

	return PAR_PICK(p, times);
}

static void par_op_utimens(struct par *p)
{
	struct timespec ts[2] = { par_pick_time(p), par_pick_time(p) };
	unsigned how = (unsigned)par_below(p, 4);
	struct par_fd *h = par_pick_fd(p);
	bool now = par_chance(p, 10);
	struct par_outcome o[2];
	char path[PAR_PATH];

	par_pick_any(p, path);
	par_log(p, "how %u %.100s %lld.%ld %lld.%ld%s", how, how == 3 ? h->path : path, (long long)ts[0].tv_sec,
		ts[0].tv_nsec, (long long)ts[1].tv_sec, ts[1].tv_nsec, now ? " NULL" : "");
	PAR_BOTH(o, how == 3   ? futimens(h->fd[s], now ? NULL : ts)
		    : how == 2 ? utimensat(AT_FDCWD, path, now ? NULL : ts, AT_SYMLINK_NOFOLLOW)
			       : utimensat(AT_FDCWD, path, now ? NULL : ts, 0));
	par_same(p, o);
	if (how == 3)
		par_same_fstat(p, h);
	else
		par_same_lstat(p, path);
}

/* --- the flags of chattr ------------------------------------------------------------------------------------------ */

static void par_op_getflags(struct par *p)
{
	struct par_fd *h = par_pick_fd(p);
	struct fsxattr fsx[2] = { { 0 }, { 0 } };
	int flags[2] = { 0, 0 }, version[2] = { 0, 0 };
	struct par_outcome o[2];

	par_log(p, "%s", h->path);
	PAR_BOTH(o, ioctl(h->fd[s], FS_IOC_GETFLAGS, &flags[s]));
	if (par_same(p, o) && flags[0] != flags[1])
		par_differ(p, "flags", "spillfs %#x, tmpfs %#x", flags[0], flags[1]);
	PAR_BOTH(o, ioctl(h->fd[s], FS_IOC_FSGETXATTR, &fsx[s]));
	if (par_same(p, o) && memcmp(&fsx[0], &fsx[1], sizeof(fsx[0])) != 0)
		par_differ(p, "fsxattr", "spillfs %#x, tmpfs %#x", fsx[0].fsx_xflags, fsx[1].fsx_xflags);
	PAR_BOTH(o, ioctl(h->fd[s], FS_IOC_GETVERSION, &version[s]));
	par_same(p, o);
	PAR_BOTH(o, ioctl(h->fd[s], FIONREAD, &version[s]));
	par_same(p, o);
}

/* Mostly off again soon, or nothing can be changed any more. */
static void par_op_setflags(struct par *p)
{
	static const int flags[] = { 0,		    0,			  0,
				     0,		    FS_IMMUTABLE_FL,	  FS_APPEND_FL,
				     FS_NODUMP_FL,  FS_NOATIME_FL,	  FS_IMMUTABLE_FL | FS_APPEND_FL,
				     FS_COMPR_FL,   FS_CASEFOLD_FL,	  FS_SYNC_FL };
	struct par_fd *h = par_pick_fd(p);
	int set = PAR_PICK(p, flags);
	struct fsxattr fsx = { .fsx_xflags = par_chance(p, 50) ? FS_XFLAG_NODUMP : FS_XFLAG_APPEND };
	bool xflags = par_chance(p, 20);
	struct par_outcome o[2];

	par_log(p, "%s %#x%s", h->path, xflags ? (int)fsx.fsx_xflags : set, xflags ? " by FSSETXATTR" : "");
	PAR_BOTH(o, xflags ? ioctl(h->fd[s], FS_IOC_FSSETXATTR, &fsx) : ioctl(h->fd[s], FS_IOC_SETFLAGS, &set));
	par_same(p, o);
	par_same_fstat(p, h);
}

/* Flags on, by name, what they forbid, and off again: so that they are met at all. */
static void par_op_protect(struct par *p)
{
	static const int flags[] = { FS_IMMUTABLE_FL, FS_APPEND_FL, FS_NOATIME_FL };
	int set = PAR_PICK(p, flags), none = 0, fd[2];
	unsigned what = (unsigned)par_below(p, 8);
	char path[PAR_PATH], other[PAR_PATH];
	struct par_outcome o[2];

	par_pick_any(p, path);
	par_pick_path(p, other);
	par_become(p, 0);
	par_log(p, "%s %#x, then %u with %s", path, set, what, other);
	PAR_BOTH(o, fd[s] = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW));
	if (!par_same_fds(p, o))
		return;
	PAR_BOTH(o, ioctl(fd[s], FS_IOC_SETFLAGS, &set));
	if (par_same(p, o)) {
		PAR_BOTH(o, what == 0	? unlink(path)
			    : what == 1 ? chmod(path, 0700)
			    : what == 2 ? truncate(path, 100)
			    : what == 3 ? link(path, other)
			    : what == 4 ? rename(path, other)
			    : what == 5 ? open(path, O_WRONLY | O_TRUNC | O_NONBLOCK)
			    : what == 6 ? open(path, O_WRONLY | O_APPEND | O_NONBLOCK)
					: utimensat(AT_FDCWD, path, NULL, 0));
		if (what == 5 || what == 6) {
			close((int)o[0].rc);
			close((int)o[1].rc);
			par_same_fds(p, o);
		} else {
			par_same(p, o);
		}
	}
	PAR_BOTH(o, ioctl(fd[s], FS_IOC_SETFLAGS, &none));
	par_same(p, o);
	close(fd[0]);
	close(fd[1]);
	par_same_lstat(p, path);
}

/* --- handles ------------------------------------------------------------------------------------------------------ */

union par_handle {
	struct file_handle fh;
	char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

static void par_op_handle(struct par *p)
{
	union par_handle handle[2] = { { .fh.handle_bytes = MAX_HANDLE_SZ }, { .fh.handle_bytes = MAX_HANDLE_SZ } };
	bool removed = par_chance(p, 20);
	struct par_outcome o[2];
	char path[PAR_PATH];
	int id;

	par_pick_any(p, path);
	par_log(p, "%s%s", path, removed ? ", removed before it is opened" : "");
	PAR_BOTH(o, name_to_handle_at(AT_FDCWD, path, &handle[s].fh, &id, 0));
	if (!par_same(p, o))
		return;
	if (removed) {
		PAR_BOTH(o, unlink(path));
		par_same(p, o);
	}
	PAR_BOTH(o, open_by_handle_at(p->side[s].root, &handle[s].fh, O_RDWR | O_NONBLOCK));
	if (par_same_fds(p, o))
		par_fd_keep(p, o, O_RDWR, path);
}

const struct par_op par_attr_ops[] = {
	{ "chmod", 18, par_op_chmod },	     { "chown", 14, par_op_chown },	  { "utimens", 30, par_op_utimens },
	{ "getflags", 8, par_op_getflags },  { "setflags", 5, par_op_setflags },  { "protect", 8, par_op_protect },
	{ "handle", 10, par_op_handle },     { NULL, 0, NULL },
};
