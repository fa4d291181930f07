/* SPDX-License-Identifier: MIT */
/*
 * slab: small objects (inodes, names, tree nodes) in frames of the arena, so that bookkeeping and data share
 * one cap and pages of data make room for names when they must.  A frame holds objects of one size class; an
 * object is found back by its address alone, so there is no header.  Larger objects come from malloc, against
 * frames that lend it their memory.
 *
 * Context: one mutex for each size class, not held while waiting for a frame.  The owner of an object is
 * whoever allocated it.
 */
#ifndef SWAPSTORE_SLAB_H
#define SWAPSTORE_SLAB_H

#include "swapstore/frames.h"

#define SLAB_CLASSES 22

struct slab;

/* may_grow(ctx, frames): may bookkeeping take so many more frames?  Asked before each, no lock held. */
int slab_create(struct frames *frames, bool (*may_grow)(void *ctx, uint32_t frames, unsigned flags), void *ctx,
		struct slab **out);
void slab_destroy(struct slab *slab);

/*
 * size bytes, zeroed, 8-aligned (a tree node's neighbour may share its cache line).  flags: enum frames_flags.
 * Waits for a frame unless FRAMES_NOWAIT.  NULL when the cap leaves none.
 */
void *slab_alloc(struct slab *slab, size_t size, unsigned flags);
void slab_free(struct slab *slab, void *ptr, size_t size);

/*
 * Charges bytes of memory from elsewhere to the cap: frames lend theirs until slab_uncharge().  flags as above.  NULL
 * when the cap leaves none.
 */
void *slab_charge(struct slab *slab, size_t bytes, unsigned flags);
void slab_uncharge(struct slab *slab, void *charge);

/* Frames taken, for objects of all sizes. */
uint32_t slab_frames(const struct slab *slab);

#endif
