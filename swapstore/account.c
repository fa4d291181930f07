/* SPDX-License-Identifier: MIT */
/*
 * account: who pays for the pages of an object.  The counts are atomic; that an object's pages are on the accounts of
 * its payer, neither more nor less, is guarded by obj->lock: they are charged and given back, and the payer changes,
 * with it held.  Called by write.c and object.c; the accounts are the caller's of swapstore.h.
 */
#include "swapstore/store.h"

#include "swapstore/util.h"

#include <errno.h>

/* n more pages on this account, unless that is beyond its limit and not forced. */
static bool account_add(struct ss_account *account, uint64_t n, bool forced)
{
	uint64_t pages = atomic_load_explicit(&account->pages, memory_order_relaxed);

	do {
		uint64_t limit = atomic_load_explicit(&account->limit, memory_order_relaxed);

		if (!forced && limit && (n > limit || pages > limit - n))
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&account->pages, &pages, pages + n, memory_order_relaxed,
							memory_order_relaxed));
	return true;
}

static void account_take(struct ss_account *account, uint64_t n)
{
	uint64_t was = atomic_fetch_sub_explicit(&account->pages, n, memory_order_relaxed);

	assert(was >= n);
	(void)was;
}

bool account_charge(const struct ss_payer *payer, uint64_t n, unsigned write_flags)
{
	bool forced = write_flags & (SS_WRITE_ACKED | SS_WRITE_FORCED);

	for (unsigned i = 0; payer && i < SS_ACCOUNTS; i++) {
		if (!payer->account[i] || account_add(payer->account[i], n, forced))
			continue;
		while (i-- > 0)
			if (payer->account[i])
				account_take(payer->account[i], n);
		return false;
	}
	return true;
}

void account_uncharge(const struct ss_payer *payer, uint64_t n)
{
	for (unsigned i = 0; payer && i < SS_ACCOUNTS; i++)
		if (payer->account[i])
			account_take(payer->account[i], n);
}

uint64_t ss_account_left(const struct ss_account *account)
{
	uint64_t limit = atomic_load_explicit(&account->limit, memory_order_relaxed);
	uint64_t pages = atomic_load_explicit(&account->pages, memory_order_relaxed);

	return !limit ? UINT64_MAX : limit > pages ? limit - pages : 0;
}

bool account_is_full(const struct ss_payer *payer, unsigned write_flags)
{
	if (write_flags & (SS_WRITE_ACKED | SS_WRITE_FORCED))
		return false;
	for (unsigned i = 0; payer && i < SS_ACCOUNTS; i++)
		if (payer->account[i] && ss_account_left(payer->account[i]) == 0)
			return true;
	return false;
}

/* Charges the new payer's accounts that are not the old one's too; those it was charged to before are undone. */
static bool account_move(const struct ss_payer *from, const struct ss_payer *to, uint64_t n, unsigned write_flags)
{
	struct ss_payer gains = {{0}}, loses = {{0}};

	for (unsigned i = 0; i < SS_ACCOUNTS; i++) {
		struct ss_account *old = from ? from->account[i] : NULL, *new = to ? to->account[i] : NULL;

		gains.account[i] = old == new ? NULL : new;
		loses.account[i] = old == new ? NULL : old;
	}
	if (!account_charge(&gains, n, write_flags))
		return false;
	account_uncharge(&loses, n);
	return true;
}

int object_set_payer(struct ss_object *obj, const struct ss_payer *payer, unsigned write_flags)
{
	UTIL_LOCKED(&obj->lock);

	if (!account_move(object_payer(obj), payer, object_pages(obj), write_flags))
		return -EDQUOT;
	atomic_store_explicit(&obj->payer, payer, memory_order_release);
	return 0;
}
