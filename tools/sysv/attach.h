/* SPDX-License-Identifier: MIT */
/*
 * attach: what this process has attached.  The kernel counts an attach for each mapping of a segment, and copies
 * them at fork; here each is an entry of a table with a slot of its own in the segment's book (segment.h).
 */
#ifndef TOOLS_SYSV_ATTACH_H
#define TOOLS_SYSV_ATTACH_H

#include <stdbool.h>

/* shmat() and shmdt().  0 or -errno. */
int attach_map(int id, const void *where, int flags, void **out);
int attach_unmap(const void *addr);

/* Keeps the segment's pages in memory by mlock() in this process, attached to it or not; or no longer. */
int attach_lock_pages(int id, bool lock);

#endif
