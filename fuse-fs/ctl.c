/* SPDX-License-Identifier: MIT */
/*
 * ctl.c: the daemon's side of ctl.h: ioctls on any directory or file of the mount.  Owns nothing; the figures
 * come from the store and from atomics, so there is no lock.  Called by workers.
 */
#include "fuse-fs/ctl.h"

#include "fuse-fs/flags.h"
#include "fuse-fs/options.h"
#include "fuse-fs/placement.h"
#include "fuse-fs/quota.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static uint32_t ctl_engine(const struct swapstore_stats *st)
{
	if (!st->has_swap)
		return SPILLFS_ENGINE_NONE;
	return st->engine == RING_URING ? SPILLFS_ENGINE_URING : SPILLFS_ENGINE_THREADS;
}

static uint32_t ctl_swap_state(const struct swapstore_stats *st)
{
	if (!st->has_swap)
		return SPILLFS_SWAP_NONE;
	return st->swap_sick ? SPILLFS_SWAP_FAILING : SPILLFS_SWAP_GOOD;
}

static void ctl_fill_status(struct fs *fs, struct spillfs_status *status)
{
	struct swapstore_stats st;

	swapstore_get_stats(fs->store, &st);
	*status = (struct spillfs_status){
		.version = SPILLFS_CTL_VERSION,
		.pid = (uint32_t)getpid(),
		.io_engine = ctl_engine(&st),
		.cache_mode = fs->cache,
		.atime = atomic_load(&fs->atime),
		.nodiratime = atomic_load(&fs->nodiratime),
		.inode_bits = atomic_load(&fs->inode32) ? 32 : 64,
		.huge = placement_huge(fs),
		.reserved_bytes = fs->options->reserve_bytes,
		.size_limit_bytes = st.size_limit_pages << SS_PAGE_SHIFT,
		.size_used_bytes = st.size_used_pages << SS_PAGE_SHIFT,
		.ram_limit_bytes = st.ram_limit_bytes,
		.ram_used_bytes = st.ram_used_bytes,
		.frames_used_bytes = st.frames_used << SS_PAGE_SHIFT,
		.swap_limit_bytes = st.swap_limit_pages << SS_PAGE_SHIFT,
		.swap_used_bytes = st.swap_used_pages << SS_PAGE_SHIFT,
		.swap_bad_bytes = st.swap_bad_pages << SS_PAGE_SHIFT,
		.inodes_limit = atomic_load(&fs->inodes_limit),
		.inodes_used = atomic_load(&fs->inodes_used),
		.swapin_pages_total = st.swapin_pages,
		.swapout_pages_total = st.swapout_pages,
		.swapin_errors_total = st.swapin_errors,
		.swapout_errors_total = st.swapout_errors,
		.checksum_errors_total = st.checksum_errors,
		.zero_pages_total = st.zero_pages,
		.clean_evictions_total = st.clean_evictions,
		.readthrough_pages_total = st.readthrough_pages,
		.writearound_pages_total = st.writearound_pages,
		.bookkeeping_bytes = st.bookkeeping_bytes,
		.swap_state = ctl_swap_state(&st),
		.pinned_bytes = st.wired_pages << SS_PAGE_SHIFT,
		.pinned_limit_bytes = st.wired_limit_pages << SS_PAGE_SHIFT,
	};
	for (unsigned i = 0; i < SPILLFS_CTL_OPCODES; i++)
		status->requests_total[i] = atomic_load_explicit(&fs->requests[i], memory_order_relaxed);
}

/*
 * The size of the struct is part of the command's number, so a client with another layout gets ENOTTY; the
 * version inside catches a change of meaning that left the size alone.
 */
static void ctl_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg, struct fuse_file_info *fi,
		      unsigned flags, const void *in_buf, size_t in_bufsz, size_t out_bufsz)
{
	struct spillfs_status status;
	uint32_t version = 0;

	(void)arg;
	(void)fi;
	(void)flags;
	if (flags_ioctl(req, ino, cmd, in_buf, in_bufsz, out_bufsz) ||
	    change_ioctl(req, cmd, in_buf, in_bufsz, out_bufsz) ||
	    filectl_ioctl(req, ino, cmd, in_buf, in_bufsz, out_bufsz) ||
	    quota_ioctl(req, cmd, in_buf, in_bufsz, out_bufsz) ||
	    swapctl_ioctl(req, cmd, in_buf, in_bufsz, out_bufsz))
		return;
	if (cmd != SPILLFS_IOC_STATUS) {
		fs_reply(req, -ENOTTY);
		return;
	}
	if (in_bufsz < sizeof(version) || out_bufsz < sizeof(status)) {
		fs_reply(req, -EINVAL);
		return;
	}
	memcpy(&version, in_buf, sizeof(version));
	if (version != SPILLFS_CTL_VERSION) {
		fs_reply(req, -EPROTO);
		return;
	}
	ctl_fill_status(fs_of(req), &status);
	fuse_reply_ioctl(req, 0, &status, sizeof(status));
}

void fs_ops_ctl(struct fuse_lowlevel_ops *ops)
{
	ops->ioctl = ctl_ioctl;
}
