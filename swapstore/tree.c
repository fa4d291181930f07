/* SPDX-License-Identifier: MIT */
/*
 * tree: owns the shape of the tagged radix tree and its nodes' bitmaps; what the entries mean is the caller's.
 * No lock of its own: the caller serialises (the page cache by the object's lock, an index of pointers by its
 * table's lock), and brings the memory, so nothing here sleeps or allocates.  Called by the page cache for the
 * pages of an object, and by fuse-fs as an index from number to pointer.
 *
 * The shape is a function of the set of indices alone:
 *
 *   1. a leaf has at least one entry, a node above the leaves at least two children: a level that would have
 *      one child only is left out, and each node says itself which indices it covers (base and shift);
 *   2. a tree whose only entry has index 0 has no node.
 *
 * So a store adds at most one branch and one leaf (and a leaf for what was the depth-0 root), however far
 * apart the indices lie.  Without 1, index 0 next to index 2^64-1 would cost two chains of nodes, 21 in all.
 */
#include "swapstore/tree.h"

#include <errno.h>
#include <string.h>

struct tree_node {
	entry_t slot[TREE_WAYS];  /* leaf: entries; above: children; [0] links spare nodes in a stash */
	uint64_t present;	  /* slot[i] is not empty */
	uint64_t tag[TREE_NTAGS]; /* the entry, or something below the child, carries the tag */
	uint64_t ghost[2];	  /* leaf: misses noted in epoch, and in the one before */
	uint64_t base;		  /* the first index covered: the low shift + 6 bits are 0 */
	uint16_t epoch;
	uint8_t shift; /* 0: leaf; slot[i] covers 1 << shift indices */
};

_Static_assert(sizeof(struct tree_node) <= 4096 / 7, "seven nodes fit in a frame");

/* The nodes that cover an index, from the root down. */
struct path {
	struct tree_node *node[TREE_MAX_DEPTH];
	unsigned n;
};

static struct tree_node *node_of(entry_t child)
{
	return (struct tree_node *)(uintptr_t)child;
}

static entry_t entry_of_node(const struct tree_node *node)
{
	return (entry_t)(uintptr_t)node;
}

static unsigned node_digit(const struct tree_node *node, uint64_t index)
{
	return (index >> node->shift) & (TREE_WAYS - 1);
}

static uint64_t bit_of(unsigned digit)
{
	return UINT64_C(1) << digit;
}

/* The first index that a node of this shift covers if it covers index; two shifts because 60 + 6 > 63. */
static uint64_t base_of(uint64_t index, unsigned shift)
{
	return index >> shift >> TREE_BITS << TREE_BITS << shift;
}

static bool node_covers(const struct tree_node *node, uint64_t index)
{
	return ((index ^ node->base) >> node->shift) < TREE_WAYS;
}

static uint8_t tags_of(entry_t entry)
{
	return entry_is_swap(entry) ? 1U << TREE_SWAPPED : 0;
}

/* ---- spare nodes ---- */

size_t tree_node_size(void)
{
	return sizeof(struct tree_node);
}

void tree_stash_push(struct tree_stash *stash, void *memory)
{
	struct tree_node *node = memory;

	node->slot[0] = entry_of_node(stash->head);
	stash->head = node;
	stash->count++;
}

void *tree_stash_pop(struct tree_stash *stash)
{
	struct tree_node *node = stash->head;

	if (!node)
		return NULL;
	stash->head = node_of(node->slot[0]);
	stash->count--;
	return node;
}

/* The caller has counted: the stash cannot be empty. */
static struct tree_node *node_new(struct tree_stash *stash, uint64_t index, unsigned shift)
{
	struct tree_node *node = tree_stash_pop(stash);

	assert(node);
	memset(node, 0, sizeof(*node));
	node->base = base_of(index, shift);
	node->shift = (uint8_t)shift;
	return node;
}

/* ---- shape ---- */

static void set_root(struct tree *tree, struct tree_node *node)
{
	tree->root = entry_of_node(node);
	tree->depth = node->shift / TREE_BITS + 1;
}

static void path_find(const struct tree *tree, uint64_t index, struct path *path)
{
	entry_t child = tree->depth ? tree->root : ENTRY_EMPTY;

	path->n = 0;
	while (child != ENTRY_EMPTY) {
		struct tree_node *node = node_of(child);

		if (!node_covers(node, index))
			return;
		path->node[path->n++] = node;
		if (node->shift == 0)
			return;
		child = node->slot[node_digit(node, index)];
	}
}

static struct tree_node *path_leaf(const struct path *path)
{
	struct tree_node *last = path->n ? path->node[path->n - 1] : NULL;

	return last && last->shift == 0 ? last : NULL;
}

/* The leaf that covers index, or NULL.  On the way down only digits are looked at; the leaf's base decides. */
static struct tree_node *find_leaf(const struct tree *tree, uint64_t index)
{
	struct tree_node *node = tree->depth ? node_of(tree->root) : NULL;

	while (node && node->shift != 0)
		node = node_of(node->slot[node_digit(node, index)]);
	return node && node_covers(node, index) ? node : NULL;
}

static void node_attach(struct tree_node *parent, struct tree_node *child)
{
	unsigned digit = node_digit(parent, child->base);

	parent->slot[digit] = entry_of_node(child);
	parent->present |= bit_of(digit);
	for (unsigned t = 0; t < TREE_NTAGS; t++)
		if (child->tag[t])
			parent->tag[t] |= bit_of(digit);
}

/* How many nodes leaf_add() takes for an index whose path ends above the leaves. */
static unsigned leaf_add_cost(const struct tree *tree, uint64_t index, const struct path *path)
{
	const struct tree_node *last = path->n ? path->node[path->n - 1] : NULL;

	if (tree->depth == 0) {
		if (entry_is_empty(tree->root))
			return 1;
		return index < TREE_WAYS ? 1 : TREE_STORE_NODES;
	}
	if (last && entry_is_empty(last->slot[node_digit(last, index)]))
		return 1;
	return 2;
}

/* The entry of a depth-0 tree moves into a leaf, so that others can stand beside it. */
static void root_unfold(struct tree *tree, struct tree_stash *stash)
{
	struct tree_node *leaf = node_new(stash, 0, 0);

	leaf->slot[0] = tree->root;
	leaf->present = 1;
	for (unsigned t = 0; t < TREE_NTAGS; t++)
		leaf->tag[t] = tree->tags >> t & 1;
	tree->tags = 0;
	set_root(tree, leaf);
}

/* And back: a lone leaf with nothing but index 0 is no node at all. */
static void root_fold(struct tree *tree, struct tree_stash *stash)
{
	struct tree_node *leaf = node_of(tree->root);

	if (leaf->shift != 0 || leaf->base != 0 || leaf->present != 1)
		return;
	tree->root = leaf->slot[0];
	tree->depth = 0;
	for (unsigned t = 0; t < TREE_NTAGS; t++)
		tree->tags |= (leaf->tag[t] & 1) << t;
	tree_stash_push(stash, leaf);
}

/*
 * Adds the leaf that index lacks; path ends at the last node that covers index.  Where a child stands in the
 * way that covers other indices, a branch goes in above it, at the highest digit in which the two differ.
 */
static void leaf_add(struct tree *tree, uint64_t index, const struct path *path, struct tree_stash *stash)
{
	struct tree_node *parent = path->n ? path->node[path->n - 1] : NULL;
	struct tree_node *leaf, *sibling, *branch;
	unsigned shift;

	if (tree->depth == 0 && !entry_is_empty(tree->root)) {
		root_unfold(tree, stash);
		if (index < TREE_WAYS)
			return;
	}
	leaf = node_new(stash, index, 0);
	sibling = node_of(parent ? parent->slot[node_digit(parent, index)] : tree->root);
	if (sibling) {
		shift = (63U - (unsigned)__builtin_clzll(sibling->base ^ index)) / TREE_BITS * TREE_BITS;
		branch = node_new(stash, index, shift);
		node_attach(branch, sibling);
		node_attach(branch, leaf);
	} else {
		branch = leaf;
	}
	if (parent)
		node_attach(parent, branch);
	else
		set_root(tree, branch);
}

/* An entry has gone from the path's leaf: puts rules 1 and 2 of the shape in force again. */
static void path_prune(struct tree *tree, struct path *path, uint64_t index, struct tree_stash *stash)
{
	struct tree_node *node = path->node[path->n - 1], *only;

	if (node->present == 0) {
		tree_stash_push(stash, node);
		path->n--;
		if (path->n == 0) {
			tree->root = ENTRY_EMPTY;
			tree->depth = 0;
			return;
		}
		node = path->node[path->n - 1];
		node->slot[node_digit(node, index)] = ENTRY_EMPTY;
		node->present &= ~bit_of(node_digit(node, index));
		if (__builtin_popcountll(node->present) == 1) {
			only = node_of(node->slot[__builtin_ctzll(node->present)]);
			path->n--;
			/* The tag bits above stay right: they were the OR of this one child already. */
			if (path->n == 0)
				set_root(tree, only);
			else
				node_attach(path->node[path->n - 1], only);
			tree_stash_push(stash, node);
		}
	}
	root_fold(tree, stash);
}

/* ---- tags ---- */

static void path_tag_set(const struct path *path, uint64_t index, unsigned tag)
{
	for (unsigned i = path->n; i-- > 0;)
		path->node[i]->tag[tag] |= bit_of(node_digit(path->node[i], index));
}

static void path_tag_clear(const struct path *path, uint64_t index, unsigned tag)
{
	for (unsigned i = path->n; i-- > 0;) {
		path->node[i]->tag[tag] &= ~bit_of(node_digit(path->node[i], index));
		if (path->node[i]->tag[tag])
			return;
	}
}

void tree_tag_set(struct tree *tree, uint64_t index, enum tree_tag tag)
{
	struct path path;

	assert(!entry_is_empty(tree_load(tree, index)));
	if (tree->depth == 0) {
		tree->tags |= 1U << tag;
		return;
	}
	path_find(tree, index, &path);
	path_tag_set(&path, index, tag);
}

void tree_tag_clear(struct tree *tree, uint64_t index, enum tree_tag tag)
{
	struct path path;

	if (tree->depth == 0) {
		if (index == 0)
			tree->tags &= ~(1U << tag);
		return;
	}
	path_find(tree, index, &path);
	/* Without a leaf there is no entry, so no tag; the bits of the nodes above belong to others. */
	if (path_leaf(&path))
		path_tag_clear(&path, index, tag);
}

bool tree_tag_get(const struct tree *tree, uint64_t index, enum tree_tag tag)
{
	const struct tree_node *leaf;

	if (tree->depth == 0)
		return index == 0 && (tree->tags >> tag & 1);
	leaf = find_leaf(tree, index);
	return leaf && (leaf->tag[tag] & bit_of(node_digit(leaf, index)));
}

/* ---- entries ---- */

entry_t tree_load(const struct tree *tree, uint64_t index)
{
	const struct tree_node *leaf;

	if (tree->depth == 0)
		return index == 0 ? tree->root : ENTRY_EMPTY;
	leaf = find_leaf(tree, index);
	return leaf ? leaf->slot[node_digit(leaf, index)] : ENTRY_EMPTY;
}

void tree_load_range(const struct tree *tree, uint64_t first, size_t n, entry_t *out)
{
	assert(n == 0 || first <= UINT64_MAX - (n - 1));
	if (tree->depth == 0) {
		if (n > 0) {
			memset(out, 0, n * sizeof(*out));
			out[0] = tree_load(tree, first);
		}
		return;
	}
	while (n > 0) {
		const struct tree_node *leaf = find_leaf(tree, first);
		size_t part = TREE_WAYS - (first & (TREE_WAYS - 1));

		if (part > n)
			part = n;
		if (leaf)
			memcpy(out, &leaf->slot[node_digit(leaf, first)], part * sizeof(*out));
		else
			memset(out, 0, part * sizeof(*out));
		first += part;
		out += part;
		n -= part;
	}
}

static void path_store(const struct path *path, uint64_t index, entry_t new)
{
	struct tree_node *leaf = path->node[path->n - 1];
	unsigned digit = node_digit(leaf, index);
	uint8_t tags = tags_of(new);

	leaf->slot[digit] = new;
	if (entry_is_empty(new))
		leaf->present &= ~bit_of(digit);
	else
		leaf->present |= bit_of(digit);
	for (unsigned t = 0; t < TREE_NTAGS; t++) {
		bool now = leaf->tag[t] & bit_of(digit), then = tags >> t & 1;

		if (then && !now)
			path_tag_set(path, index, t);
		else if (now && !then)
			path_tag_clear(path, index, t);
	}
}

int tree_replace(struct tree *tree, uint64_t index, entry_t expected, entry_t new, struct tree_stash *stash)
{
	struct tree_node *leaf;
	struct path path;

	if (tree->depth == 0 && index == 0) {
		if (tree->root != expected)
			return -ESTALE;
		tree->root = new;
		tree->tags = tags_of(new);
		return 0;
	}
	path_find(tree, index, &path);
	leaf = path_leaf(&path);
	if ((leaf ? leaf->slot[node_digit(leaf, index)] : ENTRY_EMPTY) != expected)
		return -ESTALE;
	if (!leaf) {
		if (entry_is_empty(new))
			return 0;
		if (stash->count < leaf_add_cost(tree, index, &path))
			return -ENOMEM;
		leaf_add(tree, index, &path, stash);
		path_find(tree, index, &path);
	}
	path_store(&path, index, new);
	if (entry_is_empty(new))
		path_prune(tree, &path, index, stash);
	return 0;
}

/* ---- walks ---- */

/* tag = TREE_NTAGS: any entry. */
static uint64_t node_bits(const struct tree_node *node, unsigned tag)
{
	return tag == TREE_NTAGS ? node->present : node->tag[tag];
}

/*
 * tree_next() below one node.  Only the child that *index itself falls into, and only by lying wholly before it,
 * can disappoint: a set bit promises something below.  So a call looks at two nodes a level at most.
 */
static bool node_next(const struct tree_node *node, uint64_t *index, uint64_t last, unsigned tag, entry_t *entry)
{
	uint64_t bits = node_bits(node, tag);

	if (*index > node->base) {
		if (!node_covers(node, *index))
			return false;
		bits &= ~UINT64_C(0) << node_digit(node, *index);
	}
	for (; bits; bits &= bits - 1) {
		unsigned digit = (unsigned)__builtin_ctzll(bits);
		uint64_t at = node->base + ((uint64_t)digit << node->shift);

		if (at > last)
			return false;
		if (node->shift == 0) {
			*index = at;
			*entry = node->slot[digit];
			return true;
		}
		if (node_next(node_of(node->slot[digit]), index, last, tag, entry))
			return true;
	}
	return false;
}

static bool next_of(const struct tree *tree, uint64_t *index, uint64_t last, unsigned tag, entry_t *entry)
{
	if (*index > last)
		return false;
	if (tree->depth > 0)
		return node_next(node_of(tree->root), index, last, tag, entry);
	if (*index > 0 || entry_is_empty(tree->root) || (tag != TREE_NTAGS && !(tree->tags >> tag & 1)))
		return false;
	*entry = tree->root;
	return true;
}

bool tree_next(const struct tree *tree, uint64_t *index, uint64_t last, entry_t *entry)
{
	return next_of(tree, index, last, TREE_NTAGS, entry);
}

bool tree_next_tagged(const struct tree *tree, uint64_t *index, uint64_t last, enum tree_tag tag, entry_t *entry)
{
	return next_of(tree, index, last, tag, entry);
}

/* ---- ghosts ---- */

unsigned tree_ghost_note_range(struct tree *tree, uint64_t first, unsigned n, uint16_t epoch)
{
	unsigned seen = 0;

	for (unsigned part; n > 0; first += part, n -= part) {
		struct tree_node *leaf = find_leaf(tree, first);
		unsigned digit = first % TREE_WAYS;
		uint64_t bits;

		part = n < TREE_WAYS - digit ? n : TREE_WAYS - digit;
		if (!leaf)
			continue;
		if (leaf->epoch != epoch) {
			leaf->ghost[1] = (uint16_t)(leaf->epoch + 1) == epoch ? leaf->ghost[0] : 0;
			leaf->ghost[0] = 0;
			leaf->epoch = epoch;
		}
		bits = UINT64_MAX >> (64 - part) << digit;
		seen += (unsigned)__builtin_popcountll((leaf->ghost[0] | leaf->ghost[1]) & bits);
		leaf->ghost[0] |= bits;
	}
	return seen;
}

bool tree_ghost_note(struct tree *tree, uint64_t index, uint16_t epoch)
{
	return tree_ghost_note_range(tree, index, 1, epoch) > 0;
}

/* ---- for tests ---- */

static size_t node_count(const struct tree_node *node)
{
	size_t n = 1;

	if (node->shift != 0)
		for (uint64_t bits = node->present; bits; bits &= bits - 1)
			n += node_count(node_of(node->slot[__builtin_ctzll(bits)]));
	return n;
}

size_t tree_count_nodes(const struct tree *tree)
{
	return tree->depth ? node_count(node_of(tree->root)) : 0;
}

static void node_check(const struct tree_node *node)
{
	assert(node->shift % TREE_BITS == 0 && node->shift < TREE_BITS * TREE_MAX_DEPTH);
	assert(node->base == base_of(node->base, node->shift));
	assert(__builtin_popcountll(node->present) >= (node->shift == 0 ? 1 : 2));
	for (unsigned t = 0; t < TREE_NTAGS; t++)
		assert((node->tag[t] & ~node->present) == 0);
	for (unsigned i = 0; i < TREE_WAYS; i++) {
		const struct tree_node *child;

		assert(entry_is_empty(node->slot[i]) == !(node->present & bit_of(i)));
		if (node->shift == 0 || entry_is_empty(node->slot[i]))
			continue;
		child = node_of(node->slot[i]);
		assert(child->shift < node->shift);
		assert(node_covers(node, child->base) && node_digit(node, child->base) == i);
		for (unsigned t = 0; t < TREE_NTAGS; t++)
			assert((child->tag[t] != 0) == (node->tag[t] >> i & 1));
		node_check(child);
	}
}

void tree_check(const struct tree *tree)
{
	const struct tree_node *root;

	if (tree->depth == 0) {
		assert(tree->tags < 1U << TREE_NTAGS);
		assert(!entry_is_empty(tree->root) || tree->tags == 0);
		return;
	}
	root = node_of(tree->root);
	assert(tree->tags == 0);
	assert(tree->depth == root->shift / TREE_BITS + 1);
	assert(root->shift != 0 || root->base != 0 || root->present != 1);
	node_check(root);
}
