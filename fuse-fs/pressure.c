/* SPDX-License-Identifier: MIT */
/*
 * pressure: the thread that waits for memory pressure (pressure.h).  Owns its triggers and an eventfd that ends it; its
 * lock guards what was last seen of the cgroup.  Called by main.c and by the arena's thread.  The store's own threads do
 * the same work when the cap is reached; here it is only done earlier, a sixteenth of the frames in use at a time, so
 * that a short squeeze does not cost all of it.
 */
#include "fuse-fs/pressure.h"

#include "fuse-fs/fs.h"
#include "fuse-fs/log.h"
#include "fuse-fs/options.h"
#include "swapstore/swapstore.h"
#include "swapstore/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <syslog.h>
#include <unistd.h>

/* Some task stalled for 100 ms within 1 s, for want of memory.  2 s windows are all that is allowed without root. */
#define PRESSURE_TRIGGER_ROOT "some 100000 1000000"
#define PRESSURE_TRIGGER      "some 200000 2000000"
/* Given back each time: one in so many of the frames in use; and it ends when no more than such a share of ram= is left. */
#define PRESSURE_SHARE	      16
/* How often the room in a cgroup with a limit is looked at: usually, and when there is little. */
#define PRESSURE_FAR_MS	      1000
#define PRESSURE_NEAR_MS      50
#define PRESSURE_ROOM_MIN     (2U << 20)
#define PRESSURE_ROOM_MAX     (32U << 20)
#define PRESSURE_OVERHEAD     (8U << 20) /* what the process takes beyond ram=, as spillfs(8) says */
/* So much dirty page cache in the cgroup, and whoever writes to the mount is taken to live in it, too. */
#define PRESSURE_SHARED	      (4U << 20)
/* What was seen of the cgroup is good for so long; without a limit for PRESSURE_FAR_MS. */
#define PRESSURE_FRESH_MS     20

struct pressure {
	/* set at start */
	struct fs *fs;
	int psi_fd; /* -1: none */
	int stop_fd;
	pthread_t thread;
	bool started;
	/* under lock */
	pthread_mutex_t lock;
	struct options_room seen; /* less what was taken since */
	int64_t seen_ms;
	bool shared;
};

static void pressure_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* --- PSI ---------------------------------------------------------------------------------------------------------- */

static int pressure_trigger(const char *path)
{
	static const char *const triggers[] = { PRESSURE_TRIGGER_ROOT, PRESSURE_TRIGGER };

	for (size_t i = 0; i < sizeof(triggers) / sizeof(triggers[0]); i++) {
		int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

		if (fd < 0)
			break;
		if (write(fd, triggers[i], strlen(triggers[i]) + 1) > 0)
			return fd;
		close(fd);
	}
	fs_log(LOG_DEBUG, "%s: %s", path, strerror(errno));
	return -1;
}

/* The group's own file; the root group has none, and the machine's figure is the same. */
static void pressure_visit(const char *dir, const char *top, bool v2, void *ctx)
{
	int *fd = ctx;
	char path[PATH_MAX];

	(void)top;
	if (v2 && *fd < 0 && snprintf(path, sizeof(path), "%s/memory.pressure", dir) < (int)sizeof(path))
		*fd = pressure_trigger(path);
}

/* --- room in the cgroups ------------------------------------------------------------------------------------------ */

static void pressure_deduct_locked(struct pressure *pr, uint64_t bytes)
{
	if (pr->seen.room != UINT64_MAX)
		pr->seen.room -= bytes < pr->seen.room ? bytes : pr->seen.room;
}

/* The room that will be left once the kernel has dirty what it may (seen.room), and the limit.  Looked up if not fresh. */
static void pressure_look_locked(struct pressure *pr)
{
	const int fresh_ms = pr->seen.room == UINT64_MAX ? PRESSURE_FAR_MS : PRESSURE_FRESH_MS;
	uint64_t window;

	if (pr->seen_ms != 0 && util_now_ms() - pr->seen_ms < fresh_ms)
		return;
	options_groups_room(pr->fs->groups, true, &pr->seen);
	pr->seen_ms = util_now_ms();
	pr->shared |= pr->seen.dirty >= PRESSURE_SHARED;
	window = window_pages(pr->fs) << SS_PAGE_SHIFT;
	if (pr->shared && window > pr->seen.dirty)
		pressure_deduct_locked(pr, window - pr->seen.dirty);
}

/*
 * The smallest room that is left alone: of what the cgroup allows beyond ram= and the overhead a quarter, so that
 * nobody is killed while pages go to the disk; but a cgroup that has no more than those is no reason to shrink.
 */
static uint64_t pressure_least(const struct pressure *pr, uint64_t limit)
{
	const uint64_t own = atomic_load(&pr->fs->ram_bytes) + PRESSURE_OVERHEAD;
	uint64_t least = limit > own ? (limit - own) / 4 : 0;

	return least < PRESSURE_ROOM_MIN ? PRESSURE_ROOM_MIN : least > PRESSURE_ROOM_MAX ? PRESSURE_ROOM_MAX : least;
}

/* Is a cgroup short of room?  *wait_ms: when to ask again, -1 = never as there is no limit. */
static bool pressure_short(struct pressure *pr, int *wait_ms)
{
	uint64_t least;
	UTIL_LOCKED(&pr->lock);

	pressure_look_locked(pr);
	least = pressure_least(pr, pr->seen.limit);
	*wait_ms = pr->seen.room == UINT64_MAX ? -1 : pr->seen.room < 8 * least ? PRESSURE_NEAR_MS : PRESSURE_FAR_MS;
	return pr->seen.room < least;
}

bool pressure_may_take(void *pressure, size_t bytes)
{
	struct pressure *pr = pressure;
	bool may;
	UTIL_LOCKED(&pr->lock);

	pressure_look_locked(pr);
	/* A little more than pressure_short() asks for, else it would be taken and given back for ever. */
	may = !pr->shared || pr->seen.room >= pressure_least(pr, pr->seen.limit) + PRESSURE_ROOM_MIN + bytes;
	if (may)
		pressure_deduct_locked(pr, bytes);
	return may;
}

/* --- the thread --------------------------------------------------------------------------------------------------- */

static void pressure_relieve(struct pressure *pr)
{
	struct swapstore_stats st;
	size_t given;

	swapstore_get_stats(pr->fs->store, &st);
	if (st.frames_used << SS_PAGE_SHIFT <= atomic_load(&pr->fs->ram_bytes) / PRESSURE_SHARE)
		return;
	given = swapstore_give_back(pr->fs->store, st.frames_used / PRESSURE_SHARE + 1);
	malloc_trim(0);
	fs_log(LOG_DEBUG, "memory pressure: %zu pages given back", given);
}

static void *pressure_main(void *arg)
{
	struct pressure *pr = arg;
	struct pollfd fds[2] = {
		{ .fd = pr->psi_fd, .events = POLLPRI },
		{ .fd = pr->stop_fd, .events = POLLIN },
	};

	pthread_setname_np(pthread_self(), "spill-pressure");
	while (fds[1].revents == 0) {
		int wait_ms = -1;
		bool relieve = pressure_short(pr, &wait_ms);

		if (poll(fds, 2, wait_ms) < 0)
			continue;
		relieve |= (fds[0].revents & POLLPRI) != 0;
		if ((fds[0].revents & (POLLERR | POLLNVAL)) != 0)
			fds[0].fd = -1; /* the cgroup is gone */
		if (relieve && fds[1].revents == 0)
			pressure_relieve(pr);
	}
	return NULL;
}

struct pressure *pressure_create(struct fs *fs)
{
	struct pressure *pr = malloc(sizeof(*pr));

	if (pr == NULL)
		return NULL;
	*pr = (struct pressure){ .fs = fs, .psi_fd = -1, .stop_fd = -1 };
	pthread_mutex_init(&pr->lock, NULL);
	return pr;
}

void pressure_start(struct pressure *pr)
{
	options_cgroups(pressure_visit, &pr->psi_fd);
	if (pr->psi_fd < 0)
		pr->psi_fd = pressure_trigger("/proc/pressure/memory");
	pr->stop_fd = eventfd(0, EFD_CLOEXEC);
	pr->started = pr->stop_fd >= 0 && util_thread_start(&pr->thread, pressure_main, pr) == 0;
}

void pressure_stop(struct pressure *pr)
{
	if (!pr->started)
		return;
	eventfd_write(pr->stop_fd, 1);
	pthread_join(pr->thread, NULL);
}

void pressure_destroy(struct pressure *pr)
{
	if (pr == NULL)
		return;
	pressure_close(pr->stop_fd);
	pressure_close(pr->psi_fd);
	pthread_mutex_destroy(&pr->lock);
	free(pr);
}
