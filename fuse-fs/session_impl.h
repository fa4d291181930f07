/* SPDX-License-Identifier: MIT */
/*
 * session_impl: what session.c (the workers, and the end) and session_mount.c (memory, libfuse's session, mounting and
 * unmounting) share, and nobody else sees.
 */
#ifndef FUSE_FS_SESSION_IMPL_H
#define FUSE_FS_SESSION_IMPL_H

#include "fuse-fs/session.h"

#include "fuse-fs/area.h"
#include "fuse-fs/crew.h"
#include "fuse-fs/follow.h"
#include "fuse-fs/notifier.h"

#include <linux/fuse.h>
#include <stdatomic.h>

#define SESSION_PAGE	     4096U
/* In front of a WRITE's data.  Placed at the end of a page, so that the data begins with the next one. */
#define SESSION_WRITE_HEADER (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

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
	struct session_worker *workers; /* the last one is the follower */
	struct crew crew;
	struct follow follow;
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

/* Is what is mounted there still ours?  Device numbers are used again at once, the path by anybody. */
bool session_is_ours(const struct session *se);

#endif
