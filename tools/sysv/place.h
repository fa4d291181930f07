/* SPDX-License-Identifier: MIT */
/* place: the directory that holds the segments. */
#ifndef TOOLS_SYSV_PLACE_H
#define TOOLS_SYSV_PLACE_H

/*
 * A descriptor (O_PATH) of the directory that SPILLFS_SYSV_DIR names, else of /dev/shm, for the caller to close.
 * -ENOSYS: it is not on a spillfs mount, which standard error was told once.
 */
int place_open(void);

/* Around fork(), so that the child does not inherit a lock which another thread holds. */
void place_lock(void);
void place_unlock(void);

#endif
