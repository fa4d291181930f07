/* SPDX-License-Identifier: MIT */
/*
 * filectl.c: the ioctls on one file (ctl.h): where its pages are, to swap with them, and keep them in RAM.  Owns
 * nothing: pages are the store's, and its locks leaves.  Called by workers, through ctl.c; the answer to a request
 * that had to wait for a flush comes from the notifier's thread.  The open file keeps the inode.
 *
 * A call does a part of the work, and the client calls again: so no worker is taken for longer than a few MiB of
 * I/O take, and the client can be interrupted.
 */
#include "fuse-fs/file.h"
#include "fuse-fs/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool filectl_may_change(fuse_req_t req, struct inode *inode)
{
	const struct fs *fs = fs_of(req);
	const uid_t uid = fuse_req_ctx(req)->uid;
	struct stat st;

	inode_stat(inode, &st);
	return uid == 0 || uid == fs->mounter || uid == st.st_uid;
}

static void filectl_stat(fuse_req_t req, struct inode *inode, struct spillfs_file_stat stat)
{
	struct ss_object *object = atomic_load(&inode->object);
	struct ss_object_stats st = { 0 };

	if (object != NULL)
		object_get_stats(fs_of(req)->store, object, stat.end_page, &st);
	stat.pinned = st.is_wired;
	stat.resident_pages = st.frames;
	stat.swapped_pages = st.swapped;
	stat.zero_pages = st.zero;
	stat.reserved_pages = st.unwritten;
	stat.below_end_pages = st.below_end;
	stat.dirty_pages = st.dirty;
	stat.pinned_pages = st.wired;
	fuse_reply_ioctl(req, 0, &stat, sizeof(stat));
}

static void filectl_reply_walk(fuse_req_t req, int err, const struct ss_walk *walk)
{
	const struct spillfs_file_walk out = {
		.version = SPILLFS_CTL_VERSION,
		.done = walk->done,
		.next_page = walk->next,
		.moved_pages = walk->moved,
	};

	if (err != 0)
		fs_reply(req, err);
	else
		fuse_reply_ioctl(req, 0, &out, sizeof(out));
}

/* --- evict ------------------------------------------------------------------------------------------------------ */

/* What the kernel caches goes first: it would otherwise stay in RAM, and what of it is dirty come back here. */
struct filectl_waiting {
	struct session_flush flush;
	fuse_req_t req;
};

static void filectl_flushed(struct session_flush *flush)
{
	struct filectl_waiting *wait = (struct filectl_waiting *)flush;

	filectl_reply_walk(wait->req, 0, &(struct ss_walk){ 0 });
	free(wait);
}

static void filectl_evict_begin(fuse_req_t req, struct inode *inode, struct ss_object *object)
{
	struct filectl_waiting *wait = NULL;
	struct swapstore_stats st;
	int err = 0;

	swapstore_get_stats(fs_of(req)->store, &st);
	if (!st.has_swap)
		err = -EOPNOTSUPP;
	else if (object != NULL && object_is_wired(object))
		err = -EBUSY;
	else
		wait = malloc(sizeof(*wait));
	if (wait == NULL) {
		fs_reply(req, err != 0 ? err : -ENOMEM);
		return;
	}
	*wait = (struct filectl_waiting){ .flush = { .ino = inode->ino, .done = filectl_flushed }, .req = req };
	session_flush_inode(fs_of(req)->session, &wait->flush);
}

static void filectl_evict(fuse_req_t req, struct inode *inode, struct ss_walk walk)
{
	struct ss_object *object = atomic_load(&inode->object);
	int err = 0;

	if (walk.next == SPILLFS_WALK_BEGIN) {
		filectl_evict_begin(req, inode, object);
		return;
	}
	if (object != NULL)
		err = object_evict(fs_of(req)->store, object, &walk);
	else
		walk.done = true;
	filectl_reply_walk(req, err, &walk);
}

/* --- pin -------------------------------------------------------------------------------------------------------- */

static void filectl_pin(fuse_req_t req, struct inode *inode, struct ss_walk walk)
{
	struct fs *fs = fs_of(req);
	struct ss_object *object = file_object(fs, inode, 0);
	int err = 0;

	if (walk.next == SPILLFS_WALK_BEGIN)
		walk.next = 0;
	err = object != NULL ? object_wire(fs->store, object, &walk) : -ENOSPC;
	filectl_reply_walk(req, err, &walk);
}

static void filectl_unpin(fuse_req_t req, struct inode *inode)
{
	struct ss_object *object = atomic_load(&inode->object);

	if (object != NULL)
		object_unwire(fs_of(req)->store, object);
	filectl_reply_walk(req, 0, &(struct ss_walk){ .done = true });
}

/* --- the request ------------------------------------------------------------------------------------------------ */

/* Every one of them begins with a version; in and out are of the same size. */
static int filectl_check(struct inode *inode, const void *in, size_t in_len, size_t out_len, size_t size)
{
	uint32_t version = 0;

	if (in_len < size || out_len < size)
		return -EINVAL;
	memcpy(&version, in, sizeof(version));
	if (version != SPILLFS_CTL_VERSION)
		return -EPROTO;
	if (inode == NULL)
		return -ESTALE;
	return S_ISREG(inode->mode) ? 0 : -EINVAL;
}

static void filectl_change(fuse_req_t req, struct inode *inode, unsigned cmd, const struct spillfs_file_walk *in)
{
	const struct ss_walk walk = { .next = in->next_page, .moved = in->moved_pages };

	if (!filectl_may_change(req, inode))
		fs_reply(req, -EPERM);
	else if (cmd == SPILLFS_IOC_FILE_EVICT)
		filectl_evict(req, inode, walk);
	else if (cmd == SPILLFS_IOC_FILE_PIN)
		filectl_pin(req, inode, walk);
	else
		filectl_unpin(req, inode);
}

bool filectl_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, const void *in, size_t in_len, size_t out_len)
{
	const bool is_stat = cmd == SPILLFS_IOC_FILE_STAT;
	struct inode *inode = NULL;
	union {
		struct spillfs_file_stat stat;
		struct spillfs_file_walk walk;
	} arg;
	const size_t size = is_stat ? sizeof(arg.stat) : sizeof(arg.walk);
	int err = 0;

	if (!is_stat && cmd != SPILLFS_IOC_FILE_EVICT && cmd != SPILLFS_IOC_FILE_PIN && cmd != SPILLFS_IOC_FILE_UNPIN)
		return false;
	inode = inode_get(fs_of(req), ino);
	err = filectl_check(inode, in, in_len, out_len, size);
	if (err != 0) {
		fs_reply(req, err);
		return true;
	}
	memcpy(&arg, in, size);
	if (is_stat)
		filectl_stat(req, inode, arg.stat);
	else
		filectl_change(req, inode, cmd, &arg.walk);
	return true;
}
