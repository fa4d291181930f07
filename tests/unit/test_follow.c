/* SPDX-License-Identifier: MIT */
/*
 * test_follow: workers and a follower that serve requests from a pipe, as they would from the kernel: a lone caller is
 * served by the follower, on the caller's processor; whatever ends its being alone brings the workers back; and a
 * follower that does not come to serve keeps nobody waiting.
 */
#include "fuse-fs/follow.h"
#include "fuse-fs/log.h"
#include "tests/unit/crew_watcher.h"
#include "tests/unit/run.h"

#include <check.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 4U
#define STREAK	100U /* more than enough to be followed */

struct site {
	struct crew crew;
	struct follow follow;
	int in, out; /* the pipe */
	pthread_t worker[WORKERS], follower;
	struct crew_watcher watcher;
	atomic_bool ready, receiving, hang, stuck;
	sem_t answered;
	atomic_uint by_workers, by_follower;
	atomic_uint near, idle; /* of the follower's, those served where the caller was, and under SCHED_IDLE */
	_Atomic int caller_cpu;
};

void fs_log(int level, const char *fmt, ...)
{
	(void)level;
	(void)fmt;
}

static void kicked(int sig)
{
	(void)sig;
}

static struct fuse_in_header request_of(uint32_t pid)
{
	return (struct fuse_in_header){ .len = sizeof(struct fuse_in_header), .opcode = FUSE_GETATTR, .pid = pid };
}

#define OTHER_THREAD 1

static const struct timespec site_pause = { .tv_nsec = 1000000 };

static ssize_t site_serve(struct site *s, bool by_follower)
{
	struct fuse_in_header in;
	ssize_t n = -1;

	if (!by_follower || crew_is_lone(&s->crew))
		n = read(s->in, &in, sizeof(in));
	if (by_follower)
		atomic_store(&s->receiving, false);
	else
		crew_read_end(&s->crew);
	if (n != (ssize_t)sizeof(in))
		return n;
	follow_request(&s->follow, &in, by_follower);
	atomic_fetch_add(by_follower ? &s->by_follower : &s->by_workers, 1);
	if (by_follower) {
		atomic_fetch_add(&s->near, sched_getcpu() == atomic_load(&s->caller_cpu));
		atomic_fetch_add(&s->idle, sched_getscheduler(0) == SCHED_IDLE);
	}
	sem_post(&s->answered);
	while (by_follower && atomic_load(&s->stuck))
		nanosleep(&site_pause, NULL);
	return n;
}

static void *site_worker(void *arg)
{
	struct site *s = arg;
	ssize_t n;

	do {
		crew_read_begin(&s->crew);
		n = site_serve(s, false);
	} while (n != 0);
	crew_end(&s->crew);
	return NULL;
}

static void *site_follower(void *arg)
{
	struct site *s = arg;
	ssize_t n = -1;

	follow_thread_begins(&s->follow);
	s->follow.cpus = LONG_MAX; /* other tests may keep this machine busy */
	atomic_store(&s->ready, true);
	while (n != 0 && crew_lone_await(&s->crew)) {
		follow_stay_begins(&s->follow);
		while (n != 0 && crew_is_lone(&s->crew)) {
			while (atomic_load(&s->hang) && crew_is_lone(&s->crew))
				nanosleep(&site_pause, NULL);
			crew_lone_read(&s->crew);
			atomic_store(&s->receiving, true);
			n = site_serve(s, true);
		}
		follow_stay_ends(&s->follow);
	}
	follow_thread_ends(&s->follow);
	return NULL;
}

static bool site_dismiss(void *ctx, bool late)
{
	struct site *s = ctx;

	follow_dismiss(&s->follow, late);
	if (!atomic_load(&s->receiving))
		return false;
	pthread_kill(s->follower, SIGUSR1);
	return true;
}

static struct site *site_open(void)
{
	const struct sigaction kick = { .sa_handler = kicked };
	struct site *s = calloc(1, sizeof(*s));
	int fd[2];

	ck_assert_ptr_nonnull(s);
	ck_assert_int_eq(pipe(fd), 0);
	s->in = fd[0];
	s->out = fd[1];
	sem_init(&s->answered, 0, 0);
	sigaction(SIGUSR1, &kick, NULL);
	follow_init(&s->follow, &s->crew);
	ck_assert_int_eq(crew_init(&s->crew, WORKERS), 0);
	s->crew.limit = 2;
	crew_follower(&s->crew, site_dismiss, s);
	crew_watcher_start(&s->watcher, &s->crew);
	for (unsigned i = 0; i < WORKERS; i++)
		ck_assert_int_eq(pthread_create(&s->worker[i], NULL, site_worker, s), 0);
	ck_assert_int_eq(pthread_create(&s->follower, NULL, site_follower, s), 0);
	while (!atomic_load(&s->ready))
		nanosleep(&site_pause, NULL);
	ck_assert(atomic_load(&s->follow.able));
	return s;
}

static void site_close(struct site *s)
{
	close(s->out);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(s->worker[i], NULL);
	pthread_join(s->follower, NULL);
	crew_watcher_stop(&s->watcher);
	ck_assert_uint_eq(atomic_load(&s->crew.parked), 0);
	ck_assert_int_eq(atomic_load(&s->crew.about), WORKERS);
	ck_assert_uint_eq((uint32_t)atomic_load(&s->crew.reads), 0);
	follow_destroy(&s->follow);
	crew_destroy(&s->crew);
	sem_destroy(&s->answered);
	close(s->in);
	free(s);
}

static void site_ask(struct site *s, struct fuse_in_header in)
{
	atomic_store(&s->caller_cpu, sched_getcpu());
	ck_assert_int_eq(write(s->out, &in, sizeof(in)), sizeof(in));
	while (sem_wait(&s->answered) != 0)
		;
}

/* One request after the other until the follower serves; the time limit of the test is what fails. */
static void site_be_followed(struct site *s)
{
	const unsigned before = atomic_load(&s->by_follower);

	while (atomic_load(&s->by_follower) == before || !crew_is_lone(&s->crew))
		site_ask(s, request_of((uint32_t)gettid()));
}

/* The calling thread on the nth processor that it may use. */
static void stay_on(const cpu_set_t *allowed, int nth)
{
	cpu_set_t one;
	int cpu = 0;

	while (!CPU_ISSET(cpu, allowed) || nth-- > 0)
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
}

START_TEST(a_lone_caller_is_served_on_its_processor)
{
	struct site *s = site_open();

	for (int nth = 0; nth < 2; nth++) {
		unsigned served = atomic_load(&s->by_follower), near = atomic_load(&s->near);

		stay_on(&s->follow.allowed, nth);
		site_ask(s, request_of(OTHER_THREAD));
		while (atomic_load(&s->by_follower) < served + 300)
			site_be_followed(s);
		served = atomic_load(&s->by_follower) - served;
		ck_assert_uint_gt(atomic_load(&s->near) - near, served * 3 / 4);
	}
	ck_assert_uint_gt(atomic_load(&s->idle), atomic_load(&s->by_follower) * 3 / 4);
	site_close(s);
}
END_TEST

START_TEST(another_caller_brings_the_workers_back)
{
	struct site *s = site_open();
	unsigned before;
	cpu_set_t set;

	site_be_followed(s);
	site_ask(s, request_of(OTHER_THREAD));
	ck_assert(!crew_is_lone(&s->crew));
	ck_assert_int_eq(sched_getaffinity(s->follow.follower, sizeof(set), &set), 0);
	ck_assert(CPU_EQUAL(&set, &s->follow.allowed));
	if (geteuid() == 0) /* whoever may not raise a priority has to leave it there */
		ck_assert_int_eq(sched_getscheduler(s->follow.follower), SCHED_OTHER);
	before = atomic_load(&s->by_workers);
	while (atomic_load(&s->by_workers) < before + STREAK) {
		site_ask(s, request_of((uint32_t)gettid()));
		site_ask(s, request_of(OTHER_THREAD));
		ck_assert(!crew_is_lone(&s->crew));
	}
	site_close(s);
}
END_TEST

START_TEST(large_requests_are_for_the_workers)
{
	struct site *s = site_open();
	struct fuse_in_header large = request_of((uint32_t)gettid());

	large.len = 128 << 10;
	site_be_followed(s);
	site_ask(s, large);
	ck_assert(!crew_is_lone(&s->crew));
	for (unsigned i = 0; i < STREAK; i++) {
		site_ask(s, large);
		ck_assert(!crew_is_lone(&s->crew));
	}
	site_close(s);
}
END_TEST

START_TEST(what_nobody_waits_for_does_not_count)
{
	struct site *s = site_open();

	site_be_followed(s);
	for (unsigned i = 0; i < STREAK && crew_is_lone(&s->crew); i++) {
		site_ask(s, request_of(0));
		ck_assert_uint_eq(atomic_load(&s->follow.caller), (uint32_t)gettid());
		site_ask(s, request_of((uint32_t)gettid()));
	}
	site_close(s);
}
END_TEST

START_TEST(write_back_of_much_is_for_the_workers)
{
	struct site *s = site_open();
	struct fuse_in_header large = request_of(0);
	unsigned asked = 0;

	large.len = 1 << 20;
	site_be_followed(s);
	for (; crew_is_lone(&s->crew); asked++)
		site_ask(s, large);
	ck_assert_uint_le(asked, 10);
	site_close(s);
}
END_TEST

START_TEST(who_waits_ends_it_for_a_while)
{
	struct site *s = site_open();

	site_be_followed(s);
	crew_wait(&s->crew, true);
	ck_assert(!crew_is_lone(&s->crew));
	crew_wait(&s->crew, false);
	for (unsigned i = 0; i < STREAK; i++) {
		site_ask(s, request_of((uint32_t)gettid()));
		if (!crew_is_lone(&s->crew))
			continue;
		ck_assert(crew_is_calm(&s->crew)); /* so much time has passed */
		break;
	}
	site_close(s);
}
END_TEST

START_TEST(a_follower_that_does_not_come_keeps_nobody_waiting)
{
	struct site *s = site_open();

	for (unsigned round = 0; round < 5; round++) {
		unsigned before;

		site_be_followed(s);
		atomic_store(&s->hang, true);
		before = atomic_load(&s->by_workers);
		/* The follower may be in read() and get one more. */
		for (unsigned i = 0; i < STREAK; i++)
			site_ask(s, request_of((uint32_t)gettid()));
		ck_assert_uint_gt(atomic_load(&s->by_workers), before);
		atomic_store(&s->hang, false);
	}
	site_close(s);
}
END_TEST

START_TEST(no_stay_begins_while_the_follower_is_busy)
{
	struct site *s = site_open();
	unsigned by_follower;

	site_be_followed(s);
	atomic_store(&s->stuck, true);
	/* The follower gets one, which is answered, and does not come back. */
	by_follower = atomic_load(&s->by_follower);
	for (unsigned i = 0; i < 50 * STREAK; i++) {
		site_ask(s, request_of((uint32_t)gettid()));
		ck_assert(i < STREAK || !crew_is_lone(&s->crew));
	}
	ck_assert_uint_le(atomic_load(&s->by_follower), by_follower + 1);
	atomic_store(&s->stuck, false);
	site_close(s);
}
END_TEST

START_TEST(an_idle_follower_rests)
{
	struct site *s = site_open();

	site_be_followed(s);
	while (crew_is_lone(&s->crew) || atomic_load(&s->receiving))
		nanosleep(&site_pause, NULL);
	site_close(s);
}
END_TEST

START_TEST(after_short_stays_the_pauses_grow)
{
	struct crew crew;
	struct follow f;
	long last = 0;

	ck_assert_int_eq(crew_init(&crew, WORKERS), 0);
	follow_init(&f, &crew);
	for (unsigned i = 0; i < 20; i++) {
		follow_stay_begins(&f);
		atomic_store(&f.starved, i % 2 == 1);
		follow_stay_ends(&f);
		ck_assert_int_ge(f.pause_ms, last);
		last = f.pause_ms;
	}
	ck_assert_int_ge(last, 1000);
	ck_assert_int_le(last, 10000);
	follow_stay_begins(&f);
	f.served = 1000000;
	follow_stay_ends(&f);
	ck_assert_int_eq(f.pause_ms, 0);
	follow_destroy(&f);
	crew_destroy(&crew);
}
END_TEST

START_TEST(busy_processors_are_left_alone)
{
	struct site *s = site_open();

	s->follow.cpus = 0; /* what runs is more than that */
	for (unsigned i = 0; i < 50 * STREAK; i++)
		site_ask(s, request_of((uint32_t)gettid()));
	ck_assert_uint_eq(atomic_load(&s->by_follower), 0);
	site_close(s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("follow");
	TCase *tc = tcase_create("follow");
	cpu_set_t set;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) != 0 || CPU_COUNT(&set) < 2)
		return 77; /* nobody is followed on one processor */
	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, a_lone_caller_is_served_on_its_processor);
	tcase_add_test(tc, another_caller_brings_the_workers_back);
	tcase_add_test(tc, large_requests_are_for_the_workers);
	tcase_add_test(tc, what_nobody_waits_for_does_not_count);
	tcase_add_test(tc, write_back_of_much_is_for_the_workers);
	tcase_add_test(tc, who_waits_ends_it_for_a_while);
	tcase_add_test(tc, a_follower_that_does_not_come_keeps_nobody_waiting);
	tcase_add_test(tc, no_stay_begins_while_the_follower_is_busy);
	tcase_add_test(tc, an_idle_follower_rests);
	tcase_add_test(tc, after_short_stays_the_pauses_grow);
	tcase_add_test(tc, busy_processors_are_left_alone);
	suite_add_tcase(suite, tc);
	return run_suite(suite, CK_FORK_GETENV);
}
