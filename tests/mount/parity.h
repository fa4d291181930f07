/* SPDX-License-Identifier: MIT */
/*
 * parity.h: the state of a run of parity, and how its steps are written.
 *
 * A run is a number of episodes, each with new, empty directories and in a process of its own; an episode is a
 * number of steps.  A step's random numbers follow from (seed, episode, step) alone, never from what earlier steps
 * did, so that an episode can be repeated with steps left out: that is how a failure is shrunk.
 *
 * A step: pick, par_log(), PAR_BOTH(): do it on side 0 and on side 1, par_same().  What differs goes to
 * par_differ(), which ends the process unless the list of explained differences has it.
 */
#ifndef TESTS_MOUNT_PARITY_H
#define TESTS_MOUNT_PARITY_H

#include "tests/mount/splitmix.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAR_PATH     4200 /* a path of PATH_MAX and more must fit */
#define PAR_SHOWN    100  /* bytes of a path in the log */
#define PAR_LOG	     25
#define PAR_LOG_LINE 300
#define PAR_IO_MAX   (256U << 10)
#define PAR_FDS	     32
#define PAR_MAPS     6
#define PAR_DIRS     9
#define PAR_FILES    18
#define PAR_OPS_MAX  96
#define PAR_LISTED   96 /* lines in the list of differences */

/* Every directory that a step may pick; par_make_dirs() makes the first ones. */
extern const char *const par_dirs[PAR_DIRS];

struct par_fd {
	bool used, regular, direct, path_only, directory;
	int flags, fd[2];
	char path[PAR_SHOWN];
};

struct par_map {
	bool used, private, writable;
	int fd[2];
	unsigned char *addr[2];
	off_t off;
	size_t len;
};

struct par_side {
	const char *name; /* for messages */
	const char *path; /* the directory given */
	int root;	  /* of the episode: where the calls are made from */
};

/* What a call did on one side. */
struct par_outcome {
	long rc;
	int err;
};

/* A known difference: what par_differ() makes of it matches pattern. */
struct par_listed {
	char *pattern, *reason;
	bool stop; /* the two sides go different ways after it: the episode ends */
};

/* In memory that the episodes' processes share. */
struct par_shared {
	uint64_t calls;
	uint64_t tries[PAR_OPS_MAX], successes[PAR_OPS_MAX];
	uint64_t hits[PAR_LISTED];
	uint64_t bytes;	     /* compared at the end of episodes */
	uint64_t stopped;    /* episodes that ended at a difference of the list */
	char difference[1024]; /* what ended the last process */
};

struct par {
	/* set at start */
	struct par_side side[2]; /* 0: under test, 1: believed */
	const char *mode;	 /* first word of each difference: which mount this is */
	uint64_t seed;
	unsigned long episodes, first_episode, steps;
	const char *without; /* names of steps, with commas; or NULL */
	bool full, survey, quiet;
	struct par_listed listed[PAR_LISTED];
	unsigned nlisted;
	struct par_shared *shared;
	unsigned char *wbuf, *rbuf[2]; /* PAR_IO_MAX bytes each, page-aligned */
	/* of an episode */
	uint64_t episode, rng;
	uint64_t max_size;   /* of its files, mostly */
	bool map_holes;	     /* mappings may touch holes */
	bool loose_holes;    /* a step was done after which tmpfs holds zeroes where spillfs has a hole */
	unsigned allocated;  /* times that fallocate() set pages aside: a second time makes data of them in tmpfs */
	bool diverged;
	time_t began;
	struct par_fd fd[PAR_FDS];
	struct par_map map[PAR_MAPS];
	/* of a step */
	unsigned long step;
	const char *op;
	unsigned op_index;
	unsigned actor; /* who makes the calls: see par_become() */
	char log[PAR_LOG][PAR_LOG_LINE];
	unsigned long logged;
};

struct par_op {
	const char *name;
	unsigned weight;
	void (*run)(struct par *p);
};

/* --- parity.c: running -------------------------------------------------------------------------------------------- */

_Noreturn void par_die(const char *what);
void par_log(struct par *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The step's calls are made as this user from now on: 0 is root, 1 and 2 share a group, 3 is alone. */
void par_become(struct par *p, unsigned actor);
void par_enter(struct par *p, int s);

/* --- parity_check.c: comparing ------------------------------------------------------------------------------------ */

/* Ends the process, or returns if the list explains it.  field: what differs, in a word or two. */
void par_differ(struct par *p, const char *field, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void par_load_list(struct par *p, const char *path);
/* Both sides returned the same; returns whether they succeeded.  The same for calls that return a descriptor. */
bool par_same(struct par *p, const struct par_outcome o[2]);
bool par_same_fds(struct par *p, const struct par_outcome o[2]);
void par_same_bytes(struct par *p, const void *a, const void *b, size_t len, off_t at);
/* Returns whether atime and mtime agree. */
bool par_same_stat(struct par *p, const struct stat *a, const struct stat *b, const char *what);
void par_same_fstat(struct par *p, struct par_fd *h);
void par_same_lstat(struct par *p, const char *path);
/* Data and holes of two open files, in full. */
void par_same_content(struct par *p, int a, int b, const char *what);
/* The names of a directory, sorted, each with its type: one text, to be freed.  NULL and errno. */
char *par_listing(int fd, bool *numbers_agree);
void par_same_xattrs(struct par *p, const char *path);
void par_same_trees(struct par *p);
/* Which times change: all that can be reached by name, before and after. */
struct par_times;
struct par_times *par_times_take(struct par *p);
void par_times_compare(struct par *p, struct par_times *before);

/* --- picking ------------------------------------------------------------------------------------------------------ */

static inline uint64_t par_below(struct par *p, uint64_t n)
{
	return splitmix_next(&p->rng) % n;
}

static inline bool par_chance(struct par *p, unsigned percent)
{
	return par_below(p, 100) < percent;
}

#define PAR_PICK(p, array) ((array)[par_below((p), sizeof(array) / sizeof((array)[0]))])

/* parity.c.  A path relative to the side's root; par_pick_odd: mostly that, but now and then one that is odd. */
void par_pick_path(struct par *p, char *path);
void par_pick_odd(struct par *p, char *path);
void par_pick_any(struct par *p, char *path); /* a file or a directory */
struct par_fd *par_pick_fd(struct par *p);    /* any slot: unused ones have descriptors of -1 */
struct par_fd *par_pick_regular(struct par *p); /* a regular file that is open, or NULL */
void par_pick_range(struct par *p, off_t *off, size_t *len);
void par_fill(struct par *p, size_t len);
void par_fd_close(struct par_fd *h);
struct par_fd *par_fd_keep(struct par *p, const struct par_outcome o[2], int flags, const char *path);
void par_map_close(struct par_map *m);

static inline struct par_outcome par_outcome(long rc)
{
	return (struct par_outcome){ rc, rc < 0 ? errno : 0 };
}

/* Does the call on both sides, from the side's root; s is the side's number in it, and p the run. */
#define PAR_BOTH(o, call)                           \
	for (int s = 0; s < 2; s++) {               \
		par_enter(p, s);                    \
		errno = 0;                          \
		(o)[s] = par_outcome((long)(call)); \
	}

/* Each of these tables belongs to a file, ends with a NULL name, and is part of what a step may be. */
extern const struct par_op par_data_ops[], par_range_ops[], par_map_ops[], par_name_ops[], par_dir_ops[],
	par_attr_ops[], par_xattr_ops[], par_lock_ops[];

/* Where a map's addresses are bad: runs fn with the signal turned into -1 and EFAULT-like EIDRM. parity_maps.c */
void par_maps_catch_sigbus(void);

#endif
