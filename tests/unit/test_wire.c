/* SPDX-License-Identifier: MIT */
/*
 * test_wire: pages that stay in RAM, pages that are sent to swap by name, and the counts of both.  Each test has a
 * cap so small that everything else must be swapped, and measures that it was.
 */
#include "tests/unit/store_fixture.h"

#define WIRED 40U /* pages */
#define FRAMES 160U

/* Four times the RAM, through another object. */
static void stream(struct swapstore *store, struct ss_object *obj)
{
	for (unsigned i = 0; i < 4 * FRAMES; i += 16)
		fixture_put(store, obj, i, 16, i);
	for (unsigned i = 0; i < 4 * FRAMES; i += 16)
		fixture_expect(store, obj, i, 16, i);
}

static int wire(struct swapstore *store, struct ss_object *obj)
{
	struct ss_walk walk = {0};
	int err = 0;

	while (!err && !walk.done)
		err = object_wire(store, obj, &walk);
	return err;
}

static int evict(struct swapstore *store, struct ss_object *obj, uint64_t *moved)
{
	struct ss_walk walk = {0};
	int err = 0;

	while (!err && !walk.done)
		err = object_evict(store, obj, &walk);
	*moved = walk.moved;
	return err;
}

static struct ss_object_stats where(struct swapstore *store, struct ss_object *obj)
{
	struct ss_object_stats st;

	object_get_stats(store, obj, 0, &st);
	ck_assert_uint_eq(st.pages, st.frames + st.swapped + st.zero + st.unwritten);
	ck_assert_uint_eq(st.pages, object_pages(obj));
	return st;
}

static void finish(struct swapstore *store, struct ss_object *a, struct ss_object *b)
{
	object_check(a);
	object_check(b);
	swapstore_check(store);
	object_destroy(store, a);
	object_destroy(store, b);
	ck_assert_uint_eq(fixture_stats(store).wired_pages, 0);
	fixture_close(store);
}

START_TEST(wired_pages_are_never_swapped_in_because_they_never_went)
{
	struct swapstore_config c = fixture_config(FRAMES, 16);
	struct ss_object *a, *b;
	struct swapstore *store;
	uint64_t before;

	c.read_through = _i;
	store = fixture_open(&c);
	a = fixture_object(store);
	b = fixture_object(store);
	fixture_put(store, a, 0, WIRED, 1);
	ck_assert_int_eq(wire(store, a), 0);
	fixture_put(store, a, WIRED, 8, 2); /* pages of later are wired too */
	ck_assert_uint_eq(where(store, a).wired, WIRED + 8);
	ck_assert_uint_eq(fixture_stats(store).wired_pages, WIRED + 8);
	stream(store, b);
	ck_assert_uint_gt(fixture_stats(store).swapout_pages, 2 * FRAMES);
	ck_assert_uint_eq(where(store, a).frames, WIRED + 8);
	ck_assert_uint_eq(where(store, a).swapped, 0);
	before = fixture_stats(store).swapin_pages;
	fixture_expect(store, a, 0, WIRED, 1);
	fixture_expect(store, a, WIRED, 8, 2);
	ck_assert_uint_eq(fixture_stats(store).swapin_pages, before);
	object_unwire(store, a);
	ck_assert_uint_eq(fixture_stats(store).wired_pages, 0);
	stream(store, b);
	ck_assert_uint_gt(where(store, a).swapped, WIRED / 2);
	fixture_expect(store, a, 0, WIRED, 1);
	finish(store, a, b);
}
END_TEST

START_TEST(wiring_brings_pages_in_and_frees_their_slots)
{
	struct swapstore_config c = fixture_config(FRAMES, 16);
	struct swapstore *store;
	struct ss_object *a, *b;
	uint64_t moved;

	c.engine = _i ? RING_THREADS : RING_AUTO;
	store = fixture_open(&c);
	a = fixture_object(store);
	b = fixture_object(store);
	for (unsigned i = 0; i < WIRED; i += 4) { /* every other one first, so that they lie scattered on the disk */
		fixture_put(store, a, (i * 3) % WIRED, 4, (i * 3) % WIRED);
		if (i % 8 == 0)
			ck_assert_int_eq(evict(store, a, &moved), 0);
	}
	ck_assert_int_eq(evict(store, a, &moved), 0);
	ck_assert_uint_eq(where(store, a).swapped, WIRED);
	fixture_put(store, b, 0, 8, 99);
	ck_assert_int_eq(evict(store, b, &moved), 0);
	ck_assert_uint_eq(moved, 8);
	ck_assert_int_eq(wire(store, a), 0);
	ck_assert_uint_eq(where(store, a).frames, WIRED);
	ck_assert_uint_eq(where(store, a).wired, WIRED);
	ck_assert_uint_eq(where(store, a).dirty, WIRED);
	fixture_wait_until(fixture_stats(store).swap_used_pages == 8);
	for (unsigned i = 0; i < WIRED; i += 4)
		fixture_expect(store, a, i, 4, i);
	finish(store, a, b);
}
END_TEST

START_TEST(more_than_the_limit_is_refused_as_a_whole_and_later_pages_stay_ordinary)
{
	struct swapstore_config c = fixture_config(FRAMES, 16);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *a = fixture_object(store), *b = fixture_object(store);
	uint64_t limit = fixture_stats(store).wired_limit_pages;

	ck_assert_uint_gt(limit, WIRED);
	ck_assert_uint_lt(limit, FRAMES - 16);
	for (unsigned i = 0; i < FRAMES; i += 16)
		fixture_put(store, a, i, 16, i);
	ck_assert_int_eq(wire(store, a), -ENOMEM);
	ck_assert(!where(store, a).is_wired);
	ck_assert_uint_eq(fixture_stats(store).wired_pages, 0);
	ck_assert_int_eq(object_erase(store, a, (uint64_t)WIRED * PAGE, UINT64_MAX), 0);
	ck_assert_int_eq(wire(store, a), 0);
	for (unsigned i = 0; i < 2 * FRAMES; i += 16) /* a write never fails for this */
		fixture_put(store, a, 1000 + i, 16, i);
	stream(store, b);
	ck_assert_uint_ge(where(store, a).wired, WIRED);
	ck_assert_uint_le(where(store, a).wired, limit);
	ck_assert_uint_gt(where(store, a).swapped, FRAMES / 2);
	for (unsigned i = 0; i < 2 * FRAMES; i += 16)
		fixture_expect(store, a, 1000 + i, 16, i);
	ck_assert_int_eq(wire(store, b), -ENOMEM);
	/* Erasing makes room for others. */
	ck_assert_int_eq(object_erase(store, a, 0, UINT64_MAX), 0);
	ck_assert_uint_eq(fixture_stats(store).wired_pages, 0);
	ck_assert_int_eq(object_erase(store, b, (uint64_t)WIRED * PAGE, UINT64_MAX), 0);
	ck_assert_int_eq(wire(store, b), 0);
	finish(store, a, b);
}
END_TEST

START_TEST(with_wired_pages_the_store_still_holds_all_that_it_promised)
{
	struct swapstore_config c = fixture_config(FRAMES, 1);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *a = fixture_object(store), *b = fixture_object(store);
	uint64_t n = 0, moved, left;
	char page[PAGE];

	fixture_put(store, a, 0, WIRED, 1);
	ck_assert_int_eq(evict(store, a, &moved), 0); /* so that wiring has slots to give back */
	ck_assert_int_eq(wire(store, a), 0);
	left = swapstore_pages_left(store);
	for (;; n++) {
		fixture_pattern(page, PAGE, n);
		if (object_write(store, b, page, PAGE, n * PAGE, 0) != (ssize_t)PAGE)
			break;
	}
	ck_assert_uint_eq(swapstore_pages_left(store), 0);
	ck_assert_uint_le(n, left);
	ck_assert_uint_ge(n + n / 16, left); /* its tree takes a few */
	ck_assert_uint_gt(n, 256 + FRAMES / 4); /* 256 slots, and frames that are not wired */
	for (uint64_t i = 0; i < n; i++)
		fixture_expect(store, b, i, 1, i);
	fixture_expect(store, a, 0, WIRED, 1);
	ck_assert_uint_eq(where(store, a).frames, WIRED);
	finish(store, a, b);
}
END_TEST

START_TEST(evicting_one_object_leaves_the_others_and_what_is_wired)
{
	struct swapstore_config c = fixture_config(FRAMES, 16);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *a = fixture_object(store), *b = fixture_object(store);
	uint64_t moved;

	fixture_put(store, a, 0, WIRED, 1);
	fixture_put(store, b, 0, WIRED, 2);
	ck_assert_int_eq(evict(store, a, &moved), 0);
	ck_assert_uint_eq(moved, WIRED);
	ck_assert_uint_eq(where(store, a).swapped, WIRED);
	ck_assert_uint_eq(where(store, b).frames, WIRED);
	ck_assert_uint_eq(fixture_stats(store).frames_used, WIRED);
	fixture_expect(store, a, 0, WIRED, 1);
	ck_assert_int_eq(wire(store, b), 0);
	ck_assert_int_eq(evict(store, b, &moved), 0);
	ck_assert_uint_eq(moved, 0);
	ck_assert_uint_eq(where(store, b).frames, WIRED);
	finish(store, a, b);
}
END_TEST

START_TEST(without_swap_evicting_is_refused_and_wiring_works)
{
	struct swapstore_config c = fixture_config(FRAMES, 0);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *a = fixture_object(store), *b = fixture_object(store);
	uint64_t moved;

	fixture_put(store, a, 0, WIRED, 1);
	ck_assert_int_eq(evict(store, a, &moved), -EOPNOTSUPP);
	ck_assert_int_eq(wire(store, a), 0);
	ck_assert_uint_eq(where(store, a).wired, WIRED);
	fixture_expect(store, a, 0, WIRED, 1);
	finish(store, a, b);
}
END_TEST

static int fail_op(void *ctx, const struct ring_req *req)
{
	return req->op == *(enum ring_op *)ctx ? -EIO : 0;
}

START_TEST(a_disk_that_fails_wires_nothing_and_evicts_nothing)
{
	struct swapstore_config c = fixture_config(FRAMES, 16);
	enum ring_op fails = RING_READ;
	struct swapstore *store = fixture_open(&c);
	struct ss_object *a = fixture_object(store), *b = fixture_object(store);
	uint64_t moved;

	fixture_put(store, a, 0, WIRED, 1);
	ck_assert_int_eq(evict(store, a, &moved), 0);
	fixture_put(store, a, WIRED, 8, 2);
	swapstore_set_io_hook(store, &(struct ring_hook){fail_op, &fails});
	ck_assert_int_eq(wire(store, a), -EIO);
	ck_assert(!where(store, a).is_wired);
	ck_assert_uint_eq(fixture_stats(store).wired_pages, 0);
	fails = RING_WRITE;
	fixture_put(store, b, 0, WIRED, 3);
	ck_assert_int_ne(evict(store, b, &moved), 0);
	ck_assert_uint_eq(moved, 0);
	ck_assert_uint_eq(where(store, b).frames, WIRED);
	fixture_expect(store, b, 0, WIRED, 3);
	fixture_expect(store, a, 0, WIRED, 1);
	finish(store, a, b);
}
END_TEST

START_TEST(zero_pages_and_reserved_ones_are_counted_and_need_no_frame)
{
	struct swapstore_config c = fixture_config(FRAMES, 16);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *a = fixture_object(store), *b = fixture_object(store);
	static const char zeroes[4 * SS_PAGE_SIZE];
	struct ss_object_stats st;
	uint64_t moved;

	ck_assert_int_eq(object_write(store, a, zeroes, sizeof(zeroes), 0, 0), (ssize_t)sizeof(zeroes));
	ck_assert_int_eq(object_allocate(store, a, 10 * PAGE, 13 * PAGE, 0), 0);
	fixture_put(store, a, 20, 2, 1);
	ck_assert_int_eq(evict(store, a, &moved), 0);
	ck_assert_uint_eq(moved, 6);
	object_get_stats(store, a, 11, &st);
	ck_assert_uint_eq(st.zero, 4);
	ck_assert_uint_eq(st.unwritten, 3);
	ck_assert_uint_eq(st.swapped, 2);
	ck_assert_uint_eq(st.below_end, 5);
	ck_assert_int_eq(wire(store, a), 0);
	ck_assert_uint_eq(fixture_stats(store).wired_pages, 2);
	fixture_put(store, a, 0, 1, 5); /* a frame in the place of a mark */
	ck_assert_uint_eq(fixture_stats(store).wired_pages, 3);
	finish(store, a, b);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire");
	TCase *tcase = tcase_create("wire");

	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, wired_pages_are_never_swapped_in_because_they_never_went, 0, 2);
	tcase_add_loop_test(tcase, wiring_brings_pages_in_and_frees_their_slots, 0, 2);
	tcase_add_test(tcase, more_than_the_limit_is_refused_as_a_whole_and_later_pages_stay_ordinary);
	tcase_add_test(tcase, with_wired_pages_the_store_still_holds_all_that_it_promised);
	tcase_add_test(tcase, evicting_one_object_leaves_the_others_and_what_is_wired);
	tcase_add_test(tcase, without_swap_evicting_is_refused_and_wiring_works);
	tcase_add_test(tcase, a_disk_that_fails_wires_nothing_and_evicts_nothing);
	tcase_add_test(tcase, zero_pages_and_reserved_ones_are_counted_and_need_no_frame);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
