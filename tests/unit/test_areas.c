/* SPDX-License-Identifier: MIT */
/*
 * test_areas: swap areas that come and go while the store works: where pages go, what swapoff moves and what it
 * refuses, disks that fail, memory that is not to be had; and random operations against flat arrays meanwhile.
 * calloc() is the linker's wrapped one, so that the Nth can fail.
 */
#include "tests/unit/store_fixture.h"

#include <pthread.h>

#define MIB	    (UINT64_C(1) << 20)
#define MIB_PAGES   256U
#define AREA_FRAMES 96U

/* --- memory that fails ------------------------------------------------------------------------------------------- */

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

static atomic_int calloc_countdown = -1; /* at 0 it fails, once */

void *__wrap_calloc(size_t n, size_t size)
{
	if (atomic_load(&calloc_countdown) >= 0 && atomic_fetch_sub(&calloc_countdown, 1) == 0) {
		errno = ENOMEM;
		return NULL;
	}
	return __real_calloc(n, size);
}

/* --- what the tests are made of ------------------------------------------------------------------------------------ */

struct bad_disk {
	atomic_uint file;  /* errors strike this file number */
	atomic_uint every; /* each so many-th request; 0: none */
	atomic_uint count;
	enum ring_op op;
	int error;
};

static int bad_disk_before(void *ctx, const struct ring_req *req)
{
	struct bad_disk *d = ctx;
	unsigned every = atomic_load(&d->every);

	if (req->op != d->op || req->file != atomic_load(&d->file) || !every)
		return 0;
	return (atomic_fetch_add(&d->count, 1) + 1) % every ? 0 : d->error;
}

static struct swapstore *open_store(unsigned frames, uint64_t swap_mib)
{
	struct swapstore_config c = fixture_config(frames, swap_mib);

	return fixture_open(&c);
}

/* Pages that are different from each other, first .. first + n of the object. */
static void put(struct swapstore *store, struct ss_object *obj, uint64_t first, uint64_t n)
{
	char buf[PAGE];

	for (uint64_t i = first; i < first + n; i++) {
		fixture_pattern(buf, PAGE, i);
		ck_assert_int_eq(object_write(store, obj, buf, PAGE, i * PAGE, 0), (ssize_t)PAGE);
	}
}

static void expect(struct swapstore *store, struct ss_object *obj, uint64_t first, uint64_t n)
{
	char buf[PAGE], want[PAGE];

	for (uint64_t i = first; i < first + n; i++) {
		fixture_pattern(want, PAGE, i);
		ck_assert_int_eq(object_pread(store, obj, buf, PAGE, i * PAGE), 0);
		ck_assert_mem_eq(buf, want, PAGE);
	}
	object_check(obj);
}

static void swapon(struct swapstore *store, uint64_t mib, int priority)
{
	char why[512] = "";
	int err = swapstore_swapon(store, fixture_dir(), mib * MIB, priority, why, sizeof(why));

	ck_assert_msg(err == 0, "swapon: %s (%s)", why, strerror(-err));
}

/* All steps of a swapoff. */
static int swapoff(struct swapstore *store, unsigned number)
{
	char why[512] = "";
	int err = swapstore_swapoff_begin(store, number);

	while (!err || err == -EAGAIN) {
		err = swapstore_swapoff_step(store, number, 20, why, sizeof(why));
		if (!err)
			return 0;
	}
	ck_assert(why[0] != '\0' || err == -ENOENT || err == -EBUSY);
	return err;
}

static struct ss_area area(struct swapstore *store, unsigned number)
{
	struct ss_area a;

	ck_assert_int_eq(swapstore_area_next(store, number, &a), 0);
	ck_assert_uint_eq(a.number, number);
	return a;
}

static void evict_all(struct swapstore *store)
{
	while (swapstore_evict(store, 64) > 0)
		;
}

static void finish(struct swapstore *store, struct ss_object *obj)
{
	object_check(obj);
	object_destroy(store, obj);
	fixture_close(store);
}

/* --- where pages go --------------------------------------------------------------------------------------------------- */

START_TEST(the_highest_priority_is_filled_first)
{
	struct swapstore *store = open_store(AREA_FRAMES, 4);
	struct ss_object *obj = fixture_object(store);

	ck_assert_int_eq(area(store, 0).priority, -2);
	swapon(store, 2, 5);
	swapon(store, 2, 10);
	put(store, obj, 0, MIB_PAGES);
	evict_all(store);
	ck_assert_uint_gt(area(store, 2).used_pages, MIB_PAGES / 2);
	ck_assert_uint_eq(area(store, 1).used_pages + area(store, 0).used_pages, 0);
	put(store, obj, MIB_PAGES, 3 * MIB_PAGES);
	evict_all(store);
	ck_assert_uint_eq(area(store, 2).used_pages, 2 * MIB_PAGES);
	ck_assert_uint_gt(area(store, 1).used_pages, MIB_PAGES);
	ck_assert_uint_eq(area(store, 0).used_pages, 0);
	expect(store, obj, 0, 4 * MIB_PAGES);
	finish(store, obj);
}
END_TEST

START_TEST(equal_priorities_take_turns_and_later_areas_come_last_unasked)
{
	struct swapstore *store = open_store(AREA_FRAMES, 0);
	struct ss_object *obj = fixture_object(store);

	swapon(store, 8, 3);
	swapon(store, 8, 3);
	swapon(store, 8, SS_PRIORITY_AUTO);
	swapon(store, 8, SS_PRIORITY_AUTO);
	ck_assert_int_eq(area(store, 2).priority, -2);
	ck_assert_int_eq(area(store, 3).priority, -3);
	put(store, obj, 0, 6 * MIB_PAGES);
	evict_all(store);
	/* By run, and a run is a batch of victims or less. */
	ck_assert_uint_gt(area(store, 0).used_pages, 2 * MIB_PAGES);
	ck_assert_uint_gt(area(store, 1).used_pages, 2 * MIB_PAGES);
	ck_assert_uint_eq(area(store, 2).used_pages + area(store, 3).used_pages, 0);
	expect(store, obj, 0, 6 * MIB_PAGES);
	finish(store, obj);
}
END_TEST

START_TEST(more_swap_is_more_room_at_once)
{
	struct swapstore *store = open_store(AREA_FRAMES, 1);
	uint64_t left = swapstore_pages_left(store), size = fixture_stats(store).size_limit_pages;

	swapon(store, 4, 0);
	ck_assert_uint_ge(swapstore_pages_left(store), left + 3 * MIB_PAGES);
	ck_assert_uint_ge(fixture_stats(store).size_limit_pages, size + 3 * MIB_PAGES);
	ck_assert_uint_eq(fixture_stats(store).swap_limit_pages, 5 * MIB_PAGES);
	ck_assert_int_eq(swapoff(store, 1), 0);
	/* But for the frames that are set aside for the bitmaps of several areas. */
	ck_assert_uint_ge(fixture_stats(store).size_limit_pages + 8, size);
	ck_assert_uint_le(fixture_stats(store).size_limit_pages, size);
	fixture_close(store);
}
END_TEST

/* --- swapoff ------------------------------------------------------------------------------------------------------------ */

START_TEST(swapoff_moves_everything_to_the_other_areas)
{
	struct swapstore *store = open_store(AREA_FRAMES, 8);
	struct ss_object *obj = fixture_object(store), *other = fixture_object(store);

	put(store, obj, 0, 4 * MIB_PAGES);
	put(store, other, 1000, MIB_PAGES);
	evict_all(store);
	expect(store, obj, 10, 20); /* some frames are CLEAN: they have a slot there as well */
	swapon(store, 8, 7);
	ck_assert_uint_gt(area(store, 0).used_pages, 4 * MIB_PAGES);
	ck_assert_int_eq(swapoff(store, 0), 0);
	ck_assert_uint_gt(area(store, 1).used_pages, 4 * MIB_PAGES);
	expect(store, obj, 0, 4 * MIB_PAGES);
	expect(store, other, 1000, MIB_PAGES);
	object_destroy(store, other);
	finish(store, obj);
}
END_TEST

START_TEST(without_its_only_area_a_store_is_one_without_swap)
{
	struct swapstore *store = open_store(AREA_FRAMES, 4);
	struct ss_object *obj = fixture_object(store);
	uint64_t out;
	char page[PAGE];

	put(store, obj, 0, 40);
	evict_all(store);
	ck_assert_uint_gt(fixture_stats(store).swapout_pages, 0);
	ck_assert_int_eq(swapoff(store, 0), 0);
	ck_assert(!fixture_stats(store).has_swap);
	ck_assert_uint_eq(fixture_stats(store).swap_limit_pages, 0);
	ck_assert_uint_le(fixture_stats(store).size_limit_pages, AREA_FRAMES);
	expect(store, obj, 0, 40);
	out = fixture_stats(store).swapout_pages;
	fixture_pattern(page, PAGE, 99);
	for (uint64_t i = 40; object_write(store, obj, page, PAGE, i * PAGE, 0) > 0; i++)
		ck_assert_uint_lt(i, AREA_FRAMES);
	ck_assert_uint_eq(fixture_stats(store).swapout_pages, out);
	/* And it may have swap again. */
	swapon(store, 4, SS_PRIORITY_AUTO);
	put(store, obj, 40, 2 * MIB_PAGES);
	expect(store, obj, 0, 40 + 2 * MIB_PAGES);
	finish(store, obj);
}
END_TEST

START_TEST(swapoff_of_what_does_not_fit_elsewhere_is_refused_and_loses_nothing)
{
	struct swapstore *store = open_store(AREA_FRAMES, 4);
	struct ss_object *obj = fixture_object(store);
	uint64_t used;

	swapon(store, 1, 0);
	put(store, obj, 0, 3 * MIB_PAGES);
	evict_all(store);
	used = area(store, 0).used_pages;
	ck_assert_int_eq(swapoff(store, 0), -ENOSPC);
	ck_assert(!area(store, 0).is_leaving);
	ck_assert_uint_eq(area(store, 0).used_pages, used);
	put(store, obj, 3 * MIB_PAGES, MIB_PAGES); /* its room counts again */
	expect(store, obj, 0, 4 * MIB_PAGES);
	ck_assert_int_eq(swapoff(store, 7), -ENOENT);
	finish(store, obj);
}
END_TEST

START_TEST(a_swapoff_that_is_stopped_leaves_the_area_in_use)
{
	struct swapstore *store = open_store(AREA_FRAMES, 8);
	struct ss_object *obj = fixture_object(store);
	char why[512];

	put(store, obj, 0, 6 * MIB_PAGES);
	evict_all(store);
	swapon(store, 8, 0);
	ck_assert_int_eq(swapstore_swapoff_begin(store, 0), 0);
	ck_assert_int_eq(swapstore_swapoff_begin(store, 1), -EBUSY);
	ck_assert_int_eq(swapstore_swapoff_step(store, 0, 0, why, sizeof(why)), -EAGAIN);
	ck_assert(area(store, 0).is_leaving);
	if (_i == 0)
		swapstore_swapoff_cancel(store, 0);
	else /* nobody goes on with it */
		fixture_wait_until(!area(store, 0).is_leaving);
	ck_assert(!area(store, 0).is_leaving);
	ck_assert_int_eq(swapstore_swapoff_step(store, 0, 0, why, sizeof(why)), -ECANCELED);
	ck_assert_uint_gt(area(store, 0).used_pages, MIB_PAGES);
	expect(store, obj, 0, 6 * MIB_PAGES);
	ck_assert_int_eq(swapoff(store, 0), 0);
	expect(store, obj, 0, 6 * MIB_PAGES);
	finish(store, obj);
}
END_TEST

START_TEST(a_store_without_swap_gets_some_when_it_is_full)
{
	struct swapstore *store = open_store(2048, 0);
	struct ss_object *obj = fixture_object(store);
	char page[PAGE];
	uint64_t n = 0;

	fixture_pattern(page, PAGE, 0);
	for (; object_write(store, obj, page, PAGE, n * PAGE, 0) == (ssize_t)PAGE; n++)
		fixture_pattern(page, PAGE, n + 1);
	ck_assert_uint_gt(n, 1500);
	swapon(store, 16, 0);
	put(store, obj, n, 8 * MIB_PAGES);
	ck_assert_uint_gt(fixture_stats(store).swapout_pages, 7 * MIB_PAGES);
	ck_assert_uint_le(fixture_stats(store).ram_used_bytes, fixture_stats(store).ram_limit_bytes);
	expect(store, obj, 0, n + 8 * MIB_PAGES);
	finish(store, obj);
}
END_TEST

/* --- trouble ---------------------------------------------------------------------------------------------------------- */

START_TEST(pages_go_to_a_healthy_area_while_another_is_sick)
{
	struct bad_disk bad = {.file = 1, .every = 1, .op = RING_WRITE, .error = -EIO};
	struct swapstore *store = open_store(AREA_FRAMES, 4);
	struct ss_object *obj = fixture_object(store);

	swapstore_set_io_hook(store, &(struct ring_hook){bad_disk_before, &bad});
	swapon(store, 4, 9);
	put(store, obj, 0, 2 * MIB_PAGES);
	evict_all(store);
	ck_assert(area(store, 1).is_sick);
	ck_assert(!area(store, 0).is_sick);
	ck_assert(!fixture_stats(store).swap_sick);
	ck_assert_uint_gt(area(store, 0).used_pages, MIB_PAGES);
	/* The sick one's room is no room. */
	ck_assert_uint_le(swapstore_pages_left(store), 2 * MIB_PAGES + AREA_FRAMES);
	expect(store, obj, 0, 2 * MIB_PAGES);
	ck_assert_int_eq(swapoff(store, 1), 0);
	expect(store, obj, 0, 2 * MIB_PAGES);
	finish(store, obj);
}
END_TEST

START_TEST(a_sick_area_gets_well_by_itself_and_is_used_again)
{
	struct bad_disk bad = {.file = 1, .every = 1, .op = RING_WRITE, .error = -ENOSPC};
	struct swapstore *store = open_store(AREA_FRAMES, 4);
	struct ss_object *obj = fixture_object(store);

	swapstore_set_io_hook(store, &(struct ring_hook){bad_disk_before, &bad});
	swapon(store, 4, 9);
	put(store, obj, 0, MIB_PAGES);
	ck_assert(area(store, 1).is_sick);
	atomic_store(&bad.every, 0);
	fixture_wait_until(!area(store, 1).is_sick && area(store, 1).bad_pages == 0);
	put(store, obj, MIB_PAGES, MIB_PAGES);
	ck_assert_uint_gt(area(store, 1).used_pages, 0);
	expect(store, obj, 0, 2 * MIB_PAGES);
	finish(store, obj);
}
END_TEST

/* To zero a part of it a page has to come back into RAM, and nothing may leave that. */
START_TEST(part_of_a_page_for_which_there_is_no_room_stays_whole)
{
	struct bad_disk bad = {.file = 0, .every = 0, .op = RING_WRITE, .error = -EIO};
	struct swapstore *store = open_store(AREA_FRAMES, 4);
	struct ss_object *obj = fixture_object(store), *other = fixture_object(store);
	uint64_t done = 0;
	char page[PAGE];

	swapstore_set_io_hook(store, &(struct ring_hook){bad_disk_before, &bad});
	put(store, obj, 0, MIB_PAGES);
	evict_all(store);
	atomic_store(&bad.every, 1);
	fixture_pattern(page, PAGE, 1);
	for (uint64_t i = 0; object_write(store, other, page, PAGE, i * PAGE, 0) == (ssize_t)PAGE; i++)
		ck_assert_uint_lt(i, AREA_FRAMES);
	while (done < MIB_PAGES && object_erase(store, obj, done * PAGE + 1, done * PAGE + 2) == 0)
		done++;
	ck_assert_uint_lt(done, AREA_FRAMES);
	ck_assert_int_eq(object_erase(store, obj, done * PAGE + 1, (done + 2) * PAGE), -ENOSPC);
	expect(store, obj, done, 1);
	ck_assert_int_eq(object_pread(store, obj, page, PAGE, (done + 1) * PAGE), 0);
	ck_assert(page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0);
	expect(store, obj, done + 2, MIB_PAGES - done - 2);
	atomic_store(&bad.every, 0);
	fixture_wait_until(object_erase(store, obj, done * PAGE + 1, done * PAGE + 2) == 0);
	object_destroy(store, other);
	finish(store, obj);
}
END_TEST

START_TEST(swapoff_of_an_area_that_cannot_be_read_moves_what_it_can_and_keeps_the_area)
{
	struct bad_disk bad = {.file = 0, .every = 0, .op = RING_READ, .error = -EIO};
	struct swapstore *store = open_store(AREA_FRAMES, 4);
	struct ss_object *obj = fixture_object(store);
	uint64_t used;

	swapstore_set_io_hook(store, &(struct ring_hook){bad_disk_before, &bad});
	put(store, obj, 0, 2 * MIB_PAGES);
	evict_all(store);
	swapon(store, 4, 0);
	used = area(store, 0).used_pages;
	atomic_store(&bad.every, 2);
	ck_assert_int_eq(swapoff(store, 0), -EIO);
	ck_assert(!area(store, 0).is_leaving);
	ck_assert_uint_gt(area(store, 0).used_pages, 0);
	ck_assert_uint_lt(area(store, 0).used_pages, used);
	atomic_store(&bad.every, 0);
	ck_assert_int_eq(swapoff(store, 0), 0);
	expect(store, obj, 0, 2 * MIB_PAGES);
	finish(store, obj);
}
END_TEST

/* --- what swapon refuses -------------------------------------------------------------------------------------------------- */

START_TEST(swapon_names_what_it_cannot_use)
{
	struct swapstore *store = open_store(AREA_FRAMES, 1);
	char why[512] = "";

	ck_assert_int_eq(swapstore_swapon(store, "/nowhere/at/all", 0, 0, why, sizeof(why)), -ENOENT);
	ck_assert_ptr_nonnull(strstr(why, "/nowhere/at/all: no such file"));
	ck_assert_int_eq(swapstore_swapon(store, fixture_dir(), 4096, 0, why, sizeof(why)), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(why, "too small"));
	for (unsigned i = 1; i < SS_AREAS_MAX; i++)
		swapon(store, 1, (int)i);
	ck_assert_int_eq(swapstore_swapon(store, fixture_dir(), MIB, 0, why, sizeof(why)), -ENFILE);
	for (unsigned i = 0; i < SS_AREAS_MAX; i += 2)
		ck_assert_int_eq(swapoff(store, i), 0);
	swapon(store, 1, 0);
	ck_assert_int_eq(area(store, 0).priority, 0);
	swapstore_check(store);
	fixture_close(store);
}
END_TEST

START_TEST(a_swapon_that_runs_out_of_memory_changes_nothing)
{
	struct swapstore *store = open_store(AREA_FRAMES, _i ? 1 : 0);
	struct ss_object *obj = fixture_object(store);
	unsigned failures = 0;
	uint64_t bookkeeping;
	char why[512];
	int err;

	put(store, obj, 0, 20);
	bookkeeping = fixture_stats(store).bookkeeping_bytes;
	for (int n = 0;; n++) {
		atomic_store(&calloc_countdown, n);
		err = swapstore_swapon(store, fixture_dir(), 4 * MIB, 0, why, sizeof(why));
		if (atomic_exchange(&calloc_countdown, -1) >= 0)
			break;
		failures++;
		if (err == 0) { /* fewer buffers will do, and they stay */
			ck_assert_int_eq(swapoff(store, (unsigned)_i), 0);
			bookkeeping = fixture_stats(store).bookkeeping_bytes;
		}
		ck_assert_uint_eq(fixture_stats(store).bookkeeping_bytes, bookkeeping);
		ck_assert_uint_eq(fixture_stats(store).swap_limit_pages, (unsigned)_i * MIB_PAGES);
		swapstore_check(store);
	}
	ck_assert_int_eq(err, 0);
	ck_assert_uint_ge(failures, 3);
	put(store, obj, 20, 2 * MIB_PAGES);
	expect(store, obj, 0, 20 + 2 * MIB_PAGES);
	finish(store, obj);
}
END_TEST

START_TEST(swap_for_which_ram_has_no_buffers_is_refused)
{
	struct swapstore_config c = fixture_config(20, 0);
	struct swapstore *store;
	char why[512];

	c.io_bytes = SS_IO_MAX; /* one buffer is more than all RAM there is */
	store = fixture_open(&c);
	ck_assert_int_eq(swapstore_swapon(store, fixture_dir(), 64 * MIB, 0, why, sizeof(why)), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(why, "buffers"));
	ck_assert(!fixture_stats(store).has_swap);
	fixture_close(store);
}
END_TEST

/* --- against flat arrays ---------------------------------------------------------------------------------------------------- */

#define MODEL_THREADS 3
#define MODEL_PAGES   200U
#define MODEL_BYTES   (MODEL_PAGES * PAGE)

/* check's own assertions jump out of the failed test, which no thread but the first may do. */
#define MUST(cond)                                                                              \
	do {                                                                                    \
		if (!(cond)) {                                                                  \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);    \
			abort();                                                                \
		}                                                                               \
	} while (0)

struct model {
	struct swapstore *store;
	struct ss_object *obj;
	unsigned char *want, *buf;
	uint64_t rng;
	unsigned steps;
};

static uint64_t below(uint64_t *rng, uint64_t n)
{
	return (fixture_random(rng) >> 11) % n;
}

static void model_read(struct model *m, size_t from, size_t length)
{
	MUST(object_pread(m->store, m->obj, m->buf, length, from) == 0);
	MUST(memcmp(m->buf, m->want + from, length) == 0);
}

/* -ENOSPC, as the areas of the moment are full, or out of order, or none?  They have a moment to get well then. */
static bool model_is_no_room(ssize_t err)
{
	if (err == -ENOSPC)
		usleep(5000);
	return err == -ENOSPC;
}

/* Part of it may be all there is room for. */
static void model_write(struct model *m, size_t from, size_t length)
{
	ssize_t got;

	fixture_pattern(m->buf, length, fixture_random(&m->rng));
	got = object_write(m->store, m->obj, m->buf, length, from, 0);
	MUST(got > 0 || model_is_no_room(got));
	if (got > 0)
		memcpy(m->want + from, m->buf, (size_t)got);
}

/* Of a page of which the store would not zero that part: it did, or it did not. */
static void model_edge(struct model *m, size_t from, size_t to)
{
	MUST(object_pread(m->store, m->obj, m->buf, to - from, from) == 0);
	if (memcmp(m->buf, m->want + from, to - from) != 0)
		memset(m->want + from, 0, to - from);
}

/* What is left of a page in swap may have no room in RAM. */
static void model_erase(struct model *m, size_t from, size_t end)
{
	const size_t head_end = (from / PAGE + 1) * PAGE < end ? (from / PAGE + 1) * PAGE : end;
	const size_t tail = end / PAGE * PAGE > head_end ? end / PAGE * PAGE : head_end;
	int err = object_erase(m->store, m->obj, from, end);

	MUST(err == 0 || model_is_no_room(err));
	if (err != 0) {
		model_edge(m, from, head_end);
		model_edge(m, tail, end);
		from = head_end;
		end = tail;
	}
	memset(m->want + from, 0, end - from);
	if (err != 0)
		model_read(m, from, end - from);
}

static void *model_work(void *arg)
{
	struct model *m = arg;

	for (unsigned i = 0; i < m->steps; i++) {
		size_t from = below(&m->rng, MODEL_BYTES - 1), length = 1 + below(&m->rng, 6 * PAGE);

		if (length > MODEL_BYTES - from)
			length = MODEL_BYTES - from;
		switch (below(&m->rng, 8)) {
		case 0: case 1: case 2: case 3:
			model_read(m, from, length);
			break;
		case 4:
			model_erase(m, from, from + length);
			break;
		default:
			model_write(m, from, length);
		}
		if (i % 64 == 0)
			object_check(m->obj);
	}
	return NULL;
}

/* Areas come and go, and now and then a swapoff is stopped, until the others are done.  Returns how many went. */
static unsigned model_change_areas(struct swapstore *store, struct bad_disk *bad, uint64_t *rng, atomic_uint *running)
{
	unsigned gone = 0;
	char why[512];

	while (atomic_load(running) > 0) {
		unsigned number = (unsigned)below(rng, 6);
		struct ss_area a;

		atomic_store(&bad->file, (unsigned)below(rng, 6));
		if (below(rng, 2)) {
			unsigned count = 0;

			for (unsigned i = 0; swapstore_area_next(store, i, &a) == 0; i = a.number + 1)
				count++;
			if (count < 5 &&
			    swapstore_swapon(store, fixture_dir(), (4 + below(rng, 4)) * MIB, (int)below(rng, 3), why,
					     sizeof(why)) != 0) {
				fprintf(stderr, "%s\n", why);
				abort();
			}
		} else if (swapstore_swapoff_begin(store, number) == 0) {
			int err = -EAGAIN;

			while (err == -EAGAIN && below(rng, 40))
				err = swapstore_swapoff_step(store, number, 2, why, sizeof(why));
			if (err == -EAGAIN)
				swapstore_swapoff_cancel(store, number);
			MUST(err == 0 || err == -EAGAIN || err == -ENOSPC);
			gone += err == 0;
		}
		usleep((useconds_t)below(rng, 2000));
	}
	return gone;
}

struct model_thread {
	struct model model;
	atomic_uint *running;
	pthread_t id;
};

static void *model_thread(void *arg)
{
	struct model_thread *t = arg;

	model_work(&t->model);
	atomic_fetch_sub(t->running, 1);
	return NULL;
}

START_TEST(threads_agree_with_flat_arrays_while_areas_come_and_go_and_fail)
{
	struct bad_disk bad = {.every = 7, .op = RING_WRITE, .error = _i & 4 ? -ENOSPC : -EIO};
	struct swapstore_config c = fixture_config(AREA_FRAMES, _i & 1 ? 8 : 0);
	struct model_thread t[MODEL_THREADS];
	uint64_t seed = fixture_seed(), rng = seed;
	atomic_uint running = MODEL_THREADS;
	struct swapstore *store;
	const char *steps = getenv("SPILLFS_TEST_STEPS");
	unsigned gone;

	c.engine = _i & 1 ? RING_THREADS : RING_AUTO;
	c.read_through = _i & 2;
	store = fixture_open(&c);
	if (!(_i & 1))
		swapon(store, 8, 1);
	swapstore_set_io_hook(store, &(struct ring_hook){bad_disk_before, &bad});
	for (unsigned i = 0; i < MODEL_THREADS; i++) {
		t[i].running = &running;
		t[i].model = (struct model){.store = store,
					    .obj = fixture_object(store),
					    .want = calloc(1, MODEL_BYTES),
					    .buf = malloc(MODEL_BYTES),
					    .rng = seed + i * 7919 + 1,
					    .steps = steps ? (unsigned)strtoul(steps, NULL, 0) : 3000};
		ck_assert_int_eq(pthread_create(&t[i].id, NULL, model_thread, &t[i]), 0);
	}
	gone = model_change_areas(store, &bad, &rng, &running);
	for (unsigned i = 0; i < MODEL_THREADS; i++) {
		pthread_join(t[i].id, NULL);
		model_read(&t[i].model, 0, MODEL_BYTES);
		object_check(t[i].model.obj);
		object_destroy(store, t[i].model.obj);
		free(t[i].model.want);
		free(t[i].model.buf);
	}
	printf("%u areas went; out %llu, in %llu, failed writes %llu\n", gone,
	       (unsigned long long)fixture_stats(store).swapout_pages,
	       (unsigned long long)fixture_stats(store).swapin_pages,
	       (unsigned long long)fixture_stats(store).swapout_errors);
	ck_assert_uint_gt(gone, 0);
	ck_assert_uint_gt(fixture_stats(store).swapout_pages, 1000);
	ck_assert_uint_gt(fixture_stats(store).swapin_pages, 1000);
	ck_assert_uint_gt(fixture_stats(store).swapout_errors, 0);
	fixture_close(store);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("areas");
	TCase *tcase = tcase_create("areas");

	tcase_set_timeout(tcase, 600);
	tcase_add_test(tcase, the_highest_priority_is_filled_first);
	tcase_add_test(tcase, equal_priorities_take_turns_and_later_areas_come_last_unasked);
	tcase_add_test(tcase, more_swap_is_more_room_at_once);
	tcase_add_test(tcase, swapoff_moves_everything_to_the_other_areas);
	tcase_add_test(tcase, without_its_only_area_a_store_is_one_without_swap);
	tcase_add_test(tcase, swapoff_of_what_does_not_fit_elsewhere_is_refused_and_loses_nothing);
	tcase_add_loop_test(tcase, a_swapoff_that_is_stopped_leaves_the_area_in_use, 0, 2);
	tcase_add_test(tcase, a_store_without_swap_gets_some_when_it_is_full);
	tcase_add_test(tcase, pages_go_to_a_healthy_area_while_another_is_sick);
	tcase_add_test(tcase, a_sick_area_gets_well_by_itself_and_is_used_again);
	tcase_add_test(tcase, part_of_a_page_for_which_there_is_no_room_stays_whole);
	tcase_add_test(tcase, swapoff_of_an_area_that_cannot_be_read_moves_what_it_can_and_keeps_the_area);
	tcase_add_test(tcase, swapon_names_what_it_cannot_use);
	tcase_add_loop_test(tcase, a_swapon_that_runs_out_of_memory_changes_nothing, 0, 2);
	tcase_add_test(tcase, swap_for_which_ram_has_no_buffers_is_refused);
	tcase_add_loop_test(tcase, threads_agree_with_flat_arrays_while_areas_come_and_go_and_fail, 0, 8);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
