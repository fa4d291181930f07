/* SPDX-License-Identifier: MIT */
/*
 * spillctl_file: the verbs about single files: stat, evict, pin, unpin.  Each names regular files, or with -r
 * directories, and asks about each file through the file itself (fuse-fs/ctl.h).  One thread, no locks, no state that
 * outlives a command.  A file that fails is complained of, and the others are done all the same.
 */
#include "tools/spillctl.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES 4096

/* One command, while it goes from file to file. */
struct file_job {
	const char *verb;
	/* Does it to one open file.  0 or -errno; what else there is to say it has printed. */
	int (*run)(struct file_job *job, int fd, const char *path, const struct stat *st);
	bool recursive, json;
	bool failed;
	json_t *files; /* stat --json: an array; NULL when memory ran out */
	uint64_t nfiles;
	struct spillfs_file_stat total; /* stat: of all files */
	uint64_t total_size, total_holes;
};

/* --- what may go wrong ---------------------------------------------------------------------------------------------- */

static const char *file_why(const char *verb, int err)
{
	switch (-err) {
	case EPERM:
		return "only its owner, who mounted, and root may do that";
	case EOPNOTSUPP:
		return "mounted with noswap, so there is nowhere to evict it to";
	case EBUSY:
		return "it is pinned (spillctl unpin)";
	case ENOMEM:
		return "it does not fit into the RAM that may be pinned (pinned_limit_bytes of spillctl status --json)";
	case ENOSPC:
		return strcmp(verb, "evict") == 0 ? "swap is full" : "no memory left under ram=";
	case EIO:
		return strcmp(verb, "evict") == 0 ? "the swap disk refuses writes"
						  : "a page of it could not be read back from swap";
	default:
		return strerror(-err);
	}
}

/* An error means what it says in file_why() only if the daemon was the one to say it. */
static void file_complain(struct file_job *job, int fd, const char *path, int err)
{
	struct spillfs_status st = { .version = SPILLFS_CTL_VERSION };

	job->failed = true;
	if (err == -EPROTO || err == -ENOTTY || (fd >= 0 && ioctl(fd, SPILLFS_IOC_STATUS, &st) != 0))
		spillctl_complain(path, err);
	else
		fprintf(stderr, "spillctl: %s: %s: %s\n", job->verb, path, fd < 0 ? strerror(-err) : file_why(job->verb, err));
}

/* --- stat ----------------------------------------------------------------------------------------------------------- */

static uint64_t file_holes(const struct stat *st, const struct spillfs_file_stat *fs)
{
	return fs->end_page > fs->below_end_pages && st->st_size > 0 ? fs->end_page - fs->below_end_pages : 0;
}

static void file_print_row(uint64_t size, uint64_t holes, const struct spillfs_file_stat *fs, const char *name)
{
	const uint64_t bytes[] = {
		size,
		fs->resident_pages * PAGE_BYTES,
		fs->swapped_pages * PAGE_BYTES,
		(fs->zero_pages + fs->reserved_pages) * PAGE_BYTES,
		holes * PAGE_BYTES,
		fs->dirty_pages * PAGE_BYTES,
		fs->pinned_pages * PAGE_BYTES,
	};
	char buf[32];

	for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++)
		printf("%11s", spillctl_human_bytes(bytes[i], buf, sizeof(buf)));
	printf(" %c %s\n", fs->pinned ? 'p' : ' ', name);
}

static json_t *file_to_json(uint64_t size, uint64_t holes, const struct spillfs_file_stat *fs)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "size_bytes", (json_int_t)size,
			 "resident_pages", (json_int_t)fs->resident_pages, "resident_bytes",
			 (json_int_t)(fs->resident_pages * PAGE_BYTES), "swapped_pages", (json_int_t)fs->swapped_pages,
			 "zero_pages", (json_int_t)fs->zero_pages, "reserved_pages", (json_int_t)fs->reserved_pages,
			 "hole_pages", (json_int_t)holes, "dirty_pages", (json_int_t)fs->dirty_pages, "pinned_pages",
			 (json_int_t)fs->pinned_pages);
}

static int file_add_json(struct file_job *job, const char *path, uint64_t size, uint64_t holes,
			 const struct spillfs_file_stat *fs)
{
	json_t *file = file_to_json(size, holes, fs);

	/* A name that is not UTF-8 cannot be in JSON as it is: better no name than no numbers. */
	if (file != NULL && json_object_set_new(file, "path", json_string(path)) != 0)
		json_object_set_new(file, "path", json_null());
	if (file != NULL)
		json_object_set_new(file, "pinned", json_boolean(fs->pinned));
	return json_array_append_new(job->files, file) == 0 ? 0 : -ENOMEM;
}

static int file_run_stat(struct file_job *job, int fd, const char *path, const struct stat *st)
{
	const uint64_t size = (uint64_t)st->st_size;
	struct spillfs_file_stat fs = { .version = SPILLFS_CTL_VERSION, .end_page = (size + PAGE_BYTES - 1) / PAGE_BYTES };
	uint64_t holes = 0;

	if (ioctl(fd, SPILLFS_IOC_FILE_STAT, &fs) != 0)
		return -errno;
	holes = file_holes(st, &fs);
	job->nfiles++;
	job->total_size += size;
	job->total_holes += holes;
	job->total.resident_pages += fs.resident_pages;
	job->total.swapped_pages += fs.swapped_pages;
	job->total.zero_pages += fs.zero_pages;
	job->total.reserved_pages += fs.reserved_pages;
	job->total.dirty_pages += fs.dirty_pages;
	job->total.pinned_pages += fs.pinned_pages;
	if (job->json)
		return file_add_json(job, path, size, holes, &fs);
	if (job->nfiles == 1)
		printf("%11s%11s%11s%11s%11s%11s%11s\n", "size", "resident", "swapped", "zero", "hole", "dirty", "pinned");
	file_print_row(size, holes, &fs, path);
	return 0;
}

/* What stands at the end: all files together. */
static enum exit_code file_end_stat(struct file_job *job)
{
	json_t *root = NULL;

	if (job->json) {
		root = json_pack("{s:O, s:o}", "files", job->files, "total",
				 file_to_json(job->total_size, job->total_holes, &job->total));
		json_decref(job->files);
		if (root == NULL) {
			fprintf(stderr, "spillctl: stat: %s\n", strerror(ENOMEM));
			return EXIT_FAILED;
		}
		(void)!json_dumpf(root, stdout, JSON_INDENT(2)); /* what stdout did not take, spillctl_flush() says */
		putchar('\n');
		json_decref(root);
	} else if (job->nfiles > 1) {
		file_print_row(job->total_size, job->total_holes, &job->total, "total");
	}
	return spillctl_flush();
}

/* --- evict, pin, unpin ------------------------------------------------------------------------------------------------ */

static int file_walk(int fd, unsigned long cmd, struct spillfs_file_walk *walk)
{
	*walk = (struct spillfs_file_walk){ .next_page = SPILLFS_WALK_BEGIN };
	while (!walk->done) {
		walk->version = SPILLFS_CTL_VERSION;
		if (ioctl(fd, cmd, walk) != 0)
			return -errno;
	}
	return 0;
}

static void file_print_moved(const char *path, uint64_t pages, const char *what)
{
	char buf[32];

	printf("%s: %" PRIu64 " pages (%s) %s\n", path, pages,
	       spillctl_human_bytes(pages * PAGE_BYTES, buf, sizeof(buf)), what);
}

static int file_run_evict(struct file_job *job, int fd, const char *path, const struct stat *st)
{
	struct spillfs_file_walk walk;
	int err = file_walk(fd, SPILLFS_IOC_FILE_EVICT, &walk);

	(void)job;
	(void)st;
	/* Also after an error: some may have gone before it. */
	if (err == 0 || walk.moved_pages > 0)
		file_print_moved(path, walk.moved_pages, "evicted");
	return err;
}

/* fsync() has the kernel send what it holds, so that it is pinned now and counts against the limit now. */
static int file_run_pin(struct file_job *job, int fd, const char *path, const struct stat *st)
{
	struct spillfs_file_walk walk;
	int err = fsync(fd) == 0 ? file_walk(fd, SPILLFS_IOC_FILE_PIN, &walk) : -errno;

	(void)job;
	(void)st;
	if (err == 0)
		file_print_moved(path, walk.moved_pages, "brought in, all pinned");
	return err;
}

static int file_run_unpin(struct file_job *job, int fd, const char *path, const struct stat *st)
{
	struct spillfs_file_walk walk;

	(void)job;
	(void)path;
	(void)st;
	return file_walk(fd, SPILLFS_IOC_FILE_UNPIN, &walk);
}

/* --- from file to file -------------------------------------------------------------------------------------------------- */

/* Not a device or FIFO, whose open() may do something or wait: the caller has looked, and it is looked at again. */
static void file_do_one(struct file_job *job, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), err = 0;

	if (fd < 0 || fstat(fd, &st) != 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode))
		err = -EINVAL;
	else
		err = job->run(job, fd, path, &st);
	if (err != 0)
		file_complain(job, fd, path, err);
	if (fd >= 0)
		close(fd);
}

static void file_refuse(struct file_job *job, const char *path, const char *why)
{
	job->failed = true;
	fprintf(stderr, "spillctl: %s: %s: %s\n", job->verb, path, why);
}

static void file_visit(struct file_job *job, FTS *fts, FTSENT *ent)
{
	const bool named = ent->fts_level == FTS_ROOTLEVEL;

	switch (ent->fts_info) {
	case FTS_D:
		if (!job->recursive) {
			file_refuse(job, ent->fts_path, "is a directory (-r for all files below it)");
			fts_set(fts, ent, FTS_SKIP);
		}
		break;
	case FTS_F:
		file_do_one(job, ent->fts_path);
		break;
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		file_refuse(job, ent->fts_path, strerror(ent->fts_errno));
		break;
	case FTS_DP:
		break;
	default: /* a link, socket, FIFO or device: below a directory it is simply not one of the files */
		if (named)
			file_refuse(job, ent->fts_path, "not a regular file");
	}
}

/* Links that were named are followed, links met on the way are not; other mounts are left alone. */
static int file_for_each(struct file_job *job, char **paths)
{
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_XDEV | FTS_NOCHDIR, NULL);
	FTSENT *ent = NULL;
	int err = 0;

	if (fts == NULL)
		return -errno;
	while (errno = 0, (ent = fts_read(fts)) != NULL)
		file_visit(job, fts, ent);
	err = -errno;
	fts_close(fts);
	return err;
}

static enum exit_code file_main(struct file_job *job, int argc, char **argv)
{
	static const struct option options[] = {
		{ "recursive", no_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	const bool is_stat = job->run == file_run_stat;
	enum exit_code end = EXIT_OK;
	int opt = 0, err = 0;

	job->verb = argv[0];
	while ((opt = getopt_long(argc, argv, "rhj", options, NULL)) != -1) {
		if (opt == 'h')
			return spillctl_help();
		if (opt == '?')
			return spillctl_bad_option(argv);
		if (opt == 'j' && !is_stat)
			return spillctl_bad_usage("only stat and status have --json, not", job->verb);
		job->recursive |= opt == 'r';
		job->json |= opt == 'j';
	}
	if (optind == argc)
		return spillctl_bad_usage("no file given", job->verb);
	if (job->json && (job->files = json_array()) == NULL)
		err = -ENOMEM;
	if (err == 0)
		err = file_for_each(job, argv + optind);
	if (err != 0)
		file_refuse(job, argv[optind], strerror(-err));
	end = is_stat ? file_end_stat(job) : spillctl_flush();
	return job->failed ? EXIT_FAILED : end;
}

enum exit_code spillctl_stat(int argc, char **argv)
{
	return file_main(&(struct file_job){ .run = file_run_stat }, argc, argv);
}

enum exit_code spillctl_evict(int argc, char **argv)
{
	return file_main(&(struct file_job){ .run = file_run_evict }, argc, argv);
}

enum exit_code spillctl_pin(int argc, char **argv)
{
	return file_main(&(struct file_job){ .run = file_run_pin }, argc, argv);
}

enum exit_code spillctl_unpin(int argc, char **argv)
{
	return file_main(&(struct file_job){ .run = file_run_unpin }, argc, argv);
}
