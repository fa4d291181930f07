/* SPDX-License-Identifier: MIT */
/*
 * random: what the tests of random operations share: a seed that is printed and can be set (SPILLFS_TEST_SEED),
 * numbers that follow from it, and assertions cheap enough for millions of steps.
 */
#ifndef TESTS_UNIT_RANDOM_H
#define TESTS_UNIT_RANDOM_H

#include <check.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* ck_assert_*() notes every passing in a file; these say something only on failure. */
#define MUST(cond)                                         \
	do {                                               \
		if (!(cond))                               \
			ck_abort_msg("failed: %s", #cond); \
	} while (0)

#define SAME(a, b)                                                                         \
	do {                                                                               \
		uint64_t a_ = (uint64_t)(a), b_ = (uint64_t)(b);                           \
		if (a_ != b_)                                                              \
			ck_abort_msg("%s = %#" PRIx64 ", %s = %#" PRIx64, #a, a_, #b, b_); \
	} while (0)

/* xorshift64* */
static inline uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* A state to begin with.  The seed is printed at once: a test that then fails or hangs can be repeated. */
static inline uint64_t random_seed(void)
{
	const char *text = getenv("SPILLFS_TEST_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();

	printf("SPILLFS_TEST_SEED=%" PRIu64 "\n", seed);
	fflush(stdout);
	return seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

#endif
