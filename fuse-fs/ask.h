/* SPDX-License-Identifier: MIT */
/*
 * ask: how a client asks a mounted spillfs for a change: `spillfs -o remount,...` and `spillctl set`.
 */
#ifndef FUSE_FS_ASK_H
#define FUSE_FS_ASK_H

#include "fuse-fs/options.h"

/* What opt->given names goes into *set.  0, or -EINVAL and one line in why. */
int ask_fill(const struct options *opt, struct spillfs_set *set, char *why, size_t why_len);

/* The part of it that says where memory comes from. */
void ask_placement(const struct options *opt, struct spillfs_set *set);

/*
 * Has the daemon do it; waits as long as it takes.  0, or -errno and one line in why, and nothing has changed.  After 0,
 * *set says what was before: sent once more, it takes the change back.
 */
int ask_set(const char *mountpoint, struct spillfs_set *set, char *why, size_t why_len);

#endif
