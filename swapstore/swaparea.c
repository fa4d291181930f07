/* SPDX-License-Identifier: MIT */
/*
 * swaparea: the table of a store's swap areas: opens and closes them, finds the area of a slot, and hands slots out
 * by priority.  swapareas.lock guards the order of turns, the states and the pins; swapareas.change, which may be
 * held while a disk is waited for, lets one area come or go at a time.  Called by reclaim (slots), readers (locate),
 * the trimmer (pins), swapstore.c and leave.c (coming and going).
 */
#include "swapstore/swaparea.h"

#include "swapstore/entry.h"
#include "swapstore/store.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS_MAX ((uint32_t)(ENTRY_SLOTS_MAX / SLOTS_PER_GROUP))
#define RING_DEPTH 32U
#define RING_BYTES (12U << 10) /* bytes of a context besides its buffer, about */

void swapareas_init(struct swapstore *store, void (*report)(void *ctx, const char *line), void *ctx)
{
	struct swapareas *areas = &store->areas;

	pthread_mutex_init(&areas->change, NULL);
	pthread_mutex_init(&areas->lock, NULL);
	pthread_cond_init(&areas->unpinned, NULL);
	areas->leave.number = SWAPAREA_NO_NUMBER;
	for (unsigned i = 0; i < SWAPAREA_MAX; i++) {
		areas->area[i].store = store;
		areas->area[i].number = i;
		areas->area[i].file.fd = -1;
		trouble_init(&areas->area[i].trouble, report, ctx);
	}
}

/* --- what is there ------------------------------------------------------------------------------------------------- */

#define FOR_EACH_AREA(store, a)                                                                                 \
	for (struct swaparea *a = (store)->areas.area,                                                          \
			     *end_ = a + atomic_load_explicit(&(store)->areas.high, memory_order_acquire);      \
	     a < end_; a++)

static bool state_counts(enum swaparea_state state, bool acked)
{
	return state == SWAPAREA_IN_USE || (acked && state == SWAPAREA_CLOSING);
}

bool swapareas_any(struct swapstore *store)
{
	FOR_EACH_AREA(store, area)
		if (swaparea_state(area) != SWAPAREA_NONE)
			return true;
	return false;
}

uint64_t swapareas_good(struct swapstore *store, bool acked)
{
	uint64_t good = 0;

	FOR_EACH_AREA(store, area)
		if (state_counts(swaparea_state(area), acked))
			good += area->total - atomic_load_explicit(&area->bad, memory_order_relaxed);
	return good;
}

uint64_t swapareas_total(struct swapstore *store)
{
	uint64_t total = 0;

	FOR_EACH_AREA(store, area)
		if (swaparea_state(area) == SWAPAREA_IN_USE)
			total += area->total;
	return total;
}

struct swaparea *swapareas_only(struct swapstore *store)
{
	struct swaparea *only = NULL;

	FOR_EACH_AREA(store, area) {
		if (swaparea_state(area) == SWAPAREA_NONE)
			continue;
		if (only)
			return NULL;
		only = area;
	}
	return only && swaparea_state(only) == SWAPAREA_IN_USE ? only : NULL;
}

void swapareas_get_stats(struct swapstore *store, struct slots_stats *st)
{
	*st = (struct slots_stats){0};
	for (unsigned i = 0; i < SWAPAREA_MAX; i++) {
		struct swaparea *area = swaparea_get(store, i);
		struct slots_stats one;

		if (!area)
			continue;
		slots_get_stats(area->slots, &one);
		swaparea_put(area);
		st->total += one.total;
		st->used += one.used;
		st->bad += one.bad;
		st->free += one.free;
	}
}

void swapareas_check(struct swapstore *store)
{
	struct slots_stats st;

	FOR_EACH_AREA(store, area) {
		assert((swaparea_state(area) != SWAPAREA_NONE) == (area->slots != NULL));
		if (!area->slots)
			continue;
		slots_check(area->slots);
		slots_get_stats(area->slots, &st);
		assert(st.used + st.free + st.bad == st.total && st.total == area->total);
		assert(st.bad == area->bad);
	}
}

bool swapareas_any_sick(struct swapstore *store)
{
	FOR_EACH_AREA(store, area)
		if (state_counts(swaparea_state(area), true) && trouble_is_sick(&area->trouble))
			return true;
	return false;
}

bool swapareas_all_sick(struct swapstore *store)
{
	bool any = false;

	FOR_EACH_AREA(store, area) {
		if (!state_counts(swaparea_state(area), true))
			continue;
		if (!trouble_is_sick(&area->trouble))
			return false;
		any = true;
	}
	return any;
}

uint64_t swapareas_free(struct swapstore *store)
{
	struct swapareas *areas = &store->areas;
	uint64_t n = 0;
	UTIL_LOCKED(&areas->lock);

	for (unsigned i = 0; i < areas->norder; i++) {
		struct swaparea *area = &areas->area[areas->order[i]];

		if (!trouble_is_sick(&area->trouble))
			n += slots_count_free(area->slots);
	}
	return n;
}

struct swaparea *swaparea_get(struct swapstore *store, unsigned number)
{
	struct swaparea *area = &store->areas.area[number];
	UTIL_LOCKED(&store->areas.lock);

	if (number >= SWAPAREA_MAX || swaparea_state(area) == SWAPAREA_NONE)
		return NULL;
	area->pins++;
	return area;
}

void swaparea_put(struct swaparea *area)
{
	struct swapareas *areas = &area->store->areas;
	UTIL_LOCKED(&areas->lock);

	assert(area->pins > 0);
	if (--area->pins == 0)
		pthread_cond_broadcast(&areas->unpinned);
}

/* --- slots ------------------------------------------------------------------------------------------------------------ */

/* The number of the area that slot lies in, and its place there; SWAPAREA_NO_NUMBER: in none. */
static unsigned slot_find(struct swapstore *store, uint32_t slot, uint32_t *local)
{
	FOR_EACH_AREA(store, area) {
		uint64_t span = atomic_load_explicit(&area->span, memory_order_acquire);
		uint32_t first = (uint32_t)(span >> 32), group = slot / SLOTS_PER_GROUP;

		if (group >= first && group - first < (uint32_t)span) {
			*local = slot - first * SLOTS_PER_GROUP;
			return area->number;
		}
	}
	return SWAPAREA_NO_NUMBER;
}

bool swapareas_locate(struct swapstore *store, uint32_t slot, struct ring_req *req)
{
	uint32_t local = 0;
	unsigned number = slot_find(store, slot, &local);

	if (number == SWAPAREA_NO_NUMBER)
		return false;
	req->file = number;
	req->offset = (uint64_t)local * SS_PAGE_SIZE;
	return true;
}

/* order[i] has had its turn: it goes behind its equals. */
static void order_turn_locked(struct swapareas *areas, unsigned i)
{
	uint8_t number = areas->order[i];

	for (; i + 1 < areas->norder && areas->area[areas->order[i + 1]].priority == areas->area[number].priority; i++)
		areas->order[i] = areas->order[i + 1];
	areas->order[i] = number;
}

int swapareas_alloc(struct swapstore *store, uint32_t want, struct slot_run *run, struct swaparea **from)
{
	struct swapareas *areas = &store->areas;
	UTIL_LOCKED(&areas->lock);

	for (unsigned i = 0; i < areas->norder; i++) {
		struct swaparea *area = &areas->area[areas->order[i]];

		if (trouble_is_sick(&area->trouble) || slots_alloc(area->slots, want, run) < 0)
			continue;
		run->first += area->first;
		*from = area;
		order_turn_locked(areas, i);
		return 0;
	}
	return -ENOSPC;
}

void swapareas_free_run(struct swapstore *store, struct slot_run run)
{
	uint32_t local = 0;
	unsigned number = slot_find(store, run.first, &local);

	assert(number != SWAPAREA_NO_NUMBER); /* it is in use, so the area is there */
	slots_free(store->areas.area[number].slots, (struct slot_run){local, run.count});
}

/* --- memory --------------------------------------------------------------------------------------------------------- */

static void *bitmap_alloc(void *ctx)
{
	struct swapstore *store = ctx;

	return slab_alloc(store->slab, SS_PAGE_SIZE, FRAMES_NOWAIT | FRAMES_CRITICAL);
}

static void bitmap_free(void *ctx, void *page)
{
	struct swapstore *store = ctx;

	slab_free(store->slab, page, SS_PAGE_SIZE);
}

/* With room for a request that is not aligned. */
static size_t rings_bounce_bytes(size_t io_bytes)
{
	return io_bytes + SS_PAGE_SIZE;
}

uint64_t swapareas_rings_bytes(unsigned contexts, size_t io_bytes)
{
	return util_map_bytes(contexts * rings_bounce_bytes(io_bytes)) + (uint64_t)contexts * RING_BYTES;
}

static int rings_create(struct swapstore *store, unsigned contexts, int fd)
{
	int err = ring_pool_create(fd, store->engine, contexts, rings_bounce_bytes(store->io_bytes), RING_DEPTH,
				   &store->rings);

	if (!err)
		ring_pool_set_hook(store->rings, &store->io_hook);
	return err;
}

/*
 * The contexts of a store that is running and never had any (noswap): as many as it would have been given, or as its
 * RAM has room for; one will do.  They stay, and so does their charge, when the last area has gone: they may be wanted
 * again.
 */
static int rings_create_live(struct swapstore *store, const struct swaparea *area)
{
	const uint64_t room = area->total / 2 * SS_PAGE_SIZE, ram = (uint64_t)store->nframes * FRAME_SIZE;

	for (unsigned n = store->contexts; n > 0; n /= 2) {
		const uint64_t bytes = swapareas_rings_bytes(n, store->io_bytes);
		uint64_t most = n > 1 ? ram / 8 : ram / 2; /* data has to have RAM, too */
		void *charge = NULL;
		int err;

		/* More room is to come of it than it takes: what was promised must keep its place. */
		if (bytes <= (most < room ? most : room))
			charge = slab_charge(store->slab, bytes, FRAMES_RESERVE);
		if (!charge)
			continue;
		err = rings_create(store, n, area->file.fd);
		if (err)
			slab_uncharge(store->slab, charge);
		else
			store->rings_charge = charge;
		return err;
	}
	return -ENOSPC;
}

/* --- coming ----------------------------------------------------------------------------------------------------------- */

/* Below all that are there, and below 0, as swapon(8) does it. */
static int priority_auto(struct swapstore *store)
{
	int least = -1;

	FOR_EACH_AREA(store, area)
		if (swaparea_state(area) != SWAPAREA_NONE && area->priority < least)
			least = area->priority;
	return least - 1;
}

/* The lowest place for so many groups with a group to spare on both sides.  0 or -ENOSPC. */
static int find_groups(struct swapstore *store, uint32_t groups, uint32_t *first)
{
	uint64_t at = 0;
	bool moved;

	do {
		moved = false;
		FOR_EACH_AREA(store, area) {
			uint64_t span = atomic_load(&area->span), from = span >> 32, to = from + (uint32_t)span;

			if ((uint32_t)span && at < to + 1 && from < at + groups + 1) {
				at = to + 1;
				moved = true;
			}
		}
	} while (moved);
	*first = (uint32_t)at;
	return at + groups <= GROUPS_MAX ? 0 : -ENOSPC;
}

/* Charges the area's table to the cap: if need be to the frames for eviction, which will give more back. */
static bool area_charge(struct swaparea *area)
{
	const size_t bytes = slots_table_bytes(area->slots);

	area->charge = slab_charge(area->store->slab, bytes, FRAMES_RESERVE);
	if (!area->charge)
		area->charge = slab_charge(area->store->slab, bytes, FRAMES_NOWAIT | FRAMES_CRITICAL);
	return area->charge != NULL;
}

/* Everything an area needs but its file.  0 or -errno, *what the part that failed. */
static int area_prepare(struct swaparea *area, const char *path, const char **what)
{
	struct swapstore *store = area->store;
	const struct slots_page_ops ops = { bitmap_alloc, bitmap_free, store };
	const uint64_t total = area->file.bytes / SS_PAGE_SIZE;
	uint32_t groups, first;
	int err;

	atomic_store(&area->total, total);
	groups = (uint32_t)((total + SLOTS_PER_GROUP - 1) / SLOTS_PER_GROUP);
	*what = "all areas together would be larger than can be numbered";
	err = find_groups(store, groups, &first);
	if (err)
		return err;
	area->first = first * SLOTS_PER_GROUP;
	*what = "no memory for its table";
	area->path = realpath(path, NULL);
	if (!area->path)
		return -errno;
	err = slots_create(total, &ops, &area->slots);
	if (err)
		return err;
	if (store->slab && !area_charge(area))
		return -ENOSPC;
	*what = "no memory for the buffers of swap I/O";
	if (store->rings)
		ring_pool_set_file(store->rings, area->number, area->file.fd);
	else
		err = store->slab ? rings_create_live(store, area) : rings_create(store, store->contexts, area->file.fd);
	if (!err)
		atomic_store_explicit(&area->span, (uint64_t)first << 32 | groups, memory_order_release);
	return err;
}

/* Gives back what area_prepare() and swapfile_open() took; nobody sees the area. */
static void area_clear(struct swaparea *area)
{
	struct swapstore *store = area->store;

	if (store->rings && area->file.fd >= 0)
		ring_pool_set_file(store->rings, area->number, -1);
	slots_destroy(area->slots);
	area->slots = NULL;
	if (area->charge)
		slab_uncharge(store->slab, area->charge);
	area->charge = NULL;
	swapfile_close(&area->file);
	free(area->path);
	area->path = NULL;
}

static void order_add_locked(struct swapareas *areas, const struct swaparea *area)
{
	unsigned at = areas->norder++;

	for (; at > 0 && areas->area[areas->order[at - 1]].priority < area->priority; at--)
		areas->order[at] = areas->order[at - 1];
	areas->order[at] = (uint8_t)area->number;
}

int swaparea_open(struct swapstore *store, const char *path, uint64_t bytes, int priority, char *why, size_t why_len)
{
	struct swapareas *areas = &store->areas;
	const char *what = "";
	unsigned number = 0;
	struct swaparea *area;
	int err;

	while (number < SWAPAREA_MAX && swaparea_state(&areas->area[number]) != SWAPAREA_NONE)
		number++;
	if (number == SWAPAREA_MAX) {
		snprintf(why, why_len, "swap=%s: there are %u areas already", path, SWAPAREA_MAX);
		return -ENFILE;
	}
	area = &areas->area[number];
	err = swapfile_open(&area->file, path, bytes, why, why_len);
	if (err)
		return err;
	trouble_reset(area);
	err = area_prepare(area, path, &what);
	if (err) {
		snprintf(why, why_len, "swap=%s: %s: %s", path, what, strerror(-err));
		area_clear(area);
		return err;
	}
	area->priority = priority == SS_PRIORITY_AUTO ? priority_auto(store) : priority;
	UTIL_LOCKED(&areas->lock);
	if (number >= atomic_load(&areas->high))
		atomic_store_explicit(&areas->high, number + 1, memory_order_release);
	atomic_store_explicit(&area->state, SWAPAREA_IN_USE, memory_order_release);
	order_add_locked(areas, area);
	return 0;
}

int swapstore_swapon(struct swapstore *store, const char *path, uint64_t bytes, int priority, char *why, size_t why_len)
{
	struct swapareas *areas = &store->areas;
	uint32_t floor = STORE_BITMAP_FRAMES;
	int err;

	assert(priority >= 0 || priority == SS_PRIORITY_AUTO);
	if (pthread_mutex_trylock(&areas->change) != 0) {
		snprintf(why, why_len, "%s: another swapon or swapoff is under way", path);
		return -EBUSY;
	}
	/* Each area may have a group of slots of its own to open, when nothing else is left. */
	FOR_EACH_AREA(store, area)
		floor += swaparea_state(area) != SWAPAREA_NONE ? STORE_BITMAP_FRAMES / 2 : 0;
	store_set_floor(store, floor > STORE_BITMAP_FRAMES && floor > store->nframes / 16 ? STORE_BITMAP_FRAMES : floor);
	err = trimmer_start(store);
	if (err)
		snprintf(why, why_len, "cannot start a thread: %s", strerror(-err));
	else
		err = swaparea_open(store, path, bytes, priority, why, why_len);
	pthread_mutex_unlock(&areas->change);
	if (err && why_len > 5 && strncmp(why, "swap=", 5) == 0) /* swapfile.c's words are for the option */
		memmove(why, why + 5, why_len - 5);
	/* Whoever waits for a frame: there is somewhere to go now. */
	reclaim_kick(store);
	return err;
}

int swapstore_area_next(struct swapstore *store, unsigned from, struct ss_area *out)
{
	struct swaparea *area = NULL;
	struct slots_stats st;

	for (; from < SWAPAREA_MAX && !area; from++)
		area = swaparea_get(store, from);
	if (!area)
		return -ENOENT;
	slots_get_stats(area->slots, &st);
	*out = (struct ss_area){
		.number = area->number,
		.priority = area->priority,
		.kind = area->file.kind,
		.is_sick = trouble_is_sick(&area->trouble),
		.is_leaving = swaparea_state(area) != SWAPAREA_IN_USE,
		.total_pages = st.total,
		.used_pages = st.used,
		.bad_pages = st.bad,
	};
	snprintf(out->path, sizeof(out->path), "%s", area->path);
	swaparea_put(area);
	return 0;
}

/* --- going -------------------------------------------------------------------------------------------------------------- */

void swaparea_close_begin(struct swaparea *area)
{
	UTIL_LOCKED(&area->store->areas.lock);

	assert(swaparea_state(area) == SWAPAREA_IN_USE);
	atomic_store(&area->state, SWAPAREA_CLOSING);
}

void swaparea_leave(struct swaparea *area)
{
	struct swapareas *areas = &area->store->areas;
	unsigned n = 0;
	UTIL_LOCKED(&areas->lock);

	assert(swaparea_state(area) == SWAPAREA_CLOSING);
	atomic_store(&area->state, SWAPAREA_LEAVING);
	for (unsigned i = 0; i < areas->norder; i++)
		if (areas->order[i] != area->number)
			areas->order[n++] = areas->order[i];
	areas->norder = n;
}

void swaparea_stay(struct swaparea *area)
{
	struct swapareas *areas = &area->store->areas;
	UTIL_LOCKED(&areas->lock);

	if (swaparea_state(area) == SWAPAREA_LEAVING)
		order_add_locked(areas, area);
	atomic_store(&area->state, SWAPAREA_IN_USE);
}

void swaparea_close(struct swaparea *area)
{
	struct swapareas *areas = &area->store->areas;

	assert(swaparea_state(area) == SWAPAREA_LEAVING);
	pthread_mutex_lock(&areas->lock);
	atomic_store(&area->state, SWAPAREA_NONE);
	while (area->pins > 0)
		pthread_cond_wait(&areas->unpinned, &areas->lock);
	pthread_mutex_unlock(&areas->lock);
	/* Readers find it by its span, with a context in hands. */
	atomic_store(&area->span, 0);
	ring_pool_quiesce(area->store->rings);
	trouble_reset(area);
	area_clear(area);
}

void swapareas_destroy(struct swapstore *store)
{
	struct swapareas *areas = &store->areas;

	if (areas->leave.object)
		object_unref(store, areas->leave.object);
	for (unsigned i = 0; i < SWAPAREA_MAX; i++) {
		area_clear(&areas->area[i]);
		pthread_mutex_destroy(&areas->area[i].trouble.lock);
	}
	pthread_cond_destroy(&areas->unpinned);
	pthread_mutex_destroy(&areas->lock);
	pthread_mutex_destroy(&areas->change);
}
