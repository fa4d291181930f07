/* SPDX-License-Identifier: MIT */
/*
 * parity: makes the same random system calls on two mounted directories, A (under test) and B (believed: a tmpfs),
 * and compares what can be seen of them, step by step.
 *
 *    parity [-m MODE] [-s SEED] [-e FIRST] [-c EPISODES] [-n STEPS] [-l LIST] [-k STEP,STEP...] [-f] [-a] [-w CALL,...]
 *           [-x KIND] A B
 *
 * MODE names the mount and begins the text of each difference; LIST explains differences (parity.differences says
 * how).  -f: the mounts are small, fill them.  -a: print a line for each episode that fails, and go on.  -w: without
 * the steps of these names.  -x makes one thing differ in each episode (byte, mode, time, xattr,
 * name), so that the run must fail: the tester's own test.  A difference is shrunk: the episode is repeated with
 * steps left out for as long as it still fails so; what remains is printed, and -k repeats it.  Exit status 1.
 *
 * This file has the options and the run: which step comes when, and who makes it.  One thread; each episode is a
 * process, and struct par_shared is what outlives it.
 */
#include "tests/mount/parity.h"
#include "tests/mount/parity_run.h"

#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>

#define EPISODE_SECONDS 120
#define TIMED_PERCENT	2
#define PAR_ENOUGH	400 /* tries of a step, after which one should have succeeded */

static const struct par_op *const par_tables[] = { par_data_ops, par_range_ops, par_map_ops,   par_name_ops,
						   par_dir_ops,	 par_attr_ops,	par_xattr_ops, par_lock_ops };
#define NTABLES (sizeof(par_tables) / sizeof(par_tables[0]))

_Noreturn void par_die(const char *what)
{
	fprintf(stderr, "parity: %s: %s\n", what, strerror(errno));
	_exit(2);
}

void par_log(struct par *p, const char *fmt, ...)
{
	char *line = p->log[p->logged++ % PAR_LOG];
	int n = snprintf(line, PAR_LOG_LINE, "%lu: %s%s ", p->step, p->op,
			 (const char *const[]){ "", " (user 1)", " (user 2)", " (user 3)" }[p->actor]);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + n, PAR_LOG_LINE - (size_t)n, fmt, ap);
	va_end(ap);
}

/* The raw calls: glibc's make every thread follow, and look for them. */
void par_become(struct par *p, unsigned actor)
{
	static const unsigned uid[] = { 0, 1001, 1002, 1003 }, gid[] = { 0, 1001, 1002, 1003 };
	const gid_t shared = 2000;

	if (actor == p->actor)
		return;
	if (p->actor != 0 && syscall(SYS_setresuid, -1, 0, -1) != 0)
		par_die("setresuid");
	if (syscall(SYS_setgroups, actor == 1 || actor == 2 ? 1 : 0, &shared) != 0 ||
	    syscall(SYS_setresgid, -1, gid[actor], -1) != 0 || syscall(SYS_setresuid, -1, uid[actor], -1) != 0)
		par_die("setresuid");
	p->actor = actor;
}

void par_enter(struct par *p, int s)
{
	unsigned actor = p->actor;

	p->shared->calls++;
	if (fchdir(p->side[s].root) == 0)
		return;
	par_become(p, 0); /* a step may have closed the root to the others */
	if (fchdir(p->side[s].root) != 0)
		par_die("fchdir");
	par_become(p, actor);
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

/* -w names it: the step does nothing, and all others are what they were. */
static bool par_left_out(const struct par *p, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = p->without; at && (at = strstr(at, name)) != NULL; at += len) {
		if ((at == p->without || at[-1] == ',') && (at[len] == ',' || at[len] == '\0'))
			return true;
	}
	return false;
}

static const struct par_op *par_pick_op(struct par *p)
{
	unsigned total = 0, pick;

	for (size_t t = 0; t < NTABLES; t++) {
		for (const struct par_op *op = par_tables[t]; op->name; op++)
			total += op->weight;
	}
	pick = (unsigned)par_below(p, total);
	p->op_index = 0;
	for (size_t t = 0; t < NTABLES; t++) {
		for (const struct par_op *op = par_tables[t]; op->name; op++, p->op_index++) {
			if (pick < op->weight)
				return op;
			pick -= op->weight;
		}
	}
	abort();
}

static void par_make_dirs(struct par *p)
{
	static const mode_t mode[PAR_DIRS] = { 0777, 0777, 0777, 02775, 01777, 0755, 0777, 0777, 0700 };
	static const unsigned owner[PAR_DIRS] = { 0, 0, 1001, 0, 0, 1002, 0, 1001, 1003 };

	p->op = "make";
	for (int s = 0; s < 2; s++) {
		par_enter(p, s);
		for (unsigned d = 1; d < PAR_DIRS; d++) {
			if (mkdir(par_dirs[d], 0700) != 0 || chown(par_dirs[d], owner[d], d == 3 ? 2000 : owner[d]) != 0 ||
			    chmod(par_dirs[d], mode[d]) != 0)
				par_die(par_dirs[d]);
		}
	}
}

/* One of the files that an episode begins with. */
static void par_populate(struct par *p)
{
	static const unsigned owner[] = { 0, 0, 1001, 1002, 1003 };
	uint64_t size = par_chance(p, 20) ? 0 : par_below(p, p->max_size);
	unsigned uid = PAR_PICK(p, owner);
	mode_t mode = par_chance(p, 50) ? 0666 : 0640;
	struct par_outcome o[2], w[2];
	char path[PAR_PATH];

	p->op = "populate";
	snprintf(path, sizeof(path), "%s/f%lu", par_dirs[p->step % PAR_DIRS], p->step);
	par_log(p, "%s size %" PRIu64 " owner %u", path, size, uid);
	PAR_BOTH(o, open(path, O_CREAT | O_EXCL | O_WRONLY, mode));
	if (!par_same_fds(p, o))
		return;
	for (uint64_t off = 0; off < size; off += PAR_IO_MAX) {
		size_t len = size - off < PAR_IO_MAX ? size - off : PAR_IO_MAX;

		par_fill(p, len);
		PAR_BOTH(w, pwrite((int)o[s].rc, p->wbuf, len, (off_t)off));
		par_same(p, w);
	}
	PAR_BOTH(w, fchown((int)o[s].rc, uid, uid));
	par_same(p, w);
	close((int)o[0].rc);
	close((int)o[1].rc);
	par_same_lstat(p, path);
}

static void par_random_step(struct par *p)
{
	static const mode_t masks[] = { 022, 022, 022, 0, 077, 027 };
	static const unsigned actors[] = { 0, 0, 0, 0, 0, 0, 1, 1, 2, 3 };
	const struct par_op *op = par_pick_op(p);
	struct par_times *times = NULL;
	unsigned actor = PAR_PICK(p, actors);

	p->op = op->name;
	if (par_left_out(p, op->name))
		return;
	umask(PAR_PICK(p, masks));
	if (par_chance(p, TIMED_PERCENT))
		times = par_times_take(p);
	p->shared->tries[p->op_index]++;
	par_become(p, actor);
	op->run(p);
	par_become(p, 0);
	if (times)
		par_times_compare(p, times);
}

/* The tester's own test: something that differs at the end of the episode, on side 0. */
static void par_spoil(struct par *p, const char *kind)
{
	struct timespec past[2] = { { 1000, 0 }, { 1000, 1 } };

	par_fill(p, 5000);
	for (int s = 0; s < 2; s++) {
		int fd;

		par_enter(p, s);
		fd = open("spoiled", O_CREAT | O_WRONLY, 0600);
		if (strcmp(kind, "byte") == 0)
			p->wbuf[4500] ^= 1;
		if (fd < 0 || write(fd, p->wbuf, 5000) != 5000 || futimens(fd, past) != 0 || close(fd) != 0)
			par_die("spoiled");
		past[1].tv_nsec += strcmp(kind, "time") == 0;
	}
	par_enter(p, 0);
	if ((strcmp(kind, "mode") == 0 && chmod("spoiled", 0601) != 0) ||
	    (strcmp(kind, "xattr") == 0 && setxattr("spoiled", "user.spoiled", "", 0, 0) != 0) ||
	    (strcmp(kind, "name") == 0 && symlink("spoiled", "spoiled-name") != 0))
		par_die("spoiled");
}

_Noreturn static void par_episode_process(struct par *p, const bool *keep, const char *spoil)
{
	alarm(EPISODE_SECONDS);
	par_maps_catch_sigbus();
	par_make_dirs(p);
	for (p->step = 0; p->step < p->steps && !p->diverged; p->step++) {
		uint64_t mix = p->seed * 1000003 + p->episode;

		p->rng = splitmix_next(&mix) ^ p->step * UINT64_C(0x2545f4914f6cdd1d);
		if (keep && !keep[p->step])
			continue;
		if (p->step < PAR_FILES)
			par_populate(p);
		else
			par_random_step(p);
	}
	p->op = "tree";
	par_log(p, "is compared");
	for (unsigned i = 0; i < PAR_FDS; i++)
		par_fd_close(&p->fd[i]);
	for (unsigned i = 0; i < PAR_MAPS; i++)
		par_map_close(&p->map[i]);
	if (spoil)
		par_spoil(p, spoil);
	if (!p->diverged)
		par_same_trees(p);
	else
		p->shared->stopped++;
	_exit(0);
}

static void par_open_episode(struct par *p)
{
	uint64_t kind = p->seed * 31 + p->episode;

	for (int s = 0; s < 2; s++) {
		char dir[PATH_MAX];

		snprintf(dir, sizeof(dir), "%s/episode", p->side[s].path);
		if (mkdir(dir, 0700) != 0 || chmod(dir, 0777) != 0)
			par_die(dir);
		p->side[s].root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (p->side[s].root < 0)
			par_die(dir);
	}
	splitmix_next(&kind);
	kind = splitmix_next(&kind);
	p->max_size = p->full ? 4U << 20 : kind % 3 == 0 ? 2U << 20 : 192U << 10;
	p->map_holes = kind / 3 % 4 == 0;
	p->loose_holes = p->map_holes;
}

int par_run_episode(struct par *p, uint64_t episode, const bool *keep, const char *spoil)
{
	int status;
	pid_t pid;

	p->episode = episode;
	p->shared->difference[0] = '\0';
	par_open_episode(p);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		par_episode_process(p, keep, spoil);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		par_die("fork");
	for (int s = 0; s < 2; s++) {
		close(p->side[s].root);
		par_remove_episode(p->side[s].path);
	}
	if (WIFSIGNALED(status)) {
		snprintf(p->shared->difference, sizeof(p->shared->difference), "%s: ended by signal %d (%s)",
			 p->mode, WTERMSIG(status), strsignal(WTERMSIG(status)));
		return 1;
	}
	return WEXITSTATUS(status);
}

/* --- the run ------------------------------------------------------------------------------------------------------ */

static void par_report(struct par *p, unsigned long failed)
{
	unsigned index = 0;

	printf("parity: %s: %lu episodes, %" PRIu64 " calls on each side, %" PRIu64 " bytes compared at their ends, "
	       "%" PRIu64 " stopped at a known difference, %lu failed\n",
	       p->mode, p->episodes, p->shared->calls / 2, p->shared->bytes, p->shared->stopped, failed);
	for (size_t t = 0; t < NTABLES; t++) {
		for (const struct par_op *op = par_tables[t]; op->name; op++, index++) {
			if (p->shared->tries[index] > PAR_ENOUGH && p->shared->successes[index] == 0)
				printf("parity: %s: %s never succeeded in %" PRIu64 " steps\n", p->mode, op->name,
				       p->shared->tries[index]);
		}
	}
	for (unsigned i = 0; i < p->nlisted; i++)
		printf("explained %8" PRIu64 " times: %s\n", p->shared->hits[i], p->listed[i].pattern);
}

/* Some thing that can be done was not done: then the steps that were to do it test nothing. */
static bool par_all_succeeded(struct par *p)
{
	unsigned index = 0;
	bool all = true;

	for (size_t t = 0; t < NTABLES; t++) {
		for (const struct par_op *op = par_tables[t]; op->name; op++, index++)
			all &= p->shared->tries[index] <= PAR_ENOUGH || p->shared->successes[index] > 0;
	}
	return all;
}

static bool *par_parse_keep(struct par *p, char *list)
{
	bool *keep = calloc(p->steps, sizeof(*keep));

	if (!keep)
		par_die("memory");
	for (char *word = strtok(list, ","); word; word = strtok(NULL, ",")) {
		unsigned long step = strtoul(word, NULL, 10);

		if (step < p->steps)
			keep[step] = true;
	}
	return keep;
}

static int par_usage(void)
{
	fprintf(stderr, "usage: parity [-m MODE] [-s SEED] [-e FIRST] [-c EPISODES] [-n STEPS] [-l LIST] [-k STEP,...] "
			"[-f] [-a] [-w CALL,...] [-x KIND] A B\n");
	return 2;
}

static bool par_parse(struct par *p, int argc, char **argv, char **kept, const char **spoil)
{
	int opt;

	while ((opt = getopt(argc, argv, "m:s:e:c:n:l:k:faw:x:")) != -1) {
		switch (opt) {
		case 'm':
			p->mode = optarg;
			break;
		case 's':
			p->seed = strtoull(optarg, NULL, 0);
			break;
		case 'e':
			p->first_episode = strtoul(optarg, NULL, 0);
			break;
		case 'c':
			p->episodes = strtoul(optarg, NULL, 0);
			break;
		case 'n':
			p->steps = strtoul(optarg, NULL, 0);
			break;
		case 'l':
			par_load_list(p, optarg);
			break;
		case 'k':
			*kept = optarg;
			p->episodes = 1;
			break;
		case 'f':
			p->full = true;
			break;
		case 'a':
			p->survey = true;
			break;
		case 'w':
			p->without = optarg;
			break;
		case 'x':
			*spoil = optarg;
			break;
		default:
			return false;
		}
	}
	if (argc - optind != 2 || p->steps < PAR_FILES)
		return false;
	p->side[0] = (struct par_side){ .name = "spillfs", .path = argv[optind] };
	p->side[1] = (struct par_side){ .name = "tmpfs", .path = argv[optind + 1] };
	return true;
}

static int par_run(int argc, char **argv)
{
	struct par *p = calloc(1, sizeof(*p));
	const char *spoil = NULL;
	bool *keep = NULL;
	char *kept = NULL;
	unsigned long failed = 0;

	if (!p)
		return 2;
	*p = (struct par){
		.mode = "mount", .seed = (uint64_t)time(NULL), .episodes = 20, .steps = 1500, .began = time(NULL) - 1
	};
	p->shared = mmap(NULL, sizeof(*p->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p->shared == MAP_FAILED || !par_parse(p, argc, argv, &kept, &spoil))
		return par_usage();
	if (posix_memalign((void **)&p->wbuf, 4096, PAR_IO_MAX) || posix_memalign((void **)&p->rbuf[0], 4096, PAR_IO_MAX) ||
	    posix_memalign((void **)&p->rbuf[1], 4096, PAR_IO_MAX))
		par_die("memory");
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	printf("parity: %s: seed %" PRIu64 "\n", p->mode, p->seed);
	if (kept)
		keep = par_parse_keep(p, kept);
	p->quiet = p->survey;
	for (unsigned long e = 0; e < p->episodes; e++) {
		int rc = par_run_episode(p, p->first_episode + e, keep, spoil);

		failed += rc == 1;
		if (rc == 1 && p->survey) {
			printf("episode %lu: %s\n", p->first_episode + e, p->shared->difference);
			continue;
		}
		if (rc == 1)
			par_shrink(p, keep, spoil);
		if (rc)
			return rc;
	}
	par_report(p, failed);
	return failed || (!keep && !par_all_succeeded(p));
}

int main(int argc, char **argv)
{
	int rc = par_run(argc, argv);

	fflush(NULL);
	_exit(rc); /* no leak report: the run's memory is its own until the end */
}
