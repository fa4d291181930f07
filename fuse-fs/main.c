/* SPDX-License-Identifier: MIT */
/*
 * main.c: the program: parses, forks, starts the store and the session in the right order, and takes them down
 * again.  Owns the process as such (signals, standard streams, limits); runs in one thread and has no lock.
 *
 *   parent: forks at once, before any thread, ring or lock of memory, which a fork would not carry over;
 *           waits at a pipe and exits with what the child says
 *   child:  checks, store, mount, INIT, workers -> says "ready", lets go of the terminal -> serves -> ends
 *
 * Exit status: 0; 1 a mount that cannot work; 2 a wrong option.
 */
#include "fuse-fs/fs.h"
#include "fuse-fs/guard.h"
#include "fuse-fs/log.h"
#include "fuse-fs/options.h"
#include "fuse-fs/placement.h"
#include "fuse-fs/precheck.h"
#include "fuse-fs/pressure.h"
#include "fuse-fs/quota.h"
#include "fuse-fs/remount.h"
#include "fuse-fs/session.h"
#ifdef SPILLFS_FAULTS /* defined for the program of the fault tests alone, which is never installed */
#include "tests/fault/faults.h"
#endif

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#define MAIN_WHY_BYTES	    640
#define MAIN_EXIT_FAILED    1
#define MAIN_EXIT_USAGE	    2
#define MAIN_IO_MIN	    (64U << 10)
#define MAIN_WORKERS_MIN    4
#define MAIN_WORKERS_MAX    12
#define MAIN_RAM_PER_WORKER (8U << 20)
#define MAIN_OOM_SCORE	    "-500" /* killing the daemon loses every file of the mount */

struct main_run {
	struct options *opt;
	int report_fd; /* where the parent waits; -1 in the foreground */
	struct fs fs;
	struct session *session;
	struct guard guard;
	struct pressure *pressure;
	char why[MAIN_WHY_BYTES];
};

/* --- what the process wants to be ------------------------------------------------------------------------------- */

/* Lets systemd (Type=notify) know; sd_notify's protocol is one datagram. */
static void main_notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t n = path != NULL ? strlen(path) : 0;
	int fd = -1;

	if (n < 2 || n >= sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(to.sun_path, path, n);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		fs_log(LOG_WARNING, "sendto %s: %s", path, strerror(errno));
	close(fd);
}

/* SIGTERM, SIGINT, SIGHUP reach the main thread's signalfd and nobody else; all threads inherit this. */
static void main_block_signals(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* RLIMIT_FSIZE is an error of a swap write, not the end */
}

/*
 * Others wait for this process in order to get memory; it should not have to wait for them (DESIGN 4.3).  All
 * of it is optional.  Before the first thread: threads inherit the flusher flag.
 */
static void main_protect(void)
{
	int fd = -1;

	/* Few arenas, which keep what they have: libfuse allocates for every request. */
	mallopt(M_ARENA_MAX, 2);
	mallopt(M_TOP_PAD, 256 << 10);
	mallopt(M_TRIM_THRESHOLD, 4 << 20);
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
#ifdef PR_SET_IO_FLUSHER
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0)
		fs_log(LOG_DEBUG, "PR_SET_IO_FLUSHER: %s", strerror(errno));
#endif
	/* Code and data as they are touched; not MCL_FUTURE, which would populate or pin the store's arena. */
	if (mlockall(MCL_CURRENT | MCL_ONFAULT) != 0)
		fs_log(LOG_DEBUG, "mlockall: %s", strerror(errno));
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, MAIN_OOM_SCORE, strlen(MAIN_OOM_SCORE)) < 0)
		fs_log(LOG_DEBUG, "oom_score_adj: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* --- the store -------------------------------------------------------------------------------------------------- */

static unsigned main_workers(uint64_t ram)
{
	uint64_t n = ram / MAIN_RAM_PER_WORKER;

	return n < MAIN_WORKERS_MIN ? MAIN_WORKERS_MIN : n > MAIN_WORKERS_MAX ? MAIN_WORKERS_MAX : (unsigned)n;
}

/*
 * The largest power of two that all workers' buffers together can be without taking much of ram.  1 MiB against 256 KiB
 * made cold sequential reads half as fast again.
 */
static size_t main_io_bytes(uint64_t ram)
{
	size_t bytes = SS_IO_MAX;

	while (bytes > MAIN_IO_MIN && bytes > ram / 100)
		bytes /= 2;
	return bytes;
}

/* Trouble with the swap disk. */
static void main_report(void *ctx, const char *line)
{
	(void)ctx;
	fs_log(LOG_WARNING, "%s", line);
}

static int main_open_store(struct main_run *run, unsigned workers, size_t io_bytes)
{
	const struct options *opt = run->opt;
	struct swapstore_config config = {
		.ram_bytes = opt->ram_bytes,
		.ram_most = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE),
		.size_bytes = opt->size_bytes,
		.swap_path = opt->swap_path,
		.swap_bytes = opt->swap_bytes,
		.contexts = workers + 1, /* the notifier's answers may read, too */
		.io_bytes = MAIN_IO_MIN, /* for larger reads workers lend their own */
		.engine = RING_AUTO,
		.reserve_bytes = opt->reserve_bytes,
		.place = placement_place,
		.place_ctx = run->opt,
		.may_take = pressure_may_take,
		.may_take_ctx = run->pressure,
		.report = main_report,
		.read_through = opt->cache == SPILLFS_CACHE_KERNEL,
	};
	uint64_t taken = session_bytes(workers, io_bytes);
	uint64_t least = swapstore_ram_min(&config) + taken;
	int err = 0;

	if (opt->ram_bytes < least) {
		snprintf(run->why, sizeof(run->why), "ram=%llu is too small: at least %lluk needed",
			 (unsigned long long)opt->ram_bytes, (unsigned long long)((least + 1023) >> 10));
		return -EINVAL;
	}
	config.ram_taken = taken;
	err = swapstore_open(&config, &run->fs.store, run->why, sizeof(run->why));
#ifdef SPILLFS_FAULTS
	if (err == 0)
		faults_install(run->fs.store);
#endif
	return err;
}

/* --- one run, from the checks to the end ------------------------------------------------------------------------ */

/* Lets go of the terminal and of the directory it was started in. */
static void main_detach(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	fs_log_to_syslog();
	setsid();
	if (chdir("/") != 0)
		fs_log(LOG_DEBUG, "chdir /: %s", strerror(errno));
	if (fd < 0)
		return;
	for (int std = STDIN_FILENO; std <= STDERR_FILENO; std++)
		dup2(fd, std);
	if (fd > STDERR_FILENO)
		close(fd);
}

/* The mount serves: tells the parent, who exits, and systemd. */
static void main_ready(void *ctx)
{
	struct main_run *run = ctx;
	char text[64];

	if (run->report_fd >= 0) {
		main_detach();
		if (write(run->report_fd, "R", 1) != 1)
			fs_log(LOG_WARNING, "the parent has gone: %s", strerror(errno));
		close(run->report_fd);
		run->report_fd = -1;
	}
	snprintf(text, sizeof(text), "READY=1\nMAINPID=%ld", (long)getpid());
	main_notify(text);
}

static int main_mount_and_serve(struct main_run *run, unsigned workers, size_t io_bytes)
{
	const struct options *opt = run->opt;
	struct fs *fs = &run->fs;
	int err = fs_init(fs, opt->mode, opt->uid, opt->gid);

	if (err != 0) {
		snprintf(run->why, sizeof(run->why), "cannot create the root directory: %s", strerror(-err));
		return err;
	}
	err = session_mount(fs, opt, workers, io_bytes, &run->session, run->why, sizeof(run->why));
	if (err == 0) {
		session_guard(run->session, &run->guard);
		space_mounted(fs);
		err = session_serve(run->session, main_ready, run, run->why, sizeof(run->why));
		main_notify("STOPPING=1");
		session_destroy(run->session);
	}
	fs_destroy(fs);
	return err;
}

static void main_quota(struct quota_table *quota, bool on, const struct options_hardlimit *limit)
{
	quota->on = on;
	quota->pages_limit = quota_limit_pages(limit->block_bytes);
	quota->inodes_limit = limit->inodes;
}

static int main_run(struct options *opt, int report_fd)
{
	struct main_run run = { .opt = opt, .report_fd = report_fd };
	const unsigned workers = main_workers(opt->ram_bytes);
	const size_t io_bytes = main_io_bytes(opt->ram_bytes);
	int err = 0;

	fs_log_start(opt->debug);
	main_block_signals();
	guard_start(&run.guard);
	main_protect();
	run.fs.cache = opt->cache;
	run.fs.inodes_limit = opt->inodes_limit;
	run.fs.mounter = getuid();
	run.fs.options = opt;
	run.fs.atime = opt->atime;
	run.fs.nodiratime = opt->nodiratime;
	run.fs.inode32 = opt->inode32;
	run.fs.acl = !opt->noacl;
	main_quota(&run.fs.quota.kind[QUOTA_USER], opt->usrquota, &opt->usr_hardlimit);
	main_quota(&run.fs.quota.kind[QUOTA_GROUP], opt->grpquota, &opt->grp_hardlimit);
	run.fs.quota.limits_pages = opt->usr_hardlimit.block_bytes != 0 || opt->grp_hardlimit.block_bytes != 0;
	err = precheck_mountpoint(opt, run.why, sizeof(run.why));
	if (err == 0)
		err = precheck_swap(opt, run.why, sizeof(run.why));
	if (err == 0) {
		space_init(&run.fs, opt->ram_bytes);
		run.fs.groups = options_groups_find(opt->mountpoint);
		run.pressure = run.fs.groups != NULL ? pressure_create(&run.fs) : NULL;
		err = run.pressure != NULL ? 0 : -ENOMEM;
	}
	if (err == 0)
		err = main_open_store(&run, workers, io_bytes);
	if (err == 0) {
		pressure_start(run.pressure);
		err = main_mount_and_serve(&run, workers, io_bytes);
		pressure_stop(run.pressure);
		swapstore_close(run.fs.store);
	}
	pressure_destroy(run.pressure);
	options_groups_free(run.fs.groups);
	guard_stop(&run.guard);
	if (err != 0)
		fs_log(LOG_ERR, "%s", run.why);
	if (run.report_fd >= 0)
		close(run.report_fd);
	return err == 0 ? EXIT_SUCCESS : MAIN_EXIT_FAILED;
}

/* --- parent and child ------------------------------------------------------------------------------------------- */

/* The child says "ready" by one byte; its end without one is a failure, of which it has said why. */
static int main_await(pid_t child, int fd)
{
	char byte = 0;
	int status = 0;
	ssize_t n = 0;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return EXIT_SUCCESS;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		fprintf(stderr, "spillfs: the daemon was killed at its start by signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : MAIN_EXIT_FAILED;
}

static int main_daemon(struct options *opt)
{
	int fds[2];
	pid_t child = 0;
	int status = 0;

	if (pipe2(fds, O_CLOEXEC) != 0) {
		fprintf(stderr, "spillfs: pipe: %s\n", strerror(errno));
		return MAIN_EXIT_FAILED;
	}
	child = fork();
	if (child == 0) {
		close(fds[0]);
		return main_run(opt, fds[1]);
	}
	close(fds[1]);
	if (child > 0) {
		status = main_await(child, fds[0]);
	} else {
		fprintf(stderr, "spillfs: fork: %s\n", strerror(errno));
		status = MAIN_EXIT_FAILED;
	}
	close(fds[0]);
	return status;
}

int main(int argc, char **argv)
{
	struct options opt;
	char why[MAIN_WHY_BYTES] = "";
	int status = 0;

	if (options_parse(argc, argv, &opt, why, sizeof(why)) != 0) {
		fprintf(stderr, "spillfs: %s\n", why);
		status = MAIN_EXIT_USAGE;
	} else if (opt.help) {
		fputs(options_help(), stdout);
	} else if (opt.version) {
		printf("spillfs %s\n", SPILLFS_VERSION);
	} else if (opt.remount) {
		if (remount(&opt, why, sizeof(why)) != 0) {
			fprintf(stderr, "spillfs: %s\n", why);
			status = MAIN_EXIT_FAILED;
		}
	} else {
		status = opt.foreground ? main_run(&opt, -1) : main_daemon(&opt);
	}
	options_free(&opt);
	return status;
}
