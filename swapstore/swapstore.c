/* SPDX-License-Identifier: MIT */
/*
 * swapstore: opens and closes a store, and lends memory under its cap to the caller (ss_alloc).  No lock of its own.  Called by fuse-fs and the tests.
 */
#include "swapstore/store.h"

#include "swapstore/checksum.h"
#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* --- memory for the caller ------------------------------------------------------------------------------------------------ */

void *ss_alloc(struct swapstore *store, size_t size)
{
	return slab_alloc(store->slab, size, 0);
}

void ss_free(struct swapstore *store, void *ptr, size_t size)
{
	slab_free(store->slab, ptr, size);
}

int store_stash_fill(struct swapstore *store, struct tree_stash *stash, unsigned nodes, unsigned frames_flags)
{
	while (stash->count < nodes) {
		void *node = slab_alloc(store->slab, tree_node_size(), frames_flags);

		if (!node)
			return -ENOSPC;
		tree_stash_push(stash, node);
	}
	return 0;
}

int ss_stash_fill(struct swapstore *store, struct tree_stash *stash, unsigned nodes)
{
	return store_stash_fill(store, stash, nodes, 0);
}

void ss_stash_drain(struct swapstore *store, struct tree_stash *stash)
{
	void *node;

	while ((node = tree_stash_pop(stash)) != NULL)
		slab_free(store->slab, node, tree_node_size());
}

/* --- open ------------------------------------------------------------------------------------------------------------------- */

static unsigned pool_contexts(const struct swapstore_config *config)
{
	return config->contexts + RECLAIM_WORKERS_MAX;
}

/* What a store holds besides its frames, but for the slots' table, which depends on the swap file. */
static uint64_t fixed_bytes(const struct swapstore_config *config)
{
	uint64_t rings = config->swap_path ? swapareas_rings_bytes(pool_contexts(config), config->io_bytes) : 0;

	return config->ram_taken + rings + RECLAIM_WORKERS_MAX * (128U << 10);
}

uint64_t swapstore_ram_min(const struct swapstore_config *config)
{
	return fixed_bytes(config) + STORE_FRAMES_MIN * (FRAME_SIZE + frames_overhead());
}

/* Where there is no slot to evict to, waiting for eviction would be for nothing. */
static bool open_may_take(void *ctx, size_t bytes)
{
	struct swapstore *store = ctx;

	return swapareas_free(store) == 0 || store->may_take(store->may_take_ctx, bytes);
}

static int open_ram(struct swapstore *store, const struct swapstore_config *config, char *why, size_t why_len)
{
	struct frames_config arena = {
		.place = config->place,
		.place_ctx = config->place_ctx,
		.may_take = config->may_take != NULL ? open_may_take : NULL,
		.may_take_ctx = store,
	};
	struct store_shares sh;
	uint64_t nslots = 0;
	uint64_t n, most = config->ram_most > store->ram_bytes ? config->ram_most : store->ram_bytes;
	int err;

	store->may_take = config->may_take;
	store->may_take_ctx = config->may_take_ctx;
	if (config->swap_path) {
		nslots = swapareas_total(store);
		store->ram_fixed = slots_table_bytes(store->areas.area[0].slots);
		store->floor = nslots > SLOTS_PER_GROUP ? STORE_BITMAP_FRAMES : STORE_BITMAP_FRAMES / 2;
	}
	store->ram_fixed += fixed_bytes(config);
	n = store->ram_bytes > store->ram_fixed
		    ? (store->ram_bytes - store->ram_fixed) / (FRAME_SIZE + frames_overhead())
		    : 0;
	if (n < STORE_FRAMES_MIN) {
		snprintf(why, why_len, "ram=%llu leaves no memory for data (%llu bytes go to buffers and tables)",
			 (unsigned long long)store->ram_bytes, (unsigned long long)store->ram_fixed);
		return -EINVAL;
	}
	most /= FRAME_SIZE;
	store_shares_of(n < STORE_FRAMES_MAX ? (uint32_t)n : STORE_FRAMES_MAX, nslots, store->floor, &sh);
	store_take_shares(store, &sh);
	store->held_bytes = (uint64_t)sh.nframes * FRAME_SIZE;
	if (store->held_bytes > config->reserve_bytes)
		store->held_bytes = config->reserve_bytes;
	arena.held = (uint32_t)((store->held_bytes + FRAME_SIZE - 1) / FRAME_SIZE);
	arena.total = sh.nframes;
	arena.most = most < STORE_FRAMES_MAX ? (uint32_t)most : STORE_FRAMES_MAX;
	arena.shares = sh.frames;
	err = frames_create(&arena, &store->frames);
	if (!err)
		err = slab_create(store->frames, store_may_grow, store, &store->slab);
	if (err) {
		snprintf(why, why_len, "cannot get memory%s: %s",
			 config->place && err == -EINVAL ? " where mpol= says" : "", strerror(-err));
		return err;
	}
	lru_init(&store->lru, store->frames);
	frames_set_pressure(store->frames, &(struct frames_pressure){reclaim_kick, store});
	return 0;
}

/* What RAM does not hold of the reserve is set aside on the disk now. */
static int open_reserve(struct swapstore *store, const struct swapstore_config *config, char *why, size_t why_len)
{
	uint64_t rest = config->reserve_bytes - store->held_bytes;
	struct swapfile *file = &store->areas.area[0].file;
	const uint64_t swap_bytes = swapareas_total(store) * SS_PAGE_SIZE;
	int err;

	if (!rest)
		return 0;
	if (rest > swap_bytes) {
		snprintf(why, why_len, "reserve=%llu is more than RAM and swap together hold (%llu)",
			 (unsigned long long)config->reserve_bytes,
			 (unsigned long long)(store->held_bytes + swap_bytes));
		return -EINVAL;
	}
	err = swapfile_reserve(file, (rest + SS_PAGE_SIZE - 1) / SS_PAGE_SIZE * SS_PAGE_SIZE);
	if (err)
		snprintf(why, why_len, "reserve=%llu: cannot set %llu bytes of swap=%s aside: %s",
			 (unsigned long long)config->reserve_bytes, (unsigned long long)rest, config->swap_path,
			 strerror(-err));
	return err;
}

int swapstore_open(const struct swapstore_config *config, struct swapstore **out, char *why, size_t why_len)
{
	struct swapstore *store;
	int err;

	assert(config->io_bytes >= SS_PAGE_SIZE && config->io_bytes <= SS_IO_MAX);
	store = calloc(1, sizeof(*store));
	if (!store) {
		snprintf(why, why_len, "out of memory");
		return -ENOMEM;
	}
	store->ram_bytes = config->ram_bytes;
	store->reserve_bytes = config->reserve_bytes;
	store->size_pages = store_size_pages(config->size_bytes);
	store->squeeze_pages = UINT64_MAX;
	store->io_bytes = config->io_bytes;
	store->read_through = config->read_through;
	store->contexts = pool_contexts(config);
	store->engine = config->engine;
	pthread_mutex_init(&store->objects.lock, NULL);
	pthread_mutex_init(&store->reclaim.lock, NULL);
	util_cond_init(&store->reclaim.work);
	pthread_mutex_init(&store->trimmer.lock, NULL);
	util_cond_init(&store->trimmer.work);
	swapareas_init(store, config->report, config->report_ctx);
	store->zero_page = mmap(NULL, SS_PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	err = store->zero_page == MAP_FAILED ? -ENOMEM : 0;
	if (err)
		snprintf(why, why_len, "out of memory");
	if (!err && config->swap_path)
		err = swaparea_open(store, config->swap_path, config->swap_bytes, SS_PRIORITY_AUTO, why, why_len);
	if (!err)
		err = open_ram(store, config, why, why_len);
	if (!err)
		err = open_reserve(store, config, why, why_len);
	if (!err) {
		err = reclaim_start(store);
		if (!err && config->swap_path)
			err = trimmer_start(store);
		if (err)
			snprintf(why, why_len, "cannot start a thread: %s", strerror(-err));
	}
	if (err) {
		swapstore_close(store);
		return err;
	}
	*out = store;
	return 0;
}

void swapstore_close(struct swapstore *store)
{
	assert(atomic_load(&store->pages) == 0);
	reclaim_stop(store);
	trimmer_stop(store);
	frames_stop(store->frames);
	swapareas_destroy(store);
	if (store->rings)
		ring_pool_destroy(store->rings);
	if (store->rings_charge)
		slab_uncharge(store->slab, store->rings_charge);
	if (store->frames)
		lru_destroy(&store->lru);
	slab_destroy(store->slab);
	frames_destroy(store->frames);
	if (store->zero_page && store->zero_page != MAP_FAILED)
		munmap(store->zero_page, SS_PAGE_SIZE);
	pthread_mutex_destroy(&store->reclaim.lock);
	pthread_cond_destroy(&store->reclaim.work);
	pthread_mutex_destroy(&store->objects.lock);
	pthread_mutex_destroy(&store->trimmer.lock);
	pthread_cond_destroy(&store->trimmer.work);
	free(store);
}

/* --- what is used ------------------------------------------------------------------------------------------------------------- */

void swapstore_get_stats(struct swapstore *store, struct swapstore_stats *st)
{
	struct frames_stats fs;
	struct slots_stats ss;
	struct store_counters *c = &store->count;
	const bool has_swap = swapareas_any(store);
	uint64_t data_frames = 0, taken = 0;

	/* First: a page that comes in between is taken for bookkeeping, which is less of a surprise than a wrap. */
	data_frames = atomic_load(&store->data_frames);
	frames_get_stats(store->frames, &fs);
	taken = fs.used;
	swapareas_get_stats(store, &ss);
	*st = (struct swapstore_stats){
		.size_limit_pages = store_size(store),
		.size_given_bytes = store->size_pages == UINT64_MAX ? 0 : store->size_pages << SS_PAGE_SHIFT,
		.size_used_pages = atomic_load(&store->pages),
		.ram_limit_bytes = store->ram_bytes,
		.ram_used_bytes = store->ram_fixed + fs.bytes,
		.frames_used = data_frames,
		.bookkeeping_bytes = (taken > data_frames ? taken - data_frames : 0) << SS_PAGE_SHIFT,
		.swap_limit_pages = ss.total,
		.swap_used_pages = ss.used,
		.swap_bad_pages = ss.bad,
		.swapin_pages = atomic_load(&c->swapin_pages),
		.swapout_pages = atomic_load(&c->swapout_pages),
		.swapin_errors = atomic_load(&c->swapin_errors),
		.swapout_errors = atomic_load(&c->swapout_errors),
		.checksum_errors = atomic_load(&c->checksum_errors),
		.zero_pages = atomic_load(&c->zero_pages),
		.clean_evictions = atomic_load(&c->clean_evictions),
		.readthrough_pages = atomic_load(&c->readthrough_pages),
		.writearound_pages = atomic_load(&c->writearound_pages),
		.wired_pages = lru_wired(&store->lru),
		.wired_limit_pages = store_wire_limit(store),
		.has_swap = has_swap,
		.swap_sick = swapareas_all_sick(store),
		.engine = has_swap ? ring_pool_engine(store->rings) : RING_AUTO,
	};
}

int swapstore_place(struct swapstore *store, int (*place)(void *ctx, void *start, size_t bytes), void *ctx)
{
	return frames_place(store->frames, place, ctx);
}

size_t swapstore_evict(struct swapstore *store, size_t pages)
{
	return reclaim_evict(store, pages);
}

size_t swapstore_give_back(struct swapstore *store, size_t pages)
{
	return reclaim_give_back(store, pages);
}

void swapstore_set_io_hook(struct swapstore *store, const struct ring_hook *hook)
{
	store->io_hook = *hook;
	if (store->rings)
		ring_pool_set_hook(store->rings, hook);
}

/* --- checks for tests ----------------------------------------------------------------------------------------------------------- */

void object_check(struct ss_object *obj)
{
	uint64_t index = 0, pages = 0;
	entry_t e;
	UTIL_LOCKED(&obj->lock);

	tree_check(&obj->tree);
	while (tree_next(&obj->tree, &index, UINT64_MAX, &e)) {
		bool dirty = tree_tag_get(&obj->tree, index, TREE_DIRTY);
		bool writeback = tree_tag_get(&obj->tree, index, TREE_WRITEBACK);

		pages++;
		assert(tree_tag_get(&obj->tree, index, TREE_SWAPPED) == entry_is_swap(e));
		if (entry_is_frame(e)) {
			const struct frame *f = entry_frame(e);

			assert(f->object == obj && f->index == index);
			assert(dirty == (f->state == FRAME_DIRTY || f->state == FRAME_REDIRTIED));
			assert(writeback == (f->state == FRAME_WRITEBACK || f->state == FRAME_REDIRTIED));
			assert((f->state == FRAME_CLEAN) == entry_is_swap(f->swap));
		} else {
			assert(!dirty && !writeback);
		}
		index++;
	}
	assert(pages == object_pages(obj));
}

void swapstore_check(struct swapstore *store)
{
	frames_check(store->frames);
	lru_check(&store->lru);
	swapareas_check(store);
}
