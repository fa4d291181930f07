/* SPDX-License-Identifier: MIT */
/*
 * entry: the 64-bit word that a page of an object has in its radix tree.
 *
 *    63            34 33             2 1 0
 *   +----------------+----------------+---+
 *   |   0: empty, or the address of a | 00|   nothing, or a struct frame
 *   |          struct frame           |   |
 *   +----------------+----------------+---+
 *   |       0        |     0 or 1     | 01|   zero marker: allocated, no frame, no slot, reads as zeroes
 *   +----------------+----------------+---+
 *   | checksum (30)  |   slot (32)    | 10|   swap entry: slot << 2 | 2, as in the kernel's shmem
 *   +----------------+----------------+---+
 *
 * The upper bits that a 32-bit slot number leaves free hold the page's checksum, so a swapped page costs
 * eight bytes of entry and nothing more.  Two kinds of zero marker: ENTRY_ZERO is data that happens to be
 * zero (SEEK_DATA finds it), ENTRY_UNWRITTEN is space that fallocate() set aside (SEEK_HOLE finds it).
 */
#ifndef SWAPSTORE_ENTRY_H
#define SWAPSTORE_ENTRY_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

struct frame;

typedef uint64_t entry_t;

#define ENTRY_EMPTY     ((entry_t)0)
#define ENTRY_ZERO      ((entry_t)1)
#define ENTRY_UNWRITTEN ((entry_t)5)

#define ENTRY_SLOT_BITS 32
#define ENTRY_SUM_BITS  30
#define ENTRY_SUM_MASK  ((UINT32_C(1) << ENTRY_SUM_BITS) - 1)
#define ENTRY_SLOTS_MAX (UINT64_C(1) << ENTRY_SLOT_BITS)

static inline bool entry_is_empty(entry_t e)
{
	return e == ENTRY_EMPTY;
}

static inline bool entry_is_frame(entry_t e)
{
	return e != ENTRY_EMPTY && (e & 3) == 0;
}

static inline bool entry_is_swap(entry_t e)
{
	return (e & 3) == 2;
}

/* Allocated, reads as zeroes, owns neither frame nor slot. */
static inline bool entry_is_zero(entry_t e)
{
	return (e & 3) == 1;
}

/* True for what SEEK_DATA must find. */
static inline bool entry_is_data(entry_t e)
{
	return e != ENTRY_EMPTY && e != ENTRY_UNWRITTEN;
}

static inline entry_t entry_of_frame(struct frame *f)
{
	assert(((uintptr_t)f & 3) == 0);
	return (entry_t)(uintptr_t)f;
}

static inline struct frame *entry_frame(entry_t e)
{
	assert(entry_is_frame(e));
	return (struct frame *)(uintptr_t)e;
}

static inline entry_t entry_of_slot(uint32_t slot, uint32_t sum)
{
	return (entry_t)(sum & ENTRY_SUM_MASK) << (ENTRY_SLOT_BITS + 2) | (entry_t)slot << 2 | 2;
}

static inline uint32_t entry_slot(entry_t e)
{
	assert(entry_is_swap(e));
	return (uint32_t)(e >> 2);
}

static inline uint32_t entry_sum(entry_t e)
{
	return (uint32_t)(e >> (ENTRY_SLOT_BITS + 2));
}

#endif
