/* SPDX-License-Identifier: MIT */
/*
 * options: the command line: spillfs [-f] [-d] [-o OPT[,OPT...]] MOUNTPOINT, or SOURCE MOUNTPOINT -o ... as
 * mount(8) calls it.  Parsing has no side effects but reading what this machine has (memory, cgroup limit).
 *
 *   options.c  the command line, defaults, what must fit together   options_table.c  what -o knows
 *   options_values.c  what may stand behind the equals sign
 */
#ifndef FUSE_FS_OPTIONS_H
#define FUSE_FS_OPTIONS_H

#include "fuse-fs/ctl.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What was said, by -o: a default is not.  For remount and `spillctl set`, which change nothing else. */
enum options_given {
	OPTIONS_SIZE = 1 << 0, /* size= or nr_blocks= */
	OPTIONS_RAM = 1 << 1,
	OPTIONS_SWAPSIZE = 1 << 2,
	OPTIONS_INODES = 1 << 3,
	OPTIONS_SWAP = 1 << 4, /* swap= */
	OPTIONS_NOSWAP = 1 << 5,
	OPTIONS_CACHE = 1 << 6,
	OPTIONS_RESERVE = 1 << 7,
	OPTIONS_INODE_BITS = 1 << 8,
	OPTIONS_HUGE = 1 << 9,
	OPTIONS_MPOL = 1 << 10,
	OPTIONS_USRQUOTA = 1 << 11,
	OPTIONS_GRPQUOTA = 1 << 12,
	OPTIONS_USR_BLOCKS = 1 << 13, /* usrquota_block_hardlimit=, and so on */
	OPTIONS_USR_INODES = 1 << 14,
	OPTIONS_GRP_BLOCKS = 1 << 15,
	OPTIONS_GRP_INODES = 1 << 16,
	OPTIONS_OWNER = 1 << 17, /* mode=, uid= or gid= */
	OPTIONS_ACL = 1 << 18,	 /* acl or noacl */
};

/* mpol=: where the arena's memory comes from. */
#define OPTIONS_NODES 1024
#define OPTIONS_NODE_WORDS (OPTIONS_NODES / (8 * sizeof(unsigned long)))
struct options_mpol {
	enum { MPOL_IS_DEFAULT, MPOL_IS_PREFER, MPOL_IS_BIND, MPOL_IS_INTERLEAVE, MPOL_IS_LOCAL } mode;
	bool is_static, is_relative;
	bool all_nodes; /* interleave with no list */
	unsigned long nodes[OPTIONS_NODE_WORDS];
};

/* A quota that nobody's own limit says otherwise about; 0: none. */
struct options_hardlimit {
	uint64_t block_bytes;
	uint64_t inodes;
};

struct options {
	char *source;	  /* as mount(8) gave it, else "spillfs" */
	char *mountpoint; /* absolute, otherwise as given (nothing is looked up: it may hang) */
	bool foreground, debug, help, version;
	bool remount;	       /* change a mount that is there */
	unsigned given;	       /* enum options_given */
	uint64_t size_bytes;   /* 0: not given */
	uint64_t ram_bytes;    /* always set after options_parse(), unless remounting */
	char *swap_path;       /* NULL with noswap; else set */
	uint64_t swap_bytes;   /* 0: not given */
	uint64_t reserve_bytes; /* RAM, then swap, that is ours from the start */
	bool noswap;
	enum spillfs_atime atime;
	bool nodiratime;
	bool noacl;	       /* no POSIX ACLs */
	bool inode32;	       /* inode numbers stay below 2^32 */
	uint64_t inodes_limit; /* 0: none */
	bool usrquota, grpquota;
	struct options_hardlimit usr_hardlimit, grp_hardlimit;
	_Atomic enum spillfs_huge huge;
	struct options_mpol mpol;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	enum spillfs_cache cache;
	unsigned long ms_set, ms_clear; /* MS_* of mount(2) that were said and denied, the last word counting */
	char *fuse_opts; /* for libfuse, commas in values escaped: default_permissions,ro,nodev,allow_other,... */
};

/*
 * Returns 0, or -EINVAL with one line in why that names the offending option (exit status 2).
 * options_free() releases what it allocated in both cases.
 */
int options_parse(int argc, char **argv, struct options *opt, char *why, size_t why_len);
void options_free(struct options *opt);

/* The rule for access times that these flags of mount(2) make. */
enum spillfs_atime options_atime_of(unsigned long ms_flags);

/* Text for --help. */
const char *options_help(void);

/* "64m" -> bytes; k m g t (any case), and % of total where total is not 0.  0 or -EINVAL or -ERANGE. */
int options_parse_bytes(const char *text, uint64_t total, uint64_t *bytes);

/* Visits the directory of each memory cgroup of this process, v1 and v2; top: where that hierarchy is mounted. */
void options_cgroups(void (*visit)(const char *dir, const char *top, bool v2, void *ctx), void *ctx);

/* In bytes, of the memory cgroup above this process that leaves the least room. */
struct options_room {
	uint64_t limit;
	uint64_t room;	/* what may still be charged; UINT64_MAX: no limit */
	uint64_t dirty; /* page cache that is dirty or being written; 0 where only the cold page cache was asked for */
};

/*
 * Of the cgroup directory dir and of those above it, up to top, whichever leaves the least.  Page cache counts as free
 * if it is cold, with all_cache if it is clean.
 */
void options_cgroup_levels(const char *dir, const char *top, bool v2, bool all_cache, struct options_room *least);

/*
 * The memory cgroups that this process is in at the moment, but none whose file system is mounted at except (absolute; or
 * NULL) or below: found before the mount is there, as a way to them that leads through it would have us wait for
 * ourselves.  NULL without memory.
 */
struct options_groups *options_groups_find(const char *except);
void options_groups_free(struct options_groups *groups);
void options_groups_room(const struct options_groups *groups, bool all_cache, struct options_room *least);

/*
 * Bytes of memory this process may use: what the machine has available, or less by its groups (NULL: those it is in at
 * the moment), cold page cache as free.
 */
uint64_t options_memory_available(const struct options_groups *groups);

#endif
