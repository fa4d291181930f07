/* SPDX-License-Identifier: MIT */
/*
 * precheck: what can be known to be wrong before anything is started, each with one clear line.
 */
#ifndef FUSE_FS_PRECHECK_H
#define FUSE_FS_PRECHECK_H

#include "fuse-fs/options.h"

/*
 * Is the mount point a directory that can be reached, and not a spillfs already?  Makes opt->mountpoint
 * canonical.  0 or -errno and one line in why.
 */
int precheck_mountpoint(struct options *opt, char *why, size_t why_len);

/* Would the mount cover its own swap?  After precheck_mountpoint(). */
int precheck_swap(const struct options *opt, char *why, size_t why_len);

#endif
