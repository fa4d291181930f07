/* SPDX-License-Identifier: MIT */
/*
 * fsrandom: drives one random sequence of file system calls on two directory trees in lock-step and compares
 * every result, errno and byte: A is the file system under test, B an ordinary directory that is believed.
 *
 *    fsrandom [-s SEED] [-n OPS] [-f FILES] [-m MAX_FILE_BYTES] [-z] [-x] A B
 *
 * -z adds FALLOC_FL_ZERO_RANGE; -x makes one byte differ in the end, so that the run must fail (the tester's
 * own test).  Both directories must exist, empty.  A difference prints the seed, the last operations and what
 * differed, and ends with status 1.  fsrandom_data.c has the operations on open files, fsrandom_names.c those on
 * names and attributes, fsrandom_tree.c the comparison of whole trees.  One thread and one struct run; the
 * file-scope pointer serves the SIGBUS handler alone.
 */
#include "tests/mount/fsrandom.h"

#include <getopt.h>
#include <signal.h>
#include <time.h>

static struct run *fsr_running;

static const struct op fsr_ops[] = {
	{ "open", 60, fsr_op_open },
	{ "close", 20, fsr_op_close },
	{ "pread", 60, fsr_op_pread },
	{ "read", 40, fsr_op_read },
	{ "pwrite", 90, fsr_op_pwrite },
	{ "write", 60, fsr_op_write },
	{ "lseek", 15, fsr_op_lseek },
	{ "seek_data", 8, fsr_op_seek_data },
	{ "map", 25, fsr_op_map },
	{ "map_store", 50, fsr_op_map_store },
	{ "map_load", 40, fsr_op_map_load },
	{ "unmap", 20, fsr_op_unmap },
	{ "map_private", 15, fsr_op_map_private },
	{ "ftruncate", 20, fsr_op_ftruncate },
	{ "truncate", 10, fsr_op_truncate },
	{ "fallocate", 30, fsr_op_fallocate },
	{ "copy_range", 20, fsr_op_copy_range },
	{ "fsync", 15, fsr_op_fsync },
	{ "evict", 25, fsr_op_evict },
	{ "fstat", 20, fsr_op_fstat },
	{ "stat", 20, fsr_op_stat },
	{ "rename", 20, fsr_op_rename },
	{ "rename_dir", 4, fsr_op_rename_dir },
	{ "link", 15, fsr_op_link },
	{ "unlink", 15, fsr_op_unlink },
	{ "symlink", 10, fsr_op_symlink },
	{ "readlink", 10, fsr_op_readlink },
	{ "mkdir", 12, fsr_op_mkdir },
	{ "rmdir", 6, fsr_op_rmdir },
	{ "readdir", 10, fsr_op_readdir },
	{ "chmod", 10, fsr_op_chmod },
	{ "chown", 6, fsr_op_chown },
	{ "utimens", 12, fsr_op_utimens },
	{ "tmpfile", 8, fsr_op_tmpfile },
	{ "setxattr", 15, fsr_op_setxattr },
	{ "getxattr", 15, fsr_op_getxattr },
	{ "listxattr", 8, fsr_op_listxattr },
	{ "removexattr", 8, fsr_op_removexattr },
};

#define NOPS (sizeof(fsr_ops) / sizeof(fsr_ops[0]))

static void fsr_on_sigbus(int sig)
{
	(void)sig;
	fsr_differ(fsr_running, "SIGBUS inside a mapping that both files cover");
}

/* The files there are at the start; each side gets the same bytes in the same pieces. */
static void fsr_populate(struct run *r)
{
	char path[PATH_LEN];

	for (unsigned d = 0; d < NDIRS; d++) {
		for (int s = 0; s < 2; s++) {
			if (mkdirat(r->side[s].root, fsr_dirs[d], 0755) != 0)
				fsr_die(fsr_dirs[d]);
		}
	}
	for (unsigned i = 0; i < r->nfiles; i++) {
		uint64_t size = fsr_below(r, r->max_size);
		int fd[2];

		snprintf(path, sizeof(path), "%s/f%u", fsr_dirs[i % NDIRS], i);
		for (int s = 0; s < 2; s++) {
			fd[s] = openat(r->side[s].root, path, O_CREAT | O_EXCL | O_WRONLY, 0644);
			if (fd[s] < 0)
				fsr_die(path);
		}
		for (uint64_t off = 0; off < size; off += IO_MAX) {
			size_t len = size - off < IO_MAX ? size - off : IO_MAX;

			fsr_fill(r, len);
			for (int s = 0; s < 2; s++) {
				if (pwrite(fd[s], r->wbuf, len, (off_t)off) != (ssize_t)len)
					fsr_die(path);
			}
		}
		close(fd[0]);
		close(fd[1]);
	}
}

static void fsr_step(struct run *r)
{
	unsigned total = 0, pick;

	for (unsigned i = 0; i < NOPS; i++)
		total += fsr_ops[i].weight;
	pick = (unsigned)fsr_below(r, total);
	for (unsigned i = 0; i < NOPS; i++) {
		if (pick < fsr_ops[i].weight) {
			fsr_ops[i].run(r);
			return;
		}
		pick -= fsr_ops[i].weight;
	}
}

/* -x: a file on each side, the same but for one byte, which the comparison must find. */
static void fsr_spoil(struct run *r)
{
	fsr_fill(r, 5000);
	for (int s = 0; s < 2; s++) {
		int fd = openat(r->side[s].root, "spoiled", O_CREAT | O_EXCL | O_WRONLY, 0600);

		r->wbuf[4500] ^= 1;
		if (fd < 0 || write(fd, r->wbuf, 5000) != 5000 || close(fd) != 0)
			fsr_die("spoiled");
	}
}

static void fsr_open_side(struct side *side, const char *path)
{
	side->path = path;
	side->root = open(path, O_RDONLY | O_DIRECTORY);
	if (side->root < 0)
		fsr_die(path);
}

static void fsr_buffers(struct run *r)
{
	if (posix_memalign((void **)&r->wbuf, 4096, IO_MAX) || posix_memalign((void **)&r->rbuf[0], 4096, IO_MAX) ||
	    posix_memalign((void **)&r->rbuf[1], 4096, IO_MAX))
		fsr_die("memory");
}

static bool fsr_parse(struct run *r, int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "s:n:f:m:zx")) != -1) {
		switch (opt) {
		case 's':
			r->seed = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			r->nops = strtoul(optarg, NULL, 0);
			break;
		case 'f':
			r->nfiles = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'm':
			r->max_size = strtoull(optarg, NULL, 0);
			break;
		case 'z':
			r->zero_range = true;
			break;
		case 'x':
			r->spoil = true;
			break;
		default:
			return false;
		}
	}
	return argc - optind == 2 && r->nfiles > 0 && r->max_size > 0;
}

int main(int argc, char **argv)
{
	struct run *r = calloc(1, sizeof(*r));
	struct sigaction sa = { .sa_handler = fsr_on_sigbus };
	uint64_t bytes;

	if (!r)
		return 1;
	*r = (struct run){
		.seed = (uint64_t)time(NULL) << 16 ^ (uint64_t)getpid(), .nops = 3000, .nfiles = 40, .max_size = 2 << 20
	};
	if (!fsr_parse(r, argc, argv)) {
		fprintf(stderr, "usage: fsrandom [-s SEED] [-n OPS] [-f FILES] [-m BYTES] [-z] [-x] A B\n");
		return 2;
	}
	printf("fsrandom: seed %" PRIu64 "\n", r->seed);
	fflush(stdout);
	umask(022);
	r->rng = r->seed;
	fsr_running = r;
	sigaction(SIGBUS, &sa, NULL);
	fsr_open_side(&r->side[0], argv[optind]);
	fsr_open_side(&r->side[1], argv[optind + 1]);
	fsr_buffers(r);
	fsr_populate(r);
	for (r->done = 0; r->done < r->nops; r->done++)
		fsr_step(r);
	if (r->spoil)
		fsr_spoil(r);
	fsr_close_all(r);
	bytes = fsr_compare_trees(r);
	printf("fsrandom: %lu operations (%lu succeeded), %" PRIu64 " bytes in the end, no difference\n", r->nops,
	       r->succeeded, bytes);
	return 0;
}
