/* SPDX-License-Identifier: MIT */
/*
 * dropcache PATH...: writes every regular file below each PATH back and makes the kernel forget its cached pages
 * (pages that a process has mapped stay), so that the next read has to ask the file system.  Used by the mounted
 * tests, where the kernel would otherwise answer from its own cache and nothing would come back from swap; unlike
 * /proc/sys/vm/drop_caches it needs no root and disturbs nobody else.  One thread, no state.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int drop_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	int fd, err;

	(void)ftw;
	if (type != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	err = fsync(fd);
	if (err == 0) {
		errno = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		err = errno ? -1 : 0;
	}
	close(fd);
	return err;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (nftw(argv[i], drop_file, 64, FTW_PHYS | FTW_MOUNT) != 0) {
			fprintf(stderr, "dropcache: %s: %s\n", argv[i], strerror(errno));
			return 1;
		}
	}
	return argc < 2 ? 2 : 0;
}
