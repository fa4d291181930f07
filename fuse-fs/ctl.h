/* SPDX-License-Identifier: MIT */
/*
 * ctl: the control interface of a mount: ioctls on any directory of it, or on the file that they are about.  Shared by the daemon and spillctl, so
 * it includes nothing of either.  Control travels through the mount itself: whoever can open a directory there
 * can ask, from any namespace, with no socket to place.
 *
 * A struct may grow at its end; both sides say its version, and a daemon refuses (EPROTO) one it does not know.
 */
#ifndef FUSE_FS_CTL_H
#define FUSE_FS_CTL_H

#include <linux/ioctl.h>
#include <stdint.h>

#define SPILLFS_CTL_VERSION 1
#define SPILLFS_CTL_OPCODES 64 /* FUSE opcodes 0 .. 63; what lies above is counted in [0] */

enum spillfs_engine { SPILLFS_ENGINE_NONE, SPILLFS_ENGINE_URING, SPILLFS_ENGINE_THREADS };
enum spillfs_swap_state { SPILLFS_SWAP_NONE, SPILLFS_SWAP_GOOD, SPILLFS_SWAP_FAILING };
enum spillfs_cache { SPILLFS_CACHE_KERNEL, SPILLFS_CACHE_NONE };
enum spillfs_atime { SPILLFS_ATIME_RELATIVE, SPILLFS_ATIME_NEVER, SPILLFS_ATIME_STRICT };
enum spillfs_huge { SPILLFS_HUGE_NEVER, SPILLFS_HUGE_ALWAYS, SPILLFS_HUGE_WITHIN_SIZE, SPILLFS_HUGE_ADVISE };

/* Every count is since the mount; every size is at this moment.  Members end in their unit. */
struct spillfs_status {
	uint32_t version; /* in and out: SPILLFS_CTL_VERSION */
	uint32_t pid;	  /* of the daemon, in its own pid namespace */
	uint32_t io_engine;
	uint32_t cache_mode;
	uint32_t swap_state; /* enum spillfs_swap_state; failing: gets no pages but for trials, RAM is all there is */
	uint32_t padding;
	uint64_t size_limit_bytes;
	uint64_t size_used_bytes;
	uint64_t ram_limit_bytes;
	uint64_t ram_used_bytes;
	uint64_t frames_used_bytes;
	uint64_t swap_limit_bytes;
	uint64_t swap_used_bytes;
	uint64_t swap_bad_bytes;
	uint64_t inodes_limit; /* 0: no limit */
	uint64_t inodes_used;
	uint64_t swapin_pages_total;
	uint64_t swapout_pages_total;
	uint64_t swapin_errors_total;
	uint64_t swapout_errors_total;
	uint64_t checksum_errors_total;
	uint64_t zero_pages_total;
	uint64_t clean_evictions_total; /* pages dropped from RAM with no write: their slot held the same bytes */
	uint64_t readthrough_pages_total; /* pages that went from swap to the kernel and took no frame */
	uint64_t bookkeeping_bytes; /* part of ram_used_bytes: trees, slot map, inodes, names */
	uint64_t pinned_bytes;	    /* part of frames_used_bytes: never evicted */
	uint64_t pinned_limit_bytes; /* the most of it there may be, at this moment */
	uint64_t reserved_bytes;     /* RAM and swap that is the mount's whether used or not (reserve=) */
	uint64_t writearound_pages_total; /* part of swapout_pages_total: from the kernel to swap with no frame */
	uint64_t requests_total[SPILLFS_CTL_OPCODES];
	uint32_t atime;	     /* enum spillfs_atime */
	uint32_t nodiratime;
	uint32_t inode_bits; /* 32 or 64 */
	uint32_t huge;	     /* enum spillfs_huge */
};

/* Anyone who can open the directory may ask. */
#define SPILLFS_IOC_STATUS _IOWR('S', 1, struct spillfs_status)

/* What a SET is about. */
enum spillfs_set_mask {
	SPILLFS_SET_SIZE = 1 << 0,
	SPILLFS_SET_RAM = 1 << 1,
	SPILLFS_SET_SWAPSIZE = 1 << 2,
	SPILLFS_SET_INODES = 1 << 3,
	SPILLFS_SET_INODE_BITS = 1 << 4,
	SPILLFS_SET_ATIME = 1 << 5, /* and nodiratime */
	SPILLFS_SET_HUGE = 1 << 6,
	SPILLFS_SET_MPOL = 1 << 7,
	/* Refused unless it is as it is: */
	SPILLFS_SET_CACHE = 1 << 8,
	SPILLFS_SET_SWAP = 1 << 9,
	SPILLFS_SET_NOSWAP = 1 << 10,
	SPILLFS_SET_RESERVE = 1 << 11,
	SPILLFS_SET_USRQUOTA = 1 << 12,
	SPILLFS_SET_GRPQUOTA = 1 << 13,
	SPILLFS_SET_USR_BLOCKS = 1 << 14, /* the quotas' hard limits, as tmpfs: an id's own is set by SPILLFS_IOC_QUOTA_SET */
	SPILLFS_SET_USR_INODES = 1 << 15,
	SPILLFS_SET_GRP_BLOCKS = 1 << 16,
	SPILLFS_SET_GRP_INODES = 1 << 17,
	SPILLFS_SET_ACL = 1 << 18,
	SPILLFS_SET_ALL = (1 << 19) - 1,
};

enum spillfs_mpol_flags { SPILLFS_MPOL_STATIC = 1, SPILLFS_MPOL_RELATIVE = 2, SPILLFS_MPOL_ALL = 4 };

/* In: what shall be; out, when error is 0: what was, so that sending it once more takes the change back. */
struct spillfs_set {
	uint32_t version;
	uint32_t mask;	/* enum spillfs_set_mask */
	int32_t error;	/* out: 0, or an errno, and then nothing has changed and why[] is one line */
	uint32_t cache_mode, atime, nodiratime, inode_bits, huge, noacl;
	uint64_t size_bytes; /* 0: no limit */
	uint64_t ram_bytes, swap_bytes, reserve_bytes;
	uint64_t inodes_limit; /* 0: no limit */
	uint64_t usr_block_bytes, usr_inodes, grp_block_bytes, grp_inodes;
	uint32_t mpol_mode, mpol_flags; /* options.h; enum spillfs_mpol_flags */
	uint64_t mpol_nodes[16];
	char swap_path[1024];
	char why[256];
};

/*
 * On any directory of the mount; for the mounter and root (EPERM).  EBUSY: another change is under way.  Returns when it
 * is done: pages that a smaller cap has no room for are in swap then.
 */
#define SPILLFS_IOC_SET _IOWR('S', 2, struct spillfs_set)

/* Where the pages of one file are, as the daemon knows it: what the kernel has not sent yet is a hole here. */
struct spillfs_file_stat {
	uint32_t version;
	uint32_t pinned;	 /* out: 1 or 0 */
	uint64_t end_page;	 /* in: for below_end_pages */
	uint64_t resident_pages; /* in the daemon's RAM */
	uint64_t swapped_pages;	 /* in swap alone */
	uint64_t zero_pages;	 /* all zero: neither in RAM nor in swap */
	uint64_t reserved_pages; /* set aside by fallocate(2), never written */
	uint64_t below_end_pages; /* of all these, those below end_page */
	uint64_t dirty_pages;	 /* resident, and not in swap as well */
	uint64_t pinned_pages;	 /* resident, and never evicted */
};

/* The next part of an operation on all of a file; called until done. */
struct spillfs_file_walk {
	uint32_t version;
	uint32_t done;	      /* out: 1 or 0 */
	uint64_t next_page;   /* in and out: at first SPILLFS_WALK_BEGIN */
	uint64_t moved_pages; /* in and out: went, or were brought in, so far; at first 0 */
};

#define SPILLFS_WALK_BEGIN UINT64_MAX

enum spillfs_quota_set { SPILLFS_QUOTA_BLOCK = 1, SPILLFS_QUOTA_INODE = 2 };

/* What one user or group has, and may have at most; a limit of 0 is none. */
struct spillfs_quota {
	uint32_t version;
	uint32_t kind; /* in: 0 users, 1 groups */
	uint32_t id;   /* NEXT: in, the first to look at; out, the one that was found.  SET: in */
	uint32_t set;  /* SET: which limits; enum spillfs_quota_set */
	uint64_t block_used_bytes, block_limit_bytes;
	uint64_t inodes_used, inodes_limit;
};

/*
 * On any directory or file.  ESRCH: that quota is not on.  NEXT: ENOENT after the last; users other than root and the
 * mounter are shown their own only.  SET: EPERM for those.
 */
#define SPILLFS_IOC_QUOTA_NEXT _IOWR('S', 40, struct spillfs_quota)
#define SPILLFS_IOC_QUOTA_SET  _IOWR('S', 41, struct spillfs_quota)

/*
 * On a regular file.  Whoever can open it may have its STAT; EVICT, PIN and UNPIN are for the file's owner, the mounter
 * and root (EPERM).  EVICT: EOPNOTSUPP without swap, EBUSY if it is pinned, ENOSPC when swap is full, EIO when its disk
 * refuses.  PIN: ENOMEM beyond the limit.  UNPIN is done at once.
 */
#define SPILLFS_IOC_FILE_STAT  _IOWR('S', 32, struct spillfs_file_stat)
#define SPILLFS_IOC_FILE_EVICT _IOWR('S', 33, struct spillfs_file_walk)
#define SPILLFS_IOC_FILE_PIN   _IOWR('S', 34, struct spillfs_file_walk)
#define SPILLFS_IOC_FILE_UNPIN _IOWR('S', 35, struct spillfs_file_walk)

/* --- swap areas --- */

enum spillfs_area_kind { SPILLFS_AREA_DIRECTORY, SPILLFS_AREA_FILE, SPILLFS_AREA_DEVICE };
enum spillfs_area_state { SPILLFS_AREA_IN_USE, SPILLFS_AREA_SICK, SPILLFS_AREA_LEAVING };

#define SPILLFS_PATH_BYTES 4096
#define SPILLFS_WHY_BYTES  512

struct spillfs_area {
	uint32_t version;
	uint32_t area;	   /* in: the first whose number is not below this; out: its number */
	int32_t priority;  /* higher ones are used first */
	uint32_t kind;	   /* enum spillfs_area_kind: a nameless file in a directory, a file, a block device */
	uint32_t state;	   /* SICK: its disk refuses writes */
	uint32_t pad;
	uint64_t size_bytes;
	uint64_t used_bytes;
	uint64_t bad_bytes;
	char path[SPILLFS_PATH_BYTES]; /* in the daemon's mount namespace */
};

#define SPILLFS_PRIORITY_AUTO (-1) /* below all areas there are */

struct spillfs_swapon {
	uint32_t version;
	int32_t priority;
	uint64_t size_bytes; /* as swapsize=; 0: all of a device or file, half of what is free in a directory */
	int32_t error;	     /* out: 0, or -errno, and why has a line that says more */
	uint32_t pad;
	char path[SPILLFS_PATH_BYTES]; /* absolute, as the daemon sees it */
	char why[SPILLFS_WHY_BYTES];
};

/* A swapoff is made in parts, so that it can be interrupted: BEGIN, then GO_ON while its error is -EAGAIN. */
enum spillfs_swapoff_what { SPILLFS_SWAPOFF_BEGIN, SPILLFS_SWAPOFF_GO_ON, SPILLFS_SWAPOFF_STOP };

struct spillfs_swapoff {
	uint32_t version;
	uint32_t area;
	uint32_t what;
	int32_t error;	     /* as above; -EAGAIN: there is more to do */
	uint64_t left_bytes; /* that are still to be moved */
	char why[SPILLFS_WHY_BYTES];
};

/*
 * On any directory.  AREA: whoever can open it may ask; ENOENT after the last.  SWAPON and SWAPOFF: the mounter and root
 * (EPERM).  A swapoff that nobody goes on with for some seconds is over: its area stays in use.
 */
#define SPILLFS_IOC_AREA    _IOWR('S', 48, struct spillfs_area)
#define SPILLFS_IOC_SWAPON  _IOWR('S', 49, struct spillfs_swapon)
#define SPILLFS_IOC_SWAPOFF _IOWR('S', 50, struct spillfs_swapoff)

#endif
