/* SPDX-License-Identifier: MIT */
/*
 * parity_locks: parity's steps on locks: flock(), those of POSIX and of open files, leases and seals.  Keeps no state;
 * what other processes see of a lock a child says.
 */
#include "tests/mount/parity.h"

#include <sys/file.h>
#include <sys/wait.h>

static void par_op_flock(struct par *p)
{
	static const int hows[] = { LOCK_SH, LOCK_EX, LOCK_UN, LOCK_SH | LOCK_EX };
	struct par_fd *h = par_pick_fd(p);
	int how = PAR_PICK(p, hows) | LOCK_NB;
	struct par_outcome o[2];

	par_log(p, "%s %d", h->path, how);
	PAR_BOTH(o, flock(h->fd[s], how));
	par_same(p, o);
}

static struct flock par_pick_lock(struct par *p)
{
	static const short types[] = { F_RDLCK, F_WRLCK, F_UNLCK, F_WRLCK, 7 }, whences[] = { SEEK_SET, SEEK_SET, SEEK_CUR, SEEK_END };

	return (struct flock){ .l_type = PAR_PICK(p, types),
			       .l_whence = PAR_PICK(p, whences),
			       .l_start = (off_t)par_below(p, 20) - (par_chance(p, 10) ? 20 : 0),
			       .l_len = (off_t)par_below(p, 30) - (par_chance(p, 10) ? 10 : 0) };
}

static void par_op_lock(struct par *p)
{
	static const int cmds[] = { F_SETLK, F_OFD_SETLK, F_OFD_SETLK, F_OFD_GETLK, F_GETLK };
	struct flock lock = par_pick_lock(p), got[2];
	struct par_fd *h = par_pick_fd(p);
	int cmd = PAR_PICK(p, cmds);
	struct par_outcome o[2];

	par_log(p, "%s cmd %d type %d whence %d start %lld len %lld", h->path, cmd, lock.l_type, lock.l_whence,
		(long long)lock.l_start, (long long)lock.l_len);
	PAR_BOTH(o, (got[s] = lock, fcntl(h->fd[s], cmd, &got[s])));
	if (par_same(p, o) && memcmp(&got[0], &got[1], sizeof(lock)) != 0)
		par_differ(p, "lock", "spillfs type %d start %lld len %lld, tmpfs type %d start %lld len %lld",
			   got[0].l_type, (long long)got[0].l_start, (long long)got[0].l_len, got[1].l_type,
			   (long long)got[1].l_start, (long long)got[1].l_len);
}

/* What another process would run into, as one number; -1: it could not ask. */
static long par_seen_by_child(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (fcntl(fd, F_GETLK, &lock) != 0)
			_exit(255);
		_exit(lock.l_type == F_UNLCK ? 0 : 1 + lock.l_type * 2 + (lock.l_pid == getppid()) + (int)(lock.l_start & 63) * 4);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void par_op_lock_seen(struct par *p)
{
	struct par_fd *h = par_pick_regular(p);
	struct par_outcome o[2];

	if (!h)
		return;
	par_log(p, "%s", h->path);
	PAR_BOTH(o, par_seen_by_child(h->fd[s]));
	par_same(p, o);
}

static void par_op_lease(struct par *p)
{
	static const int types[] = { F_RDLCK, F_WRLCK };
	struct par_fd *h = par_pick_fd(p);
	int type = PAR_PICK(p, types);
	struct par_outcome o[2];

	par_log(p, "%s %d", h->path, type);
	PAR_BOTH(o, fcntl(h->fd[s], F_SETLEASE, type));
	if (!par_same(p, o))
		return;
	PAR_BOTH(o, fcntl(h->fd[s], F_GETLEASE));
	par_same(p, o);
	PAR_BOTH(o, fcntl(h->fd[s], F_SETLEASE, F_UNLCK));
	par_same(p, o);
}

static void par_op_seals(struct par *p)
{
	struct par_fd *h = par_pick_fd(p);
	struct par_outcome o[2];

	par_log(p, "%s", h->path);
	PAR_BOTH(o, fcntl(h->fd[s], F_GET_SEALS));
	p->shared->successes[p->op_index] += o[1].rc >= 0;
	par_same(p, o);
}

const struct par_op par_lock_ops[] = {
	{ "flock", 12, par_op_flock }, { "lock", 16, par_op_lock },   { "lock_seen", 2, par_op_lock_seen },
	{ "lease", 3, par_op_lease },  { "seals", 1, par_op_seals },  { NULL, 0, NULL },
};
