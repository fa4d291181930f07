/* SPDX-License-Identifier: MIT */
/*
 * crew_watcher.h: a thread that does for a crew what a mount's main thread does: it looks at the timer.
 */
#ifndef TESTS_UNIT_CREW_WATCHER_H
#define TESTS_UNIT_CREW_WATCHER_H

#include "fuse-fs/crew.h"

#include <check.h>
#include <poll.h>
#include <pthread.h>

struct crew_watcher {
	struct crew *crew;
	pthread_t thread;
	atomic_bool stop;
};

static inline void *crew_watcher_main(void *arg)
{
	struct crew_watcher *w = arg;
	struct pollfd fd = { .fd = w->crew->timer, .events = POLLIN };

	while (!atomic_load(&w->stop))
		if (poll(&fd, 1, 20) > 0)
			crew_timer_fired(w->crew);
	return NULL;
}

static inline void crew_watcher_start(struct crew_watcher *w, struct crew *crew)
{
	w->crew = crew;
	ck_assert_int_eq(pthread_create(&w->thread, NULL, crew_watcher_main, w), 0);
}

static inline void crew_watcher_stop(struct crew_watcher *w)
{
	atomic_store(&w->stop, true);
	pthread_join(w->thread, NULL);
}

#endif
