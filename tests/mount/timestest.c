/* SPDX-License-Identifier: MIT */
/*
 * timestest: which operation moves which of a file's times, and its directories'.  Each case runs in its own
 * process (check_that.h); tmpfs-like.sh runs all of it on a tmpfs as well, so that it says what tmpfs does.
 */
#include "tests/mount/check_that.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>

#define A 1 /* atime */
#define M 2
#define C 4

/* Times of one file before an operation. */
struct watch {
	const char *path;
	struct stat st;
};

static bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static bool same(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* The next stamp is later than any so far: the clock of stamps ticks every 10 ms at worst. */
static struct watch look(const char *path)
{
	struct watch w = { .path = path, .st = check_stat(path) };

	usleep(15000);
	return w;
}

/* Those of which have moved forward, and no others. */
#define MOVED(w, which) moved(__LINE__, w, which)
static void moved(int line, struct watch w, int which)
{
	struct stat st = check_stat(w.path);
	int got = 0;

	got |= later(st.st_atim, w.st.st_atim) ? A : 0;
	got |= later(st.st_mtim, w.st.st_mtim) ? M : 0;
	got |= later(st.st_ctim, w.st.st_ctim) ? C : 0;
	if (got != which || (!(which & A) && !same(st.st_atim, w.st.st_atim)) ||
	    (!(which & M) && !same(st.st_mtim, w.st.st_mtim)) || (!(which & C) && !same(st.st_ctim, w.st.st_ctim))) {
		fprintf(stderr, "%s: moved %s%s%s\n", w.path, got & A ? "a" : "", got & M ? "m" : "",
			got & C ? "c" : "");
		check_failed(__FILE__, line, "not the times that should move", 0);
	}
}

/* Stored times: what is asked of the file system after the kernel has forgotten what it may. */
static void settle(const char *path)
{
	int fd = check_open(path, O_RDONLY, 0);

	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(close(fd), 0);
}

static void a_new_file_has_one_time(void)
{
	struct timespec before, after;
	struct stat st;
	struct watch dir = look(".");

	clock_gettime(CLOCK_REALTIME_COARSE, &before);
	close(check_open("f", O_CREAT | O_WRONLY, 0600));
	usleep(15000);
	clock_gettime(CLOCK_REALTIME, &after);
	st = check_stat("f");
	CHECK(same(st.st_atim, st.st_mtim) && same(st.st_mtim, st.st_ctim));
	CHECK(!later(before, st.st_mtim) && !later(st.st_mtim, after));
	MOVED(dir, M | C);
}

static void creating_moves_the_directory(void)
{
	struct watch dir = look(".");

	CHECK_EQ(mkdir("d", 0700), 0);
	MOVED(dir, M | C);
	dir = look(".");
	CHECK_EQ(mknod("p", S_IFIFO | 0600, 0), 0);
	MOVED(dir, M | C);
	dir = look(".");
	CHECK_EQ(symlink("x", "s"), 0);
	MOVED(dir, M | C);
	dir = look(".");
	close(check_open(".", O_TMPFILE | O_WRONLY, 0600));
	MOVED(dir, 0);
}

static void links_move_ctime_and_the_directory(void)
{
	struct watch dir, f, d;

	check_make_file("f", 1, 1);
	dir = look(".");
	f = look("f");
	CHECK_EQ(link("f", "g"), 0);
	MOVED(f, C);
	MOVED(dir, M | C);
	dir = look(".");
	f = look("f");
	CHECK_EQ(unlink("g"), 0);
	MOVED(f, C);
	MOVED(dir, M | C);
	CHECK_EQ(mkdir("d", 0700), 0);
	dir = look(".");
	CHECK_EQ(rmdir("d"), 0);
	MOVED(dir, M | C);
	CHECK_EQ(mkdir("d", 0700), 0);
	d = look("d");
	dir = look(".");
	CHECK_EQ(mkdir("d/sub", 0700), 0);
	MOVED(d, M | C);
	MOVED(dir, 0);
}

static void a_rename_moves_both_directories(void)
{
	struct watch a, b, f, g;

	CHECK_EQ(mkdir("a", 0700), 0);
	CHECK_EQ(mkdir("b", 0700), 0);
	check_make_file("a/f", 1, 1);
	a = look("a");
	b = look("b");
	f = look("a/f");
	CHECK_EQ(rename("a/f", "b/f"), 0);
	f.path = "b/f";
	MOVED(f, C);
	MOVED(a, M | C);
	MOVED(b, M | C);
	check_make_file("b/g", 1, 1);
	CHECK_EQ(link("b/g", "b/h"), 0);
	a = look("a");
	b = look("b");
	g = look("b/h");
	CHECK_EQ(rename("b/f", "b/g"), 0); /* over one of two names */
	MOVED(g, C);
	MOVED(b, M | C);
	MOVED(a, 0);
	check_make_file("a/x", 1, 1);
	a = look("a");
	b = look("b");
	f = look("b/g");
	g = look("a/x");
	CHECK_EQ(renameat2(AT_FDCWD, "b/g", AT_FDCWD, "a/x", RENAME_EXCHANGE), 0);
	f.path = "a/x";
	g.path = "b/g";
	MOVED(f, C);
	MOVED(g, C);
	MOVED(a, M | C);
	MOVED(b, M | C);
}

static void writing_moves_mtime_and_ctime(void)
{
	struct watch f;
	int fd = check_open("f", O_RDWR | O_CREAT, 0600);

	f = look("f");
	CHECK_EQ(write(fd, "abc", 3), 3);
	MOVED(f, M | C);
	f = look("f");
	CHECK_EQ(write(fd, "", 0), 0);
	MOVED(f, 0);
	CHECK_EQ(fsync(fd), 0);
	MOVED(f, 0);
	CHECK_EQ(ftruncate(fd, 100), 0);
	MOVED(f, M | C);
	f = look("f");
	CHECK_EQ(ftruncate(fd, 100), 0); /* the same length */
	MOVED(f, M | C);
	f = look("f");
	CHECK_EQ(truncate("f", 50), 0);
	MOVED(f, M | C);
	f = look("f");
	CHECK_EQ(fallocate(fd, 0, 0, 10000), 0);
	MOVED(f, M | C);
	f = look("f");
	CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
	MOVED(f, M | C);
	f = look("f");
	CHECK_EQ(close(check_open("f", O_WRONLY | O_TRUNC, 0)), 0);
	MOVED(f, M | C);
	f = look("f");
	CHECK_EQ(close(fd), 0);
	settle("f");
	MOVED(f, 0);
}

static void copying_moves_the_target(void)
{
	int in, out;
	struct watch f;

	check_make_file("f", 9000, 1);
	check_make_file("g", 10, 1);
	in = check_open("f", O_RDONLY, 0);
	out = check_open("g", O_WRONLY, 0);
	f = look("g");
	CHECK_EQ(copy_file_range(in, NULL, out, NULL, 9000, 0), 9000);
	MOVED(f, M | C);
}

static void changing_attributes_moves_ctime(void)
{
	struct watch f;

	check_make_file("f", 1, 1);
	f = look("f");
	CHECK_EQ(chmod("f", 0604), 0);
	MOVED(f, C);
	f = look("f");
	CHECK_EQ(chmod("f", 0604), 0);
	MOVED(f, C);
	f = look("f");
	CHECK_EQ(chown("f", (uid_t)-1, getgid()), 0);
	MOVED(f, C);
	f = look("f");
	CHECK_EQ(setxattr("f", "user.a", "1", 1, 0), 0);
	MOVED(f, C);
	f = look("f");
	CHECK_EQ(removexattr("f", "user.a"), 0);
	MOVED(f, C);
	f = look(".");
	CHECK_EQ(chmod(".", 0700), 0);
	MOVED(f, C);
}

static void utimensat_sets_what_it_is_told(void)
{
	struct timespec now_omit[2] = { { 0, UTIME_NOW }, { 0, UTIME_OMIT } };
	struct timespec omit_now[2] = { { 0, UTIME_OMIT }, { 0, UTIME_NOW } };
	struct timespec omit_both[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };
	struct timespec exact[2] = { { 1, 999999999 }, { 4000000000, 1 } };
	struct timespec old[2] = { { -5, 7 }, { -3, 8 } };
	struct watch f;
	struct stat st;

	check_make_file("f", 1, 1);
	f = look("f");
	CHECK_EQ(utimensat(AT_FDCWD, "f", omit_both, 0), 0);
	MOVED(f, 0);
	CHECK_EQ(utimensat(AT_FDCWD, "f", now_omit, 0), 0);
	MOVED(f, A | C);
	f = look("f");
	CHECK_EQ(utimensat(AT_FDCWD, "f", omit_now, 0), 0);
	MOVED(f, M | C);
	f = look("f");
	CHECK_EQ(utimensat(AT_FDCWD, "f", NULL, 0), 0);
	MOVED(f, A | M | C);
	CHECK_EQ(utimensat(AT_FDCWD, "f", exact, 0), 0);
	settle("f");
	st = check_stat("f");
	CHECK(same(st.st_atim, exact[0]) && same(st.st_mtim, exact[1]));
	CHECK_EQ(utimensat(AT_FDCWD, "f", old, 0), 0); /* before 1970 */
	st = check_stat("f");
	CHECK(same(st.st_atim, old[0]) && same(st.st_mtim, old[1]));
	CHECK_EQ(symlink("f", "s"), 0);
	CHECK_EQ(utimensat(AT_FDCWD, "s", exact, AT_SYMLINK_NOFOLLOW), 0);
	st = check_stat("s");
	CHECK(same(st.st_atim, exact[0]) && same(st.st_mtim, exact[1]));
	CHECK_EQ(mkdir("d", 0700), 0);
	CHECK_EQ(utimensat(AT_FDCWD, "d", exact, 0), 0);
	st = check_stat("d");
	CHECK(same(st.st_atim, exact[0]) && same(st.st_mtim, exact[1]));
}

/* relatime: a read moves atime if it is not later than mtime, and then not again. */
static void reading_as_noatime_moves_nothing(void)
{
	struct timespec old[2] = { { 1000, 0 }, { 0, UTIME_OMIT } };
	struct watch f;
	char c;
	int fd;

	check_make_file("f", 10, 1);
	CHECK_EQ(utimensat(AT_FDCWD, "f", old, 0), 0);
	fd = check_open("f", O_RDONLY | O_NOATIME, 0);
	check_drop(fd);
	f = look("f");
	CHECK_EQ(pread(fd, &c, 1, 0), 1);
	MOVED(f, 0);
}

static void reading_moves_atime_once(void)
{
	struct timespec old[2] = { { 1000, 0 }, { 0, UTIME_OMIT } };
	char c, target[10];
	struct watch f;
	DIR *dir;
	int fd;

	check_make_file("f", 10, 1);
	CHECK_EQ(utimensat(AT_FDCWD, "f", old, 0), 0);
	fd = check_open("f", O_RDONLY, 0);
	check_drop(fd);
	f = look("f");
	CHECK_EQ(pread(fd, &c, 1, 0), 1);
	MOVED(f, A);
	check_drop(fd);
	f = look("f");
	CHECK_EQ(pread(fd, &c, 1, 0), 1);
	MOVED(f, 0);

	CHECK_EQ(mkdir("d", 0700), 0);
	check_make_file("d/f", 10, 1);
	CHECK_EQ(utimensat(AT_FDCWD, "d", old, 0), 0);
	f = look("d");
	dir = opendir("d");
	CHECK(dir != NULL);
	while (readdir(dir))
		;
	closedir(dir);
	MOVED(f, A);

	CHECK_EQ(symlink("target", "s"), 0);
	CHECK_EQ(utimensat(AT_FDCWD, "s", old, AT_SYMLINK_NOFOLLOW), 0);
	f = look("s");
	CHECK_EQ(readlink("s", target, sizeof(target)), 6);
	MOVED(f, A);
}

static void stores_to_a_mapping_move_mtime(void)
{
	int fd = check_open("f", O_RDWR | O_CREAT, 0600);
	struct watch f;
	char *map, c;

	CHECK_EQ(ftruncate(fd, 8192), 0);
	map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED);
	look("f");
	CHECK_EQ(pread(fd, &c, 1, 0), 1); /* atime is due, and mmap() may have moved it or not */
	f = look("f");
	map[5000] = 'x';
	CHECK_EQ(msync(map, 8192, MS_SYNC), 0);
	CHECK_EQ(munmap(map, 8192), 0);
	CHECK_EQ(close(fd), 0);
	MOVED(f, M | C);
}

/* Stamps of the kernel's and of the file system's own: none may be before one that was seen earlier. */
static void stamps_never_go_back(void)
{
	struct timespec last = check_stat(".").st_ctim;
	int fd = check_open("f", O_RDWR | O_CREAT, 0600);

	for (int i = 0; i < 400; i++) {
		struct stat st;

		switch (i % 4) {
		case 0:
			CHECK_EQ(write(fd, "x", 1), 1);
			break;
		case 1:
			CHECK_EQ(fchmod(fd, (mode_t)(0600 + (i & 077))), 0);
			break;
		case 2:
			CHECK_EQ(ftruncate(fd, i), 0);
			break;
		default:
			CHECK_EQ(fsetxattr(fd, "user.a", &i, sizeof(i), 0), 0);
		}
		st = check_stat("f");
		if (later(last, st.st_ctim))
			fprintf(stderr, "step %d: %ld ns back\n", i % 4, last.tv_nsec - st.st_ctim.tv_nsec);
		CHECK(!later(last, st.st_ctim));
		last = st.st_ctim;
		if (i % 16 == 0)
			usleep(1000);
	}
}

static const struct check_case cases[] = {
	CASE(a_new_file_has_one_time),
	CASE(creating_moves_the_directory),
	CASE(links_move_ctime_and_the_directory),
	CASE(a_rename_moves_both_directories),
	CASE(writing_moves_mtime_and_ctime),
	CASE(copying_moves_the_target),
	CASE(changing_attributes_moves_ctime),
	CASE(utimensat_sets_what_it_is_told),
	CASE(reading_as_noatime_moves_nothing),
	CASE(reading_moves_atime_once),
	CASE(stores_to_a_mapping_move_mtime),
	CASE(stamps_never_go_back),
};

int main(int argc, char **argv)
{
	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
