/* SPDX-License-Identifier: MIT */
/*
 * segment: System V shared memory as files of a directory on a spillfs mount, so that processes which have nothing
 * in common but the directory agree on what exists.  There is no server and no shared state but these files:
 *
 *    SYSV<key>           the data of a segment that has a key (8 hex digits), with the segment's mode and owner: who
 *                        may attach is decided by the kernel, at open()
 *    SYSV00000000.<id>   the data of one that has none: IPC_PRIVATE, or removed while it was attached
 *    .SYSV.<id>          its book: struct seg_head, then the pid of each attach, one a slot
 *
 * The id is the number of the data's inode, which spillfs never gives twice: an id of yesterday finds nothing.
 *
 * Locks are OFD locks on bytes of the book.  SEG_BYTE_BOOK is held while a book is looked at or changed.  One byte
 * for each slot is held for as long as the attach lasts: the attach maps a page of the book (its token) and closes
 * the descriptor; a mapping keeps its open file, hence the lock, until munmap, exec or the end of the process,
 * whatever ends it.  So the number of attaches is the number of slots that are locked, also after kill -9, and no
 * descriptor is left that the program could close by chance.
 *
 * A process that dies between two steps leaves what seg_open() and seg_sweep() tidy away:
 *    a book without data      creation: the book gets its name first, the data second; removal: in reverse
 *    a slot without its lock  its process is gone: it counts as detached, by that pid, at this moment
 *    a removed segment with no slot locked: its files go
 */
#ifndef TOOLS_SYSV_SEGMENT_H
#define TOOLS_SYSV_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ipc.h>
#include <sys/stat.h>

#define SEG_MOST       4096  /* segments in one directory, as the kernel's SHMMNI */
#define SEG_MOST_SLOTS 65536 /* attaches of one segment */

/* What a book begins with.  Times are seconds since 1970. */
struct seg_head {
	char magic[8];
	int32_t id;
	int32_t key; /* IPC_PRIVATE once it is removed */
	uint64_t data_ino;
	uint64_t size; /* as asked for: the data file is rounded up to whole pages */
	uint32_t cuid, cgid;
	int32_t cpid, lpid;
	int64_t atime, dtime, ctime;
	uint32_t flags;	 /* SHM_DEST, SHM_LOCKED */
	uint32_t nslots; /* slots that were ever used */
};

/* An open, locked book and what was found with it.  All of it belongs to the caller of seg_open(). */
struct seg {
	int dir;  /* the caller's: the directory */
	int fd;	  /* the book, SEG_BYTE_BOOK locked */
	int data; /* O_PATH: the data file */
	int id;
	struct seg_head head;
	struct stat st; /* of the data file: mode, uid and gid of the segment */
	char data_name[32];
	unsigned attached;
};

/* All functions return 0 or -errno unless they say otherwise.  dir: a descriptor of the directory, O_PATH will do. */

/* The id of the segment with this key, and what its data file says of it.  -ENOENT: there is none. */
int seg_find(int dir, key_t key, int *id, struct stat *st);

/* -EEXIST: somebody else was quicker. -ENOSPC: too many segments, or no room for size bytes.  flags: as shmget(). */
int seg_create(int dir, key_t key, size_t size, int flags, int *id);

/*
 * Opens and locks a book; waits for whoever has it.  Drops the slots of processes that are gone, counts the others.
 * -EINVAL: there is no such segment (any more); -EACCES: the caller may not even read it.
 */
int seg_open(struct seg *seg, int dir, int id);
void seg_close(struct seg *seg);

/* Writes seg->head to the book. */
int seg_save(struct seg *seg);

/* A slot for an attach by pid, locked by a token that lives until munmap(*token, page size).  -ENOMEM: too many. */
int seg_take_slot(struct seg *seg, int32_t pid, unsigned *slot, void **token);

/* The end of that attach, before or after its token goes.  Tells of it by dtime and lpid, which seg_save() writes. */
void seg_clear_slot(struct seg *seg, unsigned slot, int32_t pid);

/* A child got this slot from its parent at fork.  Takes no lock: nobody else writes to a slot in use. */
int seg_hand_slot(int dir, int id, unsigned slot, int32_t pid);

/* Removes the segment at once; or takes its key away and lets it live until the last detach. */
int seg_destroy(struct seg *seg);
int seg_doom(struct seg *seg);

/* Opens the data for mapping. A descriptor or -errno. */
int seg_open_data(struct seg *seg, int flags);

/*
 * Keeps all pages of the data in the mount's RAM, whoever is attached, or no longer.  -ENOTTY, -EACCES: the mount or
 * the mode of the segment does not let us; -ENOMEM: more than may be kept.
 */
int seg_pin(struct seg *seg, bool pin);

/* How many of its pages are in RAM and how many in swap, as the daemon knows it; -errno: unknown. */
int seg_pages(struct seg *seg, unsigned long *resident, unsigned long *swapped);

/* Mode (its low nine bits), owner and group of both files. */
int seg_set_owner(struct seg *seg, uid_t uid, gid_t gid, mode_t mode);

/* The ids in the directory in ascending order, malloc'ed. A count or -errno. */
int seg_list(int dir, int **ids);

/* Tidies the whole directory; returns how many segments there are, or -errno. */
int seg_sweep(int dir);

/* ipcperms(): has the caller all of these bits (of 0777, for user, group or others alike)? */
bool seg_permits(const struct stat *st, const struct seg_head *head, int bits);

/* Owner, creator, or root: who may change or remove the segment. */
bool seg_owned(const struct seg *seg);

#endif
