/* SPDX-License-Identifier: MIT */
/*
 * test_trouble: places of the swap disk that cannot be written, one by one: what test_store's disk, which fails as a
 * whole, does not show.
 */
#include "tests/unit/store_fixture.h"

#define PLACES 3U

/* Slots far enough from each other that no request covers two of them. */
static const uint64_t place[PLACES] = {20, 90, 160};

struct broken {
	atomic_bool heals[PLACES];
};

static int broken_before(void *ctx, const struct ring_req *req)
{
	struct broken *b = ctx;
	uint64_t first = req->offset / PAGE, n = 0;

	for (int i = 0; i < req->iovcnt; i++)
		n += req->iov[i].iov_len / PAGE;
	for (unsigned i = 0; i < PLACES; i++)
		if (req->op == RING_WRITE && !atomic_load(&b->heals[i]) && first <= place[i] && place[i] < first + n)
			return -EIO;
	return 0;
}

static void fill(struct swapstore *store, struct ss_object *obj)
{
	char buf[PAGE];

	for (unsigned i = 0; i < 300; i++) {
		fixture_pattern(buf, PAGE, i);
		ck_assert_int_eq(object_write(store, obj, buf, PAGE, i * PAGE, 0), (ssize_t)PAGE);
	}
}

/* Whichever of three broken places heals, it is found out, though the two others stay as they are. */
START_TEST(a_place_that_heals_is_used_again_whatever_stays_broken)
{
	struct swapstore_config c = fixture_config(64, 4);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	struct broken b = {0};
	uint64_t bad;

	swapstore_set_io_hook(store, &(struct ring_hook){broken_before, &b});
	fill(store, obj);
	swapstore_evict(store, 64);
	bad = fixture_stats(store).swap_bad_pages;
	ck_assert_uint_ge(bad, PLACES);
	ck_assert(!fixture_stats(store).swap_sick);
	atomic_store(&b.heals[_i], true);
	fixture_wait_until(fixture_stats(store).swap_bad_pages < bad);
	for (unsigned i = 0; i < PLACES; i++)
		atomic_store(&b.heals[i], true);
	fixture_wait_until(fixture_stats(store).swap_bad_pages == 0);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("trouble");
	TCase *tc = tcase_create("places");

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, a_place_that_heals_is_used_again_whatever_stays_broken, 0, PLACES);
	suite_add_tcase(suite, tc);
	return fixture_main(suite);
}
