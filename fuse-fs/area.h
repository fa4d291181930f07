/* SPDX-License-Identifier: MIT */
/*
 * area: a thread's stack behind a guard page, populated from the start, because nothing on the request path may
 * be touched for the first time: that waits for memory, which waits for us.
 */
#ifndef FUSE_FS_AREA_H
#define FUSE_FS_AREA_H

#include <pthread.h>
#include <stddef.h>

/* All zeroes: nothing is mapped. */
struct area {
	char *base;
	size_t bytes;
	size_t stack_bytes;
};

/* stack_bytes: a multiple of 4096.  0 or -errno.  Locks the memory, too, where that is allowed. */
int area_map(struct area *area, size_t stack_bytes);
void area_unmap(struct area *area);

/* What area_map() takes. */
size_t area_bytes(size_t stack_bytes);

/* Locks other memory of the session's, where that is allowed. */
void area_lock(void *start, size_t bytes);

/* Initialises attr for a thread on the area's stack; pthread_attr_destroy() afterwards. */
void area_thread_attr(const struct area *area, pthread_attr_t *attr);

#endif
