/* SPDX-License-Identifier: MIT */
/*
 * claim.c: what takes room in one step, beside write()s that were promised some (space.c): fallocate, copies, direct
 * writes.  Owns fs->space.claims, under space.lock, and fs->space.squeezed.  Called by workers.
 *
 * A claim is made before its pages are taken and is over when they are counted: until then nothing is promised that does
 * not fit beside it.  It waits for promises that do not fit beside it to be settled.  Far from full nobody asks: where
 * what the kernel may hold unsent is more than will be left, everybody is made to ask and is flushed first.
 */
#include "fuse-fs/session.h"
#include "fuse-fs/space_impl.h"
#include "swapstore/util.h"

#include <semaphore.h>

struct claim_wait {
	struct session_flush flush;
	struct fs *fs;
	struct space_claim *claim;
	sem_t settled;
};

static void claim_link_locked(struct space *sp, struct space_claim *claim)
{
	claim->next = sp->claims;
	sp->claims = claim;
	claim->made = true;
	atomic_fetch_add(&sp->linked, 1);
}

/* In the flusher's thread. */
static void claim_settle(struct session_flush *flush)
{
	struct claim_wait *wait = (struct claim_wait *)flush;
	struct fs *fs = wait->fs;

	if (wait->claim->squeezes)
		session_flush_writers(fs->session);
	pthread_mutex_lock(&fs->space.lock);
	space_settle_locked(fs, wait->claim->payer, wait->claim->pages);
	claim_link_locked(&fs->space, wait->claim);
	pthread_mutex_unlock(&fs->space.lock);
	sem_post(&wait->settled);
}

/* The worker waits for flushes, which need other workers. */
static void claim_wait(struct fs *fs, struct space_claim *claim, uint64_t ino)
{
	struct claim_wait wait = { .flush = { .ino = ino, .done = claim_settle }, .fs = fs, .claim = claim };

	if (claim->squeezes)
		space_ask(fs);
	sem_init(&wait.settled, 0, 0);
	session_flush_inode(fs->session, &wait.flush);
	util_wait_begin();
	while (sem_wait(&wait.settled) != 0)
		;
	util_wait_end();
	sem_destroy(&wait.settled);
	pthread_mutex_lock(&fs->space.lock);
	fs->space.waiting--;
	pthread_mutex_unlock(&fs->space.lock);
}

void space_claim(struct fs *fs, fuse_req_t req, struct inode *inode, uint64_t bytes, struct space_claim *claim)
{
	struct space *sp = &fs->space;
	bool near = false, waits = false;

	*claim = (struct space_claim){ .payer = space_payer(req, inode), .pages = bytes / SS_PAGE_SIZE + 2 };
	if (fs->cache != SPILLFS_CACHE_KERNEL)
		return;
	pthread_mutex_lock(&sp->lock);
	/* Who is only made to ask by another claim may have much that is not sent. */
	near = atomic_load(&fs->near_full) || (claim->payer != NULL && quota_is_near(inode));
	space_asks_again_locked(sp, fuse_req_ctx(req)->pid, inode->ino);
	waits = !space_fits_locked(fs, claim->payer, claim->pages + (near ? 0 : space_unsent_pages(fs)), UINT64_MAX);
	if (near && sp->count == 0 && sp->claims == NULL)
		waits = false; /* for nobody: the store says whether there is room */
	/* Half of the workers can do what the others wait for.  Who finds no place leaves it to the store's reserve. */
	waits = waits && sp->waiting < session_workers(fs->session) / 2;
	if (waits) {
		sp->waiting++;
		claim->squeezes = !near;
		atomic_fetch_add(&sp->squeezed, claim->squeezes);
	} else {
		claim_link_locked(sp, claim);
	}
	pthread_mutex_unlock(&sp->lock);
	if (waits)
		claim_wait(fs, claim, inode->ino);
}

/* First the switch to near full, if that has come: whoever was made to ask goes on asking. */
void space_claimed(struct fs *fs, struct space_claim *claim)
{
	struct space *sp = &fs->space;
	struct space_claim **at = &sp->claims;

	if (!claim->made)
		return;
	space_changed(fs);
	pthread_mutex_lock(&sp->lock);
	while (*at != claim)
		at = &(*at)->next;
	*at = claim->next;
	atomic_fetch_sub(&sp->linked, 1);
	pthread_mutex_unlock(&sp->lock);
	atomic_fetch_sub(&sp->squeezed, claim->squeezes);
}
