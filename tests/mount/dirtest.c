/* SPDX-License-Identifier: MIT */
/*
 * dirtest: directories, readdir under change, renames with flags, and creating in a race.  Each case runs in its
 * own process (check_that.h).
 */
#include "tests/mount/check_that.h"

#include <dirent.h>

#define STABLE	10000
#define CHANGED 2000

static void make_empty(const char *fmt, unsigned i)
{
	char name[64];

	snprintf(name, sizeof(name), fmt, i);
	close(check_open(name, O_CREAT | O_WRONLY, 0600));
}

static void remove_name(const char *fmt, unsigned i)
{
	char name[64];

	snprintf(name, sizeof(name), fmt, i);
	CHECK_EQ(unlink(name), 0);
}

/* Every entry that is there throughout is seen once; what comes and goes is seen at most once a name. */
static void readdir_is_stable_while_entries_come_and_go(void)
{
	static unsigned char seen[STABLE], seen_new[CHANGED], seen_old[CHANGED];
	unsigned long n = 0;
	unsigned i, gone = 0, added = 0;
	struct dirent *de;
	DIR *dir;

	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(chdir("d"), 0);
	for (i = 0; i < STABLE; i++) {
		make_empty("stable-%u", i);
		if (i % (STABLE / CHANGED) == 0)
			make_empty("old-%u", i / (STABLE / CHANGED));
	}
	dir = opendir(".");
	CHECK(dir != NULL);
	while ((de = readdir(dir)) != NULL) {
		if (sscanf(de->d_name, "stable-%u", &i) == 1) {
			CHECK(i < STABLE);
			CHECK_EQ(seen[i]++, 0);
		} else if (sscanf(de->d_name, "new-%u", &i) == 1) {
			CHECK(i < CHANGED);
			CHECK_EQ(seen_new[i]++, 0);
		} else if (sscanf(de->d_name, "old-%u", &i) == 1) {
			CHECK(i < CHANGED);
			CHECK_EQ(seen_old[i]++, 0);
		}
		if (++n % 5 == 0 && gone < CHANGED)
			remove_name("old-%u", gone++);
		if (n % 5 == 2 && added < CHANGED)
			make_empty("new-%u", added++);
	}
	CHECK(gone > CHANGED / 2 && added > CHANGED / 2);
	for (i = 0; i < STABLE; i++)
		CHECK_EQ(seen[i], 1);
	rewinddir(dir);
	n = 0;
	while ((de = readdir(dir)) != NULL)
		n++;
	CHECK_EQ(n, STABLE + CHANGED - gone + added + 2);
	closedir(dir);
}

/* rm -r and find -delete do this: the whole directory must be gone after one pass. */
static void removing_while_reading_removes_all(void)
{
	struct dirent *de;
	DIR *dir;

	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(chdir("d"), 0);
	for (unsigned i = 0; i < 3000; i++)
		make_empty("f%u", i);
	dir = opendir(".");
	CHECK(dir != NULL);
	while ((de = readdir(dir)) != NULL) {
		if (de->d_name[0] == 'f')
			CHECK_EQ(unlink(de->d_name), 0);
	}
	closedir(dir);
	CHECK_EQ(chdir(".."), 0);
	CHECK_EQ(rmdir("d"), 0);
}

static void telldir_and_seekdir_return_to_an_entry(void)
{
	enum { N = 600 };
	static char name[N + 2][32];
	static long pos[N + 2];
	struct dirent *de;
	unsigned n = 0;
	DIR *dir;

	for (unsigned i = 0; i < N; i++)
		make_empty("entry-%u", i);
	dir = opendir(".");
	CHECK(dir != NULL);
	for (;;) {
		long at = telldir(dir);

		de = readdir(dir);
		if (!de)
			break;
		CHECK(n < N + 2);
		pos[n] = at;
		snprintf(name[n++], sizeof(name[0]), "%.31s", de->d_name);
	}
	CHECK_EQ(n, N + 2);
	for (unsigned i = 0; i < 400; i++) {
		unsigned k = i * 7919 % n;

		seekdir(dir, pos[k]);
		de = readdir(dir);
		CHECK(de != NULL);
		CHECK(strcmp(de->d_name, name[k]) == 0);
	}
	closedir(dir);
}

static void listings_carry_types_and_inode_numbers(void)
{
	struct stat up = check_stat(".."), here = check_stat(".");
	int found = 0;
	struct dirent *de;
	DIR *dir;

	check_make_file("file", 1, 1);
	CHECK_EQ(mkdir("dir", 0755), 0);
	CHECK_EQ(symlink("file", "link"), 0);
	CHECK_EQ(mkfifo("fifo", 0600), 0);
	dir = opendir(".");
	CHECK(dir != NULL);
	while ((de = readdir(dir)) != NULL) {
		struct stat st = check_stat(de->d_name);

		CHECK_EQ(de->d_type, IFTODT(st.st_mode));
		if (strcmp(de->d_name, "..") == 0)
			CHECK_EQ(de->d_ino, up.st_ino);
		else if (strcmp(de->d_name, ".") == 0)
			CHECK_EQ(de->d_ino, here.st_ino);
		else
			CHECK_EQ(de->d_ino, st.st_ino);
		found++;
	}
	CHECK_EQ(found, 6);
	closedir(dir);
}

static void directories_count_their_subdirectories(void)
{
	CHECK_EQ(mkdir("a", 0755), 0);
	CHECK_EQ(mkdir("b", 0755), 0);
	CHECK_EQ(check_stat("a").st_nlink, 2);
	CHECK_EQ(mkdir("a/x", 0755), 0);
	CHECK_EQ(mkdir("a/y", 0755), 0);
	check_make_file("a/f", 1, 1);
	CHECK_EQ(check_stat("a").st_nlink, 4);
	CHECK_EQ(rename("a/x", "b/x"), 0);
	CHECK_EQ(check_stat("a").st_nlink, 3);
	CHECK_EQ(check_stat("b").st_nlink, 3);
	CHECK_EQ(mkdir("b/empty", 0755), 0);
	CHECK_EQ(rename("b/x", "b/empty"), 0); /* replaces an empty directory */
	CHECK_EQ(check_stat("b").st_nlink, 3);
	CHECK_EQ(renameat2(AT_FDCWD, "a/f", AT_FDCWD, "b/empty", RENAME_EXCHANGE), 0);
	CHECK_EQ(check_stat("a").st_nlink, 4);
	CHECK_EQ(check_stat("b").st_nlink, 2);
	CHECK_EQ(rmdir("a/y"), 0);
	CHECK_EQ(check_stat("a").st_nlink, 3);
}

static void removing_directories(void)
{
	struct stat st;
	int fd;

	CHECK_EQ(mkdir("d", 0755), 0);
	check_make_file("d/f", 1, 1);
	CHECK_ERR(rmdir("d"), ENOTEMPTY);
	CHECK_ERR(unlink("d"), EISDIR);
	CHECK_ERR(rmdir("d/f"), ENOTDIR);
	CHECK_ERR(mkdir("d", 0755), EEXIST);
	CHECK_ERR(rmdir("d/."), EINVAL);
	CHECK_EQ(unlink("d/f"), 0);
	fd = check_open("d", O_RDONLY | O_DIRECTORY, 0);
	CHECK_EQ(rmdir("d"), 0);
	CHECK_ERR(openat(fd, "f", O_CREAT | O_WRONLY, 0600), ENOENT);
	CHECK_ERR(mkdirat(fd, "x", 0700), ENOENT);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_nlink, 0);
}

static void rename_rules(void)
{
	CHECK_EQ(mkdir("d", 0755), 0);
	CHECK_EQ(mkdir("d/sub", 0755), 0);
	CHECK_EQ(mkdir("full", 0755), 0);
	check_make_file("full/f", 1, 1);
	check_make_file("f", 1, 1);
	CHECK_ERR(rename("d", "d/sub/d"), EINVAL);
	CHECK_ERR(rename("d", "full"), ENOTEMPTY);
	CHECK_ERR(rename("f", "d"), EISDIR);
	CHECK_ERR(rename("d", "f"), ENOTDIR);
	CHECK_ERR(rename("absent", "f"), ENOENT);
	CHECK_ERR(rename("f", "absent/f"), ENOENT);
}

static void rename_replaces_open_files(void)
{
	char buf[10];
	int fd;

	check_make_file("old", 10, 1);
	check_make_file("new", 10, 2);
	fd = check_open("old", O_RDONLY, 0);
	CHECK_EQ(rename("new", "old"), 0);
	CHECK_EQ(read(fd, buf, 10), 10);
	char want[10];

	check_fill(want, 10, 1);
	CHECK(memcmp(buf, want, 10) == 0);
	CHECK_EQ(close(fd), 0);
	fd = check_open("old", O_RDONLY, 0);
	CHECK_EQ(read(fd, buf, 10), 10);
	check_fill(want, 10, 2);
	CHECK(memcmp(buf, want, 10) == 0);
}

static void rename_flags(void)
{
	struct stat a, b;

	check_make_file("a", 1, 1);
	check_make_file("b", 2, 1);
	CHECK_ERR(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
	CHECK_EQ(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE), 0);
	CHECK_ERR(renameat2(AT_FDCWD, "b", AT_FDCWD, "absent", RENAME_EXCHANGE), ENOENT);
	CHECK_ERR(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
	a = check_stat("b");
	b = check_stat("c");
	CHECK_EQ(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE), 0);
	CHECK_EQ(check_stat("c").st_ino, a.st_ino);
	CHECK_EQ(check_stat("b").st_ino, b.st_ino);
	CHECK_EQ(check_stat("c").st_size, 2);
}

static void rename_leaves_a_whiteout(void)
{
	if (geteuid() != 0)
		check_skip("needs root");
	check_make_file("w", 3, 1);
	check_make_file("replaced", 4, 1);
	CHECK_EQ(renameat2(AT_FDCWD, "w", AT_FDCWD, "moved", RENAME_WHITEOUT), 0);
	CHECK_EQ(check_stat("moved").st_size, 3);
	CHECK(S_ISCHR(check_stat("w").st_mode));
	CHECK_EQ(check_stat("w").st_rdev, 0);
	CHECK_EQ(renameat2(AT_FDCWD, "moved", AT_FDCWD, "replaced", RENAME_WHITEOUT), 0);
	CHECK_EQ(check_stat("replaced").st_size, 3);
	CHECK(S_ISCHR(check_stat("moved").st_mode));
}

/* Of several processes that create the same names at once, one gets each. */
static void o_excl_has_one_winner(void)
{
	enum { NAMES = 500, PROCESSES = 3 };
	int won = 0, fds[2];
	char c;

	CHECK_EQ(pipe(fds), 0);
	for (int p = 0; p < PROCESSES; p++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid)
			continue;
		for (int i = 0; i < NAMES; i++) {
			char name[16];
			int fd;

			snprintf(name, sizeof(name), "x%d", i);
			errno = 0;
			fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
			CHECK(fd >= 0 || errno == EEXIST);
			if (fd >= 0) {
				CHECK_EQ(write(fds[1], "w", 1), 1);
				close(fd);
			}
		}
		_exit(0);
	}
	close(fds[1]);
	while (read(fds[0], &c, 1) == 1)
		won++;
	for (int p = 0; p < PROCESSES; p++) {
		int status;

		CHECK(wait(&status) > 0);
		CHECK_EQ(status, 0);
	}
	CHECK_EQ(won, NAMES);
}

/* Names vanish and appear under several processes; nothing may be left over, and nothing may hang. */
static void renames_in_a_race_lose_nothing(void)
{
	enum { ROUNDS = 1500, PROCESSES = 3 };
	struct dirent *de;
	int found = 0;
	DIR *dir;

	CHECK_EQ(mkdir("a", 0755), 0);
	CHECK_EQ(mkdir("b", 0755), 0);
	check_make_file("a/token", 5, 1);
	for (int p = 0; p < PROCESSES; p++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid)
			continue;
		for (int i = 0; i < ROUNDS; i++) {
			bool there = (i + p) % 2;

			errno = 0;
			CHECK(rename(there ? "a/token" : "b/token", there ? "b/token" : "a/token") == 0 ||
			      errno == ENOENT);
		}
		_exit(0);
	}
	for (int p = 0; p < PROCESSES; p++) {
		int status;

		CHECK(wait(&status) > 0);
		CHECK_EQ(status, 0);
	}
	for (int i = 0; i < 2; i++) {
		dir = opendir(i ? "a" : "b");
		CHECK(dir != NULL);
		while ((de = readdir(dir)) != NULL)
			found += strcmp(de->d_name, "token") == 0;
		closedir(dir);
	}
	CHECK_EQ(found, 1);
}

static void paths_go_200_levels_deep(void)
{
	ino_t top = check_stat(".").st_ino;

	for (int i = 0; i < 200; i++) {
		CHECK_EQ(mkdir("deep", 0755), 0);
		CHECK_EQ(chdir("deep"), 0);
	}
	check_make_file("f", 10, 1);
	for (int i = 0; i < 200; i++)
		CHECK_EQ(chdir(".."), 0);
	CHECK_EQ(check_stat(".").st_ino, top);
	CHECK_EQ(check_stat("deep/deep/deep/deep").st_nlink, 3);
}

static const struct check_case cases[] = {
	CASE(readdir_is_stable_while_entries_come_and_go),
	CASE(removing_while_reading_removes_all),
	CASE(telldir_and_seekdir_return_to_an_entry),
	CASE(listings_carry_types_and_inode_numbers),
	CASE(directories_count_their_subdirectories),
	CASE(removing_directories),
	CASE(rename_rules),
	CASE(rename_replaces_open_files),
	CASE(rename_flags),
	CASE(rename_leaves_a_whiteout),
	CASE(o_excl_has_one_winner),
	CASE(renames_in_a_race_lose_nothing),
	CASE(paths_go_200_levels_deep),
};

int main(int argc, char **argv)
{
	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
