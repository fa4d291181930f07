/* SPDX-License-Identifier: MIT */
/*
 * parity_names: parity's steps that make, link, move and remove names.  Keeps no state.
 */
#include "tests/mount/parity.h"

#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

/* A path may be longer than what a call takes: then there is nothing to look at afterwards. */
static void par_look(struct par *p, const char *path)
{
	if (!p->diverged && strlen(path) < PATH_MAX)
		par_same_lstat(p, path);
}

static void par_op_mkdir(struct par *p)
{
	static const mode_t modes[] = { 0777, 0755, 0700, 02777, 01777, 04777, 0, 0177777 };
	mode_t mode = PAR_PICK(p, modes);
	struct par_outcome o[2];
	char path[PAR_PATH];

	par_pick_odd(p, path);
	par_log(p, "%.100s mode %o", path, mode);
	PAR_BOTH(o, mkdir(path, mode));
	par_same(p, o);
	par_look(p, path);
}

static void par_op_rmdir(struct par *p)
{
	struct par_outcome o[2];
	char path[PAR_PATH];

	par_pick_odd(p, path);
	if (par_chance(p, 5))
		strcpy(path, PAR_PICK(p, ((const char *const[]){ ".", "d0/.", "d0/..", "d0/e0/.." })));
	par_log(p, "%.100s", path);
	PAR_BOTH(o, rmdir(path));
	par_same(p, o);
	par_look(p, path);
}

static void par_op_unlink(struct par *p)
{
	struct par_outcome o[2];
	char path[PAR_PATH];

	par_pick_odd(p, path);
	par_log(p, "%.100s", path);
	PAR_BOTH(o, unlink(path));
	par_same(p, o);
	par_look(p, path);
}

static void par_op_mknod(struct par *p)
{
	static const struct {
		mode_t type;
		unsigned major, minor;
	} kinds[] = { { S_IFREG, 0, 0 }, { S_IFIFO, 0, 0 }, { S_IFIFO, 3, 4 },	 { S_IFSOCK, 0, 0 },	 { S_IFCHR, 1, 3 },
		      { S_IFCHR, 0, 0 }, { S_IFCHR, 1, 5 }, { S_IFBLK, 4001, 7 }, { S_IFBLK, 4000, 99999 }, { S_IFDIR, 0, 0 },
		      { 0, 0, 0 },	 { S_IFLNK, 0, 0 }, { 0170000, 0, 0 } };
	size_t kind = par_below(p, sizeof(kinds) / sizeof(kinds[0]));
	struct par_outcome o[2];
	char path[PAR_PATH];

	par_pick_odd(p, path);
	par_log(p, "%.100s type %o %u:%u", path, kinds[kind].type, kinds[kind].major, kinds[kind].minor);
	PAR_BOTH(o, mknod(path, kinds[kind].type | 0666, makedev(kinds[kind].major, kinds[kind].minor)));
	par_same(p, o);
	par_look(p, path);
}

/* A name for a socket, and somebody who connects to it. */
static void par_op_socket(struct par *p)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd[2] = { -1, -1 }, client[2];
	struct par_outcome o[2];
	char path[PAR_PATH];

	par_pick_path(p, path);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.90s", path);
	par_log(p, "%s", path);
	PAR_BOTH(o, (fd[s] = socket(AF_UNIX, SOCK_STREAM, 0),
		     bind(fd[s], (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(fd[s], 1) != 0 ? -1 : 0));
	par_same(p, o);
	par_look(p, path);
	PAR_BOTH(o, (client[s] = socket(AF_UNIX, SOCK_STREAM, 0),
		     connect(client[s], (struct sockaddr *)&addr, sizeof(addr))));
	par_same(p, o);
	for (int s = 0; s < 2; s++) {
		close(fd[s]);
		close(client[s]);
	}
}

static void par_op_symlink(struct par *p)
{
	static const char *const targets[] = { "d0/f1", "../d1/f2", "nowhere", ".",	 "f0",	    "../d0/f1",
					       "f1",	"",	    "d1/",     "e0/g/f6", "../d0/e0" };
	char path[PAR_PATH], target[PAR_PATH], got[2][PATH_MAX];
	struct par_outcome o[2];

	par_pick_odd(p, path);
	snprintf(target, sizeof(target), "%s", PAR_PICK(p, targets));
	if (par_chance(p, 10)) {
		static const size_t edges[] = { 126, 127, 128, 200, 4000, 4094, 4095, 4096 };
		size_t len = PAR_PICK(p, edges);

		memset(target, 't', len);
		target[len] = '\0';
	}
	par_log(p, "%.100s to %.100s", path, target);
	PAR_BOTH(o, symlink(target, path));
	par_same(p, o);
	par_look(p, path);
	PAR_BOTH(o, readlink(path, got[s], sizeof(got[s])));
	if (par_same(p, o))
		par_same_bytes(p, got[0], got[1], (size_t)o[0].rc, 0);
	par_look(p, path);
}

static void par_op_readlink(struct par *p)
{
	size_t len = par_chance(p, 80) ? PATH_MAX : par_below(p, 6);
	char path[PAR_PATH], got[2][PATH_MAX];
	struct par_outcome o[2];

	par_pick_odd(p, path);
	par_log(p, "%.100s len %zu", path, len);
	PAR_BOTH(o, readlink(path, got[s], len));
	if (par_same(p, o))
		par_same_bytes(p, got[0], got[1], (size_t)o[0].rc, 0);
	par_look(p, path);
}

static void par_op_link(struct par *p)
{
	static const int flags[] = { 0, 0, 0, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH, 0x100000 };
	char from[PAR_PATH], to[PAR_PATH];
	int how = PAR_PICK(p, flags);
	struct par_outcome o[2];

	par_pick_odd(p, from);
	par_pick_odd(p, to);
	par_log(p, "%.100s as %.100s flags %#x", from, to, how);
	PAR_BOTH(o, linkat(AT_FDCWD, from, AT_FDCWD, to, how));
	par_same(p, o);
	par_look(p, to);
	par_look(p, from);
}

/* An open file gets a name: a temporary one its first, a removed one none. */
static void par_op_link_open(struct par *p)
{
	struct par_fd *h = par_pick_fd(p);
	bool by_proc = par_chance(p, 50);
	struct par_outcome o[2];
	char to[PAR_PATH], proc[64];

	par_pick_path(p, to);
	par_log(p, "%s as %s by %s", h->path, to, by_proc ? "/proc" : "AT_EMPTY_PATH");
	PAR_BOTH(o, by_proc ? (snprintf(proc, sizeof(proc), "/proc/self/fd/%d", h->fd[s]),
			       linkat(AT_FDCWD, proc, AT_FDCWD, to, AT_SYMLINK_FOLLOW))
			    : linkat(h->fd[s], "", AT_FDCWD, to, AT_EMPTY_PATH));
	par_same(p, o);
	par_look(p, to);
	par_same_fstat(p, h);
}

static void par_renaming(struct par *p, const char *from, const char *to)
{
	static const unsigned flags[] = { 0,
					  0,
					  0,
					  RENAME_NOREPLACE,
					  RENAME_EXCHANGE,
					  RENAME_EXCHANGE,
					  RENAME_WHITEOUT,
					  RENAME_NOREPLACE | RENAME_EXCHANGE,
					  RENAME_NOREPLACE | RENAME_WHITEOUT,
					  RENAME_EXCHANGE | RENAME_WHITEOUT,
					  8 };
	unsigned how = PAR_PICK(p, flags);
	struct par_outcome o[2];

	par_log(p, "%.100s to %.100s flags %u", from, to, how);
	PAR_BOTH(o, renameat2(AT_FDCWD, from, AT_FDCWD, to, how));
	par_same(p, o);
	par_look(p, from);
	par_look(p, to);
	if ((how & RENAME_WHITEOUT) && !p->diverged && strlen(from) < PATH_MAX)
		par_same_xattrs(p, from);
}

static void par_op_rename(struct par *p)
{
	char from[PAR_PATH], to[PAR_PATH];

	par_pick_odd(p, from);
	par_pick_odd(p, to);
	par_renaming(p, from, to);
}

/* Directories; often one into another that is below it. */
static void par_op_rename_dir(struct par *p)
{
	const char *from = PAR_PICK(p, par_dirs), *to = PAR_PICK(p, par_dirs);
	char below[PAR_PATH];

	snprintf(below, sizeof(below), "%s%s", to, par_chance(p, 30) ? "/moved" : "");
	par_renaming(p, from, below);
	if (par_chance(p, 70)) /* mostly back again, or soon nothing is where the other steps look */
		par_renaming(p, below, from);
}

/* So many directories, one inside the other, with long names; then they go again, or some of them stay. */
static void par_op_deep(struct par *p)
{
	unsigned depth = 2 + (unsigned)par_below(p, 30), stay = par_chance(p, 80) ? 0 : 3;
	const char *top = PAR_PICK(p, par_dirs);
	char name[200];
	struct par_outcome o[2];
	int at[2][33];

	memset(name, 'd', sizeof(name) - 1);
	name[par_below(p, sizeof(name) - 1) + 1] = '\0';
	name[sizeof(name) - 1] = '\0';
	par_log(p, "%u below %s, names of %zu", depth, top, strlen(name));
	PAR_BOTH(o, at[s][0] = open(top, O_RDONLY | O_DIRECTORY));
	if (!par_same_fds(p, o))
		return;
	for (unsigned i = 0; i < depth; i++) {
		PAR_BOTH(o, mkdirat(at[s][i], name, 0777));
		par_same(p, o);
		PAR_BOTH(o, at[s][i + 1] = openat(at[s][i], name, O_RDONLY | O_DIRECTORY));
		if (!par_same_fds(p, o))
			depth = i;
	}
	for (unsigned i = depth; i > 0; i--) {
		close(at[0][i]);
		close(at[1][i]);
		if (i <= stay)
			continue;
		PAR_BOTH(o, unlinkat(at[s][i - 1], name, AT_REMOVEDIR));
		par_same(p, o);
	}
	close(at[0][0]);
	close(at[1][0]);
}

/* What makes a file that is removed while it is open remain, and be as it was. */
static void par_op_orphan(struct par *p)
{
	struct par_outcome o[2];
	char path[PAR_PATH];

	par_pick_path(p, path);
	par_log(p, "%s", path);
	PAR_BOTH(o, open(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW));
	if (!par_same_fds(p, o))
		return;
	par_fd_keep(p, o, O_RDWR, path);
	PAR_BOTH(o, unlink(path));
	par_same(p, o);
}

const struct par_op par_name_ops[] = {
	{ "mkdir", 15, par_op_mkdir },	     { "rmdir", 10, par_op_rmdir },	      { "unlink", 18, par_op_unlink },
	{ "mknod", 12, par_op_mknod },	     { "socket", 4, par_op_socket },	      { "symlink", 14, par_op_symlink },
	{ "readlink", 12, par_op_readlink }, { "link", 16, par_op_link },	      { "link_open", 8, par_op_link_open },
	{ "rename", 25, par_op_rename },     { "rename_dir", 6, par_op_rename_dir },  { "deep", 3, par_op_deep },
	{ "orphan", 8, par_op_orphan },	     { NULL, 0, NULL },
};
