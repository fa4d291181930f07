/* SPDX-License-Identifier: MIT */
/*
 * mountinfo: what is mounted, read from /proc/self/mountinfo.  Unlike stat() and statfs() this asks no file
 * system anything, so a mount that hangs cannot make us hang.
 */
#ifndef FUSE_FS_MOUNTINFO_H
#define FUSE_FS_MOUNTINFO_H

#include <stdbool.h>
#include <stdint.h>

/* One line; the strings last until the callback returns. */
struct mountinfo {
	unsigned major, minor;
	const char *root;	/* which directory of the file system is mounted */
	const char *mountpoint; /* unescaped */
	const char *options;	/* of the mount: rw,nosuid,... */
	const char *type;
	const char *super_options;
};

/* Calls fn for every mount, oldest first, until it returns other than 0; returns that, or 0, or -errno. */
int mountinfo_each(int (*fn)(const struct mountinfo *mi, void *ctx), void *ctx);

/* The same with another file, for tests. */
int mountinfo_each_of(const char *file, int (*fn)(const struct mountinfo *mi, void *ctx), void *ctx);

/*
 * Is the topmost mount at this very path (absolute, no symbolic links) a spillfs?  Then its device number, in
 * major and minor.
 */
bool mountinfo_find_spillfs(const char *path, unsigned *major, unsigned *minor);

/*
 * The kernel's own number of the mount at path, which it never gives to another; 0 if it does not say (before Linux
 * 6.8).  Sends no request to the file system there, which may be dead, or us.
 */
uint64_t mountinfo_mount_id(const char *path);

#endif
