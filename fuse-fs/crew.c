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

#define CREW_READ     ((UINT64_C(1) << 32) + 1) /* one more in read(), one more time */
#define CREW_STALL_MS 10 /* nobody has come to read for so long: somebody waits and has not said so */
#define CREW_CALM_MS  1000 /* nobody has begun to wait for so long: it is calm */

static unsigned crew_limit(void)
{
	cpu_set_t set;
	long n;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	else
		n = sysconf(_SC_NPROCESSORS_ONLN); /* more than a cpu_set_t holds */
	return n < 2 ? 2 : (unsigned)n;
}

int crew_init(struct crew *crew, unsigned workers)
{
	*crew = (struct crew){
		.limit = crew_limit(),
		.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
		.about = workers,
	};
	pthread_mutex_init(&crew->lock, NULL);
	pthread_cond_init(&crew->called, NULL);
	return crew->timer < 0 ? -errno : 0;
}

void crew_destroy(struct crew *crew)
{
	if (crew->timer >= 0)
		close(crew->timer);
	pthread_cond_destroy(&crew->called);
	pthread_mutex_destroy(&crew->lock);
}

static unsigned crew_reading(struct crew *crew)
{
	return (uint32_t)atomic_load(&crew->reads);
}

static void crew_call(struct crew *crew)
{
	pthread_mutex_lock(&crew->lock);
	if (atomic_load(&crew->parked) > 0) {
		atomic_store(&crew->parked, 0);
		crew->calls++;
		pthread_cond_broadcast(&crew->called);
	}
	pthread_mutex_unlock(&crew->lock);
}

static bool crew_is_large(struct crew *crew)
{
	return atomic_load(&crew->about) > crew->limit &&
	       util_now_ms() - atomic_load(&crew->waited_ms) >= CREW_CALM_MS;
}

static void crew_park(struct crew *crew)
{
	UTIL_LOCKED(&crew->lock);
	const uint64_t calls = crew->calls;

	if (!crew_is_large(crew)) /* another has parked meanwhile */
		return;
	atomic_fetch_add(&crew->parked, 1);
	atomic_fetch_sub(&crew->about, 1);
	while (!crew->ended && crew->calls == calls && crew_reading(crew) > 0)
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

static void crew_watch(struct crew *crew, uint64_t reads)
{
	static const struct itimerspec once = { .it_value.tv_nsec = CREW_STALL_MS * 1000000L };

	if (atomic_exchange(&crew->watched, true))
		return;
	atomic_store(&crew->watched_reads, reads);
	timerfd_settime(crew->timer, 0, &once, NULL);
}

void crew_read_end(struct crew *crew)
{
	uint64_t reads = atomic_fetch_sub(&crew->reads, 1) - 1;

	if ((uint32_t)reads == 0 && atomic_load(&crew->parked) > 0)
		crew_watch(crew, reads);
}

void crew_wait(struct crew *crew, bool begins)
{
	if (!begins) {
		atomic_fetch_add(&crew->about, 1);
		return;
	}
	atomic_fetch_sub(&crew->about, 1);
	atomic_store(&crew->waited_ms, util_now_ms());
	if (atomic_load(&crew->parked) > 0)
		crew_call(crew);
}

void crew_timer_fired(struct crew *crew)
{
	uint64_t times, seen = atomic_load(&crew->watched_reads), reads;

	if (read(crew->timer, &times, sizeof(times)) != (ssize_t)sizeof(times))
		return;
	atomic_store(&crew->watched, false);
	reads = atomic_load(&crew->reads);
	if ((uint32_t)reads > 0 || atomic_load(&crew->parked) == 0)
		return;
	if (reads == seen) {
		atomic_store(&crew->waited_ms, util_now_ms());
		crew_call(crew);
		return;
	}
	crew_watch(crew, reads);
}

void crew_end(struct crew *crew)
{
	pthread_mutex_lock(&crew->lock);
	crew->ended = true;
	pthread_cond_broadcast(&crew->called);
	pthread_mutex_unlock(&crew->lock);
}
