/* SPDX-License-Identifier: MIT */
/*
 * frame: the arrows of the drawing in frames.h, one function each; a wrong one asserts.  A frame's state is guarded by
 * the lock of the object whose tree holds it, or is private to whoever fills it.  Called by the page cache and reclaim.
 */
#include "swapstore/frames.h"

#include <assert.h>

static void frame_move(struct frame *f, unsigned from, enum frame_state to)
{
	assert(from >> f->state & 1);
	(void)from;
	f->state = (uint8_t)to;
}

void frame_fill_clean(struct frame *f, struct ss_object *obj, uint64_t index, entry_t swap)
{
	assert(entry_is_swap(swap));
	frame_move(f, 1U << FRAME_FILLING, FRAME_CLEAN);
	f->object = obj;
	f->index = index;
	f->swap = swap;
}

void frame_fill_dirty(struct frame *f, struct ss_object *obj, uint64_t index)
{
	frame_move(f, 1U << FRAME_FILLING, FRAME_DIRTY);
	f->object = obj;
	f->index = index;
}

void frame_dirty(struct frame *f)
{
	frame_move(f, 1U << FRAME_CLEAN, FRAME_DIRTY);
	f->swap = ENTRY_EMPTY;
}

void frame_writeback_begin(struct frame *f)
{
	frame_move(f, 1U << FRAME_DIRTY, FRAME_WRITEBACK);
}

void frame_redirty(struct frame *f)
{
	frame_move(f, 1U << FRAME_WRITEBACK, FRAME_REDIRTIED);
}

void frame_writeback_done(struct frame *f, entry_t swap)
{
	assert(entry_is_swap(swap));
	frame_move(f, 1U << FRAME_WRITEBACK, FRAME_CLEAN);
	f->swap = swap;
}

void frame_writeback_undo(struct frame *f)
{
	frame_move(f, 1U << FRAME_WRITEBACK | 1U << FRAME_REDIRTIED, FRAME_DIRTY);
}

void frame_detach(struct frame *f)
{
	frame_move(f, 1U << FRAME_CLEAN | 1U << FRAME_DIRTY | 1U << FRAME_WRITEBACK | 1U << FRAME_REDIRTIED,
		   FRAME_DETACHED);
	f->object = NULL;
	f->swap = ENTRY_EMPTY;
}

void frame_to_slab(struct frame *f)
{
	frame_move(f, 1U << FRAME_FILLING, FRAME_SLAB);
}
