/* SPDX-License-Identifier: MIT */
/*
 * session.c: mounts, answers INIT, runs the pool of workers and ends it all in the right order.  Owns the
 * connection, the workers' memory and the two notifiers.  Its fields are set before the threads start; stopping and
 * error are atomic; there is no lock.  Called by main.c, in one thread; the session_* services by workers.
 *
 * The order of the end matters.  The notifiers go first, while workers still serve the writes that they may be
 * waiting for; then the workers; and only when nobody reads from the connection any more it is closed, which
 * aborts what is still under way, and unmounted.
 */
#include "fuse-fs/session.h"

#include "fuse-fs/area.h"
#include "fuse-fs/crew.h"
#include "fuse-fs/log.h"
#include "fuse-fs/mountinfo.h"
#include "fuse-fs/notifier.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_opt.h>
#include <limits.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#define SESSION_PAGE	     4096U
#define SESSION_STACK_BYTES  (256U << 10)
#define SESSION_NOTIFY_BYTES (128U << 10) /* stack of the notifier */
/* In front of a WRITE's data.  Placed at the end of a page, so that the data begins with the next one. */
#define SESSION_WRITE_HEADER (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
/* How long threads may take to end; longer than any I/O that will still come back. */
#define SESSION_STOP_SECONDS 20
/* Interrupts a worker's read() at the end; its handler does nothing. */
#define SESSION_KICK	     SIGUSR1

struct session_worker {
	struct session *se;
	struct area area;
	char *request; /* where a request is read to: its part of session.buffers */
	pthread_t thread;
	bool started;
	atomic_bool receiving; /* in or about to be in read() */
};

struct session {
	/* set by session_mount() */
	struct fs *fs;
	struct fuse_session *fuse;
	char *mountpoint;
	unsigned dev_major, dev_minor; /* of the mount: 0:0 when unknown */
	size_t io_bytes;
	size_t request_bytes;
	unsigned nworkers;
	struct session_worker *workers;
	struct crew crew;
	char *buffers; /* of all workers, one mapping */
	uint64_t mount_id; /* the kernel never gives it to another mount; 0 when unknown (before Linux 6.8) */
	struct area notifier_area, flusher_area;
	struct notifier notifier; /* attributes and limits: must never wait for writes */
	struct notifier flusher;  /* flushes: waits for writes */
	int wake_fd; /* eventfd: a worker tells the main thread that the connection is gone */
	int signal_fd;
	/* set by INIT, before there are workers */
	bool got_init, setxattr_ext;
	/* atomic */
	atomic_bool stopping;
	_Atomic int error; /* the first real error of a worker's read() */
};

/* A page for headers, the data, a page for what may follow it. */
static size_t session_request_bytes(size_t io_bytes)
{
	return io_bytes + 2 * SESSION_PAGE;
}

static size_t session_buffers_bytes(unsigned workers, size_t io_bytes)
{
	return workers * session_request_bytes(io_bytes);
}

uint64_t session_bytes(unsigned workers, size_t io_bytes)
{
	uint64_t worker = area_bytes(SESSION_STACK_BYTES) + sizeof(struct session_worker);

	/* What malloc holds for libfuse's requests and for the worker table is small change beside it. */
	return workers * worker + util_map_bytes(session_buffers_bytes(workers, io_bytes)) +
	       2 * area_bytes(SESSION_NOTIFY_BYTES);
}

/* --- memory: nothing on the request path may be touched for the first time (DESIGN 4.3) --------------------- */

static int session_map_all(struct session *se)
{
	const size_t bytes = session_buffers_bytes(se->nworkers, se->io_bytes);
	int err = area_map(&se->notifier_area, SESSION_NOTIFY_BYTES);

	if (err == 0)
		err = area_map(&se->flusher_area, SESSION_NOTIFY_BYTES);
	se->buffers = util_map(bytes);
	if (se->buffers == NULL)
		return -ENOMEM;
	area_lock(se->buffers, bytes);
	for (unsigned i = 0; i < se->nworkers && err == 0; i++) {
		struct session_worker *w = &se->workers[i];

		w->se = se;
		w->request = se->buffers + session_buffers_bytes(i, se->io_bytes) + SESSION_PAGE - SESSION_WRITE_HEADER;
		err = area_map(&w->area, SESSION_STACK_BYTES);
	}
	return err;
}

/* --- INIT ----------------------------------------------------------------------------------------------------- */

static void session_want(struct fuse_conn_info *conn, struct fs *fs)
{
	/* The kernel need not ask twice: nobody but us changes anything, and what we change it was told. */
	static const uint64_t wanted[] = {
		FUSE_CAP_ASYNC_READ,	       FUSE_CAP_ASYNC_DIO,
		FUSE_CAP_ATOMIC_O_TRUNC,       FUSE_CAP_EXPORT_SUPPORT,
		FUSE_CAP_PARALLEL_DIROPS,      FUSE_CAP_READDIRPLUS,
		FUSE_CAP_READDIRPLUS_AUTO,     FUSE_CAP_HANDLE_KILLPRIV_V2,
		FUSE_CAP_CACHE_SYMLINKS,       FUSE_CAP_IOCTL_DIR,
		FUSE_CAP_DIRECT_IO_ALLOW_MMAP, FUSE_CAP_EXPLICIT_INVAL_DATA,
		FUSE_CAP_DONT_MASK,
	};
	/* Defaults of libfuse that must not be: the loop here reads plain buffers, and data has one writer. */
	static const uint64_t unwanted[] = {
		FUSE_CAP_SPLICE_READ,	  FUSE_CAP_SPLICE_WRITE,  FUSE_CAP_SPLICE_MOVE,
		FUSE_CAP_AUTO_INVAL_DATA, FUSE_CAP_OVER_IO_URING,
	};

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		fuse_set_feature_flag(conn, wanted[i]);
	for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++)
		fuse_unset_feature_flag(conn, unwanted[i]);
	if (fs->cache == SPILLFS_CACHE_KERNEL)
		fuse_set_feature_flag(conn, FUSE_CAP_WRITEBACK_CACHE);
	/* Without the former an ACL could be used to keep an sgid that one may not have. */
	fs->acl = fs->acl && fuse_set_feature_flag(conn, FUSE_CAP_SETXATTR_EXT) &&
		  fuse_set_feature_flag(conn, FUSE_CAP_POSIX_ACL);
}

static void session_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;
	struct session *se = fs->session;

	session_want(conn, fs);
	conn->max_write = (unsigned)se->io_bytes;
	conn->max_read = (unsigned)se->io_bytes;
	conn->max_readahead = UINT_MAX; /* bdi.c says how much */
	/* One worker is always left for what a process waits for, even if all write-back waits for a disk that stalls. */
	conn->max_background = se->nworkers - 1;
	conn->congestion_threshold = conn->max_background;
	conn->time_gran = 1;
	/* A request here takes as long as its swap I/O: nothing worth interrupting. */
	conn->no_interrupt = 1;
	se->setxattr_ext = fuse_get_feature_flag(conn, FUSE_CAP_SETXATTR_EXT);
	se->got_init = true;
}

/* --- mounting --------------------------------------------------------------------------------------------------- */

static void session_fill_ops(struct fs *fs, struct fuse_lowlevel_ops *ops)
{
	memset(ops, 0, sizeof(*ops));
	fs_ops_names(ops);
	fs_ops_attrs(ops);
	fs_ops_dirs(ops);
	fs_ops_xattrs(ops);
	fs_ops_files(ops);
	fs_ops_ctl(ops);
	fs_ops_space(fs, ops);
	ops->init = session_init;
}

static struct fuse_session *session_new_fuse(struct session *se, const struct options *opt)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_lowlevel_ops ops;
	struct fuse_session *fuse = NULL;
	char *list = opt->fuse_opts != NULL ? strdup(opt->fuse_opts) : NULL;
	char *fsname = NULL;
	char max_read[32];

	session_fill_ops(se->fs, &ops);
	snprintf(max_read, sizeof(max_read), "max_read=%zu", se->io_bytes);
	if (asprintf(&fsname, "fsname=%s", opt->source) < 0)
		fsname = NULL;
	if (fsname != NULL && fuse_opt_add_opt_escaped(&list, fsname) == 0 &&
	    fuse_opt_add_opt(&list, "subtype=spillfs") == 0 && fuse_opt_add_opt(&list, max_read) == 0 &&
	    fuse_opt_add_arg(&args, "spillfs") == 0 && fuse_opt_add_arg(&args, "-o") == 0 &&
	    fuse_opt_add_arg(&args, list) == 0 && (!opt->debug || fuse_opt_add_arg(&args, "-d") == 0))
		fuse = fuse_session_new(&args, &ops, sizeof(ops), se->fs);
	fuse_opt_free_args(&args);
	free(fsname);
	free(list);
	return fuse;
}

/*
 * libfuse logs, and fusermount3 writes to stderr, why a mount failed; both are caught so that one line can say
 * it.  Returns 0 or -EIO.
 */
static int session_mount_fuse(struct session *se, char *why, size_t why_len)
{
	char cause[512];
	char text[512] = "";
	int err = 0;
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	int caught = memfd_create("spillfs-mount", MFD_CLOEXEC);

	if (saved >= 0 && caught >= 0)
		dup2(caught, STDERR_FILENO);
	fs_log_capture(cause, sizeof(cause));
	if (fuse_session_mount(se->fuse, se->mountpoint) != 0)
		err = -EIO;
	fs_log_capture_end();
	if (saved >= 0 && caught >= 0) {
		dup2(saved, STDERR_FILENO);
		if (pread(caught, text, sizeof(text) - 1, 0) > 0)
			text[strcspn(text, "\n")] = '\0';
	}
	if (saved >= 0)
		close(saved);
	if (caught >= 0)
		close(caught);
	if (err != 0)
		snprintf(why, why_len, "cannot mount at %s: %s", se->mountpoint,
			 text[0] != '\0'    ? text
			 : cause[0] != '\0' ? cause
					    : "libfuse does not say why");
	return err;
}

/* Only the set-uid helper may unmount for a plain user. */
static void session_run_fusermount(char *path)
{
	char *argv[] = { "fusermount3", "-u", "-q", "-z", "--", path, NULL };
	pid_t pid = 0;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) == 0)
		waitpid(pid, NULL, 0);
}

int session_mount(struct fs *fs, const struct options *opt, unsigned workers, size_t io_bytes, struct session **out,
		  char *why, size_t why_len)
{
	struct session *se = calloc(1, sizeof(*se));
	int err = -ENOMEM;

	assert(io_bytes >= (64U << 10) && io_bytes <= SS_IO_MAX && (io_bytes & (io_bytes - 1)) == 0);
	snprintf(why, why_len, "not enough memory for %u workers", workers);
	if (se == NULL)
		return err;
	se->fs = fs;
	se->io_bytes = io_bytes;
	se->request_bytes = session_request_bytes(io_bytes) - SESSION_PAGE + SESSION_WRITE_HEADER;
	se->nworkers = workers;
	se->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	se->signal_fd = -1;
	se->notifier.bdi.dir = -1;
	if (crew_init(&se->crew, workers) != 0)
		goto fail;
	se->mountpoint = strdup(opt->mountpoint);
	se->workers = calloc(workers, sizeof(*se->workers));
	if (se->mountpoint == NULL || se->workers == NULL || se->wake_fd < 0)
		goto fail;
	err = session_map_all(se);
	if (err != 0)
		goto fail;
	fs_log_capture(why, why_len);
	se->fuse = session_new_fuse(se, opt);
	fs_log_capture_end();
	err = -EINVAL;
	if (se->fuse == NULL) {
		if (why[0] == '\0')
			snprintf(why, why_len, "libfuse refuses the options %s", opt->fuse_opts);
		goto fail;
	}
	notifier_init(&se->notifier, fs, se->fuse);
	notifier_init(&se->flusher, fs, se->fuse);
	fs->session = se;
	err = session_mount_fuse(se, why, why_len);
	if (err != 0)
		goto fail;
	se->mount_id = mountinfo_mount_id(se->mountpoint);
	if (mountinfo_find_spillfs(se->mountpoint, &se->dev_major, &se->dev_minor))
		bdi_open(&se->notifier.bdi, se->dev_major, se->dev_minor);
	*out = se;
	return 0;
fail:
	session_destroy(se);
	return err;
}

/* Is what is mounted there still ours?  Device numbers are used again at once, the path by anybody. */
static bool session_is_ours(const struct session *se)
{
	return se->mount_id != 0 && mountinfo_mount_id(se->mountpoint) == se->mount_id;
}

/* libfuse takes a connection that was aborted (through sysfs) for unmounted and leaves a dead mount behind. */
static void session_unmount_dead(const struct session *se)
{
	if (!session_is_ours(se))
		return;
	if (umount2(se->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno == EPERM)
		session_run_fusermount(se->mountpoint);
}

void session_destroy(struct session *se)
{
	if (se->fuse != NULL) {
		fuse_session_unmount(se->fuse);
		session_unmount_dead(se);
		fuse_session_destroy(se->fuse);
	}
	for (unsigned i = 0; se->workers != NULL && i < se->nworkers; i++)
		area_unmap(&se->workers[i].area);
	area_unmap(&se->notifier_area);
	area_unmap(&se->flusher_area);
	if (se->buffers != NULL)
		util_unmap(se->buffers, session_buffers_bytes(se->nworkers, se->io_bytes));
	bdi_close(&se->notifier.bdi);
	if (se->signal_fd >= 0)
		close(se->signal_fd);
	crew_destroy(&se->crew);
	if (se->wake_fd >= 0)
		close(se->wake_fd);
	if (se->fs->session == se)
		se->fs->session = NULL;
	free(se->workers);
	free(se->mountpoint);
	free(se);
}

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

/* Serves until told to stop, or until the connection is gone, of which it tells the main thread. */
static void *session_worker_main(void *arg)
{
	struct session_worker *w = arg;
	struct session *se = w->se;
	ssize_t n = -EINTR;

	session_self = w;
	util_on_wait(session_worker_waits, se);
	pthread_setname_np(pthread_self(), "spillfs-worker");
	while (n > 0 || n == -EINTR) {
		crew_read_begin(&se->crew);
		atomic_store(&w->receiving, true);
		if (atomic_load(&se->stopping))
			break;
		n = session_receive(w);
		atomic_store(&w->receiving, false);
		crew_read_end(&se->crew);
		if (n > 0)
			session_process(w, (size_t)n);
	}
	if (n < 0 && n != -EINTR) {
		int none = 0;

		if (atomic_compare_exchange_strong(&se->error, &none, (int)n))
			fs_log(LOG_ERR, "reading requests: %s", strerror((int)-n));
	}
	fuse_session_exit(se->fuse);
	eventfd_write(se->wake_fd, 1);
	return NULL;
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
	for (unsigned i = 0; i < se->nworkers && err == 0; i++) {
		struct session_worker *w = &se->workers[i];

		area_thread_attr(&w->area, &attr);
		err = -pthread_create(&w->thread, &attr, session_worker_main, w);
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
