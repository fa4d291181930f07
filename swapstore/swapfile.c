/* SPDX-License-Identifier: MIT */
/*
 * swapfile: opens what swap=PATH names, finds out how much of it may be used, and gives disk space back.  Owns
 * the file descriptor.  No lock: called once at start, by the one trimmer, and once at the end.  Every failure
 * to open becomes one line for the user, worded here and nowhere else.
 */
#include "swapstore/swapfile.h"

#include "swapstore/entry.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define SWAPFILE_PAGE UINT64_C(4096)
#define SWAPFILE_MIN  (UINT64_C(1) << 20)
#define SWAPFILE_MAX  (ENTRY_SLOTS_MAX * SWAPFILE_PAGE)

#define SWAPFILE_BUSY_TRIES 40 /* of 25 ms */

/* Where an opening that goes wrong says why. */
struct swapfile_why {
	const char *path;
	char *line;
	size_t len;
};

__attribute__((format(printf, 3, 4))) static int swapfile_fail(const struct swapfile_why *why, int err, const char *fmt,
							       ...)
{
	va_list ap;
	int n;

	assert(err < 0);
	n = snprintf(why->line, why->len, "swap=%s: ", why->path);
	if (n >= 0 && (size_t)n < why->len) {
		va_start(ap, fmt);
		vsnprintf(why->line + n, why->len - (size_t)n, fmt, ap);
		va_end(ap);
	}
	return err;
}

/* The words for a failed open or stat. */
static int swapfile_fail_open(const struct swapfile_why *why, int err)
{
	switch (err) {
	case -ENOENT:
		return swapfile_fail(why, err, "no such file or directory");
	case -EROFS:
		return swapfile_fail(why, err, "read-only file system");
	case -EACCES:
	case -EPERM:
		return swapfile_fail(why, err, "not writable (%s)", strerror(-err));
	case -EBUSY:
	case -ETXTBSY: /* swapon(2) has it */
	case -EWOULDBLOCK:
		return swapfile_fail(why, -EBUSY, "in use by someone else");
	case -EINVAL:
		return swapfile_fail(why, err, "direct I/O (O_DIRECT) is not possible here");
	default:
		return swapfile_fail(why, err, "%s", strerror(-err));
	}
}

/* bytes and what there is, into sf->bytes. */
static int swapfile_fit(struct swapfile *sf, const struct swapfile_why *why, uint64_t bytes, uint64_t there)
{
	if (bytes > there)
		return swapfile_fail(why, -ENOSPC, "too small: swapsize asks for %llu bytes and there are %llu",
				     (unsigned long long)bytes, (unsigned long long)there);
	if (bytes > SWAPFILE_MAX)
		return swapfile_fail(why, -EFBIG, "swapsize is %llu bytes, more than the most that can be used, %llu",
				     (unsigned long long)bytes, (unsigned long long)SWAPFILE_MAX);
	if (bytes == 0)
		bytes = there < SWAPFILE_MAX ? there : SWAPFILE_MAX;
	bytes -= bytes % SWAPFILE_PAGE;
	if (bytes < SWAPFILE_MIN)
		return swapfile_fail(why, -ENOSPC, "too small: %llu bytes, at least %llu are needed",
				     (unsigned long long)bytes, (unsigned long long)SWAPFILE_MIN);
	sf->bytes = bytes;
	return 0;
}

/* What is free on the disk that the file lies on.  0 or -errno. */
static int swapfile_disk_free(const struct swapfile *sf, uint64_t *bytes)
{
	struct statvfs vfs;

	if (fstatvfs(sf->fd, &vfs) < 0)
		return -errno;
	*bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	return 0;
}

/* A file that has no length gets one: bytes, or half of what is free there.  No space is set aside. */
static int swapfile_extend(struct swapfile *sf, const struct swapfile_why *why, uint64_t bytes)
{
	uint64_t disk_free = 0;
	int rc;

	if (bytes == 0) {
		rc = swapfile_disk_free(sf, &disk_free);
		if (rc < 0)
			return swapfile_fail(why, rc, "statvfs: %s", strerror(-rc));
		rc = swapfile_fit(sf, why, 0, disk_free / 2);
	} else {
		rc = swapfile_fit(sf, why, bytes, UINT64_MAX);
	}
	if (rc < 0)
		return rc;
	if (ftruncate(sf->fd, (off_t)sf->bytes) < 0)
		return swapfile_fail(why, -errno, "cannot make it %llu bytes long: %s", (unsigned long long)sf->bytes,
				     strerror(errno));
	return 0;
}

static int swapfile_open_unnamed(struct swapfile *sf, const struct swapfile_why *why, uint64_t bytes)
{
	sf->kind = SWAPFILE_UNNAMED;
	sf->can_trim = true;
	/* O_EXCL: nor may it ever be given a name. */
	sf->fd = open(why->path, O_TMPFILE | O_EXCL | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	if (sf->fd < 0) {
		int err = -errno;

		/* EISDIR: a kernel or a file system that takes O_TMPFILE for the O_DIRECTORY in it. */
		if (err == -EOPNOTSUPP || err == -EISDIR)
			return swapfile_fail(why, -EOPNOTSUPP, "this file system has no unnamed files (O_TMPFILE)");
		return swapfile_fail_open(why, err);
	}
	if (fchmod(sf->fd, 0600) < 0) /* the umask may have taken more away */
		return swapfile_fail(why, -errno, "fchmod: %s", strerror(errno));
	return swapfile_extend(sf, why, bytes);
}

/*
 * A daemon that was killed leaves its rings to the kernel, which closes the files in them a moment later: so
 * wait that moment before calling the file busy.
 */
static int swapfile_lock(struct swapfile *sf, const struct swapfile_why *why)
{
	const struct timespec ts = { .tv_nsec = 25000000 };

	for (int i = 0; flock(sf->fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return swapfile_fail(why, -errno, "flock: %s", strerror(errno));
		if (i == SWAPFILE_BUSY_TRIES)
			return swapfile_fail_open(why, -EBUSY);
		nanosleep(&ts, NULL);
	}
	return 0;
}

static int swapfile_open_regular(struct swapfile *sf, const struct swapfile_why *why, uint64_t bytes)
{
	struct stat st;
	int rc;

	sf->kind = SWAPFILE_REGULAR;
	sf->fd = open(why->path, O_RDWR | O_DIRECT | O_CLOEXEC | O_NOCTTY);
	if (sf->fd < 0)
		return swapfile_fail_open(why, -errno);
	rc = swapfile_lock(sf, why);
	if (rc < 0)
		return rc;
	/* Only now: who had the lock before us may have changed the length when it closed. */
	if (fstat(sf->fd, &st) < 0)
		return swapfile_fail(why, -errno, "fstat: %s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return swapfile_fail_open(why, -ESTALE);
	if (st.st_size == 0) {
		sf->can_trim = true;
		sf->at_close = SWAPFILE_TRUNCATE;
		return swapfile_extend(sf, why, bytes);
	}
	if (st.st_blocks < st.st_size / 512) {
		sf->can_trim = true;
		sf->at_close = SWAPFILE_PUNCH;
	}
	return swapfile_fit(sf, why, bytes, (uint64_t)st.st_size);
}

static int swapfile_open_block(struct swapfile *sf, const struct swapfile_why *why, uint64_t bytes)
{
	const struct timespec ts = { .tv_nsec = 25000000 };
	uint64_t there;
	int sector;

	sf->kind = SWAPFILE_BLOCK;
	sf->can_trim = true;
	for (int i = 0; i <= SWAPFILE_BUSY_TRIES; i++) {
		sf->fd = open(why->path, O_RDWR | O_EXCL | O_DIRECT | O_CLOEXEC);
		if (sf->fd >= 0 || errno != EBUSY)
			break;
		nanosleep(&ts, NULL);
	}
	if (sf->fd < 0)
		return swapfile_fail_open(why, -errno);
	if (ioctl(sf->fd, BLKGETSIZE64, &there) < 0)
		return swapfile_fail(why, -errno, "BLKGETSIZE64: %s", strerror(errno));
	if (ioctl(sf->fd, BLKSSZGET, &sector) < 0)
		return swapfile_fail(why, -errno, "BLKSSZGET: %s", strerror(errno));
	if (sector < 1 || (uint64_t)sector > SWAPFILE_PAGE)
		return swapfile_fail(why, -EINVAL, "its sectors are %d bytes, more than a page", sector);
	return swapfile_fit(sf, why, bytes, there);
}

/* The last page shows in one read whether direct I/O in pages works and whether the length is true. */
static int swapfile_probe(const struct swapfile *sf, const struct swapfile_why *why)
{
	void *page = NULL;
	ssize_t got;
	int err;

	if (posix_memalign(&page, SWAPFILE_PAGE, SWAPFILE_PAGE))
		return swapfile_fail_open(why, -ENOMEM);
	do {
		got = pread(sf->fd, page, SWAPFILE_PAGE, (off_t)(sf->bytes - SWAPFILE_PAGE));
	} while (got < 0 && errno == EINTR);
	err = got < 0 ? -errno : 0;
	free(page);
	if (err < 0)
		return swapfile_fail(why, err, "reading it with O_DIRECT: %s", strerror(-err));
	if (got != (ssize_t)SWAPFILE_PAGE)
		return swapfile_fail(why, -EIO, "it ends before its length");
	return 0;
}

int swapfile_open(struct swapfile *sf, const char *path, uint64_t bytes, char *why_line, size_t why_len)
{
	const struct swapfile_why why = { .path = path, .line = why_line, .len = why_len };
	struct stat st;
	int rc;

	*sf = (struct swapfile){ .fd = -1 };
	if (why_len > 0)
		why_line[0] = '\0';
	if (stat(path, &st) < 0)
		return swapfile_fail_open(&why, -errno);
	if (S_ISDIR(st.st_mode))
		rc = swapfile_open_unnamed(sf, &why, bytes);
	else if (S_ISREG(st.st_mode))
		rc = swapfile_open_regular(sf, &why, bytes);
	else if (S_ISBLK(st.st_mode))
		rc = swapfile_open_block(sf, &why, bytes);
	else
		rc = swapfile_fail(&why, -EINVAL, "not a directory, file or block device");
	if (rc == 0)
		rc = swapfile_probe(sf, &why);
	if (rc < 0) {
		/* Nothing was written, so what the file held is still its owner's. */
		if (sf->at_close == SWAPFILE_PUNCH)
			sf->at_close = SWAPFILE_KEEP;
		swapfile_close(sf);
	}
	return rc;
}

void swapfile_close(struct swapfile *sf)
{
	if (sf->fd < 0)
		return;
	/* A file that is not emptied keeps dead data and disk space: a pity, and nothing that anyone can act on. */
	if (sf->at_close == SWAPFILE_TRUNCATE)
		(void)!ftruncate(sf->fd, 0);
	sf->reserved = 0;
	if (sf->at_close == SWAPFILE_PUNCH && sf->can_trim)
		(void)swapfile_trim(sf, 0, sf->bytes);
	close(sf->fd);
	*sf = (struct swapfile){ .fd = -1 };
}

/* Asked first: fallocate() would fill the disk to the brim, for everybody, before it fails and gives all of it back. */
static bool swapfile_has_room(const struct swapfile *sf, uint64_t bytes)
{
	uint64_t disk_free = 0;
	struct stat st;

	if (swapfile_disk_free(sf, &disk_free) < 0 || fstat(sf->fd, &st) < 0)
		return true;
	return bytes <= disk_free + (uint64_t)st.st_blocks * 512;
}

int swapfile_reserve(struct swapfile *sf, uint64_t bytes)
{
	int rc = 0;

	assert(bytes % SWAPFILE_PAGE == 0 && bytes <= sf->bytes);
	if (sf->kind != SWAPFILE_BLOCK) {
		if (!swapfile_has_room(sf, bytes))
			return -ENOSPC;
		do {
			rc = fallocate(sf->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes);
		} while (rc < 0 && errno == EINTR);
	}
	if (rc < 0)
		return -errno;
	sf->reserved = bytes;
	return 0;
}

int swapfile_trim(struct swapfile *sf, uint64_t offset, uint64_t length)
{
	uint64_t range[2] = { offset, length };
	int rc;

	assert(length > 0 && offset % SWAPFILE_PAGE == 0 && length % SWAPFILE_PAGE == 0);
	assert(offset <= sf->bytes && length <= sf->bytes - offset);
	if (!sf->can_trim)
		return -EOPNOTSUPP;
	if (offset + length <= sf->reserved)
		return 0;
	if (offset < sf->reserved) {
		length -= sf->reserved - offset;
		offset = sf->reserved;
		range[0] = offset;
		range[1] = length;
	}
	do {
		if (sf->kind == SWAPFILE_BLOCK)
			rc = ioctl(sf->fd, BLKDISCARD, range);
		else
			rc = fallocate(sf->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
				       (off_t)length);
	} while (rc < 0 && errno == EINTR);
	if (rc == 0)
		return 0;
	rc = -errno;
	sf->can_trim = false;
	return rc;
}
