/* SPDX-License-Identifier: MIT */
/*
 * Unit tests of swapstore/slots: random operations against a model (slots_fixture.h), each promise of slots.h by
 * itself, and threads at once.  SPILLFS_TEST_SEED repeats a run (of one thread).
 */
#include "swapstore/entry.h"
#include "swapstore/slots.h"

#include "tests/unit/run.h"
#include "tests/unit/slots_fixture.h"

#include <pthread.h>

#define OPS 150000U

START_TEST(random_operations_agree_with_one_state_a_slot)
{
	/* Of 100 operations that take or give: how many take. */
	static const unsigned fullness[] = { 50, 70, 40, 20, 90, 0 };
	struct pages pages;
	struct slots *slots = new_slots(TOTAL, &pages);

	memset(&model, 0, sizeof(model));
	model.rng = random_seed();
	model.count[FRESH] = TOTAL;
	for (unsigned op = 0; op < OPS; op++) {
		unsigned take_part = fullness[op / 2500 % (sizeof(fullness) / sizeof(fullness[0]))];
		unsigned dice = (unsigned)below(1000);

		if (dice < 200)
			op_trim(slots);
		else if (dice < 202 && model.nruns > 0 && model.count[BAD] < 100)
			op_mark_bad(slots);
		else if (model.nruns == 0 || below(100) < take_part)
			op_alloc(slots, op % 16 == 0);
		else
			op_free(slots);
		expect_stats(slots, model.count[USED], model.count[BAD]);
		SAME(slots_any_free(slots), model.count[FRESH] + model.count[STALE] + model.count[TRIMMING] > 0);
		/* To both ends in every round, and on from there. */
		while (op % 15000 == 7499 && op_alloc(slots, false))
			continue;
		while (op % 15000 == 14999 && model.nruns > 0)
			op_free(slots);
		if (op % 500 == 499)
			compare(slots, &pages);
	}
	MUST(model.count[BAD] > 0);
	while (model.nruns > 0)
		op_free(slots);
	while (model.ntrims > 0 || model.count[STALE] > 0) {
		uint64_t stale = model.count[STALE];

		op_trim(slots);
		/* Short runs beside a bad slot stay for ever. */
		if (model.ntrims == 0 && model.count[STALE] == stale)
			break;
	}
	compare(slots, &pages);
	expect_stats(slots, 0, model.count[BAD]);
	slots_destroy(slots);
	SAME(atomic_load(&pages.out), 0);
}
END_TEST

/* ---- each promise by itself ---- */

START_TEST(a_wrong_total_is_refused)
{
	struct slots_page_ops ops = { .alloc = page_alloc, .free = page_free };
	struct slots *slots = NULL;

	ck_assert_int_eq(slots_create(0, &ops, &slots), -EINVAL);
	ck_assert_int_eq(slots_create(ENTRY_SLOTS_MAX + 1, &ops, &slots), -EINVAL);
	ck_assert_ptr_null(slots);
	slots_destroy(NULL);
}
END_TEST

START_TEST(the_largest_file_has_a_small_table)
{
	struct pages pages;
	struct slots *slots = new_slots(ENTRY_SLOTS_MAX, &pages);
	struct slot_run run;

	ck_assert_uint_le(slots_table_bytes(slots), 8 << 20);
	run = take(slots, 256);
	ck_assert_uint_eq(run.count, 256);
	ck_assert_int_eq(atomic_load(&pages.out), GROUP_PAGES);
	slots_destroy(slots);
	ck_assert_int_eq(atomic_load(&pages.out), 0);
}
END_TEST

START_TEST(an_empty_store_gives_contiguous_runs_from_its_start)
{
	struct pages pages;
	struct slots *slots = new_slots(TOTAL, &pages);

	for (uint32_t i = 0; i < TOTAL / 256; i++) {
		struct slot_run run = take(slots, 256);

		SAME(run.first, i * 256);
		SAME(run.count, 256);
		SAME(atomic_load(&pages.out), (i * 256 / GROUP + 1) * GROUP_PAGES);
	}
	ck_assert_uint_eq(take(slots, 256).count, TOTAL % 256);
	ck_assert(!slots_any_free(slots));
	slots_check(slots);
	slots_destroy(slots);
}
END_TEST

START_TEST(a_run_of_full_length_comes_before_fragments)
{
	struct pages pages;
	struct slots *slots = new_slots(TOTAL, &pages);
	struct slot_run run;

	ck_assert_uint_eq(take(slots, GROUP).count, GROUP);
	give(slots, 100, 9);
	give(slots, 500, 11);
	give(slots, 900, 11);
	run = take(slots, 12);
	ck_assert_uint_eq(run.first, GROUP); /* a fresh group, not the holes */
	run = take(slots, 11);
	ck_assert_uint_eq(run.first, 500); /* the first hole that fits */
	run = take(slots, 4);
	ck_assert_uint_eq(run.first, 100); /* lower groups first */
	while (take(slots, GROUP).count > 100)
		continue;
	/* That was the 11 at 900, the longest; only 5 are left at 104. */
	run = take(slots, 256);
	ck_assert_uint_eq(run.first, 104);
	ck_assert_uint_eq(run.count, 5);
	ck_assert_int_eq(slots_alloc(slots, 1, &run), -ENOSPC);
	expect_stats(slots, TOTAL, 0);
	slots_destroy(slots);
}
END_TEST

START_TEST(without_a_bitmap_page_only_groups_in_use_serve)
{
	struct pages pages;
	struct slots *slots = new_slots(TOTAL, &pages);
	struct slot_run run;

	/* None at all, then one of the two that a group needs: nothing may stay behind. */
	for (int limit = 0; limit < GROUP_PAGES; limit++) {
		atomic_store(&pages.limit, limit);
		ck_assert_int_eq(slots_alloc(slots, 8, &run), -ENOSPC);
		ck_assert_int_eq(atomic_load(&pages.out), 0);
		slots_check(slots);
	}
	atomic_store(&pages.limit, GROUP_PAGES);
	ck_assert_uint_eq(take(slots, GROUP - 10).count, GROUP - 10);
	ck_assert_uint_eq(take(slots, 256).count, 10); /* fragments rather than nothing */
	ck_assert_int_eq(slots_alloc(slots, 1, &run), -ENOSPC);
	ck_assert(slots_any_free(slots));
	give(slots, 70, 3);
	give(slots, 90, 5);
	run = take(slots, 256);
	ck_assert_uint_eq(run.first, 90);
	ck_assert_uint_eq(run.count, 5);
	atomic_store(&pages.limit, 2 * GROUP_PAGES);
	ck_assert_uint_eq(take(slots, 256).count, 256);
	expect_stats(slots, GROUP - 3 + 256, 0);
	slots_check(slots);
	slots_destroy(slots);
	ck_assert_int_eq(atomic_load(&pages.out), 0);
}
END_TEST

START_TEST(without_a_bitmap_page_lower_groups_come_first_too)
{
	struct pages pages;
	struct slots *slots = new_slots(TOTAL, &pages);
	struct slot_run run;

	for (unsigned i = 0; i < 3; i++)
		take(slots, GROUP);
	give(slots, 0, GROUP);
	ck_assert_uint_eq(trim_all(slots), GROUP);
	atomic_store(&pages.limit, 2 * GROUP_PAGES); /* the first group is empty, but has no page */
	give(slots, GROUP + 7, 8);
	give(slots, 2 * GROUP + 7, 10);
	run = take(slots, 4);
	ck_assert_uint_eq(run.first, GROUP + 7); /* though the other has more */
	run = take(slots, 256);
	ck_assert_uint_eq(run.first, 2 * GROUP + 7);
	ck_assert_uint_eq(run.count, 10);
	atomic_store(&pages.limit, 3 * GROUP_PAGES);
	ck_assert_uint_eq(take(slots, 4).first, 0);
	slots_check(slots);
	slots_destroy(slots);
	ck_assert_int_eq(atomic_load(&pages.out), 0);
}
END_TEST

START_TEST(a_group_gives_its_pages_back_once_trimmed)
{
	struct pages pages;
	struct slots *slots = new_slots(TOTAL, &pages);
	struct slot_run run, more;

	take(slots, 100);
	give(slots, 0, 100);
	ck_assert_int_eq(atomic_load(&pages.out), GROUP_PAGES);
	ck_assert(slots_trim_next(slots, &run));
	ck_assert_uint_eq(run.first, 0);
	ck_assert_uint_eq(run.count, 100);
	expect_stats(slots, 0, 0);
	ck_assert_int_eq(atomic_load(&pages.out), GROUP_PAGES); /* being trimmed is in use */
	more = take(slots, 10);
	ck_assert_uint_eq(more.first, 100); /* and cannot be had */
	give(slots, 100, 10);
	ck_assert(!slots_trim_next(slots, &more)); /* short, and its group is not all free */
	slots_trim_done(slots, run);
	ck_assert_int_eq(atomic_load(&pages.out), GROUP_PAGES);
	ck_assert(slots_trim_next(slots, &run)); /* now it is */
	ck_assert_uint_eq(run.first, 100);
	ck_assert_uint_eq(run.count, 10);
	ck_assert(!slots_trim_next(slots, &more));
	slots_trim_done(slots, run);
	ck_assert_int_eq(atomic_load(&pages.out), 0);
	ck_assert(!slots_trim_next(slots, &run));
	/* Two runs at once: the last one done gives them back. */
	take(slots, 200);
	give(slots, 0, 100);
	ck_assert(slots_trim_next(slots, &run));
	give(slots, 100, 100);
	ck_assert(slots_trim_next(slots, &more));
	slots_trim_done(slots, run);
	ck_assert_int_eq(atomic_load(&pages.out), GROUP_PAGES);
	slots_trim_done(slots, more);
	ck_assert_int_eq(atomic_load(&pages.out), 0);
	slots_check(slots);
	slots_destroy(slots);
}
END_TEST

START_TEST(a_trimmed_run_is_not_trimmed_again)
{
	struct pages pages;
	struct slots *slots = new_slots(TOTAL, &pages);
	struct slot_run run;

	take(slots, 1000);
	give(slots, 100, 100);
	ck_assert_uint_eq(trim_all(slots), 100);
	ck_assert_uint_eq(trim_all(slots), 0);
	/* Frees on both sides of it do not bring it back. */
	give(slots, 50, 20);
	give(slots, 300, 20);
	ck_assert_uint_eq(trim_all(slots), 40);
	/* Freed side by side, in pieces too short by themselves. */
	give(slots, 400, 15);
	give(slots, 416, 15);
	ck_assert_uint_eq(trim_all(slots), 0);
	give(slots, 415, 1);
	ck_assert(slots_trim_next(slots, &run));
	ck_assert_uint_eq(run.first, 400);
	ck_assert_uint_eq(run.count, 31);
	slots_trim_done(slots, run);
	/* Taken and freed again: once more. */
	run = take(slots, 16);
	ck_assert_uint_eq(run.first, 50);
	slots_free(slots, run);
	ck_assert_uint_eq(trim_all(slots), 16);
	ck_assert_uint_eq(trim_all(slots), 0);
	slots_check(slots);
	slots_destroy(slots);
}
END_TEST

START_TEST(a_run_across_two_groups_can_be_freed_at_once)
{
	struct pages pages;
	struct slots *slots = new_slots(TOTAL, &pages);

	for (unsigned i = 0; i < GROUPS; i++)
		take(slots, GROUP);
	expect_stats(slots, TOTAL, 0);
	give(slots, 10, TOTAL - 20);
	expect_stats(slots, 20, 0);
	slots_check(slots);
	ck_assert_uint_eq(trim_all(slots), TOTAL - 20);
	give(slots, 0, 10);
	give(slots, TOTAL - 10, 10);
	ck_assert_uint_eq(trim_all(slots), 20); /* groups with nothing in use */
	ck_assert_int_eq(atomic_load(&pages.out), 0);
	slots_destroy(slots);
}
END_TEST

START_TEST(a_bad_slot_stays_out_of_use)
{
	struct pages pages;
	struct slots *slots = new_slots(40, &pages);
	struct slot_run run = take(slots, 40);

	slots_mark_bad(slots, 20);
	expect_stats(slots, 39, 1);
	give(slots, 0, 20);
	give(slots, 21, 19);
	ck_assert_uint_eq(trim_all(slots), 39);
	expect_stats(slots, 0, 1);
	for (unsigned i = 0; i < 2; i++) {
		run = take(slots, 40);
		ck_assert_uint_eq(run.first, i ? 21 : 0);
		ck_assert_uint_eq(run.count, i ? 19 : 20);
	}
	ck_assert_int_eq(slots_alloc(slots, 1, &run), -ENOSPC);
	slots_check(slots);
	slots_destroy(slots);
	ck_assert_int_eq(atomic_load(&pages.out), 0);
}
END_TEST

/* ---- threads ---- */

#define THREADS	     4
#define THREAD_OPS   8000U
#define THREAD_RUNS  512U
#define THREAD_TOTAL (2 * GROUP + 77)

static struct {
	struct slots *slots;
	atomic_uchar owner[THREAD_TOTAL]; /* 0: nobody's */
	atomic_uint trims;
	uint64_t seed;
} shared;

static void own(struct slot_run run, unsigned char from, unsigned char to)
{
	for (uint32_t i = 0; i < run.count; i++)
		if (atomic_exchange(&shared.owner[run.first + i], to) != from)
			abort(); /* check's own report is for the main thread */
}

static void trim_one(unsigned char me)
{
	struct slot_run run;

	if (!slots_trim_next(shared.slots, &run))
		return;
	own(run, 0, me);
	own(run, me, 0);
	atomic_fetch_add(&shared.trims, 1);
	slots_trim_done(shared.slots, run);
}

static void *stress(void *arg)
{
	unsigned char me = (unsigned char)(uintptr_t)arg;
	uint64_t rng = shared.seed + me * UINT64_C(0x9e3779b97f4a7c15);
	struct slot_run runs[THREAD_RUNS];
	struct slots_stats st;
	size_t n = 0;

	for (unsigned op = 0; op < THREAD_OPS; op++) {
		uint64_t dice = random_next(&rng);

		if (n < THREAD_RUNS && dice % 100 < (op / 2000 % 2 ? 30 : 60)) {
			if (slots_alloc(shared.slots, 1 + (uint32_t)(dice >> 32) % 300, &runs[n]) == 0)
				own(runs[n++], 0, me);
		} else if (n > 0) {
			size_t at = dice % n;

			own(runs[at], me, 0);
			slots_free(shared.slots, runs[at]);
			runs[at] = runs[--n];
		}
		if (dice >> 60 == 0)
			trim_one(me);
		if (dice >> 56 == 1) {
			slots_get_stats(shared.slots, &st);
			if (st.used + st.bad + st.free != st.total)
				abort();
			(void)slots_any_free(shared.slots);
		}
		if (op % 2000 == 0)
			slots_check(shared.slots);
	}
	while (n-- > 0) {
		own(runs[n], me, 0);
		slots_free(shared.slots, runs[n]);
	}
	return NULL;
}

START_TEST(threads_never_get_the_same_slot)
{
	pthread_t thread[THREADS];
	struct pages pages;

	shared.seed = random_seed();
	shared.slots = new_slots(THREAD_TOTAL, &pages);
	for (uintptr_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, stress, (void *)(i + 1)), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	ck_assert_uint_gt(atomic_load(&shared.trims), 0);
	expect_stats(shared.slots, 0, 0);
	slots_check(shared.slots);
	trim_all(shared.slots);
	ck_assert_int_eq(atomic_load(&pages.out), 0);
	slots_check(shared.slots);
	slots_destroy(shared.slots);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("slots");
	TCase *tc = tcase_create("slots");

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, a_wrong_total_is_refused);
	tcase_add_test(tc, the_largest_file_has_a_small_table);
	tcase_add_test(tc, an_empty_store_gives_contiguous_runs_from_its_start);
	tcase_add_test(tc, a_run_of_full_length_comes_before_fragments);
	tcase_add_test(tc, without_a_bitmap_page_only_groups_in_use_serve);
	tcase_add_test(tc, without_a_bitmap_page_lower_groups_come_first_too);
	tcase_add_test(tc, a_group_gives_its_pages_back_once_trimmed);
	tcase_add_test(tc, a_trimmed_run_is_not_trimmed_again);
	tcase_add_test(tc, a_run_across_two_groups_can_be_freed_at_once);
	tcase_add_test(tc, a_bad_slot_stays_out_of_use);
	tcase_add_test(tc, random_operations_agree_with_one_state_a_slot);
	tcase_add_test(tc, threads_never_get_the_same_slot);
	suite_add_tcase(suite, tc);
	return run_suite(suite, CK_FORK_GETENV);
}
