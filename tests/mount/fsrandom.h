/* SPDX-License-Identifier: MIT */
/*
 * fsrandom.h: the state of a run of fsrandom, its random numbers, its log, and the one way to fail.
 *
 * Every operation has the same shape: pick, fsr_log(), do it on side 0 and on side 1, fsr_same().
 */
#ifndef TESTS_MOUNT_FSRANDOM_H
#define TESTS_MOUNT_FSRANDOM_H

#include "tests/mount/splitmix.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_LEN 128
#define LOG_LEN	 30
#define LOG_LINE 200
#define IO_MAX	 (256U << 10)
#define NFDS	 12
#define NMAPS	 6
#define NDIRS	 6

/* Files move between these; the later two lie inside the first two, so that directories nest. */
static const char *const fsr_dirs[NDIRS] = { "d0", "d1", "d2", "d3", "d0/e0", "d1/e1" };

/* An open file, the same on both sides. */
struct handle {
	bool used, direct, regular;
	int flags, fd[2];
	char path[PATH_LEN];
};

/* A shared mapping, the same on both sides; fd is its own, for the file's size. */
struct mapping {
	bool used, writable;
	int fd[2];
	unsigned char *addr[2];
	off_t off;
	size_t len;
};

struct side {
	const char *path;
	int root;
};

struct run {
	struct side side[2]; /* 0: under test, 1: believed */
	uint64_t seed, rng, max_size;
	unsigned long nops, done, succeeded;
	unsigned nfiles;
	bool zero_range, spoil;
	struct handle handle[NFDS];
	struct mapping map[NMAPS];
	unsigned char *wbuf, *rbuf[2]; /* IO_MAX bytes each, page-aligned */
	char log[LOG_LEN][LOG_LINE];
	unsigned long logged;
};

struct op {
	const char *name;
	unsigned weight;
	void (*run)(struct run *r);
};

/* What a call did on one side. */
struct outcome {
	long rc;
	int err;
};

_Noreturn static inline void fsr_die(const char *what)
{
	fprintf(stderr, "fsrandom: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Ends the run: prints what differed, the seed, and the operations that led there. */
__attribute__((format(printf, 2, 3))) _Noreturn static inline void fsr_differ(struct run *r, const char *fmt, ...)
{
	unsigned long first = r->logged > LOG_LEN ? r->logged - LOG_LEN : 0;
	va_list ap;

	for (unsigned long i = first; i < r->logged; i++)
		fprintf(stderr, "  %s\n", r->log[i % LOG_LEN]);
	fprintf(stderr, "fsrandom: DIFFERENT after %lu operations, seed %" PRIu64 ": ", r->done, r->seed);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	_exit(1);
}

__attribute__((format(printf, 2, 3))) static inline void fsr_log(struct run *r, const char *fmt, ...)
{
	char *line = r->log[r->logged++ % LOG_LEN];
	int n = snprintf(line, LOG_LINE, "%lu: ", r->done);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + n, LOG_LINE - (size_t)n, fmt, ap);
	va_end(ap);
}

static inline uint64_t fsr_rand(struct run *r)
{
	return splitmix_next(&r->rng);
}

static inline uint64_t fsr_below(struct run *r, uint64_t n)
{
	return fsr_rand(r) % n;
}

static inline bool fsr_chance(struct run *r, unsigned percent)
{
	return fsr_below(r, 100) < percent;
}

/* Fresh bytes in wbuf; now and then zeroes, which a store may treat specially. */
static inline void fsr_fill(struct run *r, size_t len)
{
	if (fsr_chance(r, 6)) {
		memset(r->wbuf, 0, len);
		return;
	}
	for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
		uint64_t v = fsr_rand(r);

		memcpy(r->wbuf + i, &v, len - i < sizeof(v) ? len - i : sizeof(v));
	}
}

/* After a call on one side. */
static inline struct outcome fsr_outcome(long rc)
{
	return (struct outcome){ rc, rc < 0 ? errno : 0 };
}

/* Both sides must have returned the same.  Returns whether they succeeded. */
static inline bool fsr_same(struct run *r, const struct outcome o[2])
{
	if (o[0].rc != o[1].rc || o[0].err != o[1].err)
		fsr_differ(r, "A returned %ld (%s), B %ld (%s)", o[0].rc, strerror(o[0].err), o[1].rc,
			   strerror(o[1].err));
	r->succeeded += o[0].rc >= 0;
	return o[0].rc >= 0;
}

/* Does the call on both sides; s is the side's number in it. */
#define FSR_BOTH(o, call)                           \
	for (int s = 0; s < 2; s++) {               \
		errno = 0;                          \
		(o)[s] = fsr_outcome((long)(call)); \
	}

static inline void fsr_same_bytes(struct run *r, const unsigned char *a, const unsigned char *b, size_t len, off_t at)
{
	if (memcmp(a, b, len) == 0)
		return;
	for (size_t i = 0; i < len; i++) {
		if (a[i] != b[i])
			fsr_differ(r, "byte %lld is %02x in A, %02x in B (of %zu compared)",
				   (long long)at + (long long)i, a[i], b[i], len);
	}
}

/* Type, mode, owner, link count and size; not times, blocks, inode numbers, nor the size of directories. */
static inline void fsr_same_stat(struct run *r, const struct stat *a, const struct stat *b, const char *what)
{
	if (a->st_mode != b->st_mode || a->st_uid != b->st_uid || a->st_gid != b->st_gid ||
	    a->st_nlink != b->st_nlink || (!S_ISDIR(a->st_mode) && a->st_size != b->st_size))
		fsr_differ(r,
			   "%s: A has mode %o nlink %lu uid %u gid %u size %lld, "
			   "B has mode %o nlink %lu uid %u gid %u size %lld",
			   what, a->st_mode, (unsigned long)a->st_nlink, a->st_uid, a->st_gid, (long long)a->st_size,
			   b->st_mode, (unsigned long)b->st_nlink, b->st_uid, b->st_gid, (long long)b->st_size);
}

/* fsrandom_data.c: on open files and mappings. */
void fsr_op_open(struct run *r);
void fsr_op_close(struct run *r);
void fsr_op_pread(struct run *r);
void fsr_op_read(struct run *r);
void fsr_op_pwrite(struct run *r);
void fsr_op_write(struct run *r);
void fsr_op_lseek(struct run *r);
void fsr_op_seek_data(struct run *r);
void fsr_op_map(struct run *r);
void fsr_op_map_store(struct run *r);
void fsr_op_map_load(struct run *r);
void fsr_op_unmap(struct run *r);
void fsr_op_map_private(struct run *r);
void fsr_op_ftruncate(struct run *r);
void fsr_op_fallocate(struct run *r);
void fsr_op_copy_range(struct run *r);
void fsr_op_fsync(struct run *r);
void fsr_op_evict(struct run *r);
void fsr_op_fstat(struct run *r);
void fsr_op_tmpfile(struct run *r);
void fsr_close_all(struct run *r);

/* fsrandom_names.c: on names, attributes and extended attributes. */
void fsr_op_truncate(struct run *r);
void fsr_op_stat(struct run *r);
void fsr_op_rename(struct run *r);
void fsr_op_rename_dir(struct run *r);
void fsr_op_link(struct run *r);
void fsr_op_unlink(struct run *r);
void fsr_op_symlink(struct run *r);
void fsr_op_readlink(struct run *r);
void fsr_op_mkdir(struct run *r);
void fsr_op_rmdir(struct run *r);
void fsr_op_readdir(struct run *r);
void fsr_op_chmod(struct run *r);
void fsr_op_chown(struct run *r);
void fsr_op_utimens(struct run *r);
void fsr_op_setxattr(struct run *r);
void fsr_op_getxattr(struct run *r);
void fsr_op_listxattr(struct run *r);
void fsr_op_removexattr(struct run *r);
void fsr_pick_path(struct run *r, char *path);
/* The user.* attributes of a file, sorted, as one text; returns their number or -1. */
int fsr_list_xattrs(const char *path, char *text, size_t len);

/* fsrandom_tree.c: compares both trees in full, read() and mmap(); returns the bytes of file data compared. */
uint64_t fsr_compare_trees(struct run *r);
/* Compares the listings (names and types) of one directory; takes both descriptors over. */
void fsr_compare_dir(struct run *r, int fd_a, int fd_b, const char *path);

#endif
