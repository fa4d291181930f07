/* SPDX-License-Identifier: MIT */
/*
 * giveback: memory that goes back to the system on request: which chunks.  Guarded by the lock of struct frames; the
 * arena's thread takes the memory (arena.c).  Called by reclaim.c, which evicts what lies in the way.
 */
#include "swapstore/frames_impl.h"
#include "swapstore/util.h"

#include <assert.h>

#define STAYS_TIMES 32

void frames_release(struct frames *fr, uint32_t chunks)
{
	UTIL_LOCKED(&fr->lock);

	fr->give_back += chunks;
	pthread_cond_signal(&fr->work);
	/* The thread makes it 0 when no more can go. */
	while (fr->give_back > 0 && !fr->stopping)
		pthread_cond_wait(&fr->freed, &fr->lock);
}

bool frames_vacate(struct frames *fr, uint32_t *first)
{
	uint32_t best = NO_CHUNK;
	struct chunk *ch;
	UTIL_LOCKED(&fr->lock);

	/* None that bookkeeping lives in; nor a full one, as eviction by age alone does as well there. */
	for (uint32_t c = fr->head[CHUNK_PARTIAL]; c != NO_CHUNK; c = ch->next) {
		ch = &fr->chunk[c];
		if (ch->stays > 0)
			ch->stays--;
		else if (best == NO_CHUNK || ch->nfree + ch->nabsent > fr->chunk[best].nfree + fr->chunk[best].nabsent)
			best = c;
	}
	if (best == NO_CHUNK || !arena_can_spare_locked(fr, fr->chunk[best].nfree))
		return false;
	ch = &fr->chunk[best];
	ch->leaving = true;
	fr->nfree -= ch->nfree;
	fr->nleaving += ch->nfree;
	arena_relist_locked(fr, best);
	arena_publish_locked(fr);
	*first = best * FRAMES_PER_CHUNK;
	return true;
}

bool frames_vacated(struct frames *fr, uint32_t first)
{
	const uint32_t c = first / FRAMES_PER_CHUNK;
	struct chunk *ch = &fr->chunk[c];
	bool vacant;
	UTIL_LOCKED(&fr->lock);

	assert(ch->leaving && !ch->slab);
	vacant = ch->nfree + ch->nabsent == FRAMES_PER_CHUNK;
	ch->leaving = false;
	ch->stays = vacant ? 0 : STAYS_TIMES;
	fr->nleaving -= ch->nfree;
	fr->nfree += ch->nfree;
	arena_relist_locked(fr, c);
	arena_publish_locked(fr);
	if (fr->waiters)
		pthread_cond_broadcast(&fr->freed);
	return vacant;
}
