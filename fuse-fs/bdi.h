/* SPDX-License-Identifier: MIT */
/*
 * bdi: the kernel's settings for this mount's writeback and readahead, in /sys/class/bdi/MAJOR:MINOR.  A FUSE
 * mount starts with strict limits (1 % of the machine's dirty limit) and 128 KiB of readahead, which costs two
 * thirds of the speed of small writes and half that of cold reads.  Only root may change them, and only those of
 * the mount's own BDI are: they go with the mount.
 *
 * The limit stays strict: never more than the window is dirty, whatever else the machine does.  A mount whose
 * limit was not strict, in a small memory cgroup, has stopped a whole machine (DESIGN 4.3).
 */
#ifndef FUSE_FS_BDI_H
#define FUSE_FS_BDI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bdi {
	int dir;		/* -1: not ours to change */
	char max_ratio[16];	/* what it was */
	uint64_t max_bytes;	/* the same in bytes; 0: the kernel (before 6.2) does not tell */
};

/* Sets readahead.  Without permission: does nothing, nor will bdi_set_window(). */
void bdi_open(struct bdi *bdi, unsigned major, unsigned minor);

/*
 * Allows such a share of the dirty pages that the whole machine may have, or (0) what the kernel allowed at first.  False
 * where the kernel does not let us.
 */
bool bdi_set_window(struct bdi *bdi, uint64_t millionths);

void bdi_close(struct bdi *bdi);

#endif
