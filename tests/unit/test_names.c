/* SPDX-License-Identifier: MIT */
/*
 * Names, inodes and extended attributes with a real store and no mount: each test calls the operations as
 * libfuse would (fuse_fake.h), checks every invariant of the tables (fs_check), and ends by tearing the file
 * system down, after which the store must have as much room as before it began.
 */
#include "tests/unit/names_fixture.h"
#include "tests/unit/run.h"

#include <stdlib.h>
#include <sys/xattr.h>

/* --- names ---------------------------------------------------------------------------------------------- */

START_TEST(a_name_is_found_from_its_creation_to_its_removal)
{
	uint64_t dir, ino;

	start();
	dir = make(1, "dir", true);
	ck_assert_uint_eq(find(dir, "a"), 0);
	ino = make(dir, "a", false);
	ck_assert_uint_eq(find(dir, "a"), ino);
	ck_assert_uint_eq(find(1, "a"), 0); /* not in another directory */
	ck_assert_uint_eq(find(dir, "."), dir);
	ck_assert_uint_eq(find(dir, ".."), 1);
	ck_assert_int_eq(do_mknod(dir, "a"), -EEXIST);
	ck_assert_int_eq(do_mkdir(dir, "a"), -EEXIST);
	ck_assert_int_eq(do_rmdir(dir, "a"), -ENOTDIR);
	ck_assert_int_eq(do_unlink(1, "dir"), -EISDIR);
	ck_assert_int_eq(do_rmdir(1, "dir"), -ENOTEMPTY);
	ck_assert_uint_eq(stat_of(dir).st_size, 3 * FS_DIRENT_BYTES);
	ck_assert_int_eq(do_unlink(dir, "a"), 0);
	ck_assert_int_eq(do_unlink(dir, "a"), -ENOENT);
	ck_assert_uint_eq(find(dir, "a"), 0);
	ck_assert_int_eq(do_rmdir(1, "dir"), 0);
	ck_assert_uint_eq(stat_of(1).st_nlink, 2);
	ck_assert_ptr_null(inode_get(&fs, ino));
	ck_assert_uint_gt(make(1, "a", false), ino); /* numbers are never used again */
	stop();
}
END_TEST

START_TEST(names_longer_than_255_bytes_are_refused_everywhere)
{
	char name[300];
	uint64_t ino;

	start();
	memset(name, 'x', sizeof(name));
	name[256] = '\0';
	ck_assert_int_eq(do_mknod(1, name), -ENAMETOOLONG);
	ck_assert_int_eq(do_mkdir(1, name), -ENAMETOOLONG);
	ck_assert_int_eq(do_unlink(1, name), -ENAMETOOLONG);
	ck_assert_int_eq(do_rmdir(1, name), -ENAMETOOLONG);
	ops.lookup(request(), 1, name);
	ck_assert_int_eq(done(), -ENAMETOOLONG);
	ops.symlink(request(), "target", 1, name);
	ck_assert_int_eq(done(), -ENAMETOOLONG);
	ino = make(1, "a", false);
	ck_assert_int_eq(do_link(ino, 1, name), -ENAMETOOLONG);
	ck_assert_int_eq(do_rename(1, "a", 1, name, 0), -ENAMETOOLONG);
	ck_assert_int_eq(do_rename(1, name, 1, "a", 0), -ENAMETOOLONG);
	name[255] = '\0';
	ck_assert_int_eq(do_rename(1, "a", 1, name, 0), 0);
	ck_assert_uint_ne(find(1, name), 0);
	stop();
}
END_TEST

START_TEST(renames_do_what_their_flags_say)
{
	uint64_t d1, d2, a, b, sub;

	start();
	d1 = make(1, "d1", true);
	d2 = make(1, "d2", true);
	a = make(d1, "a", false);
	b = make(d2, "b", false);
	sub = make(d1, "sub", true);
	ck_assert_int_eq(do_rename(d1, "a", d2, "b", RENAME_NOREPLACE), -EEXIST);
	ck_assert_int_eq(do_rename(d1, "a", d2, "x", RENAME_EXCHANGE), -ENOENT);
	ck_assert_int_eq(do_rename(d1, "a", d2, "b", RENAME_EXCHANGE | RENAME_NOREPLACE), -EINVAL);
	ck_assert_int_eq(do_rename(d1, "a", d2, "b", 8), -EINVAL);
	ck_assert_int_eq(do_rename(d1, "a", 1, "d2", 0), -EISDIR);
	ck_assert_int_eq(do_rename(d1, "sub", d2, "b", 0), -ENOTDIR);
	ck_assert_int_eq(do_rename(1, "d2", 1, "d1", 0), -ENOTEMPTY);

	ck_assert_int_eq(do_rename(d1, "sub", d2, "b", RENAME_EXCHANGE), 0);
	fs_check(&fs);
	ck_assert_uint_eq(find(d2, "b"), sub);
	ck_assert_uint_eq(find(d1, "sub"), b);
	ck_assert_uint_eq(find(sub, ".."), d2);
	ck_assert_uint_eq(stat_of(d1).st_nlink, 2);
	ck_assert_uint_eq(stat_of(d2).st_nlink, 3);

	ck_assert_int_eq(do_rename(d1, "a", d1, "sub", RENAME_WHITEOUT), 0); /* over b, which dies */
	fs_check(&fs);
	ck_assert_uint_eq(find(d1, "sub"), a);
	ck_assert_ptr_null(inode_get(&fs, b));
	ck_assert_uint_eq(stat_of(find(d1, "a")).st_mode, S_IFCHR);
	ck_assert_uint_eq(stat_of(find(d1, "a")).st_rdev, 0);

	ck_assert_int_eq(do_rename(d2, "b", 1, "moved", 0), 0);
	ck_assert_uint_eq(find(sub, ".."), 1);
	ck_assert_uint_eq(stat_of(1).st_nlink, 5);
	ck_assert_int_eq(do_rename(1, "d2", 1, "moved", 0), 0); /* a directory over an empty one */
	ck_assert_uint_eq(stat_of(1).st_nlink, 4);
	ck_assert_ptr_null(inode_get(&fs, sub));
	stop();
}
END_TEST

START_TEST(two_names_of_one_file_are_left_alone_by_a_rename)
{
	uint64_t a;

	start();
	a = make(1, "a", false);
	ck_assert_int_eq(do_link(a, 1, "b"), 0);
	ck_assert_int_eq(do_rename(1, "a", 1, "b", 0), 0);
	ck_assert_uint_eq(find(1, "a"), a);
	ck_assert_uint_eq(find(1, "b"), a);
	ck_assert_uint_eq(stat_of(a).st_nlink, 2);
	stop();
}
END_TEST

/* --- directories ---------------------------------------------------------------------------------------- */

/* The next of a directory's names from *off on; moves *off behind it. */
static bool list_next(uint64_t dir, uint64_t *off, struct fake_dirent *out)
{
	ops.readdir(request(), dir, sizeof(*out), (off_t)*off, NULL);
	ck_assert_int_eq(done(), 0);
	if (rq.len == 0)
		return false;
	ck_assert_uint_eq(rq.len, sizeof(*out));
	memcpy(out, rq.buf, sizeof(*out));
	*off = out->next;
	return true;
}

START_TEST(a_listing_neither_skips_nor_repeats_while_names_come_and_go)
{
	unsigned seen[100] = { 0 }, others = 0;
	struct fake_dirent d;
	uint64_t off = 0;

	start();
	for (unsigned i = 0; i < 100; i++)
		make(1, numbered(i), false);
	/* Behind each name that is listed one before and one after it goes, another comes, and one is replaced. */
	for (unsigned step = 0; list_next(1, &off, &d); step++) {
		unsigned i;

		if (sscanf(d.name, "name-%u", &i) != 1 || i >= 100) {
			others++;
			continue;
		}
		ck_assert_msg(seen[i]++ == 0, "%s was listed twice", d.name);
		if (i % 4 == 0)
			ck_assert_int_eq(do_unlink(1, numbered(i)), 0);
		if (i % 4 == 1)
			ck_assert_int_eq(do_unlink(1, numbered(i + 1)), 0);
		if (step < 50)
			make(1, numbered(1000 + step), false);
		fs_check(&fs);
	}
	for (unsigned i = 0; i < 100; i++)
		ck_assert_uint_eq(seen[i], i % 4 != 2); /* gone before its turn */
	ck_assert_uint_ge(others, 2 + 40);		/* ".", "..", and what was added meanwhile */
	stop();
}
END_TEST

START_TEST(a_listing_lost_on_its_way_leaves_no_reference)
{
	uint64_t ino;

	start();
	ino = make(1, "a", false);
	ops.readdirplus(request(), 1, 65536, 0, NULL);
	ck_assert_int_eq(done(), 0);
	ck_assert_uint_eq(inode_get(&fs, ino)->nlookup, 1);
	ck_assert_uint_eq(inode_get(&fs, 1)->nlookup, 1); /* none for "." and ".." */
	lose_reply = true;
	ops.readdirplus(request(), 1, 65536, 0, NULL);
	done();
	lose_reply = false;
	ck_assert_uint_eq(inode_get(&fs, ino)->nlookup, 1);
	forget(ino);
	stop();
}
END_TEST

START_TEST(a_hundred_thousand_names_are_all_found_and_all_listed)
{
	const unsigned n = 100000;
	unsigned char *seen = calloc(n, 1);
	unsigned listed = 0;
	uint64_t off = 0, dir;

	start_with(256 * MIB, 0);
	dir = make(1, "dir", true);
	for (unsigned i = 0; i < n; i++)
		make(dir, numbered(i), false);
	fs_check(&fs);
	ck_assert_uint_lt(room() + n / 40, baseline); /* names are charged: no less than 100 bytes each */
	/* The table has grown with them: chains stay short. */
	ck_assert_uint_ge(fs.dentries->hh.tbl->num_buckets, n / 4);
	for (unsigned i = 0; i < n; i++)
		ck_assert_uint_ne(find(dir, numbered(i)), 0);
	do {
		ops.readdir(request(), dir, 16384, (off_t)off, NULL);
		ck_assert_int_eq(done(), 0);
		for (size_t at = 0; at < rq.len; at += sizeof(struct fake_dirent)) {
			struct fake_dirent d;
			unsigned i;

			memcpy(&d, rq.buf + at, sizeof(d));
			off = d.next;
			if (sscanf(d.name, "name-%u", &i) == 1) {
				ck_assert_uint_eq(seen[i]++, 0);
				listed++;
			}
		}
	} while (rq.len);
	ck_assert_uint_eq(listed, n);
	for (unsigned i = 0; i < n; i += 2) {
		ck_assert_int_eq(do_unlink(dir, numbered(i)), 0);
	}
	ck_assert_uint_eq(stat_of(dir).st_size, FS_DIRENT_BYTES * (n / 2 + 2));
	free(seen);
	stop();
}
END_TEST

START_TEST(the_table_of_names_shrinks_as_they_go_and_loses_none)
{
	const unsigned n = 40000, keep = 500;

	start_with(256 * MIB, 0);
	for (unsigned i = 0; i < n; i++)
		make(1, numbered(i), false);
	ck_assert_uint_ge(fs.dentries->hh.tbl->num_buckets, n / 4);
	for (unsigned i = 0; i < n; i++) {
		if (i % (n / keep) != 0)
			ck_assert_int_eq(do_unlink(1, numbered(i)), 0);
		if (i % 5000 == 0)
			fs_check(&fs);
	}
	ck_assert_uint_le(fs.dentries->hh.tbl->num_buckets, 8 * keep);
	fs_check(&fs);
	for (unsigned i = 0; i < n; i++)
		ck_assert_int_eq(find(1, numbered(i)) != 0, i % (n / keep) == 0);
	/* And it grows again. */
	for (unsigned i = 0; i < n; i++)
		if (i % (n / keep) != 0)
			make(1, numbered(i), false);
	fs_check(&fs);
	ck_assert_uint_ge(fs.dentries->hh.tbl->num_buckets, n / 4);
	stop();
}
END_TEST

/* --- lives ---------------------------------------------------------------------------------------------- */

START_TEST(an_inode_without_a_name_lives_until_the_kernel_forgets_it)
{
	struct fuse_file_info fi = { .flags = O_RDWR };
	uint64_t a, tmp;

	start();
	ck_assert_int_eq(do_mknod(1, "a"), 0);
	a = rq.entry.ino;
	ck_assert_int_eq(do_unlink(1, "a"), 0);
	ck_assert_uint_eq(stat_of(a).st_nlink, 0);
	ops.tmpfile(request(), 1, 0600, &fi);
	ck_assert_int_eq(done(), 0);
	tmp = rq.entry.ino;
	ck_assert_uint_eq(rq.entry.attr.st_nlink, 0);
	fs_check(&fs);
	forget(a);
	ck_assert_ptr_null(inode_get(&fs, a));
	ops.getattr(request(), a, NULL);
	ck_assert_int_eq(done(), -ESTALE);

	ck_assert_int_eq(do_link(tmp, 1, "named"), 0); /* as linkat() on /proc/self/fd does */
	ck_assert_uint_eq(rq.entry.attr.st_nlink, 1);
	forget(tmp);
	ck_assert_uint_eq(find(1, "named"), tmp);
	stop();
}
END_TEST

START_TEST(a_reply_that_does_not_get_through_leaves_no_reference)
{
	struct fuse_file_info fi = { .flags = O_RDWR };
	uint64_t used;

	start();
	lose_reply = true;
	ck_assert_int_eq(do_mknod(1, "a"), 0);
	ck_assert_int_eq(do_mkdir(1, "b"), 0);
	ops.symlink(request(), "target", 1, "c");
	done();
	ops.create(request(), 1, "d", 0644, &fi);
	done();
	used = atomic_load(&fs.inodes_used);
	ops.tmpfile(request(), 1, 0644, &fi); /* has nothing else to live for */
	done();
	ck_assert_uint_eq(atomic_load(&fs.inodes_used), used);
	lose_reply = false;
	for (uint64_t ino = 2; ino < fs.next_ino; ino++) {
		struct inode *inode = inode_get(&fs, ino);

		ck_assert(!inode || (inode->nlookup == 0 && inode->writers == 0));
	}
	ck_assert_int_eq(do_unlink(1, "a"), 0); /* and so dies at once */
	ck_assert_uint_eq(atomic_load(&fs.inodes_used), used - 1);
	stop();
}
END_TEST

START_TEST(inodes_run_out_at_their_limit_and_say_so_once)
{
	start_with(64 * MIB, 20);
	for (unsigned i = 0; i < 19; i++) /* the root is one of them */
		make(1, numbered(i), false);
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(do_mknod(1, "more"), -ENOSPC);
	ck_assert_uint_eq(fake_logged, 1);
	for (unsigned i = 0; i < 10; i++)
		ck_assert_int_eq(do_unlink(1, numbered(i)), 0);
	for (unsigned i = 0; i < 10; i++)
		make(1, numbered(i), false);
	ck_assert_int_eq(do_mkdir(1, "more"), -ENOSPC);
	ck_assert_uint_eq(fake_logged, 2); /* it had recovered in between */
	ck_assert_int_eq(do_rename(1, numbered(1), 1, numbered(2), RENAME_WHITEOUT), -ENOSPC);
	fs_check(&fs);
	ck_assert_uint_ne(find(1, numbered(1)), find(1, numbered(2)));
	stop();
}
END_TEST

START_TEST(numbers_of_32_bits_begin_anew_and_pass_over_those_in_use)
{
	uint64_t a, b, c;

	start();
	atomic_store(&fs.inode32, true);
	a = make(1, "a", false);
	b = make(1, "b", false);
	ck_assert_int_eq(do_unlink(1, "a"), 0);
	fs.next_ino = UINT32_MAX;
	ck_assert_uint_eq(make(1, "last", false), UINT32_MAX);
	ck_assert_uint_eq(inode_get(&fs, UINT32_MAX)->generation, 1);
	c = make(1, "c", false);
	ck_assert_uint_eq(c, a);
	ck_assert_uint_eq(inode_get(&fs, c)->generation, 2);
	ck_assert_uint_gt(make(1, "d", false), b);
	ck_assert_uint_eq(find(1, "b"), b);
	/* Numbers may grow again, and those from before are still there. */
	atomic_store(&fs.inode32, false);
	fs.next_ino = UINT32_MAX;
	ck_assert_uint_eq(make(1, "wide", false), UINT64_C(1) << 32);
	fs_check(&fs);
	stop();
}
END_TEST

START_TEST(access_times_follow_the_rule_in_force)
{
	struct timespec old = { .tv_sec = 1000 }, newer = { .tv_sec = 2000 };
	struct inode *file, *dir;

	start();
	file = inode_get(&fs, make(1, "file", false));
	dir = inode_get(&fs, make(1, "dir", true));
	for (int rule = SPILLFS_ATIME_RELATIVE; rule <= SPILLFS_ATIME_STRICT; rule++) {
		atomic_store(&fs.atime, (enum spillfs_atime)rule);
		file->mtime = file->ctime = old;
		file->atime = newer;
		file->atime.tv_sec = time(NULL) - 60; /* read since it was changed, and not a day ago */
		newer = file->atime;
		inode_touch_read(&fs, file);
		ck_assert_int_eq(file->atime.tv_sec != newer.tv_sec, rule == SPILLFS_ATIME_STRICT);
		file->mtime = file->ctime = newer;
		file->atime = old; /* changed since it was read */
		inode_touch_read(&fs, file);
		ck_assert_int_eq(file->atime.tv_sec != old.tv_sec, rule != SPILLFS_ATIME_NEVER);
	}
	atomic_store(&fs.nodiratime, true);
	dir->atime = old;
	inode_touch_read(&fs, dir);
	ck_assert_int_eq(dir->atime.tv_sec, old.tv_sec);
	file->atime = old;
	inode_touch_read(&fs, file);
	ck_assert_int_ne(file->atime.tv_sec, old.tv_sec);
	stop();
}
END_TEST

START_TEST(with_no_memory_left_names_can_still_be_removed_and_replaced)
{
	struct fake_dirent d;
	uint64_t off = 2, ino;
	unsigned n = 0, links = 0;
	int err = 0;

	start_with(0, 0);
	while (n < 1000000 && (err = do_mknod(1, numbered(n))) == 0) {
		forget(rq.entry.ino);
		n++;
	}
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert_uint_gt(n, 100);
	/* An inode's several parts may have run out before what a name takes has. */
	ino = find(1, numbered(0));
	while (links < 1000000 && (err = do_link(ino, 1, numbered(n + links))) == 0)
		links++;
	ck_assert_int_eq(err, -ENOSPC);
	fs_check(&fs);
	ck_assert_int_eq(do_rename(1, numbered(2), 1, numbered(n + links), 0), -ENOSPC); /* a new name: no */
	ck_assert_int_eq(do_rename(1, numbered(2), 1, numbered(1), 0), 0);
	ck_assert_uint_eq(find(1, numbered(2)), 0);
	while (list_next(1, &off, &d))
		ck_assert_int_eq(do_unlink(1, d.name), 0);
	ck_assert_uint_eq(atomic_load(&fs.inodes_used), 1);
	make(1, "again", false);
	stop();
}
END_TEST

/* --- threads -------------------------------------------------------------------------------------------- */

#define THREAD_STEPS 20000

struct thread_work {
	struct fuse_req req;
	uint64_t dirs[2];
	unsigned seed;
};

static struct fuse_req *thread_request(struct thread_work *w)
{
	w->req.replies = 0;
	w->req.entry.ino = 0;
	w->req.lose_reply = rand_r(&w->seed) % 4 == 0;
	return &w->req;
}

/* One random operation on few names in two directories; gives back what reference came with the reply. */
static void thread_step(struct thread_work *w)
{
	unsigned r = (unsigned)rand_r(&w->seed);
	uint64_t dir = w->dirs[r >> 4 & 1], other = w->dirs[r >> 5 & 1];
	const char name[] = { (char)('a' + (r >> 6) % 6), 0 }, newname[] = { (char)('a' + (r >> 9) % 6), 0 };
	struct fuse_req *req = thread_request(w);

	switch (r % 8) {
	case 0:
		ops.mknod(req, dir, name, S_IFREG | 0600, 0);
		break;
	case 1:
		ops.mkdir(req, dir, name, 0700);
		break;
	case 2:
		ops.unlink(req, dir, name);
		break;
	case 3:
		ops.rmdir(req, dir, name);
		break;
	case 4:
		/* Only within a directory, so that none can end up in itself: that the kernel sees to. */
		ops.rename(req, dir, name, dir, newname, r & 4096 ? RENAME_EXCHANGE : 0);
		break;
	case 5:
		req->lose_reply = true;
		ops.readdirplus(req, dir, 16384, 0, NULL);
		break;
	default:
		ops.lookup(req, dir, name);
		if (req->entry.ino && !req->lose_reply && r & 8192) {
			uint64_t ino = req->entry.ino;

			ops.link(thread_request(w), ino, other, newname);
			inode_forget(&fs, ino, 1);
		}
	}
	if (req->entry.ino && !req->lose_reply)
		inode_forget(&fs, req->entry.ino, 1);
}

static void *thread_run(void *arg)
{
	for (unsigned i = 0; i < THREAD_STEPS; i++)
		thread_step(arg);
	return NULL;
}

START_TEST(threads_on_the_same_names_leave_the_tables_whole)
{
	struct thread_work *work = calloc(4, sizeof(*work));
	uint64_t dirs[2];
	pthread_t threads[4];

	start();
	dirs[0] = make(1, "one", true);
	dirs[1] = make(1, "two", true);
	for (unsigned i = 0; i < 4; i++) {
		work[i] = (struct thread_work){ .dirs = { dirs[0], dirs[1] }, .seed = i + 1 };
		work[i].req.fs = &fs;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, thread_run, &work[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	fs_check(&fs);
	for (uint64_t ino = 2; ino < fs.next_ino; ino++)
		ck_assert(!inode_get(&fs, ino) || inode_get(&fs, ino)->nlookup == 0);
	ck_assert_uint_gt(fs.next_ino, 1000); /* they did get in each other's way */
	free(work);
	stop();
}
END_TEST

/* --- attributes ----------------------------------------------------------------------------------------- */

START_TEST(in_a_setgid_directory_what_is_new_belongs_to_its_group)
{
	struct stat st = { .st_mode = 02775, .st_gid = 50 };
	uint64_t dir;

	start();
	dir = make(1, "dir", true);
	ops.setattr(request(), dir, &st, FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_GID, NULL);
	ck_assert_int_eq(done(), 0);
	st = stat_of(make(dir, "file", false));
	ck_assert_uint_eq(st.st_gid, 50);
	ck_assert_uint_eq(st.st_uid, 1000);
	ck_assert_uint_eq(st.st_mode, S_IFREG | 0644);
	st = stat_of(make(dir, "sub", true));
	ck_assert_uint_eq(st.st_gid, 50);
	ck_assert_uint_eq(st.st_mode, S_IFDIR | S_ISGID | 0755);
	stop();
}
END_TEST

static int set_xattr(uint64_t ino, const char *name, const char *value, int flags)
{
	ops.setxattr(request(), ino, name, value, strlen(value), flags);
	return done();
}

START_TEST(a_change_of_owner_takes_suid_and_capabilities_away)
{
	struct stat st = { .st_mode = 06755, .st_uid = 5 };
	uint64_t ino;

	start();
	ino = make(1, "a", false);
	ops.setattr(request(), ino, &st, FUSE_SET_ATTR_MODE, NULL);
	ck_assert_int_eq(done(), 0);
	ck_assert_uint_eq(rq.attr.st_mode & 07777, 06755);
	ck_assert_int_eq(set_xattr(ino, "security.capability", "cap", 0), 0);
	ck_assert(inode_get(&fs, ino)->has_capability);
	ops.setattr(request(), ino, &st, FUSE_SET_ATTR_UID, NULL);
	ck_assert_int_eq(done(), 0);
	ck_assert_uint_eq(rq.attr.st_mode & 07777, 0755);
	ck_assert(!inode_get(&fs, ino)->has_capability);
	ops.getxattr(request(), ino, "security.capability", 0);
	ck_assert_int_eq(done(), -ENODATA);
	st.st_mode = 02745; /* sgid without group execution stays */
	ops.setattr(request(), ino, &st, FUSE_SET_ATTR_MODE, NULL);
	done();
	ops.setattr(request(), ino, &st, FUSE_SET_ATTR_UID, NULL);
	ck_assert_int_eq(done(), 0);
	ck_assert_uint_eq(rq.attr.st_mode & 07777, 02745);
	stop();
}
END_TEST

START_TEST(extended_attributes_are_set_replaced_listed_and_removed)
{
	uint64_t ino;

	start();
	ino = make(1, "a", false);
	ck_assert_int_eq(set_xattr(ino, "user.one", "1", XATTR_REPLACE), -ENODATA);
	ck_assert_int_eq(set_xattr(ino, "user.one", "1", XATTR_CREATE), 0);
	ck_assert_int_eq(set_xattr(ino, "user.one", "22", XATTR_CREATE), -EEXIST);
	ck_assert_int_eq(set_xattr(ino, "user.one", "333", XATTR_REPLACE), 0);
	ck_assert_int_eq(set_xattr(ino, "trusted.two", "", 0), 0);
	ck_assert_int_eq(set_xattr(ino, "user.", "x", 0), -EINVAL);
	ck_assert_int_eq(set_xattr(ino, "system.posix_acl_access", "x", 0), -EINVAL);
	ck_assert_int_eq(set_xattr(ino, "system.other", "x", 0), -EOPNOTSUPP);
	ops.getxattr(request(), ino, "user.one", 0);
	ck_assert_int_eq(done(), 0);
	ck_assert_uint_eq(rq.len, 3);
	ops.getxattr(request(), ino, "user.one", 2);
	ck_assert_int_eq(done(), -ERANGE);
	ops.getxattr(request(), ino, "user.one", 3);
	ck_assert_int_eq(done(), 0);
	ck_assert_mem_eq(rq.buf, "333", 3);

	ops.listxattr(request(), ino, 100); /* an ordinary user's: no trusted ones */
	ck_assert_int_eq(done(), 0);
	ck_assert_uint_eq(rq.len, sizeof("user.one"));
	request()->ctx.uid = 0;
	ops.listxattr(&rq, ino, 100);
	ck_assert_int_eq(done(), 0);
	ck_assert_uint_eq(rq.len, sizeof("user.one") + sizeof("trusted.two"));
	request()->ctx.uid = 0;
	ops.listxattr(&rq, ino, 10);
	ck_assert_int_eq(done(), -ERANGE);

	ops.removexattr(request(), ino, "user.one");
	ck_assert_int_eq(done(), 0);
	ops.removexattr(request(), ino, "user.one");
	ck_assert_int_eq(done(), -ENODATA);
	stop();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("names");
	TCase *tc = tcase_create("names");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, a_name_is_found_from_its_creation_to_its_removal);
	tcase_add_test(tc, names_longer_than_255_bytes_are_refused_everywhere);
	tcase_add_test(tc, renames_do_what_their_flags_say);
	tcase_add_test(tc, two_names_of_one_file_are_left_alone_by_a_rename);
	tcase_add_test(tc, a_listing_neither_skips_nor_repeats_while_names_come_and_go);
	tcase_add_test(tc, a_listing_lost_on_its_way_leaves_no_reference);
	tcase_add_test(tc, a_hundred_thousand_names_are_all_found_and_all_listed);
	tcase_add_test(tc, the_table_of_names_shrinks_as_they_go_and_loses_none);
	tcase_add_test(tc, an_inode_without_a_name_lives_until_the_kernel_forgets_it);
	tcase_add_test(tc, a_reply_that_does_not_get_through_leaves_no_reference);
	tcase_add_test(tc, inodes_run_out_at_their_limit_and_say_so_once);
	tcase_add_test(tc, numbers_of_32_bits_begin_anew_and_pass_over_those_in_use);
	tcase_add_test(tc, access_times_follow_the_rule_in_force);
	tcase_add_test(tc, with_no_memory_left_names_can_still_be_removed_and_replaced);
	tcase_add_test(tc, threads_on_the_same_names_leave_the_tables_whole);
	tcase_add_test(tc, in_a_setgid_directory_what_is_new_belongs_to_its_group);
	tcase_add_test(tc, a_change_of_owner_takes_suid_and_capabilities_away);
	tcase_add_test(tc, extended_attributes_are_set_replaced_listed_and_removed);
	suite_add_tcase(suite, tc);
	return run_suite(suite, CK_FORK_GETENV);
}
