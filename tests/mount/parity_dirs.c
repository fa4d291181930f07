/* SPDX-License-Identifier: MIT */
/*
 * parity_dirs: parity's steps that only look: directories (whole, in pieces, while they change, and by places in
 * them), stat and its relations, access, and what /proc says of open files.  Keeps no state.
 */
#include "tests/mount/parity.h"

#include <dirent.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

/* --- directories -------------------------------------------------------------------------------------------------- */

static void par_op_list(struct par *p)
{
	char *text[2], path[PAR_PATH];
	struct par_outcome o[2];
	bool agree;

	if (par_chance(p, 80))
		snprintf(path, sizeof(path), "%s", PAR_PICK(p, par_dirs));
	else
		par_pick_odd(p, path);
	par_log(p, "%.100s", path);
	PAR_BOTH(o, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (!par_same_fds(p, o))
		return;
	for (int s = 0; s < 2; s++)
		text[s] = par_listing((int)o[s].rc, &agree);
	if (!text[0] != !text[1])
		par_differ(p, "result", "only one side can be listed");
	else if (text[0] && strcmp(text[0], text[1]) != 0)
		par_differ(p, "names", "spillfs\n%s\ntmpfs\n%s", text[0], text[1]);
	for (int s = 0; s < 2; s++) {
		free(text[s]);
		close((int)o[s].rc);
	}
	if (strlen(path) < PATH_MAX)
		par_same_lstat(p, path);
}

#define DIRTY_NAMES 40

/* Counts how often each of DIRTY_NAMES names "nN" comes until the end of the directory. */
static void par_count_names(DIR *d, unsigned count[DIRTY_NAMES])
{
	struct dirent *de;

	while ((de = readdir(d)) != NULL) {
		unsigned n;

		if (de->d_name[0] == 'n' && sscanf(de->d_name + 1, "%u", &n) == 1 && n < DIRTY_NAMES)
			count[n]++;
	}
}

/*
 * Names come and go while a directory is read: what is there all the time comes once, all else at most once; a place
 * that was told leads back to the names behind it.  Each side for itself, since they need not agree on the order.
 */
static void par_changing(struct par *p, int s, uint64_t picks)
{
	unsigned count[DIRTY_NAMES] = { 0 }, again[DIRTY_NAMES] = { 0 };
	bool gone[DIRTY_NAMES] = { false };
	char name[32];
	DIR *d;
	long place;

	par_enter(p, s);
	d = mkdir("listed", 0700) == 0 ? opendir("listed") : NULL;
	if (!d)
		return;
	for (unsigned i = 0; i < DIRTY_NAMES; i++) {
		snprintf(name, sizeof(name), "listed/n%u", i);
		if (i < DIRTY_NAMES - 5 && (i % 2 ? mkdir(name, 0700) : mknod(name, S_IFREG | 0600, 0)) != 0)
			par_differ(p, "names", "cannot make %s", name);
	}
	for (unsigned i = 0; i < 2 + picks % 20; i++) {
		struct dirent *de = readdir(d);

		if (de && de->d_name[0] == 'n')
			count[strtoul(de->d_name + 1, NULL, 10)]++;
	}
	place = telldir(d);
	for (unsigned i = 0; i < DIRTY_NAMES; i++) {
		snprintf(name, sizeof(name), "listed/n%u", i);
		if (i >= DIRTY_NAMES - 5)
			close(open(name, O_CREAT | O_WRONLY, 0600));
		else if ((picks >> i & 5) == 5)
			gone[i] = (i % 2 ? rmdir(name) : unlink(name)) == 0;
	}
	memcpy(again, count, sizeof(again));
	par_count_names(d, count);
	seekdir(d, place);
	par_count_names(d, again);
	for (unsigned i = 0; i < DIRTY_NAMES; i++) {
		bool always = i < DIRTY_NAMES - 5 && !gone[i];

		if (count[i] > 1 || (always && count[i] != 1) || again[i] > 1 || (always && again[i] != 1))
			par_differ(p, "names", "%s shows n%u %u times, after seekdir %u times", p->side[s].name, i,
				   count[i], again[i]);
		snprintf(name, sizeof(name), "listed/n%u", i);
		unlinkat(AT_FDCWD, name, i % 2 && i < DIRTY_NAMES - 5 ? AT_REMOVEDIR : 0);
	}
	rewinddir(d);
	for (struct dirent *de = readdir(d); de; de = readdir(d)) {
		if (de->d_name[0] != '.')
			par_differ(p, "names", "%s still shows %s", p->side[s].name, de->d_name);
	}
	closedir(d);
	if (rmdir("listed") != 0)
		par_differ(p, "names", "%s: rmdir fails: %s", p->side[s].name, strerror(errno));
}

static void par_op_directory(struct par *p)
{
	uint64_t picks = splitmix_next(&p->rng);

	if (p->full)
		return; /* room for names is another matter there */
	par_become(p, 0);
	par_log(p, "changes while it is read");
	par_changing(p, 0, picks);
	par_changing(p, 1, picks);
	p->shared->successes[p->op_index]++;
}

/* --- attributes --------------------------------------------------------------------------------------------------- */

static void par_op_stat(struct par *p)
{
	bool follow = par_chance(p, 50);
	struct par_outcome o[2];
	char path[PAR_PATH];
	struct stat st[2];

	par_pick_odd(p, path);
	par_log(p, "%.100s%s", path, follow ? "" : " itself");
	PAR_BOTH(o, follow ? stat(path, &st[s]) : lstat(path, &st[s]));
	if (par_same(p, o))
		par_same_stat(p, &st[0], &st[1], path);
}

static void par_op_statx(struct par *p)
{
	static const int flags[] = { 0, AT_SYMLINK_NOFOLLOW, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC,
				     AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, 0x100000 };
	static const unsigned masks[] = { STATX_BASIC_STATS | STATX_BTIME, STATX_ALL, STATX_SIZE, 0, STATX_BTIME };
	unsigned mask = PAR_PICK(p, masks);
	struct statx stx[2] = { { 0 }, { 0 } };
	struct par_outcome o[2];
	int how = PAR_PICK(p, flags);
	char path[PAR_PATH];

	par_pick_odd(p, path);
	par_log(p, "%.100s flags %#x mask %#x", path, how, mask);
	PAR_BOTH(o, statx(AT_FDCWD, path, how, mask, &stx[s]));
	if (!par_same(p, o))
		return;
	if ((stx[0].stx_mask & mask) != (stx[1].stx_mask & mask))
		par_differ(p, "statx mask", "spillfs %#x, tmpfs %#x", stx[0].stx_mask, stx[1].stx_mask);
	if (stx[0].stx_attributes != stx[1].stx_attributes)
		par_differ(p, "statx attributes", "spillfs %#llx, tmpfs %#llx", (long long)stx[0].stx_attributes,
			   (long long)stx[1].stx_attributes);
	if (stx[0].stx_attributes_mask != stx[1].stx_attributes_mask)
		par_differ(p, "statx attributes mask", "spillfs %#llx, tmpfs %#llx",
			   (long long)stx[0].stx_attributes_mask, (long long)stx[1].stx_attributes_mask);
	if ((stx[0].stx_mask & stx[1].stx_mask & STATX_BTIME) && (stx[0].stx_btime.tv_sec < p->began) != (stx[1].stx_btime.tv_sec < p->began))
		par_differ(p, "btime", "spillfs %lld, tmpfs %lld", (long long)stx[0].stx_btime.tv_sec,
			   (long long)stx[1].stx_btime.tv_sec);
}

static void par_op_access(struct par *p)
{
	static const int flags[] = { 0, AT_EACCESS, AT_SYMLINK_NOFOLLOW, AT_EACCESS | AT_SYMLINK_NOFOLLOW };
	int mode = (int)par_below(p, 9), how = PAR_PICK(p, flags);
	struct par_outcome o[2];
	char path[PAR_PATH];

	par_pick_odd(p, path);
	par_log(p, "%.100s mode %d flags %#x", path, mode, how);
	PAR_BOTH(o, syscall(SYS_faccessat2, AT_FDCWD, path, mode, how));
	par_same(p, o);
}

/* What does not change from call to call; how full they are is compared where nothing else is going on. */
static void par_op_statfs(struct par *p)
{
	struct par_outcome o[2];
	struct statfs sf[2];
	char path[PAR_PATH];

	par_pick_odd(p, path);
	par_log(p, "%.100s", path);
	PAR_BOTH(o, statfs(path, &sf[s]));
	if (!par_same(p, o))
		return;
	if (sf[0].f_bsize != sf[1].f_bsize || sf[0].f_frsize != sf[1].f_frsize || sf[0].f_namelen != sf[1].f_namelen)
		par_differ(p, "sizes", "spillfs %ld %ld %ld, tmpfs %ld %ld %ld", sf[0].f_bsize, sf[0].f_frsize,
			   sf[0].f_namelen, sf[1].f_bsize, sf[1].f_frsize, sf[1].f_namelen);
	if (sf[0].f_blocks != sf[1].f_blocks || sf[0].f_files != sf[1].f_files)
		par_differ(p, "limits", "spillfs %lu blocks %lu files, tmpfs %lu blocks %lu files", sf[0].f_blocks,
			   sf[0].f_files, sf[1].f_blocks, sf[1].f_files);
	if (sf[0].f_flags != sf[1].f_flags)
		par_differ(p, "mount flags", "spillfs %#lx, tmpfs %#lx", sf[0].f_flags, sf[1].f_flags);
	if (sf[0].f_files - sf[0].f_ffree != sf[1].f_files - sf[1].f_ffree)
		par_differ(p, "inodes used", "spillfs %lu, tmpfs %lu", sf[0].f_files - sf[0].f_ffree,
			   sf[1].f_files - sf[1].f_ffree);
}

/* --- /proc -------------------------------------------------------------------------------------------------------- */

/* The name that /proc shows of a descriptor, from the side's root on; and its place and flags. */
static void par_proc_text(int fd, char *text, size_t size)
{
	char proc[64], name[PATH_MAX], line[256];
	char *common;
	size_t at;
	ssize_t n;
	FILE *f;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	n = readlink(proc, name, sizeof(name) - 1);
	name[n < 0 ? 0 : n] = '\0';
	common = strstr(name, "/episode");
	/* O_TMPFILE: the kernel makes up a name, "#" and the inode's number in tmpfs, "/" in FUSE. */
	if (common && strstr(common, "/#"))
		strcpy(strstr(common, "/#") + 1, "/ (deleted)");
	at = (size_t)snprintf(text, size, "%s; ", common ? common : name);
	snprintf(proc, sizeof(proc), "/proc/self/fdinfo/%d", fd);
	f = fopen(proc, "r");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "pos:", 4) == 0 || strncmp(line, "flags:", 6) == 0)
			at += (size_t)snprintf(text + at, size - at, "%s; ", line);
		if (strncmp(line, "lock:", 5) == 0)
			at += (size_t)snprintf(text + at, size - at, "%.30s; ", line);
	}
	if (f)
		fclose(f);
}

static void par_op_proc(struct par *p)
{
	struct par_fd *h = par_pick_fd(p);
	char text[2][PATH_MAX + 600];

	if (!h->used || h->directory) /* a directory's place is each file system's own */
		return;
	par_log(p, "%s", h->path);
	par_become(p, 0);
	for (int s = 0; s < 2; s++)
		par_proc_text(h->fd[s], text[s], sizeof(text[s]));
	p->shared->successes[p->op_index]++;
	if (strcmp(text[0], text[1]) != 0)
		par_differ(p, "descriptor", "spillfs %.300s tmpfs %.300s", text[0], text[1]);
}

const struct par_op par_dir_ops[] = {
	{ "list", 14, par_op_list },	 { "directory", 2, par_op_directory }, { "stat", 20, par_op_stat },
	{ "statx", 15, par_op_statx },	 { "access", 12, par_op_access },      { "statfs", 6, par_op_statfs },
	{ "proc", 8, par_op_proc },	 { NULL, 0, NULL },
};
