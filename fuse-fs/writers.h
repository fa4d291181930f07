/* SPDX-License-Identifier: MIT */
/*
 * writers: which inodes are open for writing, so that whoever has something to tell them need not look at all there are.
 * Part of struct fs.  Its lock is a leaf.
 */
#ifndef FUSE_FS_WRITERS_H
#define FUSE_FS_WRITERS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inode;

struct writers_item {
	struct inode *inode;
	bool lasting;
};

/* All under lock. */
struct writers {
	pthread_mutex_t lock;
	struct writers_item *item; /* inode->writing is its place here */
	uint32_t count, room;
};

/* One of them as it was when it was asked for. */
struct writers_found {
	uint64_t ino;
	bool lasting; /* the kernel was or may have been told, when the inode was opened, that its attributes last */
};

void writers_init(struct writers *w);
void writers_destroy(struct writers *w);

/* Counts a handle that may write (inode->writers).  *first: it is the only one.  0 or -ENOMEM. */
int writers_add(struct writers *w, struct inode *inode, bool lasting, bool *first);

/* Takes a handle back.  True: it was the last. */
bool writers_remove(struct writers *w, struct inode *inode);

/* The inode goes, whatever handles it has. */
void writers_drop(struct writers *w, struct inode *inode);

/*
 * Some of the inodes that are open for writing: up to most, into found; their number.  *from: UINT32_MAX at first, changed
 * by the call; 0 found: that was all.  One that has been open all the time since the first call is found; one that is
 * opened or closed meanwhile may be.
 */
size_t writers_some(struct writers *w, uint32_t *from, struct writers_found *found, size_t most);

#endif
