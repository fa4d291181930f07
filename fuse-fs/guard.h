/* SPDX-License-Identifier: MIT */
/*
 * guard: a small process that outlives the daemon's sudden death by a moment.  A daemon that is killed while one of its
 * threads has asked the kernel to flush a file never ends: that thread waits in the kernel for writes that only the
 * daemon could serve, and the connection, which it keeps, is never closed; so everybody who uses the mount waits for
 * ever.  The guard sees the daemon die, and aborts the connection if it does not go by itself.
 *
 *   daemon ── pipe ──> guard        end of file: the daemon has ended, nothing to do
 *     └──── death signal ──^        and no end of file soon after: abort
 */
#ifndef FUSE_FS_GUARD_H
#define FUSE_FS_GUARD_H

#include <stdint.h>
#include <sys/types.h>

struct guard {
	int fd; /* -1: there is none */
	pid_t pid;
};

/* Forks: before any other thread, ring or mount, which the guard must not share.  Without it all still works. */
void guard_start(struct guard *guard);

/* What to abort: the mount's minor device number, where it is, and mountinfo_mount_id() of it. */
void guard_watch(const struct guard *guard, unsigned minor, const char *mountpoint, uint64_t mount_id);

/* The daemon ends as it should.  Waits for the guard to end. */
void guard_stop(struct guard *guard);

#endif
