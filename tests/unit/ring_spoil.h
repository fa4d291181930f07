/* SPDX-License-Identifier: MIT */
/*
 * ring_spoil: stands between the ring under test and the kernel, in test_ring.c alone.  What the kernel does
 * once in a blue moon (short transfers, EAGAIN, EINTR, a refused io_uring_enter, lost completions) happens here
 * on purpose: the program's own preadv64, pwritev64 and io_uring_submit_and_wait hide the libraries' ones.
 */
#ifndef TESTS_UNIT_RING_SPOIL_H
#define TESTS_UNIT_RING_SPOIL_H

#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Percent of transfers that are cut short or told EAGAIN or EINTR. */
static atomic_uint spoil_percent;

/* What io_uring_submit_and_wait does the next spoil.times: set while one thread runs, used by one at a time. */
static struct {
	enum { SPOIL_REFUSE, SPOIL_SUBMIT_THEN_REFUSE, SPOIL_LOSE_ALL_THEN_REFUSE } how;
	int error; /* what a refusal says */
	unsigned times;
	bool eagain; /* every completion says EAGAIN */
} spoil;

/* What went through it. */
static atomic_uint spoil_enters, spoil_opcodes[IORING_OP_LAST];

static _Thread_local uint64_t spoil_rng = 1;

static uint64_t spoil_random(void)
{
	spoil_rng ^= spoil_rng << 13;
	spoil_rng ^= spoil_rng >> 7;
	spoil_rng ^= spoil_rng << 17;
	return spoil_rng * UINT64_C(0x2545F4914F6CDD1D) >> 16;
}

static bool spoil_now(void)
{
	unsigned percent = atomic_load(&spoil_percent);

	return percent && spoil_random() % 100 < percent;
}

/* A length to cut len down to: whole sectors, at least one. */
static size_t spoil_cut(size_t len)
{
	return len <= 512 ? len : 512 * (1 + spoil_random() % (len / 512));
}

static ssize_t spoil_transfer(long call, int fd, const struct iovec *iov, int iovcnt, off_t offset)
{
	struct iovec part[IOV_MAX];
	size_t total = 0, left;
	int n = 0;

	if (!spoil_now())
		return syscall(call, fd, iov, iovcnt, (long)offset, 0L);
	if (spoil_random() % 4 == 0) {
		errno = spoil_random() % 2 ? EAGAIN : EINTR;
		return -1;
	}
	for (int i = 0; i < iovcnt; i++)
		total += iov[i].iov_len;
	for (left = spoil_cut(total); left > 0; n++) {
		part[n] = iov[n];
		if (part[n].iov_len > left)
			part[n].iov_len = left;
		left -= part[n].iov_len;
	}
	return syscall(call, fd, part, n, (long)offset, 0L);
}

ssize_t preadv64(int fd, const struct iovec *iov, int iovcnt, off_t offset)
{
	return spoil_transfer(SYS_preadv, fd, iov, iovcnt, offset);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int iovcnt, off_t offset)
{
	return spoil_transfer(SYS_pwritev, fd, iov, iovcnt, offset);
}

static void spoil_completions(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	unsigned head;

	io_uring_for_each_cqe(ring, head, cqe)
	{
		if (spoil.eagain)
			cqe->res = -EAGAIN;
		else if (cqe->res > 512 && spoil_now())
			cqe->res = spoil_random() % 4 == 0 ? (spoil_random() % 2 ? -EAGAIN : -EINTR)
							   : (int)spoil_cut((size_t)cqe->res);
	}
}

static int (*spoil_real)(struct io_uring *, unsigned);

__attribute__((constructor)) static void spoil_find_real(void)
{
	*(void **)&spoil_real = dlsym(RTLD_NEXT, "io_uring_submit_and_wait");
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr)
{
	int rc;

	atomic_fetch_add(&spoil_enters, 1);
	for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++)
		atomic_fetch_add(&spoil_opcodes[ring->sq.sqes[i & ring->sq.ring_mask].opcode], 1);
	if (spoil.times > 0) {
		spoil.times--;
		if (spoil.how == SPOIL_SUBMIT_THEN_REFUSE)
			spoil_real(ring, 0);
		if (spoil.how == SPOIL_LOSE_ALL_THEN_REFUSE) {
			spoil_real(ring, wait_nr);
			*ring->cq.koverflow += io_uring_cq_ready(ring);
			io_uring_cq_advance(ring, io_uring_cq_ready(ring));
		}
		return spoil.error;
	}
	rc = spoil_real(ring, wait_nr);
	spoil_completions(ring);
	return rc;
}

#endif
