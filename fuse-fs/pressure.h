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

#include <stdint.h>

struct pressure;
struct swapstore;

/* Starts the thread for a store with this cap; NULL where that cannot be.  After fork(). */
struct pressure *pressure_start(struct swapstore *store, uint64_t ram_bytes);

/* Ends it; NULL is fine.  Before the store is closed. */
void pressure_stop(struct pressure *pr);

#endif
