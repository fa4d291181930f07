/* SPDX-License-Identifier: MIT */
/*
 * writers.c: the inodes that are open for writing (writers.h): an array without order, where the last takes the place of
 * one that leaves.  Who reads it from its end to its start misses nobody: what changes place was at the end.  Called by
 * file.c, inode.c and the notifiers.
 */
#include "fuse-fs/writers.h"

#include "fuse-fs/fs.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define WRITERS_ROOM 64

void writers_init(struct writers *w)
{
	*w = (struct writers){ .lock = PTHREAD_MUTEX_INITIALIZER };
}

void writers_destroy(struct writers *w)
{
	free(w->item);
	pthread_mutex_destroy(&w->lock);
}

static int writers_make_room_locked(struct writers *w)
{
	const uint32_t room = w->room > 0 ? 2 * w->room : WRITERS_ROOM;
	struct writers_item *item = NULL;

	if (w->count < w->room)
		return 0;
	item = reallocarray(w->item, room, sizeof(*item));
	if (item == NULL)
		return -ENOMEM;
	w->item = item;
	w->room = room;
	return 0;
}

int writers_add(struct writers *w, struct inode *inode, bool lasting, bool *first)
{
	UTIL_LOCKED(&w->lock);

	*first = atomic_load(&inode->writers) == 0;
	if (*first) {
		if (writers_make_room_locked(w) != 0)
			return -ENOMEM;
		inode->writing = w->count;
		w->item[w->count++] = (struct writers_item){ inode, lasting };
	}
	atomic_fetch_add(&inode->writers, 1);
	return 0;
}

static void writers_take_out_locked(struct writers *w, struct inode *inode)
{
	struct writers_item *last = &w->item[--w->count];

	assert(w->item[inode->writing].inode == inode);
	last->inode->writing = inode->writing;
	w->item[inode->writing] = *last;
}

bool writers_remove(struct writers *w, struct inode *inode)
{
	uint32_t before;
	UTIL_LOCKED(&w->lock);

	before = atomic_fetch_sub(&inode->writers, 1);
	assert(before > 0);
	if (before == 1)
		writers_take_out_locked(w, inode);
	return before == 1;
}

void writers_drop(struct writers *w, struct inode *inode)
{
	UTIL_LOCKED(&w->lock);

	if (atomic_exchange(&inode->writers, 0) > 0)
		writers_take_out_locked(w, inode);
}

size_t writers_some(struct writers *w, uint32_t *from, struct writers_found *found, size_t most)
{
	size_t n = 0;
	UTIL_LOCKED(&w->lock);

	if (*from > w->count)
		*from = w->count;
	while (*from > 0 && n < most) {
		const struct writers_item *item = &w->item[--*from];

		found[n++] = (struct writers_found){ item->inode->ino, item->lasting };
	}
	return n;
}
