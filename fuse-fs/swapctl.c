/* SPDX-License-Identifier: MIT */
/*
 * swapctl.c: the ioctls on swap areas (ctl.h): lists them, adds one, takes one away step by step.  Owns nothing:
 * areas are the store's.  Called by workers, through ctl.c; the answer to the first part of a swapoff comes from the
 * flusher's thread.
 *
 * Paths are opened by the daemon, in its own mount namespace and with its own rights, which are the mounter's: nothing
 * of a file passes through the kernel's ioctl, and nobody but the mounter and root may ask, so whoever may ask could
 * have mounted with that path.
 */
#include "fuse-fs/file.h"
#include "fuse-fs/session.h"
#include "swapstore/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWAPCTL_STEP_MS	    100	 /* a worker works on a swapoff for so long at a time */
#define SWAPCTL_PATIENCE_MS 2000 /* it is begun again for so long, if files were removed that may come free yet */

static bool swapctl_may_change(fuse_req_t req)
{
	const uid_t uid = fuse_req_ctx(req)->uid;

	return uid == 0 || uid == fs_of(req)->mounter;
}

/* --- list ------------------------------------------------------------------------------------------------------- */

static void swapctl_area(fuse_req_t req, const struct spillfs_area *in)
{
	static const uint32_t kinds[] = {
		[SWAPFILE_UNNAMED] = SPILLFS_AREA_DIRECTORY,
		[SWAPFILE_REGULAR] = SPILLFS_AREA_FILE,
		[SWAPFILE_BLOCK] = SPILLFS_AREA_DEVICE,
	};
	struct spillfs_area out = { .version = SPILLFS_CTL_VERSION };
	struct ss_area area;
	int err = swapstore_area_next(fs_of(req)->store, in->area, &area);

	if (err != 0) {
		fs_reply(req, err);
		return;
	}
	out.area = area.number;
	out.priority = area.priority;
	out.kind = kinds[area.kind];
	out.state = area.is_leaving ? SPILLFS_AREA_LEAVING : area.is_sick ? SPILLFS_AREA_SICK : SPILLFS_AREA_IN_USE;
	out.size_bytes = area.total_pages << SS_PAGE_SHIFT;
	out.used_bytes = area.used_pages << SS_PAGE_SHIFT;
	out.bad_bytes = area.bad_pages << SS_PAGE_SHIFT;
	memcpy(out.path, area.path, sizeof(out.path));
	fuse_reply_ioctl(req, 0, &out, sizeof(out));
}

/* --- swapon ----------------------------------------------------------------------------------------------------- */

static int swapctl_check(struct fs *fs, const struct spillfs_swapon *in, char *why, size_t why_len)
{
	if (memchr(in->path, '\0', sizeof(in->path)) == NULL || in->path[0] != '/') {
		snprintf(why, why_len, "not an absolute path");
		return -EINVAL;
	}
	if (in->priority != SPILLFS_PRIORITY_AUTO && (in->priority < 0 || in->priority > SS_PRIORITY_MAX)) {
		snprintf(why, why_len, "priorities are 0 to %d", SS_PRIORITY_MAX);
		return -EINVAL;
	}
	if (session_holds_path(fs->session, in->path)) {
		snprintf(why, why_len, "%.400s lies in the mount itself", in->path);
		return -EINVAL;
	}
	return 0;
}

static void swapctl_swapon(fuse_req_t req, const struct spillfs_swapon *in)
{
	struct spillfs_swapon out = { .version = SPILLFS_CTL_VERSION };
	struct fs *fs = fs_of(req);

	out.error = swapctl_check(fs, in, out.why, sizeof(out.why));
	if (out.error == 0)
		out.error = swapstore_swapon(fs->store, in->path, in->size_bytes,
					     in->priority == SPILLFS_PRIORITY_AUTO ? SS_PRIORITY_AUTO : in->priority,
					     out.why, sizeof(out.why));
	space_changed(fs);
	fuse_reply_ioctl(req, 0, &out, sizeof(out));
}

/* --- swapoff ------------------------------------------------------------------------------------------------------ */

static void swapctl_reply_swapoff(fuse_req_t req, struct spillfs_swapoff *out)
{
	struct ss_area area;

	out->version = SPILLFS_CTL_VERSION;
	if (swapstore_area_next(fs_of(req)->store, out->area, &area) == 0 && area.number == out->area)
		out->left_bytes = area.used_pages << SS_PAGE_SHIFT;
	fuse_reply_ioctl(req, 0, out, sizeof(*out));
}

struct swapctl_waiting {
	struct session_flush flush;
	fuse_req_t req;
	unsigned area;
};

static void swapctl_flushed(struct session_flush *flush)
{
	struct swapctl_waiting *wait = (struct swapctl_waiting *)flush;
	struct spillfs_swapoff out = { .area = wait->area, .error = -EAGAIN };

	session_flush_writers(fs_of(wait->req)->session);
	swapctl_reply_swapoff(wait->req, &out);
	free(wait);
}

/*
 * What applications wrote and the kernel has not sent yet counts on the room there was.  From now on writers are
 * told of less (space.c); what they wrote before that is written back, into the room there still is; and only then
 * the area stops being room for anything.
 */
static void swapctl_begin(fuse_req_t req, const struct spillfs_swapoff *in)
{
	struct spillfs_swapoff out = { .area = in->area };
	struct swapctl_waiting *wait = malloc(sizeof(*wait));
	struct fs *fs = fs_of(req);

	out.error = wait != NULL ? swapstore_swapoff_begin(fs->store, in->area) : -ENOMEM;
	if (out.error == -EBUSY)
		snprintf(out.why, sizeof(out.why), "another swapoff is under way");
	else if (out.error != 0)
		snprintf(out.why, sizeof(out.why), "%s", out.error == -ENOENT ? "no such area" : strerror(-out.error));
	if (out.error != 0) {
		free(wait);
		swapctl_reply_swapoff(req, &out);
		return;
	}
	space_changed(fs);
	*wait = (struct swapctl_waiting){ .flush = { .ino = FUSE_ROOT_ID, .done = swapctl_flushed },
					  .req = req,
					  .area = in->area };
	session_flush_inode(fs->session, &wait->flush);
}

static void swapctl_swapoff(fuse_req_t req, const struct spillfs_swapoff *in)
{
	struct spillfs_swapoff out = { .area = in->area, .error = -EINVAL };
	struct fs *fs = fs_of(req);

	switch (in->what) {
	case SPILLFS_SWAPOFF_BEGIN:
		atomic_store(&fs->swapoff_ms, util_now_ms());
		swapctl_begin(req, in);
		return;
	case SPILLFS_SWAPOFF_GO_ON:
		out.error = swapstore_swapoff_step(fs->store, in->area, SWAPCTL_STEP_MS, out.why, sizeof(out.why));
		if (out.error == -ENOSPC && util_now_ms() - atomic_load(&fs->swapoff_ms) < SWAPCTL_PATIENCE_MS &&
		    inode_wait_for_removed(fs)) {
			swapctl_begin(req, in);
			return;
		}
		break;
	case SPILLFS_SWAPOFF_STOP:
		swapstore_swapoff_cancel(fs->store, in->area);
		out.error = 0;
		break;
	}
	space_changed(fs);
	swapctl_reply_swapoff(req, &out);
}

/* --- which ---------------------------------------------------------------------------------------------------------- */

static size_t swapctl_bytes(unsigned cmd)
{
	switch (cmd) {
	case SPILLFS_IOC_AREA:
		return sizeof(struct spillfs_area);
	case SPILLFS_IOC_SWAPON:
		return sizeof(struct spillfs_swapon);
	case SPILLFS_IOC_SWAPOFF:
		return sizeof(struct spillfs_swapoff);
	default:
		return 0;
	}
}

bool swapctl_ioctl(fuse_req_t req, unsigned cmd, const void *in, size_t in_len, size_t out_len)
{
	const size_t bytes = swapctl_bytes(cmd);
	uint32_t version = 0;

	if (bytes == 0)
		return false;
	if (in_len < bytes || out_len < bytes) {
		fs_reply(req, -EINVAL);
		return true;
	}
	memcpy(&version, in, sizeof(version));
	if (version != SPILLFS_CTL_VERSION)
		fs_reply(req, -EPROTO);
	else if (cmd == SPILLFS_IOC_AREA)
		swapctl_area(req, in);
	else if (!swapctl_may_change(req))
		fs_reply(req, -EPERM);
	else if (cmd == SPILLFS_IOC_SWAPON)
		swapctl_swapon(req, in);
	else
		swapctl_swapoff(req, in);
	return true;
}
