/* SPDX-License-Identifier: MIT */
/*
 * place.c: finds the directory of the segments, and makes sure that it is on a spillfs mount: ids are inode numbers,
 * and only there is none ever given twice.  The answer is kept for the life of the process, under a lock of its own;
 * the descriptor is not, since programs close what they do not know.  Called by sysv.c and attach.c.
 */
#include "tools/sysv/place.h"

#include "fuse-fs/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct {
	pthread_mutex_t lock;
	bool told;
	char path[PATH_MAX]; /* "": not found yet */
} place = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int place_refuse_locked(const char *path, const char *why)
{
	if (!place.told)
		fprintf(stderr, "libspillfs-sysv: %s: %s; SPILLFS_SYSV_DIR must name a directory on a spillfs mount\n",
			path, why);
	place.told = true;
	return -ENOSYS;
}

static int place_find_locked(void)
{
	struct spillfs_status status = { .version = SPILLFS_CTL_VERSION };
	const char *path = secure_getenv("SPILLFS_SYSV_DIR");
	int fd, rc;

	if (path == NULL || path[0] == '\0')
		path = "/dev/shm";
	if (path[0] != '/')
		return place_refuse_locked(path, "not an absolute path");
	if (strlen(path) >= sizeof(place.path))
		return place_refuse_locked(path, strerror(ENAMETOOLONG));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return place_refuse_locked(path, strerror(errno));
	rc = ioctl(fd, SPILLFS_IOC_STATUS, &status);
	close(fd);
	if (rc != 0)
		return place_refuse_locked(path, "not on a spillfs mount, or on one of another version");
	strcpy(place.path, path);
	return 0;
}

void place_lock(void)
{
	pthread_mutex_lock(&place.lock);
}

void place_unlock(void)
{
	pthread_mutex_unlock(&place.lock);
}

int place_open(void)
{
	int fd, rc = 0;

	place_lock();
	if (place.path[0] == '\0')
		rc = place_find_locked();
	place_unlock();
	if (rc != 0)
		return rc;
	fd = open(place.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
