/* SPDX-License-Identifier: MIT */
/*
 * test_writers: the set of inodes that are open for writing (fuse-fs/writers.c), against counts kept beside it, and read
 * while others open and close files.
 */
#include "fuse-fs/fs.h"
#include "tests/unit/run.h"

#include <errno.h>

#define INODES 500
#define STEPS  200000

static struct inode inodes[INODES];

static void writers_make_inodes(void)
{
	for (unsigned i = 0; i < INODES; i++)
		inodes[i] = (struct inode){ .ino = i };
}

/* Opens or closes an inode that is not one of the first `stay`, as chance has it. */
static void writers_step(struct writers *w, unsigned *handles, unsigned stay)
{
	unsigned i = stay + (unsigned)rand() % (INODES - stay);
	bool first = false;

	if (handles[i] > 0 && rand() % 2 == 0) {
		ck_assert_int_eq(writers_remove(w, &inodes[i]), handles[i] == 1);
		handles[i]--;
	} else {
		ck_assert_int_eq(writers_add(w, &inodes[i], i % 2 == 0, &first), 0);
		ck_assert_int_eq(first, handles[i] == 0);
		handles[i]++;
	}
}

START_TEST(each_is_found_once)
{
	unsigned handles[INODES] = { 0 }, seen[INODES] = { 0 };
	struct writers_found found[7];
	uint32_t from = UINT32_MAX;
	struct writers w;
	size_t n;

	writers_make_inodes();
	writers_init(&w);
	ck_assert_uint_eq(writers_some(&w, &from, found, 7), 0);
	for (unsigned s = 0; s < STEPS; s++)
		writers_step(&w, handles, 0);
	from = UINT32_MAX;
	while ((n = writers_some(&w, &from, found, 7)) > 0) {
		for (size_t i = 0; i < n; i++) {
			seen[found[i].ino]++;
			ck_assert_int_eq(found[i].lasting, found[i].ino % 2 == 0);
		}
	}
	for (unsigned i = 0; i < INODES; i++) {
		ck_assert_uint_eq(seen[i], handles[i] > 0);
		ck_assert_uint_eq(inodes[i].writers, handles[i]);
		writers_drop(&w, &inodes[i]);
	}
	from = UINT32_MAX;
	ck_assert_uint_eq(writers_some(&w, &from, found, 7), 0);
	writers_destroy(&w);
}
END_TEST

START_TEST(who_stays_is_found_whatever_others_do)
{
	enum { STAY = 40 };

	writers_make_inodes();
	for (unsigned round = 0; round < 2000; round++) {
		unsigned handles[INODES] = { 0 }, seen[STAY] = { 0 };
		struct writers_found found[3];
		uint32_t from = UINT32_MAX;
		struct writers w;
		bool first;
		size_t n;

		writers_init(&w);
		for (unsigned i = 0; i < STAY; i++) {
			for (unsigned s = 0; s < 5; s++)
				writers_step(&w, handles, STAY);
			ck_assert_int_eq(writers_add(&w, &inodes[i], true, &first), 0);
		}
		while ((n = writers_some(&w, &from, found, 3)) > 0) {
			for (size_t i = 0; i < n; i++)
				if (found[i].ino < STAY)
					seen[found[i].ino]++;
			for (unsigned s = 0; s < 10; s++)
				writers_step(&w, handles, STAY);
		}
		for (unsigned i = 0; i < STAY; i++)
			ck_assert_uint_ge(seen[i], 1);
		for (unsigned i = 0; i < INODES; i++)
			writers_drop(&w, &inodes[i]);
		writers_destroy(&w);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("writers");
	TCase *tc = tcase_create("writers");

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, each_is_found_once);
	tcase_add_test(tc, who_stays_is_found_whatever_others_do);
	suite_add_tcase(suite, tc);
	return run_suite(suite, CK_FORK_GETENV);
}
