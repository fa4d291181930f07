/* SPDX-License-Identifier: MIT */
/*
 * session_mount.c: from options to a mount with a session of libfuse's and the workers' memory, and back.  Sets the
 * fields of struct session before there are threads, and frees them when there are none; no lock.  Called by main.c.
 */
#include "fuse-fs/session_impl.h"

#include "fuse-fs/log.h"
#include "fuse-fs/mountinfo.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_opt.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#define SESSION_STACK_BYTES  (256U << 10)
#define SESSION_NOTIFY_BYTES (128U << 10) /* stack of the notifier */

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
	conn->max_background = session_workers(se) - 1;
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
	follow_init(&se->follow, &se->crew);
	if (crew_init(&se->crew, session_workers(se)) != 0)
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

bool session_is_ours(const struct session *se)
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
	follow_destroy(&se->follow);
	crew_destroy(&se->crew);
	if (se->wake_fd >= 0)
		close(se->wake_fd);
	if (se->fs->session == se)
		se->fs->session = NULL;
	free(se->workers);
	free(se->mountpoint);
	free(se);
}
