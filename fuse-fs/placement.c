/* SPDX-License-Identifier: MIT */
/*
 * placement.c: tells the kernel about the arena's memory (placement.h).  Owns the huge and mpol members of the options
 * that fs->options points at, once the mount serves: only the one change at a time touches them (change.c), and the
 * status may read an old huge.  Called by main.c's thread, then by change.c.
 *
 * The arena is not a file system with its own huge pages: what tmpfs decides for each file is decided for all here.
 */
#include "fuse-fs/placement.h"

#include "fuse-fs/ask.h"
#include "fuse-fs/fs.h"
#include "fuse-fs/log.h"
#include "fuse-fs/options.h"

#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <numaif.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <syslog.h>
#include <unistd.h>

/* linux/mempolicy.h has them, but cannot stand beside numaif.h. */
#define PLACEMENT_STATIC_NODES	 (1 << 15)
#define PLACEMENT_RELATIVE_NODES (1 << 14)

#define PLACEMENT_THP "/sys/kernel/mm/transparent_hugepage/enabled"

/* Has the machine switched huge pages off altogether? */
static bool placement_no_huge_pages(void)
{
	char text[64] = "";
	int fd = open(PLACEMENT_THP, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return true;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return strstr(text, "[never]") != NULL;
}

/* A hint, so nothing here fails; advise leaves the arena as the machine's own setting has it. */
static void placement_advise(enum spillfs_huge huge, bool said, void *start, size_t bytes)
{
	const bool wanted = huge == SPILLFS_HUGE_ALWAYS || huge == SPILLFS_HUGE_WITHIN_SIZE;

	if (said && wanted && placement_no_huge_pages())
		fs_log(LOG_WARNING, "huge=: huge pages are switched off on this machine (%s)", PLACEMENT_THP);
	if (said && huge == SPILLFS_HUGE_WITHIN_SIZE)
		fs_log(LOG_WARNING, "huge=within_size: memory is shared by all files here, so it is huge=always");
	if (huge == SPILLFS_HUGE_ADVISE)
		return;
	if (madvise(start, bytes, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) != 0)
		fs_log(LOG_DEBUG, "madvise: %s", strerror(errno));
}

static int placement_mode(const struct options_mpol *mpol)
{
	static const int modes[] = {
		[MPOL_IS_DEFAULT] = MPOL_DEFAULT,	[MPOL_IS_PREFER] = MPOL_PREFERRED, [MPOL_IS_BIND] = MPOL_BIND,
		[MPOL_IS_INTERLEAVE] = MPOL_INTERLEAVE, [MPOL_IS_LOCAL] = MPOL_LOCAL,
	};

	return modes[mpol->mode] | (mpol->is_static ? PLACEMENT_STATIC_NODES : 0) |
	       (mpol->is_relative ? PLACEMENT_RELATIVE_NODES : 0);
}

static int placement_bind(const struct options_mpol *mpol, void *start, size_t bytes)
{
	const bool nodes = mpol->mode != MPOL_IS_DEFAULT && mpol->mode != MPOL_IS_LOCAL;
	const unsigned long *mask = nodes ? mpol->nodes : NULL;
	unsigned long bits = nodes ? OPTIONS_NODES : 0;

	if (numa_available() < 0) {
		if (mpol->mode != MPOL_IS_DEFAULT)
			fs_log(LOG_WARNING, "mpol=: this kernel has no memory policies");
		return 0;
	}
	if (mpol->all_nodes) {
		mask = numa_all_nodes_ptr->maskp;
		bits = numa_all_nodes_ptr->size;
	}
	/* The kernel takes one bit less than it is told of. */
	return mbind(start, bytes, placement_mode(mpol), mask, mask != NULL ? bits + 1 : 0, 0) == 0 ? 0 : -errno;
}

int placement_place(void *ctx, void *start, size_t bytes)
{
	const struct options *opt = ctx;
	int err = 0;

	placement_advise(opt->huge, (opt->given & OPTIONS_HUGE) != 0, start, bytes);
	if ((opt->given & OPTIONS_MPOL) != 0)
		err = placement_bind(&opt->mpol, start, bytes);
	return err;
}

uint32_t placement_huge(struct fs *fs)
{
	return (uint32_t)fs->options->huge;
}

/* --- another rule --------------------------------------------------------------------------------------------- */

static void placement_from_set(struct options *opt, const struct spillfs_set *set)
{
	opt->given = 0;
	if ((set->mask & SPILLFS_SET_HUGE) != 0) {
		opt->given |= OPTIONS_HUGE;
		opt->huge = (enum spillfs_huge)set->huge;
	}
	if ((set->mask & SPILLFS_SET_MPOL) == 0)
		return;
	opt->given |= OPTIONS_MPOL;
	opt->mpol.mode = set->mpol_mode;
	opt->mpol.is_static = (set->mpol_flags & SPILLFS_MPOL_STATIC) != 0;
	opt->mpol.is_relative = (set->mpol_flags & SPILLFS_MPOL_RELATIVE) != 0;
	opt->mpol.all_nodes = (set->mpol_flags & SPILLFS_MPOL_ALL) != 0;
	memcpy(opt->mpol.nodes, set->mpol_nodes, sizeof(opt->mpol.nodes));
}

int placement_change(struct fs *fs, struct spillfs_set *set, char *why, size_t why_len)
{
	struct options next = *fs->options;
	int err;

	if ((set->mask & (SPILLFS_SET_HUGE | SPILLFS_SET_MPOL)) == 0)
		return 0;
	placement_from_set(&next, set);
	err = swapstore_place(fs->store, placement_place, &next);
	if (err != 0) {
		snprintf(why, why_len, "mpol=: %s", strerror(-err));
		return err;
	}
	ask_placement(fs->options, set);
	fs->options->huge = next.huge;
	fs->options->mpol = next.mpol;
	return 0;
}
