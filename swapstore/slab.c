/* SPDX-License-Identifier: MIT */
/*
 * slab: owns frames in state SLAB.  In such a frame's descriptor, slab_free heads the list of its free objects
 * (each holds the next one's address), slab_used counts the others; frames with room hang on their class's list
 * by prev and next.  The class's mutex guards all of it.  Called by the page cache for tree nodes and by
 * fuse-fs (ss_alloc) for inodes and names.
 */
#include "swapstore/slab.h"

#include "swapstore/util.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* Multiples of 8 that cut 4096 with little left over; 584 is a tree node's (seven in a frame). */
static const uint16_t class_size[SLAB_CLASSES] = {32,  48,	 64,  80,  96,	104, 112, 120, 128,  144,  160,
						  192, 224, 256, 336, 448, 584, 816, 1024, 1360, 2048, 4096};

/* By so much may what malloc keeps of large objects exceed the cap. */
#define LARGE_TRIM_BYTES (1U << 20)

struct slab_class {
	pthread_mutex_t lock;
	uint32_t partial; /* first frame with room, FRAME_NIL if none */
	uint16_t size, per_frame;
};

struct slab {
	struct frames *frames;
	bool (*may_grow)(void *ctx, uint32_t frames, unsigned flags);
	void *ctx;
	_Atomic uint32_t nframes;
	_Atomic size_t freed_large; /* bytes given back to malloc since it was last asked to give up memory */
	struct slab_class class[SLAB_CLASSES];
};

/* Precedes an object larger than a frame: the frames that lend it memory. */
struct slab_large {
	uint32_t nframes;
	uint32_t pad;
	uint32_t frame[];
};

int slab_create(struct frames *frames, bool (*may_grow)(void *ctx, uint32_t frames, unsigned flags), void *ctx,
		struct slab **out)
{
	struct slab *slab = calloc(1, sizeof(*slab));

	if (!slab)
		return -ENOMEM;
	slab->frames = frames;
	slab->may_grow = may_grow;
	slab->ctx = ctx;
	for (unsigned i = 0; i < SLAB_CLASSES; i++) {
		struct slab_class *cl = &slab->class[i];

		pthread_mutex_init(&cl->lock, NULL);
		cl->partial = FRAME_NIL;
		cl->size = class_size[i];
		cl->per_frame = (uint16_t)(FRAME_SIZE / class_size[i]);
	}
	*out = slab;
	return 0;
}

void slab_destroy(struct slab *slab)
{
	if (!slab)
		return;
	for (unsigned i = 0; i < SLAB_CLASSES; i++)
		pthread_mutex_destroy(&slab->class[i].lock);
	free(slab);
}

uint32_t slab_frames(const struct slab *slab)
{
	return atomic_load_explicit(&slab->nframes, memory_order_relaxed);
}

static struct slab_class *slab_class_of(struct slab *slab, size_t size)
{
	unsigned i = 0;

	while (slab->class[i].size < size)
		i++;
	return &slab->class[i];
}

/* --- frames of a class; its lock held -------------------------------------------------------------------------- */

static void class_push_locked(struct slab *slab, struct slab_class *cl, struct frame *f)
{
	f->prev = FRAME_NIL;
	f->next = cl->partial;
	if (f->next != FRAME_NIL)
		frame_at(slab->frames, f->next)->prev = frame_number(slab->frames, f);
	cl->partial = frame_number(slab->frames, f);
}

static void class_unlink_locked(struct slab *slab, struct slab_class *cl, struct frame *f)
{
	if (f->prev != FRAME_NIL)
		frame_at(slab->frames, f->prev)->next = f->next;
	else
		cl->partial = f->next;
	if (f->next != FRAME_NIL)
		frame_at(slab->frames, f->next)->prev = f->prev;
}

static void *class_take_locked(struct slab *slab, struct slab_class *cl)
{
	struct frame *f;
	void **obj;

	if (cl->partial == FRAME_NIL)
		return NULL;
	f = frame_at(slab->frames, cl->partial);
	assert(f->state == FRAME_SLAB && f->slab_free);
	obj = f->slab_free;
	f->slab_free = *obj;
	f->slab_used++;
	if (!f->slab_free)
		class_unlink_locked(slab, cl, f);
	return obj;
}

static struct frame *slab_take_frame(struct slab *slab, unsigned flags)
{
	struct frame *f;

	if (!slab->may_grow(slab->ctx, 1, flags) || frames_alloc(slab->frames, &f, 1, flags | FRAMES_SLAB) != 1)
		return NULL;
	atomic_fetch_add_explicit(&slab->nframes, 1, memory_order_relaxed);
	return f;
}

static void slab_give_frame(struct slab *slab, struct frame *f)
{
	atomic_fetch_sub_explicit(&slab->nframes, 1, memory_order_relaxed);
	frame_put(slab->frames, f);
}

static void class_cut(struct slab *slab, struct slab_class *cl, struct frame *f)
{
	char *data = frame_data(slab->frames, f);

	frame_to_slab(f);
	f->slab_used = 0;
	f->slab_free = NULL;
	for (unsigned i = cl->per_frame; i-- > 0;) {
		void **obj = (void **)(void *)(data + (size_t)i * cl->size);

		*obj = f->slab_free;
		f->slab_free = obj;
	}
}

/* --- objects larger than a frame ---------------------------------------------------------------------------------- */

/* Frames that an object of size bytes and its header take; *head: bytes of the header. */
static uint32_t large_frames(size_t size, size_t *head)
{
	uint32_t n = (uint32_t)((size + FRAME_SIZE - 1) / FRAME_SIZE) + 1;

	n += (uint32_t)(n * sizeof(uint32_t) / FRAME_SIZE);
	*head = (sizeof(struct slab_large) + n * sizeof(uint32_t) + 15) & ~(size_t)15;
	return n;
}

static void large_give_back(struct slab *slab, struct slab_large *large)
{
	for (uint32_t i = 0; i < large->nframes; i++) {
		struct frame *f = frame_at(slab->frames, large->frame[i]);

		/* Without memory the frame cannot be used again; keeping it taken is the honest loss. */
		if (frames_unlend(slab->frames, f) == 0)
			slab_give_frame(slab, f);
	}
}

/* n frames lend their memory to what this returns, a header and more bytes behind it. */
static struct slab_large *large_take(struct slab *slab, uint32_t n, size_t bytes, unsigned flags)
{
	struct slab_large *large = calloc(1, bytes);

	if (!large)
		return NULL;
	while (large->nframes < n) {
		struct frame *f = slab_take_frame(slab, flags);

		if (!f) {
			large_give_back(slab, large);
			free(large);
			return NULL;
		}
		frames_lend(slab->frames, f);
		large->frame[large->nframes++] = frame_number(slab->frames, f);
	}
	return large;
}

static void *large_alloc(struct slab *slab, size_t size, unsigned flags)
{
	size_t head;
	uint32_t n = large_frames(size, &head);
	struct slab_large *large = large_take(slab, n, head + size, flags);

	return large ? (char *)large + head : NULL;
}

void *slab_charge(struct slab *slab, size_t bytes, unsigned flags)
{
	size_t head;
	uint32_t n = large_frames(bytes, &head);

	return large_take(slab, n, head, flags);
}

void slab_uncharge(struct slab *slab, void *charge)
{
	large_give_back(slab, charge);
	free(charge);
}

static void large_free(struct slab *slab, void *ptr, size_t size)
{
	size_t head;
	uint32_t n = large_frames(size, &head);
	struct slab_large *large;

	large = (struct slab_large *)(void *)((char *)ptr - head);
	assert(large->nframes == n);
	large_give_back(slab, large);
	free(large);
	/* malloc keeps what lies between other blocks; but the frames have their memory again, so it must go. */
	if (atomic_fetch_add(&slab->freed_large, size) + size >= LARGE_TRIM_BYTES &&
	    atomic_exchange(&slab->freed_large, 0) >= LARGE_TRIM_BYTES)
		malloc_trim(0);
}

/* --- objects -------------------------------------------------------------------------------------------------------- */

void *slab_alloc(struct slab *slab, size_t size, unsigned flags)
{
	struct slab_class *cl;
	struct frame *f;
	void *obj;

	if (size > FRAME_SIZE)
		return large_alloc(slab, size, flags);
	cl = slab_class_of(slab, size);
	pthread_mutex_lock(&cl->lock);
	obj = class_take_locked(slab, cl);
	pthread_mutex_unlock(&cl->lock);
	if (!obj) {
		f = slab_take_frame(slab, flags);
		if (!f)
			return NULL;
		class_cut(slab, cl, f);
		pthread_mutex_lock(&cl->lock);
		class_push_locked(slab, cl, f);
		obj = class_take_locked(slab, cl);
		pthread_mutex_unlock(&cl->lock);
	}
	memset(obj, 0, size);
	return obj;
}

void slab_free(struct slab *slab, void *ptr, size_t size)
{
	struct slab_class *cl;
	struct frame *f, *empty = NULL;

	if (!ptr)
		return;
	if (size > FRAME_SIZE) {
		large_free(slab, ptr, size);
		return;
	}
	cl = slab_class_of(slab, size);
	f = frame_of(slab->frames, ptr);
	pthread_mutex_lock(&cl->lock);
	assert(f->state == FRAME_SLAB && f->slab_used > 0);
	if (!f->slab_free)
		class_push_locked(slab, cl, f);
	*(void **)ptr = f->slab_free;
	f->slab_free = ptr;
	if (--f->slab_used == 0) {
		class_unlink_locked(slab, cl, f);
		empty = f;
	}
	pthread_mutex_unlock(&cl->lock);
	if (empty)
		slab_give_frame(slab, empty);
}
