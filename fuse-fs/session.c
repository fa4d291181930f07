/* SPDX-License-Identifier: MIT */
/*
 * session.c: answers INIT, runs the pool of workers and ends it all in the right order; session_mount.c has made the
 * session.  Stopping and error are atomic, all else is set before the threads start; there is no lock.  Called by
 * main.c, in one thread; the session_* services by workers.
 *
 * The order of the end matters.  The notifiers go first, while workers still serve the writes that they may be
 * waiting for; then the workers; and only when nobody reads from the connection any more it is closed, which
 * aborts what is still under way, and unmounted.
 */
#include "fuse-fs/session_impl.h"

#include "fuse-fs/log.h"
#include "swapstore/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <syslog.h>
#include <unistd.h>

/* How long threads may take to end; longer than any I/O that will still come back. */
#define SESSION_STOP_SECONDS 20
/* Interrupts a worker's read() at the end; its handler does nothing. */
#define SESSION_KICK	     SIGUSR1

/* --- the workers -------------------------------------------------------------------------------------------------- */

static __thread struct session_worker *session_self;

void *session_buffer(const struct session *se, size_t *bytes)
{
	*bytes = session_self != NULL ? se->io_bytes + SESSION_PAGE : 0;
	return session_self != NULL ? session_self->request + SESSION_WRITE_HEADER : NULL;
}

/*
 * Reads one request.  Not fuse_session_receive_buf(): that may allocate, and reads as much as libfuse thinks a
 * buffer has, which before INIT is more than ours.  Returns its length, 0 when the connection is gone, -EINTR
 * to look at the flags and come again, or -errno.
 */
static ssize_t session_receive(struct session_worker *w)
{
	ssize_t n = read(fuse_session_fd(w->se->fuse), w->request, w->se->request_bytes);

	if (n >= (ssize_t)sizeof(struct fuse_in_header))
		return n;
	if (n >= 0)
		return -EIO;
	switch (errno) {
	case ENODEV:	   /* unmounted */
	case ECONNABORTED: /* aborted */
		return 0;
	case ENOENT: /* this request was withdrawn before we could read it */
	case EAGAIN:
		return -EINTR;
	default:
		return -errno;
	}
}

/* libfuse hands on the flags of a SETXATTR, but not its setxattr_flags. */
static void session_fold_setxattr_flags(char *request, size_t length)
{
	struct fuse_setxattr_in arg;
	char *at = request + sizeof(struct fuse_in_header);

	if (length < sizeof(struct fuse_in_header) + sizeof(arg))
		return;
	memcpy(&arg, at, sizeof(arg));
	arg.flags &= ~(uint32_t)FS_SETXATTR_KILL_SGID;
	if (arg.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID)
		arg.flags |= FS_SETXATTR_KILL_SGID;
	memcpy(at, &arg, sizeof(arg));
}

static void session_process(struct session_worker *w, size_t length)
{
	const struct fuse_in_header *in = (const struct fuse_in_header *)w->request;
	const struct fuse_buf buf = { .mem = w->request, .size = length };
	const uint32_t opcode = in->opcode < SPILLFS_CTL_OPCODES ? in->opcode : 0;

	atomic_fetch_add_explicit(&w->se->fs->requests[opcode], 1, memory_order_relaxed);
	if (in->opcode == FUSE_SETXATTR && w->se->setxattr_ext)
		session_fold_setxattr_flags(w->request, length);
	fuse_session_process_buf(w->se->fuse, &buf);
}

static void session_worker_waits(void *ctx, bool begins)
{
	struct session *se = ctx;

	crew_wait(&se->crew, begins);
}

/* Serves one request, if it still comes.  What session_receive() returned, or 0 when told to stop. */
static ssize_t session_serve_one(struct session_worker *w, bool by_follower)
{
	struct session *se = w->se;
	ssize_t n = -EINTR;

	atomic_store(&w->receiving, true);
	if (atomic_load(&se->stopping))
		return 0;
	if (!by_follower || crew_is_lone(&se->crew))
		n = session_receive(w);
	atomic_store(&w->receiving, false);
	if (!by_follower)
		crew_read_end(&se->crew);
	if (n > 0) {
		follow_request(&se->follow, (const struct fuse_in_header *)w->request, by_follower);
		session_process(w, (size_t)n);
	}
	return n;
}

static void session_worker_begins(struct session_worker *w, const char *name)
{
	session_self = w;
	util_on_wait(session_worker_waits, w->se);
	pthread_setname_np(pthread_self(), name);
}

/* It was told to stop, or the connection is gone, of which it tells the main thread. */
static void session_worker_ends(struct session *se, ssize_t n)
{
	if (n < 0 && n != -EINTR) {
		int none = 0;

		if (atomic_compare_exchange_strong(&se->error, &none, (int)n))
			fs_log(LOG_ERR, "reading requests: %s", strerror((int)-n));
	}
	fuse_session_exit(se->fuse);
	eventfd_write(se->wake_fd, 1);
}

static void *session_worker_main(void *arg)
{
	struct session_worker *w = arg;
	ssize_t n = -EINTR;

	session_worker_begins(w, "spillfs-worker");
	while (n > 0 || n == -EINTR) {
		crew_read_begin(&w->se->crew);
		n = session_serve_one(w, false);
	}
	session_worker_ends(w->se, n);
	return NULL;
}

static void *session_follower_main(void *arg)
{
	struct session_worker *w = arg;
	struct session *se = w->se;
	ssize_t n = -EINTR;

	session_worker_begins(w, "spillfs-follow");
	follow_thread_begins(&se->follow);
	while ((n > 0 || n == -EINTR) && crew_lone_await(&se->crew)) {
		follow_stay_begins(&se->follow);
		while ((n > 0 || n == -EINTR) && crew_is_lone(&se->crew)) {
			crew_lone_read(&se->crew);
			n = session_serve_one(w, true);
		}
		follow_stay_ends(&se->follow);
	}
	follow_thread_ends(&se->follow);
	/* Else the crew has ended, and the others still serve what the end needs. */
	if (n <= 0 && n != -EINTR)
		session_worker_ends(se, n);
	return NULL;
}

/* The crew does not want the follower to read any more. */
static bool session_dismiss_follower(void *ctx, bool late)
{
	struct session *se = ctx;
	struct session_worker *w = &se->workers[session_workers(se)];

	follow_dismiss(&se->follow, late);
	if (!atomic_load(&w->receiving))
		return false;
	pthread_kill(w->thread, SESSION_KICK);
	return true;
}

/* INIT is answered alone: until then nobody knows the sizes, and the kernel sends nothing else. */
static int session_answer_init(struct session *se)
{
	struct session_worker *w = &se->workers[0];

	while (!se->got_init && !fuse_session_exited(se->fuse)) {
		ssize_t n = session_receive(w);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? (int)n : -ENODEV;
		session_process(w, (size_t)n);
	}
	return fuse_session_exited(se->fuse) ? -EPROTO : 0;
}

static void session_kicked(int sig)
{
	(void)sig;
}

static int session_start(struct session *se)
{
	struct sigaction kick = { .sa_handler = session_kicked };
	pthread_attr_t attr;
	int err = 0;

	/* No SA_RESTART: read() has to come back. */
	sigaction(SESSION_KICK, &kick, NULL);
	area_thread_attr(&se->flusher_area, &attr);
	err = notifier_start(&se->flusher, &attr);
	pthread_attr_destroy(&attr);
	if (err != 0)
		return err;
	area_thread_attr(&se->notifier_area, &attr);
	err = notifier_start(&se->notifier, &attr);
	pthread_attr_destroy(&attr);
	crew_follower(&se->crew, session_dismiss_follower, se);
	for (unsigned i = 0; i < se->nworkers && err == 0; i++) {
		struct session_worker *w = &se->workers[i];

		area_thread_attr(&w->area, &attr);
		err = -pthread_create(&w->thread, &attr,
				      i == session_workers(se) ? session_follower_main : session_worker_main, w);
		w->started = err == 0;
		pthread_attr_destroy(&attr);
	}
	return err;
}

/*
 * Joins *thread, if *started.  A worker is kicked out of its read(); a kick that comes just before read() is
 * lost, so it is repeated.
 */
static int session_join(pthread_t thread, bool *started, const atomic_bool *receiving, int64_t deadline)
{
	const struct timespec pause = { .tv_nsec = 2000000 };

	while (*started && pthread_tryjoin_np(thread, NULL) != 0) {
		if (util_now_ms() >= deadline)
			return -ETIMEDOUT;
		if (receiving != NULL && atomic_load(receiving))
			pthread_kill(thread, SESSION_KICK);
		nanosleep(&pause, NULL);
	}
	*started = false;
	return 0;
}

/* All threads have ended, or -ETIMEDOUT: one waits for something that does not come, a dead disk most likely. */
static int session_stop(struct session *se)
{
	int64_t deadline = util_now_ms() + SESSION_STOP_SECONDS * 1000;
	int err = 0;

	crew_end(&se->crew);
	/* Else the kernel would take what is written to open files for ever, and have nobody to send it to. */
	atomic_store(&se->fs->ending, true);
	if (!fuse_session_exited(se->fuse))
		session_invalidate_writers(se);
	notifier_ask_to_stop(&se->flusher);
	notifier_ask_to_stop(&se->notifier);
	err = session_join(se->flusher.thread, &se->flusher.started, NULL, deadline);
	if (err == 0)
		err = session_join(se->notifier.thread, &se->notifier.started, NULL, deadline);
	atomic_store(&se->stopping, true);
	fuse_session_exit(se->fuse);
	for (unsigned i = 0; i < se->nworkers && err == 0; i++) {
		struct session_worker *w = &se->workers[i];

		err = session_join(w->thread, &w->started, &w->receiving, deadline);
	}
	return err;
}

/*
 * The end without the threads: nothing here is worth waiting for, the data dies with the process anyway.  The
 * connection is aborted first, as unmounting would wait for it: through sysfs where that is mounted, which the
 * mounter may do, and by MNT_FORCE, which takes a privilege.
 */
static void __attribute__((noreturn)) session_give_up(const struct session *se)
{
	char path[64];
	int fd = -1;

	fs_log(LOG_ERR, "threads do not end within %d seconds: giving up", SESSION_STOP_SECONDS);
	if (!session_is_ours(se)) /* unmounted already, and perhaps mounted anew */
		_exit(EXIT_FAILURE);
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", se->dev_minor);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "1", 1) != 1)
		fs_log(LOG_DEBUG, "%s: %s", path, strerror(errno));
	umount2(se->mountpoint, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW);
	_exit(EXIT_FAILURE);
}

/* Until a signal, or until a worker has seen the end of the connection. */
static void session_wait(struct session *se)
{
	struct pollfd fds[3] = {
		{ .fd = se->signal_fd, .events = POLLIN },
		{ .fd = se->wake_fd, .events = POLLIN },
		{ .fd = se->crew.timer, .events = POLLIN },
	};

	while (fds[0].revents == 0 && fds[1].revents == 0) {
		if (poll(fds, 3, -1) > 0 && fds[2].revents != 0)
			crew_timer_fired(&se->crew);
	}
	if (fds[0].revents != 0)
		fs_log(LOG_DEBUG, "asked to end");
}

int session_serve(struct session *se, void (*ready)(void *ctx), void *ctx, char *why, size_t why_len)
{
	sigset_t signals;
	int err = 0;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	se->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	err = se->signal_fd < 0 ? -errno : session_answer_init(se);
	if (err == 0)
		err = session_start(se);
	if (err == 0) {
		ready(ctx);
		session_wait(se);
	} else {
		snprintf(why, why_len, "cannot serve %s: %s", se->mountpoint, strerror(-err));
	}
	if (session_stop(se) != 0)
		session_give_up(se);
	if (err == 0 && atomic_load(&se->error) != 0) {
		err = atomic_load(&se->error);
		snprintf(why, why_len, "serving %s: %s", se->mountpoint, strerror(-err));
	}
	return err;
}

void session_guard(const struct session *se, const struct guard *guard)
{
	if (se->dev_minor != 0)
		guard_watch(guard, se->dev_minor, se->mountpoint, se->mount_id);
}

/* --- services to operations ----------------------------------------------------------------------------------- */

void session_flush_inode(struct session *se, struct session_flush *flush)
{
	notifier_flush(&se->flusher, flush);
}

void session_flush_now(struct session *se, fuse_ino_t ino)
{
	notifier_flush_now(&se->flusher, ino);
}

uint64_t session_window_bytes(const struct session *se, bool *ours)
{
	*ours = se->notifier.bdi.dir >= 0 && se->notifier.bdi.max_bytes != 0;
	return se->notifier.bdi.max_bytes;
}

unsigned session_workers(const struct session *se)
{
	return se->nworkers - 1;
}

bool session_set_window(struct session *se, uint64_t millionths)
{
	return bdi_set_window(&se->notifier.bdi, millionths);
}

void session_adjust_window(struct session *se)
{
	notifier_adjust_window(&se->notifier);
}

void session_flush_writers(struct session *se)
{
	notifier_flush_writers(&se->flusher);
}

void session_invalidate_writers(struct session *se)
{
	notifier_invalidate_writers(&se->notifier);
}

bool session_holds_path(const struct session *se, const char *path)
{
	const size_t n = strlen(se->mountpoint);
	struct stat st;

	if (strncmp(path, se->mountpoint, n) == 0 && (n == 1 || path[n] == '/' || path[n] == '\0'))
		return true;
	/* Other workers answer, should it be our own mount that this asks. */
	return se->dev_minor != 0 && stat(path, &st) == 0 && st.st_dev == makedev(se->dev_major, se->dev_minor);
}

void session_attrs_changed(struct session *se, fuse_ino_t ino)
{
	int err = fuse_lowlevel_notify_inval_inode(se->fuse, ino, -1, 0);

	if (err != 0 && err != -ENOENT)
		fs_log(LOG_DEBUG, "inval_inode %lu: %s", (unsigned long)ino, strerror(-err));
}
