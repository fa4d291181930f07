/* SPDX-License-Identifier: MIT */
/*
 * test_quota: what users and groups are counted to have, and may have: to the inode and to the page, through every way
 * in which either comes, goes or changes hands.  No mount: the operations are called as libfuse does, and pages are
 * written to the files' objects, as file.c does.
 */
#include "tests/unit/names_fixture.h"
#include "tests/unit/run.h"

#include "fuse-fs/quota.h"

#include <stdlib.h>

#define PAGE ((size_t)SS_PAGE_SIZE)

static void start_quota(uint64_t pages, uint64_t inodes)
{
	for (unsigned k = 0; k < QUOTA_KINDS; k++)
		quotas[k] = (struct quota_table){ .on = true, .pages_limit = pages, .inodes_limit = inodes };
	start();
}

static struct spillfs_quota ask(unsigned cmd, const struct spillfs_quota *in, int want)
{
	struct spillfs_quota q = *in;

	q.version = SPILLFS_CTL_VERSION;
	ck_assert(quota_ioctl(request(), cmd, &q, sizeof(q), sizeof(q)));
	ck_assert_int_eq(done(), want);
	if (want == 0)
		memcpy(&q, rq.buf, sizeof(q));
	return q;
}

static struct spillfs_quota usage(unsigned kind, uint32_t id)
{
	struct spillfs_quota q;
	uid_t was = caller;

	caller = 0;
	q = ask(SPILLFS_IOC_QUOTA_NEXT, &(struct spillfs_quota){ .kind = kind, .id = id }, 0);
	caller = was;
	ck_assert_uint_eq(q.id, id);
	return q;
}

static void expect_usage(unsigned kind, uint32_t id, uint64_t inodes, uint64_t pages)
{
	struct spillfs_quota q = usage(kind, id);

	ck_assert_uint_eq(q.inodes_used, inodes);
	ck_assert_uint_eq(q.block_used_bytes, pages * PAGE);
}

/* The file's object, as file_object() makes it. */
static struct ss_object *object_of(uint64_t ino)
{
	struct inode *inode = inode_get(&fs, ino);
	struct ss_object *made = NULL;

	if (atomic_load(&inode->object))
		return atomic_load(&inode->object);
	ck_assert_int_eq(object_create(fs.store, 0, &made), 0);
	ck_assert_ptr_eq(quota_attach(&fs, inode, made), made);
	return made;
}

/* Returns pages, or -errno. */
static ssize_t write_pages(uint64_t ino, uint64_t first, size_t n, unsigned flags)
{
	char *buf = malloc(n * PAGE);
	ssize_t wrote;

	memset(buf, 'x', n * PAGE);
	wrote = object_write(fs.store, object_of(ino), buf, n * PAGE, first * PAGE, flags);
	free(buf);
	return wrote < 0 ? wrote : wrote / (ssize_t)PAGE;
}

static int do_chown(uint64_t ino, int which, uint32_t id)
{
	struct stat st = { .st_uid = id, .st_gid = id };

	ops.setattr(request(), ino, &st, which, NULL);
	return done();
}

START_TEST(inodes_are_counted_and_refused_at_the_limit)
{
	uint64_t dir, a;

	start_quota(0, 3);
	dir = make(FUSE_ROOT_ID, "dir", true);
	make(dir, "sub", true);
	expect_usage(QUOTA_USER, 1000, 2, 0);
	ck_assert_int_eq(do_rmdir(dir, "sub"), 0);
	a = make(dir, "a", false);
	ck_assert_int_eq(do_link(a, dir, "again"), 0); /* a name more is no inode more */
	ck_assert_int_eq(do_unlink(dir, "again"), 0);
	ops.symlink(request(), "target", dir, "link");
	ck_assert_int_eq(done(), 0);
	forget(rq.entry.ino);
	expect_usage(QUOTA_USER, 1000, 3, 0);
	expect_usage(QUOTA_GROUP, 1000, 3, 0);
	ck_assert_int_eq(do_mknod(dir, "b"), -EDQUOT);
	ck_assert_int_eq(do_mkdir(dir, "b"), -EDQUOT);
	ck_assert_uint_eq(find(dir, "b"), 0);
	ck_assert_int_eq(do_rename(dir, "a", dir, "c", 4 /* RENAME_WHITEOUT */), -EDQUOT);
	expect_usage(QUOTA_USER, 1000, 3, 0);
	ck_assert_int_eq(do_unlink(dir, "link"), 0);
	make(dir, "b", false);
	caller = 0; /* root is held to no limit */
	for (unsigned i = 0; i < 10; i++)
		make(dir, numbered(i), false);
	expect_usage(QUOTA_USER, 0, 10, 0);
	caller = 1001;
	make(dir, "theirs", false);
	expect_usage(QUOTA_USER, 1001, 1, 0);
	/* The root directory belongs to 7 and 8. */
	expect_usage(QUOTA_USER, 7, 1, 0);
	expect_usage(QUOTA_GROUP, 8, 1, 0);
	stop();
}
END_TEST

START_TEST(pages_are_counted_and_refused_at_the_limit_to_the_page)
{
	uint64_t a, b;

	start_quota(20, 0);
	a = make(FUSE_ROOT_ID, "a", false);
	b = make(FUSE_ROOT_ID, "b", false);
	ck_assert_int_eq(write_pages(a, 0, 12, 0), 12);
	ck_assert_int_eq(write_pages(b, 100, 12, 0), 8); /* as much as fits */
	ck_assert_int_eq(write_pages(b, 200, 1, 0), -EDQUOT);
	expect_usage(QUOTA_USER, 1000, 2, 20);
	ck_assert_int_eq(write_pages(a, 3, 5, 0), 5); /* overwriting takes nothing */
	ck_assert_int_eq(object_allocate(fs.store, object_of(a), 0, 13 * PAGE, 0), -EDQUOT);
	expect_usage(QUOTA_USER, 1000, 2, 20);
	ck_assert_int_eq(object_erase(fs.store, object_of(a), 2 * PAGE, 7 * PAGE), 0);
	expect_usage(QUOTA_GROUP, 1000, 2, 15);
	ck_assert_int_eq(object_allocate(fs.store, object_of(a), 0, 15 * PAGE, 0), -EDQUOT); /* all or nothing */
	expect_usage(QUOTA_GROUP, 1000, 2, 15);
	ck_assert_int_eq(object_allocate(fs.store, object_of(a), 0, 12 * PAGE, 0), 0);
	expect_usage(QUOTA_USER, 1000, 2, 20);
	/* What was acknowledged is never refused, and root is not held to it. */
	ck_assert_int_eq(write_pages(b, 300, 4, SS_WRITE_ACKED), 4);
	ck_assert_int_eq(write_pages(b, 400, 4, SS_WRITE_FORCED), 4);
	expect_usage(QUOTA_USER, 1000, 2, 28);
	ck_assert_int_eq(do_unlink(FUSE_ROOT_ID, "b"), 0);
	expect_usage(QUOTA_USER, 1000, 1, 12);
	ck_assert_int_eq(write_pages(a, 100, 9, 0), 8);
	stop();
}
END_TEST

START_TEST(a_group_alone_can_be_the_limit_and_then_the_user_is_not_charged)
{
	uint64_t a;

	start_quota(0, 0);
	a = make(FUSE_ROOT_ID, "a", false);
	caller = 0;
	ask(SPILLFS_IOC_QUOTA_SET,
	    &(struct spillfs_quota){ .kind = QUOTA_GROUP, .id = 1000, .set = SPILLFS_QUOTA_BLOCK, .block_limit_bytes = 5 * PAGE },
	    0);
	ck_assert_int_eq(write_pages(a, 0, 9, 0), 5);
	ck_assert_int_eq(write_pages(a, 9, 1, 0), -EDQUOT);
	expect_usage(QUOTA_USER, 1000, 1, 5);
	expect_usage(QUOTA_GROUP, 1000, 1, 5);
	stop();
}
END_TEST

START_TEST(a_change_of_owner_moves_what_there_is_and_is_refused_beyond_the_target_s_limit)
{
	uint64_t a;

	start_quota(20, 2);
	a = make(FUSE_ROOT_ID, "a", false);
	ck_assert_int_eq(write_pages(a, 0, 15, 0), 15);
	caller = 0;
	ask(SPILLFS_IOC_QUOTA_SET,
	    &(struct spillfs_quota){ .kind = QUOTA_GROUP, .id = 2000, .set = SPILLFS_QUOTA_BLOCK, .block_limit_bytes = 14 * PAGE },
	    0);
	caller = 1000;
	ck_assert_int_eq(do_chown(a, FUSE_SET_ATTR_GID, 2000), -EDQUOT);
	ck_assert_uint_eq(stat_of(a).st_gid, 1000);
	expect_usage(QUOTA_GROUP, 1000, 1, 15);
	expect_usage(QUOTA_GROUP, 2000, 0, 0);
	ck_assert_int_eq(do_chown(a, FUSE_SET_ATTR_GID, 2001), 0);
	expect_usage(QUOTA_GROUP, 1000, 0, 0);
	expect_usage(QUOTA_GROUP, 2001, 1, 15);
	expect_usage(QUOTA_USER, 1000, 1, 15);
	ck_assert_int_eq(write_pages(a, 15, 9, 0), 5); /* from now on charged there */
	expect_usage(QUOTA_GROUP, 2001, 1, 20);
	caller = 0; /* root may, whatever the limit */
	ck_assert_int_eq(do_chown(a, FUSE_SET_ATTR_GID, 2000), 0);
	ck_assert_int_eq(do_chown(a, FUSE_SET_ATTR_UID, 3000), 0);
	expect_usage(QUOTA_GROUP, 2000, 1, 20);
	expect_usage(QUOTA_USER, 3000, 1, 20);
	expect_usage(QUOTA_USER, 1000, 0, 0);
	/* Too many inodes there. */
	caller = 1000;
	make(FUSE_ROOT_ID, "b", false);
	make(FUSE_ROOT_ID, "c", false);
	caller = 1001;
	a = make(FUSE_ROOT_ID, "d", false);
	ck_assert_int_eq(do_chown(a, FUSE_SET_ATTR_GID, 1000), -EDQUOT);
	expect_usage(QUOTA_GROUP, 1001, 1, 0);
	expect_usage(QUOTA_GROUP, 1000, 2, 0);
	stop();
}
END_TEST

START_TEST(what_is_removed_but_still_in_use_counts_until_it_is_forgotten)
{
	uint64_t a;

	start_quota(0, 0);
	ck_assert_int_eq(do_mknod(FUSE_ROOT_ID, "a"), 0);
	a = rq.entry.ino;
	ck_assert_int_eq(write_pages(a, 0, 3, 0), 3);
	ck_assert_int_eq(do_unlink(FUSE_ROOT_ID, "a"), 0);
	expect_usage(QUOTA_USER, 1000, 1, 3);
	forget(a);
	expect_usage(QUOTA_USER, 1000, 0, 0);
	stop();
}
END_TEST

START_TEST(in_a_setgid_directory_the_group_of_the_directory_pays)
{
	struct stat st = { .st_mode = S_ISGID | 0777 };
	uint64_t dir, a;

	start_quota(0, 0);
	dir = make(FUSE_ROOT_ID, "dir", true);
	caller = 0;
	ck_assert_int_eq(do_chown(dir, FUSE_SET_ATTR_GID, 2000), 0);
	ops.setattr(request(), dir, &st, FUSE_SET_ATTR_MODE, NULL);
	ck_assert_int_eq(done(), 0);
	caller = 1000;
	a = make(dir, "a", false);
	ck_assert_int_eq(write_pages(a, 0, 3, 0), 3);
	expect_usage(QUOTA_GROUP, 2000, 2, 3);
	expect_usage(QUOTA_GROUP, 1000, 0, 0);
	expect_usage(QUOTA_USER, 1000, 2, 3);
	ck_assert_uint_eq(stat_of(a).st_gid, 2000);
	stop();
}
END_TEST

START_TEST(limits_are_set_by_root_and_others_see_their_own_line_alone)
{
	struct spillfs_quota q = { .kind = QUOTA_USER, .id = 0 };

	start_quota(7, 0);
	fs.mounter = 1500;
	make(FUSE_ROOT_ID, "a", false);
	ask(SPILLFS_IOC_QUOTA_SET, &(struct spillfs_quota){ .id = 1000, .set = SPILLFS_QUOTA_INODE }, -EPERM);
	q = ask(SPILLFS_IOC_QUOTA_NEXT, &q, 0);
	ck_assert_uint_eq(q.id, 1000);
	ck_assert_uint_eq(q.block_limit_bytes, 7 * PAGE);
	q.id++;
	ask(SPILLFS_IOC_QUOTA_NEXT, &q, -ENOENT);
	caller = 1500;
	q = ask(SPILLFS_IOC_QUOTA_SET,
		&(struct spillfs_quota){ .id = 1001, .set = SPILLFS_QUOTA_INODE, .inodes_limit = 2 }, 0);
	ck_assert_uint_eq(q.inodes_limit, 2);
	ck_assert_uint_eq(q.block_limit_bytes, 7 * PAGE);
	q = ask(SPILLFS_IOC_QUOTA_NEXT, &(struct spillfs_quota){ .kind = QUOTA_USER, .id = 0 }, 0);
	ck_assert_uint_eq(q.id, 7);
	ask(SPILLFS_IOC_QUOTA_NEXT, &(struct spillfs_quota){ .kind = QUOTA_USER, .id = 1002 }, -ENOENT);
	caller = 1001;
	make(FUSE_ROOT_ID, "b", false);
	make(FUSE_ROOT_ID, "c", false);
	ck_assert_int_eq(do_mknod(FUSE_ROOT_ID, "d"), -EDQUOT);
	stop();
	memset(quotas, 0, sizeof(quotas));
	start();
	ask(SPILLFS_IOC_QUOTA_NEXT, &(struct spillfs_quota){ .kind = QUOTA_USER }, -ESRCH);
	stop();
}
END_TEST

/* --- several threads ------------------------------------------------------------------------------------------------- */

#define FILES 4

struct busy {
	uint64_t ino;
	unsigned seed;
};

/* Writes, erases and sets aside, whatever comes of it. */
static void *be_busy(void *arg)
{
	struct busy *b = arg;
	struct ss_object *object = atomic_load(&inode_get(&fs, b->ino)->object);
	static const char bytes[3 * SS_PAGE_SIZE] = "x";

	for (unsigned i = 0; i < 4000; i++) {
		uint64_t at = rand_r(&b->seed) % 64 * PAGE;

		switch (rand_r(&b->seed) % 4) {
		case 0:
			object_erase(fs.store, object, at, at + 8 * PAGE);
			break;
		case 1:
			object_allocate(fs.store, object, at, at + 5 * PAGE, 0);
			break;
		default:
			object_write(fs.store, object, bytes, sizeof(bytes), at, i % 8 ? 0 : SS_WRITE_ACKED);
		}
	}
	return NULL;
}

static void *change_owners(void *arg)
{
	const struct busy *b = arg;
	unsigned seed = 5;

	for (unsigned i = 0; i < 4000; i++)
		quota_transfer(&fs, inode_get(&fs, b[rand_r(&seed) % FILES].ino), 1000 + rand_r(&seed) % 3,
			       2000 + rand_r(&seed) % 3, i & 1);
	return NULL;
}

START_TEST(after_writers_and_changes_of_owner_at_once_every_page_is_on_one_account)
{
	uint64_t pages[QUOTA_KINDS] = { 0 }, inodes[QUOTA_KINDS] = { 0 }, there = 0;
	struct busy busy[FILES];
	pthread_t thread[FILES + 1];

	start_quota(100, 3);
	for (unsigned i = 0; i < FILES; i++) {
		caller = i < 2 ? 1000 : 1001;
		busy[i] = (struct busy){ make(FUSE_ROOT_ID, numbered(i), false), i };
		object_of(busy[i].ino);
	}
	for (unsigned i = 0; i < FILES; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, be_busy, &busy[i]), 0);
	ck_assert_int_eq(pthread_create(&thread[FILES], NULL, change_owners, busy), 0);
	for (unsigned i = 0; i <= FILES; i++)
		pthread_join(thread[i], NULL);
	for (unsigned i = 0; i < FILES; i++)
		there += object_pages(object_of(busy[i].ino));
	for (unsigned k = 0; k < QUOTA_KINDS; k++) {
		for (unsigned id = 0; id < 3; id++) {
			pages[k] += usage(k, 1000 * (k + 1) + id).block_used_bytes / PAGE;
			inodes[k] += usage(k, 1000 * (k + 1) + id).inodes_used;
		}
		ck_assert_uint_eq(pages[k], there);
		ck_assert_uint_eq(inodes[k], FILES);
	}
	ck_assert_uint_gt(there, 0);
	stop();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("quota");
	TCase *tcase = tcase_create("quota");

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, inodes_are_counted_and_refused_at_the_limit);
	tcase_add_test(tcase, pages_are_counted_and_refused_at_the_limit_to_the_page);
	tcase_add_test(tcase, a_group_alone_can_be_the_limit_and_then_the_user_is_not_charged);
	tcase_add_test(tcase, a_change_of_owner_moves_what_there_is_and_is_refused_beyond_the_target_s_limit);
	tcase_add_test(tcase, what_is_removed_but_still_in_use_counts_until_it_is_forgotten);
	tcase_add_test(tcase, in_a_setgid_directory_the_group_of_the_directory_pays);
	tcase_add_test(tcase, limits_are_set_by_root_and_others_see_their_own_line_alone);
	tcase_add_test(tcase, after_writers_and_changes_of_owner_at_once_every_page_is_on_one_account);
	suite_add_tcase(suite, tcase);
	return run_suite(suite, CK_FORK_GETENV);
}
