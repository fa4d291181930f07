/* SPDX-License-Identifier: MIT */
/*
 * ring_threads: the engine for where io_uring is refused: preadv and pwritev, and a team of helper threads that
 * all contexts of a pool share.  Owns the team and its list of open batches, guarded by the team's mutex, which
 * is never held across I/O.  The caller always works on its own batch, so it gets done even if every helper is
 * busy elsewhere; helpers only make it sooner.  Called by ring.c.
 */
#include "swapstore/ring_impl.h"

#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <utlist.h>

#define RING_HELPERS 4U

/* One call of run(); lives on the caller's stack, on the list while any request of it is unclaimed. */
struct ring_batch {
	/* set before it is listed */
	struct ring_req *reqs;
	unsigned n;
	const struct ring_pool *pool;
	pthread_cond_t *done;
	/* under the team's lock */
	unsigned next; /* the first unclaimed request, n when all are claimed */
	unsigned busy; /* claimed by a helper and not finished */
	struct ring_batch *list_prev, *list_next;
};

struct ring_team {
	/* set at creation */
	pthread_t threads[RING_HELPERS];
	unsigned count;
	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t work;  /* a batch was listed, or stop */
	pthread_cond_t ready; /* a helper has its stack in memory */
	unsigned nready;
	bool stop;
	struct ring_batch *batches;
};

/* Moves next on to a request that wants doing. */
static void ring_batch_skip(struct ring_batch *b)
{
	while (b->next < b->n && b->reqs[b->next].result != RING_PENDING)
		b->next++;
}

/* Takes the next request; delists the batch with its last.  NULL when all are claimed. */
static struct ring_req *ring_batch_claim_locked(struct ring_team *team, struct ring_batch *b)
{
	struct ring_req *req;

	assert(pthread_mutex_trylock(&team->lock) == EBUSY);
	if (b->next == b->n)
		return NULL;
	req = &b->reqs[b->next++];
	ring_batch_skip(b);
	if (b->next == b->n)
		DL_DELETE2(team->batches, b, list_prev, list_next);
	return req;
}

static void ring_threads_do(const struct ring_pool *pool, struct ring_req *req)
{
	struct ring_xfer x;

	if (ring_xfer_init(&x, req))
		ring_xfer_sync(pool, &x);
}

static void *ring_helper(void *arg)
{
	struct ring_team *team = arg;

	util_touch_stack();
	pthread_mutex_lock(&team->lock);
	team->nready++;
	pthread_cond_signal(&team->ready);
	for (;;) {
		struct ring_batch *b = team->batches;
		struct ring_req *req;

		if (!b) {
			if (team->stop)
				break;
			pthread_cond_wait(&team->work, &team->lock);
			continue;
		}
		req = ring_batch_claim_locked(team, b);
		assert(req);
		b->busy++;
		pthread_mutex_unlock(&team->lock);
		ring_threads_do(b->pool, req);
		pthread_mutex_lock(&team->lock);
		/* Once busy is 0 and the lock is released, b may be gone. */
		if (--b->busy == 0)
			pthread_cond_signal(b->done);
	}
	pthread_mutex_unlock(&team->lock);
	return NULL;
}

static void ring_threads_share(struct ring *ring, struct ring_batch *b)
{
	struct ring_team *team = ring->pool->team;
	struct ring_req *req;

	pthread_mutex_lock(&team->lock);
	DL_APPEND2(team->batches, b, list_prev, list_next);
	pthread_cond_broadcast(&team->work);
	while ((req = ring_batch_claim_locked(team, b))) {
		pthread_mutex_unlock(&team->lock);
		ring_threads_do(b->pool, req);
		pthread_mutex_lock(&team->lock);
	}
	while (b->busy)
		pthread_cond_wait(b->done, &team->lock);
	pthread_mutex_unlock(&team->lock);
}

static void ring_threads_run(struct ring *ring, struct ring_req *reqs, unsigned n)
{
	struct ring_batch b = { .reqs = reqs, .n = n, .pool = ring->pool, .done = &ring->done };
	unsigned pending = 0;

	for (unsigned i = 0; i < n; i++)
		pending += reqs[i].result == RING_PENDING;
	if (pending > 1 && ring->pool->team->count > 0) {
		ring_batch_skip(&b);
		ring_threads_share(ring, &b);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		if (reqs[i].result == RING_PENDING)
			ring_threads_do(b.pool, &reqs[i]);
	}
}

static void ring_threads_stop(struct ring_pool *pool)
{
	struct ring_team *team = pool->team;

	pthread_mutex_lock(&team->lock);
	assert(!team->batches);
	team->stop = true;
	pthread_cond_broadcast(&team->work);
	pthread_mutex_unlock(&team->lock);
	for (unsigned i = 0; i < team->count; i++)
		pthread_join(team->threads[i], NULL);
	pthread_cond_destroy(&team->ready);
	pthread_cond_destroy(&team->work);
	pthread_mutex_destroy(&team->lock);
	util_unmap(team, sizeof(*team));
	pool->team = NULL;
	pool->engine_bytes = 0;
}

static int ring_helper_spawn(struct ring_team *team, unsigned i)
{
	char name[16];
	int err = util_thread_start(&team->threads[i], ring_helper, team);

	if (err)
		return err;
	snprintf(name, sizeof(name), "spillfs-io%u", i);
	(void)pthread_setname_np(team->threads[i], name);
	return 0;
}

static int ring_threads_start(struct ring_pool *pool)
{
	unsigned want = pool->depth - 1 < RING_HELPERS ? pool->depth - 1 : RING_HELPERS;
	struct ring_team *team = util_map(sizeof(*team));
	int rc = 0;

	if (!team)
		return -ENOMEM;
	pthread_mutex_init(&team->lock, NULL);
	pthread_cond_init(&team->work, NULL);
	pthread_cond_init(&team->ready, NULL);
	pool->team = team;
	/* Fewer helpers are slower, none at all still works: a refused thread is no reason to fail. */
	while (team->count < want && rc == 0) {
		rc = ring_helper_spawn(team, team->count);
		team->count += rc == 0;
	}
	pthread_mutex_lock(&team->lock);
	while (team->nready < team->count)
		pthread_cond_wait(&team->ready, &team->lock);
	pthread_mutex_unlock(&team->lock);
	pool->engine_bytes = sizeof(*team) + team->count * (size_t)UTIL_STACK_TOUCHED;
	return 0;
}

const struct ring_engine_ops ring_threads_ops = {
	.engine = RING_THREADS,
	.start = ring_threads_start,
	.stop = ring_threads_stop,
	.run = ring_threads_run,
};
