/* SPDX-License-Identifier: MIT */
/*
 * inode: owns struct inode and the table of them (ino -> inode), which fs->ns guards; an inode's attributes are
 * guarded by its own lock.  An inode lives while it has a name (nlink) or the kernel holds a reference
 * (nlookup); whoever drops the last of them, with fs->ns held for writing, takes it out of the table and frees
 * it after unlocking.  Called by all of the operations.
 */
#include "fuse-fs/fs.h"
#include "fuse-fs/flags.h"
#include "fuse-fs/log.h"
#include "fuse-fs/quota.h"
#include "swapstore/util.h"

#include <string.h>
#include <sys/random.h>
#include <syslog.h>

#define INODE_DAY_SECONDS 86400

/* --- the count ------------------------------------------------------------------------------------------ */

/* So long after a file was removed the kernel may take to say that it has forgotten it. */
#define INODE_FORGET_MS 500

static bool inode_charge_now(struct fs *fs)
{
	uint64_t used = atomic_load(&fs->inodes_used), limit;

	do {
		limit = atomic_load(&fs->inodes_limit);
	} while ((limit == 0 || used < limit) && !atomic_compare_exchange_weak(&fs->inodes_used, &used, used + 1));
	if (limit != 0 && used >= limit)
		return false;
	/* Once more, counted now: who lowers the limit looks at the count after that. */
	limit = atomic_load(&fs->inodes_limit);
	if (limit == 0 || used < limit)
		return true;
	atomic_fetch_sub(&fs->inodes_used, 1);
	return false;
}

bool inode_wait_for_removed(struct fs *fs)
{
	const struct timespec nap = { .tv_nsec = 500000 };

	if (util_now_ms() - atomic_load(&fs->removed_ms) >= INODE_FORGET_MS)
		return false;
	util_wait_begin();
	nanosleep(&nap, NULL);
	util_wait_end();
	return true;
}

/*
 * One more inode, unless the mount may not have it.  Says so once, and again only after it had room in between.  Who has
 * just removed a file may create another: its inode is free once the kernel says so, which another worker may be hearing
 * a moment later.
 */
static int inode_charge(struct fs *fs)
{
	while (!inode_charge_now(fs)) {
		if (inode_wait_for_removed(fs))
			continue;
		if (!atomic_exchange(&fs->inodes_out, true))
			fs_log(LOG_WARNING, "inodes ran out: all %llu are in use (nr_inodes=)",
			       (unsigned long long)atomic_load(&fs->inodes_limit));
		return -ENOSPC;
	}
	return 0;
}

static void inode_uncharge(struct fs *fs)
{
	uint64_t used = atomic_fetch_sub(&fs->inodes_used, 1) - 1;

	/* A sixteenth below, so that a mount that lives at its limit does not fill the log. */
	if (atomic_load(&fs->inodes_out) && used < fs->inodes_limit - fs->inodes_limit / 16)
		atomic_store(&fs->inodes_out, false);
}

/* --- life ----------------------------------------------------------------------------------------------- */

static struct timespec inode_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return now;
}

static struct inode *inode_alloc(struct fs *fs, mode_t mode, uid_t uid, gid_t gid, dev_t rdev)
{
	struct inode *inode = ss_alloc(fs->store, sizeof(*inode));

	if (!inode)
		return NULL;
	pthread_mutex_init(&inode->lock, NULL);
	inode->mode = mode;
	inode->uid = uid;
	inode->gid = gid;
	inode->rdev = rdev;
	inode->btime = inode->atime = inode->mtime = inode->ctime = inode_now();
	if (S_ISDIR(mode)) {
		inode->size = 2 * FS_DIRENT_BYTES;
		inode->dir.next_cookie = 2; /* 0 and 1 are "." and ".." */
	}
	return inode;
}

static void inode_free_memory(struct fs *fs, struct inode *inode)
{
	pthread_mutex_destroy(&inode->lock);
	ss_free(fs->store, inode, sizeof(*inode));
}

int inode_new(struct fs *fs, mode_t mode, uid_t uid, gid_t gid, dev_t rdev, struct inode **out)
{
	struct inode *inode;
	int err = inode_charge(fs);

	if (err)
		return err;
	inode = inode_alloc(fs, mode, uid, gid, rdev);
	err = inode ? quota_charge_inode(fs, inode) : -ENOSPC;
	if (!err) {
		*out = inode;
		return 0;
	}
	if (inode)
		inode_free_memory(fs, inode);
	inode_uncharge(fs);
	return err;
}

void inode_free(struct fs *fs, struct inode *inode)
{
	mode_t mode = inode->mode;
	struct ss_object *object = S_ISREG(mode) ? atomic_load(&inode->object) : NULL;

	if (object) {
		object_destroy(fs->store, object);
		space_changed(fs);
		quota_changed(fs, inode);
	}
	if (S_ISLNK(mode) && inode->target)
		ss_free(fs->store, inode->target, inode->size + 1);
	assert(!S_ISDIR(mode) || inode->dir.nentries == 0);
	writers_drop(&fs->writers, inode);
	xattrs_free(fs, inode);
	quota_uncharge_inode(inode);
	inode_free_memory(fs, inode);
	inode_uncharge(fs);
}

/* --- the table ------------------------------------------------------------------------------------------ */

static entry_t inode_entry_word(struct inode *inode)
{
	assert(((uintptr_t)inode & 3) == 0);
	return (entry_t)(uintptr_t)inode;
}

struct inode *inode_find_locked(struct fs *fs, uint64_t ino)
{
	fs_assert_ns_held(fs);
	return (struct inode *)(uintptr_t)tree_load(&fs->inodes, ino);
}

struct inode *inode_get(struct fs *fs, fuse_ino_t ino)
{
	struct inode *inode;

	pthread_rwlock_rdlock(&fs->ns);
	inode = inode_find_locked(fs, ino);
	pthread_rwlock_unlock(&fs->ns);
	return inode;
}

/*
 * The next number.  With inode32 they begin anew after 32 bits, and those in use are passed over: a long walk now and
 * then, but of numbers alone.  -ENOSPC: all are in use.
 */
static int inode_number_locked(struct fs *fs)
{
	const bool narrow = atomic_load_explicit(&fs->inode32, memory_order_relaxed);

	if (!narrow && fs->generation == 1)
		return 0;
	for (uint64_t tried = 0; tried <= UINT32_MAX; tried++) {
		if (narrow && fs->next_ino > UINT32_MAX) {
			fs->next_ino = FUSE_ROOT_ID + 1;
			fs->generation++;
		}
		if (tree_load(&fs->inodes, fs->next_ino) == ENTRY_EMPTY)
			return 0;
		fs->next_ino++;
	}
	return -ENOSPC;
}

int inode_insert_locked(struct fs *fs, struct inode *inode, struct tree_stash *stash)
{
	int err;

	fs_assert_ns_held_for_writing(fs);
	err = inode_number_locked(fs);
	if (err)
		return err;
	err = tree_replace(&fs->inodes, fs->next_ino, ENTRY_EMPTY, inode_entry_word(inode), stash);
	if (err)
		return -ENOSPC;
	inode->ino = fs->next_ino++;
	inode->generation = fs->generation;
	return 0;
}

bool inode_detach_if_dead_locked(struct fs *fs, struct inode *inode, struct tree_stash *stash)
{
	int err;

	fs_assert_ns_held_for_writing(fs);
	if (inode->nlink != 0)
		return false;
	if (atomic_load(&inode->nlookup) != 0) {
		atomic_store(&fs->removed_ms, util_now_ms());
		return false;
	}
	err = tree_replace(&fs->inodes, inode->ino, inode_entry_word(inode), ENTRY_EMPTY, stash);
	assert(err == 0);
	(void)err;
	return true;
}

void inode_hold_locked(struct fs *fs, struct inode *inode)
{
	fs_assert_ns_held(fs);
	atomic_fetch_add(&inode->nlookup, 1);
}

/* Looks again, by number, now that nobody can give the inode a name or a reference: another may have freed it. */
static void inode_reap(struct fs *fs, uint64_t ino)
{
	struct tree_stash stash = { 0 };
	struct inode *inode;
	bool dead;

	pthread_rwlock_wrlock(&fs->ns);
	inode = inode_find_locked(fs, ino);
	dead = inode && inode_detach_if_dead_locked(fs, inode, &stash);
	pthread_rwlock_unlock(&fs->ns);

	ss_stash_drain(fs->store, &stash);
	if (dead)
		inode_free(fs, inode);
}

void inode_forget(struct fs *fs, uint64_t ino, uint64_t n)
{
	struct inode *inode;
	bool dead = false;

	pthread_rwlock_rdlock(&fs->ns);
	inode = inode_find_locked(fs, ino);
	if (inode) {
		uint64_t before = atomic_fetch_sub(&inode->nlookup, n);

		assert(before >= n);
		dead = before == n && inode->nlink == 0;
	}
	pthread_rwlock_unlock(&fs->ns);
	if (dead)
		inode_reap(fs, ino);
}

/* --- attributes ----------------------------------------------------------------------------------------- */

void inode_stat(struct inode *inode, struct stat *st)
{
	struct ss_object *object;
	UTIL_LOCKED(&inode->lock);

	memset(st, 0, sizeof(*st));
	st->st_ino = inode->ino;
	st->st_mode = inode->mode;
	st->st_nlink = inode->nlink;
	st->st_uid = inode->uid;
	st->st_gid = inode->gid;
	st->st_rdev = inode->rdev;
	st->st_size = (off_t)inode->size;
	st->st_blksize = SS_PAGE_SIZE;
	object = S_ISREG(st->st_mode) ? atomic_load(&inode->object) : NULL;
	if (object)
		st->st_blocks = (blkcnt_t)(object_pages(object) * (SS_PAGE_SIZE / 512));
	st->st_atim = inode->atime;
	st->st_mtim = inode->mtime;
	st->st_ctim = inode->ctime;
}

void inode_entry(struct fs *fs, struct inode *inode, struct fuse_entry_param *e)
{
	memset(e, 0, sizeof(*e));
	e->ino = inode->ino;
	e->generation = inode->generation;
	/* First the timeout: should space run short in between, the kernel keeps the attributes a little less. */
	e->attr_timeout = fs_attr_timeout(fs, inode);
	e->entry_timeout = FS_TIMEOUT_FOREVER;
	inode_stat(inode, &e->attr);
}

void inode_touch_locked(struct inode *inode, unsigned which)
{
	struct timespec now = inode_now();

	inode_assert_locked(inode);
	if (which & TOUCH_ATIME)
		inode->atime = now;
	if (which & TOUCH_MTIME)
		inode->mtime = now;
	if (which & TOUCH_CTIME)
		inode->ctime = now;
}

void inode_touch(struct inode *inode, unsigned which)
{
	UTIL_LOCKED(&inode->lock);

	inode_touch_locked(inode, which);
}

static bool inode_earlier_or_same(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec <= b->tv_nsec;
}

void inode_touch_read(struct fs *fs, struct inode *inode)
{
	struct timespec now = inode_now();
	UTIL_LOCKED(&inode->lock);

	if (flags_has(inode, FS_NOATIME_FL))
		return;
	if (atomic_load(&fs->atime) == SPILLFS_ATIME_NEVER || (S_ISDIR(inode->mode) && atomic_load(&fs->nodiratime)))
		return;
	if (atomic_load(&fs->atime) == SPILLFS_ATIME_STRICT || inode_earlier_or_same(&inode->atime, &inode->mtime) ||
	    inode_earlier_or_same(&inode->atime, &inode->ctime) ||
	    now.tv_sec - inode->atime.tv_sec >= INODE_DAY_SECONDS)
		inode->atime = now;
}

void inode_kill_suidgid_locked(struct inode *inode, enum inode_kill kill)
{
	mode_t mode = inode->mode;

	inode_assert_locked(inode);
	if (kill == INODE_KEEP_BITS)
		return;
	/* sgid without group execution is not a privilege (it once meant mandatory locking): the kernel's rule. */
	if ((mode & S_IXGRP) != 0 || kill == INODE_KILL_OUTSIDER)
		mode &= ~(mode_t)S_ISGID;
	inode->mode = mode & ~(mode_t)S_ISUID;
}

void inode_kill_capability(struct fs *fs, struct inode *inode)
{
	xattr_drop_capability(fs, inode);
}

/* --- beginning and end ---------------------------------------------------------------------------------- */

static int inode_make_root(struct fs *fs, mode_t mode, uid_t uid, gid_t gid)
{
	struct tree_stash stash = { 0 };
	struct inode *root;
	int err = inode_new(fs, S_IFDIR | (mode & 07777), uid, gid, 0, &root);

	if (err)
		return err;
	err = ss_stash_fill(fs->store, &stash, TREE_MAX_DEPTH);
	if (!err) {
		root->nlink = 2;
		root->nlookup = 1; /* the kernel's for as long as it is mounted: it never looks the root up */
		root->dir.parent_ino = FUSE_ROOT_ID;
		pthread_rwlock_wrlock(&fs->ns);
		err = inode_insert_locked(fs, root, &stash);
		pthread_rwlock_unlock(&fs->ns);
	}
	ss_stash_drain(fs->store, &stash);
	if (err) {
		inode_free(fs, root);
		return err;
	}
	fs->root = root;
	return 0;
}

int fs_init(struct fs *fs, mode_t root_mode, uid_t uid, gid_t gid)
{
	pthread_rwlockattr_t attr;
	int err;

	/* glibc lets readers starve a writer unless told otherwise; so nobody may take ns for reading twice. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&fs->ns, &attr);
	pthread_rwlockattr_destroy(&attr);

	if (getrandom(&fs->hash_seed, sizeof(fs->hash_seed), GRND_NONBLOCK) != sizeof(fs->hash_seed))
		fs->hash_seed = (uint64_t)inode_now().tv_nsec ^ (uintptr_t)fs; /* a weaker one does no harm */
	fs->next_ino = FUSE_ROOT_ID;
	fs->generation = 1;

	quota_init(fs);
	writers_init(&fs->writers);
	err = dentry_init(fs);
	if (!err) {
		err = inode_make_root(fs, root_mode, uid, gid);
		if (err)
			dentry_destroy(fs);
	}
	if (err) {
		writers_destroy(&fs->writers);
		quota_destroy(fs);
		pthread_rwlock_destroy(&fs->ns);
	}
	return err;
}

/* Takes any inode out of the table, dead or not.  NULL when it is empty. */
static struct inode *inode_take_first(struct fs *fs, struct tree_stash *stash)
{
	uint64_t ino = 0;
	entry_t word;
	int err;

	if (!tree_next(&fs->inodes, &ino, UINT64_MAX, &word))
		return NULL;
	err = tree_replace(&fs->inodes, ino, word, ENTRY_EMPTY, stash);
	assert(err == 0);
	(void)err;
	return (struct inode *)(uintptr_t)word;
}

void fs_destroy(struct fs *fs)
{
	struct tree_stash stash = { 0 };
	struct inode *inode;

	dentry_destroy(fs);
	while ((inode = inode_take_first(fs, &stash)))
		inode_free(fs, inode);
	ss_stash_drain(fs->store, &stash);
	fs->root = NULL;
	writers_destroy(&fs->writers);
	quota_destroy(fs);
	pthread_rwlock_destroy(&fs->ns);
}
