/* SPDX-License-Identifier: MIT */
/*
 * pressure: the thread that waits for memory pressure (pressure.h).  Owns a PSI trigger and an eventfd that ends
 * it; no lock.  Called by main.c.  The store's own threads do the same work when the cap is reached; here it is
 * only done earlier, a sixteenth of the frames in use at a time, so that a short squeeze does not cost all of it.
 */
#include "fuse-fs/pressure.h"

#include "fuse-fs/log.h"
#include "swapstore/swapstore.h"
#include "swapstore/util.h"

#include <errno.h>
#include <fcntl.h>
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
#define PRESSURE_SHARE	      16

struct pressure {
	/* set at start */
	struct swapstore *store;
	int psi_fd;
	int stop_fd;
	pthread_t thread;
};

/* The memory.pressure of this process's cgroup (v2), wherever that is mounted, else the machine's. */
static void pressure_path(char *path, size_t len)
{
	char line[4096], group[2048] = "", *nl;
	FILE *f = fopen("/proc/self/cgroup", "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "0::", 3) == 0)
			snprintf(group, sizeof(group), "%.2000s", line + 3);
	if (f != NULL)
		fclose(f);
	nl = strchr(group, '\n');
	if (nl != NULL)
		*nl = '\0';
	/* The root group has no limit, so the machine's figure is its own. */
	snprintf(path, len, "/proc/pressure/memory");
	if (group[0] != '\0' && strcmp(group, "/") != 0) {
		char try[4096];

		snprintf(try, sizeof(try), "/sys/fs/cgroup%s/memory.pressure", group);
		if (access(try, R_OK) == 0)
			snprintf(path, len, "%s", try);
	}
}

static int pressure_open(void)
{
	static const char *const triggers[] = { PRESSURE_TRIGGER_ROOT, PRESSURE_TRIGGER };
	char path[4096];

	pressure_path(path, sizeof(path));
	for (size_t i = 0; i < sizeof(triggers) / sizeof(triggers[0]); i++) {
		int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

		if (fd < 0)
			break;
		if (write(fd, triggers[i], strlen(triggers[i]) + 1) > 0)
			return fd;
		close(fd);
	}
	fs_log(LOG_DEBUG, "%s: %s: memory pressure will not be noticed", path, strerror(errno));
	return -1;
}

static void pressure_relieve(struct pressure *pr)
{
	struct swapstore_stats st;
	size_t evicted;

	swapstore_get_stats(pr->store, &st);
	evicted = swapstore_evict(pr->store, st.frames_used / PRESSURE_SHARE + 1);
	fs_log(LOG_DEBUG, "memory pressure: %zu pages evicted", evicted);
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
		if (poll(fds, 2, -1) < 0)
			continue;
		if ((fds[0].revents & POLLPRI) != 0)
			pressure_relieve(pr);
		if ((fds[0].revents & (POLLERR | POLLNVAL)) != 0)
			fds[0].fd = -1; /* the cgroup is gone */
	}
	return NULL;
}

struct pressure *pressure_start(struct swapstore *store)
{
	struct pressure *pr = NULL;
	int psi_fd = pressure_open();

	if (psi_fd < 0)
		return NULL;
	pr = calloc(1, sizeof(*pr));
	if (pr == NULL) {
		close(psi_fd);
		return NULL;
	}
	pr->store = store;
	pr->psi_fd = psi_fd;
	pr->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (pr->stop_fd >= 0 && util_thread_start(&pr->thread, pressure_main, pr) == 0)
		return pr;
	if (pr->stop_fd >= 0)
		close(pr->stop_fd);
	close(psi_fd);
	free(pr);
	return NULL;
}

void pressure_stop(struct pressure *pr)
{
	if (pr == NULL)
		return;
	eventfd_write(pr->stop_fd, 1);
	pthread_join(pr->thread, NULL);
	close(pr->stop_fd);
	close(pr->psi_fd);
	free(pr);
}
