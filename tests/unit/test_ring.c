/* SPDX-License-Identifier: MIT */
/*
 * test_ring: the ring as its callers see it, each test with both engines.  Owns nothing but an unnamed file in
 * $TMPDIR, and needs no lock: check runs each test in its own process.  The kernel's
 * rarer answers come from ring_spoil.h.
 *
 * SPILLFS_TEST_SEED repeats a run.
 */
#include "swapstore/ring.h"

#include "tests/unit/ring_kit.h"
#include "tests/unit/ring_spoil.h"
#include "tests/unit/run.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- tests ------------------------------------------------------------------------------------------------- */

START_TEST(bad_arguments_are_refused)
{
	struct ring_pool *pool = NULL;
	int fd = temp_file(PAGE);

	ck_assert_int_eq(ring_pool_create(-1, RING_AUTO, 1, 0, 1, &pool), -EINVAL);
	ck_assert_int_eq(ring_pool_create(fd, RING_AUTO, 0, 0, 1, &pool), -EINVAL);
	ck_assert_int_eq(ring_pool_create(fd, RING_AUTO, 1, 100, 1, &pool), -EINVAL);
	ck_assert_int_eq(ring_pool_create(fd, RING_AUTO, 1, 0, 0, &pool), -EINVAL);
	ck_assert_int_eq(ring_pool_create(fd, RING_AUTO, 4, SIZE_MAX / 2 / PAGE * PAGE, 1, &pool), -EINVAL);
	ck_assert_int_eq(ring_pool_create(fd, RING_THREADS, 1, (size_t)1 << 60, 1, &pool), -ENOMEM);
	ck_assert_ptr_null(pool);
	close(fd);
}
END_TEST

START_TEST(contexts_have_their_own_aligned_bounce_buffers)
{
	struct ring *ring[3];
	char *mem[3];
	int fd = temp_file(PAGE);
	unsigned tasks, fds;
	POOL_OR_SKIP(first, _i, fd, 1, 0, 4); /* a sanitizer starts its own thread with the first of ours */

	ring_pool_destroy(first);
	tasks = count_dir("/proc/self/task");
	fds = count_dir("/proc/self/fd");
	POOL_OR_SKIP(pool, _i, fd, 3, 8 * PAGE, 4);

	ck_assert_uint_ge(ring_pool_bytes(pool), 3 * 8 * PAGE);
	for (int i = 0; i < 3; i++) {
		size_t bytes;

		ring[i] = ring_get(pool);
		mem[i] = ring_bounce(ring[i], &bytes);
		ck_assert_uint_eq(bytes, 8 * PAGE);
		ck_assert_uint_eq((uintptr_t)mem[i] % PAGE, 0);
		memset(mem[i], i + 1, bytes);
	}
	for (int i = 0; i < 3; i++) {
		for (size_t j = 0; j < 8 * PAGE; j++)
			ck_assert_int_eq(mem[i][j], i + 1);
	}
	ring_put(pool, ring[2]);
	ring_put(pool, ring[0]);
	ck_assert_ptr_eq(ring_get(pool), ring[0]); /* last in, first out */
	ring_put(pool, ring[0]);
	ring_put(pool, ring[1]);
	ring_pool_destroy(pool);
	/* Nothing is left behind; a thread that has been joined may take a moment to leave the list. */
	for (int i = 0; i < 200 && count_dir("/proc/self/task") > tasks; i++)
		usleep(10000);
	ck_assert_uint_le(count_dir("/proc/self/task"), tasks);
	ck_assert_uint_eq(count_dir("/proc/self/fd"), fds);
	close(fd);
}
END_TEST

START_TEST(patterns_come_back_at_every_size)
{
	static const size_t sizes[] = { 1, 2, 3, 7, 8, 9, 31, 64, 255, 256, 1024, 1500 };
	const size_t all = 1500 * PAGE;
	int fd = temp_file(all);
	char *model = pages(all), *mem = pages(all);
	struct iovec iov[IOV_MAX];
	POOL_OR_SKIP(pool, _i, fd, 1, 256 * PAGE, 16);
	struct ring *ring = ring_get(pool);

	seed();
	for (unsigned percent = 0; percent <= 60; percent += 30) {
		atomic_store(&spoil_percent, percent);
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			size_t bytes = sizes[s] * PAGE, spare;
			uint64_t offset = spoil_random() % (1501 - sizes[s]) * PAGE;
			char *bounce = ring_bounce(ring, &spare);
			bool bounced = bytes <= spare && s % 2;
			char *from = bounced ? bounce : mem;
			int max = 1 + (int)(spoil_random() % (sizes[s] < IOV_MAX ? sizes[s] : IOV_MAX));
			struct ring_req req = { .op = RING_WRITE, .offset = offset, .iov = iov };

			fill(from, bytes);
			memcpy(model + offset, from, bytes);
			req.iovcnt = cut_iov(iov, max, from, sizes[s]);
			ring_run(ring, &req, 1);
			ck_assert_int_eq(req.result, 0);
			memset(from, 0x55, bytes);
			req.op = RING_READ;
			req.iovcnt = cut_iov(iov, max, from, sizes[s]);
			ring_run(ring, &req, 1);
			ck_assert_int_eq(req.result, 0);
			ck_assert(memcmp(from, model + offset, bytes) == 0);
		}
	}
	same_on_disk(fd, model, all);
	ring_put(pool, ring);
	ring_pool_destroy(pool);
	close(fd);
}
END_TEST

START_TEST(a_batch_may_exceed_the_depth)
{
	enum { N = 500 };
	static struct iovec iov[N];
	static struct ring_req req[N];
	int fd = temp_file(N * PAGE);
	char *model = pages(N * PAGE), *mem = pages(N * PAGE);
	POOL_OR_SKIP(pool, _i, fd, 1, 0, 4);
	struct ring *ring = ring_get(pool);

	seed();
	fill(model, N * PAGE);
	for (int pass = 0; pass < 4; pass++) {
		bool reading = pass % 2;

		atomic_store(&spoil_percent, pass < 2 ? 0 : 30);
		memcpy(mem, model, N * PAGE);
		if (reading)
			memset(mem, 0, N * PAGE);
		for (unsigned i = 0; i < N; i++) {
			unsigned at = i * 7 % N; /* every page once, out of order */

			iov[i] = (struct iovec){ .iov_base = mem + at * PAGE, .iov_len = PAGE };
			req[i] = (struct ring_req){ .op = reading ? RING_READ : RING_WRITE,
						    .offset = (uint64_t)at * PAGE,
						    .iov = &iov[i],
						    .iovcnt = 1,
						    .result = -1 };
		}
		ring_run(ring, req, N);
		for (unsigned i = 0; i < N; i++)
			ck_assert_int_eq(req[i].result, 0);
		ck_assert(memcmp(mem, model, N * PAGE) == 0);
	}
	same_on_disk(fd, model, N * PAGE);
	ring_put(pool, ring);
	ring_pool_destroy(pool);
	close(fd);
}
END_TEST

START_TEST(a_read_past_the_end_fails_alone)
{
	static const uint64_t at[] = { 0, 9, 10, 8, 1000, 4 };
	struct iovec iov[6];
	struct ring_req req[6];
	char *mem = pages(12 * PAGE), *model = pages(10 * PAGE);
	int fd = temp_file(10 * PAGE);
	POOL_OR_SKIP(pool, _i, fd, 1, 0, 8);
	struct ring *ring = ring_get(pool);

	fill(model, 10 * PAGE);
	ck_assert_int_eq(do_one(ring, RING_WRITE, model, 10 * PAGE, 0), 0);
	for (int odd = 0; odd < 2; odd++) {
		/* The second time the file ends inside a sector. */
		ck_assert_int_eq(ftruncate(fd, 10 * PAGE + odd * 100), 0);
		for (int i = 0; i < 6; i++) {
			iov[i] = (struct iovec){ .iov_base = mem + 2 * i * PAGE, .iov_len = 2 * PAGE };
			req[i] = (struct ring_req){ .offset = at[i] * PAGE, .iov = &iov[i], .iovcnt = 1, .result = -1 };
		}
		ring_run(ring, req, 6);
		for (int i = 0; i < 6; i++) {
			bool inside = at[i] + 2 <= 10;

			ck_assert_int_eq(req[i].result, inside ? 0 : -EIO);
			if (inside)
				ck_assert(memcmp(mem + 2 * i * PAGE, model + at[i] * PAGE, 2 * PAGE) == 0);
		}
	}
	ring_put(pool, ring);
	ring_pool_destroy(pool);
	close(fd);
}
END_TEST

START_TEST(a_file_opened_the_wrong_way_says_so)
{
	char path[64], *mem = pages(PAGE);
	int fd = temp_file(4 * PAGE), ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ck_assert_int_ge(ro, 0);
	POOL_OR_SKIP(pool, _i, ro, 1, 0, 4);
	struct ring *ring = ring_get(pool);

	ck_assert_int_eq(do_one(ring, RING_READ, mem, PAGE, 0), 0);
	ck_assert_int_eq(do_one(ring, RING_WRITE, mem, PAGE, 0), -EBADF);
	close(ro);
	if (engine_of(_i) == RING_THREADS) /* a registered file outlives its descriptor */
		ck_assert_int_eq(do_one(ring, RING_READ, mem, PAGE, 0), -EBADF);
	ring_put(pool, ring);
	ring_pool_destroy(pool);
	close(fd);
}
END_TEST

/* Fails the nth request it sees, from 1 on. */
struct nth {
	unsigned seen, fail;
};

static int fail_nth(void *ctx, const struct ring_req *req)
{
	struct nth *nth = ctx;

	ck_assert_int_eq(req->iovcnt, 1);
	return ++nth->seen == nth->fail ? -ENOLINK : 0;
}

START_TEST(the_hook_fails_one_request_and_nothing_else)
{
	enum { N = 20 };
	struct iovec iov[N];
	struct ring_req req[N];
	struct nth nth;
	struct ring_hook hook = { .before = fail_nth, .ctx = &nth };
	char *mem = pages(N * PAGE), *want = pages(N * PAGE);
	int fd = temp_file(N * PAGE);
	POOL_OR_SKIP(pool, _i, fd, 1, 0, 4);
	struct ring *ring = ring_get(pool);

	ring_pool_set_hook(pool, &hook);
	for (unsigned fail = 1; fail <= N + 1; fail++) {
		nth = (struct nth){ .fail = fail };
		memset(mem, (int)fail, N * PAGE);
		for (unsigned i = 0; i < N; i++) {
			iov[i] = (struct iovec){ .iov_base = mem + i * PAGE, .iov_len = PAGE };
			req[i] = (struct ring_req){
				.op = RING_WRITE, .offset = i * PAGE, .iov = &iov[i], .iovcnt = 1, .result = -1
			};
			if (i + 1 != fail)
				memset(want + i * PAGE, (int)fail, PAGE);
		}
		ring_run(ring, req, N);
		ck_assert_uint_eq(nth.seen, N);
		for (unsigned i = 0; i < N; i++)
			ck_assert_int_eq(req[i].result, i + 1 == fail ? -ENOLINK : 0);
		same_on_disk(fd, want, N * PAGE);
	}
	ring_pool_set_hook(pool, NULL);
	ck_assert_int_eq(do_one(ring, RING_WRITE, mem, PAGE, 0), 0);
	ck_assert_uint_eq(nth.seen, N);
	ring_put(pool, ring);
	ring_pool_destroy(pool);
	close(fd);
}
END_TEST

START_TEST(each_request_takes_the_cheapest_way)
{
	struct iovec iov[6];
	struct ring_req req[4];
	char *bounce, *mem = pages(4 * PAGE);
	unsigned enters;
	size_t bytes;
	int fd = temp_file(8 * PAGE);
	POOL_OR_SKIP(pool, 0, fd, 1, 4 * PAGE, 8);
	struct ring *ring = ring_get(pool);

	bounce = ring_bounce(ring, &bytes);
	for (int op = RING_READ; op <= RING_WRITE; op++) {
		memset(spoil_opcodes, 0, sizeof(spoil_opcodes));
		for (int i = 0; i < 4; i++)
			req[i] = (struct ring_req){ .op = (enum ring_op)op, .iov = &iov[i], .iovcnt = i < 3 ? 1 : 2 };
		iov[0] = (struct iovec){ bounce, 4 * PAGE };
		iov[1] = (struct iovec){ bounce + 3 * PAGE, PAGE };
		iov[2] = (struct iovec){ mem, PAGE };
		iov[3] = (struct iovec){ bounce, PAGE };
		iov[4] = (struct iovec){ mem + PAGE, PAGE };
		enters = atomic_load(&spoil_enters);
		ring_run(ring, req, 4);
		ck_assert_uint_eq(atomic_load(&spoil_enters), enters + 1);
		ck_assert_uint_eq(spoil_opcodes[op == RING_READ ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED], 2);
		ck_assert_uint_eq(spoil_opcodes[op == RING_READ ? IORING_OP_READ : IORING_OP_WRITE], 1);
		ck_assert_uint_eq(spoil_opcodes[op == RING_READ ? IORING_OP_READV : IORING_OP_WRITEV], 1);
	}
	ring_put(pool, ring);
	ring_pool_destroy(pool);
	close(fd);
}
END_TEST

/* The ways io_uring_enter can go wrong, and whether the ring must survive it. */
static const struct {
	const char *name;
	int how, error;
	unsigned times;
	bool eagain, survives;
} trouble[] = {
	{ "refused for want of memory, five times", SPOIL_REFUSE, -ENOMEM, 5, false, true },
	{ "EBUSY and EAGAIN with requests in flight", SPOIL_SUBMIT_THEN_REFUSE, -EBUSY, 3, false, true },
	{ "interrupted", SPOIL_SUBMIT_THEN_REFUSE, -EINTR, 3, false, true },
	{ "refused for want of memory, for ever", SPOIL_REFUSE, -ENOMEM, UINT_MAX, false, false },
	{ "forbidden", SPOIL_REFUSE, -EPERM, UINT_MAX, false, false },
	{ "forbidden with requests in flight", SPOIL_SUBMIT_THEN_REFUSE, -EPERM, UINT_MAX, false, false },
	{ "completions lost", SPOIL_LOSE_ALL_THEN_REFUSE, -EBADR, 1, false, false },
	{ "every completion says EAGAIN", SPOIL_REFUSE, 0, 0, true, true },
};

START_TEST(trouble_with_io_uring_loses_no_request)
{
	enum { N = 64 };
	static struct iovec iov[N];
	static struct ring_req req[N];
	char *mem = pages(N * PAGE), *model = pages(N * PAGE);
	int fd = temp_file(N * PAGE);
	POOL_OR_SKIP(pool, 0, fd, 1, 0, 16);
	struct ring *ring = ring_get(pool);
	unsigned enters;

	fill(model, N * PAGE);
	for (int op = RING_WRITE; op >= RING_READ; op--) {
		if (op == RING_WRITE)
			memcpy(mem, model, N * PAGE);
		else
			memset(mem, 0, N * PAGE);
		for (unsigned i = 0; i < N; i++) {
			iov[i] = (struct iovec){ mem + i * PAGE, PAGE };
			req[i] = (struct ring_req){
				.op = (enum ring_op)op, .offset = i * PAGE, .iov = &iov[i], .iovcnt = 1, .result = -1
			};
		}
		if (op == RING_READ || trouble[_i].survives) {
			spoil.how = trouble[_i].how;
			spoil.error = trouble[_i].error;
			spoil.times = trouble[_i].times;
			spoil.eagain = trouble[_i].eagain;
		}
		ring_run(ring, req, N);
		for (unsigned i = 0; i < N; i++)
			ck_assert_msg(req[i].result == 0, "%s: request %u: %d", trouble[_i].name, i, req[i].result);
		ck_assert_msg(memcmp(mem, model, N * PAGE) == 0, "%s", trouble[_i].name);
	}
	same_on_disk(fd, model, N * PAGE);
	/* A broken ring is not tried again; one that was only held up is. */
	memset(&spoil, 0, sizeof(spoil));
	enters = atomic_load(&spoil_enters);
	ck_assert_int_eq(do_one(ring, RING_READ, mem, PAGE, 0), 0);
	ck_assert_uint_eq(atomic_load(&spoil_enters) - enters, trouble[_i].survives);
	ring_put(pool, ring);
	ring_pool_destroy(pool);
	close(fd);
}
END_TEST

/* --- four threads, two contexts ----------------------------------------------------------------------------- */

#define SHARE_PAGES 256U

struct sharer {
	struct ring_pool *pool;
	atomic_int *holders;
	char *model, *mem;
	uint64_t base, seed;
	unsigned batches, bad;
};

static void *share(void *arg)
{
	struct sharer *s = arg;
	struct iovec iov[8][4];
	struct ring_req req[8];

	spoil_rng = s->seed;
	for (unsigned b = 0; b < s->batches; b++) {
		unsigned n = 1 + spoil_random() % 8, part = SHARE_PAGES / n;
		struct ring *ring = ring_get(s->pool);

		s->bad += atomic_fetch_add(s->holders, 1) >= 2;
		for (unsigned i = 0; i < n; i++) {
			unsigned np = 1 + spoil_random() % (part < 12 ? part : 12);
			unsigned first = i * part + spoil_random() % (part - np + 1);

			req[i] = (struct ring_req){ .op = spoil_random() % 2 ? RING_READ : RING_WRITE,
						    .offset = s->base + first * PAGE,
						    .iov = iov[i],
						    .result = -1 };
			if (req[i].op == RING_WRITE)
				fill(s->model + first * PAGE, np * PAGE);
			memcpy(s->mem + first * PAGE, s->model + first * PAGE, np * PAGE);
			if (req[i].op == RING_READ)
				memset(s->mem + first * PAGE, 0xee, np * PAGE);
			req[i].iovcnt = cut_iov(iov[i], 4, s->mem + first * PAGE, np);
		}
		ring_run(ring, req, n);
		atomic_fetch_sub(s->holders, 1);
		ring_put(s->pool, ring);
		for (unsigned i = 0; i < n; i++)
			s->bad += req[i].result != 0;
		s->bad += memcmp(s->mem, s->model, SHARE_PAGES * PAGE) != 0;
	}
	return NULL;
}

START_TEST(threads_share_contexts_and_find_what_they_wrote)
{
	enum { T = 4 };
	const size_t own = SHARE_PAGES * PAGE;
	struct sharer s[T];
	pthread_t thread[T];
	atomic_int holders = 0;
	int fd = temp_file(T * own);
	char *model = pages(T * own), *mem = pages(T * own);
	POOL_OR_SKIP(pool, _i, fd, 2, 4 * PAGE, 4);
	uint64_t first = seed();

	atomic_store(&spoil_percent, 5);
	for (unsigned i = 0; i < T; i++) {
		s[i] = (struct sharer){ .pool = pool,
					.holders = &holders,
					.model = model + i * own,
					.mem = mem + i * own,
					.base = i * own,
					.seed = first + i * 7919 + 1,
					.batches = 1000 };
		ck_assert_int_eq(pthread_create(&thread[i], NULL, share, &s[i]), 0);
	}
	for (unsigned i = 0; i < T; i++) {
		ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
		ck_assert_uint_eq(s[i].bad, 0);
	}
	same_on_disk(fd, model, T * own);
	ring_pool_destroy(pool);
	close(fd);
}
END_TEST

/* --- where io_uring is refused ------------------------------------------------------------------------------ */

/* Does a pool do its work?  An exit status. */
static int child_uses(struct ring_pool *pool)
{
	struct ring *ring = ring_get(pool);
	size_t bytes;
	char *mem = ring_bounce(ring, &bytes);

	memset(mem, 0x42, PAGE);
	CHILD_ASSERT(do_one(ring, RING_WRITE, mem, PAGE, PAGE) == 0);
	memset(mem, 0, PAGE);
	CHILD_ASSERT(do_one(ring, RING_READ, mem, PAGE, PAGE) == 0);
	CHILD_ASSERT(mem[0] == 0x42 && mem[PAGE - 1] == 0x42);
	ring_put(pool, ring);
	ring_pool_destroy(pool);
	return 0;
}

static int child_forbidden(int call)
{
	int fd = temp_file(2 * PAGE);
	struct ring_pool *pool = NULL;

	CHILD_ASSERT(forbid(call) == 0);
	CHILD_ASSERT(ring_pool_create(fd, RING_URING, 2, PAGE, 4, &pool) < 0 && !pool);
	CHILD_ASSERT(call != SYS_io_uring_setup || ring_pool_create(fd, RING_URING, 2, PAGE, 4, &pool) == -EPERM);
	CHILD_ASSERT(ring_pool_create(fd, RING_AUTO, 2, PAGE, 4, &pool) == 0);
	CHILD_ASSERT(ring_pool_engine(pool) == RING_THREADS);
	return child_uses(pool);
}

START_TEST(a_container_that_forbids_io_uring_gets_threads)
{
	in_child(child_forbidden, SYS_io_uring_setup);
	in_child(child_forbidden, SYS_io_uring_enter);
	in_child(child_forbidden, SYS_io_uring_register);
}
END_TEST

static int child_few_files(int unused)
{
	int fd = temp_file(2 * PAGE), probe = dup(fd);
	struct rlimit limit = { .rlim_cur = (rlim_t)probe + 2, .rlim_max = (rlim_t)probe + 2 };
	struct ring_pool *pool = NULL;

	(void)unused;
	close(probe);
	CHILD_ASSERT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	CHILD_ASSERT(ring_pool_create(fd, RING_URING, 3, PAGE, 4, &pool) == -EMFILE && !pool);
	CHILD_ASSERT(dup(fd) == probe && close(probe) == 0); /* what was opened is closed again */
	CHILD_ASSERT(ring_pool_create(fd, RING_AUTO, 3, PAGE, 4, &pool) == 0);
	CHILD_ASSERT(ring_pool_engine(pool) == RING_THREADS);
	return child_uses(pool);
}

START_TEST(a_pool_that_gets_some_rings_only_gives_them_back)
{
	POOL_OR_SKIP(pool, 0, temp_file(PAGE), 1, 0, 1);
	ring_pool_destroy(pool);
	in_child(child_few_files, 0);
}
END_TEST

/* How many of the pool's four buffers are registered?  -1: one could not be read into. */
static int count_fixed(struct ring_pool *pool)
{
	unsigned before = atomic_load(&spoil_opcodes[IORING_OP_READ_FIXED]);
	struct ring *ring[4];
	bool good = true;
	size_t bytes;

	for (int i = 0; i < 4; i++) {
		ring[i] = ring_get(pool);
		good = do_one(ring[i], RING_READ, ring_bounce(ring[i], &bytes), PAGE, 0) == 0 && good;
	}
	for (int i = 0; i < 4; i++)
		ring_put(pool, ring[i]);
	return good ? (int)(atomic_load(&spoil_opcodes[IORING_OP_READ_FIXED]) - before) : -1;
}

/*
 * kib of memory may be locked: how many of four 32 KiB buffers get registered?  What is locked is counted for a
 * user, and given back a moment after a ring is closed: so root takes a user whom nobody else is, and others look
 * again.
 */
static int child_little_locked_memory(int kib)
{
	const int want = kib < 64 ? 0 : kib < 512 ? 2 : 4;
	const uid_t fresh = 1000000 + (uid_t)getpid();
	int fd = temp_file(2 * PAGE), fixed = -1;
	struct rlimit limit = { (rlim_t)kib << 10, (rlim_t)kib << 10 };
	struct ring_pool *pool = NULL;
	bool root = geteuid() == 0;

	CHILD_ASSERT(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
	CHILD_ASSERT(!root || setresuid(fresh, fresh, fresh) == 0);
	for (int i = 0; i < (root ? 1 : 40) && fixed != want; i++) {
		if (pool) {
			ring_pool_destroy(pool);
			usleep(50000);
		}
		CHILD_ASSERT(ring_pool_create(fd, RING_AUTO, 4, 8 * PAGE, 4, &pool) == 0);
		CHILD_ASSERT(kib == 0 || !root || ring_pool_engine(pool) == RING_URING);
		fixed = count_fixed(pool);
		CHILD_ASSERT(fixed >= 0);
	}
	CHILD_ASSERT(fixed == want);
	return child_uses(pool);
}

START_TEST(little_locked_memory_means_fewer_registered_buffers_and_no_failure)
{
	POOL_OR_SKIP(pool, 0, temp_file(PAGE), 1, 0, 1);
	ring_pool_destroy(pool);
	in_child(child_little_locked_memory, 512);
	in_child(child_little_locked_memory, 160);
	in_child(child_little_locked_memory, 0);
}
END_TEST

START_TEST(a_destroyed_pool_has_let_go_of_the_file)
{
	char path[64];
	int one = temp_file(4 * PAGE), two;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", one);
	two = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(two, 0);
	ck_assert_int_eq(flock(one, LOCK_EX | LOCK_NB), 0);
	ck_assert_int_eq(flock(two, LOCK_EX | LOCK_NB), -1);
	POOL_OR_SKIP(pool, _i, one, 4, 4 * PAGE, 4);
	struct ring *ring = ring_get(pool);
	size_t bytes;

	ck_assert_int_eq(do_one(ring, RING_READ, ring_bounce(ring, &bytes), 4 * PAGE, 0), 0);
	ring_put(pool, ring);
	ring_pool_destroy(pool);
	close(one);
	ck_assert_int_eq(flock(two, LOCK_EX | LOCK_NB), 0);
	close(two);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ring");
	TCase *tc = tcase_create("ring");
	const int engines = 2, troubles = (int)(sizeof(trouble) / sizeof(trouble[0]));

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, bad_arguments_are_refused);
	tcase_add_loop_test(tc, contexts_have_their_own_aligned_bounce_buffers, 0, engines);
	tcase_add_loop_test(tc, patterns_come_back_at_every_size, 0, engines);
	tcase_add_loop_test(tc, a_batch_may_exceed_the_depth, 0, engines);
	tcase_add_loop_test(tc, a_read_past_the_end_fails_alone, 0, engines);
	tcase_add_loop_test(tc, a_file_opened_the_wrong_way_says_so, 0, engines);
	tcase_add_loop_test(tc, the_hook_fails_one_request_and_nothing_else, 0, engines);
	tcase_add_test(tc, each_request_takes_the_cheapest_way);
	tcase_add_loop_test(tc, trouble_with_io_uring_loses_no_request, 0, troubles);
	tcase_add_loop_test(tc, threads_share_contexts_and_find_what_they_wrote, 0, engines);
	tcase_add_test(tc, a_container_that_forbids_io_uring_gets_threads);
	tcase_add_test(tc, a_pool_that_gets_some_rings_only_gives_them_back);
	tcase_add_test(tc, little_locked_memory_means_fewer_registered_buffers_and_no_failure);
	tcase_add_loop_test(tc, a_destroyed_pool_has_let_go_of_the_file, 0, engines);
	suite_add_tcase(suite, tc);
	return run_suite(suite, CK_FORK_GETENV);
}
