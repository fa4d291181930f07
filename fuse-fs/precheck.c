/* SPDX-License-Identifier: MIT */
/*
 * precheck.c: looks at the mount point and the swap path before anything is started.  Owns nothing and needs
 * no lock.  Called by main.c.
 *
 * A dead or hanging mount must not hang the one who wants to mount there: /proc/self/mountinfo is asked first,
 * and the path itself only when no spillfs is mounted at it.
 */
#include "fuse-fs/precheck.h"

#include "fuse-fs/mountinfo.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void precheck_free(char **s)
{
	free(*s);
}

/*
 * The canonical path without asking what is mounted at the path itself: its parent's, and the last name.
 * malloc()ed, or NULL with errno.
 */
static char *precheck_canonical(const char *path)
{
	char *copy __attribute__((cleanup(precheck_free))) = strdup(path);
	char *parent __attribute__((cleanup(precheck_free))) = NULL;
	char *slash = NULL;
	char *result = NULL;

	if (copy == NULL)
		return NULL;
	for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
		copy[n - 1] = '\0';
	slash = strrchr(copy, '/');
	if (slash == NULL || slash[1] == '\0' || strcmp(slash + 1, ".") == 0 || strcmp(slash + 1, "..") == 0)
		return realpath(copy, NULL);
	*slash = '\0';
	parent = realpath(slash == copy ? "/" : copy, NULL);
	if (parent == NULL)
		return NULL;
	if (asprintf(&result, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, slash + 1) < 0)
		return NULL;
	return result;
}

static int precheck_not_spillfs(const char *path, char *why, size_t why_len)
{
	unsigned major = 0, minor = 0;

	if (!mountinfo_find_spillfs(path, &major, &minor))
		return 0;
	snprintf(why, why_len, "mount point %s is busy: a spillfs is mounted there already", path);
	return -EBUSY;
}

int precheck_mountpoint(struct options *opt, char *why, size_t why_len)
{
	char *path __attribute__((cleanup(precheck_free))) = precheck_canonical(opt->mountpoint);
	char *real = NULL;
	struct stat st;
	int err = 0;

	if (path != NULL) {
		err = precheck_not_spillfs(path, why, why_len);
		if (err != 0)
			return err;
		real = realpath(path, NULL);
	}
	if (real == NULL || stat(real, &st) != 0) {
		err = -errno;
		snprintf(why, why_len, "mount point %s: %s", opt->mountpoint, strerror(errno));
		free(real);
		return err;
	}
	free(opt->mountpoint);
	opt->mountpoint = real;
	if (!S_ISDIR(st.st_mode)) {
		snprintf(why, why_len, "mount point %s is not a directory", real);
		return -ENOTDIR;
	}
	/* Once more: the last name may have been a symbolic link. */
	return precheck_not_spillfs(real, why, why_len);
}

int precheck_swap(const struct options *opt, char *why, size_t why_len)
{
	const size_t n = strlen(opt->mountpoint);
	char *real __attribute__((cleanup(precheck_free))) = NULL;

	if (opt->swap_path == NULL)
		return 0;
	/* What is missing there, swapfile_open() says better. */
	real = realpath(opt->swap_path, NULL);
	if (real == NULL || strncmp(real, opt->mountpoint, n) != 0)
		return 0;
	if (n > 1 && real[n] != '/' && real[n] != '\0')
		return 0;
	snprintf(why, why_len, "swap=%s lies inside the mount point %s", opt->swap_path, opt->mountpoint);
	return -EINVAL;
}
