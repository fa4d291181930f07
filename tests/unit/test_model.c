/* SPDX-License-Identifier: MIT */
/*
 * test_model: the store against flat arrays.  Four threads do random reads, writes, erases, allocations and
 * copies on shared objects, with a cap of 16 frames, while a fifth evicts; and again with room for objects to be wired,
 * which a sixth then does, and undoes, at random.  Each thread owns a span of each object
 * whose ends are not page boundaries, so neighbours write to the same pages, and each also truncates an object of
 * its own.  The seed is printed and can be set (SPILLFS_TEST_SEED); so can the steps (SPILLFS_TEST_STEPS).
 */
#include "tests/unit/store_fixture.h"

#include <pthread.h>

/* check's own assertions jump out of the failed test, which no thread but the first may do. */
#define MUST(cond)                                                                              \
	do {                                                                                    \
		if (!(cond)) {                                                                  \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);    \
			abort();                                                                \
		}                                                                               \
	} while (0)

#define THREADS 4
#define SHARED	2		/* objects */
#define SPAN	(29 * 4096 + 777) /* bytes of a thread in each */
#define FRAMES	16
#define FRAMES_WIRED 160 /* so that an object of a thread's own, or several, may be wired */

struct worker {
	struct swapstore *store;
	struct ss_object *object[SHARED + 1]; /* the last one is the thread's own */
	uint64_t base[SHARED + 1];
	unsigned char *model[SHARED + 1];
	unsigned char *buf;
	uint64_t rng;
	unsigned steps;
	const struct worker *others; /* whose objects the fifth and sixth thread send away and wire; NULL: none */
	unsigned wired;		     /* times that it did */
	atomic_bool *stop;
};

static uint64_t below(struct worker *w, uint64_t n)
{
	return (fixture_random(&w->rng) >> 11) % n;
}

/* A random piece of the span: mostly a few pages, now and then most of it. */
static void piece(struct worker *w, size_t *from, size_t *length)
{
	*from = below(w, SPAN - 1);
	*length = 1 + below(w, below(w, 8) ? 3 * PAGE : SPAN);
	if (*length > SPAN - *from)
		*length = SPAN - *from;
}

static void step_read(struct worker *w, unsigned o, size_t from, size_t length)
{
	MUST(object_pread(w->store, w->object[o], w->buf, length, w->base[o] + from) == 0);
	for (size_t i = 0; i < length; i++) {
		if (w->buf[i] != w->model[o][from + i]) {
			fprintf(stderr, "object %u byte %zu (page %llu): %u, not %u\n", o, from + i,
				(unsigned long long)((w->base[o] + from + i) / PAGE), w->buf[i],
				w->model[o][from + i]);
			abort();
		}
	}
}

static void step_write(struct worker *w, unsigned o, size_t from, size_t length)
{
	if (below(w, 4))
		fixture_pattern(w->buf, length, fixture_random(&w->rng));
	else
		memset(w->buf, 0, length);
	MUST(object_write(w->store, w->object[o], w->buf, length, w->base[o] + from, 0) == (ssize_t)length);
	memcpy(w->model[o] + from, w->buf, length);
}

/* As a client that writes back what it caches: whole pages, acknowledged, from memory that begins with a page. */
static void step_write_back(struct worker *w, unsigned o)
{
	size_t first = (PAGE - w->base[o] % PAGE) % PAGE, pages = (SPAN - first) / PAGE, length;

	first += below(w, pages - 1) * PAGE;
	length = (SPAN - first) / PAGE * PAGE;
	fixture_pattern(w->buf, length, fixture_random(&w->rng));
	MUST(object_write(w->store, w->object[o], w->buf, length, w->base[o] + first, SS_WRITE_ACKED) ==
	     (ssize_t)length);
	memcpy(w->model[o] + first, w->buf, length);
}

static void step_erase(struct worker *w, unsigned o, size_t from, size_t length)
{
	bool truncate = o == SHARED && below(w, 2); /* only the own object has nobody behind it */

	MUST(object_erase(w->store, w->object[o], w->base[o] + from,
				      truncate ? UINT64_MAX : w->base[o] + from + length) == 0);
	memset(w->model[o] + from, 0, truncate ? SPAN - from : length);
}

/* Within the thread's own object, where nobody else changes what is data and what is not. */
static void step_seek(struct worker *w, size_t from)
{
	int64_t data = object_seek_data(w->object[SHARED], from), hole = object_seek_hole(w->object[SHARED], from);
	uint64_t end = data < 0 || data > SPAN ? SPAN : (uint64_t)data;

	MUST(hole >= (int64_t)from);
	for (uint64_t i = from; i < end; i++)
		MUST(w->model[SHARED][i] == 0);
}

static void step_copy(struct worker *w, unsigned o, size_t from, size_t length)
{
	unsigned to = (o + 1) % (SHARED + 1);

	MUST(object_copy(w->store, w->object[o], w->base[o] + from, w->object[to], w->base[to] + from,
				     length, 0) == (ssize_t)length);
	memcpy(w->model[to] + from, w->model[o] + from, length);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < w->steps; i++) {
		unsigned o = (unsigned)below(w, SHARED + 1);
		size_t from, length;

		piece(w, &from, &length);
		switch (below(w, 10)) {
		case 0: case 1: case 2: case 3:
			step_read(w, o, from, length);
			break;
		case 4: case 5: case 6:
			if (below(w, 4))
				step_write(w, o, from, length);
			else
				step_write_back(w, o);
			break;
		case 7:
			step_erase(w, o, from, length);
			break;
		case 8:
			if (below(w, 2))
				step_seek(w, from);
			else
				MUST(object_allocate(w->store, w->object[SHARED], from, from + length, 0) == 0);
			break;
		default:
			step_copy(w, o, from, length);
		}
		if (i % 64 == 0)
			object_check(w->object[o]);
	}
	return NULL;
}

/* An object that any thread may be writing to. */
static struct ss_object *any_object(struct worker *w)
{
	return w->others[below(w, THREADS)].object[below(w, SHARED + 1)];
}

/* Keeps an object's pages in RAM, or lets them go again. */
static void *wire(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(w->stop)) {
		struct ss_object *obj = any_object(w);
		struct ss_walk walk = {0};
		int err = 0;

		if (below(w, 3)) {
			while (!err && !walk.done)
				err = object_wire(w->store, obj, &walk);
			MUST(err == 0 || err == -ENOMEM);
			w->wired += err == 0;
		} else {
			object_unwire(w->store, obj);
		}
		usleep((useconds_t)below(w, 300));
	}
	return NULL;
}

static void *evict(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(w->stop)) {
		struct ss_walk walk = {0};

		if (w->others && below(w, 4) == 0)
			MUST(object_evict(w->store, any_object(w), &walk) == 0);
		else
			swapstore_evict(w->store, 1 + below(w, FRAMES));
		usleep((useconds_t)below(w, 300));
	}
	return NULL;
}

static unsigned steps_from_env(unsigned otherwise)
{
	const char *text = getenv("SPILLFS_TEST_STEPS");

	return text ? (unsigned)strtoul(text, NULL, 0) : otherwise;
}

static void worker_init(struct worker *w, struct swapstore *store, unsigned t, struct ss_object *const *shared,
			uint64_t seed)
{
	w->store = store;
	w->rng = seed + t * 7919 + 1;
	w->steps = steps_from_env(2500);
	w->buf = aligned_alloc(PAGE, (SPAN + PAGE - 1) / PAGE * PAGE);
	for (unsigned o = 0; o <= SHARED; o++) {
		w->object[o] = o < SHARED ? shared[o] : fixture_object(store);
		w->base[o] = o < SHARED ? (uint64_t)t * SPAN : 0;
		w->model[o] = calloc(1, SPAN);
	}
}

static void worker_finish(struct worker *w)
{
	for (unsigned o = 0; o <= SHARED; o++) {
		step_read(w, o, 0, SPAN);
		free(w->model[o]);
	}
	object_check(w->object[SHARED]);
	object_destroy(w->store, w->object[SHARED]);
	free(w->buf);
}

START_TEST(four_threads_agree_with_flat_arrays_while_pages_are_evicted_and_wired)
{
	const unsigned frames = _i & 4 ? FRAMES_WIRED : FRAMES;
	struct swapstore_config c = fixture_config(frames, 64); /* trees and slot bitmaps come out of it too */
	struct worker worker[THREADS], evictor, wirer;
	struct ss_object *shared[SHARED];
	pthread_t thread[THREADS + 2];
	struct swapstore *store;
	atomic_bool stop = false;
	uint64_t seed = fixture_seed();

	c.engine = _i & 1 ? RING_THREADS : RING_AUTO;
	c.read_through = _i & 2;
	store = fixture_open(&c);
	for (unsigned o = 0; o < SHARED; o++)
		shared[o] = fixture_object(store);
	for (unsigned t = 0; t < THREADS; t++)
		worker_init(&worker[t], store, t, shared, seed);
	evictor = (struct worker){.store = store, .rng = seed, .stop = &stop};
	evictor.others = _i & 4 ? worker : NULL;
	wirer = evictor;
	wirer.rng++;
	for (unsigned t = 0; t < THREADS; t++)
		ck_assert_int_eq(pthread_create(&thread[t], NULL, work, &worker[t]), 0);
	ck_assert_int_eq(pthread_create(&thread[THREADS], NULL, evict, &evictor), 0);
	if (wirer.others)
		ck_assert_int_eq(pthread_create(&thread[THREADS + 1], NULL, wire, &wirer), 0);
	for (unsigned t = 0; t < THREADS; t++)
		pthread_join(thread[t], NULL);
	atomic_store(&stop, true);
	pthread_join(thread[THREADS], NULL);
	if (wirer.others)
		pthread_join(thread[THREADS + 1], NULL);
	for (unsigned t = 0; t < THREADS; t++)
		worker_finish(&worker[t]);
	ck_assert_uint_le(fixture_stats(store).frames_used, frames);
	ck_assert_uint_gt(fixture_stats(store).swapout_pages, worker[0].steps);
	ck_assert_uint_gt(fixture_stats(store).swapin_pages, worker[0].steps);
	ck_assert(wirer.others == NULL || wirer.wired > 10);
	if (c.read_through)
		ck_assert_uint_gt(fixture_stats(store).writearound_pages, worker[0].steps / 100);
	for (unsigned o = 0; o < SHARED; o++) {
		object_check(shared[o]);
		object_destroy(store, shared[o]);
	}
	fixture_close(store);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("model");
	TCase *tcase = tcase_create("model");

	tcase_set_timeout(tcase, 600);
	tcase_add_loop_test(tcase, four_threads_agree_with_flat_arrays_while_pages_are_evicted_and_wired, 0, 8);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
