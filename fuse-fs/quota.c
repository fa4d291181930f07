/* SPDX-License-Identifier: MIT */
/*
 * quota: owns the records of users and groups (quota.h).  fs->quota.lock guards the tables and the order of charges
 * and changes of owner: inode->owner, and through it its object's payer, changes under it alone.  Taken with no other
 * lock held; inode->lock and an object's lock come after it.  Counts are atomic.  Called by inode.c, attr.c, file.c,
 * space.c and ctl.c.
 */
#include "fuse-fs/quota.h"

#include "fuse-fs/session.h"
#include "swapstore/util.h"

#include <string.h>

/* One owner and two ids may be new, each in a tree of its own. */
#define QUOTA_NODES (3 * TREE_STORE_NODES)

/* What a search may need for records that are not there yet; brought before the lock. */
struct quota_spare {
	struct tree_stash stash;
	struct quota_owner *owner;
	struct quota_id *id[QUOTA_KINDS];
};

static bool quota_is_on(const struct fs *fs)
{
	return fs->quota.kind[QUOTA_USER].on || fs->quota.kind[QUOTA_GROUP].on;
}

/* --- the records -------------------------------------------------------------------------------------------------- */

static int quota_bring(struct fs *fs, struct quota_spare *spare)
{
	spare->owner = ss_alloc(fs->store, sizeof(*spare->owner));
	for (unsigned k = 0; k < QUOTA_KINDS; k++)
		spare->id[k] = ss_alloc(fs->store, sizeof(*spare->id[k]));
	if (!spare->owner || !spare->id[QUOTA_USER] || !spare->id[QUOTA_GROUP])
		return -ENOSPC;
	return ss_stash_fill(fs->store, &spare->stash, QUOTA_NODES);
}

static void quota_take_back(struct fs *fs, struct quota_spare *spare)
{
	ss_stash_drain(fs->store, &spare->stash);
	if (spare->owner)
		ss_free(fs->store, spare->owner, sizeof(*spare->owner));
	for (unsigned k = 0; k < QUOTA_KINDS; k++)
		if (spare->id[k])
			ss_free(fs->store, spare->id[k], sizeof(*spare->id[k]));
}

static void quota_insert_locked(struct tree *tree, uint64_t key, void *record, struct tree_stash *stash)
{
	int err = tree_replace(tree, key, ENTRY_EMPTY, (entry_t)(uintptr_t)record, stash);

	assert(err == 0); /* the stash was filled for it */
	(void)err;
}

/* The record of an id; made from the spare, with the mount's limits, if there is none.  NULL: none, and no spare. */
static struct quota_id *quota_id_locked(struct fs *fs, enum quota_kind kind, uint32_t id, struct quota_spare *spare)
{
	struct quota_table *table = &fs->quota.kind[kind];
	struct quota_id *qi = (struct quota_id *)(uintptr_t)tree_load(&table->ids, id);

	if (qi || !spare)
		return qi;
	qi = spare->id[kind];
	spare->id[kind] = NULL;
	qi->id = id;
	if (id != 0) { /* as tmpfs: root begins without */
		atomic_store(&qi->pages.limit, table->pages_limit);
		atomic_store(&qi->inodes_limit, table->inodes_limit);
	}
	quota_insert_locked(&table->ids, id, qi, &spare->stash);
	return qi;
}

static struct quota_owner *quota_owner_locked(struct fs *fs, uid_t uid, gid_t gid, struct quota_spare *spare)
{
	const uint64_t key = (uint64_t)uid << 32 | gid;
	const uint32_t id[QUOTA_KINDS] = { [QUOTA_USER] = uid, [QUOTA_GROUP] = gid };
	struct quota_owner *owner = (struct quota_owner *)(uintptr_t)tree_load(&fs->quota.owners, key);

	if (owner || !spare)
		return owner;
	owner = spare->owner;
	spare->owner = NULL;
	for (unsigned k = 0; k < QUOTA_KINDS; k++) {
		if (!fs->quota.kind[k].on)
			continue;
		owner->id[k] = quota_id_locked(fs, k, id[k], spare);
		owner->payer.account[k] = &owner->id[k]->pages;
	}
	quota_insert_locked(&fs->quota.owners, key, owner, &spare->stash);
	return owner;
}

/* Makes sure that the record of this owner is there.  0 or -ENOSPC. */
static int quota_prepare(struct fs *fs, uid_t uid, gid_t gid, struct quota_owner **out)
{
	struct quota_spare spare = { 0 };
	int err = 0;

	pthread_mutex_lock(&fs->quota.lock);
	*out = quota_owner_locked(fs, uid, gid, NULL);
	pthread_mutex_unlock(&fs->quota.lock);
	if (*out)
		return 0;
	err = quota_bring(fs, &spare);
	if (!err) {
		pthread_mutex_lock(&fs->quota.lock);
		*out = quota_owner_locked(fs, uid, gid, &spare);
		pthread_mutex_unlock(&fs->quota.lock);
	}
	quota_take_back(fs, &spare);
	return err;
}

void quota_init(struct fs *fs)
{
	pthread_mutex_init(&fs->quota.lock, NULL);
}

static void quota_free_all(struct fs *fs, struct tree *tree, size_t size)
{
	struct tree_stash stash = { 0 };
	uint64_t key = 0;
	entry_t word;

	while (tree_next(tree, &key, UINT64_MAX, &word)) {
		tree_replace(tree, key, word, ENTRY_EMPTY, &stash);
		ss_free(fs->store, (void *)(uintptr_t)word, size);
	}
	ss_stash_drain(fs->store, &stash);
}

void quota_destroy(struct fs *fs)
{
	quota_free_all(fs, &fs->quota.owners, sizeof(struct quota_owner));
	for (unsigned k = 0; k < QUOTA_KINDS; k++)
		quota_free_all(fs, &fs->quota.kind[k].ids, sizeof(struct quota_id));
	pthread_mutex_destroy(&fs->quota.lock);
}

/* --- inodes ---------------------------------------------------------------------------------------------------------- */

static bool quota_add_inode(struct quota_id *qi, bool forced)
{
	uint64_t inodes = atomic_load(&qi->inodes), limit;

	do {
		limit = atomic_load(&qi->inodes_limit);
		if (!forced && limit && inodes >= limit)
			return false;
	} while (!atomic_compare_exchange_weak(&qi->inodes, &inodes, inodes + 1));
	return true;
}

static void quota_take_inode(struct quota_id *qi)
{
	uint64_t was = atomic_fetch_sub(&qi->inodes, 1);

	assert(was > 0);
	(void)was;
}

/* One inode more for each of to's ids that is not among from's (NULL: for all).  All or none. */
static int quota_add_to(struct quota_owner *to, const struct quota_owner *from, bool forced)
{
	for (unsigned k = 0; k < QUOTA_KINDS; k++) {
		if (!to->id[k] || (from && from->id[k] == to->id[k]) || quota_add_inode(to->id[k], forced))
			continue;
		while (k-- > 0)
			if (to->id[k] && !(from && from->id[k] == to->id[k]))
				quota_take_inode(to->id[k]);
		return -EDQUOT;
	}
	return 0;
}

static void quota_take_from(struct quota_owner *from, const struct quota_owner *to)
{
	for (unsigned k = 0; k < QUOTA_KINDS; k++)
		if (from->id[k] && !(to && to->id[k] == from->id[k]))
			quota_take_inode(from->id[k]);
}

int quota_charge_inode(struct fs *fs, struct inode *inode)
{
	struct quota_owner *owner = NULL;
	int err;

	if (!quota_is_on(fs))
		return 0;
	err = quota_prepare(fs, inode->uid, inode->gid, &owner);
	if (!err)
		err = quota_add_to(owner, NULL, inode->uid == 0); /* who creates it, owns it */
	if (!err)
		atomic_store(&inode->owner, owner);
	return err;
}

void quota_uncharge_inode(struct inode *inode)
{
	struct quota_owner *owner = atomic_load(&inode->owner);

	if (owner)
		quota_take_from(owner, NULL);
}

/* --- pages ------------------------------------------------------------------------------------------------------------ */

struct ss_object *quota_attach(struct fs *fs, struct inode *inode, struct ss_object *made)
{
	struct ss_object *object = NULL;
	struct quota_owner *owner;

	if (!quota_is_on(fs)) {
		atomic_compare_exchange_strong(&inode->object, &object, made);
		return object ? object : made;
	}
	UTIL_LOCKED(&fs->quota.lock);
	owner = atomic_load(&inode->owner);
	object_set_payer(made, owner ? &owner->payer : NULL, SS_WRITE_FORCED); /* it has no pages yet */
	atomic_compare_exchange_strong(&inode->object, &object, made);
	return object ? object : made;
}

int quota_transfer(struct fs *fs, struct inode *inode, uid_t uid, gid_t gid, bool forced)
{
	struct quota_owner *to = NULL, *from;
	struct ss_object *object;
	int err;

	if (!quota_is_on(fs))
		return 0;
	err = quota_prepare(fs, uid, gid, &to);
	if (err)
		return err;
	pthread_mutex_lock(&fs->quota.lock);
	from = atomic_load(&inode->owner);
	object = S_ISREG(inode->mode) ? atomic_load(&inode->object) : NULL;
	err = quota_add_to(to, from, forced);
	if (!err && object) {
		err = object_set_payer(object, &to->payer, forced ? SS_WRITE_FORCED : 0);
		if (err)
			quota_take_from(to, from);
	}
	if (!err) {
		quota_take_from(from, to);
		atomic_store(&inode->owner, to);
	}
	pthread_mutex_unlock(&fs->quota.lock);
	if (!err)
		quota_changed(fs, inode);
	return err;
}

/* --- near a limit -------------------------------------------------------------------------------------------------- */

bool quota_is_near(const struct inode *inode)
{
	const struct quota_owner *owner = atomic_load_explicit(&inode->owner, memory_order_acquire);

	for (unsigned k = 0; owner && k < QUOTA_KINDS; k++)
		if (owner->id[k] && atomic_load(&owner->id[k]->near))
			return true;
	return false;
}

/* As space_changed(), of one id: whoever turns the switch tells the kernel. */
static void quota_watch(struct fs *fs, struct quota_id *qi)
{
	const uint64_t near_pages = space_near_pages(fs);
	uint64_t left = ss_account_left(&qi->pages);
	bool near = atomic_load(&qi->near);

	if (fs->cache != SPILLFS_CACHE_KERNEL)
		return;
	if (near && left > near_pages + near_pages / 4) {
		atomic_store(&qi->near, near = false);
		left = ss_account_left(&qi->pages);
	}
	if (!near && left < near_pages && atomic_compare_exchange_strong(&qi->near, &near, true))
		space_ask(fs);
}

void quota_changed(struct fs *fs, const struct inode *inode)
{
	const struct quota_owner *owner = atomic_load_explicit(&inode->owner, memory_order_acquire);

	for (unsigned k = 0; owner && k < QUOTA_KINDS; k++)
		if (owner->id[k])
			quota_watch(fs, owner->id[k]);
}

/* --- ctl ----------------------------------------------------------------------------------------------------------- */

static void quota_reply(fuse_req_t req, enum quota_kind kind, const struct quota_id *qi)
{
	const struct spillfs_quota out = {
		.version = SPILLFS_CTL_VERSION,
		.kind = kind,
		.id = qi->id,
		.block_used_bytes = atomic_load(&qi->pages.pages) << SS_PAGE_SHIFT,
		.block_limit_bytes = atomic_load(&qi->pages.limit) << SS_PAGE_SHIFT,
		.inodes_used = atomic_load(&qi->inodes),
		.inodes_limit = atomic_load(&qi->inodes_limit),
	};

	fuse_reply_ioctl(req, 0, &out, sizeof(out));
}

/* The first id from in->id on that has a record and that the caller may see: all, or its own. */
static void quota_next(fuse_req_t req, const struct spillfs_quota *in)
{
	struct fs *fs = fs_of(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	const bool all = ctx->uid == 0 || ctx->uid == fs->mounter;
	const uint32_t own = in->kind == QUOTA_USER ? ctx->uid : ctx->gid;
	uint64_t id = in->id > own || all ? in->id : own;
	entry_t word = ENTRY_EMPTY;
	bool found = false;

	pthread_mutex_lock(&fs->quota.lock);
	found = tree_next(&fs->quota.kind[in->kind].ids, &id, UINT32_MAX, &word) && (all || id == own);
	pthread_mutex_unlock(&fs->quota.lock);
	if (found)
		quota_reply(req, in->kind, (const struct quota_id *)(uintptr_t)word);
	else
		fs_reply(req, -ENOENT);
}

static void quota_set(fuse_req_t req, const struct spillfs_quota *in)
{
	struct fs *fs = fs_of(req);
	const uid_t uid = fuse_req_ctx(req)->uid;
	struct quota_spare spare = { 0 };
	struct quota_id *qi = NULL;
	int err = uid == 0 || uid == fs->mounter ? quota_bring(fs, &spare) : -EPERM;

	if (!err) {
		pthread_mutex_lock(&fs->quota.lock);
		qi = quota_id_locked(fs, in->kind, in->id, &spare);
		if (in->set & SPILLFS_QUOTA_BLOCK)
			atomic_store(&qi->pages.limit, quota_limit_pages(in->block_limit_bytes));
		if (in->set & SPILLFS_QUOTA_INODE)
			atomic_store(&qi->inodes_limit, in->inodes_limit);
		if (in->set & SPILLFS_QUOTA_BLOCK && in->block_limit_bytes)
			atomic_store(&fs->quota.limits_pages, true);
		pthread_mutex_unlock(&fs->quota.lock);
		space_changed(fs);
		quota_watch(fs, qi);
	}
	quota_take_back(fs, &spare);
	if (err)
		fs_reply(req, err);
	else
		quota_reply(req, in->kind, qi);
}

bool quota_ioctl(fuse_req_t req, unsigned cmd, const void *in, size_t in_len, size_t out_len)
{
	const struct fs *fs = fs_of(req);
	struct spillfs_quota arg = { 0 };
	int err = 0;

	if (cmd != SPILLFS_IOC_QUOTA_NEXT && cmd != SPILLFS_IOC_QUOTA_SET)
		return false;
	if (in_len >= sizeof(arg))
		memcpy(&arg, in, sizeof(arg));
	if (in_len < sizeof(arg) || out_len < sizeof(arg) || arg.kind >= QUOTA_KINDS)
		err = -EINVAL;
	else if (arg.version != SPILLFS_CTL_VERSION)
		err = -EPROTO;
	else if (!fs->quota.kind[arg.kind].on)
		err = -ESRCH;
	if (err)
		fs_reply(req, err);
	else if (cmd == SPILLFS_IOC_QUOTA_NEXT)
		quota_next(req, &arg);
	else
		quota_set(req, &arg);
	return true;
}

