/* SPDX-License-Identifier: MIT */
/*
 * ram-cap: puts as much of one thing into a mount as is asked for, or as goes in.
 *
 *    ram-cap files COUNT DIR      empty files, 1000 in each directory
 *    ram-cap pages COUNT FILE     writes COUNT pages of noise round and round over FILE's 64 MiB, reading one in 8
 *    ram-cap spread COUNT FILE    writes COUNT pages, no two alike, one behind the other, and reads some of all parts back
 *    ram-cap xattrs COUNT DIR     sets COUNT attributes of 16 KiB, 4 a file; the oldest make room when 4096 are there, or
 *                                 when one is refused
 *    ram-cap mapped COUNT FILE    dirties COUNT pages of a mapping, syncs it, and reads all of it back
 *
 * ENOSPC ends it well, any other error badly.  Prints how many were made.  One process; no lock.  ram-cap.sh says what
 * the daemon may take meanwhile.
 */
#include "tests/mount/check_that.h"

#include <sys/mman.h>
#include <sys/xattr.h>

#define FILE_PAGES 16384UL

static unsigned long ramcap_done(unsigned long n, const char *what)
{
	if (errno != ENOSPC) {
		fprintf(stderr, "%s %lu: %s\n", what, n, strerror(errno));
		exit(1);
	}
	return n;
}

static unsigned long ramcap_files(unsigned long count)
{
	char name[64];

	for (unsigned long n = 0; n < count; n++) {
		int fd;

		snprintf(name, sizeof(name), "d%lu", n / 1000);
		if (n % 1000 == 0 && mkdir(name, 0755) != 0)
			return ramcap_done(n, "mkdir");
		snprintf(name, sizeof(name), "d%lu/file-%lu", n / 1000, n);
		fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
		if (fd < 0)
			return ramcap_done(n, "open");
		close(fd);
	}
	return count;
}

static unsigned long ramcap_pages(unsigned long count, const char *path)
{
	int fd = check_open(path, O_CREAT | O_RDWR, 0644);
	static char block[64 * PAGE], back[PAGE];

	for (unsigned long n = 0; n < count; n += 64) {
		const unsigned long at = n % FILE_PAGES, behind = (n * 7919) % (n > FILE_PAGES ? FILE_PAGES : n + 1);

		for (unsigned i = 0; i < 64; i++) {
			memset(block + i * PAGE, (int)(at + i) | 1, PAGE);
			memcpy(block + i * PAGE, &(unsigned long){ at + i }, sizeof(at));
		}
		if (pwrite(fd, block, sizeof(block), (off_t)(at * PAGE)) != (ssize_t)sizeof(block))
			return ramcap_done(n, "pwrite");
		if (n > 0 && pread(fd, back, PAGE, (off_t)(behind * PAGE)) == PAGE) {
			unsigned long got;

			memcpy(&got, back, sizeof(got));
			CHECK(got == behind);
		}
	}
	CHECK_EQ(close(fd), 0);
	return count;
}

/* The number in the first word of each page tells it from all others; the rest only must not be zero. */
static unsigned long ramcap_spread(unsigned long count, const char *path)
{
	int fd = check_open(path, O_CREAT | O_RDWR, 0644);
	static char block[64 * PAGE], back[PAGE];
	unsigned long n, got;

	memset(block, 0x5a, sizeof(block));
	for (n = 0; n < count; n += 64) {
		for (unsigned i = 0; i < 64; i++)
			memcpy(block + i * PAGE, &(unsigned long){ n + i }, sizeof(n));
		if (pwrite(fd, block, sizeof(block), (off_t)(n * PAGE)) != (ssize_t)sizeof(block))
			return ramcap_done(n, "pwrite");
	}
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	for (unsigned long i = 0; i < n; i += n / 4001 + 1) {
		CHECK_EQ(pread(fd, back, PAGE, (off_t)(i * PAGE)), PAGE);
		memcpy(&got, back, sizeof(got));
		CHECK_EQ(got, i);
		CHECK_EQ(memcmp(back + sizeof(got), block + sizeof(got), PAGE - sizeof(got)), 0);
	}
	CHECK_EQ(close(fd), 0);
	return n;
}

#define XATTRS_A_FILE 4
#define XATTR_FILES   1024

/* Takes a file and its attributes away, *oldest being the first that is left. */
static void ramcap_make_room(unsigned long *oldest)
{
	char name[64];

	snprintf(name, sizeof(name), "x%lu", (*oldest)++);
	CHECK_EQ(unlink(name), 0);
}

static unsigned long ramcap_xattrs(unsigned long count)
{
	static char value[16 << 10];
	unsigned long oldest = 0, refused = 0;
	char name[64], file[64];

	for (unsigned long n = 0; n < count;) {
		int fd, rc;

		if (n / XATTRS_A_FILE - oldest >= XATTR_FILES)
			ramcap_make_room(&oldest);
		snprintf(file, sizeof(file), "x%lu", n / XATTRS_A_FILE);
		snprintf(name, sizeof(name), "user.%lu", n % XATTRS_A_FILE);
		memset(value, (int)n | 1, sizeof(value));
		fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
		rc = fd < 0 ? -1 : fsetxattr(fd, name, value, sizeof(value), 0);
		if (rc != 0 && (errno != ENOSPC || oldest >= n / XATTRS_A_FILE))
			return ramcap_done(n, fd < 0 ? "open" : "fsetxattr");
		if (fd >= 0)
			close(fd);
		if (rc == 0) {
			n++;
			continue;
		}
		refused++;
		ramcap_make_room(&oldest);
	}
	fprintf(stderr, "%lu of %lu were refused, and fitted when others had gone\n", refused, count);
	return count;
}

static unsigned long ramcap_mapped(unsigned long count, const char *path)
{
	int fd = check_open(path, O_CREAT | O_RDWR | O_TRUNC, 0644);
	unsigned long *map, *back = malloc(PAGE);

	CHECK_EQ(ftruncate(fd, (off_t)(count * PAGE)), 0);
	map = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED && back != NULL);
	for (unsigned long n = 0; n < count; n++)
		map[n * PAGE / sizeof(*map) + n % 512] = n + 1;
	CHECK_EQ(msync(map, count * PAGE, MS_SYNC), 0);
	CHECK_EQ(munmap(map, count * PAGE), 0);
	CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	for (unsigned long n = 0; n < count; n++) {
		CHECK_EQ(pread(fd, back, PAGE, (off_t)(n * PAGE)), PAGE);
		CHECK(back[n % 512] == n + 1);
	}
	CHECK_EQ(close(fd), 0);
	return count;
}

int main(int argc, char **argv)
{
	unsigned long count, n;

	if (argc != 4 || ((argv[1][0] == 'f' || argv[1][0] == 'x') && chdir(argv[3]) != 0)) {
		fprintf(stderr, "usage: ram-cap files|pages|spread|xattrs|mapped COUNT PATH\n");
		return 2;
	}
	count = strtoul(argv[2], NULL, 10);
	n = strcmp(argv[1], "files") == 0 ? ramcap_files(count)
	  : strcmp(argv[1], "pages") == 0 ? ramcap_pages(count, argv[3])
	  : strcmp(argv[1], "spread") == 0 ? ramcap_spread(count, argv[3])
	  : strcmp(argv[1], "mapped") == 0 ? ramcap_mapped(count, argv[3])
					  : ramcap_xattrs(count);
	printf("%lu\n", n);
	return 0;
}
