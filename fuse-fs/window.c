/* SPDX-License-Identifier: MIT */
/*
 * window.c: how many dirty pages the kernel may have of this mount.  fs->window_now is what it was told last (atomic,
 * 0: nothing); whoever changes it has the notifier's thread tell.  Called by space.c; pressure.c asks how many.
 */
#include "fuse-fs/fs.h"
#include "fuse-fs/options.h"
#include "fuse-fs/session.h"

#include <stdio.h>
#include <unistd.h>

/* The kernel's dirty limit for the mount, in pages, lies between these (16 MiB, 64 MiB), or is brought there. */
#define WINDOW_DEFAULT_MIN 4096
#define WINDOW_DEFAULT_MAX 16384
/* The most that the kernel is ever allowed to have dirty (1 GiB). */
#define WINDOW_MAX	   262144
/* The least that it is held to in a small memory cgroup (8 MiB). */
#define WINDOW_MIN	   2048
#define MILLION		   UINT64_C(1000000)

/* A positive number in a file of /proc/sys; 0 when there is none. */
static uint64_t window_read_sysctl(const char *path)
{
	unsigned long long n = 0;
	FILE *f = fopen(path, "re");

	if (f == NULL)
		return 0;
	if (fscanf(f, "%llu", &n) != 1)
		n = 0;
	fclose(f);
	return n;
}

/* A FUSE mount starts with 1 % of the machine's dirty limit (max_ratio of its BDI, strictly): at most so many pages. */
static uint64_t window_estimate(void)
{
	uint64_t pages = window_read_sysctl("/proc/sys/vm/dirty_bytes") >> SS_PAGE_SHIFT;

	if (pages == 0)
		pages = (uint64_t)sysconf(_SC_PHYS_PAGES) * window_read_sysctl("/proc/sys/vm/dirty_ratio") / 100;
	return pages / 100;
}

static uint64_t window_default(void)
{
	const uint64_t pages = window_estimate();

	return pages < WINDOW_DEFAULT_MIN ? WINDOW_DEFAULT_MIN : pages > WINDOW_DEFAULT_MAX ? WINDOW_DEFAULT_MAX : pages;
}

/*
 * A third of what RAM leaves to this process, in pages, as dirty pages and frames share one cgroup.  RAM that the store
 * has already taken is available, too, in this sense.
 */
static uint64_t window_share(struct fs *fs)
{
	const uint64_t ram_bytes = atomic_load(&fs->ram_bytes);
	struct swapstore_stats st;
	uint64_t available;

	swapstore_get_stats(fs->store, &st);
	available = options_memory_available(fs->groups) + st.ram_used_bytes;
	return (available > ram_bytes ? (available - ram_bytes) / 3 : 0) >> SS_PAGE_SHIFT;
}

/*
 * What the kernel may keep dirty while that is far from all the room there is: as much as the RAM that the mount may
 * use, if that is no more than its share.
 */
static uint64_t window_most(struct fs *fs, uint64_t share)
{
	uint64_t pages = atomic_load(&fs->ram_bytes) >> SS_PAGE_SHIFT;

	pages = pages < share ? pages : share;
	pages = pages < WINDOW_MAX ? pages : WINDOW_MAX;
	/* The kernel's 1 % tells what all is: it refuses more than that, and half is enough for one mount. */
	pages = pages < 50 * fs->window_kernel ? pages : 50 * fs->window_kernel;
	return pages >= 2 * fs->flush_pages ? pages : 0;
}

/*
 * Fewer than the kernel allows by itself, in a small memory cgroup, or where that is more than the ENOSPC protocol reckons
 * with (1 % of hundreds of gigabytes); else 0.
 */
static uint64_t window_narrow(struct fs *fs, uint64_t share)
{
	uint64_t pages = fs->flush_pages;
	struct options_room room;

	options_groups_room(fs->groups, true, &room);
	if (room.room != UINT64_MAX && share < pages)
		pages = share > WINDOW_MIN ? share : WINDOW_MIN;
	return pages < fs->window_kernel || pages < window_estimate() ? pages : 0;
}

void window_init(struct fs *fs)
{
	fs->flush_pages = window_default();
	fs->window_kernel = 0;
	fs->window_pages = fs->window_least = 0;
}

/* The kernel may have so many dirty by itself. */
static void window_expect(struct fs *fs, uint64_t pages)
{
	if (pages > fs->flush_pages)
		fs->flush_pages = pages;
}

uint64_t window_millionths(struct fs *fs)
{
	const uint64_t most = 100 * window_estimate(), pages = atomic_load(&fs->window_now);

	return most == 0 ? 0 : pages >= most ? MILLION : pages * MILLION / most;
}

void window_open(struct fs *fs)
{
	bool ours;
	const uint64_t pages = session_window_bytes(fs->session, &ours) >> SS_PAGE_SHIFT;

	if (!ours) {
		window_expect(fs, window_estimate());
		window_expect(fs, pages);
		return;
	}
	fs->window_kernel = pages;
	window_resize(fs);
	atomic_store(&fs->window_now, fs->window_least);
	if (fs->window_least != 0 && !session_set_window(fs->session, window_millionths(fs)))
		window_refused(fs);
}

void window_refused(struct fs *fs)
{
	session_set_window(fs->session, 0); /* what it was told before would stay */
	window_expect(fs, fs->window_kernel);
	window_expect(fs, window_estimate());
	fs->window_pages = fs->window_least = 0;
	atomic_store(&fs->window_now, 0);
}

void window_resize(struct fs *fs)
{
	uint64_t share;

	if (fs->window_kernel == 0) /* not ours to say */
		return;
	share = window_share(fs);
	fs->window_pages = window_most(fs, share);
	fs->window_least = window_narrow(fs, share);
}

/*
 * The window closes, by halves, well before what it lets in could be more than there is room for.  A step up takes
 * more room than the same step down gave, else it would swing.
 */
void window_adjust(struct fs *fs, uint64_t left)
{
	uint64_t now = atomic_load_explicit(&fs->window_now, memory_order_relaxed), want = fs->window_pages;
	const uint64_t least = fs->window_least;

	want = want > least ? want : least;
	/* Nobody knows whose pages the kernel holds: with limits to keep, only as many as it always may. */
	if (atomic_load_explicit(&fs->quota.limits_pages, memory_order_relaxed))
		want = least;
	while (want > least && left <= (want <= now ? 4 : 5) * want)
		want = want / 2 >= 2 * fs->flush_pages ? want / 2 : least;
	if (want != now && fs->session != NULL && atomic_compare_exchange_strong(&fs->window_now, &now, want))
		session_adjust_window(fs->session);
}

uint64_t window_pages(struct fs *fs)
{
	uint64_t window = atomic_load_explicit(&fs->window_now, memory_order_relaxed);

	return window != 0 ? window : fs->flush_pages;
}
