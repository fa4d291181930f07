/* SPDX-License-Identifier: MIT */
/*
 * spillctl_ctl: the mount that a verb speaks to: opens it, asks for its status, and says in words why it could not
 * be asked.  Owns nothing, no locks.  Called by every verb.
 */
#include "tools/spillctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int spillctl_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int spillctl_fetch_status(const char *path, struct spillfs_status *st)
{
	int fd = spillctl_open(path);
	int err = 0;

	if (fd < 0)
		return fd;
	memset(st, 0, sizeof(*st));
	st->version = SPILLFS_CTL_VERSION;
	if (ioctl(fd, SPILLFS_IOC_STATUS, st) != 0)
		err = -errno;
	else if (st->version != SPILLFS_CTL_VERSION)
		err = -EPROTO;
	close(fd);
	return err;
}

void spillctl_complain(const char *path, int err)
{
	const char *why;

	switch (-err) {
	case ENOTTY:
	case ENOSYS:
	case EOPNOTSUPP:
	case EINVAL:
		why = "not a spillfs mount";
		break;
	case EPROTO:
		why = "this spillfs speaks another version of the control interface; use the spillctl that came with it";
		break;
	case ENOTCONN:
	case ECONNABORTED:
		why = "the daemon of this mount is gone; unmount it";
		break;
	default:
		why = strerror(-err);
		break;
	}
	fprintf(stderr, "spillctl: %s: %s\n", path, why);
}
