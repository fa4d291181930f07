/* SPDX-License-Identifier: MIT */
/*
 * parity_maps: parity's steps on mappings of files, and the signal that an access behind the end of a file raises.
 * Owns the table of mappings in struct par.  A mapping may touch a hole only in episodes that allow it: tmpfs stores a
 * page for a hole that is read through a mapping, spillfs does not.
 */
#include "tests/mount/parity.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

static sigjmp_buf par_bus; /* where an access in a mapping goes on that raised SIGBUS */
static volatile sig_atomic_t par_bus_armed;

static void par_on_sigbus(int sig)
{
	if (par_bus_armed)
		siglongjmp(par_bus, 1);
	signal(sig, SIG_DFL);
	raise(sig);
}

void par_maps_catch_sigbus(void)
{
	struct sigaction sa = { .sa_handler = par_on_sigbus, .sa_flags = SA_NODEFER };

	sigaction(SIGBUS, &sa, NULL);
}

/* Copies; -1 and EFAULT if an access raised SIGBUS. */
static long par_touch(void *to, const void *from, size_t len)
{
	long rc = 0;

	par_bus_armed = 1;
	if (sigsetjmp(par_bus, 1) == 0) {
		memcpy(to, from, len);
	} else {
		errno = EFAULT;
		rc = -1;
	}
	par_bus_armed = 0;
	return rc;
}

static bool par_has_hole(struct par *p, int fd, off_t off, size_t len)
{
	off_t size = lseek(fd, 0, SEEK_END), hole = lseek(fd, off, SEEK_HOLE);

	(void)p;
	return off < size && (hole < 0 || hole < off + (off_t)len) && hole < size;
}

static void par_op_map(struct par *p)
{
	struct par_map *m = &p->map[par_below(p, PAR_MAPS)];
	struct par_fd *h = par_pick_fd(p);
	bool private = par_chance(p, 20), writable = par_chance(p, 60);
	int prot = PROT_READ | (writable ? PROT_WRITE : 0);
	int flags = (private ? MAP_PRIVATE : par_chance(p, 50) ? MAP_SHARED : MAP_SHARED_VALIDATE);
	struct par_outcome o[2];
	void *addr[2];
	size_t len;
	off_t off;

	par_pick_range(p, &off, &len);
	off = off < 0 ? off : off & ~(off_t)4095;
	flags |= par_chance(p, 3) ? MAP_SYNC : 0;
	par_map_close(m);
	par_log(p, "%s off %lld len %zu prot %d flags %#x", h->path, (long long)off, len, prot, flags);
	PAR_BOTH(o, (addr[s] = mmap(NULL, len, prot, flags, h->fd[s], off)) == MAP_FAILED ? -1 : 0);
	par_same_fstat(p, h);
	if (!par_same(p, o))
		return;
	*m = (struct par_map){ .used = true, .private = private, .writable = writable, .off = off, .len = len };
	for (int s = 0; s < 2; s++) {
		char proc[64];

		par_become(p, 0);
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", h->fd[s]);
		m->fd[s] = open(proc, O_RDONLY | O_NONBLOCK);
		m->addr[s] = addr[s];
	}
}

/* A range inside a mapping that is used; NULL, or the mapping. */
static struct par_map *par_pick_map(struct par *p, size_t *at, size_t *len, bool writing)
{
	struct par_map *m = &p->map[par_below(p, PAR_MAPS)];

	*at = *len = 0;
	if (!m->used || (writing && !m->writable))
		return NULL;
	*at = par_below(p, m->len);
	*len = 1 + par_below(p, m->len - *at < 20000 ? m->len - *at : 20000);
	if (!p->map_holes && m->fd[1] >= 0 &&
	    par_has_hole(p, m->fd[1], (m->off + (off_t)*at) & ~(off_t)4095, *len + 4096))
		return NULL;
	return m;
}

/* The attributes of a mapped file. */
static void par_same_mapped(struct par *p, const struct par_map *m)
{
	struct par_fd h = { .used = true, .fd = { m->fd[0], m->fd[1] }, .path = "a mapped file" };

	if (m->fd[0] >= 0 && m->fd[1] >= 0)
		par_same_fstat(p, &h);
}

static void par_op_map_load(struct par *p)
{
	struct par_outcome o[2];
	size_t at, len;
	struct par_map *m = par_pick_map(p, &at, &len, false);
	off_t size;

	if (!m)
		return;
	par_log(p, "mapping at %lld: %zu len %zu", (long long)m->off, at, len);
	PAR_BOTH(o, par_touch(p->rbuf[s], m->addr[s] + at, len));
	size = m->fd[1] >= 0 ? lseek(m->fd[1], 0, SEEK_END) : 0;
	if (par_same(p, o) && m->off + (off_t)at < size) /* behind the end a page holds what one stores there, or not */
		par_same_bytes(p, p->rbuf[0], p->rbuf[1],
			       m->off + (off_t)(at + len) <= size ? len : (size_t)(size - m->off - (off_t)at),
			       m->off + (off_t)at);
	par_same_mapped(p, m);
}

/*
 * How much of a range may be stored to: what is stored in the last page behind the end shows in tmpfs when the file grows,
 * and in spillfs if the page was not flushed before.
 */
static size_t par_until_end(const struct par_map *m, size_t at, size_t len)
{
	off_t size = m->fd[1] >= 0 ? lseek(m->fd[1], 0, SEEK_END) : 0, from = m->off + (off_t)at;

	if (from >= size)
		return from >= ((size + 4095) & ~(off_t)4095) ? len : 0;
	return from + (off_t)len <= size ? len : (size_t)(size - from);
}

static void par_op_map_store(struct par *p)
{
	struct par_outcome o[2];
	size_t at, len;
	struct par_map *m = par_pick_map(p, &at, &len, true);

	if (!m || !(len = par_until_end(m, at, len)))
		return;
	par_fill(p, len);
	par_log(p, "mapping at %lld: %zu len %zu%s", (long long)m->off, at, len, m->private ? " private" : "");
	PAR_BOTH(o, par_touch(m->addr[s] + at, p->wbuf, len));
	par_same(p, o);
	par_same_mapped(p, m);
}

static void par_op_unmap(struct par *p)
{
	struct par_map *m = &p->map[par_below(p, PAR_MAPS)];

	par_log(p, "mapping at %lld", (long long)m->off);
	p->shared->successes[p->op_index] += m->used;
	par_map_close(m);
}

static void par_op_msync(struct par *p)
{
	static const int flags[] = { MS_SYNC, MS_ASYNC, MS_SYNC | MS_INVALIDATE, MS_SYNC | MS_ASYNC };
	struct par_outcome o[2];
	int how = PAR_PICK(p, flags);
	size_t at, len;
	struct par_map *m = par_pick_map(p, &at, &len, false);

	if (!m)
		return;
	at &= ~(size_t)4095;
	par_log(p, "mapping at %lld: %zu len %zu flags %d", (long long)m->off, at, len, how);
	PAR_BOTH(o, msync(m->addr[s] + at, len, how));
	par_same(p, o);
	par_same_mapped(p, m);
}

static void par_op_madvise(struct par *p)
{
	static const int advices[] = { MADV_DONTNEED, MADV_WILLNEED,  MADV_REMOVE, MADV_COLD,	   MADV_PAGEOUT,
				       MADV_NORMAL,   MADV_SEQUENTIAL, MADV_RANDOM, MADV_DONTFORK, MADV_POPULATE_READ,
				       MADV_POPULATE_WRITE };
	struct par_outcome o[2];
	int advice = PAR_PICK(p, advices);
	size_t at, len;
	struct par_map *m = par_pick_map(p, &at, &len, advice == MADV_POPULATE_WRITE);

	if (!m || (p->full && advice == MADV_POPULATE_WRITE))
		return;
	at &= ~(size_t)4095;
	par_log(p, "mapping at %lld: %zu len %zu advice %d", (long long)m->off, at, len, advice);
	PAR_BOTH(o, madvise(m->addr[s] + at, len, advice));
	par_same(p, o);
	par_same_mapped(p, m);
}

/* Longer or shorter, and perhaps somewhere else. */
static void par_op_mremap(struct par *p)
{
	struct par_map *m = &p->map[par_below(p, PAR_MAPS)];
	size_t len = 1 + par_below(p, PAR_IO_MAX);
	struct par_outcome o[2];
	void *addr[2];

	if (!m->used)
		return;
	par_log(p, "mapping at %lld len %zu to %zu", (long long)m->off, m->len, len);
	PAR_BOTH(o, (addr[s] = mremap(m->addr[s], m->len, len, MREMAP_MAYMOVE)) == MAP_FAILED ? -1 : 0);
	if (!par_same(p, o))
		return;
	m->len = len;
	for (int s = 0; s < 2; s++)
		m->addr[s] = addr[s];
}

static void par_op_mprotect(struct par *p)
{
	struct par_map *m = &p->map[par_below(p, PAR_MAPS)];
	bool writable = par_chance(p, 60);
	struct par_outcome o[2];

	if (!m->used)
		return;
	par_log(p, "mapping at %lld %s", (long long)m->off, writable ? "writable" : "read only");
	PAR_BOTH(o, mprotect(m->addr[s], m->len, PROT_READ | (writable ? PROT_WRITE : 0)));
	if (par_same(p, o))
		m->writable = writable;
}

const struct par_op par_map_ops[] = {
	{ "map", 25, par_op_map },	     { "map_load", 35, par_op_map_load },   { "map_store", 45, par_op_map_store },
	{ "unmap", 12, par_op_unmap },	     { "msync", 12, par_op_msync },	    { "madvise", 20, par_op_madvise },
	{ "mremap", 8, par_op_mremap },	     { "mprotect", 6, par_op_mprotect },    { NULL, 0, NULL },
};
