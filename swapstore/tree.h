/* SPDX-License-Identifier: MIT */
/*
 * tree: a tagged radix tree of 64-bit entries, 64 ways a node (the idea of Linux's radix tree and xarray).
 *
 *      root ── node(shift 6) ─┬─ node(shift 0) ─┬─ entry
 *                             │                 └─ entry          index = 6 bits a level
 *                             └─ node(shift 0) ─── entry
 *
 * A tree whose only entry has index 0 has no node: the root is the entry.  Every node carries one bitmap a
 * tag; a parent's bit is the OR of its child's bitmap, so a walk over a tag skips what does not carry it.
 * A node without entries is removed at once, and a level where a node would have a single child is left out
 * (a leaf may hang from any level): far-apart indices cost a leaf and a branch each, not a chain of nodes.
 *
 * Context: the caller serialises (the page cache by the object's lock).  Nothing here allocates: nodes come
 * from the caller's stash, filled before the lock is taken, and go back to it (radix_tree_preload's idea).
 */
#ifndef SWAPSTORE_TREE_H
#define SWAPSTORE_TREE_H

#include "swapstore/entry.h"

#include <stddef.h>

enum tree_tag { TREE_DIRTY, TREE_WRITEBACK, TREE_SWAPPED, TREE_NTAGS };

#define TREE_BITS	 6
#define TREE_WAYS	 (1U << TREE_BITS)
/* Nodes on the longest path; and what one store into any tree may need. */
#define TREE_MAX_DEPTH	 11
#define TREE_STORE_NODES 3

struct tree_node;

struct tree {
	entry_t root;  /* an entry (depth 0), else a struct tree_node * */
	uint8_t depth; /* most levels of nodes below root; 0: root is the entry of index 0 */
	uint8_t tags;  /* depth 0 only: the tags of the single entry */
};

/* Spare nodes, private to one caller.  An empty one is all zeroes. */
struct tree_stash {
	struct tree_node *head;
	unsigned count;
};

/* Bytes of a node: what an allocator must hand to tree_stash_push(). */
size_t tree_node_size(void);

/* Gives memory of tree_node_size() bytes to the stash; and takes one spare node out, NULL when it is empty. */
void tree_stash_push(struct tree_stash *stash, void *node);
void *tree_stash_pop(struct tree_stash *stash);

/* The entry at index, ENTRY_EMPTY where there is none. */
entry_t tree_load(const struct tree *tree, uint64_t index);

/* Copies the n entries from first on into out[], a leaf at a time. */
void tree_load_range(const struct tree *tree, uint64_t first, size_t n, entry_t *out);

/*
 * Compare and replace: stores new at index if the entry there is expected.  new = ENTRY_EMPTY removes it and
 * gives emptied nodes to the stash.  All tags of the index are cleared, then TREE_SWAPPED is set if new is a
 * swap entry.
 * Returns 0; -ESTALE if another entry is there; -ENOMEM if the stash ran out of nodes (nothing changed;
 * TREE_STORE_NODES nodes are always enough for one call).
 */
int tree_replace(struct tree *tree, uint64_t index, entry_t expected, entry_t new, struct tree_stash *stash);

/* Tags of a non-empty entry; setting one on an empty index is a programming error. */
void tree_tag_set(struct tree *tree, uint64_t index, enum tree_tag tag);
void tree_tag_clear(struct tree *tree, uint64_t index, enum tree_tag tag);
bool tree_tag_get(const struct tree *tree, uint64_t index, enum tree_tag tag);

/*
 * The first non-empty entry (or the first that carries tag) with *index <= its index <= last.
 * Returns true and sets *index and *entry, or false and leaves both.
 */
bool tree_next(const struct tree *tree, uint64_t *index, uint64_t last, entry_t *entry);
bool tree_next_tagged(const struct tree *tree, uint64_t *index, uint64_t last, enum tree_tag tag, entry_t *entry);

/*
 * Ghost bits: has this index missed before, not long ago?  A leaf remembers misses of its entries in the
 * current and in the previous epoch (any counter that the caller advances).  Returns whether index had been
 * noted in either, and notes it now.  Indices with no leaf (the depth-0 root) are never remembered, and what a
 * leaf remembers goes with it.
 */
bool tree_ghost_note(struct tree *tree, uint64_t index, uint16_t epoch);

/* The same for n indices from first on (n >= 1).  Returns how many of them had been noted. */
unsigned tree_ghost_note_range(struct tree *tree, uint64_t first, unsigned n, uint16_t epoch);

/* Number of nodes in use, and a full check of every invariant above (asserts); for tests. */
size_t tree_count_nodes(const struct tree *tree);
void tree_check(const struct tree *tree);

#endif
