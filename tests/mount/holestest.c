/* SPDX-License-Identifier: MIT */
/*
 * holestest: what a file's bytes cost and where they lie: st_blocks, holes, fallocate, SEEK_DATA and SEEK_HOLE,
 * truncation, appends and copies.  Each case runs in its own process (check_that.h).
 */
#include "tests/mount/check_that.h"

#include <sys/mman.h>

#define BLOCKS_A_PAGE (PAGE / 512)

static int new_file(const char *path)
{
	return check_open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
}

/*
 * Pages that st_blocks counts.  Under the writeback cache the kernel learns of new blocks when some descriptor of
 * the file is closed, not at fsync().
 */
static long pages_of(int fd)
{
	struct stat st;

	CHECK_EQ(close(dup(fd)), 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_blocks % BLOCKS_A_PAGE, 0);
	return st.st_blocks / BLOCKS_A_PAGE;
}

static off_t size_of(int fd)
{
	struct stat st;

	CHECK_EQ(fstat(fd, &st), 0);
	return st.st_size;
}

static void put_pages(int fd, off_t page, unsigned n, uint64_t seed)
{
	char *buf = malloc((size_t)n * PAGE);

	CHECK(buf != NULL);
	check_fill(buf, (size_t)n * PAGE, seed);
	CHECK_EQ(pwrite(fd, buf, (size_t)n * PAGE, page * PAGE), (size_t)n * PAGE);
	free(buf);
}

static void blocks_count_written_pages(void)
{
	char page[PAGE] = { 0 };
	int fd = new_file("f");

	CHECK_EQ(pages_of(fd), 0);
	CHECK_EQ(pwrite(fd, "x", 1, 0), 1);
	CHECK_EQ(pages_of(fd), 1);
	put_pages(fd, 100, 3, 1);
	CHECK_EQ(pages_of(fd), 4);
	put_pages(fd, 101, 1, 2); /* once more: no more blocks */
	CHECK_EQ(pages_of(fd), 4);
	CHECK_EQ(pwrite(fd, page, PAGE, 200 * PAGE), PAGE); /* written zeroes count too */
	CHECK_EQ(pages_of(fd), 5);
	CHECK_EQ(ftruncate(fd, 1 << 30), 0);
	CHECK_EQ(pages_of(fd), 5);
	CHECK_EQ(ftruncate(fd, 102 * PAGE), 0);
	CHECK_EQ(pages_of(fd), 3);
	CHECK_EQ(ftruncate(fd, 0), 0);
	CHECK_EQ(pages_of(fd), 0);
	CHECK_EQ(close(fd), 0);
	check_make_file("closed", 10 * PAGE - 1, 1);
	CHECK_EQ(check_stat("closed").st_blocks, 10 * BLOCKS_A_PAGE);
}

static void reading_a_hole_allocates_nothing(void)
{
	static char buf[1 << 20];
	int fd = new_file("f");

	CHECK_EQ(ftruncate(fd, sizeof(buf)), 0);
	memset(buf, 1, sizeof(buf));
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	CHECK(check_zeroes(buf, sizeof(buf)));
	CHECK_EQ(pages_of(fd), 0);
	check_drop(fd);
	CHECK_EQ(pread(fd, buf, sizeof(buf), PAGE / 2), sizeof(buf) - PAGE / 2);
	CHECK_EQ(pages_of(fd), 0);
}

static void punching_gives_pages_back_and_zeroes_the_edges(void)
{
	static char buf[16 * PAGE], want[16 * PAGE];
	int fd = new_file("f");

	put_pages(fd, 0, 16, 3);
	check_fill(want, sizeof(want), 3);
	CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * PAGE - 10, 4 * PAGE + 30), 0);
	memset(want + 4 * PAGE - 10, 0, 4 * PAGE + 30);
	CHECK_EQ(pages_of(fd), 12);
	CHECK_EQ(size_of(fd), 16 * PAGE);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	CHECK(memcmp(buf, want, sizeof(buf)) == 0);
	check_drop(fd);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	CHECK(memcmp(buf, want, sizeof(buf)) == 0);
	CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20), 0);
	CHECK_EQ(pages_of(fd), 0);
	CHECK_EQ(size_of(fd), 16 * PAGE);
}

static void fallocate_sets_space_aside(void)
{
	static char buf[8 * PAGE], want[PAGE];
	int fd = new_file("f"), fifo;

	CHECK_EQ(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 4 * PAGE), 0);
	CHECK_EQ(size_of(fd), 0);
	CHECK_EQ(pages_of(fd), 4);
	CHECK_EQ(fallocate(fd, 0, 100, 8 * PAGE - 100), 0);
	CHECK_EQ(size_of(fd), 8 * PAGE);
	CHECK_EQ(pages_of(fd), 8);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	CHECK(check_zeroes(buf, sizeof(buf)));
	put_pages(fd, 2, 1, 5);
	check_fill(want, PAGE, 5);
	CHECK_EQ(fallocate(fd, 0, 0, 8 * PAGE), 0); /* leaves what is there */
	CHECK_EQ(pread(fd, buf, PAGE, 2 * PAGE), PAGE);
	CHECK(memcmp(buf, want, PAGE) == 0);
	CHECK_EQ(pages_of(fd), 8);
	CHECK_ERR(fallocate(fd, 0, 0, 0), EINVAL);
	CHECK_ERR(fallocate(fd, 0, -1, 10), EINVAL);
	CHECK_ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, PAGE), EOPNOTSUPP);
	CHECK_ERR(fallocate(check_open("f", O_RDONLY, 0), 0, 0, 1), EBADF);
	CHECK_EQ(mkfifo("fifo", 0600), 0);
	fifo = check_open("fifo", O_RDWR, 0);
	CHECK_ERR(fallocate(fifo, 0, 0, 1), ESPIPE);
}

/* Data on pages 10-11, 20 and 30 of 41, nothing else. */
static void make_sparse(int fd)
{
	put_pages(fd, 10, 2, 1);
	put_pages(fd, 20, 1, 2);
	put_pages(fd, 30, 1, 3);
	CHECK_EQ(ftruncate(fd, 41 * PAGE - 7), 0);
}

static void check_sparse(int fd)
{
	static const struct {
		int whence;
		off_t from, want;
	} seeks[] = {
		{ SEEK_DATA, 0, 10 * PAGE },
		{ SEEK_DATA, 10 * PAGE, 10 * PAGE },
		{ SEEK_DATA, 11 * PAGE + 5, 11 * PAGE + 5 },
		{ SEEK_DATA, 12 * PAGE, 20 * PAGE },
		{ SEEK_DATA, 20 * PAGE + 4095, 20 * PAGE + 4095 },
		{ SEEK_DATA, 21 * PAGE, 30 * PAGE },
		{ SEEK_HOLE, 0, 0 },
		{ SEEK_HOLE, 5000, 5000 },
		{ SEEK_HOLE, 10 * PAGE, 12 * PAGE },
		{ SEEK_HOLE, 11 * PAGE + 1, 12 * PAGE },
		{ SEEK_HOLE, 20 * PAGE, 21 * PAGE },
		{ SEEK_HOLE, 30 * PAGE, 31 * PAGE },
		{ SEEK_HOLE, 41 * PAGE - 8, 41 * PAGE - 8 },
	};

	for (size_t i = 0; i < sizeof(seeks) / sizeof(seeks[0]); i++) {
		off_t got = lseek(fd, seeks[i].from, seeks[i].whence);

		if (got != seeks[i].want)
			fprintf(stderr, "SEEK_%s from %lld:\n", seeks[i].whence == SEEK_DATA ? "DATA" : "HOLE",
				(long long)seeks[i].from);
		CHECK_EQ(got, seeks[i].want);
	}
	CHECK_ERR(lseek(fd, 31 * PAGE, SEEK_DATA), ENXIO);
	CHECK_ERR(lseek(fd, 41 * PAGE - 7, SEEK_DATA), ENXIO);
	CHECK_ERR(lseek(fd, 41 * PAGE - 7, SEEK_HOLE), ENXIO);
	CHECK_ERR(lseek(fd, 50 * PAGE, SEEK_HOLE), ENXIO);
}

static void seek_data_and_hole_on_a_closed_file(void)
{
	int fd = new_file("f");

	make_sparse(fd);
	CHECK_EQ(close(fd), 0);
	check_sparse(check_open("f", O_RDONLY, 0));
}

static void seek_data_and_hole_on_a_file_with_dirty_pages(void)
{
	int fd = new_file("f");

	make_sparse(fd);
	check_sparse(fd);
	check_sparse(check_open("f", O_RDONLY, 0));
}

/* What was written last lies past the size that the daemon has heard of. */
static void seek_data_finds_dirty_pages_that_extend_the_file(void)
{
	int fd = new_file("f");

	put_pages(fd, 5, 1, 1);
	CHECK_EQ(lseek(fd, 0, SEEK_DATA), 5 * PAGE);
	put_pages(fd, 50, 1, 1);
	CHECK_EQ(lseek(fd, 6 * PAGE, SEEK_DATA), 50 * PAGE);
	CHECK_EQ(lseek(fd, 50 * PAGE, SEEK_HOLE), 51 * PAGE);
	CHECK_EQ(lseek(fd, 0, SEEK_END), 51 * PAGE);
}

static void seek_data_sees_stores_through_a_mapping(void)
{
	int fd = new_file("f");
	char *p;

	CHECK_EQ(ftruncate(fd, 20 * PAGE), 0);
	p = mmap(NULL, 20 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	p[7 * PAGE + 1] = 1;
	CHECK_EQ(msync(p, 20 * PAGE, MS_SYNC), 0);
	CHECK_EQ(lseek(fd, 0, SEEK_DATA), 7 * PAGE);
	CHECK_EQ(lseek(fd, 7 * PAGE, SEEK_HOLE), 8 * PAGE);
}

static void unwritten_space_is_a_hole_and_written_zeroes_are_data(void)
{
	char page[PAGE] = { 0 };
	int fd = new_file("f");

	CHECK_EQ(fallocate(fd, 0, 0, 10 * PAGE), 0);
	CHECK_ERR(lseek(fd, 0, SEEK_DATA), ENXIO);
	CHECK_EQ(pwrite(fd, page, PAGE, 5 * PAGE), PAGE);
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(lseek(fd, 0, SEEK_DATA), 5 * PAGE);
	CHECK_EQ(lseek(fd, 5 * PAGE, SEEK_HOLE), 6 * PAGE);
}

static void truncated_bytes_never_come_back(void)
{
	static char buf[4 * PAGE];
	int fd = new_file("f");
	char *p;

	put_pages(fd, 0, 4, 9);
	CHECK_EQ(ftruncate(fd, PAGE + 100), 0);
	CHECK_EQ(ftruncate(fd, 4 * PAGE), 0);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	CHECK(check_zeroes(buf + PAGE + 100, sizeof(buf) - PAGE - 100));
	check_drop(fd);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	CHECK(!check_zeroes(buf + PAGE, 100));
	CHECK(check_zeroes(buf + PAGE + 100, sizeof(buf) - PAGE - 100));
	put_pages(fd, 0, 4, 9);
	check_drop(fd);
	CHECK_EQ(ftruncate(fd, 10), 0);
	CHECK_EQ(pwrite(fd, "x", 1, 3 * PAGE), 1); /* grows over the part cut off */
	p = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	CHECK(check_zeroes(p + 10, 3 * PAGE - 10));
	CHECK_EQ(p[3 * PAGE], 'x');
}

static void reads_and_writes_far_out(void)
{
	const off_t far = (off_t)1 << 42;
	char buf[10];
	int fd = new_file("f");

	CHECK_EQ(pwrite(fd, "far", 3, far), 3);
	CHECK_EQ(size_of(fd), far + 3);
	CHECK_EQ(pages_of(fd), 1);
	CHECK_EQ(pread(fd, buf, 10, far - 5), 8);
	CHECK(check_zeroes(buf, 5) && memcmp(buf + 5, "far", 3) == 0);
	CHECK_EQ(pread(fd, buf, 10, far + 3), 0);
	CHECK_EQ(pread(fd, buf, 10, far + 300), 0);
	CHECK_EQ(ftruncate(fd, 1), 0);
	CHECK_EQ(pages_of(fd), 0);
	CHECK_ERR(pwrite(fd, "x", 1, -1), EINVAL);
	CHECK_ERR(ftruncate(fd, -1), EINVAL);
}

static void appends_of_two_processes_lose_nothing(void)
{
	enum { LINES = 3000, LINE = 61 };
	static bool seen[2][LINES];
	char line[LINE + 1];
	FILE *f;
	int got = 0;

	close(new_file("log"));
	for (int p = 0; p < 2; p++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid)
			continue;
		int fd = check_open("log", O_WRONLY | O_APPEND, 0);

		for (int i = 0; i < LINES; i++) {
			memset(line, '.', LINE);
			line[snprintf(line, sizeof(line), "%d %d ", p, i)] = '.';
			line[LINE - 1] = '\n';
			CHECK_EQ(write(fd, line, LINE), LINE);
		}
		_exit(0);
	}
	for (int p = 0; p < 2; p++) {
		int status;

		CHECK(wait(&status) > 0);
		CHECK_EQ(status, 0);
	}
	CHECK_EQ(check_stat("log").st_size, 2 * LINES * LINE);
	f = fopen("log", "r");
	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f)) {
		int p, i;

		CHECK(strlen(line) == LINE && sscanf(line, "%d %d", &p, &i) == 2);
		CHECK(p >= 0 && p < 2 && i >= 0 && i < LINES && !seen[p][i]);
		seen[p][i] = true;
		got++;
	}
	CHECK_EQ(got, 2 * LINES);
}

static ssize_t copy_all(int in, off_t from, int out, off_t to, size_t len)
{
	ssize_t total = 0, n;

	while ((n = copy_file_range(in, &from, out, &to, len, 0)) > 0) {
		total += n;
		len -= (size_t)n;
	}
	return n < 0 ? n : total;
}

static void copy_file_range_copies_bytes(void)
{
	static char a[40 * PAGE], b[40 * PAGE];
	int in = new_file("in"), out = new_file("out");

	put_pages(in, 0, 40, 4);
	check_fill(a, sizeof(a), 4);
	CHECK_EQ(copy_all(in, 0, out, 0, sizeof(a)), sizeof(a));
	CHECK_EQ(pread(out, b, sizeof(b), 0), sizeof(b));
	CHECK(memcmp(a, b, sizeof(a)) == 0);
	CHECK_EQ(copy_all(in, 777, out, 3333, 50000), 50000); /* dirty, unaligned, over what is there */
	memcpy(b + 3333, a + 777, 50000);
	check_drop(out);
	CHECK_EQ(pread(out, a, sizeof(a), 0), sizeof(a));
	CHECK(memcmp(a, b, sizeof(a)) == 0);
	CHECK_EQ(copy_all(in, 39 * PAGE, out, 100 * PAGE, 100000), PAGE); /* ends with the source */
	CHECK_EQ(size_of(out), 101 * PAGE);
	CHECK_EQ(copy_file_range(in, &(off_t){ 40 * PAGE }, out, &(off_t){ 0 }, 10, 0), 0);
	CHECK_ERR(copy_file_range(in, &(off_t){ 0 }, in, &(off_t){ 5 }, 10, 0), EINVAL); /* overlapping */
	CHECK_EQ(copy_all(in, 0, in, 50 * PAGE, 10 * PAGE), 10 * PAGE);			 /* within one file */
	CHECK_EQ(pread(in, b, 10 * PAGE, 50 * PAGE), 10 * PAGE);
	check_fill(a, sizeof(a), 4);
	CHECK(memcmp(a, b, 10 * PAGE) == 0);
}

/* A page put together from pieces, one of them a store through the kernel's cache of what is on the disk. */
static void pieces_of_a_page_add_up(void)
{
	char want[5000], got[5000];
	int fd = new_file("f");

	check_fill(want, sizeof(want), 1);
	CHECK_EQ(pwrite(fd, want + 4096, 904, 4096), 904);
	CHECK_EQ(pwrite(fd, want, 1, 0), 1);
	check_drop(fd);
	CHECK_EQ(pwrite(fd, want + 1, 4095, 1), 4095);
	check_drop(fd);
	CHECK_EQ(pread(fd, got, 5000, 0), 5000);
	CHECK(memcmp(got, want, 5000) == 0);
}

static const struct check_case cases[] = {
	CASE(blocks_count_written_pages),
	CASE(reading_a_hole_allocates_nothing),
	CASE(punching_gives_pages_back_and_zeroes_the_edges),
	CASE(fallocate_sets_space_aside),
	CASE(seek_data_and_hole_on_a_closed_file),
	CASE(seek_data_and_hole_on_a_file_with_dirty_pages),
	CASE(seek_data_finds_dirty_pages_that_extend_the_file),
	CASE(seek_data_sees_stores_through_a_mapping),
	CASE(unwritten_space_is_a_hole_and_written_zeroes_are_data),
	CASE(truncated_bytes_never_come_back),
	CASE(reads_and_writes_far_out),
	CASE(appends_of_two_processes_lose_nothing),
	CASE(copy_file_range_copies_bytes),
	CASE(pieces_of_a_page_add_up),
};

int main(int argc, char **argv)
{
	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
