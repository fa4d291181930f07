/* SPDX-License-Identifier: MIT */
/*
 * area.c: maps the stacks of the session's threads (DESIGN 4.3).  An area belongs to whoever mapped it and needs no
 * lock.  Called by session_mount.c; session.c runs threads on them.
 */
#include "fuse-fs/area.h"

#include "fuse-fs/log.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <syslog.h>

#define AREA_PAGE 4096U
/* ThreadSanitizer keeps its own state of a thread on the thread's stack, about 1 MiB. */
#ifdef __SANITIZE_THREAD__
#define AREA_STACK_EXTRA (1U << 20)
#else
#define AREA_STACK_EXTRA 0U
#endif

size_t area_bytes(size_t stack_bytes)
{
	return AREA_PAGE + stack_bytes;
}

/* Populated is what is needed; locked is better, and often not allowed. */
void area_lock(void *start, size_t bytes)
{
	if (mlock(start, bytes) != 0)
		fs_log(LOG_DEBUG, "mlock: %s", strerror(errno));
}

int area_map(struct area *area, size_t stack_bytes)
{
	area->stack_bytes = stack_bytes + AREA_STACK_EXTRA;
	area->bytes = area_bytes(area->stack_bytes);
	area->base = mmap(NULL, area->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (area->base == MAP_FAILED) {
		area->base = NULL;
		return -errno;
	}
	mprotect(area->base, AREA_PAGE, PROT_NONE);
	area_lock(area->base + AREA_PAGE, area->bytes - AREA_PAGE);
	return 0;
}

void area_unmap(struct area *area)
{
	if (area->base != NULL)
		munmap(area->base, area->bytes);
	area->base = NULL;
}

void area_thread_attr(const struct area *area, pthread_attr_t *attr)
{
	pthread_attr_init(attr);
	pthread_attr_setstack(attr, area->base + AREA_PAGE, area->stack_bytes);
}
