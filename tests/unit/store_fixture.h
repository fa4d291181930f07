/* SPDX-License-Identifier: MIT */
/*
 * store_fixture: opens a small store for a test and closes it with everything checked: no page, frame or slot may
 * be left.  Also the tests' random numbers: seeded from SPILLFS_TEST_SEED, the seed printed.
 */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include "swapstore/frames.h"
#include "swapstore/swapstore.h"
#include "tests/unit/run.h"

#include <check.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((size_t)SS_PAGE_SIZE)

static inline const char *fixture_dir(void)
{
	const char *dir = getenv("TMPDIR");

	return dir ? dir : "/var/tmp";
}

/* A config with a cap of so many frames, 64 KiB reads and a swap file of swap_mib in the temporary directory. */
static inline struct swapstore_config fixture_config(unsigned frames, uint64_t swap_mib)
{
	struct swapstore_config c = {
		.swap_path = swap_mib ? fixture_dir() : NULL,
		.swap_bytes = swap_mib << 20,
		.contexts = 4,
		.io_bytes = 64 << 10,
		.engine = RING_AUTO,
	};

	c.ram_bytes = swapstore_ram_min(&c) + (frames - 16) * (PAGE + frames_overhead()) +
		      (swap_mib / 128 + 2) * 512; /* the slots' table */
	return c;
}

static inline struct swapstore *fixture_open(const struct swapstore_config *config)
{
	struct swapstore *store = NULL;
	char why[256] = "";
	int err = swapstore_open(config, &store, why, sizeof(why));

	ck_assert_msg(err == 0, "swapstore_open: %s (%s)", why, strerror(-err));
	return store;
}

/* Waits (long enough for any machine) until cond holds. */
#define fixture_wait_until(cond)                                                                \
	do {                                                                                    \
		int tries_ = 6000;                                                              \
		bool true_;                                                                     \
		while (!(true_ = (cond)) && tries_-- > 0)                                       \
			usleep(10000);                                                          \
		ck_assert_msg(true_, "never came true: %s", #cond);                             \
	} while (0)

static inline struct swapstore_stats fixture_stats(struct swapstore *store)
{
	struct swapstore_stats st;

	swapstore_get_stats(store, &st);
	return st;
}

/* Nothing may be left but broken slots. */
static inline void fixture_close(struct swapstore *store)
{
	struct swapstore_stats st;

	/* Reclaim may be holding the last frames for a moment more. */
	fixture_wait_until(fixture_stats(store).frames_used == 0 && fixture_stats(store).swap_used_pages == 0);
	st = fixture_stats(store);
	ck_assert_uint_eq(st.size_used_pages, 0);
	ck_assert_uint_le(st.ram_used_bytes, st.ram_limit_bytes);
	swapstore_check(store);
	swapstore_close(store);
}

static inline struct ss_object *fixture_object(struct swapstore *store)
{
	struct ss_object *obj = NULL;

	ck_assert_int_eq(object_create(store, 0, &obj), 0);
	return obj;
}

static inline uint64_t fixture_seed(void)
{
	const char *text = getenv("SPILLFS_TEST_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + (uint64_t)getpid();

	printf("seed: SPILLFS_TEST_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	return seed ? seed : 1;
}

static inline uint64_t fixture_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * UINT64_C(0x2545F4914F6CDD1D);
}

/* Bytes that are different on each page and never all zero. */
static inline void fixture_pattern(void *buf, size_t length, uint64_t seed)
{
	unsigned char *p = buf;
	uint64_t state = seed * 2 + 1;

	for (size_t i = 0; i < length; i++)
		p[i] = (unsigned char)(i % 8 ? p[i - 1] + 1U : (unsigned)(fixture_random(&state) >> 33) | 1U);
}

/* Writes pages of a pattern; and checks that they are what fixture_put() with the same seed has written. */
static inline void fixture_put(struct swapstore *store, struct ss_object *obj, uint64_t page, size_t pages,
			       uint64_t seed)
{
	char *buf = malloc(pages * PAGE);

	fixture_pattern(buf, pages * PAGE, seed);
	ck_assert_int_eq(object_write(store, obj, buf, pages * PAGE, page * PAGE, 0), (ssize_t)(pages * PAGE));
	free(buf);
}

static inline void fixture_expect(struct swapstore *store, struct ss_object *obj, uint64_t page, size_t pages,
				  uint64_t seed)
{
	char *buf = malloc(pages * PAGE), *want = malloc(pages * PAGE);

	fixture_pattern(want, pages * PAGE, seed);
	ck_assert_int_eq(object_pread(store, obj, buf, pages * PAGE, page * PAGE), 0);
	ck_assert_mem_eq(buf, want, pages * PAGE);
	free(buf);
	free(want);
}

/* Runs the suite in one process, so that the sanitizers see all of it; exit status for main(). */
/* A ring's hook: the disk is full. */
static inline int fixture_refuse_writes(void *ctx, const struct ring_req *req)
{
	(void)ctx;
	return req->op == RING_WRITE ? -ENOSPC : 0;
}

static inline int fixture_main(Suite *suite)
{
	return run_suite(suite, CK_NOFORK);
}

#endif
