/* SPDX-License-Identifier: MIT */
/*
 * dentry: owns names: the hash table (parent, name) -> dentry, and each directory's tree cookie -> dentry, which
 * gives readdir an order that does not change while others add and remove.  All of it under fs->ns.  Called by
 * namei.c and readdir.c.
 *
 * The table is uthash's, but never grows by itself: that would allocate under the lock.  Instead a link that
 * finds it crowded says so in fs->dentry_wanted, and the next dentry_new(), which may wait, brings the memory.
 * Until then its chains are longer, no more.  In the same way it shrinks, which uthash does not know how to: when
 * most names have gone, with the next dentry_new() or dentry_free().
 */
#define uthash_malloc(size)	      dentry_table_alloc(fs, size)
#define uthash_free(ptr, size)	      ss_free(fs->store, ptr, size)
#define HASH_NONFATAL_OOM	      1
#define HASH_FUNCTION(key, len, hash) ((hash) = (unsigned)XXH3_64bits_withSeed((key), (len), fs->hash_seed))

#include "fuse-fs/fs.h"

#include <stddef.h>
#include <string.h>
#include <xxhash.h>

/* Names a bucket on average before the table doubles. */
#define DENTRY_CHAIN 2
/* It halves when there are so many buckets for a name, and more than so many at all. */
#define DENTRY_SPARSE  8
#define DENTRY_BUCKETS 1024

/* What the table is searched with: the same bytes as from dentry->parent_ino on. */
struct dentry_key {
	uint64_t parent_ino;
	char name[FS_NAME_MAX];
};

static void *dentry_table_alloc(struct fs *fs, size_t size)
{
	void *memory = fs->dentry_reserve;

	fs->dentry_reserve = NULL;
	/* Without a reserve this is dentry_init(), which holds no lock. */
	return memory ? memory : ss_alloc(fs->store, size);
}

static size_t dentry_size(size_t name_len)
{
	/* Short names fit into the struct's own padding; the NUL is for libfuse, which wants one. */
	size_t size = offsetof(struct dentry, name) + name_len + 1;

	return size < sizeof(struct dentry) ? sizeof(struct dentry) : size;
}

static const void *dentry_key(const struct dentry *de)
{
	return (const char *)de + offsetof(struct dentry, parent_ino);
}

static struct dentry *dentry_alloc(struct fs *fs, const char *name, size_t len)
{
	struct dentry *de = ss_alloc(fs->store, dentry_size(len));

	if (!de)
		return NULL;
	de->name_len = (uint16_t)len;
	memcpy(de->name, name, len);
	return de;
}

/* Bucket i and the one that lies half of the table behind it become one: the lower bits of their hashes are the same. */
static void dentry_halve_locked(UT_hash_table *table, UT_hash_bucket *half)
{
	const unsigned n = table->num_buckets / 2;

	for (unsigned i = 0; i < n; i++) {
		UT_hash_bucket *low = &table->buckets[i], *high = &table->buckets[i + n];
		UT_hash_handle **end = &low->hh_head, *last = NULL;

		for (; *end; end = &last->hh_next)
			last = *end;
		*end = high->hh_head;
		if (high->hh_head)
			high->hh_head->hh_prev = last;
		half[i].hh_head = low->hh_head;
		half[i].count = low->count + high->count;
	}
	table->buckets = half;
	table->num_buckets = n;
	table->log2_num_buckets--;
}

/* Memory for twice the buckets or half of them, of which nobody else will bring the same; with it the table is rebuilt. */
static void dentry_resize(struct fs *fs)
{
	size_t wanted = atomic_exchange(&fs->dentry_wanted, 0), size = wanted;
	void *memory = wanted ? ss_alloc(fs->store, wanted) : NULL;
	UT_hash_table *table;

	if (!memory)
		return;
	pthread_rwlock_wrlock(&fs->ns);
	table = fs->dentries->hh.tbl;
	if (table->num_buckets * 2 * sizeof(UT_hash_bucket) == wanted) {
		bool oomed = false;

		fs->dentry_reserve = memory;
		memory = NULL;
		HASH_EXPAND_BUCKETS(hh, table, oomed);
		table->noexpand = 1;
		assert(!oomed);
		(void)oomed;
	} else if (table->num_buckets / 2 * sizeof(UT_hash_bucket) == wanted) {
		UT_hash_bucket *old = table->buckets;

		dentry_halve_locked(table, memory);
		memory = old;
		size = 2 * wanted;
	}
	pthread_rwlock_unlock(&fs->ns);
	if (memory)
		ss_free(fs->store, memory, size);
}

struct dentry *dentry_new(struct fs *fs, const char *name, size_t len)
{
	assert(len > 0 && len <= FS_NAME_MAX);
	if (atomic_load_explicit(&fs->dentry_wanted, memory_order_relaxed) != 0)
		dentry_resize(fs);
	return dentry_alloc(fs, name, len);
}

static void dentry_drop(struct fs *fs, struct dentry *de)
{
	ss_free(fs->store, de, dentry_size(de->name_len));
}

void dentry_free(struct fs *fs, struct dentry *de)
{
	dentry_drop(fs, de);
	if (atomic_load_explicit(&fs->dentry_wanted, memory_order_relaxed) != 0)
		dentry_resize(fs);
}

struct dentry *dentry_find_locked(struct fs *fs, uint64_t parent_ino, const char *name, size_t len)
{
	struct dentry_key key = { .parent_ino = parent_ino };
	struct dentry *de;

	fs_assert_ns_held(fs);
	if (len > FS_NAME_MAX)
		return NULL;
	memcpy(key.name, name, len);
	HASH_FIND(hh, fs->dentries, &key, sizeof(key.parent_ino) + len, de);
	return de;
}

static void dentry_hash(struct fs *fs, struct dentry *de)
{
	UT_hash_table *table;

	HASH_ADD_KEYPTR(hh, fs->dentries, dentry_key(de), sizeof(de->parent_ino) + de->name_len, de);
	table = fs->dentries ? fs->dentries->hh.tbl : NULL;
	if (table && table->num_items > DENTRY_CHAIN * table->num_buckets)
		atomic_store_explicit(&fs->dentry_wanted, table->num_buckets * 2 * sizeof(UT_hash_bucket),
				      memory_order_relaxed);
}

static void dentry_count(struct inode *dir, int n)
{
	dir->dir.nentries += (uint32_t)n;
	pthread_mutex_lock(&dir->lock);
	dir->size = (uint64_t)FS_DIRENT_BYTES * (dir->dir.nentries + 2);
	pthread_mutex_unlock(&dir->lock);
}

int dentry_link_locked(struct fs *fs, struct inode *dir, struct dentry *de, struct inode *inode,
		       struct tree_stash *stash)
{
	entry_t word = (entry_t)(uintptr_t)de;

	fs_assert_ns_held_for_writing(fs);
	assert((word & 3) == 0);
	if (tree_replace(&dir->dir.entries, dir->dir.next_cookie, ENTRY_EMPTY, word, stash))
		return -ENOSPC;
	de->cookie = dir->dir.next_cookie++;
	de->parent_ino = dir->ino;
	de->inode = inode;
	dentry_hash(fs, de);
	dentry_count(dir, 1);
	return 0;
}

void dentry_unlink_locked(struct fs *fs, struct inode *dir, struct dentry *de, struct tree_stash *stash)
{
	UT_hash_table *table;
	int err;

	fs_assert_ns_held_for_writing(fs);
	err = tree_replace(&dir->dir.entries, de->cookie, (entry_t)(uintptr_t)de, ENTRY_EMPTY, stash);
	assert(err == 0);
	(void)err;
	HASH_DEL(fs->dentries, de);
	table = fs->dentries ? fs->dentries->hh.tbl : NULL; /* none at the very end, when the anchor has gone */
	if (table && table->num_buckets > DENTRY_BUCKETS && (uint64_t)table->num_items * DENTRY_SPARSE < table->num_buckets)
		atomic_store_explicit(&fs->dentry_wanted, table->num_buckets / 2 * sizeof(UT_hash_bucket),
				      memory_order_relaxed);
	dentry_count(dir, -1);
}

struct dentry *dentry_next_locked(struct fs *fs, struct inode *dir, uint64_t cookie)
{
	entry_t word;

	fs_assert_ns_held(fs);
	if (!tree_next(&dir->dir.entries, &cookie, UINT64_MAX, &word))
		return NULL;
	return (struct dentry *)(uintptr_t)word;
}

/*
 * The table begins with an entry that no search can name (no directory has number 0) and that stays to the end:
 * uthash frees the table with its last entry and makes a new one for the first, both under the lock.
 */
int dentry_init(struct fs *fs)
{
	struct dentry *anchor = dentry_alloc(fs, "", 0);

	if (!anchor)
		return -ENOSPC;
	dentry_hash(fs, anchor);
	if (!anchor->hh.tbl) {
		dentry_free(fs, anchor);
		return -ENOSPC;
	}
	fs->dentries->hh.tbl->noexpand = 1;
	return 0;
}

void dentry_destroy(struct fs *fs)
{
	struct tree_stash stash = { 0 };
	struct dentry *de, *next;

	pthread_rwlock_wrlock(&fs->ns);
	HASH_ITER(hh, fs->dentries, de, next) {
		if (de->parent_ino == 0)
			HASH_DEL(fs->dentries, de);
		else
			dentry_unlink_locked(fs, inode_find_locked(fs, de->parent_ino), de, &stash);
		dentry_drop(fs, de);
	}
	pthread_rwlock_unlock(&fs->ns);
	ss_stash_drain(fs->store, &stash);
}

/* --- for tests ------------------------------------------------------------------------------------------ */

struct dentry_sums {
	uint64_t names;	     /* in all directories */
	uint64_t file_names; /* those of them that are no directory's */
	uint64_t file_links; /* what the inodes themselves count */
	uint64_t inodes;
};

static void dentry_check_dir_locked(struct fs *fs, struct inode *dir, struct dentry_sums *sums)
{
	uint64_t cookie = 2, entries = 0, subdirs = 0;
	struct dentry *de;

	fs_assert_ns_held(fs);
	tree_check(&dir->dir.entries);
	while ((de = dentry_next_locked(fs, dir, cookie))) {
		assert(de->cookie >= cookie && de->cookie < dir->dir.next_cookie);
		assert(de->parent_ino == dir->ino);
		assert(dentry_find_locked(fs, dir->ino, de->name, de->name_len) == de);
		assert(inode_find_locked(fs, de->inode->ino) == de->inode);
		if (S_ISDIR(de->inode->mode)) {
			assert(de->inode->dir.parent_ino == dir->ino);
			subdirs++;
		}
		entries++;
		cookie = de->cookie + 1;
	}
	assert(entries == dir->dir.nentries);
	assert(dir->size == FS_DIRENT_BYTES * (entries + 2));
	assert(dir->nlink == (dir->nlink ? subdirs + 2 : 0));
	assert(dir->nlink != 0 || entries == 0);
	sums->names += entries;
	sums->file_names += entries - subdirs;
}

void fs_check(struct fs *fs)
{
	struct dentry_sums sums = { 0 };
	uint64_t ino = 0;
	entry_t word;

	pthread_rwlock_rdlock(&fs->ns);
	tree_check(&fs->inodes);
	while (tree_next(&fs->inodes, &ino, UINT64_MAX, &word)) {
		struct inode *inode = (struct inode *)(uintptr_t)word;

		assert(inode->ino == ino && ino < fs->next_ino);
		assert(inode->nlink != 0 || atomic_load(&inode->nlookup) != 0);
		if (S_ISDIR(inode->mode))
			dentry_check_dir_locked(fs, inode, &sums);
		else
			sums.file_links += inode->nlink;
		sums.inodes++;
		ino++;
	}
	assert(sums.file_names == sums.file_links);
	assert(sums.names + 1 == HASH_COUNT(fs->dentries)); /* and the anchor */
	assert(sums.inodes == atomic_load(&fs->inodes_used));
	pthread_rwlock_unlock(&fs->ns);
}
