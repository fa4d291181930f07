/* SPDX-License-Identifier: MIT */
/*
 * test_store: what the store promises, one behaviour a test, each with a cap so small that pages must go to swap
 * and come back; and that they did is measured, not assumed.
 */
#include "tests/unit/store_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Hole punching that takes its time: stands before the C library's fallocate(). */
static atomic_uint punch_usec;

int fallocate(int fd, int mode, off_t offset, off_t length)
{
	usleep(atomic_load(&punch_usec));
	return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

/* Writes pages 0, 1, ... (seeds the same) until there is no room; returns how many went in. */
static uint64_t fill_up(struct swapstore *store, struct ss_object *obj)
{
	char buf[PAGE];
	ssize_t got;

	for (uint64_t n = 0;; n++) {
		fixture_pattern(buf, PAGE, n);
		got = object_write(store, obj, buf, PAGE, n * PAGE, 0);
		if (got != (ssize_t)PAGE) {
			ck_assert_int_eq(got, -ENOSPC);
			return n;
		}
	}
}

START_TEST(data_far_beyond_ram_comes_back_unchanged)
{
	struct swapstore_config c = fixture_config(64, 64);
	struct swapstore *store;
	struct ss_object *obj;

	c.engine = _i & 1 ? RING_THREADS : RING_AUTO;
	c.read_through = _i & 2;
	store = fixture_open(&c);
	obj = fixture_object(store);
	for (unsigned i = 0; i < 64; i++)
		fixture_put(store, obj, i * 16, 16, i);
	for (unsigned i = 0; i < 64; i++)
		fixture_expect(store, obj, i * 16, 16, i);
	object_check(obj);
	ck_assert_uint_ge(fixture_stats(store).swapout_pages, 1024 - 64);
	ck_assert_uint_ge(fixture_stats(store).swapin_pages, 1024 - 64);
	ck_assert_uint_eq(fixture_stats(store).size_used_pages, 1024);
	ck_assert_uint_le(fixture_stats(store).frames_used, 64);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(reading_a_hole_allocates_nothing)
{
	struct swapstore_config c = fixture_config(32, 1);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	char buf[3 * PAGE];

	memset(buf, 1, sizeof(buf));
	ck_assert_int_eq(object_pread(store, obj, buf, sizeof(buf), UINT64_C(1) << 40), 0);
	for (size_t i = 0; i < sizeof(buf); i++)
		ck_assert_int_eq(buf[i], 0);
	ck_assert_uint_eq(object_pages(obj), 0);
	ck_assert_uint_eq(fixture_stats(store).frames_used, 0);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(zero_pages_are_never_written_but_stay_data)
{
	struct swapstore_config c = fixture_config(32, 4);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	static const char zeroes[16 * SS_PAGE_SIZE];

	for (unsigned i = 0; i < 16; i++)
		ck_assert_int_eq(object_write(store, obj, zeroes, sizeof(zeroes), i * sizeof(zeroes), 0),
				 (ssize_t)sizeof(zeroes));
	swapstore_evict(store, 256);
	ck_assert_uint_ge(fixture_stats(store).zero_pages, 256 - 32);
	ck_assert_uint_eq(fixture_stats(store).swapout_pages, 0);
	ck_assert_uint_eq(object_pages(obj), 256);
	ck_assert_int_eq(object_seek_hole(obj, 0), 256 * (int64_t)PAGE);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(a_whole_page_write_never_reads_the_old_page)
{
	struct swapstore_config c = fixture_config(32, 4);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);

	fixture_put(store, obj, 0, 256, 1);
	swapstore_evict(store, 32);
	fixture_put(store, obj, 0, 256, 2);
	ck_assert_uint_eq(fixture_stats(store).swapin_pages, 0);
	fixture_expect(store, obj, 0, 256, 2);
	ck_assert_uint_gt(fixture_stats(store).swapin_pages, 0);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(a_partial_write_keeps_the_rest_of_a_swapped_page)
{
	struct swapstore_config c = fixture_config(32, 4);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	char want[PAGE], got[PAGE];

	fixture_pattern(want, PAGE, 7);
	ck_assert_int_eq(object_write(store, obj, want, PAGE, 0, 0), (ssize_t)PAGE);
	fixture_wait_until(swapstore_evict(store, 1) == 1);
	ck_assert_int_eq(object_write(store, obj, "hello", 5, 1000, 0), 5);
	memcpy(want + 1000, "hello", 5);
	ck_assert_int_eq(object_pread(store, obj, got, PAGE, 0), 0);
	ck_assert_mem_eq(got, want, PAGE);
	fixture_wait_until(swapstore_evict(store, 1) == 1);
	ck_assert_int_eq(object_erase(store, obj, 100, UINT64_MAX), 0);
	memset(want + 100, 0, PAGE - 100);
	ck_assert_int_eq(object_pread(store, obj, got, PAGE, 0), 0);
	ck_assert_mem_eq(got, want, PAGE);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(a_page_read_twice_stays_clean_and_is_evicted_without_a_write)
{
	struct swapstore_config c = fixture_config(32, 4);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	uint64_t written;

	fixture_put(store, obj, 0, 8, 1);
	fixture_wait_until((swapstore_evict(store, 8), fixture_stats(store).frames_used == 0));
	written = fixture_stats(store).swapout_pages;
	ck_assert_uint_eq(written, 8);
	fixture_expect(store, obj, 0, 8, 1);
	ck_assert_uint_eq(fixture_stats(store).frames_used, 8);
	fixture_wait_until((swapstore_evict(store, 8), fixture_stats(store).frames_used == 0));
	ck_assert_uint_eq(fixture_stats(store).swapout_pages, written);
	ck_assert_uint_ge(fixture_stats(store).clean_evictions, 8);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(with_read_through_a_page_takes_a_frame_at_its_second_miss)
{
	struct swapstore_config c = fixture_config(32, 4);
	struct swapstore *store;
	struct ss_object *obj;

	c.read_through = true;
	store = fixture_open(&c);
	obj = fixture_object(store);
	fixture_put(store, obj, 0, 8, 1);
	fixture_wait_until((swapstore_evict(store, 8), fixture_stats(store).frames_used == 0));
	fixture_expect(store, obj, 0, 8, 1);
	ck_assert_uint_eq(fixture_stats(store).frames_used, 0);
	ck_assert_uint_eq(fixture_stats(store).readthrough_pages, 8);
	fixture_expect(store, obj, 0, 8, 1);
	ck_assert_uint_eq(fixture_stats(store).frames_used, 8);
	ck_assert_uint_eq(fixture_stats(store).readthrough_pages, 8);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

/* Counts requests and their pages. */
struct tally {
	atomic_uint reads, writes;
};

static int tally_before(void *ctx, const struct ring_req *req)
{
	struct tally *t = ctx;

	atomic_fetch_add(req->op == RING_READ ? &t->reads : &t->writes, 1);
	return 0;
}

START_TEST(victims_lie_side_by_side_and_come_back_in_one_read)
{
	struct swapstore_config c = fixture_config(600, 16);
	struct tally tally = {0};
	struct swapstore *store = fixture_open(&c);
	struct ss_object *a = fixture_object(store), *b = fixture_object(store);

	swapstore_set_io_hook(store, &(struct ring_hook){tally_before, &tally});
	for (unsigned i = 0; i < 64; i++) { /* written in turn, and out of order */
		fixture_put(store, a, 63 - i, 1, 1000 + i);
		fixture_put(store, b, i, 1, 2000 + i);
	}
	ck_assert_uint_eq(swapstore_evict(store, 128), 128);
	ck_assert_uint_le(atomic_load(&tally.writes), 2);
	for (unsigned i = 0; i < 64; i += 16) {
		char buf[16 * PAGE];

		ck_assert_int_eq(object_pread(store, a, buf, sizeof(buf), i * PAGE), 0);
	}
	ck_assert_uint_eq(atomic_load(&tally.reads), 4);
	object_destroy(store, a);
	object_destroy(store, b);
	fixture_close(store);
}
END_TEST

START_TEST(going_through_a_file_reads_ahead_and_jumping_about_does_not)
{
	struct swapstore_config c = fixture_config(600, 16);
	struct tally tally = {0};
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);

	swapstore_set_io_hook(store, &(struct ring_hook){tally_before, &tally});
	fixture_put(store, obj, 0, 256, 1);
	ck_assert_uint_eq(swapstore_evict(store, 256), 256);
	for (unsigned i = 0; i < 64; i++) {
		char buf[PAGE];

		ck_assert_int_eq(object_pread(store, obj, buf, PAGE, i * PAGE), 0);
	}
	ck_assert_uint_le(atomic_load(&tally.reads), 8);
	ck_assert_uint_le(fixture_stats(store).swapin_pages, 64 + 32);
	atomic_store(&tally.reads, 0);
	for (unsigned i = 0; i < 16; i++) {
		char buf[PAGE];

		ck_assert_int_eq(object_pread(store, obj, buf, PAGE, (250 - i * 8) * PAGE), 0);
	}
	ck_assert_uint_eq(atomic_load(&tally.reads), 16);
	ck_assert_uint_le(fixture_stats(store).swapin_pages, 64 + 32 + 16);
	fixture_expect(store, obj, 0, 256, 1);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(size_is_a_limit_and_erasing_makes_room_at_once)
{
	struct swapstore_config c = fixture_config(64, 4);
	struct swapstore *store;
	struct ss_object *obj;
	char buf[8 * PAGE];

	c.size_bytes = 100 * PAGE;
	store = fixture_open(&c);
	obj = fixture_object(store);
	fixture_put(store, obj, 0, 96, 1);
	fixture_pattern(buf, sizeof(buf), 9);
	ck_assert_int_eq(object_write(store, obj, buf, sizeof(buf), 96 * PAGE, 0), 4 * (ssize_t)PAGE);
	ck_assert_int_eq(object_write(store, obj, buf, sizeof(buf), 200 * PAGE, 0), -ENOSPC);
	ck_assert_int_eq(object_allocate(store, obj, 300 * PAGE, 301 * PAGE, 0), -ENOSPC);
	ck_assert_int_eq(object_write(store, obj, buf, sizeof(buf), 0, 0), (ssize_t)sizeof(buf)); /* overwrite */
	ck_assert_int_eq(object_write(store, obj, buf, PAGE, 200 * PAGE, SS_WRITE_ACKED), (ssize_t)PAGE);
	ck_assert_uint_eq(swapstore_pages_left(store), 0);
	ck_assert_int_eq(object_erase(store, obj, 0, 50 * PAGE), 0);
	ck_assert_int_eq(object_write(store, obj, buf, sizeof(buf), 300 * PAGE, 0), (ssize_t)sizeof(buf));
	fixture_expect(store, obj, 300, 8, 9);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(without_swap_a_full_store_says_so_and_keeps_what_it_has)
{
	struct swapstore_config c = fixture_config(64, 0);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	uint64_t n = fill_up(store, obj);

	ck_assert_uint_ge(n, 48);
	ck_assert_uint_lt(n, 64);
	for (uint64_t i = 0; i < n; i++)
		fixture_expect(store, obj, i, 1, i);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

#define STARVERS 6

struct starver {
	struct swapstore *store;
	struct ss_object *obj;
	uint64_t first;
	ssize_t result;
};

/* 40 MiB of writes that may use the reserve. */
static void *starve(void *arg)
{
	struct starver *s = arg;
	char *buf = malloc(64 * PAGE);

	for (unsigned i = 0; i < 160 && s->result >= 0; i++) {
		fixture_pattern(buf, 64 * PAGE, s->first + i);
		s->result = object_write(s->store, s->obj, buf, 64 * PAGE, (s->first + i * 64) * PAGE, SS_WRITE_ACKED);
	}
	free(buf);
	return NULL;
}

/* Once hung for ever: acknowledged writes took the very last frames, and eviction had none for a slot bitmap. */
START_TEST(writers_that_may_use_the_reserve_cannot_starve_eviction)
{
	struct swapstore_config c = fixture_config(200, 320);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	struct starver starver[STARVERS];
	pthread_t thread[STARVERS];

	for (unsigned t = 0; t < STARVERS; t++) {
		starver[t] = (struct starver){store, obj, (uint64_t)t * 160 * 64, 0};
		ck_assert_int_eq(pthread_create(&thread[t], NULL, starve, &starver[t]), 0);
	}
	for (unsigned t = 0; t < STARVERS; t++) {
		pthread_join(thread[t], NULL);
		ck_assert_int_eq(starver[t].result, 64 * (ssize_t)PAGE);
	}
	fixture_expect(store, obj, 0, 64, 0);
	fixture_expect(store, obj, (uint64_t)STARVERS * 160 * 64 - 64, 64, (STARVERS - 1) * 160 * 64 + 159);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(allocated_space_is_all_or_nothing_and_a_hole_until_written)
{
	struct swapstore_config c = fixture_config(64, 1);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	uint64_t left;

	fixture_put(store, obj, 3, 1, 1);
	ck_assert_int_eq(object_allocate(store, obj, 100, 10 * PAGE, 0), 0);
	ck_assert_uint_eq(object_pages(obj), 10);
	ck_assert_int_eq(object_seek_data(obj, 0), 3 * (int64_t)PAGE);
	ck_assert_int_eq(object_seek_hole(obj, 3 * PAGE + 5), 4 * (int64_t)PAGE);
	ck_assert_int_eq(object_seek_data(obj, 4 * PAGE), -ENXIO);
	left = swapstore_pages_left(store);
	ck_assert_int_eq(object_allocate(store, obj, 0, (left + 11) * PAGE, 0), -ENOSPC);
	ck_assert_uint_eq(object_pages(obj), 10);
	ck_assert_uint_eq(swapstore_pages_left(store), left);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(copying_keeps_holes_and_content)
{
	struct swapstore_config c = fixture_config(32, 4);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *src = fixture_object(store), *dst = fixture_object(store);

	fixture_put(store, src, 0, 64, 1);
	fixture_put(store, src, 200, 64, 2);
	fixture_put(store, dst, 60, 200, 3);
	ck_assert_int_eq(object_copy(store, src, 0, dst, 0, 264 * PAGE, 0), 264 * (ssize_t)PAGE);
	fixture_expect(store, dst, 0, 64, 1);
	fixture_expect(store, dst, 200, 64, 2);
	ck_assert_int_eq(object_seek_hole(dst, 0), 64 * (int64_t)PAGE);
	ck_assert_int_eq(object_seek_data(dst, 64 * PAGE), 200 * (int64_t)PAGE);
	ck_assert_uint_gt(fixture_stats(store).swapout_pages, 0);
	object_destroy(store, src);
	object_destroy(store, dst);
	fixture_close(store);
}
END_TEST

/* --- trouble with the disk ---------------------------------------------------------------------------------------- */

struct disk_trouble {
	enum ring_op op;
	int error;
	atomic_uint every; /* 0: never, 1: always, n: each nth */
	atomic_uint count;
};

static int trouble_before(void *ctx, const struct ring_req *req)
{
	struct disk_trouble *t = ctx;
	unsigned every = atomic_load(&t->every);

	if (req->op != t->op || !every || (atomic_fetch_add(&t->count, 1) + 1) % every)
		return 0;
	return t->error;
}

static void count_lines(void *ctx, const char *line)
{
	ck_assert_ptr_nonnull(strstr(line, "swap: "));
	atomic_fetch_add((atomic_uint *)ctx, 1);
}

START_TEST(a_failed_write_leaves_the_page_in_ram_and_its_slot_out_of_use_until_it_passes_a_trial)
{
	struct swapstore_config c = fixture_config(64, 4);
	atomic_uint lines = 0;
	struct disk_trouble trouble = {.op = RING_WRITE, .error = -EIO, .every = 3};
	struct ss_object *obj;
	struct swapstore *store;

	c.report = count_lines;
	c.report_ctx = &lines;
	store = fixture_open(&c);
	obj = fixture_object(store);
	swapstore_set_io_hook(store, &(struct ring_hook){trouble_before, &trouble});
	for (unsigned i = 0; i < 32; i++)
		fixture_put(store, obj, i * 8, 8, i);
	for (unsigned i = 0; i < 32; i++)
		fixture_expect(store, obj, i * 8, 8, i);
	ck_assert_uint_gt(fixture_stats(store).swapout_errors, 0);
	ck_assert_uint_gt(fixture_stats(store).swap_bad_pages, 0);
	ck_assert_uint_eq(atomic_load(&lines), 1);
	atomic_store(&trouble.every, 0);
	fixture_wait_until(fixture_stats(store).swap_bad_pages == 0);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(a_disk_that_fails_every_write_costs_no_slots_and_is_reported_twice)
{
	struct swapstore_config c = fixture_config(64, 4);
	atomic_uint lines = 0;
	struct disk_trouble trouble = {.op = RING_WRITE, .error = -EIO, .every = 1};
	struct ss_object *obj;
	struct swapstore *store;
	uint64_t n;

	c.report = count_lines;
	c.report_ctx = &lines;
	store = fixture_open(&c);
	obj = fixture_object(store);
	swapstore_set_io_hook(store, &(struct ring_hook){trouble_before, &trouble});
	n = fill_up(store, obj);
	ck_assert(fixture_stats(store).swap_sick);
	ck_assert_uint_lt(fixture_stats(store).swap_bad_pages, 200);
	ck_assert_uint_le(swapstore_pages_left(store), 16);
	atomic_store(&trouble.every, 0);
	fixture_wait_until(!fixture_stats(store).swap_sick && fixture_stats(store).swap_bad_pages == 0);
	ck_assert_uint_eq(atomic_load(&lines), 2);
	fixture_put(store, obj, n, 500, 999);
	for (unsigned i = 0; i < n; i++)
		fixture_expect(store, obj, i, 1, i);
	fixture_expect(store, obj, n, 500, 999);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(a_full_store_can_still_be_overwritten_in_bulk)
{
	struct swapstore_config c = fixture_config(1024, 2);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	uint64_t n = fill_up(store, obj), at;

	ck_assert_uint_gt(n, 1024);
	for (at = 0; at + 128 <= n; at += 128)
		fixture_put(store, obj, at, 128, 7000 + at);
	for (uint64_t i = 0; i < at; i += 128)
		fixture_expect(store, obj, i, 128, 7000 + i);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(a_full_disk_gives_enospc_keeps_the_data_and_recovers)
{
	struct swapstore_config c = fixture_config(64, 4);
	struct disk_trouble trouble = {.op = RING_WRITE, .error = -ENOSPC, .every = 1};
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	uint64_t n;

	swapstore_set_io_hook(store, &(struct ring_hook){trouble_before, &trouble});
	n = fill_up(store, obj);
	ck_assert_uint_ge(n, 48);
	ck_assert_uint_eq(fixture_stats(store).swap_bad_pages, 0);
	atomic_store(&trouble.every, 0);
	fixture_put(store, obj, n, 200, 999);
	for (unsigned i = 0; i < n; i++)
		fixture_expect(store, obj, i, 1, i);
	fixture_expect(store, obj, n, 200, 999);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(a_failed_read_is_eio_for_that_page_alone)
{
	struct swapstore_config c = fixture_config(32, 4);
	struct disk_trouble trouble = {.op = RING_READ, .error = -EIO, .every = 1};
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	char buf[PAGE];

	fixture_put(store, obj, 0, 2, 5);
	fixture_wait_until((swapstore_evict(store, 2), fixture_stats(store).frames_used == 0));
	swapstore_set_io_hook(store, &(struct ring_hook){trouble_before, &trouble});
	ck_assert_int_eq(object_pread(store, obj, buf, PAGE, 0), -EIO);
	ck_assert_int_eq(object_write(store, obj, "x", 1, 0, 0), -EIO);
	ck_assert_uint_ge(fixture_stats(store).swapin_errors, 2);
	atomic_store(&trouble.every, 0); /* the disk is well again, and so is the page */
	fixture_expect(store, obj, 0, 2, 5);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

/* Fails every request that touches one page of the swap file. */
static int broken_page_before(void *ctx, const struct ring_req *req)
{
	uint64_t broken = *(uint64_t *)ctx, length = 0;

	for (int i = 0; i < req->iovcnt; i++)
		length += req->iov[i].iov_len;
	return req->op == RING_READ && req->offset <= broken && broken < req->offset + length ? -EIO : 0;
}

START_TEST(a_broken_slot_does_not_spoil_its_neighbours)
{
	struct swapstore_config c = fixture_config(600, 4);
	uint64_t broken = 20 * PAGE;
	struct swapstore *store;
	struct ss_object *obj;
	char buf[PAGE];
	unsigned failed = 0;

	c.read_through = _i;
	store = fixture_open(&c);
	obj = fixture_object(store);
	fixture_put(store, obj, 0, 200, 5);
	ck_assert_uint_eq(swapstore_evict(store, 200), 200);
	swapstore_set_io_hook(store, &(struct ring_hook){broken_page_before, &broken});
	for (unsigned i = 0; i < 200; i++) {
		int err = object_pread(store, obj, buf, PAGE, i * PAGE);

		ck_assert(err == 0 || err == -EIO);
		failed += err != 0;
	}
	ck_assert_uint_eq(failed, 1);
	ck_assert_int_eq(object_pread(store, obj, buf, PAGE, 21 * PAGE), 0);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

/* Once gave ENOSPC to all: only the main queue was looked at, where nothing could go. */
START_TEST(with_swap_full_clean_pages_still_make_room)
{
	struct swapstore_config c = fixture_config(1024, 2);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	char buf[PAGE];
	uint64_t n = fill_up(store, obj);

	ck_assert_uint_gt(n, 1024);
	for (unsigned i = 0; i < 48; i++) /* these come back to RAM, clean */
		fixture_expect(store, obj, i * 7, 1, i * 7);
	for (unsigned i = 0; i < 48; i++) {
		fixture_pattern(buf, PAGE, 5000 + i);
		ck_assert_int_eq(object_write(store, obj, buf, PAGE, (i * 7 + 1) * PAGE, 0), (ssize_t)PAGE);
	}
	for (unsigned i = 0; i < 48; i++)
		fixture_expect(store, obj, i * 7 + 1, 1, 5000 + i);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

/* Once gave ENOSPC: the slots just freed were being trimmed, and seemed not to be there. */
START_TEST(slots_that_are_being_trimmed_are_waited_for)
{
	struct swapstore_config c = fixture_config(256, 4);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	char buf[PAGE];

	ck_assert_uint_gt(fill_up(store, obj), 500);
	atomic_store(&punch_usec, 700000);
	ck_assert_int_eq(object_erase(store, obj, 0, 500 * PAGE), 0);
	usleep(400000); /* the trimmer is at work now */
	for (unsigned i = 0; i < 400; i++) {
		fixture_pattern(buf, PAGE, i);
		ck_assert_int_eq(object_write(store, obj, buf, PAGE, i * PAGE, 0), (ssize_t)PAGE);
	}
	atomic_store(&punch_usec, 0);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

START_TEST(altered_bytes_on_disk_are_never_returned)
{
	char path[256];
	struct swapstore_config c = fixture_config(32, 4);
	struct swapstore *store;
	struct ss_object *obj;
	char buf[PAGE];
	int fd;

	snprintf(path, sizeof(path), "%s/spillfs-test-XXXXXX", fixture_dir());
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 4 << 20), 0);
	c.swap_path = path;
	store = fixture_open(&c);
	obj = fixture_object(store);
	fixture_put(store, obj, 0, 4, 5);
	fixture_wait_until((swapstore_evict(store, 4), fixture_stats(store).frames_used == 0));
	for (unsigned slot = 0; slot < 1024; slot++) { /* one bit of the second page on disk */
		ck_assert_int_eq(pread(fd, buf, PAGE, slot * PAGE), PAGE);
		char want[4 * PAGE];

		fixture_pattern(want, sizeof(want), 5);
		if (memcmp(buf, want + PAGE, PAGE) == 0) {
			buf[77] ^= 4;
			ck_assert_int_eq(pwrite(fd, buf, PAGE, slot * PAGE), PAGE);
		}
	}
	fsync(fd);
	ck_assert_int_eq(object_pread(store, obj, buf, PAGE, 1 * PAGE), -EIO);
	ck_assert_int_eq(object_pread(store, obj, buf, PAGE, 2 * PAGE), 0);
	ck_assert_uint_ge(fixture_stats(store).checksum_errors, 1);
	object_destroy(store, obj);
	fixture_close(store);
	close(fd);
	unlink(path);
}
END_TEST

/* --- memory and disk go back ------------------------------------------------------------------------------------------ */

START_TEST(disk_space_and_memory_go_back_after_erasing)
{
	char path[256];
	struct swapstore_config c = fixture_config(8192, 64);
	struct swapstore *store;
	struct ss_object *obj;
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/spillfs-test-XXXXXX", fixture_dir());
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 64 << 20), 0);
	c.swap_path = path;
	store = fixture_open(&c);
	obj = fixture_object(store);
	for (unsigned i = 0; i < 60; i++)
		fixture_put(store, obj, i * 256, 256, i);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_ge(st.st_blocks, (15360 - 8192) * 8);
	ck_assert_uint_ge(fixture_stats(store).ram_used_bytes, 24 << 20);
	object_destroy(store, obj);
	fixture_wait_until(fstat(fd, &st) == 0 && st.st_blocks < 1024);
	fixture_wait_until(fixture_stats(store).ram_used_bytes < 16 << 20);
	fixture_close(store);
	close(fd);
	unlink(path);
}
END_TEST

/* Once a page that came and went every now and then kept the arena's thread from ever seeing a surplus. */
START_TEST(memory_goes_back_under_light_traffic_too)
{
	struct swapstore_config c = fixture_config(16384, 64);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store), *other = fixture_object(store);

	for (unsigned i = 0; i < 48; i++)
		fixture_put(store, obj, i * 256, 256, i);
	object_destroy(store, obj);
	for (unsigned i = 0; i < 600 && fixture_stats(store).ram_used_bytes >= 24 << 20; i++) {
		fixture_put(store, other, 0, 1, i);
		ck_assert_int_eq(object_erase(store, other, 0, PAGE), 0);
		usleep(100000);
	}
	ck_assert_uint_lt(fixture_stats(store).ram_used_bytes, 24 << 20);
	object_destroy(store, other);
	fixture_close(store);
}
END_TEST

START_TEST(small_and_large_bookkeeping_shares_the_cap_with_data)
{
	struct swapstore_config c = fixture_config(512, 16);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj = fixture_object(store);
	void *small[5000], *large;
	unsigned n = 0;

	fixture_put(store, obj, 0, 1024, 3); /* data fills all frames */
	while (n < 5000 && (small[n] = ss_alloc(store, 400)) != NULL)
		n++;
	ck_assert_uint_ge(n, 4096); /* 455 frames' worth: pages made room */
	ck_assert_uint_lt(n, 5000); /* but not all of it */
	ck_assert_ptr_eq(ss_alloc(store, 64 << 10), NULL);
	ck_assert_uint_le(fixture_stats(store).ram_used_bytes, fixture_stats(store).ram_limit_bytes);
	while (n > 0)
		ss_free(store, small[--n], 400);
	large = ss_alloc(store, 64 << 10);
	ck_assert_ptr_ne(large, NULL);
	for (size_t i = 0; i < 64 << 10; i++)
		ck_assert_int_eq(((char *)large)[i], 0);
	memset(large, 1, 64 << 10);
	ss_free(store, large, 64 << 10);
	fixture_expect(store, obj, 0, 1024, 3);
	object_destroy(store, obj);
	fixture_close(store);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store");
	TCase *data = tcase_create("data"), *limits = tcase_create("limits"), *disk = tcase_create("trouble");

	tcase_set_timeout(data, 300);
	tcase_add_loop_test(data, data_far_beyond_ram_comes_back_unchanged, 0, 4);
	tcase_add_test(data, reading_a_hole_allocates_nothing);
	tcase_add_test(data, zero_pages_are_never_written_but_stay_data);
	tcase_add_test(data, a_whole_page_write_never_reads_the_old_page);
	tcase_add_test(data, a_partial_write_keeps_the_rest_of_a_swapped_page);
	tcase_add_test(data, a_page_read_twice_stays_clean_and_is_evicted_without_a_write);
	tcase_add_test(data, with_read_through_a_page_takes_a_frame_at_its_second_miss);
	tcase_add_test(data, victims_lie_side_by_side_and_come_back_in_one_read);
	tcase_add_test(data, going_through_a_file_reads_ahead_and_jumping_about_does_not);
	tcase_add_test(data, copying_keeps_holes_and_content);
	suite_add_tcase(suite, data);
	tcase_add_test(limits, size_is_a_limit_and_erasing_makes_room_at_once);
	tcase_add_test(limits, without_swap_a_full_store_says_so_and_keeps_what_it_has);
	tcase_add_test(limits, writers_that_may_use_the_reserve_cannot_starve_eviction);
	tcase_add_test(limits, allocated_space_is_all_or_nothing_and_a_hole_until_written);
	tcase_add_test(limits, disk_space_and_memory_go_back_after_erasing);
	tcase_add_test(limits, memory_goes_back_under_light_traffic_too);
	tcase_add_test(limits, small_and_large_bookkeeping_shares_the_cap_with_data);
	suite_add_tcase(suite, limits);
	tcase_add_test(disk, a_failed_write_leaves_the_page_in_ram_and_its_slot_out_of_use_until_it_passes_a_trial);
	tcase_add_test(disk, a_disk_that_fails_every_write_costs_no_slots_and_is_reported_twice);
	tcase_add_test(disk, a_full_store_can_still_be_overwritten_in_bulk);
	tcase_add_test(disk, a_full_disk_gives_enospc_keeps_the_data_and_recovers);
	tcase_add_test(disk, a_failed_read_is_eio_for_that_page_alone);
	tcase_add_loop_test(disk, a_broken_slot_does_not_spoil_its_neighbours, 0, 2);
	tcase_add_test(disk, with_swap_full_clean_pages_still_make_room);
	tcase_add_test(disk, slots_that_are_being_trimmed_are_waited_for);
	tcase_add_test(disk, altered_bytes_on_disk_are_never_returned);
	suite_add_tcase(suite, disk);
	return fixture_main(suite);
}
