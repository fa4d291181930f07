/* SPDX-License-Identifier: MIT */
/*
 * lru_sim: part of test_lru.c: traces of page references, and the two policies that swapstore/lru.c is measured
 * against: exact LRU, and Belady's optimum, which evicts what is needed again last and so cannot be beaten.
 */
#ifndef TESTS_UNIT_LRU_SIM_H
#define TESTS_UNIT_LRU_SIM_H

#include "tests/unit/random.h"

#include <math.h>
#include <string.h>

#define SIM_PAGES 16384U  /* 64 MiB of file */
#define SIM_REFS  400000U
#define SIM_NEW	  (UINT32_C(1) << 31) /* the page is erased, if it is there, and written anew: no hit and no miss */

struct trace {
	uint32_t page[SIM_REFS]; /* below SIM_PAGES, perhaps with SIM_NEW */
	uint64_t rng;
};

/* ---- random pages ---- */

static double rng_unit(struct trace *t)
{
	return (double)(random_next(&t->rng) >> 11) * 0x1p-53;
}

/* cdf[i]: how likely one of the i + 1 most popular of n pages is, by Zipf's law. */
static void zipf_init(double *cdf, uint32_t n, double theta)
{
	double sum = 0;

	for (uint32_t i = 0; i < n; i++)
		cdf[i] = sum += pow(i + 1, -theta);
	for (uint32_t i = 0; i < n; i++)
		cdf[i] /= sum;
}

static uint32_t zipf_rank(struct trace *t, const double *cdf, uint32_t n)
{
	double at = rng_unit(t);
	uint32_t low = 0, high = n - 1;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (cdf[middle] < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The rank's place in the file: popular pages lie scattered.  An odd factor is a permutation of 2^k pages. */
static uint32_t scatter(uint32_t rank, uint32_t n)
{
	return (rank * UINT32_C(2654435761) + 12345) % n;
}

/*
 * The generator of Gray et al. ("Quickly generating billion-record synthetic databases", 1994), which fio's
 * random_distribution=zipf follows too; fio then hashes ranks to blocks, so that some share one.
 */
static uint32_t gray_rank(struct trace *t, uint32_t n, double theta, double zeta_n)
{
	double zeta_2 = 1 + pow(0.5, theta);
	double eta = (1 - pow(2.0 / n, 1 - theta)) / (1 - zeta_2 / zeta_n);
	double u = rng_unit(t), uz = u * zeta_n;
	uint32_t rank;

	if (uz < 1)
		return 0;
	if (uz < zeta_2)
		return 1;
	rank = (uint32_t)(n * pow(eta * u - eta + 1, 1 / (1 - theta)));
	return rank < n ? rank : n - 1;
}

/* ---- traces; cache: frames, for those that are made to hurt a cache of that size ---- */

static void trace_zipf(struct trace *t, double theta)
{
	static double cdf[SIM_PAGES];

	zipf_init(cdf, SIM_PAGES, theta);
	for (uint32_t i = 0; i < SIM_REFS; i++)
		t->page[i] = scatter(zipf_rank(t, cdf, SIM_PAGES), SIM_PAGES);
}

static void trace_zipf_09(struct trace *t, uint32_t cache)
{
	(void)cache;
	trace_zipf(t, 0.9);
}

static void trace_zipf_11(struct trace *t, uint32_t cache)
{
	(void)cache;
	trace_zipf(t, 1.1);
}

static void trace_fio_11(struct trace *t, uint32_t cache)
{
	double zeta = 0;

	(void)cache;
	for (uint32_t i = 0; i < SIM_PAGES; i++)
		zeta += pow(i + 1, -1.1);
	for (uint32_t i = 0; i < SIM_REFS; i++) {
		uint64_t hash = (gray_rank(t, SIM_PAGES, 1.1, zeta) + 1) * UINT64_C(0x9e3779b97f4a7c15);

		t->page[i] = (uint32_t)((hash ^ hash >> 32) % SIM_PAGES);
	}
}

/* Half of the file is used by Zipf's law, and now and then all of the other half is read once. */
static void trace_zipf_and_scans(struct trace *t, uint32_t cache)
{
	static double cdf[SIM_PAGES / 2];
	const uint32_t half = SIM_PAGES / 2;
	uint32_t scanned = half, pause = 0;

	(void)cache;
	zipf_init(cdf, half, 1.0);
	for (uint32_t i = 0; i < SIM_REFS; i++) {
		if (scanned == half && ++pause == 2 * half)
			scanned = pause = 0;
		if (scanned < half && i % 4)
			t->page[i] = half + scanned++;
		else
			t->page[i] = scatter(zipf_rank(t, cdf, half), half);
	}
}

/* What is popular moves on: every tenth of the trace a quarter of the ranks have other pages. */
static void trace_shifting(struct trace *t, uint32_t cache)
{
	static double cdf[SIM_PAGES];
	uint32_t moved = 0;

	(void)cache;
	zipf_init(cdf, SIM_PAGES, 1.0);
	for (uint32_t i = 0; i < SIM_REFS; i++) {
		if (i && i % (SIM_REFS / 10) == 0)
			moved++;
		uint32_t rank = zipf_rank(t, cdf, SIM_PAGES);

		/* Ranks 0, 4, 8 ... move at the first step, 1, 5, 9 ... at the second, and so on. */
		t->page[i] = scatter(rank + (moved + 3 - rank % 4) / 4 * 1000, SIM_PAGES);
	}
}

/* Round and round through a little more than fits. */
static void trace_loop(struct trace *t, uint32_t cache)
{
	for (uint32_t i = 0; i < SIM_REFS; i++)
		t->page[i] = i % (cache + cache / 5);
}

/* Uniform over a hot set of 3/4 of the cache; one time in the middle, all pages are read from end to end. */
static void trace_one_scan(struct trace *t, uint32_t cache)
{
	uint32_t hot = cache * 3 / 4;

	for (uint32_t i = 0; i < SIM_REFS; i++) {
		uint32_t since = i - SIM_REFS / 2;

		t->page[i] = i >= SIM_REFS / 2 && since < SIM_PAGES ? since : (uint32_t)(random_next(&t->rng) % hot);
	}
}

/* A hot set of 4/5 of the cache, uniform; there are ten, one after the other. */
static void trace_phases(struct trace *t, uint32_t cache)
{
	uint32_t hot = cache * 4 / 5;

	for (uint32_t i = 0; i < SIM_REFS; i++)
		t->page[i] = (uint32_t)((i / (SIM_REFS / 10) * hot + random_next(&t->rng) % hot) % SIM_PAGES);
}

/*
 * Scratch files: each page is written, read back once when a third of a cache of others has been written, and done
 * with.  Before that, half of the trace has a hot set, which is then forgotten.
 */
static void trace_scratch(struct trace *t, uint32_t cache)
{
	uint32_t hot = cache * 3 / 4, lag = cache / 3;

	for (uint32_t i = 0; i < SIM_REFS; i++) {
		uint32_t step = (i - SIM_REFS / 2) / 2;

		if (i < SIM_REFS / 2)
			t->page[i] = (uint32_t)(random_next(&t->rng) % hot);
		else if (i % 2 && step >= lag)
			t->page[i] = hot + (step - lag) % (SIM_PAGES - hot);
		else
			t->page[i] = (hot + step % (SIM_PAGES - hot)) | SIM_NEW;
	}
}

/* Half of the trace scratch files, then Zipf's law: what was learnt from the first has to be unlearnt. */
static void trace_scratch_then_zipf(struct trace *t, uint32_t cache)
{
	static struct trace scratch;

	scratch.rng = t->rng;
	trace_scratch(&scratch, cache);
	trace_zipf(t, 0.9);
	memcpy(t->page, scratch.page + SIM_REFS / 2, SIM_REFS / 2 * sizeof(t->page[0]));
}

/* Each page once: there is nothing to hit. */
static void trace_scan(struct trace *t, uint32_t cache)
{
	(void)cache;
	for (uint32_t i = 0; i < SIM_REFS; i++)
		t->page[i] = i % SIM_PAGES;
}

/* How many of the references are to pages that exist. */
static uint32_t trace_reads(const struct trace *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < SIM_REFS; i++)
		n += !(t->page[i] & SIM_NEW);
	return n;
}

/* ---- exact LRU: hits ---- */

static uint32_t sim_lru(const struct trace *t, uint32_t cache)
{
	static uint32_t next[SIM_PAGES + 1], prev[SIM_PAGES + 1]; /* [SIM_PAGES]: next is the newest, prev the oldest */
	static bool cached[SIM_PAGES];
	uint32_t used = 0, hits = 0;

	memset(cached, 0, sizeof(cached));
	next[SIM_PAGES] = prev[SIM_PAGES] = SIM_PAGES;
	for (uint32_t i = 0; i < SIM_REFS; i++) {
		uint32_t page = t->page[i] & ~SIM_NEW, out = cached[page] ? page : prev[SIM_PAGES];

		hits += cached[page] && !(t->page[i] & SIM_NEW);
		if (cached[page] || used == cache) {
			next[prev[out]] = next[out];
			prev[next[out]] = prev[out];
			cached[out] = false;
		} else {
			used++;
		}
		next[page] = next[SIM_PAGES];
		prev[page] = SIM_PAGES;
		prev[next[page]] = page;
		next[SIM_PAGES] = page;
		cached[page] = true;
	}
	return hits;
}

/* ---- Belady's optimum: hits ---- */

struct need {
	uint32_t at, page; /* when the page is needed again */
};

/* A heap, latest first; what is no longer true stays in it until it comes to the top. */
struct needs {
	struct need need[SIM_REFS + 1]; /* from 1 on */
	uint32_t n;
};

static void needs_push(struct needs *h, struct need need)
{
	uint32_t i = ++h->n;

	for (; i > 1 && h->need[i / 2].at < need.at; i /= 2)
		h->need[i] = h->need[i / 2];
	h->need[i] = need;
}

static struct need needs_pop(struct needs *h)
{
	struct need top = h->need[1], last = h->need[h->n--];
	uint32_t i = 1, child;

	for (; (child = 2 * i) <= h->n; i = child) {
		if (child < h->n && h->need[child + 1].at > h->need[child].at)
			child++;
		if (h->need[child].at <= last.at)
			break;
		h->need[i] = h->need[child];
	}
	h->need[i] = last;
	return top;
}

static uint32_t sim_belady(const struct trace *t, uint32_t cache)
{
	static uint32_t again[SIM_REFS];   /* when the page of this reference is needed next */
	static uint32_t needed[SIM_PAGES]; /* the same of a cached page; 0: not cached */
	static struct needs heap;
	uint32_t used = 0, hits = 0;

	for (uint32_t p = 0; p < SIM_PAGES; p++)
		needed[p] = SIM_REFS + p; /* never: each at a time of its own, so that a page has one true need */
	for (uint32_t i = SIM_REFS; i-- > 0;) {
		uint32_t page = t->page[i] & ~SIM_NEW;

		again[i] = needed[page];
		needed[page] = t->page[i] & SIM_NEW ? SIM_REFS + page : i;
	}
	memset(needed, 0, sizeof(needed));
	heap.n = 0;
	for (uint32_t i = 0; i < SIM_REFS; i++) {
		uint32_t page = t->page[i] & ~SIM_NEW;

		if (needed[page]) {
			hits += !(t->page[i] & SIM_NEW);
		} else if (used == cache) {
			struct need out;

			do {
				out = needs_pop(&heap);
			} while (needed[out.page] != out.at);
			needed[out.page] = 0;
		} else {
			used++;
		}
		needed[page] = again[i];
		needs_push(&heap, (struct need){again[i], page});
	}
	return hits;
}

#endif
