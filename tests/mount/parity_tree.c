/* SPDX-License-Identifier: MIT */
/*
 * parity_tree: what parity compares in full: the data and holes of a file, the names of a directory, extended
 * attributes, and at the end of an episode the two trees.  Keeps no state between calls; called as root.
 */
#include "tests/mount/parity.h"

#include <dirent.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

#define PAR_LINKED 256

/* --- data --------------------------------------------------------------------------------------------------------- */

/* Behind the last data, the end; near 2^63, tmpfs gives negative offsets for it. */
static off_t par_seek(int fd, off_t off, int whence, off_t size)
{
	off_t found = lseek(fd, off, whence);

	return found < 0 || found > size ? size : found;
}

static void par_same_part(struct par *p, int a, int b, off_t from, off_t end)
{
	while (from < end) {
		size_t len = end - from < (off_t)PAR_IO_MAX ? (size_t)(end - from) : PAR_IO_MAX;
		ssize_t got_a = pread(a, p->rbuf[0], len, from), got_b = pread(b, p->rbuf[1], len, from);

		if (got_a != got_b || got_a <= 0) {
			par_differ(p, "data", "at %lld spillfs reads %zd, tmpfs %zd", (long long)from, got_a, got_b);
			return;
		}
		par_same_bytes(p, p->rbuf[0], p->rbuf[1], (size_t)got_a, from);
		p->shared->bytes += (uint64_t)got_a;
		from += got_a;
	}
}

void par_same_content(struct par *p, int a, int b, const char *what)
{
	bool loose = p->loose_holes || p->allocated > 1;
	off_t size = lseek(b, 0, SEEK_END);

	for (off_t off = 0; off < size && !p->diverged;) {
		off_t data_a = par_seek(a, off, SEEK_DATA, size), data_b = par_seek(b, off, SEEK_DATA, size);
		off_t data = data_a < data_b ? data_a : data_b, hole_a, hole_b;

		if (data > INT64_MAX - 16384)
			break; /* places near 2^63 are not told by tmpfs as they are */
		if (loose ? data_a < data_b : data_a != data_b)
			par_differ(p, "data map", "from %lld spillfs has data at %lld, tmpfs at %lld, of %s",
				   (long long)off, (long long)data_a, (long long)data_b, what);
		if (data >= size)
			break;
		hole_a = par_seek(a, data, SEEK_HOLE, size);
		hole_b = par_seek(b, data, SEEK_HOLE, size);
		if (loose ? hole_a > hole_b : hole_a != hole_b)
			par_differ(p, "data map", "from %lld spillfs has a hole at %lld, tmpfs at %lld, of %s",
				   (long long)data, (long long)hole_a, (long long)hole_b, what);
		off = hole_a > hole_b ? hole_a : hole_b;
		par_same_part(p, a, b, data, off);
	}
}

/* --- names -------------------------------------------------------------------------------------------------------- */

static int par_by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One line a string, sorted; the strings are freed. */
static char *par_join(char **line, size_t n)
{
	size_t len = 1;
	char *text, *at;

	if (n > 0)
		qsort(line, n, sizeof(*line), par_by_text);
	for (size_t i = 0; i < n; i++)
		len += strlen(line[i]) + 1;
	at = text = malloc(len);
	if (!text)
		par_die("memory");
	*text = '\0';
	for (size_t i = 0; i < n; i++) {
		at += sprintf(at, "%s\n", line[i]);
		free(line[i]);
	}
	free(line);
	return text;
}

static char **par_append(char **line, size_t n, const char *text)
{
	line = realloc(line, (n + 1) * sizeof(*line));
	if (!line || !(line[n] = strdup(text)))
		par_die("memory");
	return line;
}

char *par_listing(int fd, bool *numbers_agree)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY);
	DIR *d = own < 0 ? NULL : fdopendir(own);
	char **line = NULL, text[300];
	struct dirent *de;
	struct stat st;
	size_t n = 0;

	if (!d)
		return NULL;
	*numbers_agree = true;
	while ((de = readdir(d)) != NULL) {
		snprintf(text, sizeof(text), "%s/%d", de->d_name, de->d_type);
		line = par_append(line, n++, text);
		if (strcmp(de->d_name, "..") != 0 && fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			*numbers_agree &= st.st_ino == de->d_ino;
	}
	closedir(d);
	return par_join(line, n);
}

static void par_same_listings(struct par *p, int a, int b, const char *path)
{
	bool agree[2];
	char *text[2] = { par_listing(a, &agree[0]), par_listing(b, &agree[1]) };

	if (!text[0] || !text[1])
		par_die(path);
	if (strcmp(text[0], text[1]) != 0)
		par_differ(p, "names", "in %s: spillfs\n%s\ntmpfs\n%s", path, text[0], text[1]);
	if (agree[0] != agree[1])
		par_differ(p, "inode numbers", "of readdir() in %s: spillfs %s, tmpfs %s", path,
			   agree[0] ? "agree" : "differ", agree[1] ? "agree" : "differ");
	free(text[0]);
	free(text[1]);
}

/* --- extended attributes ------------------------------------------------------------------------------------------ */

/* All attributes of a name, sorted, with lengths and sums of the values; to be freed. */
static char *par_xattrs(const char *path)
{
	static char names[65536], value[65536];
	ssize_t len = llistxattr(path, names, sizeof(names));
	char **line = NULL, text[400];
	size_t n = 0;

	if (len < 0)
		snprintf(text, sizeof(text), "llistxattr: %s", strerror(errno));
	if (len < 0)
		line = par_append(line, n++, text);
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
		ssize_t got = lgetxattr(path, names + at, value, sizeof(value));
		uint64_t sum = 0;

		for (ssize_t i = 0; i < got; i++)
			sum = sum * 31 + (unsigned char)value[i];
		snprintf(text, sizeof(text), "%s=%zd:%" PRIx64, names + at, got, sum);
		line = par_append(line, n++, text);
	}
	return par_join(line, n);
}

/* names are of the working directory; in: where that is, for people */
static void par_same_xattrs_at(struct par *p, const int dir[2], const char *name, const char *in)
{
	char *text[2];

	for (int s = 0; s < 2; s++) {
		if (fchdir(dir[s]) != 0)
			par_die("fchdir");
		text[s] = par_xattrs(name);
	}
	if (strcmp(text[0], text[1]) != 0)
		par_differ(p, "xattrs", "spillfs\n%stmpfs\n%sof %s/%s", text[0], text[1], in, name);
	free(text[0]);
	free(text[1]);
}

void par_same_xattrs(struct par *p, const char *path)
{
	const int dir[2] = { p->side[0].root, p->side[1].root };
	unsigned actor = p->actor;

	par_become(p, 0);
	par_same_xattrs_at(p, dir, path, "");
	par_become(p, actor);
}

/* --- trees -------------------------------------------------------------------------------------------------------- */

/* Files with several names: the two sides agree on which names belong together. */
struct par_links {
	unsigned n;
	ino_t ino[2][PAR_LINKED];
};

static void par_same_link(struct par *p, struct par_links *links, const struct stat st[2], const char *path)
{
	unsigned i;

	if (S_ISDIR(st[0].st_mode) || st[0].st_nlink < 2)
		return;
	for (i = 0; i < links->n; i++) {
		bool a = links->ino[0][i] == st[0].st_ino, b = links->ino[1][i] == st[1].st_ino;

		if (a != b)
			par_differ(p, "links", "%s is a name of another file in spillfs than in tmpfs", path);
		if (a)
			return;
	}
	if (i < PAR_LINKED) {
		links->ino[0][i] = st[0].st_ino;
		links->ino[1][i] = st[1].st_ino;
		links->n++;
	}
}

static void par_same_flags(struct par *p, const int fd[2], const char *path)
{
	int flags[2] = { 0, 0 };
	struct par_outcome o[2];

	PAR_BOTH(o, ioctl(fd[s], FS_IOC_GETFLAGS, &flags[s]));
	if (par_same(p, o) && flags[0] != flags[1])
		par_differ(p, "flags", "spillfs %#x, tmpfs %#x, of %s", flags[0], flags[1], path);
}

static void par_same_dirs(struct par *p, struct par_links *links, const int dir[2], const char *path);

static void par_same_entry(struct par *p, struct par_links *links, const int dir[2], const char *path, const char *name)
{
	char below[PAR_PATH], target[2][PATH_MAX] = { "", "" };
	struct stat st[2];
	int fd[2];

	snprintf(below, sizeof(below), "%.4000s/%.190s", path, name);
	for (int s = 0; s < 2; s++) {
		if (fstatat(dir[s], name, &st[s], AT_SYMLINK_NOFOLLOW) != 0)
			par_differ(p, "names", "%s: stat fails in %s", below, p->side[s].name);
	}
	par_same_stat(p, &st[0], &st[1], below);
	par_same_link(p, links, st, below);
	par_same_xattrs_at(p, dir, name, path);
	if (S_ISLNK(st[0].st_mode)) {
		for (int s = 0; s < 2; s++)
			target[s][readlinkat(dir[s], name, target[s], PATH_MAX - 1) < 0 ? 0 : PATH_MAX - 1] = '\0';
		if (strcmp(target[0], target[1]) != 0)
			par_differ(p, "target", "spillfs %s, tmpfs %s, of %s", target[0], target[1], below);
	}
	if (!S_ISREG(st[0].st_mode) && !S_ISDIR(st[0].st_mode))
		return;
	for (int s = 0; s < 2; s++) {
		fd[s] = openat(dir[s], name, O_RDONLY | O_NOFOLLOW);
		if (fd[s] < 0)
			par_differ(p, "names", "%s: open fails in %s: %s", below, p->side[s].name, strerror(errno));
	}
	par_same_flags(p, fd, below);
	if (S_ISREG(st[0].st_mode))
		par_same_content(p, fd[0], fd[1], below);
	else
		par_same_dirs(p, links, fd, below);
	close(fd[0]);
	close(fd[1]);
}

static void par_same_dirs(struct par *p, struct par_links *links, const int dir[2], const char *path)
{
	bool agree;
	char *text;

	par_same_listings(p, dir[0], dir[1], path);
	text = par_listing(dir[0], &agree);
	if (!text)
		par_die(path);
	for (char *name = text, *end; !p->diverged && (end = strchr(name, '\n')) != NULL; name = end + 1) {
		*end = '\0';
		*strrchr(name, '/') = '\0';
		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
			par_same_entry(p, links, dir, path, name);
	}
	free(text);
}

void par_same_trees(struct par *p)
{
	const int root[2] = { p->side[0].root, p->side[1].root };
	struct par_links links = { 0 };

	par_same_xattrs_at(p, root, ".", "");
	par_same_dirs(p, &links, root, ".");
}
