/* SPDX-License-Identifier: MIT */
/*
 * ACLs, attributes and flags with a real store and no mount (names_fixture.h): what is hard to bring about through a
 * kernel, such as memory that runs out half way, and ACLs that no kernel would send.
 */
#include "fuse-fs/flags.h"
#include "tests/unit/names_fixture.h"
#include "tests/unit/run.h"

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

START_TEST(when_memory_ends_attributes_are_refused_and_the_others_stay)
{
	static char value[2000];
	unsigned made = 0;
	uint64_t ino;
	int err;

	start_with(0, 0);
	ino = make(1, "a", false);
	do {
		char name[40];

		snprintf(name, sizeof(name), "user.%u", made);
		memset(value, (int)made, sizeof(value));
		ops.setxattr(request(), ino, name, value, sizeof(value), 0);
		err = done();
		made += err == 0;
	} while (err == 0);
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert_uint_gt(made, 100);
	for (unsigned i = 0; i < made; i++) {
		char name[40];

		snprintf(name, sizeof(name), "user.%u", i);
		ops.getxattr(request(), ino, name, sizeof(value));
		ck_assert_int_eq(done(), 0);
		ck_assert_uint_eq(rq.len, sizeof(value));
		ck_assert_int_eq(rq.buf[77], (char)i);
		ops.removexattr(request(), ino, name);
		ck_assert_int_eq(done(), 0);
	}
	stop();
}
END_TEST

/* --- flags ------------------------------------------------------------------------------------------------- */

static int do_ioctl(uint64_t ino, unsigned cmd, const void *in, size_t in_size, size_t out_size)
{
	ck_assert(flags_ioctl(request(), ino, cmd, in, in_size, out_size));
	return done();
}

static int set_flags(uint64_t ino, unsigned flags)
{
	return do_ioctl(ino, FS_IOC_SETFLAGS, &flags, sizeof(flags), 0);
}

START_TEST(flags_are_set_and_told_or_refused)
{
	struct fsxattr fsx = { .fsx_xflags = FS_XFLAG_APPEND, .fsx_projid = 1 };
	unsigned flags;
	uint64_t ino;

	start();
	ino = make(1, "a", false);
	ck_assert(!flags_ioctl(request(), ino, SPILLFS_IOC_STATUS, NULL, 0, 0));
	ck_assert_int_eq(set_flags(ino, FS_NODUMP_FL | FS_IMMUTABLE_FL), 0);
	ck_assert_uint_eq(fake_attrs_changed, 1);
	ck_assert_int_eq(set_flags(ino, FS_COMPR_FL), -EOPNOTSUPP);
	ck_assert_int_eq(do_ioctl(ino, FS_IOC_SETFLAGS, &flags, 3, 0), -EINVAL);
	ck_assert_int_eq(do_ioctl(ino, FS_IOC_GETFLAGS, NULL, 0, 3), -EINVAL);
	ck_assert_int_eq(do_ioctl(ino, FS_IOC_FSSETXATTR, &fsx, sizeof(fsx) - 1, 0), -EINVAL);
	ck_assert_int_eq(do_ioctl(ino, FS_IOC_FSSETXATTR, &fsx, sizeof(fsx), 0), -EOPNOTSUPP);
	ck_assert_int_eq(do_ioctl(ino + 1, FS_IOC_GETFLAGS, NULL, 0, 4), -ESTALE);
	ck_assert_int_eq(do_ioctl(ino, FS_IOC_GETFLAGS, NULL, 0, 4), 0);
	memcpy(&flags, rq.buf, sizeof(flags));
	ck_assert_uint_eq(flags, FS_NODUMP_FL | FS_IMMUTABLE_FL);
	ck_assert_int_eq(do_unlink(1, "a"), -EPERM);
	ck_assert_int_eq(do_link(ino, 1, "b"), -EPERM);
	ck_assert_int_eq(do_rename(1, "a", 1, "b", 0), -EPERM);
	stop();
}
END_TEST

/* Else what was written before a file became immutable could not be written back with its time. */
START_TEST(times_of_writes_that_the_kernel_buffered_are_set_on_an_immutable_file)
{
	struct fuse_file_info writer = { .fh = 1 }, reader = { .fh = 0 };
	struct stat st = { .st_mtim = { 1000, 5 }, .st_ctim = { 1001, 6 } };
	const int times = FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME;
	uint64_t ino;

	start();
	ino = make(1, "a", false);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(set_flags(ino, i ? FS_APPEND_FL : FS_IMMUTABLE_FL), 0);
		ops.setattr(request(), ino, &st, times, NULL);
		ck_assert_int_eq(done(), -EPERM);
		ops.setattr(request(), ino, &st, times, &reader);
		ck_assert_int_eq(done(), -EPERM);
		ops.setattr(request(), ino, &st, times | FUSE_SET_ATTR_ATIME, &writer);
		ck_assert_int_eq(done(), -EPERM);
		ops.setattr(request(), ino, &st, times, &writer);
		ck_assert_int_eq(done(), 0);
		ck_assert_int_eq(stat_of(ino).st_mtim.tv_sec, 1000);
	}
	stop();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("attrs");
	TCase *tc = tcase_create("attrs");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, an_acl_of_bad_form_is_refused_and_changes_nothing);
	tcase_add_test(tc, sgid_goes_when_the_kernel_asks_for_it);
	tcase_add_test(tc, what_cannot_have_its_acls_is_not_created);
	tcase_add_test(tc, when_memory_ends_attributes_are_refused_and_the_others_stay);
	tcase_add_test(tc, flags_are_set_and_told_or_refused);
	tcase_add_test(tc, times_of_writes_that_the_kernel_buffered_are_set_on_an_immutable_file);
	suite_add_tcase(suite, tc);
	return run_suite(suite, CK_FORK_GETENV);
}
