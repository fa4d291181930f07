/* SPDX-License-Identifier: MIT */
/*
 * options: the command line: spillfs [-f] [-d] [-o OPT[,OPT...]] MOUNTPOINT, or SOURCE MOUNTPOINT -o ... as
 * mount(8) calls it.  Parsing has no side effects but reading what this machine has (memory, cgroup limit).
 */
#ifndef FUSE_FS_OPTIONS_H
#define FUSE_FS_OPTIONS_H

#include "fuse-fs/ctl.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct options {
	char *source;	  /* as mount(8) gave it, else "spillfs" */
	char *mountpoint; /* absolute, otherwise as given (nothing is looked up: it may hang) */
	bool foreground, debug, help, version;
	uint64_t size_bytes; /* 0: not given */
	uint64_t ram_bytes;  /* always set after options_parse() */
	char *swap_path;     /* NULL with noswap; else set */
	uint64_t swap_bytes; /* 0: not given */
	bool noswap;
	bool noatime;
	uint64_t inodes_limit; /* 0: none */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	enum spillfs_cache cache;
	char *fuse_opts; /* for libfuse, commas in values escaped: default_permissions,ro,nodev,allow_other,... */
};

/*
 * Returns 0, or -EINVAL with one line in why that names the offending option (exit status 2).
 * options_free() releases what it allocated in both cases.
 */
int options_parse(int argc, char **argv, struct options *opt, char *why, size_t why_len);
void options_free(struct options *opt);

/* Text for --help. */
const char *options_help(void);

/* "64m" -> bytes; k m g t (any case), and % of total where total is not 0.  0 or -EINVAL or -ERANGE. */
int options_parse_bytes(const char *text, uint64_t total, uint64_t *bytes);

/*
 * Bytes of memory this process may use: the machine's available memory, or less by a cgroup (v1 or v2) limit.
 * Page cache that the limit's owner could drop counts as available.  memavail.c
 */
uint64_t options_memory_available(void);

/* What the limits of the cgroup directory dir and of those above it, up to top, leave.  UINT64_MAX: no limit. */
uint64_t options_cgroup_available(const char *dir, const char *top, bool v2);

#endif
