/* SPDX-License-Identifier: MIT */
/*
 * acltest: POSIX ACLs: what is stored, what the mode says of it, who gets in, what is inherited.  Each case runs in
 * its own process (check_that.h); acl.sh runs all of it on a tmpfs as well, so that it says what tmpfs does.
 */
#include "tests/mount/check_that.h"

#include <endian.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/xattr.h>

#define ACCESS	"system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"
#define OWNER	1000
#define OTHER	1001
#define THIRD	1002
#define GROUP	4321
#define ENTRIES 8

struct acl {
	struct posix_acl_xattr_header header;
	struct posix_acl_xattr_entry entry[ENTRIES];
};

/* "u::rwx,u:1001:r--,g::r-x,m::rwx,o::---" -> the attribute; entries have to be in the kernel's order. */
static size_t acl_parse(struct acl *acl, const char *text)
{
	size_t n = 0;

	memset(acl, 0, sizeof(*acl));
	acl->header.a_version = htole32(POSIX_ACL_XATTR_VERSION);
	for (const char *p = text; *p; p += *p == ',') {
		const char kind = *p;
		unsigned perm = 0, id = UINT32_MAX, tag;

		CHECK(p[1] == ':' && n < ENTRIES);
		p += 2;
		if (*p != ':')
			id = (unsigned)strtoul(p, (char **)(uintptr_t)&p, 10);
		for (p++; *p && *p != ','; p++)
			perm |= *p == 'r' ? ACL_READ : *p == 'w' ? ACL_WRITE : *p == 'x' ? ACL_EXECUTE : 0;
		tag = kind == 'u'   ? (id == UINT32_MAX ? ACL_USER_OBJ : ACL_USER)
		      : kind == 'g' ? (id == UINT32_MAX ? ACL_GROUP_OBJ : ACL_GROUP)
		      : kind == 'm' ? ACL_MASK
				    : ACL_OTHER;
		acl->entry[n].e_tag = htole16((uint16_t)tag);
		acl->entry[n].e_perm = htole16((uint16_t)perm);
		acl->entry[n++].e_id = htole32(id);
	}
	return sizeof(acl->header) + n * sizeof(acl->entry[0]);
}

static int acl_put(const char *path, const char *name, const char *text)
{
	struct acl acl;
	size_t size = acl_parse(&acl, text);

	return setxattr(path, name, &acl, size, 0);
}

/* The file's ACL must be this one; NULL: it has none. */
#define EXPECT_ACL(path, name, text) acl_expect(__LINE__, path, name, text)
static void acl_expect(int line, const char *path, const char *name, const char *text)
{
	struct acl want, got;
	ssize_t n = getxattr(path, name, &got, sizeof(got));

	if (!text) {
		if (n != -1 || errno != ENODATA)
			check_failed(__FILE__, line, "there is an ACL", errno);
		return;
	}
	if (n < 0)
		check_failed(__FILE__, line, "there is no ACL", errno);
	if ((size_t)n != acl_parse(&want, text) || memcmp(&want, &got, (size_t)n) != 0) {
		for (size_t i = 0; i * sizeof(got.entry[0]) + sizeof(got.header) < (size_t)n; i++)
			fprintf(stderr, "tag %#x id %d perm %o\n", got.entry[i].e_tag, (int)got.entry[i].e_id,
				got.entry[i].e_perm);
		check_failed(__FILE__, line, text, 0);
	}
}

static mode_t mode_of(const char *path)
{
	return check_stat(path).st_mode & 07777;
}

static void an_access_acl_sets_the_mode(void)
{
	check_make_file("f", 1, 1);
	EXPECT_ACL("f", ACCESS, NULL);
	CHECK_EQ(acl_put("f", ACCESS, "u::rwx,u:1001:r--,g::r-x,m::r--,o::--x"), 0);
	CHECK_EQ(mode_of("f"), 0741);
	EXPECT_ACL("f", ACCESS, "u::rwx,u:1001:r--,g::r-x,m::r--,o::--x");
	CHECK_EQ(acl_put("f", ACCESS, "u::rw-,g::r-x,g:7:rwx,m::rwx,o::---"), 0);
	CHECK_EQ(mode_of("f"), 0670);
	EXPECT_ACL("f", ACCESS, "u::rw-,g::r-x,g:7:rwx,m::rwx,o::---");
}

/* What a mode can say is not stored; nor is a mask alone reason to drop it. */
static void an_acl_that_is_a_mode_is_not_stored(void)
{
	char list[1000];

	check_make_file("f", 1, 1);
	CHECK_EQ(acl_put("f", ACCESS, "u::rw-,g::r--,o::---"), 0);
	CHECK_EQ(mode_of("f"), 0640);
	EXPECT_ACL("f", ACCESS, NULL);
	CHECK_EQ(listxattr("f", list, sizeof(list)), 0);
	CHECK_EQ(acl_put("f", ACCESS, "u::rw-,u:1001:r--,g::r--,m::r--,o::---"), 0);
	CHECK_EQ(listxattr("f", list, sizeof(list)), sizeof(ACCESS));
	CHECK(memcmp(list, ACCESS, sizeof(ACCESS)) == 0);
	CHECK_EQ(acl_put("f", ACCESS, "u::rwx,g::---,o::r--"), 0);
	CHECK_EQ(mode_of("f"), 0704);
	EXPECT_ACL("f", ACCESS, NULL);
	CHECK_EQ(acl_put("f", ACCESS, "u::rw-,g::rwx,m::r--,o::---"), 0);
	EXPECT_ACL("f", ACCESS, "u::rw-,g::rwx,m::r--,o::---");
	CHECK_EQ(mode_of("f"), 0640);
}

static void chmod_changes_owner_mask_and_other(void)
{
	check_make_file("f", 1, 1);
	CHECK_EQ(acl_put("f", ACCESS, "u::rwx,u:1001:rwx,g::r-x,g:7:-wx,m::rwx,o::--x"), 0);
	CHECK_EQ(chmod("f", 0604), 0);
	EXPECT_ACL("f", ACCESS, "u::rw-,u:1001:rwx,g::r-x,g:7:-wx,m::---,o::r--");
	CHECK_EQ(chmod("f", 04751), 0);
	EXPECT_ACL("f", ACCESS, "u::rwx,u:1001:rwx,g::r-x,g:7:-wx,m::r-x,o::--x");
	CHECK_EQ(mode_of("f"), 04751);
	CHECK_EQ(acl_put("f", ACCESS, "u::rw-,u:1001:r--,g::r--,m::r--,o::---"), 0);
	CHECK_EQ(mode_of("f"), 04640);
}

static void removing_an_acl_leaves_the_mode(void)
{
	check_make_file("f", 1, 1);
	CHECK_EQ(removexattr("f", ACCESS), 0);
	CHECK_EQ(acl_put("f", ACCESS, "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---"), 0);
	CHECK_EQ(removexattr("f", ACCESS), 0);
	CHECK_EQ(mode_of("f"), 0770);
	EXPECT_ACL("f", ACCESS, NULL);
	CHECK_EQ(removexattr("f", ACCESS), 0);
	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(acl_put("d", DEFAULT, "u::rwx,g::r-x,o::---"), 0);
	EXPECT_ACL("d", DEFAULT, "u::rwx,g::r-x,o::---");
	CHECK_EQ(mode_of("d"), 0755);
	CHECK_EQ(setxattr("d", DEFAULT, &(struct acl){ .header.a_version = htole32(2) }, 4, 0), 0); /* empty */
	EXPECT_ACL("d", DEFAULT, NULL);
	CHECK_EQ(removexattr("d", DEFAULT), 0);
}

static void nonsense_is_refused(void)
{
	struct acl acl;
	size_t size = acl_parse(&acl, "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---");

	check_make_file("f", 1, 1);
	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(symlink("f", "s"), 0);
	CHECK_ERR(acl_put("f", DEFAULT, "u::rwx,g::r-x,o::---"), EACCES);
	CHECK_ERR(lsetxattr("s", ACCESS, &acl, size, 0), EOPNOTSUPP);
	CHECK_ERR(setxattr("f", ACCESS, &acl, size - 1, 0), EINVAL);
	CHECK_ERR(setxattr("f", ACCESS, &acl, 3, 0), EINVAL);
	CHECK_ERR(acl_put("f", ACCESS, "u::rwx,u:1001:rwx,g::r-x,o::---"), EINVAL); /* no mask */
	CHECK_ERR(acl_put("f", ACCESS, "u::rwx,g::r-x"), EINVAL);
	CHECK_ERR(acl_put("f", ACCESS, "g::r-x,u::rwx,o::---"), EINVAL);
	acl.header.a_version = htole32(3);
	CHECK_ERR(setxattr("f", ACCESS, &acl, size, 0), EOPNOTSUPP);
	EXPECT_ACL("f", ACCESS, NULL);
	CHECK_ERR(setxattr("f", "system.posix_acl_other", &acl, size, 0), EOPNOTSUPP);
	CHECK_EQ(acl_put("f", ACCESS, "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---"), 0);
	CHECK_ERR(getxattr("f", ACCESS, &acl, 10), ERANGE);
	CHECK_EQ(getxattr("f", ACCESS, NULL, 0), (ssize_t)size);
}

/* --- who gets in -------------------------------------------------------------------------------------------- */

static void other_reads_and_cannot_write(void)
{
	close(check_open("f", O_RDONLY, 0));
	CHECK_ERR(open("f", O_WRONLY), EACCES);
	CHECK_ERR(acl_put("f", ACCESS, "u::rwx,u:1001:rwx,g::---,m::rwx,o::---"), EPERM);
	CHECK_ERR(removexattr("f", ACCESS), EPERM);
}

static void other_writes(void)
{
	close(check_open("f", O_RDWR, 0));
}

static void other_is_shut_out(void)
{
	CHECK_ERR(open("f", O_RDONLY), EACCES);
}

static void third_is_shut_out(void)
{
	CHECK_ERR(open("f", O_RDONLY), EACCES);
}

static void named_users_get_what_the_mask_leaves(void)
{
	check_need_root();
	check_make_file("f", 10, 1);
	CHECK_EQ(chmod(".", 0755), 0);
	CHECK_EQ(chown("f", OWNER, OWNER), 0);
	CHECK_EQ(chmod("f", 0600), 0);
	check_as_user(OTHER, other_is_shut_out);
	CHECK_EQ(acl_put("f", ACCESS, "u::rwx,u:1001:rw-,g::---,m::r--,o::---"), 0);
	check_as_user(OTHER, other_reads_and_cannot_write);
	check_as_user(THIRD, third_is_shut_out);
	CHECK_EQ(chmod("f", 0660), 0);
	check_as_user(OTHER, other_writes);
	CHECK_EQ(chmod("f", 0616), 0); /* others may, but who is named has what the mask leaves: no more than x */
	check_as_user(OTHER, other_is_shut_out);
	CHECK_EQ(removexattr("f", ACCESS), 0);
	check_as_user(OTHER, other_writes);
	CHECK_EQ(acl_put("f", ACCESS, "u::rwx,g::---,g:1001:rw-,m::rwx,o::---"), 0);
	check_as_user(OTHER, other_writes); /* by group */
	CHECK_EQ(acl_put("f", ACCESS, "u::rwx,u:1001:---,g::rwx,m::rwx,o::rwx"), 0);
	check_as_user(OTHER, other_is_shut_out);
	check_as_user(THIRD, other_writes);
}

/* --- what is inherited -------------------------------------------------------------------------------------- */

static void make_all(mode_t mode)
{
	close(check_open("d/create", O_CREAT | O_WRONLY, mode));
	CHECK_EQ(mkdir("d/mkdir", mode), 0);
	CHECK_EQ(mknod("d/mknod", S_IFREG | mode, 0), 0);
	CHECK_EQ(mkfifo("d/fifo", mode), 0);
	CHECK_EQ(symlink("x", "d/symlink"), 0);
	int fd = check_open("d", O_TMPFILE | O_WRONLY, mode);
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK_EQ(linkat(AT_FDCWD, path, AT_FDCWD, "d/tmpfile", AT_SYMLINK_FOLLOW), 0);
	CHECK_EQ(close(fd), 0);
}

static const char *const files[] = { "d/create", "d/mkdir", "d/mknod", "d/fifo", "d/tmpfile" };
#define FILES (sizeof(files) / sizeof(files[0]))

static void without_a_default_acl_the_umask_counts(void)
{
	CHECK_EQ(mkdir("d", 0777), 0);
	CHECK_EQ(mode_of("d"), 0755);
	umask(027);
	make_all(0777);
	for (size_t i = 0; i < FILES; i++) {
		CHECK_EQ(mode_of(files[i]), 0750);
		EXPECT_ACL(files[i], ACCESS, NULL);
	}
	EXPECT_ACL("d/mkdir", DEFAULT, NULL);
	CHECK_EQ(mode_of("d/symlink"), 0777);
}

static void a_default_acl_takes_the_place_of_the_umask(void)
{
	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(acl_put("d", DEFAULT, "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::r-x"), 0);
	umask(077);
	make_all(0666);
	for (size_t i = 0; i < FILES; i++) {
		CHECK_EQ(mode_of(files[i]), 0664);
		EXPECT_ACL(files[i], ACCESS, "u::rw-,u:1001:rwx,g::r-x,m::rw-,o::r--");
		if (strcmp(files[i], "d/mkdir") != 0)
			EXPECT_ACL(files[i], DEFAULT, NULL);
	}
	EXPECT_ACL("d/mkdir", DEFAULT, "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::r-x");
	CHECK_EQ(mode_of("d/symlink"), 0777);
	/* and on, a level below */
	CHECK_EQ(chmod("d/mkdir", 0700), 0);
	CHECK_EQ(mkdir("d/mkdir/sub", 0777), 0);
	EXPECT_ACL("d/mkdir/sub", ACCESS, "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::r-x");
	EXPECT_ACL("d/mkdir/sub", DEFAULT, "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::r-x");
	/* what is there already, or only moved in, keeps what it has */
	check_make_file("f", 1, 1);
	CHECK_EQ(chmod("f", 0600), 0);
	CHECK_EQ(rename("f", "d/f"), 0);
	EXPECT_ACL("d/f", ACCESS, NULL);
	CHECK_EQ(mode_of("d/f"), 0600);
}

static void a_small_default_acl_makes_modes(void)
{
	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(acl_put("d", DEFAULT, "u::rwx,g::r-x,o::---"), 0);
	umask(0);
	make_all(0776);
	for (size_t i = 0; i < FILES; i++) {
		CHECK_EQ(mode_of(files[i]), 0750);
		EXPECT_ACL(files[i], ACCESS, NULL);
	}
	EXPECT_ACL("d/mkdir", DEFAULT, "u::rwx,g::r-x,o::---");
	EXPECT_ACL("d/create", DEFAULT, NULL);
}

/* --- sgid --------------------------------------------------------------------------------------------------- */

static void set_acl_as_owner(void)
{
	CHECK_EQ(acl_put("f", ACCESS, "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---"), 0);
}

static void an_owner_outside_the_group_loses_sgid(void)
{
	check_need_root();
	check_make_file("f", 1, 1);
	CHECK_EQ(chown("f", OWNER, GROUP), 0);
	CHECK_EQ(chmod("f", 02755), 0);
	set_acl_as_owner(); /* root keeps it */
	CHECK_EQ(mode_of("f"), 02770);
	check_as_user(OWNER, set_acl_as_owner);
	CHECK_EQ(mode_of("f"), 0770);
	CHECK_EQ(chown("f", OWNER, OWNER), 0);
	CHECK_EQ(chmod("f", 02755), 0);
	check_as_user(OWNER, set_acl_as_owner); /* his own group */
	CHECK_EQ(mode_of("f"), 02770);
}

static void setgid_directories_and_default_acls_go_together(void)
{
	check_need_root();
	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(chown("d", 0, GROUP), 0);
	CHECK_EQ(chmod("d", 02775), 0);
	CHECK_EQ(acl_put("d", DEFAULT, "u::rwx,g::rwx,g:7:rwx,m::rwx,o::---"), 0);
	CHECK_EQ(mode_of("d"), 02775);
	make_all(0777);
	CHECK_EQ(mode_of("d/mkdir"), 02770);
	CHECK_EQ(mode_of("d/create"), 0770);
	for (size_t i = 0; i < FILES; i++) {
		EXPECT_ACL(files[i], ACCESS, "u::rwx,g::rwx,g:7:rwx,m::rwx,o::---");
		CHECK_EQ(check_stat(files[i]).st_gid, GROUP);
	}
}

static void changing_an_acl_changes_ctime_alone(void)
{
	struct stat before, after;

	check_make_file("f", 1, 1);
	before = check_stat("f");
	usleep(15000);
	CHECK_EQ(acl_put("f", ACCESS, "u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---"), 0);
	after = check_stat("f");
	CHECK(after.st_ctim.tv_sec != before.st_ctim.tv_sec || after.st_ctim.tv_nsec > before.st_ctim.tv_nsec);
	CHECK_EQ(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	CHECK_EQ(after.st_atim.tv_nsec, before.st_atim.tv_nsec);
}

static const struct check_case cases[] = {
	CASE(an_access_acl_sets_the_mode),
	CASE(an_acl_that_is_a_mode_is_not_stored),
	CASE(chmod_changes_owner_mask_and_other),
	CASE(removing_an_acl_leaves_the_mode),
	CASE(nonsense_is_refused),
	CASE(named_users_get_what_the_mask_leaves),
	CASE(without_a_default_acl_the_umask_counts),
	CASE(a_default_acl_takes_the_place_of_the_umask),
	CASE(a_small_default_acl_makes_modes),
	CASE(an_owner_outside_the_group_loses_sgid),
	CASE(setgid_directories_and_default_acls_go_together),
	CASE(changing_an_acl_changes_ctime_alone),
};

int main(int argc, char **argv)
{
	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
