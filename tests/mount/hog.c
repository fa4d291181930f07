/* SPDX-License-Identifier: MIT */
/*
 * hog: what memory pressure is made of.
 *
 *    hog cache FILE SECONDS           stores to pages of a mapping of FILE here and there: there is no memory for all of it
 *    hog anonymous MIB MIB_A_SECOND   takes so much memory, little by little, says "have it" and waits for its stdin's end
 *
 * One process; no lock.  For pressure.sh.
 */
#include "tests/mount/check_that.h"

#include <sys/mman.h>
#include <time.h>

#define MIB (1UL << 20)

static void hog_cache(const char *path, unsigned seconds)
{
	int fd = check_open(path, O_RDWR, 0);
	size_t pages = (size_t)check_stat(path).st_size / PAGE;
	const time_t end = time(NULL) + seconds;
	volatile char *map = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	uint64_t at = 1;

	CHECK(map != MAP_FAILED && pages > 0);
	CHECK_EQ(madvise((void *)(uintptr_t)map, pages * PAGE, MADV_RANDOM), 0);
	while (time(NULL) < end) {
		for (int i = 0; i < 64; i++) {
			at = at * UINT64_C(6364136223846793005) + 1442695040888963407;
			map[(at >> 33) % pages * PAGE]++;
		}
	}
}

static void hog_anonymous(size_t mib, unsigned mib_a_second)
{
	char *map = mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), byte;

	CHECK(map != MAP_FAILED);
	for (size_t i = 0; i < mib; i++) {
		memset(map + i * MIB, 1, MIB);
		usleep(1000000 / mib_a_second);
	}
	puts("have it");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "cache") == 0)
		hog_cache(argv[2], (unsigned)strtoul(argv[3], NULL, 10));
	else if (argc == 4 && strcmp(argv[1], "anonymous") == 0)
		hog_anonymous(strtoul(argv[2], NULL, 10), (unsigned)strtoul(argv[3], NULL, 10));
	else
		return 2;
	return 0;
}
