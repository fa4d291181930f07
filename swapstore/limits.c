/* SPDX-License-Identifier: MIT */
/*
 * limits: keeps the count of pages against what RAM, swap and size= hold, shares the frames out, and gives a live store
 * other limits.  Counters and limits are atomic; no lock of its own.  Called by whoever makes pages or takes them
 * away, by slab.c, and (one thread at a time) by who changes the limits.
 */
#include "swapstore/store.h"

#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define LIMITS_STEP	   16384U /* frames (64 MiB): what goes at once, so that writers get some in between */
#define LIMITS_PATIENCE_MS 5000	  /* without a single frame that went */

static uint32_t clamp_u32(uint64_t value, uint32_t least, uint32_t most)
{
	return value < least ? least : value > most ? most : (uint32_t)value;
}

uint64_t store_size_pages(uint64_t size_bytes)
{
	return size_bytes ? (size_bytes - 1) / SS_PAGE_SIZE + 1 : UINT64_MAX;
}

/* Pages that only SS_WRITE_ACKED may create. */
static uint64_t limits_acked_reserve(uint32_t nframes, uint64_t nslots)
{
	return clamp_u32((nframes + nslots) / 32, 0, 16384);
}

void store_shares_of(uint32_t nframes, uint64_t nslots, uint32_t floor, struct store_shares *sh)
{
	sh->nframes = clamp_u32(nframes, STORE_FRAMES_MIN, STORE_FRAMES_MAX);
	sh->step = clamp_u32(sh->nframes / 32, 2, 8192);
	sh->batch = clamp_u32(sh->nframes / 16, 1, 512);
	sh->frames.floor = floor;
	sh->frames.reserve = floor + clamp_u32(sh->nframes / 64, 2, 1024);
	sh->frames.low = sh->frames.reserve + sh->step;
	sh->data_floor = clamp_u32(sh->nframes / 16, 8, 4096);
	sh->work_frames = clamp_u32(sh->nframes / 8, 16, UINT32_MAX);
	sh->acked_reserve = limits_acked_reserve(sh->nframes, nslots);
}

void store_take_shares(struct swapstore *store, const struct store_shares *sh)
{
	store->frames_reserve = sh->frames.reserve;
	store->data_floor = sh->data_floor;
	store->work_frames = sh->work_frames;
	store->reclaim.step = sh->step;
	store->reclaim.batch = sh->batch;
	store->nframes = sh->nframes;
}

/* Pages that frames and slots can hold at this moment: what bookkeeping took and what broke is gone. */
static uint64_t store_capacity(struct swapstore *store, bool acked)
{
	uint64_t lost = slab_frames(store->slab), all = store->nframes + swapareas_good(store, acked);

	return all > lost ? all - lost : 0;
}

static uint64_t store_acked_reserve(struct swapstore *store)
{
	return limits_acked_reserve(store->nframes, swapareas_total(store));
}

void store_set_floor(struct swapstore *store, uint32_t floor)
{
	struct store_shares sh;

	if (floor <= store->floor)
		return;
	store->floor = floor;
	store_shares_of(store->nframes, swapareas_total(store), floor, &sh);
	store_take_shares(store, &sh);
	frames_set_total(store->frames, sh.nframes, &sh.frames);
}

/* With a sick area: what is not in swap already has to stay in RAM, or go to a healthy disk. */
static uint64_t store_capacity_if_sick(struct swapstore *store)
{
	return atomic_load_explicit(&store->pages, memory_order_relaxed) + frames_spare(store->frames) +
	       swapareas_free(store);
}

uint64_t store_room_in_use(struct swapstore *store)
{
	uint64_t capacity = store_capacity(store, false), reserve = store->frames_reserve;

	if (swapareas_any_sick(store)) {
		uint64_t now = store_capacity_if_sick(store);

		capacity = capacity < now ? capacity : now;
	}
	return capacity > reserve ? capacity - reserve : 0;
}

uint32_t store_wire_limit(struct swapstore *store)
{
	uint32_t kept = slab_frames(store->slab) + store->frames_reserve + store->work_frames;

	return store->nframes > kept ? store->nframes - kept : 0;
}

static uint64_t store_limit(struct swapstore *store, unsigned write_flags)
{
	uint64_t capacity = store_capacity(store, write_flags & SS_WRITE_ACKED);
	uint64_t kept = store->frames_reserve + (write_flags & SS_WRITE_ACKED ? 0 : store_acked_reserve(store));

	if (swapareas_any_sick(store)) {
		uint64_t now = store_capacity_if_sick(store);

		capacity = capacity < now ? capacity : now;
		kept = store->frames_reserve;
	}
	capacity = capacity > kept ? capacity - kept : 0;
	if (write_flags & SS_WRITE_ACKED)
		return capacity;
	capacity = capacity < store->squeeze_pages ? capacity : store->squeeze_pages;
	return capacity < store->size_pages ? capacity : store->size_pages;
}

/* n pages more, by the limit of this moment. */
static bool store_charge_now(struct swapstore *store, uint64_t n, unsigned write_flags)
{
	uint64_t limit = store_limit(store, write_flags), pages = atomic_load(&store->pages);

	do {
		if (n > limit || pages > limit - n)
			return false;
	} while (!atomic_compare_exchange_weak(&store->pages, &pages, pages + n));
	return true;
}

/*
 * Who lowers a limit counts a turn and then looks at pages; who adds pages looks at the turn afterwards.  So either
 * those pages are seen there, or the lower limit here.
 */
bool store_charge(struct swapstore *store, uint64_t n, unsigned write_flags)
{
	for (;;) {
		uint64_t turn = atomic_load(&store->limits_turn);

		if (!store_charge_now(store, n, write_flags))
			return false;
		if (atomic_load(&store->limits_turn) == turn)
			return true;
		store_uncharge(store, n);
	}
}

bool store_is_full(struct swapstore *store, unsigned write_flags)
{
	return atomic_load_explicit(&store->pages, memory_order_relaxed) >= store_limit(store, write_flags);
}

void store_uncharge(struct swapstore *store, uint64_t n)
{
	atomic_fetch_sub_explicit(&store->pages, n, memory_order_relaxed);
}

static uint64_t store_left(struct swapstore *store, unsigned write_flags)
{
	uint64_t limit = store_limit(store, write_flags);
	uint64_t used = atomic_load_explicit(&store->pages, memory_order_relaxed);

	return limit > used ? limit - used : 0;
}

uint64_t swapstore_pages_left(struct swapstore *store)
{
	return store_left(store, 0);
}

uint64_t swapstore_pages_left_acked(struct swapstore *store)
{
	return store_left(store, SS_WRITE_ACKED);
}

uint16_t store_epoch(struct swapstore *store)
{
	return (uint16_t)(atomic_load_explicit(&store->misses, memory_order_relaxed) / store->nframes);
}

/* Bookkeeping may take a frame while every page that exists still has its place, and data keeps some frames. */
bool store_may_grow(void *ctx, uint32_t frames, unsigned flags)
{
	struct swapstore *store = ctx;
	uint64_t taken = (uint64_t)slab_frames(store->slab) + lru_wired(&store->lru) + frames;
	uint64_t pages = atomic_load_explicit(&store->pages, memory_order_relaxed);

	if (flags & (FRAMES_RESERVE | FRAMES_CRITICAL)) /* slot bitmaps, nodes for pages already promised: what eviction cannot do without */
		return taken + STORE_FRAMES_MIN / 4 <= store->nframes;
	return taken + store->data_floor <= store->nframes &&
	       pages + frames + store->frames_reserve + store_acked_reserve(store) <= store_capacity(store, false);
}

/* As store_limit(), had bookkeeping taken nothing yet: what df calls the size, which does not change with use. */
uint64_t store_size(struct swapstore *store)
{
	uint64_t all = store->nframes + swapareas_total(store);
	uint64_t kept = store->frames_reserve + store_acked_reserve(store);

	all = all > kept ? all - kept : 0;
	return all < store->size_pages ? all : store->size_pages;
}

/* --- other limits ----------------------------------------------------------------------------------------------- */

/* What shall hold. */
struct limits_plan {
	uint64_t ram_bytes, size_pages, nslots;
	struct swaparea *area; /* whose limit nslots is; NULL: none changes */
	struct store_shares shares;
};

static unsigned long long limits_kib(uint64_t bytes)
{
	return (unsigned long long)(bytes + 1023) >> 10;
}

/* Frames that a cap of so many bytes leaves, and their shares.  -EINVAL: too few, or more than there is room for. */
static int limits_shares(struct swapstore *store, uint64_t ram_bytes, uint64_t nslots, struct store_shares *sh,
			 char *why, size_t why_len)
{
	const size_t each = FRAME_SIZE + frames_overhead();
	uint64_t most = store->ram_fixed + (uint64_t)frames_most(store->frames) * each, least;

	if (ram_bytes > most) {
		snprintf(why, why_len, "ram=%lluk is too large: at most %lluk since the mount", limits_kib(ram_bytes),
			 (unsigned long long)most >> 10);
		return -EINVAL;
	}
	store_shares_of(ram_bytes > store->ram_fixed ? frames_fit(store->frames, ram_bytes - store->ram_fixed) : 0,
			nslots, store->floor, sh);
	least = (uint64_t)slab_frames(store->slab) + sh->data_floor + sh->frames.reserve;
	if (lru_wired(&store->lru))
		least += lru_wired(&store->lru) + sh->work_frames;
	least = store->ram_fixed + (least > STORE_FRAMES_MIN ? least : STORE_FRAMES_MIN) * each;
	if (store->held_bytes && least < store->ram_fixed + store->held_bytes)
		least = store->ram_fixed + store->held_bytes;
	if (ram_bytes < least) {
		snprintf(why, why_len, "ram=%lluk is too small: buffers, names, tables and what is pinned or reserved take %lluk",
			 limits_kib(ram_bytes), limits_kib(least));
		return -EINVAL;
	}
	return 0;
}

/*
 * Slots for so many bytes of swap.  -EINVAL: fewer than are in use, or more than were opened; or it would have to be
 * said of which area.
 */
static int limits_slots(struct swapstore *store, uint64_t swap_bytes, struct limits_plan *plan, char *why, size_t why_len)
{
	struct slots_stats st;

	if (swap_bytes == plan->nslots * SS_PAGE_SIZE)
		return 0;
	plan->area = swapareas_only(store);
	if (!plan->area && swapareas_any(store)) {
		snprintf(why, why_len, "swapsize=%lluk: there are several swap areas; swapon and swapoff change them",
			 limits_kib(swap_bytes));
		return -EINVAL;
	}
	if (!plan->area || swap_bytes > plan->area->file.bytes || swap_bytes < SS_PAGE_SIZE) {
		snprintf(why, why_len, "swapsize=%lluk: the mount has %lluk of swap to use", limits_kib(swap_bytes),
			 plan->area ? (unsigned long long)plan->area->file.bytes >> 10 : 0ULL);
		return -EINVAL;
	}
	plan->nslots = swap_bytes / SS_PAGE_SIZE;
	slots_get_stats(plan->area->slots, &st);
	if (st.used + st.bad <= plan->nslots && store->held_bytes + swap_bytes >= store->reserve_bytes)
		return 0;
	snprintf(why, why_len, "swapsize=%lluk: %lluk are in use or reserved", limits_kib(swap_bytes),
		 (unsigned long long)(st.used + st.bad) << 2);
	return -EINVAL;
}

/* The shares and sizes that want makes of what is in force. */
static int limits_plan(struct swapstore *store, const struct swapstore_limits *want, struct limits_plan *plan,
		       char *why, size_t why_len)
{
	int err = 0;

	plan->ram_bytes = want->ram_bytes ? want->ram_bytes : store->ram_bytes;
	plan->size_pages = want->size_bytes == UINT64_MAX ? store->size_pages : store_size_pages(want->size_bytes);
	plan->nslots = swapareas_total(store);
	plan->area = NULL;
	if (want->swap_bytes)
		err = limits_slots(store, want->swap_bytes, plan, why, why_len);
	if (err)
		return err;
	if (plan->ram_bytes != store->ram_bytes)
		err = limits_shares(store, plan->ram_bytes, plan->nslots, &plan->shares, why, why_len);
	else
		store_shares_of(store->nframes, plan->nslots, store->floor, &plan->shares);
	return err;
}

static uint64_t limits_of_plan(struct swapstore *store, const struct limits_plan *plan)
{
	uint64_t lost = slab_frames(store->slab) + swapareas_total(store) - swapareas_good(store, false);
	uint64_t all = plan->shares.nframes + plan->nslots;

	lost += plan->shares.frames.reserve + plan->shares.acked_reserve;
	all = all > lost ? all - lost : 0;
	return all < plan->size_pages ? all : plan->size_pages;
}

/* Does what there is fit? */
static int limits_check_use(struct swapstore *store, uint64_t limit, char *why, size_t why_len)
{
	uint64_t pages = atomic_load(&store->pages);

	if (pages <= limit)
		return 0;
	snprintf(why, why_len, "%lluk of data are there, and only %lluk would fit", (unsigned long long)pages << 2,
		 (unsigned long long)limit << 2);
	return -EINVAL;
}

static void limits_take(struct swapstore *store, const struct limits_plan *plan)
{
	store->ram_bytes = plan->ram_bytes;
	store->size_pages = plan->size_pages;
	if (plan->area)
		atomic_store(&plan->area->total, plan->nslots);
	store_take_shares(store, &plan->shares);
	atomic_fetch_add(&store->limits_turn, 1);
}

/* The arena follows, a step at a time when it shrinks.  -ENOSPC: frames do not come free. */
static int limits_resize(struct swapstore *store, uint32_t from, const struct store_shares *to)
{
	uint32_t at = from;

	while (at != to->nframes) {
		int64_t patience = util_now_ms() + LIMITS_PATIENCE_MS;
		uint32_t rest, before = UINT32_MAX;

		at = at > to->nframes && at - to->nframes > LIMITS_STEP ? at - LIMITS_STEP : to->nframes;
		frames_set_total(store->frames, at, &to->frames);
		while ((rest = frames_await_total(store->frames, 100)) > 0) {
			if (rest < before)
				patience = util_now_ms() + LIMITS_PATIENCE_MS;
			before = rest;
			if (util_now_ms() >= patience)
				return -ENOSPC;
		}
	}
	return 0;
}

int swapstore_limits_begin(struct swapstore *store, const struct swapstore_limits *want, char *why, size_t why_len)
{
	UTIL_LOCKED(&store->areas.change); /* areas have a say in the shares */
	struct limits_plan plan;
	int err = limits_plan(store, want, &plan, why, why_len);

	if (!err)
		err = limits_check_use(store, limits_of_plan(store, &plan), why, why_len);
	if (err)
		return err;
	store->squeeze_pages = limits_of_plan(store, &plan);
	atomic_fetch_add(&store->limits_turn, 1);
	return 0;
}

int swapstore_limits_commit(struct swapstore *store, const struct swapstore_limits *want, char *why, size_t why_len)
{
	UTIL_LOCKED(&store->areas.change);
	struct limits_plan old = {.ram_bytes = store->ram_bytes, .size_pages = store->size_pages}, plan;
	int err = limits_plan(store, want, &plan, why, why_len);

	old.nslots = swapareas_total(store);
	store_shares_of(store->nframes, old.nslots, store->floor, &old.shares);
	if (!err) {
		old.area = plan.area;
		limits_take(store, &plan);
		err = limits_check_use(store, limits_of_plan(store, &plan), why, why_len);
		if (!err && plan.area && slots_set_limit(plan.area->slots, plan.nslots)) {
			snprintf(why, why_len, "swapsize=: more came to be in use meanwhile");
			err = -EINVAL;
		}
		if (!err) {
			err = limits_resize(store, old.shares.nframes, &plan.shares);
			if (err)
				snprintf(why, why_len, "ram=%lluk: swap does not take the pages that are too many; "
						       "the cap stays at %lluk",
					 limits_kib(plan.ram_bytes), limits_kib(old.ram_bytes));
		}
		if (err) {
			limits_take(store, &old);
			if (plan.area)
				slots_set_limit(plan.area->slots, old.nslots); /* a shrunk one grows: it cannot fail */
			frames_set_total(store->frames, old.shares.nframes, &old.shares.frames);
		}
	}
	store->squeeze_pages = UINT64_MAX;
	if (!err)
		reclaim_start(store); /* a second worker, where there is room for it now; one is enough, too */
	return err;
}
