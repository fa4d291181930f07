/* SPDX-License-Identifier: MIT */
/*
 * Unit tests of swapstore/tree: random operations against a model (tree_fixture.h), and each promise of tree.h by
 * itself.  SPILLFS_TEST_SEED repeats a run.
 */
#include "swapstore/tree.h"

#include "tests/unit/run.h"
#include "tests/unit/tree_fixture.h"

#include <errno.h>

#define OPS 1000000U

/* ---- random operations ---- */

/* fullness: of 100 stores, how many put something in. */
static void op_replace(struct tree *tree, size_t at, unsigned fullness)
{
	entry_t new = rng_below(100) < fullness ? random_entry() : ENTRY_EMPTY, expected = model.entry[at];
	unsigned offered = (unsigned)rng_below(TREE_STORE_NODES + 1);
	struct tree_stash stash = { 0 };
	size_t nodes = nodes_allocated;
	int err;

	if (rng_below(16) == 0) {
		expected = rng_below(2) && expected ? ENTRY_EMPTY : expected ^ (rng() | 1);
		stash_fill(&stash, TREE_STORE_NODES);
		SAME(tree_replace(tree, model.index[at], expected, new, &stash), -ESTALE);
		SAME(stash.count, TREE_STORE_NODES);
		stash_drain(&stash, 0);
		return;
	}
	/* Too few nodes at first, often: then it must say so and leave all as it was. */
	stash_fill(&stash, offered);
	err = tree_replace(tree, model.index[at], expected, new, &stash);
	if (err) {
		ck_assert_int_eq(err, -ENOMEM);
		MUST(offered < TREE_STORE_NODES);
		SAME(stash.count, offered);
		SAME(tree_load(tree, model.index[at]), expected);
		if (rng_below(1000) == 0) {
			tree_check(tree);
			SAME(tree_count_nodes(tree), nodes);
		}
		stash_fill(&stash, TREE_STORE_NODES);
		err = tree_replace(tree, model.index[at], expected, new, &stash);
	}
	SAME(err, 0);
	stash_drain(&stash, 0);
	model_store(at, new);
}

static void op_tag(struct tree *tree, size_t at)
{
	enum tree_tag tag = (enum tree_tag)rng_below(TREE_NTAGS);

	if (rng_below(2) && !entry_is_empty(model.entry[at])) {
		tree_tag_set(tree, model.index[at], tag);
		model.tags[at] |= 1U << tag;
	} else {
		tree_tag_clear(tree, model.index[at], tag);
		model.tags[at] &= TAGS & ~(1U << tag);
	}
	for (unsigned t = 0; t < TREE_NTAGS; t++)
		SAME(tree_tag_get(tree, model.index[at], (enum tree_tag)t), model.tags[at] >> t & 1);
}

static void op_next(struct tree *tree, size_t at)
{
	int tag = (int)rng_below(TREE_NTAGS + 1) - 1;
	size_t end = rng_below(8) ? at + rng_below(WINDOW - at) : WINDOW - 1, want = at;
	uint64_t from = model.index[at], last = model.index[end], index;
	entry_t entry = 77;
	bool there = model_next(&want, last, tag), found;

	/* Begin between two known indices now and then. */
	if (at > 0 && rng_below(4) == 0)
		from = model.index[at - 1] + 1;
	index = from;
	found = tag < 0 ? tree_next(tree, &index, last, &entry)
			: tree_next_tagged(tree, &index, last, (enum tree_tag)tag, &entry);
	SAME(found, there);
	SAME(index, there ? model.index[want] : from);
	SAME(entry, there ? model.entry[want] : 77);
}

static void op_ghost(struct tree *tree, size_t at, uint64_t epoch)
{
	bool leaf = model_has_leaf(at), seen = leaf && model.noted[at] && epoch - model.noted[at] <= 1;

	SAME(tree_ghost_note(tree, model.index[at], (uint16_t)epoch), seen);
	if (leaf)
		model.noted[at] = epoch;
}

static void op_load_range(struct tree *tree, size_t at)
{
	uint64_t first = model.index[at];
	entry_t out[300];
	size_t n = rng_below(300);

	if (n > 0 && first > UINT64_MAX - (n - 1))
		n = UINT64_MAX - first + 1;
	memset(out, 0xff, sizeof(out));
	tree_load_range(tree, first, n, out);
	for (size_t i = 0; i < n; i++) {
		bool known = at < WINDOW && model.index[at] == first + i;

		SAME(out[i], known ? model.entry[at] : ENTRY_EMPTY);
		at += known;
	}
	for (size_t i = n; i < 300; i++)
		SAME(out[i], UINT64_MAX);
}

static void compare_all(const struct tree *tree)
{
	uint64_t index = 0;
	size_t seen = 0;
	entry_t entry;

	tree_check(tree);
	SAME(tree_count_nodes(tree), nodes_allocated);
	for (size_t i = 0; i < WINDOW; i++) {
		SAME(tree_load(tree, model.index[i]), model.entry[i]);
		for (unsigned t = 0; t < TREE_NTAGS; t++)
			SAME(tree_tag_get(tree, model.index[i], (enum tree_tag)t), model.tags[i] >> t & 1);
	}
	/* Nothing outside the window either. */
	while (tree_next(tree, &index, UINT64_MAX, &entry)) {
		seen++;
		if (index++ == UINT64_MAX)
			break;
	}
	SAME(seen, model.live);
}

START_TEST(random_operations_agree_with_a_flat_array)
{
	static const unsigned fullness[] = { 70, 95, 40, 5, 50, 1 };
	uint64_t epoch = 65000; /* passes 65536 on the way */
	struct tree tree = { 0 };
	size_t at;

	rng_state = random_seed();
	model_init();
	for (unsigned op = 0; op < OPS; op++) {
		unsigned phase = op / 7000 % (sizeof(fullness) / sizeof(fullness[0]));

		/* Now and then all attention on the first few, where depth 0 and 1 meet. */
		at = op / 3500 % 7 == 0 ? rng_below(3) : rng_below(WINDOW);
		switch (rng_below(10)) {
		case 0:
		case 1:
			op_tag(&tree, at);
			break;
		case 2:
			op_next(&tree, at);
			break;
		case 3:
			op_ghost(&tree, at, epoch);
			break;
		case 4:
			if (rng_below(4) == 0)
				op_load_range(&tree, at);
			else
				SAME(tree_load(&tree, model.index[at]), model.entry[at]);
			break;
		default:
			op_replace(&tree, at, fullness[phase]);
		}
		epoch += rng_below(500) == 0 ? 1 + rng_below(3) : 0;
		for (at = 0; op % 42000 == 41999 && model.live > 0; at = (at + 1) % WINDOW)
			op_replace(&tree, at, 0);
		if (op % 1000 == 999)
			compare_all(&tree);
	}
	ck_assert_uint_gt(epoch, 65536);
	compare_all(&tree);
	empty(&tree);
}
END_TEST

/* ---- each promise by itself ---- */

START_TEST(seven_nodes_fit_in_a_frame)
{
	ck_assert_uint_le(tree_node_size() * 7, 4096);
	ck_assert_uint_eq(tree_node_size() % sizeof(uint64_t), 0);
}
END_TEST

START_TEST(a_stash_gives_back_what_was_put_in)
{
	struct tree_stash stash = { 0 };

	ck_assert_ptr_null(tree_stash_pop(&stash));
	stash_fill(&stash, 5);
	stash_drain(&stash, 0);
	ck_assert_ptr_null(stash.head);
	ck_assert_ptr_null(tree_stash_pop(&stash));
	ck_assert_uint_eq(nodes_allocated, 0);
}
END_TEST

START_TEST(a_tree_with_index_0_alone_has_no_node)
{
	struct tree_stash none = { 0 };
	struct tree tree = { 0 };
	uint64_t index = 0;
	entry_t entry;

	ck_assert_int_eq(tree_replace(&tree, 0, ENTRY_EMPTY, 40, &none), 0);
	ck_assert_uint_eq(tree_count_nodes(&tree), 0);
	ck_assert(!tree_ghost_note(&tree, 0, 1));
	ck_assert(!tree_ghost_note(&tree, 0, 1));
	tree_tag_set(&tree, 0, TREE_WRITEBACK);
	for (uint64_t other = 1; other != 0; other <<= 1) {
		/* Its tags go into the leaf and come back out, and another index's do not. */
		put(&tree, other, entry_of_slot(1, 2));
		tree_tag_set(&tree, other, TREE_DIRTY);
		tree_check(&tree);
		ck_assert_uint_gt(tree_count_nodes(&tree), 0);
		ck_assert(tree_tag_get(&tree, 0, TREE_WRITEBACK));
		ck_assert(!tree_tag_get(&tree, 0, TREE_SWAPPED));
		put(&tree, other, ENTRY_EMPTY);
		tree_check(&tree);
		ck_assert_uint_eq(tree_count_nodes(&tree), 0);
		ck_assert(tree_tag_get(&tree, 0, TREE_WRITEBACK));
		ck_assert(!tree_tag_get(&tree, 0, TREE_DIRTY));
		ck_assert(!tree_tag_get(&tree, 0, TREE_SWAPPED));
	}
	ck_assert(tree_next_tagged(&tree, &index, UINT64_MAX, TREE_WRITEBACK, &entry));
	ck_assert(!tree_next_tagged(&tree, &index, UINT64_MAX, TREE_DIRTY, &entry));
	empty(&tree);
}
END_TEST

START_TEST(the_far_end_costs_three_nodes_at_most)
{
	struct tree_stash stash = { 0 };
	struct tree tree = { 0 };

	put(&tree, 0, 8);
	for (unsigned offered = 0; offered < TREE_STORE_NODES; offered++) {
		stash_fill(&stash, offered);
		ck_assert_int_eq(tree_replace(&tree, UINT64_MAX, ENTRY_EMPTY, 16, &stash), -ENOMEM);
		ck_assert_uint_eq(stash.count, offered);
		ck_assert_uint_eq(tree.depth, 0);
		ck_assert_uint_eq(tree_load(&tree, 0), 8);
	}
	stash_drain(&stash, 0);
	put(&tree, UINT64_MAX, 16);
	ck_assert_uint_eq(tree.depth, TREE_MAX_DEPTH);
	ck_assert_uint_eq(tree_count_nodes(&tree), TREE_STORE_NODES);
	tree_check(&tree);
	put(&tree, 0, ENTRY_EMPTY);
	ck_assert_uint_eq(tree_count_nodes(&tree), 1);
	ck_assert_uint_eq(tree_load(&tree, UINT64_MAX), 16);
	tree_check(&tree);
	/* Nor does it ask for more than it needs: a leaf and a branch, then no more than a leaf. */
	stash_fill(&stash, 2);
	ck_assert_int_eq(tree_replace(&tree, 70, ENTRY_EMPTY, 8, &stash), 0);
	stash_fill(&stash, 1);
	ck_assert_int_eq(tree_replace(&tree, UINT64_C(1) << 63, ENTRY_EMPTY, 8, &stash), 0);
	ck_assert_int_eq(tree_replace(&tree, 71, ENTRY_EMPTY, 8, &stash), 0);
	ck_assert_uint_eq(stash.count, 0);
	tree_check(&tree);
	empty(&tree);
}
END_TEST

/* One branch at every level: the longest path that there can be, taken apart from both ends. */
START_TEST(the_longest_path_can_be_built_and_taken_apart)
{
	struct tree tree = { 0 };

	for (int upwards = 0; upwards < 2; upwards++) {
		put(&tree, 0, 4);
		put(&tree, 1, 4);
		for (unsigned shift = TREE_BITS; shift < 64; shift += TREE_BITS) {
			put(&tree, UINT64_C(1) << shift, entry_of_slot(shift, 0));
			tree_check(&tree);
		}
		ck_assert_uint_eq(tree_count_nodes(&tree), 2 * TREE_MAX_DEPTH - 1);
		for (unsigned i = 1; i < TREE_MAX_DEPTH; i++) {
			unsigned shift = (upwards ? i : TREE_MAX_DEPTH - i) * TREE_BITS;

			ck_assert(tree_tag_get(&tree, UINT64_C(1) << shift, TREE_SWAPPED));
			put(&tree, UINT64_C(1) << shift, ENTRY_EMPTY);
			tree_check(&tree);
		}
		ck_assert_uint_eq(tree_count_nodes(&tree), 1);
		empty(&tree);
	}
}
END_TEST

START_TEST(replacing_nothing_by_nothing_takes_no_node)
{
	struct tree_stash none = { 0 };
	struct tree tree = { 0 };

	ck_assert_int_eq(tree_replace(&tree, 9, ENTRY_EMPTY, ENTRY_EMPTY, &none), 0);
	ck_assert_int_eq(tree_replace(&tree, 9, 5, ENTRY_EMPTY, &none), -ESTALE);
	ck_assert_int_eq(tree_replace(&tree, 0, 5, 7, &none), -ESTALE);
	put(&tree, 500, 4);
	ck_assert_int_eq(tree_replace(&tree, 9, ENTRY_EMPTY, ENTRY_EMPTY, &none), 0);
	ck_assert_int_eq(tree_replace(&tree, 501, ENTRY_EMPTY, ENTRY_EMPTY, &none), 0);
	tree_tag_clear(&tree, 9, TREE_DIRTY);
	ck_assert_uint_eq(tree_count_nodes(&tree), 1);
	tree_check(&tree);
	empty(&tree);
}
END_TEST

START_TEST(a_replaced_entry_loses_its_tags)
{
	static const uint64_t indices[] = { 0, 3, 70, UINT64_C(1) << 40 };
	struct tree tree = { 0 };

	for (unsigned i = 0; i < 4; i++) {
		put(&tree, indices[i], 8);
		tree_tag_set(&tree, indices[i], TREE_DIRTY);
		tree_tag_set(&tree, indices[i], TREE_WRITEBACK);
		put(&tree, indices[i], entry_of_slot(i, 1));
		ck_assert(!tree_tag_get(&tree, indices[i], TREE_DIRTY));
		ck_assert(!tree_tag_get(&tree, indices[i], TREE_WRITEBACK));
		ck_assert(tree_tag_get(&tree, indices[i], TREE_SWAPPED));
		put(&tree, indices[i], 8);
		ck_assert(!tree_tag_get(&tree, indices[i], TREE_SWAPPED));
		tree_check(&tree);
	}
	empty(&tree);
}
END_TEST

START_TEST(misses_of_a_range_are_noted_leaf_by_leaf)
{
	struct tree tree = { 0 };

	put(&tree, 60, 4);
	put(&tree, 130, 4); /* and none between: that leaf is not there */
	ck_assert_uint_eq(tree_ghost_note_range(&tree, 50, 100, 5), 0);
	ck_assert_uint_eq(tree_ghost_note_range(&tree, 50, 14, 5), 14);
	ck_assert_uint_eq(tree_ghost_note_range(&tree, 64, 64, 5), 0);
	ck_assert_uint_eq(tree_ghost_note_range(&tree, 0, 192, 6), 14 + 22);
	ck_assert(tree_ghost_note(&tree, 0, 7));
	ck_assert(!tree_ghost_note(&tree, 64, 7));
	ck_assert_uint_eq(tree_ghost_note_range(&tree, 128, 64, 9), 0); /* an epoch went by unseen */
	empty(&tree);
}
END_TEST

START_TEST(a_miss_is_remembered_for_its_epoch_and_the_next)
{
	struct tree tree = { 0 };

	put(&tree, 130, 4);
	put(&tree, 131, 4);
	ck_assert(!tree_ghost_note(&tree, 130, 7));
	ck_assert(tree_ghost_note(&tree, 130, 7));
	ck_assert(!tree_ghost_note(&tree, 131, 8)); /* 130 moves to the previous epoch, noted by its neighbour */
	ck_assert(tree_ghost_note(&tree, 130, 8));
	ck_assert(tree_ghost_note(&tree, 131, 9));
	ck_assert(!tree_ghost_note(&tree, 130, 11)); /* an epoch went by unseen */
	ck_assert(tree_ghost_note(&tree, 130, 11));
	ck_assert(!tree_ghost_note(&tree, 130, UINT16_MAX));
	ck_assert(tree_ghost_note(&tree, 130, 0)); /* the counter wraps */
	put(&tree, 130, 8);			   /* another entry: the miss is the index's, not the entry's */
	ck_assert(tree_ghost_note(&tree, 130, 1));
	ck_assert(!tree_ghost_note(&tree, 5, 1)); /* no leaf, twice */
	ck_assert(!tree_ghost_note(&tree, 5, 1));
	put(&tree, 130, ENTRY_EMPTY);
	put(&tree, 131, ENTRY_EMPTY);
	put(&tree, 130, 8); /* a new leaf knows nothing, whatever its memory held */
	ck_assert(!tree_ghost_note(&tree, 130, 1));
	empty(&tree);
}
END_TEST

START_TEST(a_walk_over_a_tag_finds_the_one_that_carries_it)
{
	struct tree tree = { 0 };
	uint64_t index;
	entry_t entry;

	for (uint64_t i = 0; i < 20000; i++)
		put(&tree, i, (i + 1) << 2);
	tree_tag_set(&tree, 12345, TREE_DIRTY);
	index = 0;
	ck_assert(tree_next_tagged(&tree, &index, UINT64_MAX, TREE_DIRTY, &entry));
	ck_assert_uint_eq(index, 12345);
	ck_assert_uint_eq(entry, UINT64_C(12346) << 2);
	index = 0;
	ck_assert(!tree_next_tagged(&tree, &index, 12344, TREE_DIRTY, &entry));
	index = 12346;
	ck_assert(!tree_next_tagged(&tree, &index, UINT64_MAX, TREE_DIRTY, &entry));
	tree_tag_clear(&tree, 12345, TREE_DIRTY);
	index = 0;
	ck_assert(!tree_next_tagged(&tree, &index, UINT64_MAX, TREE_DIRTY, &entry));
	ck_assert_uint_eq(index, 0);
	index = 5;
	ck_assert(!tree_next(&tree, &index, 4, &entry)); /* an empty range */
	empty(&tree);
}
END_TEST

START_TEST(an_index_of_pointers_works_for_every_number)
{
	static int things[64];
	struct tree tree = { 0 };
	entry_t entry;
	uint64_t index = 0;

	for (unsigned i = 0; i < 64; i++)
		put(&tree, UINT64_MAX >> i, (entry_t)(uintptr_t)&things[i]);
	tree_check(&tree);
	for (unsigned i = 64; i-- > 0; index++) {
		ck_assert(tree_next(&tree, &index, UINT64_MAX, &entry));
		ck_assert_uint_eq(index, UINT64_MAX >> i);
		ck_assert_ptr_eq((void *)(uintptr_t)entry, &things[i]);
	}
	empty(&tree);
}
END_TEST

START_TEST(a_range_is_loaded_as_its_entries_one_by_one)
{
	entry_t out[1000];
	struct tree tree = { 0 };

	tree_load_range(&tree, 0, 0, NULL);
	for (int filled = 0; filled < 3; filled++) {
		if (filled > 0)
			put(&tree, 0, 4);
		for (uint64_t i = 100; filled == 2 && i < 800; i += 1 + i % 5 * 30)
			put(&tree, i, i << 2);
		for (uint64_t first = 0; first < 200; first += 7) {
			memset(out, 0xff, sizeof(out));
			tree_load_range(&tree, first, 999, out);
			for (uint64_t i = 0; i < 999; i++)
				SAME(out[i], tree_load(&tree, first + i));
			ck_assert_uint_eq(out[999], UINT64_MAX);
		}
	}
	put(&tree, UINT64_MAX, 12);
	tree_load_range(&tree, UINT64_MAX - 99, 100, out);
	ck_assert_uint_eq(out[99], 12);
	ck_assert_uint_eq(out[98], ENTRY_EMPTY);
	empty(&tree);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree");
	TCase *tc = tcase_create("tree");

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, seven_nodes_fit_in_a_frame);
	tcase_add_test(tc, a_stash_gives_back_what_was_put_in);
	tcase_add_test(tc, a_tree_with_index_0_alone_has_no_node);
	tcase_add_test(tc, the_far_end_costs_three_nodes_at_most);
	tcase_add_test(tc, the_longest_path_can_be_built_and_taken_apart);
	tcase_add_test(tc, replacing_nothing_by_nothing_takes_no_node);
	tcase_add_test(tc, a_replaced_entry_loses_its_tags);
	tcase_add_test(tc, misses_of_a_range_are_noted_leaf_by_leaf);
	tcase_add_test(tc, a_miss_is_remembered_for_its_epoch_and_the_next);
	tcase_add_test(tc, a_walk_over_a_tag_finds_the_one_that_carries_it);
	tcase_add_test(tc, an_index_of_pointers_works_for_every_number);
	tcase_add_test(tc, a_range_is_loaded_as_its_entries_one_by_one);
	tcase_add_test(tc, random_operations_agree_with_a_flat_array);
	suite_add_tcase(suite, tc);
	return run_suite(suite, CK_FORK_GETENV);
}
