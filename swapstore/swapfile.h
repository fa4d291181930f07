/* SPDX-License-Identifier: MIT */
/*
 * swapfile: the file behind the slots.  Opens what swap=PATH names, finds its size, gives disk space back.
 *
 *   directory      an unnamed file in it (O_TMPFILE, mode 0600): gone with the process, whatever kills it
 *   regular file   used as it is, never longer than it was if it had a length; locked (flock) against a second
 *                  user; a sparse one is emptied again (holes punched) when closed
 *   block device   opened O_EXCL; freed slots are discarded where the device can
 *
 * All are opened O_DIRECT: swap must not fill the page cache that it relieves.
 *
 * Context: no locks; called at start, by the trimmer, and at the end.
 */
#ifndef SWAPSTORE_SWAPFILE_H
#define SWAPSTORE_SWAPFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum swapfile_kind { SWAPFILE_UNNAMED, SWAPFILE_REGULAR, SWAPFILE_BLOCK };

struct swapfile {
	int fd;
	uint64_t bytes; /* usable length, a multiple of 4096 */
	enum swapfile_kind kind;
	bool can_trim; /* until the first refusal */
	/* private to swapfile.c */
	uint64_t reserved;
	enum { SWAPFILE_KEEP, SWAPFILE_TRUNCATE, SWAPFILE_PUNCH } at_close;
};

/*
 * Opens path.  bytes: the most to use; 0 = the length of a device or of a file that has one, else half of what
 * is free there.  On failure returns -errno and writes one line (no newline) that names the path and the cause
 * into why: missing, not a directory, read-only, no O_TMPFILE, no O_DIRECT, busy, too small (< 1 MiB), or
 * bytes more than a device or a file with a length has.
 */
int swapfile_open(struct swapfile *sf, const char *path, uint64_t bytes, char *why, size_t why_len);
void swapfile_close(struct swapfile *sf);

/*
 * Allocates the disk space of the first bytes (a multiple of 4096, no more than sf->bytes) for as long as the file is
 * open: trimming leaves it alone.  A block device has its space.  Returns 0 or -errno.
 */
int swapfile_reserve(struct swapfile *sf, uint64_t bytes);

static inline bool swapfile_is_reserved(const struct swapfile *sf)
{
	return sf->reserved > 0;
}

/* Gives the disk space of [offset, offset + length) back.  Returns 0 or -errno (then can_trim is false). */
int swapfile_trim(struct swapfile *sf, uint64_t offset, uint64_t length);

#endif
