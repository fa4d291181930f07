/* SPDX-License-Identifier: MIT */
/*
 * ring_uring: the io_uring engine: one ring a context, with the swap files and the context's bounce
 * buffer registered where the kernel allows.  Owns the rings and the table of requests in flight.  No lock: a ring
 * belongs to whoever holds its context.  Called by ring.c.
 *
 * A ring has nothing in flight between two calls of run(), so contexts may change threads, which is why the
 * set-up flags that bind a ring to one task are not used.  A ring whose io_uring_enter() fails for good is
 * broken: what it had in flight is waited for without it, and from then on its context does plain preadv and
 * pwritev.
 *
 * The bounce buffer is pinned and the ring bound to this process: create the pool after fork(), not before.
 */
#include "swapstore/ring_impl.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <sys/resource.h>

#define URING_ENTER_TRIES 100 /* refusals for want of memory, in a row: half a second */
#define URING_AGAIN_TRIES 64  /* EAGAINs of one request before it is done synchronously */

/*
 *         start            flight          CQE: over
 *   IDLE ───────> FLYING ─────────> FLYING ─────────> IDLE
 *                   ^                 │ CQE: a part, or EAGAIN
 *                   └─────────────────┘
 */
enum uring_state { URING_IDLE, URING_FLYING };

struct uring_op {
	struct ring_xfer x;
	enum uring_state state;
	unsigned seq; /* its place in the submission queue, counted as the kernel counts */
};

/* All of it private to the holder of the context. */
struct ring_uring {
	struct io_uring ring;
	const struct ring_pool *pool;
	const char *bounce;
	size_t bounce_bytes;
	size_t map_bytes;
	unsigned depth;
	_Atomic uint32_t fixed; /* a bit for each file number that is registered; changed by who changes the file */
	bool files; /* there is a table to register files in */
	bool bounce_fixed;
	bool broken;
	unsigned pause;	  /* most EAGAINs in a row that a queued request has had; 0: enter at once */
	unsigned refused; /* io_uring_enter() calls in a row */
	unsigned flying;
	unsigned nidle;
	uint32_t *idle; /* stack of free places in ops */
	struct uring_op ops[];
};

static bool uring_in_bounce(const struct ring_uring *u, const struct iovec *iov)
{
	const char *base = iov->iov_base;

	return u->bounce_fixed && base >= u->bounce && base < u->bounce + u->bounce_bytes &&
	       iov->iov_len <= (size_t)(u->bounce + u->bounce_bytes - base);
}

/* Puts what is left of op into the submission queue. */
static void uring_queue(struct ring_uring *u, struct uring_op *op)
{
	const struct ring_xfer *x = &op->x;
	bool reading = x->req->op == RING_READ;
	bool fixed = atomic_load_explicit(&u->fixed, memory_order_relaxed) >> x->req->file & 1;
	int fd = fixed ? (int)x->req->file : ring_fd(u->pool, x->req);
	unsigned seq = u->ring.sq.sqe_tail;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	void *base = x->iov->iov_base;
	unsigned len = x->iov->iov_len < RING_PIECE_MAX ? (unsigned)x->iov->iov_len : RING_PIECE_MAX;

	assert(sqe); /* the queue has at least depth places */
	if (x->iovcnt > 1 && reading)
		io_uring_prep_readv(sqe, fd, x->iov, (unsigned)x->iovcnt, x->offset);
	else if (x->iovcnt > 1)
		io_uring_prep_writev(sqe, fd, x->iov, (unsigned)x->iovcnt, x->offset);
	else if (uring_in_bounce(u, x->iov) && reading)
		io_uring_prep_read_fixed(sqe, fd, base, len, x->offset, 0);
	else if (uring_in_bounce(u, x->iov))
		io_uring_prep_write_fixed(sqe, fd, base, len, x->offset, 0);
	else if (reading)
		io_uring_prep_read(sqe, fd, base, len, x->offset);
	else
		io_uring_prep_write(sqe, fd, base, len, x->offset);
	if (fixed)
		io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data64(sqe, (uint64_t)(op - u->ops));
	op->seq = seq;
	op->state = URING_FLYING;
}

static void uring_start(struct ring_uring *u, struct ring_req *req)
{
	struct ring_xfer x;
	struct uring_op *op;

	if (!ring_xfer_init(&x, req))
		return;
	assert(u->nidle > 0);
	op = &u->ops[u->idle[--u->nidle]];
	op->x = x;
	u->flying++;
	uring_queue(u, op);
}

static void uring_retire(struct ring_uring *u, struct uring_op *op)
{
	assert(op->state == URING_FLYING);
	op->state = URING_IDLE;
	u->flying--;
	u->idle[u->nidle++] = (uint32_t)(op - u->ops);
}

/* One completion: the request is over, or what is left of it goes round again. */
static void uring_complete(struct ring_uring *u, struct uring_op *op, int res)
{
	bool again = res == -EAGAIN || res == -EINTR;

	assert(op->state == URING_FLYING);
	if (!again && ring_xfer_moved(&op->x, res)) {
		uring_retire(u, op);
		return;
	}
	if (u->broken || (again && op->x.tries >= URING_AGAIN_TRIES)) {
		ring_xfer_sync(u->pool, &op->x);
		uring_retire(u, op);
		return;
	}
	if (again) {
		op->x.tries++;
		if (op->x.tries > u->pause)
			u->pause = op->x.tries;
	}
	uring_queue(u, op);
}

static unsigned uring_reap(struct ring_uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned head, seen = 0;

	io_uring_for_each_cqe(&u->ring, head, cqe) {
		struct uring_op *op;

		assert(cqe->user_data < u->depth);
		op = &u->ops[cqe->user_data];
		uring_complete(u, op, cqe->res);
		seen++;
	}
	io_uring_cq_advance(&u->ring, seen);
	return seen;
}

/*
 * The kernel no longer takes calls on this ring.  What it has not taken from the submission queue it never
 * will: done here.  What it has taken will complete into memory that the caller is about to reuse, so that is
 * waited for, however long the disk takes: the completion queue is shared memory and fills without our help
 * (nanosleep() is a trip into the kernel, where a deferred completion gets its turn).  Completions that the
 * kernel counts as lost are over too; their requests are done again.
 */
static void uring_break(struct ring_uring *u)
{
	unsigned taken = io_uring_smp_load_acquire(u->ring.sq.khead);
	unsigned queued = 0, tries = 0;

	u->broken = true;
	for (unsigned i = 0; i < u->depth; i++) {
		struct uring_op *op = &u->ops[i];

		queued += op->state == URING_FLYING && (int)(op->seq - taken) >= 0;
	}
	while (u->flying - queued > io_uring_smp_load_acquire(u->ring.cq.koverflow)) {
		if (uring_reap(u) == 0)
			ring_nap(tries++);
	}
	uring_reap(u);
	for (unsigned i = 0; i < u->depth; i++) {
		struct uring_op *op = &u->ops[i];

		if (op->state == URING_FLYING) {
			ring_xfer_sync(u->pool, &op->x);
			uring_retire(u, op);
		}
	}
}

/* Submits what is queued and waits for at least want completions; leaves the ring broken if that cannot be. */
static void uring_enter(struct ring_uring *u, unsigned want)
{
	int rc;

	if (u->pause) {
		ring_nap(u->pause - 1);
		u->pause = 0;
	}
	rc = io_uring_submit_and_wait(&u->ring, want);
	if (rc >= 0 || rc == -EINTR) {
		u->refused = 0;
	} else if ((rc == -EAGAIN || rc == -EBUSY || rc == -ENOMEM) && u->refused < URING_ENTER_TRIES) {
		ring_nap(u->refused++);
	} else {
		uring_break(u);
	}
}

static void ring_uring_run(struct ring *ring, struct ring_req *reqs, unsigned n)
{
	struct ring_uring *u = ring->uring;
	unsigned next = 0;

	for (;;) {
		while (next < n && !u->broken && u->flying < u->depth) {
			if (reqs[next].result == RING_PENDING)
				uring_start(u, &reqs[next]);
			next++;
		}
		if (u->flying == 0)
			break;
		/* With more to come keep the device busy: half the window is enough to wait for. */
		uring_enter(u, next < n ? (u->flying + 1) / 2 : u->flying);
		uring_reap(u);
	}
	for (; next < n; next++) {
		struct ring_xfer x;

		if (reqs[next].result == RING_PENDING && ring_xfer_init(&x, &reqs[next]))
			ring_xfer_sync(u->pool, &x);
	}
}

/* Newest flags first; older kernels know fewer. */
static int uring_setup(struct io_uring *ring, unsigned depth)
{
	static const unsigned flags[] = {
		IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_CLAMP,
		0,
	};
	int rc = -EINVAL;

	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]) && rc == -EINVAL; i++) {
		struct io_uring_params p = { .flags = flags[i] };

		rc = io_uring_queue_init_params(depth, ring, &p);
	}
	return rc;
}

/* Does it know READ and WRITE (5.6), and does it let a request through at all?  A filter may stop any call. */
static int uring_try(struct io_uring *ring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	bool known;
	int rc;

	known = probe && io_uring_opcode_supported(probe, IORING_OP_READ) &&
		io_uring_opcode_supported(probe, IORING_OP_WRITE);
	io_uring_free_probe(probe);
	if (!known)
		return -ENOSYS;
	sqe = io_uring_get_sqe(ring);
	assert(sqe);
	io_uring_prep_nop(sqe);
	do {
		rc = io_uring_submit_and_wait(ring, 1);
	} while (rc == -EINTR);
	if (rc < 0)
		return rc;
	rc = io_uring_peek_cqe(ring, &cqe);
	if (rc < 0)
		return -EIO; /* it answers, and does nothing */
	rc = cqe->res < 0 ? cqe->res : 0;
	io_uring_cqe_seen(ring, cqe);
	return rc;
}

/* One table of all files that there may be, so that later ones need only be entered. */
static void uring_register_files(struct ring_uring *u)
{
	int fd[RING_FILES];
	uint32_t fixed = 0;

	for (unsigned i = 0; i < RING_FILES; i++) {
		fd[i] = atomic_load(&u->pool->fd[i]);
		fixed |= (uint32_t)(fd[i] >= 0) << i;
	}
	u->files = io_uring_register_files(&u->ring, fd, RING_FILES) == 0;
	atomic_store(&u->fixed, u->files ? fixed : 0);
}

/*
 * Enters the file into every ring's table, or takes it out, which is what lets go of it.  Other threads may be
 * using the rings: the kernel orders that, and nobody uses this number.  Where it fails, plain descriptors do.
 */
static void ring_uring_set_file(struct ring_pool *pool, unsigned file, int fd)
{
	for (unsigned i = 0; i < pool->count; i++) {
		struct ring_uring *u = pool->rings[i].uring;
		uint32_t bit = UINT32_C(1) << file;

		if (!u->files)
			continue;
		if (io_uring_register_files_update(&u->ring, file, &fd, 1) == 1 && fd >= 0)
			atomic_fetch_or(&u->fixed, bit);
		else
			atomic_fetch_and(&u->fixed, ~bit);
	}
}

/*
 * Registering saves work on each request; a limit on locked memory or on files makes it slower, not fail.
 * Since Linux 6.14 a user's rings count against RLIMIT_MEMLOCK too, so buffers come after all of them, and take
 * no more than half: the other half is for the rings of the same user's other mounts.
 */
static void uring_register(struct ring_pool *pool)
{
	struct rlimit limit = { .rlim_cur = 0 };
	uint64_t budget;

	(void)getrlimit(RLIMIT_MEMLOCK, &limit);
	budget = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur / 2;
	for (unsigned i = 0; i < pool->count; i++) {
		struct ring *ring = &pool->rings[i];
		struct ring_uring *u = ring->uring;
		struct iovec iov = { .iov_base = ring->bounce, .iov_len = ring->bounce_bytes };

		uring_register_files(u);
		if (!ring->bounce || ring->bounce_bytes > budget)
			continue;
		u->bounce_fixed = io_uring_register_buffers(&u->ring, &iov, 1) == 0;
		budget = u->bounce_fixed ? budget - ring->bounce_bytes : 0;
	}
}

/* The engine's state for one context, with no ring yet.  NULL: no memory. */
static struct ring_uring *uring_alloc(const struct ring *ring, unsigned depth)
{
	struct ring_uring *u;
	size_t bytes = sizeof(*u) + depth * (sizeof(u->ops[0]) + sizeof(u->idle[0]));

	u = util_map(bytes);
	if (!u)
		return NULL;
	u->pool = ring->pool;
	u->bounce = ring->bounce;
	u->bounce_bytes = ring->bounce_bytes;
	u->map_bytes = bytes;
	u->depth = depth;
	u->idle = (uint32_t *)&u->ops[depth];
	while (u->nidle < depth) {
		u->idle[u->nidle] = depth - 1 - u->nidle;
		u->nidle++;
	}
	return u;
}

static int uring_open(struct ring *ring)
{
	struct ring_pool *pool = ring->pool;
	struct ring_uring *u = NULL;
	struct io_uring io;
	unsigned entries;
	int rc;

	rc = uring_setup(&io, pool->depth);
	if (rc < 0)
		return rc;
	entries = io.sq.ring_entries; /* depth rounded up, or what it was clamped to */
	rc = uring_try(&io);
	if (rc == 0) {
		u = uring_alloc(ring, pool->depth < entries ? pool->depth : entries);
		rc = u ? 0 : -ENOMEM;
	}
	if (!u) {
		io_uring_queue_exit(&io);
		return rc;
	}
	u->ring = io;
	ring->uring = u;
	pool->engine_bytes += u->map_bytes + io.sq.ring_sz + entries * sizeof(struct io_uring_sqe);
	if (io.cq.ring_ptr != io.sq.ring_ptr)
		pool->engine_bytes += io.cq.ring_sz;
	return 0;
}

/*
 * The kernel tears a closed ring down later, on its own time.  Taking the registrations back first lets go of
 * the swap file now, so that its lock is free for the next user when we have closed it too.
 */
static void uring_close(struct ring *ring)
{
	struct ring_uring *u = ring->uring;

	assert(u->flying == 0);
	if (u->files)
		(void)io_uring_unregister_files(&u->ring);
	if (u->bounce_fixed)
		(void)io_uring_unregister_buffers(&u->ring);
	io_uring_queue_exit(&u->ring);
	util_unmap(u, u->map_bytes);
	ring->uring = NULL;
}

static void ring_uring_stop(struct ring_pool *pool)
{
	for (unsigned i = 0; i < pool->count; i++) {
		if (pool->rings[i].uring)
			uring_close(&pool->rings[i]);
	}
	pool->engine_bytes = 0;
}

static int ring_uring_start(struct ring_pool *pool)
{
	for (unsigned i = 0; i < pool->count; i++) {
		int rc = uring_open(&pool->rings[i]);

		if (rc < 0) {
			ring_uring_stop(pool);
			return rc;
		}
	}
	uring_register(pool);
	return 0;
}

const struct ring_engine_ops ring_uring_ops = {
	.engine = RING_URING,
	.start = ring_uring_start,
	.stop = ring_uring_stop,
	.run = ring_uring_run,
	.set_file = ring_uring_set_file,
};
