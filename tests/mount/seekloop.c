/* SPDX-License-Identifier: MIT */
/*
 * seekloop FILE SECONDS: writes here and there to FILE and asks for its next hole, over and over, which has the file
 * system flush it each time.  Ends with 0 after SECONDS, or at the first error: its test kills the daemon under it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static char block[1 << 16];
	time_t end = time(NULL) + (argc == 3 ? atoi(argv[2]) : 0);
	int fd = argc == 3 ? open(argv[1], O_RDWR | O_CREAT, 0600) : -1;

	if (fd < 0) {
		fprintf(stderr, "usage: seekloop FILE SECONDS\n");
		return 2;
	}
	memset(block, 'x', sizeof(block));
	while (time(NULL) < end) {
		for (int i = 0; i < 8; i++)
			if (pwrite(fd, block, sizeof(block), (off_t)(rand() % 320) * (off_t)sizeof(block)) < 0)
				return 0;
		if (lseek(fd, 0, SEEK_HOLE) < 0)
			return 0;
	}
	return 0;
}
