/* SPDX-License-Identifier: MIT */
/*
 * placement: where the memory of the arena comes from, as huge= and mpol= say: the kernel is told by madvise(2) and
 * mbind(2), once for the whole arena, before any of it is touched.
 */
#ifndef FUSE_FS_PLACEMENT_H
#define FUSE_FS_PLACEMENT_H

#include "fuse-fs/ctl.h"

#include <stddef.h>
#include <stdint.h>

struct fs;
struct options;

/* For swapstore_config.place; ctx is a struct options.  0, or -errno when a node does not exist or is not allowed. */
int placement_place(void *ctx, void *start, size_t bytes);

/* The rule of huge= that is in force. */
uint32_t placement_huge(struct fs *fs);

/*
 * Another rule, for memory that is populated from now on, as set's mask says; what was is left in set.  0, or -errno
 * and one line in why.  By one thread at a time.
 */
int placement_change(struct fs *fs, struct spillfs_set *set, char *why, size_t why_len);

#endif
