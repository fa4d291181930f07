/* SPDX-License-Identifier: MIT */
/*
 * metabench: times operations on many small files, for tools/bench/run: each job is a process with a directory of
 * its own, and all jobs go from phase to phase together.  Prints one JSON object, phase -> operations and seconds.
 * What jobs share is struct shared, in memory mapped before the fork; between two barriers only job 0 writes it,
 * but for the error, which is atomic.  A job that fails keeps coming to the barriers, so that nobody waits for it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX       64
#define FILE_BYTES_MAX 65536
#define READDIR_PASSES 4
#define NAME_BYTES     32

struct bench {
	const char *dir;
	unsigned files; /* of all jobs together */
	unsigned jobs;
	unsigned file_bytes;
	bool renamed; /* the files carry the names that phase "rename" gives them */
	char *phases; /* comma-separated */
};

struct shared {
	pthread_barrier_t barrier;
	struct timespec start, end;
	_Atomic int error;
};

struct job {
	const struct bench *bench;
	struct shared *shared;
	int dirfd; /* O_PATH: opening it asks nothing of the file system */
	unsigned files;
	bool renamed;
	char data[FILE_BYTES_MAX];
};

/* One phase: what is done with file i (or, with each == NULL, once for all), and how many operations that counts. */
struct phase {
	const char *name;
	int (*each)(struct job *job, const char *name, unsigned i);
	int (*all)(struct job *job);
	unsigned weight;
};

static void file_name(const struct job *job, unsigned i, char name[NAME_BYTES])
{
	snprintf(name, NAME_BYTES, "%c%07u", job->renamed ? 'r' : 'f', i);
}

/* --- phases: 0 or -errno -------------------------------------------------------------------------------------- */

static int phase_create(struct job *job, const char *name, unsigned i)
{
	int fd = openat(job->dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	ssize_t n = 0;

	if (fd < 0)
		return -errno;
	memcpy(job->data, &i, sizeof(i)); /* no two files alike, should somebody look for that */
	if (job->bench->file_bytes > 0)
		n = write(fd, job->data, job->bench->file_bytes);
	if (n < 0) {
		close(fd);
		return -errno;
	}
	if (close(fd) != 0)
		return -errno;
	return n == (ssize_t)job->bench->file_bytes ? 0 : -EIO;
}

static int phase_mknod(struct job *job, const char *name, unsigned i)
{
	(void)i;
	return mknodat(job->dirfd, name, S_IFREG | 0644, 0) == 0 ? 0 : -errno;
}

static int phase_symlink(struct job *job, const char *name, unsigned i)
{
	(void)i;
	return symlinkat("some/where/else", job->dirfd, name) == 0 ? 0 : -errno;
}

static int phase_stat(struct job *job, const char *name, unsigned i)
{
	struct stat st;

	(void)i;
	if (fstatat(job->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	return S_ISREG(st.st_mode) && st.st_size != (off_t)job->bench->file_bytes ? -EIO : 0;
}

static int phase_readlink(struct job *job, const char *name, unsigned i)
{
	char target[64];

	(void)i;
	return readlinkat(job->dirfd, name, target, sizeof(target)) > 0 ? 0 : -errno;
}

static int phase_read(struct job *job, const char *name, unsigned i)
{
	char data[FILE_BYTES_MAX];
	int fd = openat(job->dirfd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = 0;

	if (fd < 0)
		return -errno;
	n = read(fd, data, job->bench->file_bytes);
	if (n < 0) {
		close(fd);
		return -errno;
	}
	if (close(fd) != 0)
		return -errno;
	/* Wrong data would make the fastest file system of all. */
	return n == (ssize_t)job->bench->file_bytes && (n < (ssize_t)sizeof(i) || memcmp(data, &i, sizeof(i)) == 0)
		       ? 0
		       : -EIO;
}

static int phase_readdir_once(struct job *job)
{
	int fd = openat(job->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	unsigned seen = 0;

	if (dir == NULL) {
		int err = -errno;

		if (fd >= 0)
			close(fd);
		return err;
	}
	errno = 0;
	for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
		seen += entry->d_name[0] != '.';
	closedir(dir);
	return seen == job->files ? 0 : -EIO;
}

static int phase_readdir(struct job *job)
{
	int err = 0;

	for (unsigned pass = 0; pass < READDIR_PASSES && err == 0; pass++)
		err = phase_readdir_once(job);
	return err;
}

static int phase_rename(struct job *job, const char *name, unsigned i)
{
	char to[NAME_BYTES];

	snprintf(to, sizeof(to), "%c%07u", job->renamed ? 'f' : 'r', i);
	return renameat(job->dirfd, name, job->dirfd, to) == 0 ? 0 : -errno;
}

static int phase_unlink(struct job *job, const char *name, unsigned i)
{
	(void)i;
	return unlinkat(job->dirfd, name, 0) == 0 ? 0 : -errno;
}

/* Makes the jobs' directories, which happens before the first phase anyway, and no more. */
static int phase_nothing(struct job *job)
{
	(void)job;
	return 0;
}

/* "restat" is "stat" once more, under another name in the result. */
static const struct phase phases[] = {
	{ "create", phase_create, NULL, 1 },   { "mknod", phase_mknod, NULL, 1 },
	{ "symlink", phase_symlink, NULL, 1 }, { "stat", phase_stat, NULL, 1 },
	{ "restat", phase_stat, NULL, 1 },     { "readlink", phase_readlink, NULL, 1 },
	{ "read", phase_read, NULL, 1 },       { "readdir", NULL, phase_readdir, READDIR_PASSES },
	{ "rename", phase_rename, NULL, 1 },   { "unlink", phase_unlink, NULL, 1 },
	{ "nothing", NULL, phase_nothing, 0 },
};

static const struct phase *phase_find(const char *name)
{
	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
		if (strcmp(phases[i].name, name) == 0)
			return &phases[i];
	return NULL;
}

/* --- jobs ------------------------------------------------------------------------------------------------------ */

static int job_phase(struct job *job, const struct phase *phase)
{
	char name[NAME_BYTES];
	int err = 0;

	if (phase->all != NULL)
		return phase->all(job);
	for (unsigned i = 0; i < job->files && err == 0; i++) {
		file_name(job, i, name);
		err = phase->each(job, name, i);
		if (err != 0)
			fprintf(stderr, "metabench: %s of %s: %s\n", phase->name, name, strerror(-err));
	}
	if (phase->each == phase_rename)
		job->renamed = !job->renamed;
	return err;
}

static void job_run(struct job *job, unsigned number)
{
	const struct bench *bench = job->bench;
	struct shared *shared = job->shared;
	char *list = strdup(bench->phases);
	char *rest = list;
	bool first = true;

	if (list == NULL)
		abort();
	for (char *name = strsep(&rest, ","); name != NULL; name = strsep(&rest, ",")) {
		const struct phase *phase = phase_find(name);
		int none = 0, err = 0;

		pthread_barrier_wait(&shared->barrier);
		if (number == 0)
			clock_gettime(CLOCK_MONOTONIC, &shared->start);
		if (atomic_load(&shared->error) == 0)
			err = job_phase(job, phase);
		if (err != 0)
			atomic_compare_exchange_strong(&shared->error, &none, err);
		pthread_barrier_wait(&shared->barrier);
		if (number != 0 || atomic_load(&shared->error) != 0)
			continue;
		clock_gettime(CLOCK_MONOTONIC, &shared->end);
		printf("%s\"%s\": {\"ops\": %u, \"seconds\": %.6f}", first ? "{" : ", ", name,
		       job->files * bench->jobs * phase->weight,
		       (double)(shared->end.tv_sec - shared->start.tv_sec) +
			       (double)(shared->end.tv_nsec - shared->start.tv_nsec) / 1e9);
		first = false;
	}
	if (number == 0 && !first)
		printf("}\n");
	free(list);
}

/*
 * The job's directory, made if need be; exits on failure, before there is anybody at a barrier.  Not mkdir() first:
 * that would have a name that is there already looked up again, and requests are counted.
 */
static void job_open_dir(struct job *job, unsigned number)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/job%u", job->bench->dir, number);
	job->dirfd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (job->dirfd < 0 && errno == ENOENT && mkdir(path, 0755) == 0)
		job->dirfd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (job->dirfd < 0) {
		fprintf(stderr, "metabench: %s: %s\n", path, strerror(errno));
		exit(EXIT_FAILURE);
	}
}

static struct shared *bench_share(unsigned jobs)
{
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_barrierattr_t attr;

	if (shared == MAP_FAILED) {
		fprintf(stderr, "metabench: mmap: %s\n", strerror(errno));
		exit(EXIT_FAILURE);
	}
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&shared->barrier, &attr, jobs);
	pthread_barrierattr_destroy(&attr);
	return shared;
}

static int bench_run(const struct bench *bench)
{
	static struct job job[JOBS_MAX];
	struct shared *shared = bench_share(bench->jobs);

	for (unsigned j = 0; j < bench->jobs; j++) {
		job[j] = (struct job){
			.bench = bench, .shared = shared, .files = bench->files / bench->jobs, .renamed = bench->renamed
		};
		for (unsigned i = 0; i < bench->file_bytes; i++)
			job[j].data[i] = (char)(i * 131 + j + 1);
		job_open_dir(&job[j], j);
	}
	for (unsigned j = 1; j < bench->jobs; j++) {
		pid_t child = fork();

		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			job_run(&job[j], j);
			_exit(0);
		}
		if (child < 0) {
			/* The others wait at the barrier for one that will not come; our death takes them along. */
			fprintf(stderr, "metabench: fork: %s\n", strerror(errno));
			exit(EXIT_FAILURE);
		}
	}
	job_run(&job[0], 0);
	while (wait(NULL) > 0)
		;
	return atomic_load(&shared->error) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* --- command line ------------------------------------------------------------------------------------------------ */

static const char usage_text[] =
	"Usage: metabench [-n FILES] [-j JOBS] [-s BYTES] [-r] [-p PHASE,...] DIRECTORY\n"
	"\n"
	"  -n FILES   files, of all jobs together (1000)\n"
	"  -j JOBS    processes, each with a directory of its own (1)\n"
	"  -s BYTES   size of a file (1024)\n"
	"  -r         the files there already are renamed ones\n"
	"  -p PHASES  of: create mknod symlink stat restat readlink read readdir rename unlink nothing\n"
	"             (create,stat,read,readdir,rename,unlink)\n";

static unsigned long option_number(const char *text, unsigned long max)
{
	char *end = NULL;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end != '\0' || n > max) {
		fprintf(stderr, "metabench: not a number from 0 to %lu: %s\n", max, text);
		exit(2);
	}
	return n;
}

static void check_phases(const char *text)
{
	char *list = strdup(text);
	char *rest = list;

	for (char *name = strsep(&rest, ","); name != NULL; name = strsep(&rest, ",")) {
		if (phase_find(name) == NULL) {
			fprintf(stderr, "metabench: no such phase: %s\n", name);
			exit(2);
		}
	}
	free(list);
}

int main(int argc, char **argv)
{
	static char all[] = "create,stat,read,readdir,rename,unlink";
	struct bench bench = { .files = 1000, .jobs = 1, .file_bytes = 1024, .phases = all };
	int c = 0;

	while ((c = getopt(argc, argv, "n:j:s:rp:h")) != -1) {
		switch (c) {
		case 'n':
			bench.files = (unsigned)option_number(optarg, 9999999);
			break;
		case 'j':
			bench.jobs = (unsigned)option_number(optarg, JOBS_MAX);
			break;
		case 's':
			bench.file_bytes = (unsigned)option_number(optarg, FILE_BYTES_MAX);
			break;
		case 'r':
			bench.renamed = true;
			break;
		case 'p':
			bench.phases = optarg;
			break;
		default:
			fputs(usage_text, c == 'h' ? stdout : stderr);
			return c == 'h' ? EXIT_SUCCESS : 2;
		}
	}
	if (optind != argc - 1 || bench.jobs == 0) {
		fputs(usage_text, stderr);
		return 2;
	}
	bench.dir = argv[optind];
	check_phases(bench.phases);
	return bench_run(&bench);
}
