/* SPDX-License-Identifier: MIT */
/*
 * tree_fixture: part of test_tree.c: nodes that are counted, and the model that random operations are compared
 * with: flat arrays over a window of indices scattered up to 2^64-1.
 */
#ifndef TESTS_UNIT_TREE_FIXTURE_H
#define TESTS_UNIT_TREE_FIXTURE_H

#include "swapstore/tree.h"

#include "tests/unit/random.h"

#include <string.h>

#define WINDOW 3000U
#define TAGS   ((1U << TREE_NTAGS) - 1)

static uint64_t rng_state;

static uint64_t rng(void)
{
	return random_next(&rng_state);
}

static uint64_t rng_below(uint64_t n)
{
	return rng() % n;
}

/* ---- nodes: every one is counted ---- */

static size_t nodes_allocated;

static void stash_fill(struct tree_stash *stash, unsigned count)
{
	while (stash->count < count) {
		void *node = malloc(tree_node_size());

		MUST(node);
		memset(node, 0xa5, tree_node_size());
		tree_stash_push(stash, node);
		nodes_allocated++;
	}
}

static void stash_drain(struct tree_stash *stash, unsigned count)
{
	while (stash->count > count) {
		free(tree_stash_pop(stash));
		nodes_allocated--;
	}
}

/* A store that must succeed with what the header promises to be enough. */
static void put(struct tree *tree, uint64_t index, entry_t entry)
{
	struct tree_stash stash = { 0 };

	stash_fill(&stash, TREE_STORE_NODES);
	SAME(tree_replace(tree, index, tree_load(tree, index), entry, &stash), 0);
	stash_drain(&stash, 0);
	SAME(tree_count_nodes(tree), nodes_allocated);
}

static void empty(struct tree *tree)
{
	uint64_t index = 0;
	entry_t entry;

	while (tree_next(tree, &index, UINT64_MAX, &entry))
		put(tree, index, ENTRY_EMPTY);
	tree_check(tree);
	SAME(tree->root, ENTRY_EMPTY);
	SAME(tree->depth, 0);
	SAME(nodes_allocated, 0);
}

/* ---- the model ---- */

static struct {
	uint64_t index[WINDOW]; /* ascending, fixed for a run */
	entry_t entry[WINDOW];
	uint8_t tags[WINDOW];
	uint64_t noted[WINDOW]; /* the last epoch in which a miss was noted while its leaf lived; 0: none */
	size_t live;
} model;

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Half the window is one dense file, the rest lies at powers of two, in clusters and anywhere up to 2^64-1. */
static void model_init(void)
{
	uint64_t cluster = 0;
	size_t n = 0, kept = 1;

	memset(&model, 0, sizeof(model));
	for (; n < WINDOW / 2; n++)
		model.index[n] = n;
	for (unsigned shift = 10; shift < 64; shift++) {
		model.index[n++] = UINT64_C(1) << shift;
		model.index[n++] = (UINT64_C(1) << shift) - 1;
		model.index[n++] = (UINT64_C(1) << shift) + 1 + rng_below(64);
	}
	model.index[n++] = UINT64_MAX;
	model.index[n++] = UINT64_MAX - 1;
	model.index[n++] = UINT64_MAX - 64;
	for (; n < WINDOW; n++) {
		if (n % 16 == 0)
			cluster = rng() >> rng_below(64);
		model.index[n] = cluster + rng_below(200);
	}
	qsort(model.index, WINDOW, sizeof(model.index[0]), by_value);
	/* What was there twice goes to the top, below the three fixed ones. */
	for (n = 1; n < WINDOW; n++)
		if (model.index[n] != model.index[n - 1])
			model.index[kept++] = model.index[n];
	for (n = 0; kept < WINDOW; n++)
		model.index[kept++] = UINT64_MAX - 1000 - n;
	qsort(model.index, WINDOW, sizeof(model.index[0]), by_value);
	for (n = 1; n < WINDOW; n++)
		MUST(model.index[n - 1] < model.index[n]);
}

/* The rule of the header: one entry at index 0 has no node, anything else has a leaf for its 64 indices. */
static bool model_has_leaf(size_t at)
{
	uint64_t leaf = model.index[at] >> TREE_BITS;
	size_t from = at, to = at;

	if (model.live == 1 && !entry_is_empty(model.entry[0]))
		return false;
	while (from > 0 && model.index[from - 1] >> TREE_BITS == leaf)
		from--;
	while (to < WINDOW && model.index[to] >> TREE_BITS == leaf)
		to++;
	for (; from < to; from++)
		if (!entry_is_empty(model.entry[from]))
			return true;
	return false;
}

static void model_forget_leaf(size_t at)
{
	uint64_t leaf = model.index[at] >> TREE_BITS;

	for (size_t i = at; i < WINDOW && model.index[i] >> TREE_BITS == leaf; i++)
		model.noted[i] = 0;
	for (size_t i = at; i-- > 0 && model.index[i] >> TREE_BITS == leaf;)
		model.noted[i] = 0;
}

static void model_store(size_t at, entry_t new)
{
	model.live += !entry_is_empty(new);
	model.live -= !entry_is_empty(model.entry[at]);
	model.entry[at] = new;
	model.tags[at] = entry_is_swap(new) ? 1U << TREE_SWAPPED : 0;
	if (!model_has_leaf(at))
		model_forget_leaf(at);
	if (!model_has_leaf(0))
		model_forget_leaf(0);
}

static bool model_next(size_t *at, uint64_t last, int tag)
{
	for (size_t i = *at; i < WINDOW && model.index[i] <= last; i++) {
		if (entry_is_empty(model.entry[i]) || (tag >= 0 && !(model.tags[i] >> tag & 1)))
			continue;
		*at = i;
		return true;
	}
	return false;
}

static entry_t random_entry(void)
{
	switch (rng_below(4)) {
	case 0:
		return (rng() & ~UINT64_C(3)) | 4;
	case 1:
		return entry_of_slot((uint32_t)rng(), (uint32_t)rng());
	case 2:
		return rng_below(2) ? ENTRY_ZERO : ENTRY_UNWRITTEN;
	default:
		return rng() | 1; /* opaque: any non-zero value */
	}
}

#endif
