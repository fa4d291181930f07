/* SPDX-License-Identifier: MIT */
/*
 * notifier: a thread that tells the kernel to flush or to forget what it caches.  There are two of them, as a flush
 * may wait for writes and the rest must not.  Private to session.c,
 * which offers its services to the operations under session_* names.
 */
#ifndef FUSE_FS_NOTIFIER_H
#define FUSE_FS_NOTIFIER_H

#include "fuse-fs/bdi.h"
#include "fuse-fs/session.h"

struct notifier {
	/* set by notifier_start() */
	struct fs *fs;
	struct fuse_session *fuse;
	pthread_t thread;
	bool started;
	struct bdi bdi;
	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct session_flush *flushes, **flushes_end;
	bool all_writers; /* are to be told of */
	unsigned walks;	  /* and so often again */
	bool window;
	bool stop;
};

void notifier_init(struct notifier *nt, struct fs *fs, struct fuse_session *fuse);

/* Starts the thread; attr: its stack.  0 or -errno. */
int notifier_start(struct notifier *nt, const pthread_attr_t *attr);

/*
 * The thread will end, having flushed what is queued; session.c joins it.  Workers must run until it has: what
 * the kernel is asked to flush, they write.  Flushes asked for from now on are done at once, without the kernel.
 */
void notifier_ask_to_stop(struct notifier *nt);

/* Flushes every file that is open for writing, and waits for it: in the notifier's own thread. */
void notifier_flush_writers(struct notifier *nt);
void notifier_flush(struct notifier *nt, struct session_flush *flush);
/* Flushes now and waits: for done() of another flush, in the notifier's thread.  Nothing after notifier_stop(). */
void notifier_flush_now(struct notifier *nt, fuse_ino_t ino);
void notifier_invalidate_writers(struct notifier *nt);
void notifier_adjust_window(struct notifier *nt);

#endif
