/* SPDX-License-Identifier: MIT */
/*
 * crew.c: the counters are atomic, so that a request costs no lock unless somebody parks or is called.  Who parks says
 * so and then looks whether anybody reads; who stops reading says so and then looks whether anybody is parked: of two
 * who do that at the same time, one sees the other (sequentially consistent).  Called by session.c.
 */
#include "fuse-fs/crew.h"

#include "swapstore/util.h"

#include <errno.h>
#include <sched.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define CREW_WENT     (UINT64_C(1) << 32) /* to read, one more time */
#define CREW_READ     (CREW_WENT + 1)	   /* and is there */
#define CREW_STALL_MS 10 /* nobody has come to read for so long: somebody waits and has not said so */
#define CREW_LONE_MS  4 /* the same of the follower, which may get no processor while it serves alone */
#define CREW_CALM_MS  1000 /* nobody has begun to wait for so long: it is calm */

static int crew_limit(void)
{
	cpu_set_t set;
	long n;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	else
		n = sysconf(_SC_NPROCESSORS_ONLN); /* more than a cpu_set_t holds */
	return n < 2 ? 2 : (int)n;
}

int crew_init(struct crew *crew, unsigned workers)
{
	*crew = (struct crew){
		.limit = crew_limit(),
		.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
		.about = (int)workers,
	};
	pthread_mutex_init(&crew->lock, NULL);
	pthread_cond_init(&crew->called, NULL);
	pthread_cond_init(&crew->lone_begins, NULL);
	return crew->timer < 0 ? -errno : 0;
}

void crew_destroy(struct crew *crew)
{
	if (crew->timer >= 0)
		close(crew->timer);
	pthread_cond_destroy(&crew->called);
	pthread_cond_destroy(&crew->lone_begins);
	pthread_mutex_destroy(&crew->lock);
}

static unsigned crew_reading(struct crew *crew)
{
	return (uint32_t)atomic_load(&crew->reads);
}

static void crew_watch(struct crew *crew, uint64_t reads, long ms)
{
	const struct itimerspec once = { .it_value.tv_nsec = ms * 1000000L };

	if (atomic_exchange(&crew->watched, true))
		return;
	atomic_store(&crew->watched_reads, reads);
	timerfd_settime(crew->timer, 0, &once, NULL);
}

/* The follower reads no more; if it cannot be told at once, the timer sees to it. */
static void crew_dismiss(struct crew *crew, bool late)
{
	if (crew->dismiss != NULL && crew->dismiss(crew->dismiss_ctx, late))
		crew_watch(crew, atomic_load(&crew->reads), CREW_LONE_MS);
}

/*
 * The follower is dismissed first: it gets no processor perhaps, and may hold the lock all the same.  As many as may be
 * about come back: the rest would only find that they are too many.
 */
static void crew_lone_over(struct crew *crew, bool late)
{
	if (!atomic_exchange(&crew->lone, false))
		return;
	crew_dismiss(crew, late);
	pthread_mutex_lock(&crew->lock);
	for (int i = 0; i < crew->limit; i++)
		pthread_cond_signal(&crew->called);
	pthread_mutex_unlock(&crew->lock);
}

static void crew_call(struct crew *crew)
{
	if (atomic_exchange(&crew->lone, false))
		crew_dismiss(crew, false);
	pthread_mutex_lock(&crew->lock);
	if (atomic_load(&crew->parked) > 0) {
		atomic_store(&crew->parked, 0);
		crew->calls++;
		pthread_cond_broadcast(&crew->called);
	}
	pthread_mutex_unlock(&crew->lock);
}

bool crew_is_calm(struct crew *crew)
{
	return util_now_ms() - atomic_load(&crew->waited_ms) >= CREW_CALM_MS;
}

static bool crew_is_large(struct crew *crew)
{
	return crew_is_lone(crew) || (atomic_load(&crew->about) > crew->limit && crew_is_calm(crew));
}

/* May a parked worker go on sleeping? */
static bool crew_is_enough(struct crew *crew)
{
	return crew_is_lone(crew) || (atomic_load(&crew->about) >= crew->limit && crew_reading(crew) > 0);
}

static void crew_park(struct crew *crew)
{
	UTIL_LOCKED(&crew->lock);
	const uint64_t calls = crew->calls;

	if (!crew_is_large(crew)) /* another has parked meanwhile */
		return;
	atomic_fetch_add(&crew->parked, 1);
	atomic_fetch_sub(&crew->about, 1);
	while (!crew->ended && crew->calls == calls && crew_is_enough(crew))
		pthread_cond_wait(&crew->called, &crew->lock);
	if (crew->calls == calls)
		atomic_fetch_sub(&crew->parked, 1);
	atomic_fetch_add(&crew->about, 1);
}

void crew_read_begin(struct crew *crew)
{
	if (crew_is_large(crew))
		crew_park(crew);
	atomic_fetch_add(&crew->reads, CREW_READ);
}

void crew_read_end(struct crew *crew)
{
	uint64_t reads = atomic_fetch_sub(&crew->reads, 1) - 1;

	if ((uint32_t)reads == 0 && atomic_load(&crew->parked) > 0 && !crew_is_lone(crew))
		crew_watch(crew, reads, CREW_STALL_MS);
}

void crew_wait(struct crew *crew, bool begins)
{
	if (!begins) {
		atomic_fetch_add(&crew->about, 1);
		return;
	}
	atomic_fetch_sub(&crew->about, 1);
	atomic_store(&crew->waited_ms, util_now_ms());
	if (atomic_load(&crew->parked) > 0 || crew_is_lone(crew))
		crew_call(crew);
}

void crew_timer_fired(struct crew *crew)
{
	uint64_t times, seen = atomic_load(&crew->watched_reads), reads;

	if (read(crew->timer, &times, sizeof(times)) != (ssize_t)sizeof(times))
		return;
	atomic_store(&crew->watched, false);
	reads = atomic_load(&crew->reads);
	if (crew_is_lone(crew)) {
		if (reads >> 32 != seen >> 32)
			crew_watch(crew, reads, CREW_LONE_MS);
		else /* nothing to do, or no processor to do it on */
			crew_lone_over(crew, true);
		return;
	}
	crew_dismiss(crew, false);
	if ((uint32_t)reads > 0 || atomic_load(&crew->parked) == 0)
		return;
	if (reads == seen) {
		atomic_store(&crew->waited_ms, util_now_ms());
		crew_call(crew);
		return;
	}
	crew_watch(crew, reads, CREW_STALL_MS);
}

/* --- the follower --------------------------------------------------------------------------------------------- */

void crew_follower(struct crew *crew, bool (*dismiss)(void *ctx, bool late), void *ctx)
{
	crew->dismiss = dismiss;
	crew->dismiss_ctx = ctx;
}

bool crew_is_lone(struct crew *crew)
{
	return atomic_load(&crew->lone);
}

bool crew_follower_rests(struct crew *crew)
{
	return atomic_load(&crew->follower_rests);
}

bool crew_lone_begin(struct crew *crew)
{
	bool begins = false;

	pthread_mutex_lock(&crew->lock);
	begins = crew_follower_rests(crew) && !crew->ended;
	if (begins) {
		atomic_store(&crew->lone, true);
		atomic_store(&crew->follower_rests, false);
		pthread_cond_signal(&crew->lone_begins);
	}
	pthread_mutex_unlock(&crew->lock);
	if (begins)
		crew_watch(crew, atomic_load(&crew->reads), CREW_LONE_MS);
	return begins;
}

void crew_lone_end(struct crew *crew)
{
	crew_lone_over(crew, false);
}

bool crew_lone_await(struct crew *crew)
{
	UTIL_LOCKED(&crew->lock);

	atomic_store(&crew->follower_rests, true);
	while (!crew->ended && crew_follower_rests(crew))
		pthread_cond_wait(&crew->lone_begins, &crew->lock);
	return !crew->ended;
}

void crew_lone_read(struct crew *crew)
{
	atomic_fetch_add(&crew->reads, CREW_WENT);
}

void crew_end(struct crew *crew)
{
	pthread_mutex_lock(&crew->lock);
	crew->ended = true;
	pthread_cond_broadcast(&crew->called);
	pthread_cond_broadcast(&crew->lone_begins);
	pthread_mutex_unlock(&crew->lock);
	if (atomic_exchange(&crew->lone, false))
		crew_dismiss(crew, false);
}
