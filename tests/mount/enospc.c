/* SPDX-License-Identifier: MIT */
/*
 * enospc: fills a mount until it refuses, and then holds it to what it accepted.
 *
 *    enospc fill METHOD BLOCK_BYTES WRITERS DIR     one file for each writer, all at the same time
 *    enospc verify DIR                              every byte that was accepted is there
 *    enospc full DIR                                a full mount still answers, and gives room when asked to
 *    enospc inodes DIR                              creates files until that is refused, prints how many
 *
 * METHOD: write, pwrite, append, rdwr, direct, copy, fallocate, zero (FALLOC_FL_ZERO_RANGE), mixed (every second writer
 * zero, the others rdwr), early (a handle opened long before the mount is full), mapped (stores, and msync() after each
 * block: what it refuses is taken back).  Filling succeeds only if every writer was stopped by ENOSPC (or a short write
 * followed by it) from the very call that went over, and if fsync() and close() then have nothing to complain of.
 * Prints the bytes that were accepted.  Each process is alone with its file; no lock.
 */
#include "tests/mount/check_that.h"

#include <dirent.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/statvfs.h>

#define SOURCE_BYTES (1U << 20) /* what copy_file_range copies from, again and again */

static const char *enospc_dir;

static uint64_t enospc_seed(const char *name, uint64_t offset)
{
	return strtoull(name + 1, NULL, 10) * UINT64_C(1000003) + offset / 4096 + 1;
}

/* A block's bytes are made page by page, so that verify need not know the size of the blocks. */
static void enospc_fill_block(char *buf, size_t len, const char *name, uint64_t offset)
{
	for (size_t at = 0; at < len; at += 4096)
		check_fill(buf + at, 4096, enospc_seed(name, offset + at));
}

static void enospc_die(const char *name, const char *call, uint64_t offset)
{
	fprintf(stderr, "%s: %s at %" PRIu64 ": %s\n", name, call, offset, strerror(errno));
	exit(1);
}

static int enospc_open(const char *method, const char *name)
{
	int flags = O_CREAT | O_TRUNC | O_CLOEXEC;

	if (strcmp(method, "rdwr") == 0 || strcmp(method, "early") == 0 || strcmp(method, "mapped") == 0)
		flags |= O_RDWR;
	else
		flags |= O_WRONLY;
	if (strcmp(method, "append") == 0)
		flags |= O_APPEND;
	if (strcmp(method, "direct") == 0)
		flags |= O_DIRECT;
	return open(name, flags, 0644);
}

/* Stores to a mapping of a hole at the end of the file.  Nobody is asked then: it is msync() that hears of ENOSPC. */
static ssize_t enospc_map(int fd, const char *buf, size_t len, uint64_t offset)
{
	char *map = NULL;
	int rc, err;

	CHECK_EQ(ftruncate(fd, (off_t)(offset + len)), 0);
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
	CHECK(map != MAP_FAILED);
	memcpy(map, buf, len);
	rc = msync(map, len, MS_SYNC);
	err = errno;
	CHECK_EQ(munmap(map, len), 0);
	if (rc == 0)
		return (ssize_t)len;
	CHECK_EQ(ftruncate(fd, (off_t)offset), 0);
	errno = err;
	return -1;
}

/* One call at offset: bytes that it took, or -1. */
static ssize_t enospc_call(const char *method, int fd, int source, const char *buf, size_t len, uint64_t offset)
{
	off_t from = 0, to = (off_t)offset;

	if (strcmp(method, "copy") == 0)
		return copy_file_range(source, &from, fd, &to, len < SOURCE_BYTES ? len : SOURCE_BYTES, 0);
	if (strcmp(method, "fallocate") == 0)
		return fallocate(fd, 0, to, (off_t)len) == 0 ? (ssize_t)len : -1;
	if (strcmp(method, "zero") == 0)
		return fallocate(fd, FALLOC_FL_ZERO_RANGE, to, (off_t)len) == 0 ? (ssize_t)len : -1;
	if (strcmp(method, "mapped") == 0)
		return enospc_map(fd, buf, len, offset);
	if (strcmp(method, "pwrite") == 0)
		return pwrite(fd, buf, len, to);
	return write(fd, buf, len);
}

/* The first page of every copy is the same, so those files are named differently and not compared. */
static bool enospc_has_pattern(const char *method)
{
	return strcmp(method, "copy") != 0 && strcmp(method, "fallocate") != 0 && strcmp(method, "zero") != 0;
}

static void enospc_fill(const char *method, size_t block, unsigned writer)
{
	char name[32], *buf = NULL;
	uint64_t offset = 0;
	bool refused = false;
	int fd, source;

	snprintf(name, sizeof(name), "%c%u", enospc_has_pattern(method) ? 'f' : 'x', writer);
	source = open("source", O_RDONLY | O_CLOEXEC);
	fd = enospc_open(method, name);
	if (fd < 0 || posix_memalign((void **)&buf, 4096, block) != 0)
		enospc_die(name, "open", 0);
	while (!refused) {
		ssize_t n;

		enospc_fill_block(buf, block, name, offset);
		n = enospc_call(method, fd, source, buf, block, offset);
		if (n < 0 && errno != ENOSPC)
			enospc_die(name, method, offset);
		if (n == 0)
			enospc_die(name, "nothing taken, no error", offset);
		refused = n < 0;
		if (n > 0 && n % 4096 != 0)
			enospc_die(name, "a part of a page", offset);
		offset += n > 0 ? (uint64_t)n : 0;
	}
	if (fsync(fd) != 0)
		enospc_die(name, "LOST: fsync", offset);
	if (close(fd) != 0)
		enospc_die(name, "LOST: close", offset);
	if (check_stat(name).st_size != (off_t)offset)
		enospc_die(name, "size is not what was accepted", offset);
	printf("%" PRIu64 "\n", offset);
	free(buf);
}

static void enospc_fill_all(const char *method, size_t block, unsigned writers)
{
	pid_t pid[64];

	const bool mixed = strcmp(method, "mixed") == 0;

	CHECK(writers <= 64);
	if (strcmp(method, "copy") == 0)
		check_make_file("source", SOURCE_BYTES, 5);
	for (unsigned w = 0; w < writers; w++) {
		fflush(stdout);
		pid[w] = fork();
		CHECK(pid[w] >= 0);
		if (pid[w] == 0) {
			enospc_fill(!mixed ? method : w % 2 ? "zero" : "rdwr", block, w);
			fflush(stdout);
			_exit(0);
		}
	}
	for (unsigned w = 0; w < writers; w++)
		check_child(pid[w]);
}

/* --- what was accepted is there -------------------------------------------------------------------------------- */

static void enospc_verify_file(const char *name)
{
	static char got[1 << 20], want[4096];
	int fd = check_open(name, O_RDONLY, 0);
	uint64_t offset = 0;
	ssize_t n;

	CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	while ((n = read(fd, got, sizeof(got))) > 0) {
		for (ssize_t at = 0; at < n; at += 4096, offset += 4096) {
			check_fill(want, sizeof(want), enospc_seed(name, offset));
			if (memcmp(got + at, want, 4096) != 0) {
				fprintf(stderr, "%s: LOST: the page at %" PRIu64 " is not what was written\n", name,
					offset);
				exit(1);
			}
		}
	}
	if (n < 0)
		enospc_die(name, "read", offset);
	close(fd);
}

static void enospc_verify(void)
{
	DIR *d = opendir(".");
	struct dirent *de;

	CHECK(d != NULL);
	while ((de = readdir(d)) != NULL)
		if (de->d_name[0] == 'f')
			enospc_verify_file(de->d_name);
	closedir(d);
}

/* --- a full mount ---------------------------------------------------------------------------------------------- */

static uint64_t enospc_free_pages(void)
{
	struct statvfs vfs;

	CHECK_EQ(statvfs(".", &vfs), 0);
	return vfs.f_bavail;
}

/* Room is there at once: the very next write after the call that made it. */
static void enospc_write_now(const char *name, size_t len)
{
	int fd = check_open(name, O_CREAT | O_WRONLY | O_TRUNC, 0644);
	char *buf = malloc(len);

	CHECK(buf != NULL);
	enospc_fill_block(buf, len, name, 0);
	CHECK_EQ(write(fd, buf, len), len);
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(close(fd), 0);
	free(buf);
}

static void enospc_full(void)
{
	const size_t mib = 1 << 20;
	char page[4096], want[4096];
	struct stat st = check_stat("f0");
	int fd;

	CHECK_EQ(enospc_free_pages(), 0);
	CHECK(st.st_size > (off_t)(8 * mib));

	/* Reading, at the end too: a handle that cannot write is never told ENOSPC. */
	fd = check_open("f0", O_RDONLY, 0);
	CHECK_EQ(pread(fd, page, sizeof(page), 4096), sizeof(page));
	check_fill(want, sizeof(want), enospc_seed("f0", 4096));
	CHECK(memcmp(page, want, sizeof(page)) == 0);
	CHECK_EQ(pread(fd, page, sizeof(page), st.st_size), 0);
	CHECK_EQ(pread(fd, page, sizeof(page), st.st_size + 12345), 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(lseek(fd, 0, SEEK_END), st.st_size);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(rename("f0", "f0renamed"), 0);
	CHECK_EQ(rename("f0renamed", "f0"), 0);
	CHECK_EQ(chmod("f0", 0600), 0);

	/* Truncating inside a page needs the page back from swap, and makes room. */
	CHECK_EQ(truncate("f0", st.st_size - (off_t)(2 * mib) - 100), 0);
	CHECK_EQ(truncate("f0", st.st_size - (off_t)(3 * mib)), 0);
	enospc_write_now("f101", 2 * mib);
	for (int i = 0; i < 20; i++) {
		CHECK_EQ(unlink("f101"), 0);
		enospc_write_now("f101", 2 * mib);
	}
	fd = check_open("f0", O_WRONLY, 0);
	CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)(2 * mib)), 0);
	CHECK_EQ(close(fd), 0);
	enospc_write_now("f102", 2 * mib);
	CHECK_EQ(unlink("f0"), 0);
	CHECK_EQ(unlink("f101"), 0);
	CHECK_EQ(unlink("f102"), 0);
}

/* Empty files until ENOSPC; prints how many. */
static void enospc_inodes(void)
{
	char name[16];
	unsigned n = 0;
	int fd;

	for (;; n++) {
		snprintf(name, sizeof(name), "%u", n);
		fd = open(name, O_CREAT | O_EXCL | O_RDONLY, 0644);
		if (fd < 0)
			break;
		close(fd);
	}
	if (errno != ENOSPC)
		enospc_die(name, "open", n);
	printf("%u\n", n);
}

int main(int argc, char **argv)
{
	enospc_dir = argc > 2 ? argv[argc - 1] : ".";
	if (argc < 3 || chdir(enospc_dir) != 0) {
		fprintf(stderr, "usage: enospc fill METHOD BLOCK_BYTES WRITERS DIR | verify|full|inodes DIR\n");
		return 2;
	}
	if (strcmp(argv[1], "fill") == 0 && argc == 6)
		enospc_fill_all(argv[2], strtoull(argv[3], NULL, 10), (unsigned)strtoul(argv[4], NULL, 10));
	else if (strcmp(argv[1], "verify") == 0)
		enospc_verify();
	else if (strcmp(argv[1], "inodes") == 0)
		enospc_inodes();
	else if (strcmp(argv[1], "full") == 0)
		enospc_full();
	else
		return 2;
	return 0;
}
