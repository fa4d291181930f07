/* SPDX-License-Identifier: MIT */
/*
 * parity_check: where parity compares what the two sides say, and where a difference is either on the list of the
 * explained ones or ends the process.  Keeps no state of its own; called from the steps, as root.
 */
#include "tests/mount/parity.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <time.h>

/* --- differences -------------------------------------------------------------------------------------------------- */

static void par_show_log(const struct par *p)
{
	unsigned long first = p->logged > PAR_LOG ? p->logged - PAR_LOG : 0;

	for (unsigned long i = first; i < p->logged; i++)
		fprintf(stderr, "  %s\n", p->log[i % PAR_LOG]);
}

void par_differ(struct par *p, const char *field, const char *fmt, ...)
{
	char text[sizeof(p->shared->difference)];
	int n = snprintf(text, sizeof(text), "%s %s %s: ", p->mode, p->op, field);
	va_list ap;

	if (p->diverged)
		return;
	va_start(ap, fmt);
	n += vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	va_end(ap);
	if (p->logged && n < (int)sizeof(text))
		snprintf(text + n, sizeof(text) - (size_t)n, "; step %s", p->log[(p->logged - 1) % PAR_LOG]);
	for (unsigned i = 0; i < p->nlisted; i++) {
		if (fnmatch(p->listed[i].pattern, text, 0) == 0) {
			p->shared->hits[i]++;
			p->diverged |= p->listed[i].stop;
			return;
		}
	}
	memcpy(p->shared->difference, text, sizeof(text));
	if (!p->quiet) {
		par_show_log(p);
		fprintf(stderr, "parity: DIFFERENT, seed %" PRIu64 ", episode %" PRIu64 ": %s\n", p->seed, p->episode,
			text);
	}
	_exit(1);
}

void par_load_list(struct par *p, const char *path)
{
	FILE *f = fopen(path, "r");
	char line[1024];

	if (!f)
		par_die(path);
	while (fgets(line, sizeof(line), f)) {
		char *pattern = strtok(line, "\t\n"), *what = strtok(NULL, "\t\n"), *reason = strtok(NULL, "\t\n");

		if (!pattern || pattern[0] == '#')
			continue;
		errno = EINVAL;
		if (!what || !reason || p->nlisted == PAR_LISTED || (strcmp(what, "go on") && strcmp(what, "stop")))
			par_die(path);
		p->listed[p->nlisted++] = (struct par_listed){
			.pattern = strdup(pattern), .reason = strdup(reason), .stop = strcmp(what, "stop") == 0
		};
	}
	fclose(f);
}

static const char *par_error(int err)
{
	return err ? strerrorname_np(err) : "no error";
}

bool par_same(struct par *p, const struct par_outcome o[2])
{
	bool both = o[0].rc >= 0 && o[1].rc >= 0;

	p->shared->successes[p->op_index] += both;
	if (o[0].rc != o[1].rc || o[0].err != o[1].err)
		par_differ(p, "result", "spillfs %ld %s, tmpfs %ld %s", o[0].rc, par_error(o[0].err), o[1].rc,
			   par_error(o[1].err));
	return both && o[0].rc == o[1].rc;
}

bool par_same_fds(struct par *p, const struct par_outcome o[2])
{
	const struct par_outcome plain[2] = { { o[0].rc < 0 ? -1 : 0, o[0].err }, { o[1].rc < 0 ? -1 : 0, o[1].err } };

	return par_same(p, plain);
}

void par_same_bytes(struct par *p, const void *a, const void *b, size_t len, off_t at)
{
	const unsigned char *x = a, *y = b;

	if (memcmp(x, y, len) == 0)
		return;
	for (size_t i = 0; i < len; i++) {
		if (x[i] != y[i]) {
			par_differ(p, "byte", "at %lld spillfs %02x, tmpfs %02x, of %zu compared",
				   (long long)at + (long long)i, x[i], y[i], len);
			return;
		}
	}
}

/* --- attributes --------------------------------------------------------------------------------------------------- */

/* A time that was set, not taken from the clock during the run, is the same on both sides. */
static bool par_was_set(const struct par *p, const struct timespec *t)
{
	return t->tv_sec < p->began || t->tv_sec > p->began + 100000;
}

/* What times are called: the kernel has rules of its own for what is neither a file nor a directory. */
static const char *const *par_times_of(mode_t mode)
{
	static const char *const plain[] = { "atime", "mtime", "ctime" };
	static const char *const link[] = { "atime of a symlink", "mtime of a symlink", "ctime of a symlink" };
	static const char *const special[] = { "atime of a special file", "mtime of a special file",
					       "ctime of a special file" };

	return S_ISREG(mode) || S_ISDIR(mode) ? plain : S_ISLNK(mode) ? link : special;
}

/* Returns whether they are. */
static bool par_same_time(struct par *p, const struct timespec *a, const struct timespec *b, const char *field,
			  const char *what)
{
	bool set_a = par_was_set(p, a), set_b = par_was_set(p, b);

	if (set_a == set_b && (!set_a || (a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec)))
		return true;
	if (set_a != set_b)
		par_differ(p, field, "spillfs %s, tmpfs %s, of %s", set_a ? "old" : "now", set_b ? "old" : "now", what);
	else
		par_differ(p, field, "spillfs %lld.%09ld, tmpfs %lld.%09ld, of %s", (long long)a->tv_sec, a->tv_nsec,
			   (long long)b->tv_sec, b->tv_nsec, what);
	return false;
}

#define PAR_SAME_FIELD(p, a, b, what, field, name)                                                         \
	do {                                                                                               \
		if ((a)->field != (b)->field)                                                              \
			par_differ(p, name, "spillfs %#llo, tmpfs %#llo, of %s", (unsigned long long)(a)->field, \
				   (unsigned long long)(b)->field, what);                                  \
	} while (0)

static void par_same_blocks(struct par *p, const struct stat *a, const struct stat *b, const char *what)
{
	const char *field = strcmp(p->op, "tree") != 0 ? "blocks in use" : p->allocated ? "blocks after fallocate" : "blocks";

	if (p->loose_holes ? a->st_blocks > b->st_blocks : a->st_blocks != b->st_blocks)
		par_differ(p, field, "spillfs %lld, tmpfs %lld, of %s", (long long)a->st_blocks,
			   (long long)b->st_blocks, what);
}

bool par_same_stat(struct par *p, const struct stat *a, const struct stat *b, const char *what)
{
	bool times;

	PAR_SAME_FIELD(p, a, b, what, st_mode, "mode");
	PAR_SAME_FIELD(p, a, b, what, st_nlink, "nlink");
	PAR_SAME_FIELD(p, a, b, what, st_uid, "uid");
	PAR_SAME_FIELD(p, a, b, what, st_gid, "gid");
	PAR_SAME_FIELD(p, a, b, what, st_rdev, "rdev");
	PAR_SAME_FIELD(p, a, b, what, st_blksize, "blksize");
	if (a->st_size != b->st_size)
		par_differ(p, S_ISDIR(b->st_mode) ? "size of directory" : "size", "spillfs %lld, tmpfs %lld, of %s",
			   (long long)a->st_size, (long long)b->st_size, what);
	times = par_same_time(p, &a->st_atim, &b->st_atim, par_times_of(b->st_mode)[0], what);
	times &= par_same_time(p, &a->st_mtim, &b->st_mtim, par_times_of(b->st_mode)[1], what);
	if (par_was_set(p, &a->st_ctim) || par_was_set(p, &b->st_ctim))
		par_differ(p, "ctime", "spillfs %lld, tmpfs %lld, of %s", (long long)a->st_ctim.tv_sec,
			   (long long)b->st_ctim.tv_sec, what);
	par_same_blocks(p, a, b, what);
	return times;
}

/* After times differed that may: makes them the same, so that no later step seems to be what it came from. */
static const struct timespec par_resync[2] = { { .tv_sec = 86400 }, { .tv_sec = 86400 } };

void par_same_fstat(struct par *p, struct par_fd *h)
{
	struct par_outcome o[2];
	struct stat st[2];
	unsigned actor = p->actor;
	char proc[64];

	par_become(p, 0);
	PAR_BOTH(o, fstat(h->fd[s], &st[s]));
	if (par_same(p, o) && !par_same_stat(p, &st[0], &st[1], h->path)) {
		PAR_BOTH(o, (snprintf(proc, sizeof(proc), "/proc/self/fd/%d", h->fd[s]),
			     utimensat(AT_FDCWD, proc, par_resync, 0)));
	}
	par_become(p, actor);
}

void par_same_lstat(struct par *p, const char *path)
{
	struct par_outcome o[2];
	struct stat st[2];
	unsigned actor = p->actor;

	par_become(p, 0);
	PAR_BOTH(o, lstat(path, &st[s]));
	if (par_same(p, o) && !par_same_stat(p, &st[0], &st[1], path))
		PAR_BOTH(o, utimensat(AT_FDCWD, path, par_resync, AT_SYMLINK_NOFOLLOW));
	par_become(p, actor);
}

/* --- which times a step changes ----------------------------------------------------------------------------------- */

#define PAR_WATCHED (PAR_DIRS + PAR_FILES + 6 + PAR_FDS)

struct par_times {
	struct par_seen {
		bool there;
		struct stat st;
	} seen[2][PAR_WATCHED];
};

static void par_watched_name(unsigned i, char *name, size_t size)
{
	if (i < PAR_DIRS)
		snprintf(name, size, "%s", par_dirs[i]);
	else
		snprintf(name, size, "%s/f%u", par_dirs[(i - PAR_DIRS) % PAR_DIRS], i - PAR_DIRS);
}

static void par_times_look(struct par *p, struct par_times *times)
{
	for (int s = 0; s < 2; s++) {
		par_enter(p, s);
		for (unsigned i = 0; i < PAR_WATCHED; i++) {
			struct par_seen *seen = &times->seen[s][i];
			char name[PAR_SHOWN];

			if (i >= PAR_WATCHED - PAR_FDS) {
				const struct par_fd *h = &p->fd[i - (PAR_WATCHED - PAR_FDS)];

				seen->there = h->used && fstat(h->fd[s], &seen->st) == 0;
				continue;
			}
			par_watched_name(i, name, sizeof(name));
			seen->there = lstat(name, &seen->st) == 0;
		}
	}
}

static bool par_later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/* The step begins with a new tick of the clock that inodes' times are taken from: what it changes is seen. */
struct par_times *par_times_take(struct par *p)
{
	struct par_times *times = malloc(sizeof(*times));
	struct timespec first, now;

	if (!times)
		par_die("memory");
	par_times_look(p, times);
	clock_gettime(CLOCK_REALTIME, &first);
	do {
		nanosleep(&(struct timespec){ .tv_nsec = 500000 }, NULL);
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	} while (!par_later(&now, &first));
	return times;
}

static bool par_moved(const struct timespec *before, const struct timespec *after)
{
	return before->tv_sec != after->tv_sec || before->tv_nsec != after->tv_nsec;
}

/* Whether relatime lets a read move atime; within one tick of the clock that need not be the same on both sides. */
static bool par_atime_due(const struct stat *st)
{
	return !par_later(&st->st_atim, &st->st_mtim) || !par_later(&st->st_atim, &st->st_ctim);
}

static void par_stat_times(const struct stat *st, struct timespec at[3])
{
	at[0] = st->st_atim;
	at[1] = st->st_mtim;
	at[2] = st->st_ctim;
}

void par_times_compare(struct par *p, struct par_times *before)
{
	struct par_times *after = malloc(sizeof(*after));

	if (!after)
		par_die("memory");
	par_times_look(p, after);
	for (unsigned i = 0; i < PAR_WATCHED && !p->diverged; i++) {
		const char *const *field = par_times_of(before->seen[1][i].st.st_mode);
		bool moved[2][3], same_file = true;
		struct timespec at[2][2][3]; /* side, before or after, which */
		char name[PAR_SHOWN] = "an open file";

		for (int s = 0; s < 2; s++) {
			struct par_seen *a = &before->seen[s][i], *b = &after->seen[s][i];

			same_file &= a->there && b->there && a->st.st_ino == b->st.st_ino;
			par_stat_times(&a->st, at[s][0]);
			par_stat_times(&b->st, at[s][1]);
			for (int t = 0; t < 3; t++)
				moved[s][t] = par_moved(&at[s][0][t], &at[s][1][t]);
		}
		if (i < PAR_WATCHED - PAR_FDS)
			par_watched_name(i, name, sizeof(name));
		same_file = same_file && par_atime_due(&before->seen[0][i].st) == par_atime_due(&before->seen[1][i].st);
		for (int t = 0; t < 3 && same_file; t++) {
			if (moved[0][t] != moved[1][t])
				par_differ(p, field[t],
					   "changed: spillfs %s, tmpfs %s, of %s (spillfs %ld.%09ld to %ld.%09ld, "
					   "tmpfs %ld.%09ld to %ld.%09ld)",
					   moved[0][t] ? "yes" : "no", moved[1][t] ? "yes" : "no", name,
					   at[0][0][t].tv_sec, at[0][0][t].tv_nsec, at[0][1][t].tv_sec,
					   at[0][1][t].tv_nsec, at[1][0][t].tv_sec, at[1][0][t].tv_nsec,
					   at[1][1][t].tv_sec, at[1][1][t].tv_nsec);
		}
	}
	free(after);
	free(before);
}
