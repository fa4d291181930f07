/* SPDX-License-Identifier: MIT */
/*
 * parity_pick: the random choices that parity's steps share: paths, open files, ranges, bytes; and the table of open
 * files in struct par.  Called from the steps.
 */
#include "tests/mount/parity.h"

#include <sys/mman.h>

const char *const par_dirs[PAR_DIRS] = { ".", "d0", "d1", "setgid", "sticky", "d0/e0", "d0/e0/g", "d1/e1", "d1/private" };

void par_pick_path(struct par *p, char *path)
{
	unsigned file = (unsigned)par_below(p, PAR_FILES + 6);
	unsigned dir = par_chance(p, 80) ? file % PAR_DIRS : (unsigned)par_below(p, PAR_DIRS);

	snprintf(path, PAR_PATH, "%s/f%u", par_dirs[dir], file);
}

void par_pick_any(struct par *p, char *path)
{
	if (par_chance(p, 25))
		snprintf(path, PAR_PATH, "%s", par_dirs[1 + par_below(p, PAR_DIRS - 1)]);
	else
		par_pick_path(p, path);
}

/* A path of so many bytes that leads to the same as the one given: "./././path". */
static void par_lengthen(char *path, size_t want)
{
	size_t len = strlen(path);

	if ((want - len) % 2 != 0)
		want--;
	memmove(path + want - len, path, len + 1);
	for (size_t i = 0; i < want - len; i += 2)
		memcpy(path + i, "./", 2);
}

void par_pick_odd(struct par *p, char *path)
{
	size_t len;

	if (!par_chance(p, 12)) {
		par_pick_any(p, path);
		return;
	}
	par_pick_path(p, path);
	len = strlen(path);
	switch (par_below(p, 10)) {
	case 0: /* through a file */
		strcpy(path + len, "/x");
		break;
	case 1:
		strcpy(path + len, "/");
		break;
	case 2:
		snprintf(path, PAR_PATH, "%s/", par_dirs[1 + par_below(p, PAR_DIRS - 1)]);
		break;
	case 3:
		strcpy(path, "nowhere/x");
		break;
	case 4: /* the longest name, one more, and one that takes another way in the kernel */
		len = 254 + par_below(p, 3) + (par_chance(p, 20) ? 1000 : 0);
		strcpy(path, "d0/");
		memset(path + 3, 'n', len);
		path[3 + len] = '\0';
		break;
	case 5: /* the longest path, and more */
		par_lengthen(path, 4090 + par_below(p, 8));
		break;
	case 6:
		strcpy(path, "");
		break;
	case 7:
		strcpy(path, "d0/e0/../../d1/f2");
		break;
	case 8:
		strcpy(path, "d0//./f1");
		break;
	default:
		strcpy(path, PAR_PICK(p, ((const char *const[]){ "sticky/\xff\xfe", "d0/caf\xc3\xa9", "d1/ a b", "d0/..." })));
	}
}

struct par_fd *par_pick_fd(struct par *p)
{
	static struct par_fd none = { .fd = { -1, -1 }, .path = "nothing" };
	struct par_fd *h = &p->fd[par_below(p, PAR_FDS)];

	for (int try = 0; try < 3 && !h->used; try++)
		h = &p->fd[par_below(p, PAR_FDS)];
	return h->used ? h : &none;
}

struct par_fd *par_pick_regular(struct par *p)
{
	for (int try = 0; try < 8; try++) {
		struct par_fd *h = &p->fd[par_below(p, PAR_FDS)];

		if (h->used && h->regular && !h->path_only)
			return h;
	}
	return NULL;
}

/* Often at page edges, since that is where mistakes live; now and then where numbers end. */
void par_pick_range(struct par *p, off_t *off, size_t *len)
{
	static const off_t far[] = { INT64_MAX, INT64_MAX - 1, INT64_MAX - 4095, INT64_MAX - 8192, 1LL << 62,
				     1LL << 44,	1LL << 40,     (1LL << 32) - 1,	 -1,		   INT64_MIN };

	*off = (off_t)par_below(p, p->max_size);
	*len = par_chance(p, 60) ? par_below(p, 9000) : par_below(p, PAR_IO_MAX);
	if (par_chance(p, 30)) {
		*off &= ~(off_t)4095;
		*len = (*len + 4095) & ~(size_t)4095;
	} else if (par_chance(p, 20)) {
		*off = (*off & ~(off_t)4095) + (off_t)par_below(p, 3) - 1;
	}
	if (par_chance(p, 3))
		*off = PAR_PICK(p, far);
}

void par_fill(struct par *p, size_t len)
{
	if (par_chance(p, 6)) {
		memset(p->wbuf, 0, len);
		return;
	}
	for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
		uint64_t v = splitmix_next(&p->rng);

		memcpy(p->wbuf + i, &v, len - i < sizeof(v) ? len - i : sizeof(v));
	}
}

void par_fd_close(struct par_fd *h)
{
	if (!h->used)
		return;
	close(h->fd[0]);
	close(h->fd[1]);
	h->used = false;
}

struct par_fd *par_fd_keep(struct par *p, const struct par_outcome o[2], int flags, const char *path)
{
	struct par_fd *h = &p->fd[par_below(p, PAR_FDS)];
	struct stat st;

	par_fd_close(h);
	*h = (struct par_fd){ .used = true,
			      .direct = (flags & O_DIRECT) != 0,
			      .path_only = (flags & O_PATH) != 0,
			      .flags = flags,
			      .fd = { (int)o[0].rc, (int)o[1].rc } };
	snprintf(h->path, sizeof(h->path), "%s", path);
	if (fstat(h->fd[1], &st) == 0) {
		h->regular = S_ISREG(st.st_mode);
		h->directory = S_ISDIR(st.st_mode);
	}
	par_same_fstat(p, h);
	return h;
}

void par_map_close(struct par_map *m)
{
	if (!m->used)
		return;
	for (int s = 0; s < 2; s++) {
		munmap(m->addr[s], m->len);
		close(m->fd[s]);
	}
	m->used = false;
}
