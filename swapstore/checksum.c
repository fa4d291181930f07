/* SPDX-License-Identifier: MIT */
/*
 * checksum: pure functions over one page; called by reclaim as it writes and by the page cache as it reads.
 * A page may be written to while they run: its frame is then REDIRTIED and their answer is thrown away, which
 * is why the thread sanitizer is told to look away.
 */
#include "swapstore/checksum.h"

#include "swapstore/frames.h"

#include <xxhash.h>
#ifdef SPILLFS_XXH_DISPATCH
#include <xxh_x86dispatch.h> /* XXH3_64bits() of this processor: the same sums */
#endif

#define NO_TSAN __attribute__((no_sanitize("thread")))

uint32_t checksum_page(const void *page)
{
	return (uint32_t)XXH3_64bits(page, FRAME_SIZE) & ENTRY_SUM_MASK;
}

NO_TSAN bool checksum_page_is_zero(const void *page)
{
	const uint64_t *word = page;

	/* Most pages that are not zero say so at once. */
	for (unsigned i = 0; i < FRAME_SIZE / 8; i += 8)
		if (word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] | word[i + 5] | word[i + 6] |
		    word[i + 7])
			return false;
	return true;
}
