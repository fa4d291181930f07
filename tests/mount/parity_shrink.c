/* SPDX-License-Identifier: MIT */
/*
 * parity_shrink: what parity does with an episode that failed: repeats it with steps left out, first large parts,
 * then single steps, as long as the same thing differs (delta debugging, without its complements).  And removes what
 * an episode leaves behind.  Called by parity.c, in the first process; keeps nothing between calls.
 */
#include "tests/mount/parity_run.h"

#include <dirent.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <time.h>

#define SHRINK_SECONDS 60

/* --- shrinking ---------------------------------------------------------------------------------------------------- */

/* The part of a difference that must stay the same: the mode, the call and what of it differs. */
static void shrink_kind(const struct par *p, char *kind, size_t size)
{
	snprintf(kind, size, "%.*s", (int)strcspn(p->shared->difference, ":"), p->shared->difference);
}

static bool shrink_still_fails(struct par *p, const bool *keep, const char *spoil, const char *kind)
{
	char now[256];

	if (par_run_episode(p, p->episode, keep, spoil) != 1)
		return false;
	shrink_kind(p, now, sizeof(now));
	return strcmp(now, kind) == 0;
}

static unsigned long shrink_count(const struct par *p, const bool *keep)
{
	unsigned long n = 0;

	for (unsigned long i = 0; i < p->steps; i++)
		n += keep[i];
	return n;
}

/* One pass: tries to do without each part of so many of the steps that are left. */
static void shrink_pass(struct par *p, bool *keep, unsigned long part, const char *spoil, const char *kind, time_t end)
{
	bool *without = malloc(p->steps * sizeof(*keep));

	if (!without)
		par_die("memory");
	for (unsigned long from = p->steps; from > 0 && time(NULL) < end;) {
		unsigned long taken = 0;

		memcpy(without, keep, p->steps * sizeof(*keep));
		while (from > 0 && taken < part) {
			from--;
			taken += without[from];
			without[from] = false;
		}
		if (taken > 0 && shrink_still_fails(p, without, spoil, kind))
			memcpy(keep, without, p->steps * sizeof(*keep));
	}
	free(without);
}

static void shrink_print(const struct par *p, const bool *keep, const char *spoil)
{
	bool all = shrink_count(p, keep) == p->steps;
	char separator = ' ';

	fprintf(stderr, "parity: repeat with: parity -m %s -s %" PRIu64 " -e %" PRIu64 " -n %lu%s%s%s -l LIST%s", p->mode,
		p->seed, p->episode, p->steps, p->full ? " -f" : "", spoil ? " -x " : "", spoil ? spoil : "",
		all ? " -c 1" : " -k");
	for (unsigned long i = 0; i < p->steps && !all; i++) {
		if (keep[i]) {
			fprintf(stderr, "%c%lu", separator, i);
			separator = ',';
		}
	}
	fprintf(stderr, "%s A B\n", separator == ' ' && !all ? " none" : "");
}

void par_shrink(struct par *p, const bool *keep, const char *spoil)
{
	time_t end = time(NULL) + SHRINK_SECONDS;
	bool *kept = malloc(p->steps * sizeof(*kept));
	char kind[256];

	if (!kept)
		par_die("memory");
	for (unsigned long i = 0; i < p->steps; i++)
		kept[i] = !keep || keep[i];
	shrink_kind(p, kind, sizeof(kind));
	fprintf(stderr, "parity: %s\n", p->shared->difference);
	if (!keep) {
		p->quiet = true;
		if (shrink_still_fails(p, kept, spoil, kind)) {
			for (unsigned long part = p->steps / 2; part > 0 && time(NULL) < end; part /= 2)
				shrink_pass(p, kept, part, spoil, kind, end);
			fprintf(stderr, "parity: shrunk to %lu steps\n", shrink_count(p, kept));
		} else {
			fprintf(stderr, "parity: the same episode alone does not fail so: it is not shrunk\n");
		}
		p->quiet = false;
		par_run_episode(p, p->episode, kept, spoil);
	}
	shrink_print(p, kept, spoil);
	free(kept);
}

/* --- removing ----------------------------------------------------------------------------------------------------- */

static void remove_clear_flags(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK), none = 0;

	if (fd >= 0) {
		ioctl(fd, FS_IOC_SETFLAGS, &none);
		close(fd);
	}
}

static void remove_name(int dir, const char *name);

static void remove_below(int fd)
{
	DIR *d = fdopendir(fd);
	struct dirent *de;

	if (!d)
		par_die("fdopendir");
	while ((de = readdir(d)) != NULL) {
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			remove_name(dirfd(d), de->d_name);
	}
	closedir(d);
}

static void remove_name(int dir, const char *name)
{
	for (int try = 0; try < 2; try++) {
		int fd;

		if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
			return;
		fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
		if (fd >= 0)
			remove_below(fd);
		if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
			return;
		remove_clear_flags(dir, ".");
		remove_clear_flags(dir, name);
	}
	par_die(name);
}

void par_remove_episode(const char *side)
{
	int dir = open(side, O_RDONLY | O_DIRECTORY);

	if (dir < 0)
		par_die(side);
	remove_name(dir, "episode");
	close(dir);
}
