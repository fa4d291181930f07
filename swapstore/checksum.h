/* SPDX-License-Identifier: MIT */
/*
 * checksum: what a swap entry remembers of its page's bytes (XXH3 of libxxhash, cut to ENTRY_SUM_BITS), and the
 * search for pages that are all zero.  No state, no locks.
 */
#ifndef SWAPSTORE_CHECKSUM_H
#define SWAPSTORE_CHECKSUM_H

#include "swapstore/entry.h"

/* page: 4096 bytes. */
uint32_t checksum_page(const void *page);
bool checksum_page_is_zero(const void *page);

#endif
