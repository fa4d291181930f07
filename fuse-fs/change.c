/* SPDX-License-Identifier: MIT */
/*
 * change.c: gives a mount in use other limits and rules (SPILLFS_IOC_SET of ctl.h): all that was asked for, or nothing.
 * Owns fs->changing, which lets one change at a time in; no lock.  Called by a worker, through ctl.c, which it keeps
 * for as long as pages have to go to swap.  Others go on, and nothing that it waits for needs it: the flusher and
 * reclaim have threads of their own.
 *
 * Writes that the kernel has acknowledged but not sent must not lose their place: so the new limits bind new writes
 * first, then the kernel sends what it has, and only then is the old room given up (swapstore_limits_begin).
 */
#include "fuse-fs/fs.h"
#include "fuse-fs/log.h"
#include "fuse-fs/options.h"
#include "fuse-fs/placement.h"
#include "fuse-fs/session.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

/* --- what the kernel holds back ------------------------------------------------------------------------------- */

struct change_flush {
	struct session_flush flush;
	struct fs *fs;
	sem_t done;
};

/* In the flusher's thread.  Twice: what was written during the first walk has asked us, or is sent by the second. */
static void change_flushed(struct session_flush *flush)
{
	struct change_flush *wait = (struct change_flush *)flush;

	session_flush_writers(wait->fs->session);
	session_flush_writers(wait->fs->session);
	sem_post(&wait->done);
}

static void change_flush(struct fs *fs)
{
	struct change_flush wait = { .flush = { .ino = FUSE_ROOT_ID, .done = change_flushed }, .fs = fs };

	if (fs->cache != SPILLFS_CACHE_KERNEL || fs->session == NULL)
		return;
	sem_init(&wait.done, 0, 0);
	session_flush_inode(fs->session, &wait.flush);
	while (sem_wait(&wait.done) != 0)
		;
	sem_destroy(&wait.done);
}

/* --- the parts of a change: each checks, takes effect, and tells what was before ------------------------------- */

/* What no change can change, but a remount from fstab says again. */
static int change_check_constant(struct fs *fs, const struct spillfs_set *set, char *why, size_t why_len)
{
	const struct options *opt = fs->options;
	const char *swap = opt->swap_path != NULL ? opt->swap_path : "";
	const struct {
		uint32_t mask;
		const char *name;
		bool same;
	} rows[] = {
		{ SPILLFS_SET_CACHE, "cache=", set->cache_mode == (uint32_t)fs->cache },
		{ SPILLFS_SET_NOSWAP, "noswap", opt->noswap },
		{ SPILLFS_SET_SWAP, "swap=", strcmp(set->swap_path, swap) == 0 },
		{ SPILLFS_SET_RESERVE, "reserve=", set->reserve_bytes == opt->reserve_bytes },
		{ SPILLFS_SET_USRQUOTA, "usrquota", opt->usrquota },
		{ SPILLFS_SET_GRPQUOTA, "grpquota", opt->grpquota },
		{ SPILLFS_SET_USR_BLOCKS, "usrquota_block_hardlimit=",
		  set->usr_block_bytes == opt->usr_hardlimit.block_bytes },
		{ SPILLFS_SET_USR_INODES, "usrquota_inode_hardlimit=", set->usr_inodes == opt->usr_hardlimit.inodes },
		{ SPILLFS_SET_GRP_BLOCKS, "grpquota_block_hardlimit=",
		  set->grp_block_bytes == opt->grp_hardlimit.block_bytes },
		{ SPILLFS_SET_ACL, "noacl", (set->noacl != 0) == opt->noacl },
		{ SPILLFS_SET_GRP_INODES, "grpquota_inode_hardlimit=", set->grp_inodes == opt->grp_hardlimit.inodes },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if ((set->mask & rows[i].mask) == 0 || rows[i].same)
			continue;
		snprintf(why, why_len, "'%s' is settled when mounting and cannot be changed", rows[i].name);
		return -EINVAL;
	}
	return 0;
}

/* Fewer than there are is refused: whoever makes one looks at the limit again after counting it. */
static int change_inodes(struct fs *fs, struct spillfs_set *set, char *why, size_t why_len)
{
	uint64_t old = atomic_load(&fs->inodes_limit), used;

	if ((set->mask & SPILLFS_SET_INODES) == 0)
		return 0;
	atomic_store(&fs->inodes_limit, set->inodes_limit);
	used = atomic_load(&fs->inodes_used);
	if (set->inodes_limit != 0 && used > set->inodes_limit) {
		atomic_store(&fs->inodes_limit, old);
		snprintf(why, why_len, "nr_inodes=%llu: %llu are in use", (unsigned long long)set->inodes_limit,
			 (unsigned long long)used);
		return -EINVAL;
	}
	set->inodes_limit = old;
	return 0;
}

static int change_inode_bits(struct fs *fs, struct spillfs_set *set, char *why, size_t why_len)
{
	bool narrow = set->inode_bits == 32, high = false;

	if ((set->mask & SPILLFS_SET_INODE_BITS) == 0)
		return 0;
	pthread_rwlock_rdlock(&fs->ns);
	high = fs->next_ino > UINT32_MAX;
	pthread_rwlock_unlock(&fs->ns);
	if (narrow && high && !atomic_load(&fs->inode32)) {
		snprintf(why, why_len, "'inode32': there are larger numbers already");
		return -EINVAL;
	}
	set->inode_bits = atomic_exchange(&fs->inode32, narrow) ? 32 : 64;
	return 0;
}

static int change_limits(struct fs *fs, struct spillfs_set *set, char *why, size_t why_len)
{
	struct swapstore_limits want = { .size_bytes = UINT64_MAX };
	struct swapstore_stats before;
	int err;

	if ((set->mask & (SPILLFS_SET_SIZE | SPILLFS_SET_RAM | SPILLFS_SET_SWAPSIZE)) == 0)
		return 0;
	if ((set->mask & SPILLFS_SET_SIZE) != 0)
		want.size_bytes = set->size_bytes;
	if ((set->mask & SPILLFS_SET_RAM) != 0)
		want.ram_bytes = set->ram_bytes;
	if ((set->mask & SPILLFS_SET_SWAPSIZE) != 0)
		want.swap_bytes = set->swap_bytes;
	swapstore_get_stats(fs->store, &before);
	err = swapstore_limits_begin(fs->store, &want, why, why_len);
	if (err != 0)
		return err;
	space_changed(fs);
	change_flush(fs);
	err = swapstore_limits_commit(fs->store, &want, why, why_len);
	space_resize(fs, want.ram_bytes != 0 && err == 0 ? want.ram_bytes : before.ram_limit_bytes);
	set->size_bytes = before.size_given_bytes;
	set->ram_bytes = before.ram_limit_bytes;
	set->swap_bytes = before.swap_limit_pages << SS_PAGE_SHIFT;
	return err;
}

/* What cannot fail. */
static void change_rules(struct fs *fs, struct spillfs_set *set)
{
	if ((set->mask & SPILLFS_SET_ATIME) != 0) {
		set->atime = (uint32_t)atomic_exchange(&fs->atime, (enum spillfs_atime)set->atime);
		set->nodiratime = atomic_exchange(&fs->nodiratime, set->nodiratime != 0);
	}
}

/* All or nothing: what can be refused comes before what cannot, and is taken back when a later part is refused. */
static int change_apply(struct fs *fs, struct spillfs_set *set, char *why, size_t why_len)
{
	uint64_t inodes_before;
	int err = change_check_constant(fs, set, why, why_len);

	if (err == 0)
		err = change_inodes(fs, set, why, why_len);
	if (err != 0)
		return err;
	inodes_before = set->inodes_limit;
	err = change_inode_bits(fs, set, why, why_len);
	if (err == 0)
		err = change_limits(fs, set, why, why_len);
	if (err == 0)
		err = placement_change(fs, set, why, why_len);
	if (err == 0)
		change_rules(fs, set);
	else if ((set->mask & SPILLFS_SET_INODES) != 0)
		atomic_store(&fs->inodes_limit, inodes_before);
	return err;
}

static bool change_is_sound(const struct spillfs_set *set)
{
	return (set->mask & ~SPILLFS_SET_ALL) == 0 && set->atime <= SPILLFS_ATIME_STRICT &&
	       set->huge <= SPILLFS_HUGE_ADVISE && memchr(set->swap_path, '\0', sizeof(set->swap_path)) != NULL &&
	       set->size_bytes <= INT64_MAX && set->ram_bytes <= INT64_MAX && set->swap_bytes <= INT64_MAX;
}

bool change_ioctl(fuse_req_t req, unsigned cmd, const void *in, size_t in_len, size_t out_len)
{
	struct fs *fs = fs_of(req);
	const uid_t uid = fuse_req_ctx(req)->uid;
	struct spillfs_set set;

	if (cmd != SPILLFS_IOC_SET)
		return false;
	if (uid != 0 && uid != fs->mounter) {
		fs_reply(req, -EPERM);
		return true;
	}
	if (in_len < sizeof(set) || out_len < sizeof(set)) {
		fs_reply(req, -EINVAL);
		return true;
	}
	memcpy(&set, in, sizeof(set));
	if (set.version != SPILLFS_CTL_VERSION || !change_is_sound(&set)) {
		fs_reply(req, set.version != SPILLFS_CTL_VERSION ? -EPROTO : -EINVAL);
		return true;
	}
	if (atomic_exchange(&fs->changing, true)) {
		fs_reply(req, -EBUSY);
		return true;
	}
	set.why[0] = '\0';
	set.error = -change_apply(fs, &set, set.why, sizeof(set.why));
	atomic_store(&fs->changing, false);
	fs_log(LOG_INFO, "limits %s%s", set.error == 0 ? "changed" : "stay: ", set.why);
	fuse_reply_ioctl(req, 0, &set, sizeof(set));
	return true;
}
