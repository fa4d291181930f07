/* SPDX-License-Identifier: MIT */
/*
 * parity_data: parity's steps that open files and that read and write through descriptors.  What they open stays in
 * the table of open files.
 */
#include "tests/mount/parity.h"

#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20
#endif
#ifndef RWF_ATOMIC
#define RWF_ATOMIC 0x40
#endif
#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80
#endif

/* --- opening ------------------------------------------------------------------------------------------------------ */

static void par_op_open(struct par *p)
{
	static const int access[] = { O_RDONLY, O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, O_RDWR, O_ACCMODE };
	static const struct {
		int flag;
		unsigned percent;
	} extra[] = { { O_CREAT, 45 },	  { O_EXCL, 10 }, { O_TRUNC, 8 }, { O_APPEND, 15 }, { O_NOFOLLOW, 10 },
		      { O_DIRECTORY, 6 }, { O_PATH, 4 },  { O_SYNC, 4 },  { O_DSYNC, 4 },   { O_NOATIME, 6 },
		      { O_DIRECT, 8 } };
	static const mode_t modes[] = { 0666, 0644, 0600, 0400, 0, 07777, 02755, 04755, 0222 };
	int flags = PAR_PICK(p, access) | O_NONBLOCK | O_CLOEXEC; /* a FIFO must not keep us */
	mode_t mode = PAR_PICK(p, modes);
	struct par_outcome o[2];
	char path[PAR_PATH];

	for (size_t i = 0; i < sizeof(extra) / sizeof(extra[0]); i++)
		flags |= par_chance(p, extra[i].percent) ? extra[i].flag : 0;
	par_pick_odd(p, path);
	par_log(p, "%.100s flags %#o mode %o", path, flags, mode);
	PAR_BOTH(o, open(path, flags, mode));
	if (par_same_fds(p, o))
		par_fd_keep(p, o, flags, path);
	else if (strlen(path) < PATH_MAX)
		par_same_lstat(p, path);
}

static void par_op_creat(struct par *p)
{
	struct par_outcome o[2];
	char path[PAR_PATH];

	par_pick_odd(p, path);
	if (par_chance(p, 50)) /* a FIFO or a device would keep us: only what is certainly new */
		snprintf(path, sizeof(path), "%s/new%" PRIu64, PAR_PICK(p, par_dirs), par_below(p, 1000));
	par_log(p, "%.100s", path);
	PAR_BOTH(o, open(path, O_CREAT | O_WRONLY | O_TRUNC | O_NONBLOCK, 0666));
	if (par_same_fds(p, o))
		par_fd_keep(p, o, O_WRONLY, path);
}

static void par_op_tmpfile(struct par *p)
{
	static const int extra[] = { 0, 0, O_EXCL, O_APPEND, O_DIRECT, O_NOATIME, O_SYNC };
	int flags = O_TMPFILE | (par_chance(p, 90) ? O_RDWR : O_RDONLY) | PAR_PICK(p, extra);
	const char *dir = par_chance(p, 95) ? PAR_PICK(p, par_dirs) : "d0/f1";
	mode_t mode = par_chance(p, 50) ? 0666 : 02770;
	struct par_outcome o[2];

	par_log(p, "in %s flags %#o", dir, flags);
	PAR_BOTH(o, open(dir, flags, mode));
	if (par_same_fds(p, o))
		par_fd_keep(p, o, flags & ~O_TMPFILE, dir);
}

static void par_op_close(struct par *p)
{
	struct par_fd *h = par_pick_fd(p);

	par_log(p, "%s", h->path);
	if (h->used)
		p->shared->successes[p->op_index]++;
	par_fd_close(h);
}

static void par_op_dup(struct par *p)
{
	struct par_fd *h = par_pick_fd(p);
	struct par_outcome o[2];

	par_log(p, "%s", h->path);
	PAR_BOTH(o, fcntl(h->fd[s], F_DUPFD_CLOEXEC, 0));
	if (par_same_fds(p, o)) {
		struct par_fd copy = *h; /* keeping it may close h */

		par_fd_keep(p, o, copy.flags, copy.path);
	}
}

/* By /proc: follows to the file itself, also when it has no name any more. */
static void par_op_reopen(struct par *p)
{
	struct par_fd *h = par_pick_fd(p), copy = *h;
	int flags = (par_chance(p, 50) ? O_RDWR : O_RDONLY) | (par_chance(p, 10) ? O_TRUNC : 0) | O_NONBLOCK;
	struct par_outcome o[2];
	char proc[64];

	par_log(p, "%s flags %#o", h->path, flags);
	PAR_BOTH(o, (snprintf(proc, sizeof(proc), "/proc/self/fd/%d", h->fd[s]), open(proc, flags)));
	if (par_same_fds(p, o))
		par_fd_keep(p, o, flags, copy.path);
}

static void par_op_setfl(struct par *p)
{
	static const int flags[] = { O_APPEND, O_DIRECT, O_NOATIME, 0, O_APPEND | O_DIRECT, O_ASYNC };
	struct par_fd *h = par_pick_fd(p);
	int set = PAR_PICK(p, flags) | O_NONBLOCK;
	struct par_outcome o[2];

	par_log(p, "%s flags %#o", h->path, set);
	PAR_BOTH(o, fcntl(h->fd[s], F_SETFL, set));
	par_same(p, o);
	PAR_BOTH(o, fcntl(h->fd[s], F_GETFL));
	par_same(p, o);
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* The buffer in three pieces, none of them of a round length. */
static int par_pieces(unsigned char *buf, size_t len, struct iovec iov[3])
{
	size_t first = len / 3, second = len / 5;

	iov[0] = (struct iovec){ buf, first };
	iov[1] = (struct iovec){ buf + first, second };
	iov[2] = (struct iovec){ buf + first + second, len - first - second };
	return 3;
}

static void par_op_read(struct par *p)
{
	static const int rwf[] = { 0, 0, RWF_HIPRI, RWF_NOWAIT, RWF_DSYNC, RWF_SYNC, RWF_APPEND, RWF_DONTCACHE, 0x4000 };
	struct par_fd *h = par_pick_fd(p);
	unsigned how = (unsigned)par_below(p, 5);
	int flags = PAR_PICK(p, rwf);
	bool here = par_chance(p, 30);
	struct iovec iov[2][3];
	struct par_outcome o[2];
	size_t len;
	off_t off;

	par_pick_range(p, &off, &len);
	par_log(p, "how %u %s off %lld len %zu rwf %#x", how, h->path, (long long)off, len, how < 4 ? 0 : flags);
	par_pieces(p->rbuf[0], len, iov[0]);
	par_pieces(p->rbuf[1], len, iov[1]);
	PAR_BOTH(o, how == 0   ? read(h->fd[s], p->rbuf[s], len)
		    : how == 1 ? pread(h->fd[s], p->rbuf[s], len, off)
		    : how == 2 ? readv(h->fd[s], iov[s], 3)
		    : how == 3 ? preadv(h->fd[s], iov[s], 3, off)
			       : preadv2(h->fd[s], iov[s], 3, here ? -1 : off, flags));
	if (par_same(p, o))
		par_same_bytes(p, p->rbuf[0], p->rbuf[1], (size_t)o[0].rc, how % 2 ? off : 0);
	par_same_fstat(p, h);
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static void par_op_write(struct par *p)
{
	static const int rwf[] = { 0,	       0,	     RWF_DSYNC,	 RWF_SYNC,    RWF_APPEND,
				   RWF_HIPRI, RWF_NOAPPEND, RWF_ATOMIC, RWF_NOWAIT, RWF_APPEND | RWF_DSYNC };
	struct par_fd *h = par_pick_fd(p);
	unsigned how = (unsigned)par_below(p, 5);
	int flags = PAR_PICK(p, rwf);
	bool here = par_chance(p, 30);
	struct par_outcome o[2];
	struct iovec iov[3];
	size_t len;
	off_t off;

	par_pick_range(p, &off, &len);
	if (how % 2 == 0)
		len %= 30000; /* appends must not grow files for ever */
	par_fill(p, len);
	par_log(p, "how %u %s off %lld len %zu rwf %#x", how, h->path, (long long)off, len, how < 4 ? 0 : flags);
	par_pieces(p->wbuf, len, iov);
	PAR_BOTH(o, how == 0   ? write(h->fd[s], p->wbuf, len)
		    : how == 1 ? pwrite(h->fd[s], p->wbuf, len, off)
		    : how == 2 ? writev(h->fd[s], iov, 3)
		    : how == 3 ? pwritev(h->fd[s], iov, 3, off)
			       : pwritev2(h->fd[s], iov, 3, here ? -1 : off, flags));
	par_same(p, o);
	par_same_fstat(p, h);
}

/* A few bytes at the end of the file, many of them small: what logs do. */
static void par_op_append(struct par *p)
{
	struct par_fd *h = par_pick_regular(p);
	struct par_outcome o[2];

	if (!h)
		return;
	par_log(p, "%s", h->path);
	PAR_BOTH(o, lseek(h->fd[s], 0, SEEK_END));
	if (!par_same(p, o))
		return;
	for (int i = 0; i < 5 && !p->diverged; i++) {
		size_t len = 1 + par_below(p, 3000);

		par_fill(p, len);
		PAR_BOTH(o, write(h->fd[s], p->wbuf, len));
		par_same(p, o);
	}
	par_same_fstat(p, h);
}

/* The process's own limit on the size of files. */
static void par_op_limit(struct par *p)
{
	struct par_fd *h = par_pick_regular(p);
	struct rlimit limit = { .rlim_cur = par_below(p, p->max_size), .rlim_max = RLIM_INFINITY };
	bool truncating = par_chance(p, 30);
	struct par_outcome o[2];
	size_t len;
	off_t off;

	if (!h)
		return;
	par_pick_range(p, &off, &len);
	par_fill(p, len);
	par_log(p, "%llu: %s %s off %lld len %zu", (unsigned long long)limit.rlim_cur, truncating ? "ftruncate" : "pwrite",
		h->path, (long long)off, len);
	if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
		return;
	PAR_BOTH(o, truncating ? ftruncate(h->fd[s], off) : pwrite(h->fd[s], p->wbuf, len, off));
	limit.rlim_cur = RLIM_INFINITY;
	setrlimit(RLIMIT_FSIZE, &limit);
	par_same(p, o);
	par_same_fstat(p, h);
}

/* --- without buffers of ours -------------------------------------------------------------------------------------- */

static void par_op_sendfile(struct par *p)
{
	struct par_fd *in = par_pick_fd(p), *out = par_pick_fd(p);
	bool at = par_chance(p, 50);
	struct par_outcome o[2];
	off_t off, at_off[2];
	size_t len;

	par_pick_range(p, &off, &len);
	at_off[0] = at_off[1] = off;
	par_log(p, "from %s %lld%s to %s len %zu", in->path, (long long)off, at ? "" : " (not used)", out->path, len);
	PAR_BOTH(o, sendfile(out->fd[s], in->fd[s], at ? &at_off[s] : NULL, len));
	par_same(p, o);
	if (at_off[0] != at_off[1])
		par_differ(p, "offset", "spillfs %lld, tmpfs %lld", (long long)at_off[0], (long long)at_off[1]);
	par_same_fstat(p, in);
	par_same_fstat(p, out);
}

static bool par_same_file(const struct par_fd *a, const struct par_fd *b)
{
	struct stat st[2];

	return fstat(a->fd[1], &st[0]) == 0 && fstat(b->fd[1], &st[1]) == 0 && st[0].st_ino == st[1].st_ino;
}

/* File to pipe, and what arrived in the pipe to another file. */
static void par_op_splice(struct par *p)
{
	struct par_fd *in = par_pick_fd(p), *out = par_pick_fd(p);
	int pipes[2][2] = { { -1, -1 }, { -1, -1 } };
	struct par_outcome o[2];
	off_t off, to;
	size_t len;

	if (par_same_file(in, out))
		return; /* in tmpfs a pipe holds the pages of the file themselves, not copies */
	par_pick_range(p, &off, &len);
	to = (off_t)par_below(p, p->max_size);
	len = len % 60000 + 1;
	par_log(p, "from %s %lld to %s %lld len %zu", in->path, (long long)off, out->path, (long long)to, len);
	for (int s = 0; s < 2; s++) {
		if (pipe2(pipes[s], O_NONBLOCK) != 0)
			par_die("pipe2");
	}
	PAR_BOTH(o, splice(in->fd[s], &(off_t){ off }, pipes[s][1], NULL, len, 0));
	if (par_same(p, o) && o[0].rc > 0) {
		PAR_BOTH(o, splice(pipes[s][0], NULL, out->fd[s], &(off_t){ to }, (size_t)o[s].rc, 0));
		par_same(p, o);
		par_same_fstat(p, out);
	}
	par_same_fstat(p, in);
	for (int s = 0; s < 2; s++) {
		close(pipes[s][0]);
		close(pipes[s][1]);
	}
}

const struct par_op par_data_ops[] = {
	{ "open", 90, par_op_open },	 { "creat", 10, par_op_creat },	      { "tmpfile", 10, par_op_tmpfile },
	{ "close", 30, par_op_close },	 { "dup", 8, par_op_dup },	      { "reopen", 12, par_op_reopen },
	{ "setfl", 6, par_op_setfl },	 { "read", 70, par_op_read },	      { "write", 80, par_op_write },
	{ "append", 15, par_op_append }, { "limit", 6, par_op_limit },	      { "sendfile", 12, par_op_sendfile },
	{ "splice", 12, par_op_splice }, { NULL, 0, NULL },
};
