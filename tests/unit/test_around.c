/* SPDX-License-Identifier: MIT */
/*
 * test_around: long runs that a client writes out of its own cache go around the frames while RAM is full, and only
 * then; they come back as they were written, whatever happens to their pages, or to the disk, meanwhile.
 */
#include "swapstore/store.h"
#include "tests/unit/store_fixture.h"

#include <sys/mman.h>

#define FRAMES	 600
#define SWAP_MIB 64
#define RUN	 64U /* pages */
#define FAR	 UINT64_C(1000000)

static struct swapstore *open_store(bool client_caches)
{
	struct swapstore_config c = fixture_config(FRAMES, SWAP_MIB);

	c.read_through = client_caches;
	return fixture_open(&c);
}

static bool reclaim_rests(struct swapstore *store, uint32_t least)
{
	return atomic_load(&store->reclaim.idle) == store->reclaim.nworkers && frames_left(store->frames) >= least;
}

/*
 * RAM is as full as it gets: reclaim has made as much room as it does, and what it made too much is filled with pages of
 * filler.
 */
static void settle(struct swapstore *store, struct ss_object *filler)
{
	const uint32_t least = store->frames_reserve + STORE_BITMAP_FRAMES + store->reclaim.step / 2;
	const uint32_t most = store->frames_reserve + 2 * store->reclaim.step;
	uint64_t out;

	do {
		fixture_wait_until(reclaim_rests(store, least));
		out = fixture_stats(store).swapout_pages;
		usleep(20000);
		while (frames_left(store->frames) >= most)
			fixture_put(store, filler, FRAMES + object_pages(filler), 1, 5);
	} while (fixture_stats(store).swapout_pages != out || !reclaim_rests(store, least));
}

/* RAM is full, of pages of obj from 0 on. */
static void fill_ram(struct swapstore *store, struct ss_object *obj)
{
	fixture_put(store, obj, 0, FRAMES, 1);
	settle(store, obj);
}

/* An object that is large, most of it set aside far away. */
static struct ss_object *large_object(struct swapstore *store)
{
	struct ss_object *obj = fixture_object(store);

	ck_assert_int_eq(object_allocate(store, obj, FAR * PAGE, (FAR + FRAMES) * PAGE, 0), 0);
	return obj;
}

static char *run_memory(size_t pages)
{
	char *mem = mmap(NULL, (pages + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert(mem != MAP_FAILED);
	return mem;
}

/* What write_back() writes from at this moment: a write of what lies there goes around. */
static _Atomic uintptr_t run_begin, run_end;

/* Writes pages of a pattern as a kernel that writes back; returns how many went around. */
static uint64_t write_back(struct swapstore *store, struct ss_object *obj, uint64_t page, size_t pages, uint64_t seed)
{
	uint64_t before = fixture_stats(store).writearound_pages;
	char *mem = run_memory(pages);

	fixture_pattern(mem, pages * PAGE, seed);
	atomic_store(&run_begin, (uintptr_t)mem);
	atomic_store(&run_end, (uintptr_t)mem + pages * PAGE);
	ck_assert_int_eq(object_write(store, obj, mem, pages * PAGE, page * PAGE, SS_WRITE_ACKED),
			 (ssize_t)(pages * PAGE));
	atomic_store(&run_end, 0);
	munmap(mem, (pages + 1) * PAGE);
	return fixture_stats(store).writearound_pages - before;
}

/* So much goes by that nothing is known any more of what was written before, but for the first run of it. */
static void forget(struct swapstore *store, struct ss_object *obj, struct ss_object *filler)
{
	for (unsigned i = 1; i <= 3 * FRAMES / RUN; i++)
		write_back(store, obj, (uint64_t)i * RUN, RUN, 100 + i);
	settle(store, filler);
}

static void finish(struct swapstore *store, struct ss_object *a, struct ss_object *b)
{
	object_check(a);
	object_check(b);
	object_destroy(store, a);
	object_destroy(store, b);
	fixture_close(store);
}

START_TEST(a_long_run_goes_around_when_ram_is_full_and_evicts_nothing)
{
	struct swapstore *store = open_store(true);
	struct ss_object *warm = fixture_object(store), *obj = large_object(store);
	struct ss_object_stats st;
	uint64_t frames, evicted;

	ck_assert_uint_eq(write_back(store, obj, 0, RUN, 2), 0); /* there is RAM for it */
	fill_ram(store, warm);
	frames = fixture_stats(store).frames_used;
	evicted = fixture_stats(store).swapout_pages;
	for (unsigned i = 1; i <= 20; i++)
		ck_assert_uint_eq(write_back(store, obj, (uint64_t)i * RUN, RUN, 2 + i), RUN);
	ck_assert_uint_eq(fixture_stats(store).swapout_pages - evicted, 20 * RUN);
	ck_assert_uint_eq(fixture_stats(store).frames_used, frames);
	object_get_stats(store, obj, UINT64_MAX, &st);
	ck_assert_uint_ge(st.swapped, 20 * RUN);
	for (unsigned i = 0; i <= 20; i++)
		fixture_expect(store, obj, (uint64_t)i * RUN, RUN, 2 + i);
	fixture_expect(store, warm, 0, FRAMES, 1);
	finish(store, warm, obj);
}
END_TEST

START_TEST(what_is_written_again_soon_takes_frames)
{
	struct swapstore *store = open_store(true);
	struct ss_object *warm = fixture_object(store), *obj = large_object(store);

	fill_ram(store, warm);
	ck_assert_uint_eq(write_back(store, obj, 0, RUN, 2), RUN);
	ck_assert_uint_eq(write_back(store, obj, 0, RUN, 3), 0);
	fixture_expect(store, obj, 0, RUN, 3);
	/* Long afterwards it is a stranger again. */
	forget(store, obj, warm);
	ck_assert_uint_eq(write_back(store, obj, RUN, RUN, 4), RUN);
	fixture_expect(store, obj, RUN, RUN, 4);
	finish(store, warm, obj);
}
END_TEST

START_TEST(a_small_file_takes_frames)
{
	struct swapstore *store = open_store(true);
	struct ss_object *warm = fixture_object(store), *obj = fixture_object(store);

	fill_ram(store, warm);
	ck_assert_uint_eq(write_back(store, obj, 0, RUN, 2), 0);
	fixture_expect(store, obj, 0, RUN, 2);
	finish(store, warm, obj);
}
END_TEST

START_TEST(what_is_short_or_out_of_line_or_nobodys_copy_takes_frames)
{
	struct swapstore *store = open_store(true), *alone;
	struct ss_object *warm = fixture_object(store), *obj = large_object(store), *other;
	char *mem = run_memory(RUN);

	fill_ram(store, warm);
	ck_assert_uint_eq(write_back(store, obj, 0, 8, 2), 0);
	fixture_pattern(mem, (RUN + 1) * PAGE, 3);
	/* Not acknowledged: the client has no copy; not at a page of the memory; not at a page of the object. */
	ck_assert_int_eq(object_write(store, obj, mem, RUN * PAGE, 100 * PAGE, 0), (ssize_t)(RUN * PAGE));
	ck_assert_int_eq(object_write(store, obj, mem + 512, RUN * PAGE, 200 * PAGE, SS_WRITE_ACKED),
			 (ssize_t)(RUN * PAGE));
	ck_assert_uint_eq(fixture_stats(store).writearound_pages, 0);
	ck_assert_int_eq(object_write(store, obj, mem, RUN * PAGE, 300 * PAGE + 1, SS_WRITE_ACKED),
			 (ssize_t)(RUN * PAGE));
	ck_assert_uint_eq(fixture_stats(store).writearound_pages, 0);
	/* The last page is written in part: it alone takes a frame. */
	settle(store, warm);
	ck_assert_int_eq(object_write(store, obj, mem, RUN * PAGE - 1, 400 * PAGE, SS_WRITE_ACKED),
			 (ssize_t)(RUN * PAGE - 1));
	ck_assert_uint_eq(fixture_stats(store).writearound_pages, RUN - 1);
	munmap(mem, (RUN + 1) * PAGE);
	finish(store, warm, obj);

	alone = open_store(false);
	warm = fixture_object(alone);
	other = large_object(alone);
	fill_ram(alone, warm);
	ck_assert_uint_eq(write_back(alone, other, 0, RUN, 2), 0);
	finish(alone, warm, other);
}
END_TEST

START_TEST(zero_pages_take_no_slot)
{
	struct swapstore *store = open_store(true);
	struct ss_object *warm = fixture_object(store), *obj = large_object(store);
	char *mem = run_memory(3 * RUN), *back = malloc(3 * RUN * PAGE);

	fill_ram(store, warm);
	fixture_pattern(mem, RUN * PAGE, 2);
	memset(mem + RUN * PAGE, 0, RUN * PAGE);
	fixture_pattern(mem + 2 * RUN * PAGE, RUN * PAGE, 3);
	ck_assert_int_eq(object_write(store, obj, mem, 3 * RUN * PAGE, 0, SS_WRITE_ACKED), (ssize_t)(3 * RUN * PAGE));
	ck_assert_uint_le(fixture_stats(store).writearound_pages, 2 * RUN);
	ck_assert_int_eq(object_pread(store, obj, back, 3 * RUN * PAGE, 0), 0);
	ck_assert_mem_eq(mem, back, 3 * RUN * PAGE);
	munmap(mem, (3 * RUN + 1) * PAGE);
	free(back);
	finish(store, warm, obj);
}
END_TEST

/* --- what happens while the disk works --------------------------------------------------------------------------------- */

/* Does something to the object the moment before its run is written. */
struct meanwhile {
	struct swapstore *store;
	struct ss_object *obj;
	void (*what)(struct meanwhile *m);
	atomic_uint times; /* that it is still to be done */
	int fail;	   /* what the write comes to */
};

static int meanwhile_before(void *ctx, const struct ring_req *req)
{
	struct meanwhile *m = ctx;
	const uintptr_t from = (uintptr_t)req->iov->iov_base;

	if (req->op != RING_WRITE || from < atomic_load(&run_begin) || from >= atomic_load(&run_end) ||
	    !atomic_load(&m->times))
		return 0;
	atomic_fetch_sub(&m->times, 1);
	if (m->what)
		m->what(m);
	return m->fail;
}

static void erase_it(struct meanwhile *m)
{
	ck_assert_int_eq(object_erase(m->store, m->obj, 0, FAR * PAGE), 0);
}

static void write_into_it(struct meanwhile *m)
{
	fixture_put(m->store, m->obj, 5, 1, 77);
}

static void wire_it(struct meanwhile *m)
{
	struct ss_walk walk = {0};

	while (!walk.done)
		ck_assert_int_eq(object_wire(m->store, m->obj, &walk), 0);
}

START_TEST(whatever_happens_to_the_pages_meanwhile_what_was_written_last_is_there)
{
	static void (*const what[])(struct meanwhile *m) = {erase_it, write_into_it, wire_it};
	struct swapstore *store = open_store(true);
	struct ss_object *warm = fixture_object(store), *obj = large_object(store);
	struct meanwhile m = {.store = store, .obj = obj, .what = what[_i]};
	struct ss_object_stats st;

	swapstore_set_io_hook(store, &(struct ring_hook){meanwhile_before, &m});
	fill_ram(store, warm);
	ck_assert_uint_eq(write_back(store, obj, 0, RUN, 2), RUN);
	forget(store, obj, warm); /* so that it goes around again */
	ck_assert_int_eq(object_erase(store, obj, RUN * PAGE, FAR * PAGE), 0);
	settle(store, warm);
	atomic_store(&m.times, 1);
	write_back(store, obj, 0, RUN, 3);
	ck_assert_uint_eq(atomic_load(&m.times), 0);
	fixture_expect(store, obj, 0, RUN, 3);
	ck_assert_uint_eq(object_pages(obj), FRAMES + RUN);
	object_get_stats(store, obj, UINT64_MAX, &st);
	if (what[_i] == wire_it)
		ck_assert_uint_eq(st.wired, RUN);
	finish(store, warm, obj);
}
END_TEST

START_TEST(a_run_that_the_disk_refuses_takes_frames)
{
	struct swapstore *store = open_store(true);
	struct ss_object *warm = fixture_object(store), *obj = large_object(store);
	struct meanwhile m = {.store = store, .obj = obj, .fail = -EIO};

	swapstore_set_io_hook(store, &(struct ring_hook){meanwhile_before, &m});
	fill_ram(store, warm);
	atomic_store(&m.times, RUN); /* the whole run, and then parts of what frames were not found for */
	ck_assert_uint_eq(write_back(store, obj, 0, RUN, 2), 0);
	ck_assert_uint_lt(atomic_load(&m.times), RUN);
	fixture_expect(store, obj, 0, RUN, 2);
	fixture_expect(store, warm, 0, FRAMES, 1);
	finish(store, warm, obj);
}
END_TEST

START_TEST(a_limit_is_kept_to_the_page)
{
	struct swapstore_config c = fixture_config(FRAMES, SWAP_MIB);
	struct ss_account account = {.limit = FRAMES + RUN + 10};
	const struct ss_payer payer = {{&account, NULL}};
	struct swapstore *store;
	struct ss_object *warm, *obj;
	char *mem = run_memory(2 * RUN);

	c.read_through = true;
	store = fixture_open(&c);
	warm = fixture_object(store);
	obj = large_object(store);
	ck_assert_int_eq(object_set_payer(obj, &payer, 0), 0);
	fill_ram(store, warm);
	fixture_pattern(mem, 2 * RUN * PAGE, 2);
	/* What is acknowledged may exceed an account, and counts all the same. */
	ck_assert_int_eq(object_write(store, obj, mem, 2 * RUN * PAGE, 0, SS_WRITE_ACKED), (ssize_t)(2 * RUN * PAGE));
	ck_assert_uint_eq(fixture_stats(store).writearound_pages, 2 * RUN);
	ck_assert_uint_eq(atomic_load(&account.pages), FRAMES + 2 * RUN);
	ck_assert_uint_eq(fixture_stats(store).size_used_pages, object_pages(warm) + FRAMES + 2 * RUN);
	ck_assert_int_eq(object_erase(store, obj, RUN * PAGE, FAR * PAGE), 0);
	ck_assert_uint_eq(atomic_load(&account.pages), FRAMES + RUN);
	munmap(mem, (2 * RUN + 1) * PAGE);
	finish(store, warm, obj);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("around");
	TCase *tcase = tcase_create("around");

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, a_long_run_goes_around_when_ram_is_full_and_evicts_nothing);
	tcase_add_test(tcase, what_is_written_again_soon_takes_frames);
	tcase_add_test(tcase, a_small_file_takes_frames);
	tcase_add_test(tcase, what_is_short_or_out_of_line_or_nobodys_copy_takes_frames);
	tcase_add_test(tcase, zero_pages_take_no_slot);
	tcase_add_loop_test(tcase, whatever_happens_to_the_pages_meanwhile_what_was_written_last_is_there, 0, 3);
	tcase_add_test(tcase, a_run_that_the_disk_refuses_takes_frames);
	tcase_add_test(tcase, a_limit_is_kept_to_the_page);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
