/* SPDX-License-Identifier: MIT */
/*
 * randbytes SEED BYTES: writes that many pseudo-random bytes, the same for the same seed, to standard output.
 * The scripts make data from it that neither compresses nor holds an all-zero page.  One thread, no state.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t rand_next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

int main(int argc, char **argv)
{
	uint64_t block[8192], x, left;

	if (argc != 3) {
		fprintf(stderr, "usage: randbytes SEED BYTES\n");
		return 2;
	}
	x = (strtoull(argv[1], NULL, 0) + 1) * UINT64_C(0x9e3779b97f4a7c15);
	left = strtoull(argv[2], NULL, 0);
	while (left > 0) {
		size_t n = left < sizeof(block) ? left : sizeof(block);

		for (size_t i = 0; i < sizeof(block) / sizeof(block[0]); i++)
			block[i] = rand_next(&x);
		if (fwrite(block, 1, n, stdout) != n)
			return 1;
		left -= n;
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
