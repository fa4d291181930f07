/* SPDX-License-Identifier: MIT */
/*
 * ACLs with a real store and no mount (names_fixture.h): what is hard to bring about through a kernel, such as
 * memory that runs out half way, and ACLs that no kernel would send.
 */
#include "tests/unit/names_fixture.h"

#include <endian.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/xattr.h>
#include <stdlib.h>

struct acl {
	struct posix_acl_xattr_header header;
	struct posix_acl_xattr_entry entry[6];
};

/* user::rwx, user:1001:rwx, group::r-x, mask::rwx, other::--- */
static const struct acl *acl_of_five(void)
{
	static struct acl acl = { .header.a_version = 2 };
	static const uint16_t tags[] = { ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER };
	static const uint16_t perms[] = { 7, 7, 5, 7, 0 };

	acl.header.a_version = htole32(2);
	for (int i = 0; i < 5; i++) {
		acl.entry[i].e_tag = htole16(tags[i]);
		acl.entry[i].e_perm = htole16(perms[i]);
		acl.entry[i].e_id = htole32(i == 1 ? 1001 : UINT32_MAX);
	}
	return &acl;
}

#define FIVE (sizeof(struct posix_acl_xattr_header) + 5 * sizeof(struct posix_acl_xattr_entry))

static int set_acl(uint64_t ino, const char *name, const struct acl *acl, size_t size, int flags)
{
	ops.setxattr(request(), ino, name, (const char *)acl, size, flags);
	return done();
}

START_TEST(an_acl_of_bad_form_is_refused_and_changes_nothing)
{
	struct acl acl;
	uint64_t ino;

	start();
	ino = make(1, "a", false);
	for (size_t size = 1; size <= FIVE; size++) {
		int err = set_acl(ino, XATTR_NAME_POSIX_ACL_ACCESS, acl_of_five(), size, 0);

		ck_assert_int_eq(err, size == FIVE ? 0 : -EINVAL);
	}
	acl = *acl_of_five();
	acl.entry[2].e_perm = htole16(8);
	ck_assert_int_eq(set_acl(ino, XATTR_NAME_POSIX_ACL_ACCESS, &acl, FIVE, 0), -EINVAL);
	acl = *acl_of_five();
	acl.entry[3].e_tag = htole16(0x40);
	ck_assert_int_eq(set_acl(ino, XATTR_NAME_POSIX_ACL_ACCESS, &acl, FIVE, 0), -EINVAL);
	acl.entry[3].e_tag = htole16(ACL_GROUP_OBJ);
	ck_assert_int_eq(set_acl(ino, XATTR_NAME_POSIX_ACL_ACCESS, &acl, FIVE, 0), -EINVAL);
	ops.getxattr(request(), ino, XATTR_NAME_POSIX_ACL_ACCESS, sizeof(acl));
	ck_assert_int_eq(done(), 0);
	ck_assert_uint_eq(rq.len, FIVE);
	ck_assert_mem_eq(rq.buf, acl_of_five(), FIVE);
	stop();
}
END_TEST

START_TEST(sgid_goes_when_the_kernel_asks_for_it)
{
	struct stat st = { .st_mode = 02750 };
	uint64_t ino;

	start();
	ino = make(1, "a", false);
	ops.setattr(request(), ino, &st, FUSE_SET_ATTR_MODE, NULL);
	ck_assert_int_eq(done(), 0);
	ck_assert_int_eq(set_acl(ino, XATTR_NAME_POSIX_ACL_ACCESS, acl_of_five(), FIVE, 0), 0);
	ck_assert_uint_eq(stat_of(ino).st_mode & 07777, 02770);
	ck_assert_int_eq(set_acl(ino, XATTR_NAME_POSIX_ACL_ACCESS, acl_of_five(), FIVE, FS_SETXATTR_KILL_SGID), 0);
	ck_assert_uint_eq(stat_of(ino).st_mode & 07777, 0770);
	stop();
}
END_TEST

/* Where memory ends between the ACLs of a new directory, the whole of it is refused and given back (stop()). */
START_TEST(what_cannot_have_its_acls_is_not_created)
{
	unsigned made = 0;
	uint64_t dir;

	start_with(0, 0);
	dir = make(1, "dir", true);
	ck_assert_int_eq(set_acl(dir, XATTR_NAME_POSIX_ACL_DEFAULT, acl_of_five(), FIVE, 0), 0);
	while (do_mkdir(dir, numbered(made)) == 0) {
		forget(rq.entry.ino);
		ops.getxattr(request(), find(dir, numbered(made)), XATTR_NAME_POSIX_ACL_ACCESS, 100);
		ck_assert_int_eq(done(), 0);
		ck_assert_uint_eq(rq.len, FIVE);
		made++;
	}
	ck_assert_int_eq(rq.err, -ENOSPC);
	ck_assert_uint_gt(made, 100);
	/* The edge is passed again and again, with other sizes in turn. */
	for (unsigned i = 0; i < 300; i++) {
		ck_assert_int_eq(do_rmdir(dir, numbered(i)), 0);
		while (do_mknod(dir, numbered(made)) == 0) {
			forget(rq.entry.ino);
			made++;
		}
		ck_assert_int_eq(rq.err, -ENOSPC);
		ck_assert_uint_eq(find(dir, numbered(made)), 0);
	}
	stop();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("attrs");
	TCase *tc = tcase_create("attrs");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, an_acl_of_bad_form_is_refused_and_changes_nothing);
	tcase_add_test(tc, sgid_goes_when_the_kernel_asks_for_it);
	tcase_add_test(tc, what_cannot_have_its_acls_is_not_created);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
