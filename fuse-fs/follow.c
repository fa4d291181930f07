/* SPDX-License-Identifier: MIT */
/*
 * follow.c: recognises a lone caller and keeps the follower on its processor.  There is no lock: what several threads
 * write are guesses, and whether the follower serves is the crew's to know.  Called by session.c.
 */
#include "fuse-fs/follow.h"

#include "fuse-fs/log.h"
#include "swapstore/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define FOLLOW_STREAK	    32
#define FOLLOW_STREAK_MS    32		 /* a streak that takes longer gains nothing */
#define FOLLOW_LARGE	    (32U << 10) /* bytes: to copy more than that is work for two processors */
/* Large ones that nobody waits for may come now and then: one on so many of the caller's, and a few in a row. */
#define FOLLOW_BULK	    8
#define FOLLOW_BULK_MAX	    (4 * FOLLOW_BULK)
#define FOLLOW_FAR_NS	    40000	 /* so long after the last request the caller may be elsewhere */
#define FOLLOW_LOOK_FAR	    4		 /* look then, but no more often than this */
#define FOLLOW_LOOK	    256		 /* look even if not */
#define FOLLOW_STAY	    256		 /* requests: fewer were not worth it */
/* Milliseconds without a follower after a first stay that was short, and after one in which it starved; they double. */
#define FOLLOW_SHORT_MS	    16
#define FOLLOW_STARVED_MS   64
#define FOLLOW_PAUSE_MAX_MS 8192
#define FOLLOW_STAT_CPU	    36 /* fields between the state and the processor in /proc/<thread>/stat: proc(5) */

void follow_init(struct follow *f, struct crew *crew)
{
	*f = (struct follow){ .crew = crew, .load_fd = -1, .stat_fd = -1 };
}

void follow_destroy(struct follow *f)
{
	if (f->load_fd >= 0)
		close(f->load_fd);
	if (f->stat_fd >= 0)
		close(f->stat_fd);
}

/* --- where threads are -------------------------------------------------------------------------------------------- */

static int follow_open_stat(uint32_t thread)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%u/stat", thread);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* The thread's state, a letter, and the processor that it is on or was on last; '?' and -1: it has ended. */
static char follow_read_stat(int stat_fd, int *cpu)
{
	char text[1024];
	ssize_t n = pread(stat_fd, text, sizeof(text) - 1, 0);
	const char *at = NULL;
	char state = '?';

	*cpu = -1;
	if (n <= 0)
		return state;
	text[n] = '\0';
	at = strrchr(text, ')'); /* names may hold anything */
	if (at == NULL || at[1] == '\0')
		return state;
	state = at[2];
	at += 2;
	for (int i = 0; i < FOLLOW_STAT_CPU && at != NULL; i++)
		at = strchr(at + 1, ' ');
	if (at != NULL)
		*cpu = atoi(at + 1);
	return state;
}

static char follow_stat(uint32_t thread, int *cpu)
{
	int fd = follow_open_stat(thread);
	char state = follow_read_stat(fd, cpu);

	if (fd >= 0)
		close(fd);
	return state;
}

/* Is a processor idle, but for the caller of this? */
static bool follow_has_room(const struct follow *f)
{
	char text[128];
	ssize_t n = pread(f->load_fd, text, sizeof(text) - 1, 0);
	long runnable;

	if (n <= 0)
		return false;
	text[n] = '\0';
	return sscanf(text, "%*s %*s %*s %ld/", &runnable) == 1 && runnable <= f->cpus;
}

/* May the follower run there, and does it now? */
static bool follow_move(struct follow *f, int cpu)
{
	cpu_set_t set;

	if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &f->allowed))
		return false;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(f->follower, sizeof(set), &set) == 0;
}

static bool follow_set_policy(const struct follow *f, int policy)
{
	const struct sched_param none = { 0 };

	return sched_setscheduler(f->follower, policy, &none) == 0;
}

static bool follow_was_starved(const struct follow *f)
{
	int cpu;

	/* Who runs at last, and the caller runs too: it was done, and has left the processor to the caller. */
	return follow_stat((uint32_t)f->follower, &cpu) == 'R' && follow_stat(atomic_load(&f->caller), &cpu) != 'R';
}

void follow_dismiss(struct follow *f, bool late)
{
	if (late && follow_was_starved(f))
		atomic_store(&f->starved, true);
	if (!atomic_load(&f->able))
		return;
	/* Only who may raise its priority may leave SCHED_IDLE. */
	follow_set_policy(f, SCHED_OTHER);
	sched_setaffinity(f->follower, sizeof(f->allowed), &f->allowed);
}

/* --- whether to follow ---------------------------------------------------------------------------------------- */

static void follow_try(struct follow *f, uint32_t caller)
{
	int64_t now = util_now_ms(), since = atomic_exchange(&f->streak_ms, now);
	int cpu = -1;

	if (now - since > FOLLOW_STREAK_MS || now < atomic_load(&f->not_before_ms) || !crew_is_calm(f->crew) ||
	    !crew_follower_rests(f->crew))
		return;
	follow_stat(caller, &cpu);
	/* While it rests its processor and policy matter to nobody. */
	if (!follow_has_room(f) || !follow_move(f, cpu) || !follow_set_policy(f, SCHED_IDLE) || !crew_lone_begin(f->crew))
		atomic_store(&f->not_before_ms, now + FOLLOW_SHORT_MS);
}

/*
 * By the follower: is the caller still where we are?  What follow_dismiss() does late, for the last stay, is undone here,
 * too.
 */
static void follow_look(struct follow *f, uint32_t caller)
{
	struct timespec t;
	int64_t now, gap;
	int cpu;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now = t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
	gap = now - f->last_ns;
	f->last_ns = now;
	if (++f->unlooked < (gap > FOLLOW_FAR_NS ? FOLLOW_LOOK_FAR : FOLLOW_LOOK))
		return;
	f->unlooked = 0;
	if (f->looked_at != caller) {
		if (f->stat_fd >= 0)
			close(f->stat_fd);
		f->stat_fd = follow_open_stat(caller);
		f->looked_at = caller;
	}
	follow_read_stat(f->stat_fd, &cpu);
	if (follow_move(f, cpu) && follow_set_policy(f, SCHED_IDLE))
		return;
	f->looked_at = 0;
	crew_lone_end(f->crew);
}

/* Also by the follower: is it still worth it? */
static void follow_go_on(struct follow *f, uint32_t caller)
{
	int64_t now, since = f->quick_ms;

	follow_look(f, caller);
	f->bulk -= f->bulk > 0;
	if (++f->served % FOLLOW_STREAK != 0)
		return;
	now = util_now_ms();
	f->quick_ms = now;
	if (now - since > FOLLOW_STREAK_MS) {
		atomic_store(&f->starved, true); /* or it gains nothing, as the caller does other things */
		crew_lone_end(f->crew);
	}
}

static bool follow_is_large(const struct fuse_in_header *in)
{
	const struct fuse_read_in *arg = (const struct fuse_read_in *)(in + 1);

	return in->len > FOLLOW_LARGE ||
	       (in->opcode == FUSE_READ && in->len >= sizeof(*in) + sizeof(*arg) && arg->size > FOLLOW_LARGE);
}

void follow_request(struct follow *f, const struct fuse_in_header *in, bool by_follower)
{
	if (!atomic_load(&f->able))
		return;
	if (in->pid == 0) { /* nobody waits for it: write-back, FORGET, RELEASE; or a caller whom we cannot see */
		if (by_follower && follow_is_large(in) && (f->bulk += FOLLOW_BULK) > FOLLOW_BULK_MAX)
			crew_lone_end(f->crew);
		return;
	}
	if (in->pid != atomic_load(&f->caller) || follow_is_large(in)) {
		atomic_store(&f->caller, in->pid);
		atomic_store(&f->streak, 0);
		atomic_store(&f->streak_ms, util_now_ms());
		crew_lone_end(f->crew);
		return;
	}
	if (by_follower)
		follow_go_on(f, in->pid);
	else if (atomic_fetch_add(&f->streak, 1) % FOLLOW_STREAK == FOLLOW_STREAK - 1 && !crew_is_lone(f->crew))
		follow_try(f, in->pid);
}

/* --- the follower's thread -------------------------------------------------------------------------------------- */

/* Not so where /proc is that of another pid namespace. */
static bool follow_proc_is_ours(void)
{
	char self[16] = "";

	return readlink("/proc/self", self, sizeof(self) - 1) > 0 && atol(self) == getpid();
}

void follow_thread_begins(struct follow *f)
{
	bool able = sched_getscheduler(0) == SCHED_OTHER && follow_proc_is_ours();

	f->follower = gettid();
	CPU_ZERO(&f->allowed);
	able = able && sched_getaffinity(0, sizeof(f->allowed), &f->allowed) == 0 && CPU_COUNT(&f->allowed) > 1;
	/* Try it: a container may refuse it. */
	able = able && sched_setaffinity(0, sizeof(f->allowed), &f->allowed) == 0;
	f->cpus = sysconf(_SC_NPROCESSORS_ONLN);
	f->load_fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	able = able && f->load_fd >= 0;
	if (!able)
		fs_log(LOG_DEBUG, "lone callers are not followed to their processor");
	atomic_store(&f->able, able);
}

void follow_thread_ends(struct follow *f)
{
	atomic_store(&f->able, false);
}

void follow_stay_begins(struct follow *f)
{
	f->served = 0;
	f->bulk = 0;
	f->quick_ms = util_now_ms();
	f->unlooked = FOLLOW_LOOK;
	atomic_store(&f->starved, false);
}

void follow_stay_ends(struct follow *f)
{
	const bool starved = atomic_exchange(&f->starved, false);
	const long first = starved ? FOLLOW_STARVED_MS : FOLLOW_SHORT_MS;

	if (!starved && f->served >= FOLLOW_STAY)
		f->pause_ms = 0;
	else
		f->pause_ms = f->pause_ms < first ? first : f->pause_ms * 2;
	if (f->pause_ms > FOLLOW_PAUSE_MAX_MS)
		f->pause_ms = FOLLOW_PAUSE_MAX_MS;
	atomic_store(&f->not_before_ms, util_now_ms() + f->pause_ms);
}
