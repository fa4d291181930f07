/* SPDX-License-Identifier: MIT */
/*
 * test_crew: workers that serve one-byte requests from a pipe, as they would from the kernel: however many of them
 * wait, with or without saying so, the next request finds a reader, and no more than few are about when none waits.
 */
#include "fuse-fs/crew.h"
#include "tests/unit/crew_watcher.h"
#include "tests/unit/random.h"
#include "tests/unit/run.h"

#include <check.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 12U
#define LIMIT	2U

enum request { REQUEST_QUICK, REQUEST_WAIT, REQUEST_WAIT_UNSAID, REQUEST_RELEASE };

struct works {
	struct crew crew;
	int in, out; /* the pipe */
	sem_t released;
	atomic_uint begun, done;
	pthread_t worker[WORKERS];
	struct crew_watcher watcher;
	bool watched;
};

static void works_serve(struct works *w, enum request request)
{
	atomic_fetch_add(&w->begun, 1);
	switch (request) {
	case REQUEST_QUICK:
		break;
	case REQUEST_WAIT:
		crew_wait(&w->crew, true);
		sem_wait(&w->released);
		crew_wait(&w->crew, false);
		break;
	case REQUEST_WAIT_UNSAID:
		sem_wait(&w->released);
		break;
	case REQUEST_RELEASE:
		sem_post(&w->released);
		break;
	}
	atomic_fetch_add(&w->done, 1);
}

static void *works_worker(void *arg)
{
	struct works *w = arg;
	char request;
	ssize_t n;

	do {
		crew_read_begin(&w->crew);
		n = read(w->in, &request, 1);
		crew_read_end(&w->crew);
		if (n == 1)
			works_serve(w, (enum request)request);
	} while (n == 1);
	crew_end(&w->crew);
	return NULL;
}

static struct works *works_open(bool watched)
{
	struct works *w = calloc(1, sizeof(*w));
	int fd[2];

	ck_assert_ptr_nonnull(w);
	ck_assert_int_eq(pipe(fd), 0);
	w->in = fd[0];
	w->out = fd[1];
	w->watched = watched;
	sem_init(&w->released, 0, 0);
	ck_assert_int_eq(crew_init(&w->crew, WORKERS), 0);
	ck_assert_uint_ge(w->crew.limit, 2);
	w->crew.limit = LIMIT;
	for (unsigned i = 0; i < WORKERS; i++)
		ck_assert_int_eq(pthread_create(&w->worker[i], NULL, works_worker, w), 0);
	if (watched)
		crew_watcher_start(&w->watcher, &w->crew);
	return w;
}

/* The end of the connection, with everybody where he is: parked or in read(). */
static void works_close(struct works *w)
{
	close(w->out);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(w->worker[i], NULL);
	if (w->watched)
		crew_watcher_stop(&w->watcher);
	ck_assert_uint_eq(atomic_load(&w->crew.parked), 0);
	ck_assert_uint_eq(atomic_load(&w->crew.about), WORKERS);
	ck_assert_uint_eq((uint32_t)atomic_load(&w->crew.reads), 0);
	crew_destroy(&w->crew);
	sem_destroy(&w->released);
	close(w->in);
	free(w);
}

static void works_ask(struct works *w, enum request request, unsigned times)
{
	const char byte = (char)request;

	for (unsigned i = 0; i < times; i++)
		ck_assert_int_eq(write(w->out, &byte, 1), 1);
}

/* Without end, if it does not come: the time limit of the test is what fails. */
static void works_await(atomic_uint *counter, unsigned value)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	while (atomic_load(counter) != value)
		nanosleep(&pause, NULL);
}

/* All but a few park: they look whether to when they have served something, and nobody has waited lately. */
static void works_calm(struct works *w)
{
	while (atomic_load(&w->crew.parked) != WORKERS - LIMIT) {
		unsigned served = atomic_load(&w->done);

		works_ask(w, REQUEST_QUICK, 1);
		works_await(&w->done, served + 1);
	}
}

/* All but one wait, as that request has them; returns how many were done before. */
static unsigned works_block(struct works *w, enum request request)
{
	unsigned before;

	works_calm(w);
	before = atomic_load(&w->done);
	works_ask(w, request, WORKERS - 1);
	works_await(&w->begun, before + WORKERS - 1);
	return before;
}

static void works_release(struct works *w, unsigned before)
{
	works_ask(w, REQUEST_RELEASE, WORKERS - 1);
	works_await(&w->done, before + 2 * (WORKERS - 1));
}

START_TEST(no_more_are_about_than_needed)
{
	struct works *w = works_open(false);
	unsigned before;

	works_calm(w);
	before = atomic_load(&w->done);
	works_ask(w, REQUEST_QUICK, 10000);
	works_await(&w->done, before + 10000);
	ck_assert_uint_eq(atomic_load(&w->crew.parked), WORKERS - LIMIT);
	ck_assert_uint_eq(atomic_load(&w->crew.about), LIMIT);
	works_close(w);
}
END_TEST

START_TEST(who_waits_is_replaced)
{
	struct works *w = works_open(false); /* nobody looks at the timer: saying so is enough */

	for (unsigned round = 1; round <= 5; round++) {
		unsigned before = works_block(w, REQUEST_WAIT);

		ck_assert_uint_eq(atomic_load(&w->crew.parked), 0);
		works_release(w, before);
	}
	works_close(w);
}
END_TEST

START_TEST(who_waits_without_a_word_is_replaced_too)
{
	struct works *w = works_open(true);

	works_release(w, works_block(w, REQUEST_WAIT_UNSAID));
	works_close(w);
}
END_TEST

START_TEST(any_mix_is_served)
{
	struct works *w = works_open(true);
	uint64_t seed = random_seed();
	unsigned asked = 0, waiting = 0;

	for (unsigned i = 0; i < 20000; i++) {
		/* Never so many that nobody is left to hear of their release. */
		unsigned kind = random_next(&seed) % 100;
		enum request request = kind < 50			      ? REQUEST_QUICK
				       : kind >= 76 && waiting > 0		      ? REQUEST_RELEASE
				       : waiting == WORKERS - 1 || kind >= 76 ? REQUEST_QUICK
				       : kind < 75			      ? REQUEST_WAIT
									      : REQUEST_WAIT_UNSAID;

		waiting += request == REQUEST_WAIT || request == REQUEST_WAIT_UNSAID;
		waiting -= request == REQUEST_RELEASE;
		works_ask(w, request, 1);
		asked++;
	}
	works_ask(w, REQUEST_RELEASE, waiting);
	works_await(&w->done, asked + waiting);
	works_calm(w);
	works_close(w);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("crew");
	TCase *tc = tcase_create("crew");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, no_more_are_about_than_needed);
	tcase_add_test(tc, who_waits_is_replaced);
	tcase_add_test(tc, who_waits_without_a_word_is_replaced_too);
	tcase_add_test(tc, any_mix_is_served);
	suite_add_tcase(suite, tc);
	return run_suite(suite, CK_FORK_GETENV);
}
