/* SPDX-License-Identifier: MIT */
/*
 * ram-cap: puts as much of one thing into a mount as is asked for, or as goes in.
 *
 *    ram-cap files COUNT DIR      empty files, 1000 in each directory
 *    ram-cap pages COUNT FILE     writes COUNT pages of noise round and round over FILE's 64 MiB, reading one in 8
 *    ram-cap xattrs COUNT DIR     16 KiB attributes, 4 a file
 *    ram-cap mapped COUNT FILE    dirties COUNT pages of a mapping, syncs it, and reads all of it back
 *
 * ENOSPC ends it well, any other error badly.  Prints how many were made.  One process; no lock.
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

static unsigned long ramcap_xattrs(unsigned long count)
{
	static char value[16 << 10];
	char name[64];
	int fd = -1;

	for (unsigned long n = 0; n < count; n++) {
		if (n % 4 == 0) {
			if (fd >= 0)
				close(fd);
			snprintf(name, sizeof(name), "x%lu", n / 4);
			fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
			if (fd < 0)
				return ramcap_done(n, "open");
		}
		snprintf(name, sizeof(name), "user.%lu", n % 4);
		memset(value, (int)n | 1, sizeof(value));
		if (fsetxattr(fd, name, value, sizeof(value), 0) != 0)
			return ramcap_done(n, "fsetxattr");
	}
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

	if (argc != 4 || (argv[1][0] != 'p' && argv[1][0] != 'm' && chdir(argv[3]) != 0)) {
		fprintf(stderr, "usage: ram-cap files|pages|xattrs|mapped COUNT PATH\n");
		return 2;
	}
	count = strtoul(argv[2], NULL, 10);
	n = strcmp(argv[1], "files") == 0 ? ramcap_files(count)
	  : strcmp(argv[1], "pages") == 0 ? ramcap_pages(count, argv[3])
	  : strcmp(argv[1], "mapped") == 0 ? ramcap_mapped(count, argv[3])
					  : ramcap_xattrs(count);
	printf("%lu\n", n);
	return 0;
}
