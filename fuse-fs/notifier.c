/* SPDX-License-Identifier: MIT */
/*
 * notifier.c: the thread that sends the kernel its notifications.  Owns the queue of them, guarded by nt->lock,
 * which is a leaf: nothing is called with it held.  A worker only ever queues: inval_inode waits in the kernel
 * until dirty pages are written, which takes a free worker.  Called by session.c.
 *
 * That wait cannot be interrupted, not even by SIGKILL: should the daemon be killed in the middle of a flush,
 * this thread keeps the connection open and whoever waits for the mount waits on, until it is unmounted (or
 * the connection aborted).  So a flush is asked for only where nothing else will do.
 */
#include "fuse-fs/notifier.h"

#include "fuse-fs/log.h"
#include "swapstore/util.h"

#include <errno.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#define NOTIFIER_BATCH	  256
/* All writers are told of so often, so long apart. */
#define NOTIFIER_WALKS	  2
#define NOTIFIER_PAUSE_NS 1000000

/* False: the kernel does not know the inode (any more).  ENOTCONN and the like: it is all over. */
static bool notifier_tell(struct notifier *nt, fuse_ino_t ino, off_t offset)
{
	int err = fuse_lowlevel_notify_inval_inode(nt->fuse, ino, offset, 0);

	if (err != 0 && err != -ENOENT)
		fs_log(LOG_DEBUG, "inval_inode %lu: %s", (unsigned long)ino, strerror(-err));
	return err != -ENOENT;
}

/*
 * Notifies of all that is open for writing, with no lock held.  offset: -1 for attributes alone, 0 for data too.  False:
 * the kernel does not know one whose attributes last, so the reply that opened it is still on its way.
 */
static bool notifier_walk_writers(struct notifier *nt, off_t offset)
{
	struct writers_found found[NOTIFIER_BATCH];
	uint32_t from = UINT32_MAX;
	bool known = true;
	size_t n;

	while ((n = writers_some(&nt->fs->writers, &from, found, NOTIFIER_BATCH)) > 0)
		for (size_t i = 0; i < n; i++)
			if (!notifier_tell(nt, found[i].ino, offset) && found[i].lasting)
				known = false;
	return known;
}

/*
 * Tells that all writers' attributes are not good any more; how many walks are still to follow.  A reply with attributes
 * that last may have been made up before, and the kernel takes it afterwards: the one to a CREATE before it knows the
 * inode at all, so it is told again until it does; any other within a moment.
 */
static unsigned notifier_walk(struct notifier *nt, unsigned walks)
{
	const struct timespec pause = { .tv_nsec = NOTIFIER_PAUSE_NS };

	walks = notifier_walk_writers(nt, -1) ? walks - 1 : NOTIFIER_WALKS;
	if (walks > 0)
		nanosleep(&pause, NULL);
	return walks;
}

/* Takes whatever is queued, all kinds at once, and does it.  nt->lock is held, but not while it works. */
static void notifier_work_locked(struct notifier *nt)
{
	struct session_flush *flush = nt->flushes;
	unsigned walks = nt->all_writers ? NOTIFIER_WALKS : nt->walks;
	bool window = nt->window;

	nt->flushes = NULL;
	nt->flushes_end = &nt->flushes;
	nt->all_writers = nt->window = false;
	pthread_mutex_unlock(&nt->lock);

	if (window && !bdi_set_window(&nt->bdi, window_millionths(nt->fs)))
		window_refused(nt->fs);
	/* Attributes first: they cost nothing and keep writers from running past the end. */
	if (walks > 0)
		walks = notifier_walk(nt, walks);
	while (flush != NULL) {
		struct session_flush *next = flush->next;

		notifier_tell(nt, flush->ino, 0);
		flush->done(flush);
		flush = next;
	}
	pthread_mutex_lock(&nt->lock);
	nt->walks = walks;
}

static void *notifier_main(void *arg)
{
	struct notifier *nt = arg;

	pthread_mutex_lock(&nt->lock);
	while (!nt->stop || nt->flushes != NULL || nt->all_writers) {
		if (nt->flushes == NULL && !nt->all_writers && nt->walks == 0 && !nt->window)
			pthread_cond_wait(&nt->wake, &nt->lock);
		else
			notifier_work_locked(nt);
	}
	pthread_mutex_unlock(&nt->lock);
	return NULL;
}

void notifier_init(struct notifier *nt, struct fs *fs, struct fuse_session *fuse)
{
	memset(nt, 0, sizeof(*nt));
	nt->bdi.dir = -1;
	nt->fs = fs;
	nt->fuse = fuse;
	nt->flushes_end = &nt->flushes;
	pthread_mutex_init(&nt->lock, NULL);
	pthread_cond_init(&nt->wake, NULL);
}

int notifier_start(struct notifier *nt, const pthread_attr_t *attr)
{
	int err = pthread_create(&nt->thread, attr, notifier_main, nt);

	nt->started = err == 0;
	return -err;
}

void notifier_ask_to_stop(struct notifier *nt)
{
	pthread_mutex_lock(&nt->lock);
	nt->stop = true;
	pthread_cond_signal(&nt->wake);
	pthread_mutex_unlock(&nt->lock);
}

void notifier_flush(struct notifier *nt, struct session_flush *flush)
{
	bool late = false;

	flush->next = NULL;
	pthread_mutex_lock(&nt->lock);
	late = nt->stop;
	if (!late) {
		*nt->flushes_end = flush;
		nt->flushes_end = &flush->next;
		pthread_cond_signal(&nt->wake);
	}
	pthread_mutex_unlock(&nt->lock);
	if (late)
		flush->done(flush);
}

static bool notifier_is_late(struct notifier *nt)
{
	UTIL_LOCKED(&nt->lock);

	return nt->stop;
}

void notifier_flush_now(struct notifier *nt, fuse_ino_t ino)
{
	if (!notifier_is_late(nt))
		notifier_tell(nt, ino, 0);
}

void notifier_invalidate_writers(struct notifier *nt)
{
	pthread_mutex_lock(&nt->lock);
	nt->all_writers = true;
	pthread_cond_signal(&nt->wake);
	pthread_mutex_unlock(&nt->lock);
}

void notifier_adjust_window(struct notifier *nt)
{
	pthread_mutex_lock(&nt->lock);
	nt->window = true;
	pthread_cond_signal(&nt->wake);
	pthread_mutex_unlock(&nt->lock);
}

void notifier_flush_writers(struct notifier *nt)
{
	if (!notifier_is_late(nt))
		notifier_walk_writers(nt, 0);
}
