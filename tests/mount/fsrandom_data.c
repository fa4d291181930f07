/* SPDX-License-Identifier: MIT */
/*
 * fsrandom_data: the operations of fsrandom on open files and on shared mappings.  Owns the tables of both in
 * struct run (no lock: one thread); called from fsrandom.c's table.  Handles opened O_DIRECT are only used with
 * aligned offsets and lengths, as the believed file system may insist on them.
 */
#include "tests/mount/fsrandom.h"

#include <sys/mman.h>

static void fsr_handle_close(struct handle *h)
{
	if (!h->used)
		return;
	close(h->fd[0]);
	close(h->fd[1]);
	h->used = false;
}

static void fsr_map_close(struct mapping *m)
{
	if (!m->used)
		return;
	for (int s = 0; s < 2; s++) {
		munmap(m->addr[s], m->len);
		close(m->fd[s]);
	}
	m->used = false;
}

void fsr_close_all(struct run *r)
{
	for (int i = 0; i < NFDS; i++)
		fsr_handle_close(&r->handle[i]);
	for (int i = 0; i < NMAPS; i++)
		fsr_map_close(&r->map[i]);
}

/* An open handle, or NULL if the slot picked (twice) is empty. */
static struct handle *fsr_pick_handle(struct run *r, bool direct_too)
{
	for (int try = 0; try < 4; try++) {
		struct handle *h = &r->handle[fsr_below(r, NFDS)];

		if (h->used && (direct_too || !h->direct))
			return h;
	}
	return NULL;
}

/* A byte range: often at page edges, since that is where mistakes live. */
static void fsr_pick_range(struct run *r, bool aligned, off_t *off, size_t *len)
{
	*off = (off_t)fsr_below(r, r->max_size);
	*len = fsr_chance(r, 50) ? 1 + fsr_below(r, 9000) : 1 + fsr_below(r, IO_MAX);
	if (aligned || fsr_chance(r, 30)) {
		*off &= ~(off_t)4095;
		*len = (*len + 4095) & ~(size_t)4095;
		if (*len > IO_MAX)
			*len = IO_MAX;
	}
	if (!aligned && fsr_chance(r, 20))
		*off += (off_t)fsr_below(r, 3) - 1;
	if (*off < 0)
		*off = 0;
}

static void fsr_same_fstat(struct run *r, struct handle *h)
{
	struct stat st[2];

	if (fstat(h->fd[0], &st[0]) != 0 || fstat(h->fd[1], &st[1]) != 0)
		fsr_differ(r, "fstat: %s", strerror(errno));
	fsr_same_stat(r, &st[0], &st[1], h->path);
	h->regular = S_ISREG(st[1].st_mode);
}

static void fsr_keep(struct run *r, const struct outcome o[2], int flags, const char *path)
{
	struct handle *h = &r->handle[fsr_below(r, NFDS)];

	fsr_handle_close(h);
	*h = (struct handle){
		.used = true, .direct = (flags & O_DIRECT) != 0, .flags = flags, .fd = { (int)o[0].rc, (int)o[1].rc }
	};
	snprintf(h->path, sizeof(h->path), "%s", path);
	fsr_same_fstat(r, h);
}

/* The two descriptors have different numbers: only success and errno are compared. */
static bool fsr_same_open(struct run *r, const struct outcome o[2])
{
	const struct outcome plain[2] = { { o[0].rc < 0 ? -1 : 0, o[0].err }, { o[1].rc < 0 ? -1 : 0, o[1].err } };

	return fsr_same(r, plain);
}

void fsr_op_open(struct run *r)
{
	static const int access[] = { O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, O_RDWR };
	static const struct {
		int flag;
		unsigned percent;
	} extra[] = { { O_CREAT, 50 },	  { O_EXCL, 8 },      { O_TRUNC, 5 },	{ O_APPEND, 12 },
		      { O_NOFOLLOW, 10 }, { O_SYNC, 4 },      { O_DSYNC, 4 },	{ O_DIRECT, 8 },
		      { O_NOATIME, 5 },	  { O_DIRECTORY, 4 }, { O_NONBLOCK, 4 } };
	int flags = access[fsr_below(r, 5)];
	struct outcome o[2];
	char path[PATH_LEN];
	mode_t mode = 0600 | (mode_t)fsr_below(r, 0200);

	for (size_t i = 0; i < sizeof(extra) / sizeof(extra[0]); i++)
		flags |= fsr_chance(r, extra[i].percent) ? extra[i].flag : 0;
	if (flags & O_CREAT)
		flags &= ~O_DIRECTORY; /* together: EINVAL in newer kernels, a file in older ones */
	else
		flags &= ~O_EXCL; /* alone: undefined */
	if (flags & O_DIRECT)
		flags &= ~O_APPEND;
	fsr_pick_path(r, path);
	fsr_log(r, "open %s flags %#o mode %o", path, flags, mode);
	FSR_BOTH(o, openat(r->side[s].root, path, flags | O_CLOEXEC, mode));
	if (fsr_same_open(r, o))
		fsr_keep(r, o, flags, path);
}

void fsr_op_tmpfile(struct run *r)
{
	bool excl = fsr_chance(r, 20);
	int flags = O_TMPFILE | O_RDWR | (excl ? O_EXCL : 0);
	const char *dir = fsr_dirs[fsr_below(r, NDIRS)];
	char path[PATH_LEN], proc[2][64];
	struct outcome o[2], linked[2];

	fsr_pick_path(r, path);
	fsr_fill(r, 5000);
	fsr_log(r, "tmpfile in %s%s, linked as %s", dir, excl ? " O_EXCL" : "", path);
	FSR_BOTH(o, openat(r->side[s].root, dir, flags, 0640));
	if (!fsr_same_open(r, o))
		return;
	for (int s = 0; s < 2; s++)
		snprintf(proc[s], sizeof(proc[s]), "/proc/self/fd/%ld", o[s].rc);
	FSR_BOTH(linked, pwrite((int)o[s].rc, r->wbuf, 5000, 3));
	fsr_same(r, linked);
	FSR_BOTH(linked, linkat(AT_FDCWD, proc[s], r->side[s].root, path, AT_SYMLINK_FOLLOW));
	fsr_same(r, linked);
	fsr_keep(r, o, O_RDWR, path);
}

void fsr_op_close(struct run *r)
{
	struct handle *h = fsr_pick_handle(r, true);

	if (!h)
		return;
	fsr_log(r, "close %s", h->path);
	fsr_handle_close(h);
}

static void fsr_reading(struct run *r, struct handle *h, bool at_offset)
{
	struct outcome o[2];
	size_t len;
	off_t off;

	fsr_pick_range(r, h->direct, &off, &len);
	fsr_log(r, "%s %s off %lld len %zu", at_offset ? "pread" : "read", h->path, (long long)off, len);
	FSR_BOTH(o, at_offset ? pread(h->fd[s], r->rbuf[s], len, off) : read(h->fd[s], r->rbuf[s], len));
	if (fsr_same(r, o))
		fsr_same_bytes(r, r->rbuf[0], r->rbuf[1], (size_t)o[0].rc, at_offset ? off : 0);
}

static void fsr_writing(struct run *r, struct handle *h, bool at_offset)
{
	struct outcome o[2];
	size_t len;
	off_t off;

	fsr_pick_range(r, h->direct, &off, &len);
	if (!at_offset || (h->flags & O_APPEND))
		len = len % 20000 + 1; /* appends must not grow files for ever */
	fsr_fill(r, len);
	fsr_log(r, "%s %s off %lld len %zu", at_offset ? "pwrite" : "write", h->path, (long long)off, len);
	FSR_BOTH(o, at_offset ? pwrite(h->fd[s], r->wbuf, len, off) : write(h->fd[s], r->wbuf, len));
	fsr_same(r, o);
	fsr_same_fstat(r, h);
}

void fsr_op_pread(struct run *r)
{
	struct handle *h = fsr_pick_handle(r, true);

	if (h)
		fsr_reading(r, h, true);
}

void fsr_op_read(struct run *r)
{
	struct handle *h = fsr_pick_handle(r, false);

	if (h)
		fsr_reading(r, h, false);
}

void fsr_op_pwrite(struct run *r)
{
	struct handle *h = fsr_pick_handle(r, true);

	if (h)
		fsr_writing(r, h, true);
}

void fsr_op_write(struct run *r)
{
	struct handle *h = fsr_pick_handle(r, false);

	if (h)
		fsr_writing(r, h, false);
}

void fsr_op_lseek(struct run *r)
{
	static const int whence[] = { SEEK_SET, SEEK_CUR, SEEK_END };
	struct handle *h = fsr_pick_handle(r, false);
	int w = whence[fsr_below(r, 3)];
	off_t off = (off_t)fsr_below(r, r->max_size);
	struct outcome o[2];

	if (!h || !h->regular)
		return;
	if (w != SEEK_SET)
		off = -(off / 4);
	fsr_log(r, "lseek %s %lld whence %d", h->path, (long long)off, w);
	FSR_BOTH(o, lseek(h->fd[s], off, w));
	fsr_same(r, o);
}

/* Reads [from, to) of fd; whether it is all zeroes. */
static bool fsr_reads_zero(struct run *r, int fd, off_t from, off_t to)
{
	while (from < to) {
		size_t len = to - from < (off_t)IO_MAX ? (size_t)(to - from) : IO_MAX;
		ssize_t n = pread(fd, r->rbuf[0], len, from);

		if (n <= 0)
			return false;
		for (ssize_t i = 0; i < n; i++) {
			if (r->rbuf[0][i])
				return false;
		}
		from += n;
	}
	return true;
}

/*
 * How much of a file is a hole is the file system's business, so each side is only held to its own contents:
 * what it calls a hole reads as zeroes, and the offsets go forward and end at the size.
 */
static void fsr_check_holes(struct run *r, int fd, char side)
{
	off_t at = 0, keep = lseek(fd, 0, SEEK_CUR), end = lseek(fd, 0, SEEK_END), data, hole;

	while (at < end) {
		data = lseek(fd, at, SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			fsr_differ(r, "%c: SEEK_DATA at %lld: %s", side, (long long)at, strerror(errno));
		if (data < 0)
			data = end;
		if (data < at || data > end || !fsr_reads_zero(r, fd, at, data))
			fsr_differ(r, "%c: SEEK_DATA at %lld says %lld of %lld, but there is data before that", side,
				   (long long)at, (long long)data, (long long)end);
		if (data == end)
			break;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole <= data || hole > end)
			fsr_differ(r, "%c: SEEK_HOLE at %lld says %lld of %lld", side, (long long)data, (long long)hole,
				   (long long)end);
		at = hole;
	}
	data = lseek(fd, end, SEEK_DATA);
	if (data != -1 || errno != ENXIO)
		fsr_differ(r, "%c: SEEK_DATA at the end, %lld, returned %lld, not ENXIO", side, (long long)end,
			   (long long)data);
	lseek(fd, keep, SEEK_SET);
}

void fsr_op_seek_data(struct run *r)
{
	struct handle *h = fsr_pick_handle(r, false);

	if (!h || !h->regular || (h->flags & O_ACCMODE) == O_WRONLY)
		return;
	fsr_log(r, "seek_data and seek_hole through %s", h->path);
	fsr_check_holes(r, h->fd[0], 'A');
	fsr_check_holes(r, h->fd[1], 'B');
}

void fsr_op_map(struct run *r)
{
	struct handle *h = fsr_pick_handle(r, false);
	struct mapping *m = &r->map[fsr_below(r, NMAPS)];
	bool writable = fsr_chance(r, 75);
	int prot = PROT_READ | (writable ? PROT_WRITE : 0);
	struct outcome o[2];

	if (!h)
		return;
	fsr_map_close(m);
	*m = (struct mapping){ .writable = writable,
			       .off = (off_t)fsr_below(r, r->max_size) & ~(off_t)4095,
			       .len = 4096 * (1 + fsr_below(r, 256)) };
	fsr_log(r, "mmap shared %s off %lld len %zu%s", h->path, (long long)m->off, m->len, writable ? " rw" : " r");
	for (int s = 0; s < 2; s++) {
		errno = 0;
		m->addr[s] = mmap(NULL, m->len, prot, MAP_SHARED, h->fd[s], m->off);
		o[s] = fsr_outcome(m->addr[s] == MAP_FAILED ? -1 : 0);
	}
	if (!fsr_same(r, o))
		return;
	m->fd[0] = dup(h->fd[0]);
	m->fd[1] = dup(h->fd[1]);
	m->used = true;
}

/* The part of a mapping that the file covers now: beyond it lies SIGBUS. */
static bool fsr_map_window(struct run *r, struct mapping *m, size_t *at, size_t *len)
{
	struct stat st[2];
	off_t have;

	if (!m->used)
		return false;
	if (fstat(m->fd[0], &st[0]) != 0 || fstat(m->fd[1], &st[1]) != 0)
		fsr_differ(r, "fstat of a mapped file: %s", strerror(errno));
	fsr_same_stat(r, &st[0], &st[1], "mapped file");
	have = st[1].st_size - m->off;
	if (have <= 0)
		return false;
	if (have > (off_t)m->len)
		have = (off_t)m->len;
	*at = fsr_below(r, (uint64_t)have);
	*len = 1 + fsr_below(r, fsr_chance(r, 50) ? 6000 : 100000);
	if (*len > (size_t)have - *at)
		*len = (size_t)have - *at;
	return true;
}

void fsr_op_map_store(struct run *r)
{
	struct mapping *m = &r->map[fsr_below(r, NMAPS)];
	size_t at, len;

	if (!m->writable || !fsr_map_window(r, m, &at, &len))
		return;
	fsr_fill(r, len);
	fsr_log(r, "store in the mapping of fd %d at file offset %lld len %zu", m->fd[0],
		(long long)m->off + (long long)at, len);
	memcpy(m->addr[0] + at, r->wbuf, len);
	memcpy(m->addr[1] + at, r->wbuf, len);
	if (fsr_chance(r, 15)) {
		struct outcome o[2];

		FSR_BOTH(o, msync(m->addr[s], m->len, MS_SYNC));
		fsr_same(r, o);
	}
}

void fsr_op_map_load(struct run *r)
{
	struct mapping *m = &r->map[fsr_below(r, NMAPS)];
	size_t at, len;

	if (!fsr_map_window(r, m, &at, &len))
		return;
	fsr_log(r, "load from the mapping of fd %d at file offset %lld len %zu", m->fd[0],
		(long long)m->off + (long long)at, len);
	fsr_same_bytes(r, m->addr[0] + at, m->addr[1] + at, len, m->off + (off_t)at);
}

void fsr_op_unmap(struct run *r)
{
	struct mapping *m = &r->map[fsr_below(r, NMAPS)];

	if (!m->used)
		return;
	fsr_log(r, "munmap of fd %d off %lld", m->fd[0], (long long)m->off);
	fsr_map_close(m);
}

/* Stores in a private mapping must show there and nowhere else. */
void fsr_op_map_private(struct run *r)
{
	struct handle *h = fsr_pick_handle(r, false);
	struct mapping m = { .used = true, .off = (off_t)fsr_below(r, r->max_size) & ~(off_t)4095, .len = 64 << 10 };
	struct outcome o[2];
	size_t at, len;

	if (!h)
		return;
	fsr_log(r, "mmap private %s off %lld", h->path, (long long)m.off);
	for (int s = 0; s < 2; s++) {
		m.fd[s] = h->fd[s];
		m.addr[s] = mmap(NULL, m.len, PROT_READ | PROT_WRITE, MAP_PRIVATE, h->fd[s], m.off);
		o[s] = fsr_outcome(m.addr[s] == MAP_FAILED ? -1 : 0);
	}
	if (!fsr_same(r, o))
		return;
	if (fsr_map_window(r, &m, &at, &len)) {
		memset(m.addr[0] + at, 0x5a, len);
		memset(m.addr[1] + at, 0x5a, len);
		fsr_same_bytes(r, m.addr[0] + at, m.addr[1] + at, len, m.off + (off_t)at);
		FSR_BOTH(o, pread(h->fd[s], r->rbuf[s], m.len, m.off));
		if (fsr_same(r, o))
			fsr_same_bytes(r, r->rbuf[0], r->rbuf[1], (size_t)o[0].rc, m.off);
	}
	munmap(m.addr[0], m.len);
	munmap(m.addr[1], m.len);
}

void fsr_op_ftruncate(struct run *r)
{
	struct handle *h = fsr_pick_handle(r, true);
	off_t size = (off_t)fsr_below(r, r->max_size + r->max_size / 8);
	struct outcome o[2];

	if (!h)
		return;
	if (fsr_chance(r, 30))
		size &= ~(off_t)4095;
	fsr_log(r, "ftruncate %s %lld", h->path, (long long)size);
	FSR_BOTH(o, ftruncate(h->fd[s], size));
	fsr_same(r, o);
	fsr_same_fstat(r, h);
}

void fsr_op_fallocate(struct run *r)
{
	static const int modes[] = { 0,
				     FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
	struct handle *h = fsr_pick_handle(r, true);
	int mode = modes[fsr_below(r, r->zero_range ? 6 : 4)];
	struct outcome o[2];
	size_t len;
	off_t off;

	if (!h)
		return;
	fsr_pick_range(r, false, &off, &len);
	len = fsr_chance(r, 2) ? 0 : len * 2;
	fsr_log(r, "fallocate %s mode %d off %lld len %zu", h->path, mode, (long long)off, len);
	FSR_BOTH(o, fallocate(h->fd[s], mode, off, (off_t)len));
	fsr_same(r, o);
	fsr_same_fstat(r, h);
}

/* A short copy is allowed anywhere: what counts is how far it gets when asked again. */
static long fsr_copy_all(int in, off_t from, int out, off_t to, size_t len)
{
	long total = 0;

	while (len > 0) {
		ssize_t n = copy_file_range(in, &from, out, &to, len, 0);

		if (n < 0)
			return total ? total : -1;
		if (n == 0)
			break;
		total += n;
		len -= (size_t)n;
	}
	return total;
}

void fsr_op_copy_range(struct run *r)
{
	struct handle *in = fsr_pick_handle(r, false), *out = fsr_pick_handle(r, false);
	struct outcome o[2];
	off_t from, to;
	size_t len, unused;

	if (!in || !out)
		return;
	fsr_pick_range(r, false, &from, &len);
	fsr_pick_range(r, false, &to, &unused);
	fsr_log(r, "copy_file_range %s off %lld to %s off %lld len %zu", in->path, (long long)from, out->path,
		(long long)to, len);
	FSR_BOTH(o, fsr_copy_all(in->fd[s], from, out->fd[s], to, len));
	fsr_same(r, o);
	fsr_same_fstat(r, out);
}

void fsr_op_fsync(struct run *r)
{
	struct handle *h = fsr_pick_handle(r, true);
	bool data = fsr_chance(r, 50);
	struct outcome o[2];

	if (!h)
		return;
	fsr_log(r, "%s %s", data ? "fdatasync" : "fsync", h->path);
	FSR_BOTH(o, data ? fdatasync(h->fd[s]) : fsync(h->fd[s]));
	fsr_same(r, o);
}

/* Makes the kernel ask the file system again: otherwise its own cache would answer all reads of a small tree. */
void fsr_op_evict(struct run *r)
{
	struct handle *h = fsr_pick_handle(r, true);

	if (!h)
		return;
	fsr_log(r, "evict %s", h->path);
	if (fsync(h->fd[0]) != 0 || posix_fadvise(h->fd[0], 0, 0, POSIX_FADV_DONTNEED) != 0)
		fsr_differ(r, "A: fsync before fadvise: %s", strerror(errno));
}

void fsr_op_fstat(struct run *r)
{
	struct handle *h = fsr_pick_handle(r, true);

	if (!h)
		return;
	fsr_log(r, "fstat %s", h->path);
	fsr_same_fstat(r, h);
}
