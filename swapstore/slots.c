/* SPDX-License-Identifier: MIT */
/*
 * slots: owns the bitmaps of the swap file's slots.  One mutex guards everything here; the page allocator's own
 * lock is taken inside it, nothing else is.  Called by reclaim (alloc, mark_bad), by whoever drops a swapped page
 * (free) and by the trimmer (trim_next, trim_done).  Pages are asked for by slots_alloc() alone, and given back by
 * slots_trim_done() and slots_destroy() alone, so slots_free() may be called where no page may be taken.
 *
 * A group in use has two bitmaps, a page each:
 *
 *   busy      the slot cannot be handed out: in use, bad, being trimmed, or past the end of the file
 *   pending   the slot was freed and its disk space has not been given back yet; never set where busy is
 *
 * The longest free run of a group is known as an upper bound: a free raises it to what the freed run has grown to,
 * and a search in vain makes it exact.  A tree of maxima over the bounds leads to the lowest group that promises
 * enough, so a nearly full swap file is not searched group by group, nor any bitmap twice for the same disappointment.
 */
#include "swapstore/slots.h"

#include "swapstore/entry.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_WORDS (SLOTS_PER_GROUP / 64)
#define NO_GROUP    UINT32_MAX

struct group {
	uint64_t *busy; /* both bitmaps, or neither: nothing in use and nothing pending */
	uint64_t *pending;
	uint16_t used;
	uint16_t bad;
	uint16_t trimming;
	uint16_t pendings;  /* bits in pending */
	uint16_t trim_from; /* no run worth trimming begins before it; SLOTS_PER_GROUP: none at all */
};

struct slots {
	/* Set at init. */
	uint64_t total;
	uint32_t ngroups;
	uint32_t leaves; /* a power of two >= ngroups */
	struct slots_page_ops ops;

	/* changed under lock, atomic for those who only want to know */
	_Atomic uint64_t taken; /* used + bad */
	_Atomic uint64_t limit; /* of taken */

	pthread_mutex_t lock;
	/* Under lock. */
	uint64_t used, bad, trimming;
	uint32_t trim_cursor; /* no group before it has anything to trim */
	struct group *group;
	uint16_t *bound; /* [leaves + g]: no free run of group g is longer; [i]: the maximum of [2i] and [2i + 1] */
};

_Static_assert(SLOTS_PER_GROUP <= UINT16_MAX, "a count of a group's slots fits in 16 bits");
_Static_assert(SLOTS_PER_GROUP == 8 * 4096, "a bitmap is a page");

/* ---- the lock ---- */

static pthread_mutex_t *slots_lock(struct slots *s)
{
	pthread_mutex_lock(&s->lock);
	return &s->lock;
}

static void slots_unlock(pthread_mutex_t **lock)
{
	pthread_mutex_unlock(*lock);
}

#define SLOTS_GUARD(s) __attribute__((cleanup(slots_unlock), unused)) pthread_mutex_t *guard = slots_lock(s)

static void assert_locked(struct slots *s)
{
	assert(pthread_mutex_trylock(&s->lock) == EBUSY);
	(void)s;
}

/* ---- bitmaps: positions 0 .. SLOTS_PER_GROUP ---- */

static bool bit_get(const uint64_t *map, uint32_t pos)
{
	return map[pos / 64] >> pos % 64 & 1;
}

/* The bits of word w that lie in [from, to), which must reach into it. */
static uint64_t word_mask(uint32_t w, uint32_t from, uint32_t to)
{
	uint64_t mask = ~UINT64_C(0);

	if (from > w * 64)
		mask &= ~UINT64_C(0) << from % 64;
	if (to < w * 64 + 64)
		mask &= ~(~UINT64_C(0) << to % 64);
	return mask;
}

static void range_set(uint64_t *map, uint32_t from, uint32_t to)
{
	for (uint32_t w = from / 64; w * 64 < to; w++)
		map[w] |= word_mask(w, from, to);
}

static void range_clear(uint64_t *map, uint32_t from, uint32_t to)
{
	for (uint32_t w = from / 64; w * 64 < to; w++)
		map[w] &= ~word_mask(w, from, to);
}

static uint32_t range_count(const uint64_t *map, uint32_t from, uint32_t to)
{
	uint32_t n = 0;

	for (uint32_t w = from / 64; w * 64 < to; w++)
		n += (uint32_t)__builtin_popcountll(map[w] & word_mask(w, from, to));
	return n;
}

/* The first position >= pos whose bit is set (clear if flip is all ones), else SLOTS_PER_GROUP. */
static uint32_t find_next(const uint64_t *map, uint32_t pos, uint64_t flip)
{
	uint32_t w = pos / 64;
	uint64_t bits;

	if (pos >= SLOTS_PER_GROUP)
		return SLOTS_PER_GROUP;
	bits = (map[w] ^ flip) & ~UINT64_C(0) << pos % 64;
	while (!bits) {
		if (++w == GROUP_WORDS)
			return SLOTS_PER_GROUP;
		bits = map[w] ^ flip;
	}
	return w * 64 + (uint32_t)__builtin_ctzll(bits);
}

static uint32_t next_set(const uint64_t *map, uint32_t pos)
{
	return find_next(map, pos, 0);
}

static uint32_t next_clear(const uint64_t *map, uint32_t pos)
{
	return find_next(map, pos, ~UINT64_C(0));
}

/* Where the run of equal bits (set, or clear if flip is 0) that ends before pos begins; pos if there is none. */
static uint32_t run_begin(const uint64_t *map, uint32_t pos, uint64_t flip)
{
	while (pos > 0) {
		uint32_t w = (pos - 1) / 64;
		uint64_t stop = (map[w] ^ flip) & word_mask(w, 0, pos);

		if (stop)
			return w * 64 + 64 - (uint32_t)__builtin_clzll(stop);
		pos = w * 64;
	}
	return 0;
}

static uint32_t clear_begin(const uint64_t *map, uint32_t pos)
{
	return run_begin(map, pos, 0);
}

static uint32_t set_begin(const uint64_t *map, uint32_t pos)
{
	return run_begin(map, pos, ~UINT64_C(0));
}

/* ---- bounds ---- */

static uint32_t bound_of(const struct slots *s, uint32_t g)
{
	return s->bound[s->leaves + g];
}

static void bound_put(struct slots *s, uint32_t g, uint32_t bound)
{
	uint32_t i = s->leaves + g;

	s->bound[i] = (uint16_t)bound;
	while (i > 1) {
		uint16_t left = s->bound[i & ~1U], right = s->bound[i | 1], max = left > right ? left : right;

		i /= 2;
		if (s->bound[i] == max)
			return;
		s->bound[i] = max;
	}
}

/* The lowest group that promises want, else the lowest of those that promise most; NO_GROUP if all are full. */
static uint32_t bound_pick(const struct slots *s, uint32_t want)
{
	uint32_t i = 1, target = want < s->bound[1] ? want : s->bound[1];

	if (target == 0)
		return NO_GROUP;
	while (i < s->leaves)
		i = 2 * i + (s->bound[2 * i] < target);
	return i - s->leaves;
}

/* The same among the groups that have their bitmaps: for when no page is to be had. */
static uint32_t bound_pick_open(const struct slots *s, uint32_t want)
{
	uint32_t best = NO_GROUP;

	for (uint32_t g = 0; g < s->ngroups; g++) {
		if (!s->group[g].busy || bound_of(s, g) == 0)
			continue;
		if (bound_of(s, g) >= want)
			return g;
		if (best == NO_GROUP || bound_of(s, g) > bound_of(s, best))
			best = g;
	}
	return best;
}

/* ---- groups ---- */

/* SLOTS_PER_GROUP but for the last one. */
static uint32_t group_size(const struct slots *s, uint32_t g)
{
	uint64_t rest = s->total - (uint64_t)g * SLOTS_PER_GROUP;

	return rest < SLOTS_PER_GROUP ? (uint32_t)rest : SLOTS_PER_GROUP;
}

static bool group_open_locked(struct slots *s, uint32_t g)
{
	struct group *group = &s->group[g];

	assert_locked(s);
	group->busy = s->ops.alloc(s->ops.ctx);
	if (!group->busy)
		return false;
	group->pending = s->ops.alloc(s->ops.ctx);
	if (!group->pending) {
		s->ops.free(s->ops.ctx, group->busy);
		group->busy = NULL;
		return false;
	}
	memset(group->busy, 0, SLOTS_PER_GROUP / 8);
	memset(group->pending, 0, SLOTS_PER_GROUP / 8);
	range_set(group->busy, group_size(s, g), SLOTS_PER_GROUP);
	return true;
}

static void group_close(struct slots *s, struct group *group)
{
	group->trim_from = SLOTS_PER_GROUP;
	s->ops.free(s->ops.ctx, group->pending);
	s->ops.free(s->ops.ctx, group->busy);
	group->pending = NULL;
	group->busy = NULL;
}

static bool group_idle(const struct group *group)
{
	return group->used == 0 && group->bad == 0 && group->trimming == 0;
}

/* Makes [from, to) of group g busy; the caller has counted it as used or trimming. */
static void group_claim_locked(struct slots *s, uint32_t g, uint32_t from, uint32_t to)
{
	struct group *group = &s->group[g];
	uint32_t left = group_size(s, g) - group->used - group->bad - group->trimming;

	assert_locked(s);
	assert(range_count(group->busy, from, to) == 0);
	range_set(group->busy, from, to);
	if (group->pendings > 0) {
		group->pendings -= (uint16_t)range_count(group->pending, from, to);
		range_clear(group->pending, from, to);
	}
	/* A full group is full at once, not after the next search. */
	if (left < bound_of(s, g))
		bound_put(s, g, left);
}

/* Takes the first run of want slots that group g has; false if there is none, and then the bound is exact. */
static bool group_take_locked(struct slots *s, uint32_t g, uint32_t want, struct slot_run *run)
{
	struct group *group = &s->group[g];
	uint32_t from, to, longest = 0;

	assert_locked(s);
	for (to = 0; (from = next_clear(group->busy, to)) < SLOTS_PER_GROUP;) {
		to = next_set(group->busy, from);
		if (to - from >= want)
			break;
		if (to - from > longest)
			longest = to - from;
	}
	if (from == SLOTS_PER_GROUP) {
		assert(longest < bound_of(s, g));
		bound_put(s, g, longest);
		return false;
	}
	group->used += (uint16_t)want;
	s->used += want;
	atomic_fetch_add_explicit(&s->taken, want, memory_order_relaxed);
	group_claim_locked(s, g, from, from + want);
	run->first = g * SLOTS_PER_GROUP + from;
	run->count = want;
	return true;
}

/* [from, to) of group g is no longer busy: the bound may have grown. */
static void group_release_locked(struct slots *s, uint32_t g, uint32_t from, uint32_t to)
{
	struct group *group = &s->group[g];
	uint32_t length;

	assert_locked(s);
	assert(range_count(group->busy, from, to) == to - from);
	range_clear(group->busy, from, to);
	length = next_set(group->busy, to) - clear_begin(group->busy, from);
	if (length > bound_of(s, g))
		bound_put(s, g, length);
}

/* Something that begins at pos may have become worth trimming. */
static void group_may_trim_locked(struct slots *s, uint32_t g, uint32_t pos)
{
	assert_locked(s);
	if (pos < s->group[g].trim_from)
		s->group[g].trim_from = (uint16_t)pos;
	if (g < s->trim_cursor)
		s->trim_cursor = g;
}

static void group_free_locked(struct slots *s, uint32_t g, uint32_t from, uint32_t to)
{
	struct group *group = &s->group[g];

	assert_locked(s);
	assert(group->busy && to <= group_size(s, g) && group->used >= to - from);
	group_release_locked(s, g, from, to);
	group->used -= (uint16_t)(to - from);
	s->used -= to - from;
	atomic_fetch_sub_explicit(&s->taken, to - from, memory_order_relaxed);
	range_set(group->pending, from, to);
	group->pendings += (uint16_t)(to - from);
	group_may_trim_locked(s, g, set_begin(group->pending, from));
}

/*
 * The next run of group g to trim, from trim_from on.  In an idle group all is free, so one run reaches from the
 * first pending slot to the last: a single hole, whatever was trimmed between them before.
 */
static bool group_trim_locked(struct slots *s, uint32_t g, uint32_t *from, uint32_t *to)
{
	struct group *group = &s->group[g];

	assert_locked(s);
	if (group->pendings > 0 && group_idle(group)) {
		*from = next_set(group->pending, 0);
		*to = clear_begin(group->pending, SLOTS_PER_GROUP);
		group->trim_from = SLOTS_PER_GROUP;
		return true;
	}
	for (*to = group->trim_from; group->pendings > 0;) {
		*from = next_set(group->pending, *to);
		if (*from == SLOTS_PER_GROUP)
			break;
		*to = next_clear(group->pending, *from);
		if (*to - *from >= SLOTS_TRIM_RUN) {
			group->trim_from = (uint16_t)*to;
			return true;
		}
	}
	group->trim_from = SLOTS_PER_GROUP;
	return false;
}

/* ---- the interface ---- */

int slots_create(uint64_t total, const struct slots_page_ops *ops, struct slots **out)
{
	struct slots *s;

	if (total < 1 || total > ENTRY_SLOTS_MAX)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->total = total;
	s->limit = total;
	s->ops = *ops;
	s->ngroups = (uint32_t)((total + SLOTS_PER_GROUP - 1) / SLOTS_PER_GROUP);
	for (s->leaves = 1; s->leaves < s->ngroups;)
		s->leaves *= 2;
	s->group = calloc(s->ngroups, sizeof(*s->group));
	s->bound = calloc(2 * (size_t)s->leaves, sizeof(*s->bound));
	if (!s->group || !s->bound || pthread_mutex_init(&s->lock, NULL)) {
		free(s->bound);
		free(s->group);
		free(s);
		return -ENOMEM;
	}
	for (uint32_t g = 0; g < s->ngroups; g++) {
		s->group[g].trim_from = SLOTS_PER_GROUP;
		bound_put(s, g, group_size(s, g));
	}
	s->trim_cursor = s->ngroups;
	*out = s;
	return 0;
}

void slots_destroy(struct slots *slots)
{
	if (!slots)
		return;
	for (uint32_t g = 0; g < slots->ngroups; g++)
		if (slots->group[g].busy)
			group_close(slots, &slots->group[g]);
	pthread_mutex_destroy(&slots->lock);
	free(slots->bound);
	free(slots->group);
	free(slots);
}

size_t slots_table_bytes(const struct slots *slots)
{
	return sizeof(*slots) + slots->ngroups * sizeof(*slots->group) +
	       2 * (size_t)slots->leaves * sizeof(*slots->bound);
}

int slots_alloc(struct slots *slots, uint32_t want, struct slot_run *run)
{
	bool open_only = false;

	assert(want > 0);
	if (want > SLOTS_PER_GROUP)
		want = SLOTS_PER_GROUP;
	SLOTS_GUARD(slots);
	if (slots->used + slots->bad >= slots->limit)
		return -ENOSPC;
	if (want > slots->limit - slots->used - slots->bad)
		want = (uint32_t)(slots->limit - slots->used - slots->bad);
	/* Each round ends it, lowers a bound, or turns to the groups that need no page. */
	for (;;) {
		uint32_t g = open_only ? bound_pick_open(slots, want) : bound_pick(slots, want);
		uint32_t target;

		if (g == NO_GROUP)
			return -ENOSPC;
		if (!slots->group[g].busy && !group_open_locked(slots, g)) {
			open_only = true;
			continue;
		}
		target = want < bound_of(slots, g) ? want : bound_of(slots, g);
		if (group_take_locked(slots, g, target, run))
			return 0;
	}
}

void slots_free(struct slots *slots, struct slot_run run)
{
	uint64_t at = run.first, end = at + run.count;

	assert(end <= slots->total);
	SLOTS_GUARD(slots);
	/* Two runs that met at the border of two groups may come back as one. */
	while (at < end) {
		uint32_t g = (uint32_t)(at / SLOTS_PER_GROUP), from = at % SLOTS_PER_GROUP;
		uint32_t n = SLOTS_PER_GROUP - from;

		if (n > end - at)
			n = (uint32_t)(end - at);
		group_free_locked(slots, g, from, from + n);
		at += n;
	}
}

void slots_mark_bad(struct slots *slots, uint32_t slot)
{
	assert(slot < slots->total);
	SLOTS_GUARD(slots);
	struct group *group = &slots->group[slot / SLOTS_PER_GROUP];

	assert(group->busy && bit_get(group->busy, slot % SLOTS_PER_GROUP) && group->used > 0);
	group->used--;
	group->bad++;
	slots->used--;
	slots->bad++;
}

void slots_unmark_bad(struct slots *slots, uint32_t slot)
{
	assert(slot < slots->total);
	SLOTS_GUARD(slots);
	struct group *group = &slots->group[slot / SLOTS_PER_GROUP];

	assert(group->busy && bit_get(group->busy, slot % SLOTS_PER_GROUP) && group->bad > 0);
	group->bad--;
	group->used++;
	slots->bad--;
	slots->used++;
}

bool slots_trim_next(struct slots *slots, struct slot_run *run)
{
	SLOTS_GUARD(slots);
	for (; slots->trim_cursor < slots->ngroups; slots->trim_cursor++) {
		uint32_t g = slots->trim_cursor, from, to;
		struct group *group = &slots->group[g];

		if (group->trim_from == SLOTS_PER_GROUP || !group_trim_locked(slots, g, &from, &to))
			continue;
		group->trimming += (uint16_t)(to - from);
		slots->trimming += to - from;
		group_claim_locked(slots, g, from, to);
		run->first = g * SLOTS_PER_GROUP + from;
		run->count = to - from;
		return true;
	}
	return false;
}

void slots_trim_done(struct slots *slots, struct slot_run run)
{
	uint32_t g = run.first / SLOTS_PER_GROUP, from = run.first % SLOTS_PER_GROUP;
	struct group *group = &slots->group[g];

	SLOTS_GUARD(slots);
	assert(run.count > 0 && from + run.count <= group_size(slots, g) && group->trimming >= run.count);
	group_release_locked(slots, g, from, from + run.count);
	group->trimming -= (uint16_t)run.count;
	slots->trimming -= run.count;
	if (!group_idle(group))
		return;
	/* Short runs that were left, or freed meanwhile, are now all that keeps the group's pages. */
	if (group->pendings > 0)
		group_may_trim_locked(slots, g, 0);
	else
		group_close(slots, group);
}

int slots_set_limit(struct slots *slots, uint64_t limit)
{
	assert(limit > 0 && limit <= slots->total);
	SLOTS_GUARD(slots);
	if (slots->used + slots->bad > limit)
		return -EBUSY;
	slots->limit = limit;
	return 0;
}

void slots_get_stats(struct slots *slots, struct slots_stats *st)
{
	SLOTS_GUARD(slots);
	st->total = slots->limit;
	st->used = slots->used;
	st->bad = slots->bad;
	st->free = slots->limit - slots->used - slots->bad;
}

uint64_t slots_count_free(const struct slots *slots)
{
	uint64_t limit = atomic_load_explicit(&slots->limit, memory_order_relaxed);
	uint64_t taken = atomic_load_explicit(&slots->taken, memory_order_relaxed);

	return limit > taken ? limit - taken : 0;
}

/* ---- for tests ---- */

static void group_check(const struct slots *s, uint32_t g)
{
	const struct group *group = &s->group[g];
	uint32_t size = group_size(s, g), longest = 0;

	if (!group->busy) {
		assert(!group->pending && group_idle(group) && group->pendings == 0);
		assert(group->trim_from == SLOTS_PER_GROUP && bound_of(s, g) == size);
		return;
	}
	assert(!group_idle(group) || group->pendings > 0);
	assert(range_count(group->busy, 0, size) == (uint32_t)group->used + group->bad + group->trimming);
	assert(range_count(group->busy, size, SLOTS_PER_GROUP) == SLOTS_PER_GROUP - size);
	assert(range_count(group->pending, 0, SLOTS_PER_GROUP) == group->pendings);
	for (uint32_t w = 0; w < GROUP_WORDS; w++)
		assert((group->busy[w] & group->pending[w]) == 0);
	for (uint32_t from, to = 0; (from = next_clear(group->busy, to)) < SLOTS_PER_GROUP;) {
		to = next_set(group->busy, from);
		if (to - from > longest)
			longest = to - from;
	}
	assert(longest <= bound_of(s, g) && bound_of(s, g) <= size - range_count(group->busy, 0, size));
	for (uint32_t from, to = 0; (from = next_set(group->pending, to)) < group->trim_from;) {
		to = next_clear(group->pending, from);
		assert(to - from < SLOTS_TRIM_RUN);
	}
	assert(!group_idle(group) || group->trim_from < SLOTS_PER_GROUP);
	assert(group->trim_from == SLOTS_PER_GROUP || g >= s->trim_cursor);
}

void slots_check(struct slots *slots)
{
	uint64_t used = 0, bad = 0, trimming = 0;

	SLOTS_GUARD(slots);
	for (uint32_t g = 0; g < slots->ngroups; g++) {
		group_check(slots, g);
		used += slots->group[g].used;
		bad += slots->group[g].bad;
		trimming += slots->group[g].trimming;
	}
	assert(atomic_load(&slots->taken) == used + bad);
	assert(used == slots->used && bad == slots->bad && trimming == slots->trimming);
	for (uint32_t i = 1; i < slots->leaves; i++) {
		uint16_t left = slots->bound[2 * i], right = slots->bound[2 * i + 1];

		assert(slots->bound[i] == (left > right ? left : right));
	}
}
