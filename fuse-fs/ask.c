/* SPDX-License-Identifier: MIT */
/*
 * ask.c: a client's side of SPILLFS_IOC_SET: from options to the struct, and through the mount to its daemon.  Owns
 * nothing; needs no lock.  Called by remount.c and by spillctl.
 */
#include "fuse-fs/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

void ask_placement(const struct options *opt, struct spillfs_set *set)
{
	set->huge = (uint32_t)opt->huge;
	set->mpol_mode = (uint32_t)opt->mpol.mode;
	set->mpol_flags = (opt->mpol.is_static ? SPILLFS_MPOL_STATIC : 0U) |
			  (opt->mpol.is_relative ? SPILLFS_MPOL_RELATIVE : 0U) |
			  (opt->mpol.all_nodes ? SPILLFS_MPOL_ALL : 0U);
	memcpy(set->mpol_nodes, opt->mpol.nodes, sizeof(opt->mpol.nodes));
}

int ask_fill(const struct options *opt, struct spillfs_set *set, char *why, size_t why_len)
{
	static const struct {
		unsigned given;
		uint32_t mask;
	} pairs[] = {
		{ OPTIONS_SIZE, SPILLFS_SET_SIZE },	    { OPTIONS_RAM, SPILLFS_SET_RAM },
		{ OPTIONS_SWAPSIZE, SPILLFS_SET_SWAPSIZE }, { OPTIONS_INODES, SPILLFS_SET_INODES },
		{ OPTIONS_HUGE, SPILLFS_SET_HUGE },	    { OPTIONS_INODE_BITS, SPILLFS_SET_INODE_BITS },
		{ OPTIONS_MPOL, SPILLFS_SET_MPOL },	    { OPTIONS_CACHE, SPILLFS_SET_CACHE },
		{ OPTIONS_SWAP, SPILLFS_SET_SWAP },	    { OPTIONS_NOSWAP, SPILLFS_SET_NOSWAP },
		{ OPTIONS_RESERVE, SPILLFS_SET_RESERVE },   { OPTIONS_USRQUOTA, SPILLFS_SET_USRQUOTA },
		{ OPTIONS_GRPQUOTA, SPILLFS_SET_GRPQUOTA }, { OPTIONS_USR_BLOCKS, SPILLFS_SET_USR_BLOCKS },
		{ OPTIONS_USR_INODES, SPILLFS_SET_USR_INODES }, { OPTIONS_GRP_BLOCKS, SPILLFS_SET_GRP_BLOCKS },
		{ OPTIONS_GRP_INODES, SPILLFS_SET_GRP_INODES }, { OPTIONS_ACL, SPILLFS_SET_ACL },
	};

	*set = (struct spillfs_set){
		.version = SPILLFS_CTL_VERSION,
		.cache_mode = (uint32_t)opt->cache,
		.noacl = opt->noacl,
		.inode_bits = opt->inode32 ? 32 : 64,
		.size_bytes = opt->size_bytes,
		.ram_bytes = opt->ram_bytes,
		.swap_bytes = opt->swap_bytes,
		.reserve_bytes = opt->reserve_bytes,
		.inodes_limit = opt->inodes_limit,
		.usr_block_bytes = opt->usr_hardlimit.block_bytes,
		.usr_inodes = opt->usr_hardlimit.inodes,
		.grp_block_bytes = opt->grp_hardlimit.block_bytes,
		.grp_inodes = opt->grp_hardlimit.inodes,
	};
	ask_placement(opt, set);
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if ((opt->given & pairs[i].given) != 0)
			set->mask |= pairs[i].mask;
	if ((opt->given & OPTIONS_SWAP) == 0)
		return 0;
	if (strlen(opt->swap_path) >= sizeof(set->swap_path)) {
		snprintf(why, why_len, "'swap=%s' is too long", opt->swap_path);
		return -EINVAL;
	}
	strcpy(set->swap_path, opt->swap_path);
	return 0;
}

/* Words for what is not the daemon's own answer. */
static const char *ask_words(int err)
{
	switch (err) {
	case EPERM:
		return "only root and who mounted it may change a mount";
	case EBUSY:
		return "another change is under way";
	case EPROTO:
	case ENOTTY:
		return "not a spillfs, or one of another version";
	default:
		return strerror(err);
	}
}

int ask_set(const char *mountpoint, struct spillfs_set *set, char *why, size_t why_len)
{
	int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 ? errno : 0;

	if (err == 0 && ioctl(fd, SPILLFS_IOC_SET, set) != 0)
		err = errno;
	if (fd >= 0)
		close(fd);
	if (err != 0)
		snprintf(why, why_len, "%s", ask_words(err));
	else if (set->error != 0)
		snprintf(why, why_len, "%.*s", (int)sizeof(set->why) - 1, set->why);
	return err != 0 ? -err : -set->error;
}
