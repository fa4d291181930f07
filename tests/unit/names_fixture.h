/* SPDX-License-Identifier: MIT */
/*
 * names_fixture: a file system on a real store, with no mount: set up, torn down with its memory counted, and the
 * operations on it as short as the tests want them.  One at a time, in static variables: check forks each test.
 */
#ifndef TESTS_NAMES_FIXTURE_H
#define TESTS_NAMES_FIXTURE_H

#include "tests/unit/fuse_fake.h"

#include <stdio.h>

#define MIB (UINT64_C(1) << 20)

static struct fs fs;
static struct fuse_lowlevel_ops ops;
static struct fuse_req rq; /* the request in hand, its reply after the call */
static bool lose_reply;
static uint64_t baseline;
static uid_t caller = 1000;
static struct quota_table quotas[QUOTA_KINDS]; /* for start_with() */

/*
 * Pages that the store could hold: exact to the frame, and each frame that bookkeeping takes is missing here, so
 * one name that is not freed shows.  (RAM in use is counted in larger steps, and falls a little later.)
 */
static uint64_t room(void)
{
	return swapstore_pages_left(fs.store);
}

static void start_with(uint64_t ram, uint64_t inodes_limit)
{
	struct swapstore_config config = { .ram_bytes = ram, .contexts = 1, .io_bytes = 65536, .engine = RING_THREADS };
	char why[200] = "";

	if (ram == 0)
		config.ram_bytes = swapstore_ram_min(&config) + MIB;
	memset(&fs, 0, sizeof(fs));
	memcpy(fs.quota.kind, quotas, sizeof(quotas));
	caller = 1000;
	fake_logged = 0;
	lose_reply = false;
	ck_assert_msg(swapstore_open(&config, &fs.store, why, sizeof(why)) == 0, "%s", why);
	baseline = room();
	fs.inodes_limit = inodes_limit;
	fs.acl = true;
	ck_assert_int_eq(fs_init(&fs, 01777, 7, 8), 0);
	fs_ops_names(&ops);
	fs_ops_attrs(&ops);
	fs_ops_dirs(&ops);
	fs_ops_xattrs(&ops);
}

static void start(void)
{
	start_with(64 * MIB, 0);
}

static void stop(void)
{
	fs_check(&fs);
	fs_destroy(&fs);
	ck_assert_uint_eq(atomic_load(&fs.inodes_used), 0);
	ck_assert_uint_eq(room(), baseline);
	swapstore_close(fs.store);
}

/* --- the operations, as short as the tests want them; all return 0 or -errno ------------------------------ */

static fuse_req_t request(void)
{
	rq.fs = &fs;
	rq.ctx = (struct fuse_ctx){ .uid = caller, .gid = caller };
	rq.lose_reply = lose_reply;
	rq.replies = 0;
	rq.len = 0;
	memset(&rq.entry, 0, sizeof(rq.entry));
	return &rq;
}

static int done(void)
{
	ck_assert_uint_eq(rq.replies, 1);
	return rq.err;
}

static int do_mknod(uint64_t dir, const char *name)
{
	ops.mknod(request(), dir, name, S_IFREG | 0644, 0);
	return done();
}

static int do_mkdir(uint64_t dir, const char *name)
{
	ops.mkdir(request(), dir, name, 0755);
	return done();
}

static int do_unlink(uint64_t dir, const char *name)
{
	ops.unlink(request(), dir, name);
	return done();
}

static int do_rmdir(uint64_t dir, const char *name)
{
	ops.rmdir(request(), dir, name);
	return done();
}

static int do_rename(uint64_t from, const char *name, uint64_t to, const char *newname, unsigned flags)
{
	ops.rename(request(), from, name, to, newname, flags);
	return done();
}

static void forget(uint64_t ino)
{
	ops.forget(request(), ino, 1);
	done();
}

/* Keeps no reference. */
static int do_link(uint64_t ino, uint64_t dir, const char *name)
{
	struct fuse_entry_param e;
	int err;

	ops.link(request(), ino, dir, name);
	err = done();
	e = rq.entry;
	if (err == 0)
		forget(ino);
	rq.entry = e;
	return err;
}

/* The number behind a name, 0 if there is none; the reference is given back. */
static uint64_t find(uint64_t dir, const char *name)
{
	uint64_t ino;

	ops.lookup(request(), dir, name);
	ck_assert_int_eq(done(), 0);
	ino = rq.entry.ino;
	if (ino)
		forget(ino);
	return ino;
}

/* Creates and keeps no reference. */
static uint64_t make(uint64_t dir, const char *name, bool is_dir)
{
	uint64_t ino;

	ck_assert_int_eq(is_dir ? do_mkdir(dir, name) : do_mknod(dir, name), 0);
	ino = rq.entry.ino;
	forget(ino);
	return ino;
}

static struct stat stat_of(uint64_t ino)
{
	ops.getattr(request(), ino, NULL);
	ck_assert_int_eq(done(), 0);
	return rq.attr;
}

/* Good until the fourth call from now. */
static const char *numbered(unsigned i)
{
	static char names[4][32];
	static unsigned turn;
	char *name = names[turn++ % 4];

	snprintf(name, sizeof(names[0]), "name-%u", i);
	return name;
}

#endif
