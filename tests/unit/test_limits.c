/* SPDX-License-Identifier: MIT */
/*
 * test_limits: a store in use is given other limits: its memory follows, nothing is lost, and what cannot be is refused
 * and leaves everything as it was.  Each test that shrinks RAM measures that swap was used, and what the process holds.
 */
#include "tests/unit/store_fixture.h"

#include <pthread.h>

#define FRAMES 8192U /* at first: 32 MiB */
#define SMALL  1500U
#define LARGE  20000U
#define KEEP   UINT64_MAX

static struct swapstore_config config_of(unsigned frames, uint64_t swap_mib)
{
	struct swapstore_config c = fixture_config(frames, swap_mib);

	c.ram_most = c.ram_bytes + LARGE * (PAGE + frames_overhead());
	return c;
}

/* A cap that leaves so many frames fewer (or more) than config. */
static uint64_t ram_of(const struct swapstore_config *config, int64_t frames_more)
{
	return (uint64_t)((int64_t)config->ram_bytes + frames_more * (int64_t)(PAGE + frames_overhead()));
}

static int change(struct swapstore *store, uint64_t ram, uint64_t size, char *why)
{
	struct swapstore_limits want = {.ram_bytes = ram, .size_bytes = size};
	int err;

	why[0] = '\0';
	err = swapstore_limits_begin(store, &want, why, 256);
	if (!err)
		err = swapstore_limits_commit(store, &want, why, 256);
	ck_assert_int_eq(err != 0, why[0] != '\0');
	return err;
}

static void put(struct swapstore *store, struct ss_object *obj, uint64_t page, uint64_t n, uint64_t seed)
{
	char buf[16 * 4096];

	for (uint64_t i = page; i < page + n; i += 16) {
		fixture_pattern(buf, sizeof(buf), seed + i);
		ck_assert_int_eq(object_write(store, obj, buf, sizeof(buf), i * PAGE, 0), sizeof(buf));
	}
}

static void expect(struct swapstore *store, struct ss_object *obj, uint64_t page, uint64_t n, uint64_t seed)
{
	char buf[16 * 4096], want[16 * 4096];

	for (uint64_t i = page; i < page + n; i += 16) {
		fixture_pattern(want, sizeof(want), seed + i);
		ck_assert_int_eq(object_pread(store, obj, buf, sizeof(buf), i * PAGE), 0);
		ck_assert_msg(memcmp(buf, want, sizeof(buf)) == 0, "page %llu is not what was written",
			      (unsigned long long)i);
	}
}

static uint64_t resident(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%*u %llu", &pages), 1);
	fclose(f);
	return pages * PAGE;
}

START_TEST(less_ram_is_given_back_and_more_is_used)
{
	struct swapstore_config c = config_of(FRAMES, 256);
	uint64_t empty = resident();
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	uint64_t full, small = ram_of(&c, (int64_t)SMALL - FRAMES), large = ram_of(&c, LARGE - FRAMES);
	char why[256];

	/* More than once where the arena grows more slowly than this writes. */
	for (int i = 0; i < 50 && fixture_stats(store).frames_used < 7000; i++)
		put(store, obj, 0, 7680, 1);
	full = resident();
	ck_assert_int_eq(change(store, small, KEEP, why), 0);
	ck_assert_uint_eq(fixture_stats(store).ram_limit_bytes, small);
	ck_assert_uint_le(fixture_stats(store).ram_used_bytes, small);
	ck_assert_uint_le(fixture_stats(store).frames_used, SMALL);
	ck_assert_uint_ge(fixture_stats(store).swapout_pages, 7680 - SMALL);
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) /* which count their own memory in */
	ck_assert_uint_ge(full, empty + FRAMES / 4 * 3 * PAGE);
	ck_assert_uint_le(resident(), empty + small + (2 << 20));
#else
	(void)empty;
	(void)full;
#endif
	expect(store, obj, 0, 7680, 1);
	ck_assert_uint_le(fixture_stats(store).frames_used, SMALL);

	ck_assert_int_eq(change(store, large, KEEP, why), 0);
	for (int i = 0; i < 50 && fixture_stats(store).frames_used <= FRAMES; i++)
		put(store, obj, 8192, 14400, 1);
	ck_assert_uint_gt(fixture_stats(store).frames_used, FRAMES);
	ck_assert_uint_le(fixture_stats(store).ram_used_bytes, large);
	expect(store, obj, 0, 7680, 1);
	expect(store, obj, 8192, 14400, 1);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(limits_below_what_is_there_are_refused)
{
	struct swapstore_config c = config_of(FRAMES, 0);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	uint64_t left = swapstore_pages_left(store);
	char why[256];

	put(store, obj, 0, 4000, 2);
	ck_assert_int_eq(change(store, ram_of(&c, 3500 - (int64_t)FRAMES), KEEP, why), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "would fit"));
	ck_assert_int_eq(change(store, 1, KEEP, why), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "too small"));
	ck_assert_int_eq(change(store, c.ram_most * 2, KEEP, why), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "too large"));
	ck_assert_int_eq(change(store, 0, 3999 * PAGE, why), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "would fit"));
	/* All or nothing: a good cap with a bad size. */
	ck_assert_int_eq(change(store, ram_of(&c, -1000), 3999 * PAGE, why), -EINVAL);
	ck_assert_uint_eq(fixture_stats(store).ram_limit_bytes, c.ram_bytes);
	ck_assert_uint_ge(swapstore_pages_left(store) + 4000 + 32, left);

	ck_assert_int_eq(change(store, 0, 4000 * PAGE, why), 0);
	ck_assert_uint_eq(swapstore_pages_left(store), 0);
	ck_assert_uint_eq(fixture_stats(store).size_limit_pages, 4000);
	/* With no swap RAM shrinks as far as the pages need it. */
	ck_assert_int_eq(change(store, ram_of(&c, 5000 - (int64_t)FRAMES), 0, why), 0);
	ck_assert_uint_le(fixture_stats(store).ram_used_bytes, fixture_stats(store).ram_limit_bytes);
	ck_assert_uint_gt(swapstore_pages_left(store), 0);
	expect(store, obj, 0, 4000, 2);
	swapstore_check(store);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(swap_shrinks_to_what_is_in_use_and_grows_to_what_it_was)
{
	struct swapstore_config c = config_of(600, 64);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	struct swapstore_limits want = {.size_bytes = KEEP, .swap_bytes = 4 << 20};
	char why[256] = "", page[4096];
	uint64_t i = 4800;

	put(store, obj, 0, 4800, 6);
	ck_assert_int_eq(swapstore_limits_begin(store, &want, why, sizeof(why)), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "in use"));
	want.swap_bytes = 65 << 20;
	ck_assert_int_eq(swapstore_limits_begin(store, &want, why, sizeof(why)), -EINVAL);
	want.swap_bytes = 20 << 20;
	ck_assert_int_eq(swapstore_limits_begin(store, &want, why, sizeof(why)), 0);
	ck_assert_int_eq(swapstore_limits_commit(store, &want, why, sizeof(why)), 0);
	ck_assert_uint_eq(fixture_stats(store).swap_limit_pages, 5120);
	/* The rest is refused, and never more than that is in swap. */
	fixture_pattern(page, PAGE, 7);
	while (object_write(store, obj, page, PAGE, i * PAGE, 0) > 0)
		i++;
	ck_assert_uint_le(i, 5120 + 600);
	ck_assert_uint_le(fixture_stats(store).swap_used_pages, 5120);
	want.swap_bytes = 64 << 20;
	ck_assert_int_eq(swapstore_limits_begin(store, &want, why, sizeof(why)), 0);
	ck_assert_int_eq(swapstore_limits_commit(store, &want, why, sizeof(why)), 0);
	put(store, obj, 6000 / 16 * 16, 4800, 6);
	expect(store, obj, 0, 4800, 6);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(a_reserve_larger_than_ram_and_swap_is_refused)
{
	struct swapstore_config c = config_of(600, 16);
	struct swapstore *store = NULL;
	char why[256] = "";

	c.reserve_bytes = 600 * PAGE + (16 << 20) + 1;
	ck_assert_int_eq(swapstore_open(&c, &store, why, sizeof(why)), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "reserve="));
	c.reserve_bytes = 400 * PAGE;
	store = fixture_open(&c);
	ck_assert_uint_ge(fixture_stats(store).ram_used_bytes, 400 * PAGE);
	fixture_close(store);
}
END_TEST

START_TEST(the_cap_stays_when_swap_takes_nothing)
{
	struct swapstore_config c = config_of(FRAMES, 256);
	struct ring_hook hook = {.before = fixture_refuse_writes};
	struct swapstore *store;
	struct ss_object *obj;
	char why[256];
	int64_t began;

	store = fixture_open(&c);
	swapstore_set_io_hook(store, &hook);
	obj = fixture_object(store);
	put(store, obj, 0, 6400, 3);
	began = time(NULL);
	ck_assert_int_eq(change(store, ram_of(&c, (int64_t)SMALL - FRAMES), KEEP, why), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(why, "stays"));
	ck_assert_int_le(time(NULL) - began, 60);
	ck_assert_uint_eq(fixture_stats(store).ram_limit_bytes, c.ram_bytes);
	expect(store, obj, 0, 6400, 3);
	put(store, obj, 6400, 640, 3);
	expect(store, obj, 0, 7040, 3);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(what_the_client_holds_back_finds_room_between_the_steps)
{
	struct swapstore_config c = config_of(FRAMES, 0);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	struct swapstore_limits want = {.ram_bytes = ram_of(&c, 5000 - (int64_t)FRAMES), .size_bytes = KEEP};
	char why[256] = "", page[4096];

	put(store, obj, 0, 4000, 4);
	ck_assert_int_eq(swapstore_limits_begin(store, &want, why, sizeof(why)), 0);
	ck_assert_uint_lt(swapstore_pages_left(store), 1000);
	fixture_pattern(page, PAGE, 5);
	for (uint64_t i = 4000; i < 6000; i++) /* acknowledged before */
		ck_assert_int_eq(object_write(store, obj, page, PAGE, i * PAGE, SS_WRITE_ACKED), PAGE);
	ck_assert_uint_eq(swapstore_pages_left(store), 0);
	ck_assert_int_eq(object_write(store, obj, page, PAGE, 7000 * PAGE, 0), -ENOSPC);
	ck_assert_int_eq(swapstore_limits_commit(store, &want, why, sizeof(why)), -EINVAL);
	ck_assert_uint_gt(swapstore_pages_left(store), 0);
	/* Known beforehand: nobody is bothered. */
	ck_assert_int_eq(swapstore_limits_begin(store, &want, why, sizeof(why)), -EINVAL);
	ck_assert_uint_gt(swapstore_pages_left(store), 0);
	expect(store, obj, 0, 4000, 4);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

/* --- while others write and read ---------------------------------------------------------------------------------- */

#define WRITERS	     3
#define WRITER_PAGES 3200U

struct writer {
	pthread_t thread;
	struct swapstore *store;
	struct ss_object *obj;
	uint64_t state;
	atomic_bool *stop;
};

/* Writes and checks at random within an object of its own. */
static void *write_and_check(void *arg)
{
	struct writer *w = arg;
	uint64_t seed[WRITER_PAGES / 16] = {0};

	while (!atomic_load(w->stop)) {
		uint64_t at = fixture_random(&w->state) % (WRITER_PAGES / 16);

		if (seed[at] && fixture_random(&w->state) % 2) {
			expect(w->store, w->obj, at * 16, 16, seed[at]);
		} else {
			seed[at] = fixture_random(&w->state) >> 8 | 1;
			put(w->store, w->obj, at * 16, 16, seed[at]);
		}
	}
	for (uint64_t at = 0; at < WRITER_PAGES / 16; at++)
		if (seed[at])
			expect(w->store, w->obj, at * 16, 16, seed[at]);
	return NULL;
}

START_TEST(limits_move_while_threads_write_and_verify)
{
	struct swapstore_config c = config_of(FRAMES, 256);
	struct swapstore *store = fixture_open(&c);
	struct writer writer[WRITERS];
	atomic_bool stop = false;
	uint64_t state = fixture_seed();
	char why[256];

	for (unsigned i = 0; i < WRITERS; i++) {
		writer[i] = (struct writer){.store = store, .obj = fixture_object(store), .stop = &stop};
		writer[i].state = state + i + 1;
		ck_assert_int_eq(pthread_create(&writer[i].thread, NULL, write_and_check, &writer[i]), 0);
	}
	for (unsigned turn = 0; turn < 40; turn++) {
		int64_t frames = SMALL + (int64_t)(fixture_random(&state) % (LARGE - SMALL));
		uint64_t ram = ram_of(&c, (turn % 2 ? frames : SMALL) - (int64_t)FRAMES);

		ck_assert_msg(change(store, ram, KEEP, why) == 0, "%s", why);
		ck_assert_uint_eq(fixture_stats(store).ram_limit_bytes, ram);
		ck_assert_uint_le(fixture_stats(store).ram_used_bytes, ram);
		usleep(20000);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writer[i].thread, NULL);
	ck_assert_uint_gt(fixture_stats(store).swapout_pages, 0);
	ck_assert_uint_gt(fixture_stats(store).swapin_pages, 0);
	for (unsigned i = 0; i < WRITERS; i++)
		object_destroy(store, writer[i].obj);
	fixture_close(store);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("limits");
	TCase *tc = tcase_create("limits");

	tcase_add_test(tc, less_ram_is_given_back_and_more_is_used);
	tcase_add_test(tc, limits_below_what_is_there_are_refused);
	tcase_add_test(tc, swap_shrinks_to_what_is_in_use_and_grows_to_what_it_was);
	tcase_add_test(tc, a_reserve_larger_than_ram_and_swap_is_refused);
	tcase_add_test(tc, the_cap_stays_when_swap_takes_nothing);
	tcase_add_test(tc, what_the_client_holds_back_finds_room_between_the_steps);
	tcase_add_test(tc, limits_move_while_threads_write_and_verify);
	suite_add_tcase(s, tc);
	return fixture_main(s);
}
