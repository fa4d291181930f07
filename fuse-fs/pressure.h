/* SPDX-License-Identifier: MIT */
/*
 * pressure: gives memory back before the system has to take it.  A thread evicts cold pages and gives their memory back
 *
 *   when tasks stall for want of memory: a PSI trigger, of the daemon's cgroup (v2), else of the whole machine
 *   when there is little room left in the daemon's cgroup or one above it (v1 or v2), which it looks at now and then:
 *     where nothing else can be reclaimed the kernel does not stall, it kills
 *
 * Optional: where the kernel has neither PSI nor limits, nothing happens.
 */
#ifndef FUSE_FS_PRESSURE_H
#define FUSE_FS_PRESSURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fs;
struct pressure;

/* NULL without memory.  fs->groups is there, and space_init() was called. */
struct pressure *pressure_create(struct fs *fs);

/*
 * For struct swapstore_config; the context is a struct pressure.  False where the cgroup would have no room left for what
 * the kernel may yet dirty: whoever writes to the mount from the daemon's cgroup would else fill it, and nothing could be
 * written out as that takes memory, too.
 */
bool pressure_may_take(void *pressure, size_t bytes);

/* Starts the thread, after fork(); where that cannot be, does nothing.  fs->store is open. */
void pressure_start(struct pressure *pr);

/* Ends the thread, before the store is closed. */
void pressure_stop(struct pressure *pr);

/* After the store is closed.  NULL is fine. */
void pressure_destroy(struct pressure *pr);

#endif
