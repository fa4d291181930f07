/* SPDX-License-Identifier: MIT */
/*
 * test_lru: how well swapstore/lru.c chooses.  The real queues and the real ghosts are driven with traces of page
 * references (lru_sim.h), and their share of hits is printed beside that of exact LRU and of Belady's optimum; run
 * by hand, build/tests/test_lru prints the table.  The seed is fixed unless SPILLFS_TEST_SEED sets another: the
 * same table each time.
 */
#include "swapstore/lru.h"
#include "swapstore/tree.h"

#include "tests/unit/lru_sim.h"
#include "tests/unit/store_fixture.h"

/* ---- the real code: a cache of frames over one file that lies in swap ---- */

#define BATCH_MAX 512U

struct sim {
	struct frames *frames;
	struct lru lru;
	struct tree tree;
	struct tree_stash stash;
	uint32_t cache, resident, batch;
	uint64_t misses;
};

static void sim_no_pressure(void *ctx)
{
	(void)ctx;
}

static void sim_replace(struct sim *s, uint32_t page, entry_t from, entry_t to)
{
	while (s->stash.count < TREE_STORE_NODES) {
		void *node = malloc(tree_node_size());

		MUST(node);
		tree_stash_push(&s->stash, node);
	}
	SAME(tree_replace(&s->tree, page, from, to, &s->stash), 0);
}

static void sim_open(struct sim *s, uint32_t cache)
{
	memset(s, 0, sizeof(*s));
	s->cache = cache;
	s->batch = cache / 16 < 1 ? 1 : cache / 16 < BATCH_MAX ? cache / 16 : BATCH_MAX; /* as reclaim does */
	SAME(frames_create(&(struct frames_config){.total = cache}, &s->frames), 0);
	frames_set_pressure(s->frames, &(struct frames_pressure){sim_no_pressure, NULL});
	lru_init(&s->lru, s->frames);
	for (uint32_t p = 0; p < SIM_PAGES; p++)
		sim_replace(s, p, ENTRY_EMPTY, entry_of_slot(p, 0));
}

static void sim_drop(struct sim *s, struct frame *f, entry_t now)
{
	sim_replace(s, (uint32_t)f->index, entry_of_frame(f), now);
	frame_detach(f);
	frame_put(s->frames, f);
	s->resident--;
}

static void sim_close(struct sim *s)
{
	lru_check(&s->lru);
	SAME(lru_count(&s->lru), s->resident);
	for (uint32_t p = 0; p < SIM_PAGES; p++) {
		entry_t e = tree_load(&s->tree, p);

		if (entry_is_frame(e)) {
			lru_remove(&s->lru, entry_frame(e));
			sim_drop(s, entry_frame(e), entry_of_slot(p, 0));
		}
		sim_replace(s, p, entry_of_slot(p, 0), ENTRY_EMPTY);
	}
	SAME(s->resident, 0);
	while (s->stash.count)
		free(tree_stash_pop(&s->stash));
	frames_check(s->frames);
	lru_destroy(&s->lru);
	frames_destroy(s->frames);
}

static void sim_take(struct frame *f, void *ctx)
{
	(void)ctx;
	atomic_store_explicit(&f->uses, 0, memory_order_relaxed);
}

/* A round of lru_isolate() may end empty-handed: it only looks at so many. */
static void sim_evict(struct sim *s)
{
	struct frame *victim[BATCH_MAX];
	unsigned n = 0, busy;

	for (unsigned tries = 0; n == 0; tries++) {
		MUST(tries < 100);
		n = lru_isolate(&s->lru, victim, s->batch, false, &busy, sim_take, NULL);
		SAME(busy, 0);
	}
	for (unsigned i = 0; i < n; i++) {
		struct frame *f = victim[i];

		frame_put(s->frames, f); /* reclaim's reference; the tree's is left */
		sim_drop(s, f, f->swap);
	}
}

/* One reference.  True: a hit. */
static bool sim_use(struct sim *s, uint32_t ref)
{
	uint32_t page = ref & ~SIM_NEW;
	bool is_new = ref & SIM_NEW;
	entry_t e = tree_load(&s->tree, page);
	struct frame *f;
	bool seen;

	if (entry_is_frame(e) && !is_new) {
		lru_touch(entry_frame(e));
		return true;
	}
	if (entry_is_frame(e)) {
		lru_remove(&s->lru, entry_frame(e));
		sim_drop(s, entry_frame(e), entry_of_slot(page, 0));
		e = entry_of_slot(page, 0);
	}
	if (s->resident == s->cache)
		sim_evict(s);
	seen = !is_new && tree_ghost_note(&s->tree, page, (uint16_t)(s->misses++ / s->cache));
	SAME(frames_alloc(s->frames, &f, 1, FRAMES_CRITICAL), 1);
	sim_replace(s, page, e, entry_of_frame(f));
	frame_fill_clean(f, NULL, page, e);
	lru_add(&s->lru, f, seen);
	s->resident++;
	return false;
}

static uint32_t sim_spillfs(const struct trace *t, uint32_t cache)
{
	struct sim s;
	uint32_t hits = 0;

	sim_open(&s, cache);
	for (uint32_t i = 0; i < SIM_REFS; i++)
		hits += sim_use(&s, t->page[i]);
	sim_close(&s);
	return hits;
}

/* ---- the table ---- */

enum policy { SPILLFS, LRU, BELADY, POLICIES };

/* Frames, in percent of the file's pages.  One size is enough for the sanitizers, which are slow. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
static const unsigned sizes[] = {10};
#else
static const unsigned sizes[] = {1, 5, 10, 25};
#endif

#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* A trace, what is claimed of it, and what came out: hits in percent of the references to pages that exist. */
struct row {
	const char *name;
	void (*make)(struct trace *t, uint32_t cache);
	double over_lru;   /* at least so many points more than LRU has, whatever the size */
	double of_optimum; /* at least this share of Belady's hits */
	double hits[SIZES][POLICIES];
};

static struct row rows[] = {
	{"zipf 0.9", trace_zipf_09, 2.5, 0.78, {{0}}},
	{"zipf 1.1", trace_zipf_11, 1, 0.88, {{0}}},
	{"zipf 1.1 as fio's", trace_fio_11, 0.4, 0.88, {{0}}},
	{"zipf 1.0 and scans", trace_zipf_and_scans, 5, 0.83, {{0}}},
	{"zipf 1.0, shifting", trace_shifting, 1, 0.84, {{0}}},
	{"hot set, one scan", trace_one_scan, 0, 0.999, {{0}}},
	/* Who comes back is known only when it has: a new hot set is read twice. */
	{"phases", trace_phases, -6, 0.92, {{0}}},
	/* The old hot set has to go first: at 25 % that takes all of the trace. */
	{"scratch files", trace_scratch, -21, 0.78, {{0}}},
	{"scratch, then zipf", trace_scratch_then_zipf, 1, 0.88, {{0}}},
	{"loop, 1.2 x cache", trace_loop, 25, 0.35, {{0}}},
	{"scans alone", trace_scan, 0, 0, {{0}}},
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static uint64_t sim_seed(void)
{
	const char *text = getenv("SPILLFS_TEST_SEED");

	return (text ? strtoull(text, NULL, 0) : 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

static void row_fill(struct row *row)
{
	static uint32_t (*const run[POLICIES])(const struct trace *, uint32_t) = {sim_spillfs, sim_lru, sim_belady};
	static struct trace t;

	for (unsigned s = 0; s < SIZES; s++) {
		uint32_t cache = SIM_PAGES * sizes[s] / 100;

		t.rng = sim_seed();
		row->make(&t, cache);
		for (unsigned p = 0; p < POLICIES; p++)
			row->hits[s][p] = 100.0 * run[p](&t, cache) / trace_reads(&t);
		printf("%-20s %4u %% %9.2f %9.2f %9.2f\n", s ? "" : row->name, sizes[s], row->hits[s][SPILLFS],
		       row->hits[s][LRU], row->hits[s][BELADY]);
	}
}

static void print_table(void)
{
	printf("hits in %% of %u references to %u pages\n", SIM_REFS, SIM_PAGES);
	printf("%-20s %6s %9s %9s %9s\n", "trace", "cache", "spillfs", "LRU", "Belady");
	for (unsigned r = 0; r < ROWS; r++)
		row_fill(&rows[r]);
	fflush(stdout);
}

START_TEST(the_optimum_is_never_beaten)
{
	for (unsigned r = 0; r < ROWS; r++)
		for (unsigned s = 0; s < SIZES; s++)
			for (unsigned p = 0; p < POLICIES; p++)
				ck_assert_msg(rows[r].hits[s][p] <= rows[r].hits[s][BELADY], "%s, %u %%: policy %u",
					      rows[r].name, sizes[s], p);
}
END_TEST

START_TEST(each_trace_has_the_hits_that_are_claimed)
{
	for (unsigned s = 0; s < SIZES; s++) {
		const double *hits = rows[_i].hits[s];

		ck_assert_msg(hits[SPILLFS] >= hits[LRU] + rows[_i].over_lru, "%s, %u %%: %.2f and LRU %.2f",
			      rows[_i].name, sizes[s], hits[SPILLFS], hits[LRU]);
		ck_assert_msg(hits[SPILLFS] >= hits[BELADY] * rows[_i].of_optimum, "%s, %u %%: %.2f and Belady %.2f",
			      rows[_i].name, sizes[s], hits[SPILLFS], hits[BELADY]);
	}
}
END_TEST

/* ---- between objects: a real store ---- */

#define FRAMES 1024U

static struct ss_object *fill(struct swapstore *store, unsigned pages, uint64_t seed)
{
	struct ss_object *obj = fixture_object(store);
	char buf[PAGE];

	for (unsigned i = 0; i < pages; i++) {
		fixture_pattern(buf, PAGE, seed + i);
		ck_assert_int_eq(object_write(store, obj, buf, PAGE, i * PAGE, 0), (ssize_t)PAGE);
	}
	return obj;
}

/* Reads one page, and says whether it had to come from swap. */
static bool misses(struct swapstore *store, struct ss_object *obj, uint64_t page, uint64_t seed)
{
	uint64_t before = fixture_stats(store).swapin_pages;
	char buf[PAGE], want[PAGE];

	fixture_pattern(want, PAGE, seed + page);
	ck_assert_int_eq(object_pread(store, obj, buf, PAGE, page * PAGE), 0);
	ck_assert_mem_eq(buf, want, PAGE);
	return fixture_stats(store).swapin_pages != before;
}

/* Half of the RAM is one object's, in use, when another one goes through 16 times the RAM: writing, then reading. */
START_TEST(a_stream_through_one_object_leaves_the_hot_pages_of_another)
{
	struct swapstore_config c = fixture_config(FRAMES, 128);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *hot = fill(store, FRAMES / 2, 0), *stream;
	unsigned missed = 0, reads = 0;
	uint64_t rng = sim_seed();
	char buf[PAGE];

	for (unsigned i = 0; i < 8 * FRAMES; i++)
		misses(store, hot, fixture_random(&rng) % (FRAMES / 2), 0);
	stream = fixture_object(store);
	for (unsigned i = 0; i < 16 * FRAMES; i++) {
		fixture_pattern(buf, PAGE, i);
		if (i < 8 * FRAMES)
			ck_assert_int_eq(object_write(store, stream, buf, PAGE, i * PAGE, 0), (ssize_t)PAGE);
		else
			misses(store, stream, i - 8 * FRAMES, 0);
		if (i % 4 == 0) {
			reads++;
			missed += misses(store, hot, fixture_random(&rng) % (FRAMES / 2), 0);
		}
	}
	printf("hot pages beside a stream: %u of %u reads missed\n", missed, reads);
	ck_assert_uint_lt(missed, reads / 20);
	ck_assert_uint_gt(fixture_stats(store).swapout_pages, 6 * FRAMES);
	ck_assert_uint_gt(fixture_stats(store).swapin_pages, 6 * FRAMES);
	object_destroy(store, hot);
	object_destroy(store, stream);
	fixture_close(store);
}
END_TEST

/* The same with records of an eighth of a page, appended and read back one by one: still one pass over the file. */
START_TEST(a_pass_in_small_records_leaves_the_hot_pages_too)
{
	struct swapstore_config c = fixture_config(FRAMES, 64);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *hot = fill(store, FRAMES / 2, 0), *log = fixture_object(store);
	unsigned missed[2] = {0}, reads = 0;
	uint64_t rng = sim_seed();
	char record[PAGE / 8];

	for (unsigned i = 0; i < 8 * FRAMES; i++)
		misses(store, hot, fixture_random(&rng) % (FRAMES / 2), 0);
	for (unsigned i = 0; i < 128 * FRAMES; i++) {
		bool reading = i >= 64 * FRAMES;
		uint64_t at = i % (64 * FRAMES) * sizeof(record);

		fixture_pattern(record, sizeof(record), i);
		if (reading)
			ck_assert_int_eq(object_pread(store, log, record, sizeof(record), at), 0);
		else
			ck_assert_int_eq(object_write(store, log, record, sizeof(record), at, 0),
					 (ssize_t)sizeof(record));
		if (i % 32 == 0) {
			reads++;
			missed[reading] += misses(store, hot, fixture_random(&rng) % (FRAMES / 2), 0);
		}
	}
	printf("hot pages beside small records: %u and %u of %u reads missed\n", missed[0], missed[1], reads / 2);
	ck_assert_uint_lt(missed[0], reads / 2 / 20);
	ck_assert_uint_lt(missed[1], reads / 2 / 5);
	ck_assert_uint_gt(fixture_stats(store).swapout_pages, 6 * FRAMES);
	ck_assert_uint_gt(fixture_stats(store).swapin_pages, 6 * FRAMES);
	object_destroy(store, hot);
	object_destroy(store, log);
	fixture_close(store);
}
END_TEST

/* Two objects of the RAM's size each, one of them there first: used alike, they miss alike. */
START_TEST(objects_that_are_used_alike_get_alike)
{
	struct swapstore_config c = fixture_config(FRAMES, 64);
	struct swapstore *store = fixture_open(&c);
	struct ss_object *obj[2] = {fill(store, FRAMES, 0), fill(store, FRAMES, FRAMES)};
	unsigned missed[2] = {0};
	uint64_t rng = sim_seed();

	for (unsigned i = 0; i < 32 * FRAMES; i++) {
		unsigned which = fixture_random(&rng) % 2;
		uint64_t page = (fixture_random(&rng) % FRAMES) * (fixture_random(&rng) % FRAMES) / FRAMES;

		missed[which] += misses(store, obj[which], page, which * FRAMES);
	}
	printf("two objects used alike: %u and %u of some %u reads missed\n", missed[0], missed[1], 16 * FRAMES);
	ck_assert_uint_gt(missed[0], 1000);
	ck_assert_uint_lt(missed[0], missed[1] * 5 / 4);
	ck_assert_uint_lt(missed[1], missed[0] * 5 / 4);
	object_destroy(store, obj[0]);
	object_destroy(store, obj[1]);
	fixture_close(store);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lru");
	TCase *hits = tcase_create("hits"), *fair = tcase_create("fair");

	print_table();
	tcase_add_test(hits, the_optimum_is_never_beaten);
	tcase_add_loop_test(hits, each_trace_has_the_hits_that_are_claimed, 0, ROWS);
	suite_add_tcase(suite, hits);
	tcase_set_timeout(fair, 300);
	tcase_add_test(fair, a_stream_through_one_object_leaves_the_hot_pages_of_another);
	tcase_add_test(fair, a_pass_in_small_records_leaves_the_hot_pages_too);
	tcase_add_test(fair, objects_that_are_used_alike_get_alike);
	suite_add_tcase(suite, fair);
	return fixture_main(suite);
}
