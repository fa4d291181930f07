/* SPDX-License-Identifier: MIT */
/*
 * remount: `spillfs SOURCE MOUNTPOINT -o remount,...`, as mount(8) calls it: the program is a client then, of a daemon
 * that goes on.
 */
#ifndef FUSE_FS_REMOUNT_H
#define FUSE_FS_REMOUNT_H

#include "fuse-fs/options.h"

/* Changes the mount: all of it or, -errno with one line in why, nothing. */
int remount(const struct options *opt, char *why, size_t why_len);

#endif
