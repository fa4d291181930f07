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
	uint64_t window_bytes;	/* dirty pages to allow while the mount is far from full */
	char max_ratio[16];	/* what it was */
};

/* Sets readahead to io_bytes.  window_bytes 0: the dirty limit is left alone.  Without permission: does nothing. */
void bdi_open(struct bdi *bdi, unsigned major, unsigned minor, size_t io_bytes, uint64_t window_bytes);

/* Allows the window, or takes it back to what it was.  Returns false where the kernel does not let us. */
bool bdi_widen(struct bdi *bdi, bool wide);

void bdi_close(struct bdi *bdi);

#endif
