/* SPDX-License-Identifier: MIT */
/*
 * ring: does the swap files' I/O.  A request is one contiguous piece of one file and one or more pieces of
 * memory; a batch of them, to any of the files, is submitted at once and waited for.
 *
 * Two engines behind one interface: io_uring (one ring a context, registered file and bounce buffer where the
 * kernel allows), and, where io_uring is refused (container seccomp profiles, sysctl), preadv/pwritev: a batch
 * of one is done by the caller, larger ones are shared with a few helper threads.
 *
 * A context (struct ring) is what one thread needs for one batch: the ring and a bounce buffer.  Contexts are
 * pooled: ring_get() waits for a free one.  Whoever holds one must not wait for frames, for a lock that a
 * waiter for a context may hold, or for another context: so every holder finishes, and every waiter is served.
 *
 * Context: a struct ring is private to its holder between ring_get() and ring_put().
 */
#ifndef SWAPSTORE_RING_H
#define SWAPSTORE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct ring_pool;
struct ring;

#define RING_FILES 16 /* files that one pool serves at a time, numbered from 0 */

enum ring_engine { RING_AUTO, RING_URING, RING_THREADS };
enum ring_op { RING_READ, RING_WRITE };

struct ring_req {
	enum ring_op op;
	unsigned file;		/* its number */
	uint64_t offset;	/* bytes, a multiple of 4096 */
	struct iovec *iov;	/* 4096-aligned addresses and lengths; may be changed by the call */
	int iovcnt;		/* 1 .. IOV_MAX */
	int result;		/* out: 0, or -errno (-EIO when the file ended short) */
};

/*
 * A decorator's chance to see, fail or delay each request before the engine does it (fault injection).  Called
 * once a request, in the order of the batch, by the thread that called ring_run().
 */
struct ring_hook {
	int (*before)(void *ctx, const struct ring_req *req); /* 0: go on; else the result, nothing is done */
	void *ctx;
};

/*
 * fd: file number 0, a swap file (O_DIRECT).  count contexts, each with bounce_bytes (a multiple of 4096, may be 0) of
 * pre-faulted memory and room for depth requests in flight.  RING_AUTO tries io_uring and falls back.
 * Pins memory and may start threads: call after fork().
 * Returns 0, -EINVAL, -ENOMEM, or what io_uring_setup said if RING_URING was asked for.
 */
int ring_pool_create(int fd, enum ring_engine engine, unsigned count, size_t bounce_bytes, unsigned depth,
		     struct ring_pool **out);
void ring_pool_destroy(struct ring_pool *pool);

/*
 * fd becomes file number file of the pool; -1: the number has no file any more.  Nobody may use the number: call
 * ring_pool_quiesce() between the last moment at which a request for it could be made and its removal.
 */
void ring_pool_set_file(struct ring_pool *pool, unsigned file, int fd);

/*
 * Waits until every context that is held at this moment has been put back once.  Call with no context, lock or
 * frame in hands.
 */
void ring_pool_quiesce(struct ring_pool *pool);

/* For tests; set before the first I/O. */
void ring_pool_set_hook(struct ring_pool *pool, const struct ring_hook *hook);

/* The engine that runs: RING_URING or RING_THREADS; and bytes of memory the pool holds. */
enum ring_engine ring_pool_engine(const struct ring_pool *pool);
size_t ring_pool_bytes(const struct ring_pool *pool);

/* Waits for a free context; never NULL. */
struct ring *ring_get(struct ring_pool *pool);
void ring_put(struct ring_pool *pool, struct ring *ring);

/* The context's bounce buffer, 4096-aligned; I/O to and from it is cheapest (registered). */
void *ring_bounce(struct ring *ring, size_t *bytes);

/*
 * Does all n requests and waits for all; n may exceed the depth.  Short transfers are continued, EINTR and
 * EAGAIN retried.  Each request's outcome is in its result; the call itself cannot fail.
 */
void ring_run(struct ring *ring, struct ring_req *reqs, unsigned n);

#endif
