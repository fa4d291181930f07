/* SPDX-License-Identifier: MIT */
/*
 * sysv.c: shmget(), shmat(), shmdt() and shmctl() in front of the C library's, for LD_PRELOAD.  What they mean, and
 * in which order they refuse, is the kernel's ipc/shm.c as shmget(2), shmop(2) and shmctl(2) describe it.  Holds no
 * state and no lock; segment.c has the segments and attach.c what is attached.
 */
#include "tools/sysv/attach.h"
#include "tools/sysv/place.h"
#include "tools/sysv/segment.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define SYSV_EXPORT __attribute__((visibility("default")))

static int sysv_return(int rc)
{
	if (rc >= 0)
		return rc;
	errno = -rc;
	return -1;
}

/* --- shmget ----------------------------------------------------------------------------------------------- */

/* Is the segment that has the key already one that the caller may have? */
static int sysv_check_found(int dir, int id, const struct stat *st, size_t size, int flags)
{
	size_t has = (size_t)st->st_size;
	struct seg seg;
	int rc;

	if ((flags & IPC_CREAT) && (flags & IPC_EXCL))
		return -EEXIST;
	rc = seg_open(&seg, dir, id);
	if (rc != 0 && rc != -EACCES) /* who may not look into the book may still know the id */
		return rc;
	if (rc == 0)
		has = seg.head.size;
	if (size > has)
		rc = -EINVAL;
	else
		rc = seg_permits(st, rc == 0 ? &seg.head : NULL, flags & 0777) ? 0 : -EACCES;
	if (seg.fd >= 0)
		seg_close(&seg);
	return rc;
}

static int sysv_get(int dir, key_t key, size_t size, int flags, int *id)
{
	struct stat st;
	int rc;

	for (;;) {
		rc = key == IPC_PRIVATE ? -ENOENT : seg_find(dir, key, id, &st);
		if (rc == 0) {
			rc = sysv_check_found(dir, *id, &st, size, flags);
			if (rc != -EINVAL || size <= (size_t)st.st_size || seg_find(dir, key, id, &st) == 0)
				return rc;
			continue; /* it was removed under our eyes */
		}
		if (rc != -ENOENT || (key != IPC_PRIVATE && !(flags & IPC_CREAT)))
			return rc;
		if (size == 0 || size > SSIZE_MAX || (flags & SHM_HUGETLB))
			return -EINVAL;
		rc = seg_sweep(dir);
		if (rc >= SEG_MOST)
			return -ENOSPC;
		if (rc >= 0)
			rc = seg_create(dir, key, size, flags, id);
		if (rc != -EEXIST)
			return rc;
	}
}

SYSV_EXPORT int shmget(key_t key, size_t size, int flags)
{
	int id, rc, dir = place_open();

	if (dir < 0)
		return sysv_return(dir);
	rc = sysv_get(dir, key, size, flags, &id);
	close(dir);
	return sysv_return(rc < 0 ? rc : id);
}

/* --- shmat, shmdt ----------------------------------------------------------------------------------------- */

SYSV_EXPORT void *shmat(int id, const void *addr, int flags)
{
	void *mem;
	int rc = attach_map(id, addr, flags, &mem);

	if (rc == 0)
		return mem;
	errno = -rc;
	return (void *)-1;
}

SYSV_EXPORT int shmdt(const void *addr)
{
	return sysv_return(attach_unmap(addr));
}

/* --- shmctl ----------------------------------------------------------------------------------------------- */

static void sysv_fill(const struct seg *seg, struct shmid_ds *ds)
{
	const struct seg_head *head = &seg->head;

	*ds = (struct shmid_ds){
		.shm_perm.__key = head->key,
		.shm_perm.uid = seg->st.st_uid,
		.shm_perm.gid = seg->st.st_gid,
		.shm_perm.cuid = head->cuid,
		.shm_perm.cgid = head->cgid,
		.shm_perm.mode = (seg->st.st_mode & 0777) | (head->flags & (SHM_DEST | SHM_LOCKED)),
		.shm_segsz = head->size,
		.shm_atime = head->atime,
		.shm_dtime = head->dtime,
		.shm_ctime = head->ctime,
		.shm_cpid = head->cpid,
		.shm_lpid = head->lpid,
		.shm_nattch = seg->attached,
	};
}

static int sysv_stat(int dir, int id, bool any, struct shmid_ds *ds)
{
	struct seg seg;
	int rc = seg_open(&seg, dir, id);

	if (rc != 0)
		return rc;
	if (!any && !seg_permits(&seg.st, &seg.head, 0444))
		rc = -EACCES;
	else
		sysv_fill(&seg, ds);
	seg_close(&seg);
	return rc;
}

/* SHM_STAT names a segment by its place among all; the answer is its id. */
static int sysv_stat_nth(int dir, int n, bool any, struct shmid_ds *ds)
{
	int *ids, rc, count = seg_list(dir, &ids);

	if (count < 0)
		return count;
	rc = n < count ? sysv_stat(dir, ids[n], any, ds) : -EINVAL;
	if (rc == 0)
		rc = ids[n];
	free(ids);
	return rc;
}

static int sysv_set(struct seg *seg, const struct shmid_ds *ds)
{
	int rc = seg_set_owner(seg, ds->shm_perm.uid, ds->shm_perm.gid, ds->shm_perm.mode & 0777);

	if (rc != 0)
		return rc;
	seg->head.ctime = time(NULL);
	return seg_save(seg);
}

/* Returns 1 if the daemon cannot pin the pages, so that mlock() must do. */
static int sysv_lock(struct seg *seg, bool lock)
{
	int pinned = seg_pin(seg, lock), rc;

	if (lock && pinned == -ENOMEM)
		return pinned;
	if (lock)
		seg->head.flags |= SHM_LOCKED;
	else
		seg->head.flags &= ~(uint32_t)SHM_LOCKED;
	rc = seg_save(seg);
	return rc != 0 ? rc : pinned != 0;
}

/* What only the owner may do. */
static int sysv_change(int dir, int id, int cmd, const struct shmid_ds *ds)
{
	struct seg seg;
	int rc = seg_open(&seg, dir, id);

	if (rc != 0)
		return rc == -EACCES ? -EPERM : rc;
	if (!seg_owned(&seg))
		rc = -EPERM;
	else if (cmd == IPC_RMID)
		rc = seg.attached > 0 ? seg_doom(&seg) : seg_destroy(&seg);
	else if (cmd == IPC_SET)
		rc = sysv_set(&seg, ds);
	else
		rc = sysv_lock(&seg, cmd == SHM_LOCK);
	seg_close(&seg);
	return rc;
}

static int sysv_lock_pages(int dir, int id, int cmd)
{
	int rc = sysv_change(dir, id, cmd, NULL);

	if (rc < 0)
		return rc;
	if (cmd == SHM_UNLOCK || rc == 0)
		return attach_lock_pages(id, false);
	rc = attach_lock_pages(id, true);
	if (rc != 0)
		sysv_change(dir, id, SHM_UNLOCK, NULL);
	return rc;
}

/* IPC_INFO: the limits, which are the mount's.  Returns the highest index, as SHM_INFO does. */
static int sysv_limits(int dir, struct shminfo *info)
{
	struct statvfs st;
	int *ids, count;

	if (fstatvfs(dir, &st) != 0)
		return -errno;
	*info = (struct shminfo){
		.shmmax = st.f_blocks * st.f_frsize,
		.shmmin = 1,
		.shmmni = SEG_MOST,
		.shmseg = SEG_MOST,
		.shmall = st.f_blocks * st.f_frsize / (unsigned long)sysconf(_SC_PAGESIZE),
	};
	count = seg_list(dir, &ids);
	free(ids);
	return count > 0 ? count - 1 : count;
}

static int sysv_usage(int dir, struct shm_info *info)
{
	unsigned long page = (unsigned long)sysconf(_SC_PAGESIZE);
	int *ids, count;

	*info = (struct shm_info){ .used_ids = 0 };
	count = seg_sweep(dir);
	if (count >= 0)
		count = seg_list(dir, &ids);
	if (count < 0)
		return count;
	for (int i = 0; i < count; i++) {
		unsigned long resident, swapped;
		struct seg seg;

		if (seg_open(&seg, dir, ids[i]) != 0)
			continue;
		if (seg_pages(&seg, &resident, &swapped) == 0) {
			info->shm_rss += resident;
			info->shm_swp += swapped;
		}
		info->used_ids++;
		info->shm_tot += (seg.head.size + page - 1) / page;
		seg_close(&seg);
	}
	free(ids);
	return count > 0 ? count - 1 : 0;
}

static int sysv_control(int dir, int id, int cmd, struct shmid_ds *ds)
{
	switch (cmd) {
	case IPC_INFO:
		return sysv_limits(dir, (struct shminfo *)(void *)ds);
	case SHM_INFO:
		return sysv_usage(dir, (struct shm_info *)(void *)ds);
	case IPC_STAT:
		return sysv_stat(dir, id, false, ds);
	case SHM_STAT:
	case SHM_STAT_ANY:
		return sysv_stat_nth(dir, id, cmd == SHM_STAT_ANY, ds);
	case SHM_LOCK:
	case SHM_UNLOCK:
		return sysv_lock_pages(dir, id, cmd);
	default:
		return sysv_change(dir, id, cmd, ds);
	}
}

SYSV_EXPORT int shmctl(int id, int cmd, struct shmid_ds *ds)
{
	int rc, dir;

	switch (cmd) {
	case IPC_INFO:
	case SHM_INFO:
	case IPC_STAT:
	case SHM_STAT:
	case SHM_STAT_ANY:
	case IPC_SET:
		if (ds == NULL && id >= 0)
			return sysv_return(-EFAULT);
		break;
	case IPC_RMID:
	case SHM_LOCK:
	case SHM_UNLOCK:
		break;
	default:
		return sysv_return(-EINVAL);
	}
	if (id < 0)
		return sysv_return(-EINVAL);
	dir = place_open();
	if (dir < 0)
		return sysv_return(dir);
	rc = sysv_control(dir, id, cmd, ds);
	close(dir);
	return sysv_return(rc);
}
