/* SPDX-License-Identifier: MIT */
/*
 * guard.c: the guard's whole life, and the daemon's two ends of it.  No shared state but the pipe; no lock.  Called by
 * main.c and session.c in the main thread.
 */
#include "fuse-fs/guard.h"

#include "fuse-fs/log.h"
#include "fuse-fs/mountinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

/* How long a killed daemon may take to go.  The kernel frees its memory in that time. */
#define GUARD_GRACE_MS 3000
#define GUARD_DEATH    SIGUSR1

struct guard_charge {
	uint64_t mount_id;
	unsigned minor;
	char mountpoint[PATH_MAX];
};

/* --- the guard ---------------------------------------------------------------------------------------------------- */

static void guard_abort(const struct guard_charge *charge)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", charge->minor);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "1", 1) == 1)
		return;
	/* Where that is not mounted, root can still say so by unmounting, which aborts first. */
	if (charge->mount_id != 0 && mountinfo_mount_id(charge->mountpoint) == charge->mount_id)
		umount2(charge->mountpoint, MNT_FORCE | UMOUNT_NOFOLLOW);
}

/* Takes the charge when it comes.  False at the end of the pipe. */
static bool guard_read(struct guard_charge *charge)
{
	struct guard_charge got;
	ssize_t n = read(STDIN_FILENO, &got, sizeof(got));

	if (n == (ssize_t)sizeof(got))
		*charge = got;
	return n > 0 || (n < 0 && errno == EINTR);
}

static void __attribute__((noreturn)) guard_main(pid_t daemon_pid)
{
	static struct guard_charge charge;
	struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .events = POLLIN } };
	int timeout = -1;
	sigset_t death;

	sigfillset(&death);
	sigprocmask(SIG_SETMASK, &death, NULL); /* a terminal's ^C is for the daemon */
	sigemptyset(&death);
	sigaddset(&death, GUARD_DEATH);
	fds[1].fd = signalfd(-1, &death, SFD_CLOEXEC);
	prctl(PR_SET_NAME, "spillfs-guard");
	if (fds[1].fd < 0 || prctl(PR_SET_PDEATHSIG, GUARD_DEATH) != 0 || getppid() != daemon_pid)
		_exit(EXIT_FAILURE);
	for (;;) {
		int n = poll(fds, timeout < 0 ? 2 : 1, timeout);

		if (n > 0 && fds[0].revents != 0 && !guard_read(&charge))
			_exit(EXIT_SUCCESS);
		if (n == 0)
			break;
		if (n > 0 && fds[1].revents != 0)
			timeout = GUARD_GRACE_MS;
	}
	if (charge.minor != 0)
		guard_abort(&charge);
	_exit(EXIT_SUCCESS);
}

/* --- the daemon's side --------------------------------------------------------------------------------------------- */

void guard_start(struct guard *guard)
{
	pid_t self = getpid();
	int fds[2];

	guard->fd = -1;
	if (pipe2(fds, O_CLOEXEC) != 0)
		return;
	guard->pid = fork();
	if (guard->pid == 0) {
		/* Keeps nothing of the daemon's: no terminal, no pipe of whoever waits for the mount. */
		dup2(fds[0], STDIN_FILENO);
		close_range(STDOUT_FILENO, UINT_MAX, 0);
		setsid();
		if (chdir("/") == 0)
			guard_main(self);
		_exit(EXIT_FAILURE);
	}
	close(fds[0]);
	if (guard->pid < 0) {
		fs_log(LOG_DEBUG, "fork: %s", strerror(errno));
		close(fds[1]);
		return;
	}
	guard->fd = fds[1];
}

void guard_watch(const struct guard *guard, unsigned minor, const char *mountpoint, uint64_t mount_id)
{
	static struct guard_charge charge; /* larger than a stack likes; one mount, one thread */

	if (guard->fd < 0 || strlen(mountpoint) >= sizeof(charge.mountpoint))
		return;
	charge.minor = minor;
	charge.mount_id = mount_id;
	strcpy(charge.mountpoint, mountpoint);
	/* Not more than a pipe takes at once, or the guard could read half of it. */
	if (write(guard->fd, &charge, sizeof(charge)) != (ssize_t)sizeof(charge))
		fs_log(LOG_DEBUG, "guard: %s", strerror(errno));
}

void guard_stop(struct guard *guard)
{
	if (guard->fd < 0)
		return;
	close(guard->fd);
	guard->fd = -1;
	while (waitpid(guard->pid, NULL, 0) < 0 && errno == EINTR)
		;
}
