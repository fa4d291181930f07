/* SPDX-License-Identifier: MIT */
/*
 * xattrtest: extended attributes: contents, limits, flags and namespaces.  Each case runs in its own process
 * (check_that.h).
 */
#include "tests/mount/check_that.h"

#include <sys/xattr.h>

#define OTHER 1001

static void set_get_list_remove(void)
{
	char buf[100], list[1000];
	ssize_t n;

	check_make_file("f", 1, 1);
	CHECK_EQ(setxattr("f", "user.one", "hello", 5, 0), 0);
	CHECK_EQ(setxattr("f", "user.empty", "", 0, 0), 0);
	CHECK_EQ(getxattr("f", "user.one", buf, sizeof(buf)), 5);
	CHECK(memcmp(buf, "hello", 5) == 0);
	CHECK_EQ(getxattr("f", "user.empty", buf, sizeof(buf)), 0);
	CHECK_EQ(getxattr("f", "user.one", NULL, 0), 5);
	CHECK_EQ(setxattr("f", "user.one", "bye", 3, 0), 0);
	CHECK_EQ(getxattr("f", "user.one", buf, sizeof(buf)), 3);
	n = listxattr("f", list, sizeof(list));
	CHECK_EQ(n, sizeof("user.one") + sizeof("user.empty"));
	CHECK(memmem(list, (size_t)n, "user.one", 9) && memmem(list, (size_t)n, "user.empty", 11));
	CHECK_EQ(listxattr("f", NULL, 0), n);
	CHECK_ERR(listxattr("f", list, 5), ERANGE);
	CHECK_EQ(removexattr("f", "user.one"), 0);
	CHECK_ERR(getxattr("f", "user.one", buf, sizeof(buf)), ENODATA);
	CHECK_ERR(removexattr("f", "user.one"), ENODATA);
	CHECK_EQ(listxattr("f", list, sizeof(list)), sizeof("user.empty"));
	CHECK_EQ(setxattr(".", "user.dir", "d", 1, 0), 0);
	CHECK_EQ(getxattr(".", "user.dir", buf, sizeof(buf)), 1);
}

static void create_and_replace(void)
{
	check_make_file("f", 1, 1);
	CHECK_ERR(setxattr("f", "user.a", "1", 1, XATTR_REPLACE), ENODATA);
	CHECK_EQ(setxattr("f", "user.a", "1", 1, XATTR_CREATE), 0);
	CHECK_ERR(setxattr("f", "user.a", "2", 1, XATTR_CREATE), EEXIST);
	CHECK_EQ(setxattr("f", "user.a", "22", 2, XATTR_REPLACE), 0);
	CHECK_EQ(getxattr("f", "user.a", NULL, 0), 2);
}

static void limits(void)
{
	static char big[65537], got[65536];
	char name[300] = "user.";

	check_make_file("f", 1, 1);
	check_fill(big, sizeof(big), 1);
	CHECK_ERR(setxattr("f", "user.big", big, 65537, 0), E2BIG);
	CHECK_EQ(setxattr("f", "user.big", big, 65536, 0), 0);
	CHECK_EQ(getxattr("f", "user.big", got, 65536), 65536);
	CHECK(memcmp(got, big, 65536) == 0);
	CHECK_ERR(getxattr("f", "user.big", got, 65535), ERANGE);
	CHECK_ERR(getxattr("f", "user.big", got, 1), ERANGE);
	memset(name + 5, 'n', 250);
	CHECK_EQ(setxattr("f", name, "x", 1, 0), 0); /* 255 bytes */
	CHECK_EQ(getxattr("f", name, got, 10), 1);
	name[255] = 'n';
	CHECK_ERR(setxattr("f", name, "x", 1, 0), ERANGE);
}

static void many_attributes(void)
{
	enum { N = 200 };
	char name[32], value[64], list[N * 32];

	check_make_file("f", 1, 1);
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "user.attribute-%d", i);
		check_fill(value, sizeof(value), (uint64_t)i);
		CHECK_EQ(setxattr("f", name, value, sizeof(value), XATTR_CREATE), 0);
	}
	ssize_t n = listxattr("f", list, sizeof(list));
	int count = 0;

	CHECK(n > 0);
	for (char *p = list; p < list + n; p += strlen(p) + 1)
		count++;
	CHECK_EQ(count, N);
	for (int i = 0; i < N; i++) {
		char got[64];

		snprintf(name, sizeof(name), "user.attribute-%d", i);
		check_fill(value, sizeof(value), (uint64_t)i);
		CHECK_EQ(getxattr("f", name, got, sizeof(got)), sizeof(got));
		CHECK(memcmp(got, value, sizeof(got)) == 0);
	}
}

static void namespaces(void)
{
	check_make_file("f", 1, 1);
	CHECK_EQ(symlink("f", "s"), 0);
	CHECK_ERR(setxattr("f", "nonsense.a", "1", 1, 0), EOPNOTSUPP);
	CHECK_ERR(setxattr("f", "noname", "1", 1, 0), EOPNOTSUPP);
	CHECK_ERR(getxattr("f", "nonsense.a", NULL, 0), EOPNOTSUPP);
	CHECK_ERR(lsetxattr("s", "user.a", "1", 1, 0), EPERM); /* user.* is for files and directories */
	CHECK_EQ(setxattr("s", "user.a", "1", 1, 0), 0);
	CHECK_EQ(getxattr("f", "user.a", NULL, 0), 1);
	CHECK(listxattr("f", NULL, 0) >= (ssize_t)sizeof("user.a"));
}

static void as_other(void)
{
	char list[1000];
	ssize_t n;

	CHECK_ERR(setxattr("f", "trusted.b", "1", 1, 0), EPERM);
	CHECK_ERR(getxattr("f", "trusted.a", NULL, 0), ENODATA);
	CHECK_ERR(setxattr("f", "user.b", "1", 1, 0), EACCES);
	CHECK_EQ(getxattr("f", "user.a", NULL, 0), 1);
	n = listxattr("f", list, sizeof(list));
	CHECK(n >= 0);
	CHECK(memmem(list, (size_t)n, "trusted.a", 10) == NULL);
	CHECK(memmem(list, (size_t)n, "user.a", 7) != NULL);
}

static void trusted_is_for_root(void)
{
	char list[1000];
	ssize_t n;
	pid_t pid;

	if (geteuid() != 0)
		check_skip("needs root");
	check_make_file("f", 1, 1);
	CHECK_EQ(setxattr("f", "user.a", "1", 1, 0), 0);
	CHECK_EQ(setxattr("f", "trusted.a", "12", 2, 0), 0);
	CHECK_EQ(getxattr("f", "trusted.a", NULL, 0), 2);
	n = listxattr("f", list, sizeof(list));
	CHECK(n > 0 && memmem(list, (size_t)n, "trusted.a", 10) != NULL);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		check_become(OTHER, OTHER);
		as_other();
		_exit(0);
	}
	check_child(pid);
}

static void attributes_go_with_the_file(void)
{
	struct stat before, after;

	check_make_file("f", 1, 1);
	CHECK_EQ(setxattr("f", "user.a", "1", 1, 0), 0);
	CHECK_EQ(link("f", "g"), 0);
	CHECK_EQ(rename("f", "h"), 0);
	CHECK_EQ(getxattr("g", "user.a", NULL, 0), 1);
	CHECK_EQ(getxattr("h", "user.a", NULL, 0), 1);
	before = check_stat("h");
	usleep(15000);
	CHECK_EQ(setxattr("h", "user.a", "2", 1, 0), 0);
	after = check_stat("h");
	CHECK(after.st_ctim.tv_sec > before.st_ctim.tv_sec || after.st_ctim.tv_nsec > before.st_ctim.tv_nsec);
	CHECK_EQ(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	CHECK_EQ(unlink("h"), 0);
	CHECK_EQ(unlink("g"), 0);
	check_make_file("f", 1, 1);
	CHECK_ERR(getxattr("f", "user.a", NULL, 0), ENODATA);
}

static const struct check_case cases[] = {
	CASE(set_get_list_remove),
	CASE(create_and_replace),
	CASE(limits),
	CASE(many_attributes),
	CASE(namespaces),
	CASE(trusted_is_for_root),
	CASE(attributes_go_with_the_file),
};

int main(int argc, char **argv)
{
	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
