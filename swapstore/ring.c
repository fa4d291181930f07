/* SPDX-License-Identifier: MIT */
/*
 * ring: the pool of I/O contexts and what both engines have in common: choosing an engine, the hook, cutting a
 * request into transfers.  Owns the pool, its contexts and their bounce buffers.  The pool's mutex guards the
 * list of free contexts and nothing else; a context is private to its holder, and the mutex that it passes
 * through on its way from one holder to the next is what orders their use of it.  Called by the page cache's
 * readers and evicters.
 */
#include "swapstore/ring.h"

#include "swapstore/ring_impl.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <sys/mman.h>
#include <time.h>

/* EAGAIN in a row before a synchronous transfer gives up: some six seconds of napping. */
#define RING_SYNC_TRIES 1000

void ring_nap(unsigned tries)
{
	struct timespec ts = { .tv_nsec = 100000L << (tries < 6 ? tries : 6) };

	nanosleep(&ts, NULL);
}

/* A piece of no length would make the kernel answer 0, which means end of file. */
static bool ring_xfer_skip_empty(struct ring_xfer *x)
{
	while (x->iovcnt > 0 && x->iov->iov_len == 0) {
		x->iov++;
		x->iovcnt--;
	}
	return x->iovcnt > 0;
}

bool ring_xfer_init(struct ring_xfer *x, struct ring_req *req)
{
	assert(req->iovcnt >= 1 && req->iovcnt <= IOV_MAX);
	assert(req->offset % RING_ALIGN == 0);
	*x = (struct ring_xfer){ .req = req, .iov = req->iov, .iovcnt = req->iovcnt, .offset = req->offset };
	if (ring_xfer_skip_empty(x))
		return true;
	req->result = 0;
	return false;
}

bool ring_xfer_moved(struct ring_xfer *x, ssize_t res)
{
	if (res <= 0) {
		x->req->result = res < 0 ? (int)res : -EIO;
		return true;
	}
	x->tries = 0;
	x->offset += (uint64_t)res;
	while (x->iovcnt > 0 && (size_t)res >= x->iov->iov_len) {
		res -= (ssize_t)x->iov->iov_len;
		x->iov++;
		x->iovcnt--;
	}
	if (!ring_xfer_skip_empty(x)) {
		assert(res == 0);
		x->req->result = 0;
		return true;
	}
	x->iov->iov_base = (char *)x->iov->iov_base + res;
	x->iov->iov_len -= (size_t)res;
	/* A read that stops inside a sector has met the end of the file; O_DIRECT may call the rest EINVAL. */
	if (x->req->op == RING_READ && x->offset % 512 != 0) {
		x->req->result = -EIO;
		return true;
	}
	return false;
}

/*
 * A page may be written to while it is being written out: its frame is then REDIRTIED and the slot is dropped
 * (frames.h), so what this read of it does not matter, and the thread sanitizer is told to look away.
 */
#ifdef __SANITIZE_THREAD__
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
#else
#define AnnotateIgnoreReadsBegin(file, line)
#define AnnotateIgnoreReadsEnd(file, line)
#endif

static ssize_t ring_pwritev(int fd, const struct ring_xfer *x)
{
	ssize_t res;

	AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
	res = pwritev(fd, x->iov, x->iovcnt, (off_t)x->offset);
	AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
	return res;
}

void ring_xfer_sync(const struct ring_pool *pool, struct ring_xfer *x)
{
	int fd = ring_fd(pool, x->req);

	for (;;) {
		ssize_t res = x->req->op == RING_READ ? preadv(fd, x->iov, x->iovcnt, (off_t)x->offset)
						      : ring_pwritev(fd, x);

		if (res < 0)
			res = -errno;
		if (res == -EINTR)
			continue;
		if (res == -EAGAIN && x->tries < RING_SYNC_TRIES) {
			ring_nap(x->tries++);
			continue;
		}
		if (ring_xfer_moved(x, res))
			return;
	}
}

static void ring_pool_free(struct ring_pool *pool)
{
	for (unsigned i = 0; i < pool->count; i++)
		pthread_cond_destroy(&pool->rings[i].done);
	pthread_cond_destroy(&pool->put);
	pthread_cond_destroy(&pool->freed);
	pthread_mutex_destroy(&pool->lock);
	if (pool->bounce)
		util_unmap(pool->bounce, pool->bounce_bytes);
	util_unmap(pool, pool->map_bytes);
}

static struct ring_pool *ring_pool_alloc(int fd, unsigned count, size_t bounce_bytes, unsigned depth)
{
	size_t bytes = sizeof(struct ring_pool) + count * sizeof(struct ring);
	struct ring_pool *pool = util_map(bytes);

	if (!pool)
		return NULL;
	atomic_store(&pool->fd[0], fd);
	for (unsigned i = 1; i < RING_FILES; i++)
		atomic_store(&pool->fd[i], -1);
	pool->depth = depth;
	pool->count = count;
	pool->map_bytes = bytes;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->freed, NULL);
	pthread_cond_init(&pool->put, NULL);
	for (unsigned i = 0; i < count; i++)
		pthread_cond_init(&pool->rings[i].done, NULL);
	if (bounce_bytes) {
		pool->bounce_bytes = count * bounce_bytes;
		pool->bounce = util_map(pool->bounce_bytes);
		if (!pool->bounce) {
			ring_pool_free(pool);
			return NULL;
		}
		/*
		 * A registered buffer is pinned in this process; a forked child would see a copy that the ring
		 * does not write to.  Better that it sees nothing.
		 */
		(void)madvise(pool->bounce, pool->bounce_bytes, MADV_DONTFORK);
	}
	for (unsigned i = count; i-- > 0;) {
		struct ring *ring = &pool->rings[i];

		ring->pool = pool;
		ring->bounce = bounce_bytes ? (char *)pool->bounce + i * bounce_bytes : NULL;
		ring->bounce_bytes = bounce_bytes;
		ring->next_free = pool->free;
		pool->free = ring;
	}
	return pool;
}

int ring_pool_create(int fd, enum ring_engine engine, unsigned count, size_t bounce_bytes, unsigned depth,
		     struct ring_pool **out)
{
	struct ring_pool *pool;
	size_t all;
	int rc = -ENOSYS;

	if (fd < 0 || count == 0 || depth == 0 || depth > INT_MAX || bounce_bytes % RING_ALIGN != 0 ||
	    engine < RING_AUTO || engine > RING_THREADS || __builtin_mul_overflow(bounce_bytes, count, &all))
		return -EINVAL;
	pool = ring_pool_alloc(fd, count, bounce_bytes, depth);
	if (!pool)
		return -ENOMEM;
	if (engine != RING_THREADS) {
		pool->ops = &ring_uring_ops;
		rc = pool->ops->start(pool);
	}
	if (engine == RING_THREADS || (engine == RING_AUTO && rc < 0)) {
		pool->ops = &ring_threads_ops;
		rc = pool->ops->start(pool);
	}
	if (rc < 0) {
		ring_pool_free(pool);
		return rc;
	}
	*out = pool;
	return 0;
}

void ring_pool_destroy(struct ring_pool *pool)
{
	if (!pool)
		return;
	for (unsigned i = 0; i < pool->count; i++)
		assert(!pool->rings[i].held);
	pool->ops->stop(pool);
	ring_pool_free(pool);
}

void ring_pool_set_hook(struct ring_pool *pool, const struct ring_hook *hook)
{
	pool->hook = hook ? *hook : (struct ring_hook){ .before = NULL };
}

enum ring_engine ring_pool_engine(const struct ring_pool *pool)
{
	return pool->ops->engine;
}

size_t ring_pool_bytes(const struct ring_pool *pool)
{
	return pool->map_bytes + util_map_bytes(pool->bounce_bytes) + pool->engine_bytes;
}

struct ring *ring_get(struct ring_pool *pool)
{
	struct ring *ring;

	pthread_mutex_lock(&pool->lock);
	while (!pool->free) {
		util_wait_begin();
		pthread_cond_wait(&pool->freed, &pool->lock);
		util_wait_end();
	}
	/* Last put back, first taken: its memory is the likeliest to be in the processor's caches. */
	ring = pool->free;
	pool->free = ring->next_free;
	ring->next_free = NULL;
	assert(!ring->held);
	ring->held = true;
	pthread_mutex_unlock(&pool->lock);
	return ring;
}

void ring_put(struct ring_pool *pool, struct ring *ring)
{
	assert(ring->pool == pool);
	pthread_mutex_lock(&pool->lock);
	assert(ring->held);
	ring->held = false;
	ring->puts++;
	ring->next_free = pool->free;
	pool->free = ring;
	pthread_cond_signal(&pool->freed);
	if (pool->quiescing)
		pthread_cond_broadcast(&pool->put);
	pthread_mutex_unlock(&pool->lock);
}

void ring_pool_set_file(struct ring_pool *pool, unsigned file, int fd)
{
	assert(file < RING_FILES);
	atomic_store(&pool->fd[file], fd);
	if (pool->ops->set_file)
		pool->ops->set_file(pool, file, fd);
}

void ring_pool_quiesce(struct ring_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->quiescing++;
	for (unsigned i = 0; i < pool->count; i++) {
		struct ring *ring = &pool->rings[i];
		uint64_t puts = ring->puts;

		while (ring->held && ring->puts == puts)
			pthread_cond_wait(&pool->put, &pool->lock);
	}
	pool->quiescing--;
	pthread_mutex_unlock(&pool->lock);
}

void *ring_bounce(struct ring *ring, size_t *bytes)
{
	*bytes = ring->bounce_bytes;
	return ring->bounce;
}

void ring_run(struct ring *ring, struct ring_req *reqs, unsigned n)
{
	const struct ring_hook *hook = &ring->pool->hook;
	unsigned pending = 0;

	assert(ring->held);
	util_wait_begin();
	for (unsigned i = 0; i < n; i++) {
		assert(reqs[i].file < RING_FILES && ring_fd(ring->pool, &reqs[i]) >= 0);
		int rc = hook->before ? hook->before(hook->ctx, &reqs[i]) : 0;

		assert(rc <= 0);
		reqs[i].result = rc < 0 ? rc : RING_PENDING;
		pending += rc == 0;
	}
	if (pending)
		ring->pool->ops->run(ring, reqs, n);
	util_wait_end();
	for (unsigned i = 0; i < n; i++)
		assert(reqs[i].result <= 0);
}
