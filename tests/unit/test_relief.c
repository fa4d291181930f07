/* SPDX-License-Identifier: MIT */
/*
 * test_relief: memory given back on request (swapstore_give_back), wherever the pages lie that are evicted for it; and
 * memory that is not taken while may_take() says no.
 */
#include "tests/unit/store_fixture.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#define RELIEF_FRAMES 8192U /* 16 chunks: the arena gives memory back by the chunk */
#define RELIEF_PAGES  (RELIEF_FRAMES * 3 / 2)

/* A page's number, on all of it: cheap to check, and never zero. */
static void relief_put(struct swapstore *store, struct ss_object *obj)
{
	uint64_t page[PAGE / sizeof(uint64_t)];

	for (uint64_t i = 0; i < RELIEF_PAGES; i++) {
		for (size_t k = 0; k < PAGE / sizeof(*page); k++)
			page[k] = i + 1;
		ck_assert_int_eq(object_write(store, obj, page, PAGE, i * PAGE, 0), (ssize_t)PAGE);
	}
}

static void relief_expect(struct swapstore *store, struct ss_object *obj, uint64_t index)
{
	uint64_t page[PAGE / sizeof(uint64_t)];

	ck_assert_int_eq(object_pread(store, obj, page, PAGE, index * PAGE), 0);
	ck_assert_uint_eq(page[0], index + 1);
	ck_assert_uint_eq(page[PAGE / sizeof(*page) - 1], index + 1);
}

/* What is free and what is old then lies scattered over all chunks. */
static void relief_scatter(struct swapstore *store, struct ss_object *obj, uint64_t *seed)
{
	for (unsigned i = 0; i < 2 * RELIEF_PAGES; i++)
		relief_expect(store, obj, fixture_random(seed) % RELIEF_PAGES);
}

START_TEST(memory_of_scattered_pages_goes_back_and_is_used_again)
{
	struct swapstore_config c = fixture_config(RELIEF_FRAMES, 128);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	uint64_t seed = fixture_seed(), before, frames, given;

	relief_put(store, obj);
	relief_scatter(store, obj, &seed);
	before = fixture_stats(store).ram_used_bytes;
	frames = fixture_stats(store).frames_used;
	given = swapstore_give_back(store, RELIEF_FRAMES / 4);
	printf("asked for %u pages: %llu came; frames %llu before, %llu after\n", RELIEF_FRAMES / 4,
	       (unsigned long long)given, (unsigned long long)frames,
	       (unsigned long long)fixture_stats(store).frames_used);
	ck_assert_uint_ge(given, RELIEF_FRAMES / 8);
	ck_assert_uint_le(given, RELIEF_FRAMES / 4);
	ck_assert_uint_le(fixture_stats(store).ram_used_bytes, before - given * PAGE);
	ck_assert_uint_ge(fixture_stats(store).frames_used, frames - RELIEF_FRAMES / 2 - FRAMES_PER_CHUNK);

	for (uint64_t i = 0; i < RELIEF_PAGES; i++)
		relief_expect(store, obj, i);
	relief_scatter(store, obj, &seed);
	ck_assert_uint_ge(fixture_stats(store).ram_used_bytes, before - (2U << 20));
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

struct relief_checker {
	struct swapstore *store;
	atomic_bool runs, stop;
};

static void *relief_check(void *arg)
{
	struct relief_checker *checker = arg;
	const struct timespec pause = { .tv_nsec = 1 }; /* some 50 µs: others want the locks, too */

	while (!atomic_load(&checker->stop)) {
		swapstore_check(checker->store);
		atomic_store(&checker->runs, true);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

/* And the books are right at every moment of it. */
START_TEST(all_that_is_free_goes_back_at_once)
{
	struct swapstore_config c = fixture_config(RELIEF_FRAMES, 128);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	struct relief_checker checker = { .store = store };
	pthread_t thread;
	uint64_t before, given;

	relief_put(store, obj);
	object_destroy(store, obj);
	before = fixture_stats(store).ram_used_bytes;
	ck_assert_int_eq(pthread_create(&thread, NULL, relief_check, &checker), 0);
	fixture_wait_until(atomic_load(&checker.runs));
	given = swapstore_give_back(store, RELIEF_FRAMES / 2);
	atomic_store(&checker.stop, true);
	pthread_join(thread, NULL);
	ck_assert_uint_ge(given, RELIEF_FRAMES / 4);
	ck_assert_uint_le(fixture_stats(store).ram_used_bytes, before - given * PAGE);
	fixture_close(store);
}
END_TEST

static void relief_fill_half(struct swapstore *store, struct ss_object *obj, unsigned write_flags)
{
	char page[PAGE];

	fixture_pattern(page, PAGE, 1);
	for (uint64_t i = 0; i < RELIEF_FRAMES / 2; i++)
		ck_assert_int_eq(object_write(store, obj, page, PAGE, i * PAGE, write_flags), (ssize_t)PAGE);
}

START_TEST(without_swap_what_is_used_stays)
{
	struct swapstore_config c = fixture_config(RELIEF_FRAMES, 0);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);

	relief_fill_half(store, obj, 0);
	swapstore_give_back(store, RELIEF_FRAMES);
	ck_assert_uint_eq(fixture_stats(store).frames_used, RELIEF_FRAMES / 2);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

/* Memory that the store may take, and how often it was refused. */
struct relief_room {
	_Atomic uint64_t bytes;
	atomic_uint refusals;
};

static bool relief_may_take(void *ctx, size_t bytes)
{
	struct relief_room *room = ctx;
	bool may = atomic_load(&room->bytes) >= bytes;

	if (may)
		atomic_fetch_sub(&room->bytes, bytes);
	else
		atomic_fetch_add(&room->refusals, 1);
	return may;
}

static struct swapstore *relief_open(unsigned frames, uint64_t swap_mib, struct relief_room *room)
{
	struct swapstore_config c = fixture_config(frames, swap_mib);

	c.may_take = relief_may_take;
	c.may_take_ctx = room;
	return fixture_open(&c);
}

START_TEST(memory_that_may_not_be_taken_is_not)
{
	struct relief_room room = { .bytes = 4 * FRAMES_PER_CHUNK * PAGE };
	struct swapstore *store = relief_open(RELIEF_FRAMES, 128, &room);
	struct ss_object *obj = fixture_object(store);

	relief_put(store, obj);
	fixture_wait_until(fixture_stats(store).frames_used <= 4 * FRAMES_PER_CHUNK);
	ck_assert_uint_gt(atomic_load(&room.refusals), 0);
	for (uint64_t i = 0; i < RELIEF_PAGES; i++)
		relief_expect(store, obj, i);
	atomic_store(&room.bytes, UINT64_MAX);
	fixture_wait_until((relief_put(store, obj), fixture_stats(store).frames_used > RELIEF_FRAMES / 2));
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

/* Slower than any disk, so that eviction keeps all supplied: does the store take memory all the same? */
static bool relief_grows_at_leisure(struct swapstore *store)
{
	const struct timespec pause = { .tv_nsec = 200000 };
	const uint64_t before = fixture_stats(store).frames_used;
	struct ss_object *obj = fixture_object(store);
	uint64_t page = 0;

	while (page < RELIEF_FRAMES / 2 && fixture_stats(store).frames_used <= before + FRAMES_PER_CHUNK) {
		fixture_put(store, obj, page++, 1, 1);
		nanosleep(&pause, NULL);
	}
	object_destroy(store, obj);
	return page < RELIEF_FRAMES / 2;
}

START_TEST(room_that_comes_back_is_taken_at_leisure)
{
	struct relief_room room = { .bytes = 4 * FRAMES_PER_CHUNK * PAGE };
	struct swapstore *store = relief_open(4 * RELIEF_FRAMES, 128, &room);
	struct ss_object *obj = fixture_object(store);

	relief_put(store, obj);
	atomic_store(&room.bytes, UINT64_MAX);
	ck_assert(relief_grows_at_leisure(store));
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

/* The kernel takes so many more chunks at once, and the next one when it may.  (This is the program's madvise().) */
static atomic_int relief_chunks = INT_MAX;
static atomic_bool relief_go_on;

int madvise(void *start, size_t bytes, int advice)
{
	if (advice == MADV_DONTNEED && bytes == FRAMES_PER_CHUNK * PAGE && atomic_fetch_sub(&relief_chunks, 1) == 0)
		fixture_wait_until(atomic_load(&relief_go_on));
	return (int)syscall(SYS_madvise, start, bytes, advice);
}

static void *relief_give_back(void *store)
{
	for (int i = 0; i < 50 && atomic_load(&relief_chunks) >= 0; i++)
		swapstore_give_back(store, RELIEF_FRAMES / 2);
	return NULL;
}

/* The arena's thread is busy giving memory back: nobody waits for it longer than a moment, and it takes some again. */
START_TEST(memory_is_taken_again_after_a_stall)
{
	struct swapstore_config c = fixture_config(2 * RELIEF_FRAMES, 128);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store), *other = fixture_object(store);
	pthread_t thread;

	relief_put(store, obj);
	relief_put(store, other);
	atomic_store(&relief_chunks, 4);
	ck_assert_int_eq(pthread_create(&thread, NULL, relief_give_back, store), 0);
	fixture_wait_until(atomic_load(&relief_chunks) < 0);
	relief_put(store, obj);
	relief_put(store, other);
	usleep(200000); /* eviction is ahead again */
	atomic_store(&relief_go_on, true);
	pthread_join(thread, NULL);
	ck_assert(relief_grows_at_leisure(store));
	object_destroy(store, obj);
	object_destroy(store, other);
	fixture_close(store);
}
END_TEST

/* Whichever moment of the arena's asking it is. */
START_TEST(a_store_that_waits_for_room_can_be_closed)
{
	for (unsigned i = 0; i < 25; i++) {
		struct relief_room room = { .bytes = FRAMES_PER_CHUNK * PAGE };
		struct swapstore *store = relief_open(RELIEF_FRAMES, 128, &room);
		struct ss_object *obj = fixture_object(store);

		fixture_put(store, obj, 0, 2 * FRAMES_PER_CHUNK, 1);
		fixture_wait_until(atomic_load(&room.refusals) > 0);
		object_destroy(store, obj);
		usleep(i * 2000);
		fixture_close(store);
	}
}
END_TEST

START_TEST(where_nothing_can_be_evicted_it_is_taken_all_the_same)
{
	struct relief_room room = { 0 };
	struct swapstore *store = relief_open(RELIEF_FRAMES, 0, &room);
	struct ss_object *obj = fixture_object(store);

	relief_fill_half(store, obj, SS_WRITE_ACKED);
	ck_assert_uint_eq(atomic_load(&room.refusals), 0);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(where_the_disk_takes_nothing_it_is_taken_all_the_same)
{
	struct relief_room room = { .bytes = FRAMES_PER_CHUNK * PAGE };
	struct swapstore *store = relief_open(RELIEF_FRAMES, 128, &room);
	struct ss_object *obj = fixture_object(store);

	swapstore_set_io_hook(store, &(struct ring_hook){ fixture_refuse_writes, NULL });
	relief_fill_half(store, obj, SS_WRITE_ACKED);
	ck_assert(fixture_stats(store).swap_sick);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("relief");
	TCase *tc = tcase_create("relief");

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, memory_of_scattered_pages_goes_back_and_is_used_again);
	tcase_add_test(tc, all_that_is_free_goes_back_at_once);
	tcase_add_test(tc, without_swap_what_is_used_stays);
	tcase_add_test(tc, memory_that_may_not_be_taken_is_not);
	tcase_add_test(tc, room_that_comes_back_is_taken_at_leisure);
	tcase_add_test(tc, memory_is_taken_again_after_a_stall);
	tcase_add_test(tc, a_store_that_waits_for_room_can_be_closed);
	tcase_add_test(tc, where_nothing_can_be_evicted_it_is_taken_all_the_same);
	tcase_add_test(tc, where_the_disk_takes_nothing_it_is_taken_all_the_same);
	suite_add_tcase(suite, tc);
	return fixture_main(suite);
}
