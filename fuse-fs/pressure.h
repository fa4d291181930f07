/* SPDX-License-Identifier: MIT */
/*
 * pressure: gives memory back before the system has to take it.  Where the kernel tells of memory stalls (PSI: the
 * daemon's own cgroup v2, else the whole machine), a thread waits for them and evicts cold pages; the arena then
 * releases what is free.  Optional: where there is no PSI, or no right to a trigger, nothing happens.
 */
#ifndef FUSE_FS_PRESSURE_H
#define FUSE_FS_PRESSURE_H

struct pressure;
struct swapstore;

/* Starts the thread; NULL where that cannot be.  After fork(). */
struct pressure *pressure_start(struct swapstore *store);

/* Ends it; NULL is fine.  Before the store is closed. */
void pressure_stop(struct pressure *pr);

#endif
