/* SPDX-License-Identifier: MIT */
/*
 * slots_fixture: part of test_slots.c: a store over a page allocator that counts, and the model that random
 * operations are compared with: an array with one state a slot.
 */
#ifndef TESTS_UNIT_SLOTS_FIXTURE_H
#define TESTS_UNIT_SLOTS_FIXTURE_H

#include "swapstore/slots.h"

#include "tests/unit/random.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define GROUP	    SLOTS_PER_GROUP
#define TOTAL	    (3 * GROUP + 1000)
#define GROUPS	    4
#define GROUP_PAGES 2

/* ---- a page allocator that counts, and refuses above a limit ---- */

struct pages {
	atomic_int out;
	atomic_int limit;
};

static void *page_alloc(void *ctx)
{
	struct pages *pages = ctx;
	void *page;

	if (atomic_fetch_add(&pages->out, 1) >= atomic_load(&pages->limit)) {
		atomic_fetch_sub(&pages->out, 1);
		return NULL;
	}
	page = malloc(4096);
	MUST(page);
	return memset(page, 0xa5, 4096);
}

static void page_free(void *ctx, void *page)
{
	struct pages *pages = ctx;

	atomic_fetch_sub(&pages->out, 1);
	free(page);
}

static struct slots *new_slots(uint64_t total, struct pages *pages)
{
	struct slots_page_ops ops = { .alloc = page_alloc, .free = page_free, .ctx = pages };
	struct slots *slots = NULL;

	atomic_store(&pages->out, 0);
	atomic_store(&pages->limit, 1 << 20);
	MUST(slots_create(total, &ops, &slots) == 0);
	slots_check(slots);
	return slots;
}

static struct slot_run take(struct slots *slots, uint32_t want)
{
	struct slot_run run = { 0 };

	MUST(slots_alloc(slots, want, &run) == 0);
	return run;
}

static void give(struct slots *slots, uint32_t first, uint32_t count)
{
	slots_free(slots, (struct slot_run){ .first = first, .count = count });
}

static void expect_stats(struct slots *slots, uint64_t used, uint64_t bad)
{
	struct slots_stats st;

	slots_get_stats(slots, &st);
	SAME(st.used, used);
	SAME(st.bad, bad);
	SAME(st.free, st.total - used - bad);
}

/* Trims all there is; how many slots that was. */
static uint64_t trim_all(struct slots *slots)
{
	struct slot_run run;
	uint64_t n = 0;

	while (slots_trim_next(slots, &run)) {
		slots_trim_done(slots, run);
		n += run.count;
		MUST(n <= TOTAL);
	}
	return n;
}

/* ---- the model ---- */

/* FRESH: free, nothing on the disk.  STALE: free, not trimmed since. */
enum state { FRESH, STALE, USED, BAD, TRIMMING };

static struct {
	uint8_t state[TOTAL];
	struct slot_run run[TOTAL]; /* in use, as handed out or what is left of it */
	size_t nruns;
	struct slot_run trim[16]; /* handed out to be trimmed */
	size_t ntrims;
	uint64_t count[TRIMMING + 1];
	uint64_t rng;
} model;

static uint64_t below(uint64_t n)
{
	return random_next(&model.rng) % n;
}

static void model_set(uint32_t slot, enum state to)
{
	model.count[model.state[slot]]--;
	model.count[to]++;
	model.state[slot] = (uint8_t)to;
}

static bool model_free(uint32_t slot)
{
	return model.state[slot] == FRESH || model.state[slot] == STALE;
}

static uint32_t group_end(uint32_t slot)
{
	uint32_t end = (slot / GROUP + 1) * GROUP;

	return end < TOTAL ? end : TOTAL;
}

static bool model_group_idle(uint32_t slot)
{
	for (uint32_t i = slot / GROUP * GROUP; i < group_end(slot); i++)
		if (!model_free(i))
			return false;
	return true;
}

/* Where slots_alloc() must find a run: the lowest of full length, else the lowest of the longest. */
static struct slot_run model_find(uint32_t want)
{
	struct slot_run best = { 0 };

	for (uint32_t i = 0; i < TOTAL;) {
		uint32_t n = 0;

		while (i + n < group_end(i) && n < want && model_free(i + n))
			n++;
		if (n > best.count)
			best = (struct slot_run){ .first = i, .count = n };
		if (n == want)
			break;
		i += n ? n : 1;
	}
	return best;
}

/* What the stale slots must look like when slots_trim_next() has found nothing. */
static void model_nothing_to_trim(void)
{
	for (uint32_t i = 0, n = 0; i < TOTAL; i++) {
		n = model.state[i] == STALE ? n + 1 : 0;
		if (n == 0)
			continue;
		MUST(n < SLOTS_TRIM_RUN);
		MUST(!model_group_idle(i));
		if (i + 1 == group_end(i))
			n = 0;
	}
}

static void compare(struct slots *slots, struct pages *pages)
{
	int open = 0;

	slots_check(slots);
	for (uint32_t first = 0; first < TOTAL; first += GROUP) {
		bool in_use = false;

		for (uint32_t i = first; i < group_end(first) && !in_use; i++)
			in_use = model.state[i] != FRESH;
		open += in_use;
	}
	SAME(atomic_load(&pages->out), open * GROUP_PAGES);
}

/* False: the file is full. */
static bool op_alloc(struct slots *slots, bool exact)
{
	static const uint32_t wants[] = { 1, 2, 7, 32, 64, 256, 256, 5000, GROUP, 100000 };
	uint32_t want = wants[below(sizeof(wants) / sizeof(wants[0]))];
	struct slot_run run = { 0 }, expected = { 0 };
	int err = slots_alloc(slots, want, &run);

	if (exact)
		expected = model_find(want < GROUP ? want : GROUP);
	if (err) {
		MUST(err == -ENOSPC);
		MUST(model.count[FRESH] + model.count[STALE] == 0);
		return false;
	}
	MUST(run.count >= 1 && run.count <= want && run.first + run.count <= group_end(run.first));
	if (exact) {
		SAME(run.first, expected.first);
		SAME(run.count, expected.count);
	}
	for (uint32_t i = 0; i < run.count; i++) {
		MUST(model_free(run.first + i));
		model_set(run.first + i, USED);
	}
	model.run[model.nruns++] = run;
	return true;
}

/* Gives back a run, or its first, last or a middle part. */
static void op_free(struct slots *slots)
{
	size_t at = below(model.nruns);
	struct slot_run run = model.run[at], part = run;

	if (run.count > 1 && below(2)) {
		part.first += (uint32_t)below(run.count);
		part.count = 1 + (uint32_t)below(run.first + run.count - part.first);
	}
	slots_free(slots, part);
	for (uint32_t i = 0; i < part.count; i++) {
		SAME(model.state[part.first + i], USED);
		model_set(part.first + i, STALE);
	}
	model.run[at] = model.run[--model.nruns];
	if (part.first > run.first)
		model.run[model.nruns++] = (struct slot_run){ run.first, part.first - run.first };
	if (part.first + part.count < run.first + run.count)
		model.run[model.nruns++] =
			(struct slot_run){ part.first + part.count, run.first + run.count - part.first - part.count };
}

static void op_mark_bad(struct slots *slots)
{
	struct slot_run *run = &model.run[below(model.nruns)];

	slots_mark_bad(slots, run->first);
	model_set(run->first, BAD);
	run->first++;
	if (--run->count == 0)
		*run = model.run[--model.nruns];
}

static void op_trim(struct slots *slots)
{
	struct slot_run run;
	bool idle;

	if (model.ntrims == 16 || (model.ntrims > 0 && below(2))) {
		size_t at = below(model.ntrims);

		run = model.trim[at];
		slots_trim_done(slots, run);
		model.trim[at] = model.trim[--model.ntrims];
		for (uint32_t i = 0; i < run.count; i++)
			model_set(run.first + i, FRESH);
		return;
	}
	if (!slots_trim_next(slots, &run)) {
		model_nothing_to_trim();
		return;
	}
	MUST(run.count > 0 && run.first + run.count <= group_end(run.first));
	/* Freed since the last trim: all of it, or in a group where all is free its first and last slot. */
	idle = model_group_idle(run.first);
	MUST(idle || run.count >= SLOTS_TRIM_RUN);
	SAME(model.state[run.first], STALE);
	SAME(model.state[run.first + run.count - 1], STALE);
	for (uint32_t i = 0; i < run.count; i++) {
		MUST(idle ? model_free(run.first + i) : model.state[run.first + i] == STALE);
		model_set(run.first + i, TRIMMING);
	}
	/* And no more of the same beside it. */
	MUST(run.first % GROUP == 0 || model.state[run.first - 1] != STALE);
	MUST(run.first + run.count == group_end(run.first) || model.state[run.first + run.count] != STALE);
	model.trim[model.ntrims++] = run;
}

#endif
