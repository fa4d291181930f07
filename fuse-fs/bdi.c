/* SPDX-License-Identifier: MIT */
/*
 * bdi.c: reads and writes a handful of sysfs files.  No lock: bdi_open() and bdi_close() by the main thread,
 * bdi_set_window() in between by the notifier's thread alone, or before there is one.
 */
#include "fuse-fs/bdi.h"

#include "fuse-fs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

/*
 * Several requests' worth, so that the disk has one to work on while the kernel copies another: cold sequential reads
 * with requests of 256 KiB ran at 680 MiB/s with as much readahead, 900 with 1 MiB and 960 with this (disk: 1000).
 */
#define BDI_READ_AHEAD_KB "2048"

static bool bdi_write(const struct bdi *bdi, const char *name, const char *text)
{
	int fd = openat(bdi->dir, name, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) >= 0;

	if (!done)
		fs_log(LOG_DEBUG, "bdi %s: %s", name, strerror(errno));
	if (fd >= 0)
		close(fd);
	return done;
}

static void bdi_read(const struct bdi *bdi, const char *name, char *text, size_t len)
{
	int fd = openat(bdi->dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, len - 1) : -1;

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (fd >= 0)
		close(fd);
}

void bdi_open(struct bdi *bdi, unsigned major, unsigned minor)
{
	char text[64];

	snprintf(text, sizeof(text), "/sys/class/bdi/%u:%u", major, minor);
	bdi->max_bytes = 0;
	bdi->dir = open(text, O_DIRECTORY | O_CLOEXEC);
	if (bdi->dir < 0)
		return;
	bdi_read(bdi, "max_ratio", bdi->max_ratio, sizeof(bdi->max_ratio));
	bdi_read(bdi, "max_bytes", text, sizeof(text));
	bdi->max_bytes = strtoull(text, NULL, 10);
	if (!bdi_write(bdi, "read_ahead_kb", BDI_READ_AHEAD_KB))
		bdi_close(bdi);
}

bool bdi_set_window(struct bdi *bdi, uint64_t millionths)
{
	char text[32];

	if (bdi->dir < 0 || bdi->max_bytes == 0)
		return false;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)millionths);
	return millionths != 0 ? bdi_write(bdi, "max_ratio_fine", text) : bdi_write(bdi, "max_ratio", bdi->max_ratio);
}

void bdi_close(struct bdi *bdi)
{
	if (bdi->dir >= 0)
		close(bdi->dir);
	bdi->dir = -1;
}
