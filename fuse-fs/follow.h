/* SPDX-License-Identifier: MIT */
/*
 * follow: a lone caller is served by one worker on the caller's own processor.
 *
 * Who works on names and attributes alone (tar, rm -r, git, find) sends a request and sleeps until it is answered.  The
 * scheduler puts whoever is woken on a processor that is idle, that is on another one than the waker's, and an idle
 * processor has to be woken first: on a virtual machine that takes 40 us, each way, for a request that takes 5.  When
 * the worker runs on the caller's processor neither of them ever waits for another one.  But the caller would leave as
 * soon as it is woken, as the worker still runs there; unless the worker's policy is SCHED_IDLE, because a processor
 * that runs nothing else counts as idle: the caller stays, takes it over at once, and the worker goes on with reading
 * the next request when the caller sleeps again.
 *
 *            FOLLOW_STREAK small requests of one thread, one soon after the other, and the crew is calm
 *   workers serve ──────────────────────────────────────────────────────────────────> the follower serves
 *      ^                                                                                              v
 *      └── another thread's request, large ones, a wait for the disk, or none at all for 4 ms ────────┘
 *
 * A thread of this policy gets next to nothing of a processor that others want.  Hence it serves nobody else, and only
 * where processors are idle, as there is nothing to gain where none is.  When it does not come to serve all the same,
 * the last of the reasons above has the workers read what is waiting.  After a stay that was short, or ended like that,
 * the next one has to wait, longer each time.
 */
#ifndef FUSE_FS_FOLLOW_H
#define FUSE_FS_FOLLOW_H

#include "fuse-fs/crew.h"

#include <linux/fuse.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/types.h>

struct follow {
	struct crew *crew;
	/* set by follow_thread_begins() */
	cpu_set_t allowed;
	pid_t follower;
	int load_fd; /* /proc/loadavg */
	long cpus;   /* of the machine that it is about */
	atomic_bool able;
	/* guesses: of two who write at the same time one is forgotten */
	_Atomic uint32_t caller;       /* the thread whose request was the last */
	_Atomic unsigned streak;       /* how many of its were the last ones */
	_Atomic int64_t streak_ms;     /* since when */
	_Atomic int64_t not_before_ms; /* the follower may serve again then */
	atomic_bool starved;	       /* it got no processor while the caller waited for it */
	/* the follower's own */
	uint32_t looked_at; /* the thread that stat_fd is of */
	int stat_fd;	    /* /proc/<thread>/stat, or -1 */
	unsigned unlooked; /* requests since it looked where the caller is */
	int64_t last_ns;
	int64_t quick_ms;  /* when the last FOLLOW_STREAK requests began */
	uint64_t served;   /* of the caller's, during this stay */
	int bulk;	   /* see FOLLOW_BULK */
	long pause_ms;
};

void follow_init(struct follow *f, struct crew *crew);

void follow_destroy(struct follow *f);

/* In the follower's thread, before anything else: where processors or rights do not allow it, it will never serve. */
void follow_thread_begins(struct follow *f);
void follow_thread_ends(struct follow *f);

/* A worker, or the follower, has read this request and is about to serve it. */
void follow_request(struct follow *f, const struct fuse_in_header *in, bool by_follower);

/* Around the follower's stay: between crew_lone_await() and the next. */
void follow_stay_begins(struct follow *f);
void follow_stay_ends(struct follow *f);

/*
 * The follower is not to serve any more.  It may be holding what others want: as far as the kernel allows it becomes a
 * thread like them.  late: it has not come to read for a moment, as nobody has asked, or as it got no processor, which is
 * found out here.  Any thread; late: one.
 */
void follow_dismiss(struct follow *f, bool late);

#endif
