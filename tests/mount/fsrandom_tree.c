/* SPDX-License-Identifier: MIT */
/*
 * fsrandom_tree: compares two directories, or two whole trees down to the last byte, by read() and by mmap().
 * Keeps no state of its own; called from fsrandom.c at the end and from its readdir operation.
 */
#include "tests/mount/fsrandom.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/xattr.h>

/* One directory's entries, "name/type", sorted; freed by fsr_free_listing(). */
struct listing {
	char **entry;
	size_t count, room;
};

static int fsr_cmp_entries(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void fsr_free_listing(struct listing *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->entry[i]);
	free(l->entry);
}

/* Takes fd over. */
static void fsr_list(struct run *r, int fd, struct listing *l)
{
	DIR *dir = fdopendir(fd);
	struct dirent *de;

	if (!dir)
		fsr_die("fdopendir");
	*l = (struct listing){ 0 };
	errno = 0;
	while ((de = readdir(dir)) != NULL) {
		if (l->count == l->room) {
			l->room = l->room * 2 + 64;
			l->entry = realloc(l->entry, l->room * sizeof(char *));
		}
		if (!l->entry || asprintf(&l->entry[l->count++], "%s/%d", de->d_name, de->d_type) < 0)
			fsr_die("memory");
	}
	if (errno != 0)
		fsr_differ(r, "readdir: %s", strerror(errno));
	closedir(dir);
	if (l->count > 0)
		qsort(l->entry, l->count, sizeof(char *), fsr_cmp_entries);
}

static void fsr_same_listing(struct run *r, const struct listing *a, const struct listing *b, const char *path)
{
	for (size_t i = 0; i < a->count && i < b->count; i++) {
		if (strcmp(a->entry[i], b->entry[i]) != 0)
			fsr_differ(r, "listing of %s: A has %s where B has %s", path, a->entry[i], b->entry[i]);
	}
	if (a->count != b->count)
		fsr_differ(r, "listing of %s: A has %zu entries, B %zu", path, a->count, b->count);
}

void fsr_compare_dir(struct run *r, int fd_a, int fd_b, const char *path)
{
	struct listing a, b;

	fsr_list(r, fd_a, &a);
	fsr_list(r, fd_b, &b);
	fsr_same_listing(r, &a, &b, path);
	fsr_free_listing(&a);
	fsr_free_listing(&b);
}

static void fsr_compare_read(struct run *r, const int fd[2], off_t size)
{
	ssize_t n[2] = { 1, 1 };

	for (off_t at = 0; n[1] > 0; at += n[1]) {
		for (int s = 0; s < 2; s++)
			n[s] = pread(fd[s], r->rbuf[s], IO_MAX, at);
		if (n[0] != n[1] || (n[1] == 0 && at != size))
			fsr_differ(r, "read at %lld: A %zd, B %zd bytes", (long long)at, n[0], n[1]);
		fsr_same_bytes(r, r->rbuf[0], r->rbuf[1], (size_t)n[1], at);
	}
}

static void fsr_compare_mapped(struct run *r, const int fd[2], size_t size)
{
	unsigned char *p[2];

	for (int s = 0; s < 2; s++) {
		p[s] = mmap(NULL, size, PROT_READ, MAP_SHARED, fd[s], 0);
		if (p[s] == MAP_FAILED)
			fsr_differ(r, "%c: mmap: %s", "AB"[s], strerror(errno));
	}
	fsr_same_bytes(r, p[0], p[1], size, 0);
	munmap(p[0], size);
	munmap(p[1], size);
}

/* Asks the file system for every byte twice: what the kernel has cached is dropped before each pass. */
static void fsr_compare_file(struct run *r, const char *path, off_t size)
{
	int fd[2];

	for (int s = 0; s < 2; s++) {
		fd[s] = openat(r->side[s].root, path, O_RDONLY | O_NOFOLLOW);
		if (fd[s] < 0)
			fsr_differ(r, "%c: open: %s", "AB"[s], strerror(errno));
	}
	if (fsync(fd[0]) != 0)
		fsr_differ(r, "A: fsync: %s", strerror(errno));
	posix_fadvise(fd[0], 0, 0, POSIX_FADV_DONTNEED);
	fsr_compare_read(r, fd, size);
	posix_fadvise(fd[0], 0, 0, POSIX_FADV_DONTNEED);
	if (size > 0)
		fsr_compare_mapped(r, fd, (size_t)size);
	close(fd[0]);
	close(fd[1]);
}

static void fsr_compare_xattrs(struct run *r, const char *path)
{
	char full[2][PATH_LEN * 8], text[2][1024], *save = NULL;
	struct outcome o[2];

	for (int s = 0; s < 2; s++)
		snprintf(full[s], sizeof(full[s]), "%s/%s", r->side[s].path, path);
	FSR_BOTH(o, fsr_list_xattrs(full[s], text[s], sizeof(text[s])));
	if (!fsr_same(r, o))
		return;
	if (strcmp(text[0], text[1]) != 0)
		fsr_differ(r, "A has attributes %s, B %s", text[0], text[1]);
	for (char *name = strtok_r(text[0], " ", &save); name; name = strtok_r(NULL, " ", &save)) {
		FSR_BOTH(o, lgetxattr(full[s], name, r->rbuf[s], IO_MAX));
		if (fsr_same(r, o))
			fsr_same_bytes(r, r->rbuf[0], r->rbuf[1], (size_t)o[0].rc, 0);
	}
}

static uint64_t fsr_compare_below(struct run *r, const char *path);

static uint64_t fsr_compare_object(struct run *r, const char *path)
{
	struct stat st[2];
	struct outcome o[2];

	fsr_log(r, "final comparison of %s", path);
	FSR_BOTH(o, fstatat(r->side[s].root, path, &st[s], AT_SYMLINK_NOFOLLOW));
	if (!fsr_same(r, o))
		fsr_differ(r, "%s is listed, but not there", path);
	fsr_same_stat(r, &st[0], &st[1], path);
	fsr_compare_xattrs(r, path);
	if (S_ISDIR(st[0].st_mode))
		return fsr_compare_below(r, path);
	if (S_ISREG(st[0].st_mode)) {
		fsr_compare_file(r, path, st[1].st_size);
		return (uint64_t)st[1].st_size;
	}
	FSR_BOTH(o, readlinkat(r->side[s].root, path, (char *)r->rbuf[s], PATH_LEN));
	if (fsr_same(r, o))
		fsr_same_bytes(r, r->rbuf[0], r->rbuf[1], (size_t)o[0].rc, 0);
	return 0;
}

static uint64_t fsr_compare_below(struct run *r, const char *path)
{
	struct listing l[2];
	char child[PATH_LEN * 4];
	uint64_t bytes = 0;

	for (int s = 0; s < 2; s++) {
		int fd = openat(r->side[s].root, path, O_RDONLY | O_DIRECTORY);

		if (fd < 0)
			fsr_differ(r, "%c: open %s: %s", "AB"[s], path, strerror(errno));
		fsr_list(r, fd, &l[s]);
	}
	fsr_same_listing(r, &l[0], &l[1], path);
	for (size_t i = 0; i < l[0].count; i++) {
		char *end = strrchr(l[0].entry[i], '/');

		*end = '\0';
		if (strcmp(l[0].entry[i], ".") == 0 || strcmp(l[0].entry[i], "..") == 0)
			continue;
		snprintf(child, sizeof(child), "%s/%s", path, l[0].entry[i]);
		bytes += fsr_compare_object(r, child);
	}
	fsr_free_listing(&l[0]);
	fsr_free_listing(&l[1]);
	return bytes;
}

uint64_t fsr_compare_trees(struct run *r)
{
	return fsr_compare_below(r, ".");
}
