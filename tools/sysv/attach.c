/* SPDX-License-Identifier: MIT */
/*
 * attach.c: the table of this process's attaches, guarded by attaches.lock.  Called by shmat() and shmdt(), at fork()
 * (each attach of the child gets a slot of its own before there is a child, so that the count is never too low), and
 * at exit() (which says when and by whom; a process that ends otherwise is noticed by whoever opens the book next).
 */
#include "tools/sysv/attach.h"

#include "tools/sysv/place.h"
#include "tools/sysv/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <time.h>
#include <unistd.h>

#define ATTACH_PAGE 4096

struct attach {
	char *addr;	   /* what shmat() returned: shmdt() names it, whatever became of the pages there */
	char *start, *end; /* the pages that are still the segment's */
	int id;
	unsigned slot, child_slot;
	void *token;	   /* NULL: no attach, but a mapping that SHM_LOCK needs to lock pages */
	void *child_token; /* between the two halves of fork(), for the child; else NULL */
	bool borrowed;	   /* the token is the parent's: its slot is not ours to clear */
};

static struct {
	pthread_mutex_t lock;
	struct attach *table;
	size_t count, room;
} attaches = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int attach_make_room_locked(size_t n)
{
	struct attach *table;

	if (attaches.count + n <= attaches.room)
		return 0;
	table = realloc(attaches.table, (attaches.room * 2 + n) * sizeof(*table));
	if (table == NULL)
		return -ENOMEM;
	attaches.table = table;
	attaches.room = attaches.room * 2 + n;
	return 0;
}

static void attach_drop_token(struct attach *a)
{
	munmap(a->token, ATTACH_PAGE);
	a->token = NULL;
}

/* The attach ends; its memory is the caller's business. */
static void attach_release_locked(int dir, struct attach *a)
{
	struct seg seg;

	if (dir < 0 || seg_open(&seg, dir, a->id) != 0) {
		attach_drop_token(a);
		return;
	}
	if (!a->borrowed) {
		seg_clear_slot(&seg, a->slot, getpid());
		seg.attached--;
		seg_save(&seg);
	}
	attach_drop_token(a);
	if ((seg.head.flags & SHM_DEST) && seg.attached == 0)
		seg_destroy(&seg);
	seg_close(&seg);
}

static void attach_forget_locked(struct attach *a)
{
	*a = attaches.table[--attaches.count];
}

/* One more attach of what is mapped already. */
static int attach_count_again(int dir, int id, unsigned *slot, void **token)
{
	struct seg seg;
	int rc = seg_open(&seg, dir, id);

	if (rc != 0)
		return rc;
	rc = seg_take_slot(&seg, getpid(), slot, token);
	if (rc == 0) {
		seg.head.atime = time(NULL);
		seg.head.lpid = getpid();
		rc = seg_save(&seg);
	}
	seg_close(&seg);
	return rc;
}

/* --- shmat ------------------------------------------------------------------------------------------------ */

/* Where to map: *fixed says that it must be there.  As the kernel's do_shmat(). */
static int attach_place(const void *where, int flags, char **at, bool *fixed)
{
	uintptr_t addr = (uintptr_t)where;

	*fixed = addr != 0;
	if (addr == 0 && (flags & SHM_REMAP))
		return -EINVAL;
	if (addr % ATTACH_PAGE != 0) {
		if (!(flags & SHM_RND))
			return -EINVAL;
		addr -= addr % ATTACH_PAGE;
		if (addr == 0 && (flags & SHM_REMAP))
			return -EINVAL;
	}
	*at = (char *)addr;
	return 0;
}

/* SHM_REMAP has put a new segment over [start, end): what lay there is detached, in whole or in part. */
static void attach_cover_locked(int dir, char *start, char *end)
{
	for (size_t i = attaches.count; i-- > 0;) {
		struct attach *a = &attaches.table[i], tail;

		if (a->token == NULL || a->end <= start || end <= a->start)
			continue;
		if (start <= a->start && a->end <= end) {
			attach_release_locked(dir, a);
			attach_forget_locked(a);
		} else if (start <= a->start) {
			a->start = end;
		} else if (a->end <= end) {
			a->end = start;
		} else { /* the caller has made room */
			tail = *a;
			tail.start = end;
			a->end = start;
			if (attach_count_again(dir, a->id, &tail.slot, &tail.token) == 0)
				attaches.table[attaches.count++] = tail;
		}
	}
}

static int attach_mmap(struct seg *seg, char *at, bool fixed, int flags, char **out)
{
	int prot = PROT_READ | ((flags & SHM_RDONLY) ? 0 : PROT_WRITE) | ((flags & SHM_EXEC) ? PROT_EXEC : 0);
	int how = MAP_SHARED, fd;
	void *mem;

	if (fixed)
		how |= (flags & SHM_REMAP) ? MAP_FIXED : MAP_FIXED_NOREPLACE;
	fd = seg_open_data(seg, (flags & SHM_RDONLY) ? O_RDONLY : O_RDWR);
	if (fd < 0)
		return fd;
	mem = mmap(at, seg->head.size, prot, how, fd, 0);
	*out = mem;
	close(fd);
	if (mem == MAP_FAILED)
		return errno == EEXIST ? -EINVAL : -errno;
	return 0;
}

static int attach_map_locked(int dir, struct seg *seg, char *at, bool fixed, int flags, void **out)
{
	int bits = 0444 | ((flags & SHM_RDONLY) ? 0 : 0222) | ((flags & SHM_EXEC) ? 0111 : 0);
	struct attach a = { .id = seg->id };
	int rc;

	if (!seg_permits(&seg->st, &seg->head, bits))
		return -EACCES;
	rc = attach_make_room_locked(2); /* this, and the far piece of what it may cut in two */
	if (rc == 0)
		rc = seg_take_slot(seg, getpid(), &a.slot, &a.token);
	if (rc != 0)
		return rc;
	rc = attach_mmap(seg, at, fixed, flags, &a.addr);
	if (rc != 0) {
		int32_t lpid = seg->head.lpid;
		int64_t dtime = seg->head.dtime;

		seg_clear_slot(seg, a.slot, 0);
		seg->head.lpid = lpid;
		seg->head.dtime = dtime;
		attach_drop_token(&a);
		return rc;
	}
	seg->head.atime = time(NULL);
	seg->head.lpid = getpid();
	seg_save(seg);
	a.start = a.addr;
	a.end = a.addr + (seg->head.size + ATTACH_PAGE - 1) / ATTACH_PAGE * ATTACH_PAGE;
	*out = a.addr;
	seg_close(seg); /* what lay there before may be of the same segment */
	seg->fd = -1;
	attach_cover_locked(dir, a.start, a.end);
	attaches.table[attaches.count++] = a;
	return 0;
}

int attach_map(int id, const void *where, int flags, void **out)
{
	struct seg seg;
	bool fixed;
	char *at;
	int dir, rc;

	rc = id < 0 ? -EINVAL : attach_place(where, flags, &at, &fixed);
	if (rc != 0)
		return rc;
	dir = place_open();
	if (dir < 0)
		return dir;
	pthread_mutex_lock(&attaches.lock);
	rc = seg_open(&seg, dir, id);
	if (rc == 0) {
		rc = attach_map_locked(dir, &seg, at, fixed, flags, out);
		if (seg.fd >= 0)
			seg_close(&seg);
	}
	pthread_mutex_unlock(&attaches.lock);
	close(dir);
	return rc;
}

/* --- shmdt ------------------------------------------------------------------------------------------------ */

int attach_unmap(const void *addr)
{
	int dir = place_open(), rc = -EINVAL;

	pthread_mutex_lock(&attaches.lock);
	for (size_t i = attaches.count; i-- > 0;) {
		struct attach *a = &attaches.table[i];

		if (a->addr != addr || a->token == NULL)
			continue;
		munmap(a->start, (size_t)(a->end - a->start));
		attach_release_locked(dir, a);
		attach_forget_locked(a);
		rc = 0;
	}
	pthread_mutex_unlock(&attaches.lock);
	if (dir >= 0)
		close(dir);
	return rc;
}

/* --- SHM_LOCK --------------------------------------------------------------------------------------------- */

/* A mapping of the whole segment that is no attach. */
static int attach_hold_locked(int id)
{
	struct attach a = { .id = id };
	struct seg seg;
	int dir = place_open(), rc;

	if (dir < 0)
		return dir;
	rc = seg_open(&seg, dir, id);
	if (rc == 0) {
		rc = attach_make_room_locked(1);
		if (rc == 0)
			rc = attach_mmap(&seg, NULL, false, SHM_RDONLY, &a.start);
		a.end = a.start + seg.head.size;
		seg_close(&seg);
	}
	close(dir);
	if (rc != 0)
		return rc;
	madvise(a.start, (size_t)(a.end - a.start), MADV_DONTFORK);
	if (mlock(a.start, (size_t)(a.end - a.start)) != 0) {
		rc = -errno;
		munmap(a.start, (size_t)(a.end - a.start));
		return rc;
	}
	attaches.table[attaches.count++] = a;
	return 0;
}

int attach_lock_pages(int id, bool lock)
{
	int rc = 0;

	pthread_mutex_lock(&attaches.lock);
	if (lock) {
		rc = attach_hold_locked(id);
	} else {
		for (size_t i = attaches.count; i-- > 0;) {
			struct attach *a = &attaches.table[i];

			if (a->id != id || a->token != NULL)
				continue;
			munmap(a->start, (size_t)(a->end - a->start));
			attach_forget_locked(a);
		}
	}
	pthread_mutex_unlock(&attaches.lock);
	return rc;
}

/* --- fork and exit ---------------------------------------------------------------------------------------- */

static void attach_before_fork(void)
{
	int dir;

	pthread_mutex_lock(&attaches.lock);
	dir = attaches.count > 0 ? place_open() : -1;
	for (size_t i = 0; dir >= 0 && i < attaches.count; i++) {
		struct attach *a = &attaches.table[i];

		/* Without one the child shares its parent's: the segment lives as long as either does. */
		if (a->token != NULL && attach_count_again(dir, a->id, &a->child_slot, &a->child_token) != 0)
			a->child_token = NULL;
	}
	if (dir >= 0)
		close(dir);
	place_lock();
}

static void attach_after_fork_in_parent(void)
{
	place_unlock();
	for (size_t i = 0; i < attaches.count; i++) {
		struct attach *a = &attaches.table[i];

		if (a->child_token != NULL)
			munmap(a->child_token, ATTACH_PAGE); /* the child has it */
		a->child_token = NULL;
	}
	pthread_mutex_unlock(&attaches.lock);
}

static void attach_after_fork_in_child(void)
{
	int dir;

	place_unlock();
	dir = attaches.count > 0 ? place_open() : -1;
	for (size_t i = attaches.count; i-- > 0;) {
		struct attach *a = &attaches.table[i];

		if (a->token == NULL) { /* MADV_DONTFORK */
			attach_forget_locked(a);
			continue;
		}
		a->borrowed = a->child_token == NULL;
		if (a->borrowed)
			continue;
		attach_drop_token(a);
		a->token = a->child_token;
		a->slot = a->child_slot;
		a->child_token = NULL;
		if (dir >= 0)
			seg_hand_slot(dir, a->id, a->slot, getpid());
	}
	if (dir >= 0)
		close(dir);
	pthread_mutex_unlock(&attaches.lock);
}

__attribute__((constructor)) static void attach_begin(void)
{
	pthread_atfork(attach_before_fork, attach_after_fork_in_parent, attach_after_fork_in_child);
}

/* The memory stays: others of the program's last words may still come from it. */
__attribute__((destructor)) static void attach_end(void)
{
	int dir;

	if (pthread_mutex_trylock(&attaches.lock) != 0)
		return; /* a thread is in a call; the next to open the book will count us out */
	dir = attaches.count > 0 ? place_open() : -1;
	while (attaches.count > 0) {
		struct attach *a = &attaches.table[attaches.count - 1];

		if (a->token != NULL)
			attach_release_locked(dir, a);
		attaches.count--;
	}
	if (dir >= 0)
		close(dir);
	pthread_mutex_unlock(&attaches.lock);
}
