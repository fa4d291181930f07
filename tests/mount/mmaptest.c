/* SPDX-License-Identifier: MIT */
/*
 * mmaptest: mappings: coherence between processes and with read() and write(), private copies, the end of the
 * file, executing from the file system, and contents that outlive eviction.  RAM_MIB in the environment says how
 * much the file system under test may keep in memory (default 16): the large cases use several times that.  Each
 * case runs in its own process (check_that.h).
 */
#include "tests/mount/check_that.h"

#include <sched.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>

static sigjmp_buf on_fault;

static size_t ram_bytes(void)
{
	const char *mib = getenv("RAM_MIB");

	return (mib ? strtoul(mib, NULL, 0) : 16) << 20;
}

static unsigned char *map(int fd, size_t len, int prot, int flags, off_t off)
{
	void *p = mmap(NULL, len, prot, flags, fd, off);

	CHECK(p != MAP_FAILED);
	return p;
}

static int file_of_pages(const char *path, size_t pages)
{
	int fd;

	check_make_file(path, pages * PAGE, pages);
	fd = check_open(path, O_RDWR, 0);
	return fd;
}

static void fault_handler(int sig)
{
	(void)sig;
	siglongjmp(on_fault, 1);
}

/* Whether touching the byte raises SIGBUS. */
static bool faults(volatile unsigned char *p, bool store)
{
	struct sigaction sa = { .sa_handler = fault_handler };

	CHECK_EQ(sigaction(SIGBUS, &sa, NULL), 0);
	if (sigsetjmp(on_fault, 1))
		return true;
	if (store)
		*p = 1;
	else
		(void)*p;
	return false;
}

static void shared_mappings_of_two_processes_agree(void)
{
	enum { PAGES = 64, ROUNDS = 2000 };
	int fd = file_of_pages("f", PAGES), status;
	unsigned char *p = map(fd, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	pid_t pid;

	for (int i = 0; i < PAGES; i++)
		p[i * PAGE] = 0;
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		/* its own open and mapping, not the inherited one */
		int own = check_open("f", O_RDWR, 0);
		unsigned char *q = map(own, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0);

		for (int r = 0; r < ROUNDS; r++) {
			volatile unsigned char *cell = q + r % PAGES * PAGE;

			while (*cell % 2 == 0)
				sched_yield();
			(*cell)++;
		}
		_exit(0);
	}
	for (int r = 0; r < ROUNDS; r++) {
		volatile unsigned char *cell = p + r % PAGES * PAGE;
		unsigned char was = *cell;

		(*cell)++;
		while (*cell == (unsigned char)(was + 1)) {
			CHECK(waitpid(pid, &status, WNOHANG) == 0 || *cell != (unsigned char)(was + 1));
			sched_yield();
		}
		CHECK_EQ(*cell, (unsigned char)(was + 2));
	}
	(void)wait(NULL);
}

static void mappings_agree_with_read_and_write(void)
{
	enum { PAGES = 32 };
	static unsigned char buf[PAGES * PAGE], want[PAGES * PAGE];
	int fd = file_of_pages("f", PAGES), other = check_open("f", O_RDWR, 0);
	unsigned char *p = map(fd, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0);

	check_fill(want, sizeof(want), PAGES);
	CHECK(memcmp(p, want, sizeof(want)) == 0);
	for (int i = 0; i < 200; i++) {
		size_t at = (size_t)i * 997 % (sizeof(want) - 5000), len = 1 + (size_t)i * 31 % 5000;

		check_fill(want + at, len, (uint64_t)i);
		if (i % 2) {
			memcpy(p + at, want + at, len);
		} else {
			CHECK_EQ(pwrite(other, want + at, len, (off_t)at), len);
			CHECK(memcmp(p + at, want + at, len) == 0);
		}
		if (i % 5 == 0)
			CHECK_EQ(msync(p, sizeof(want), i % 10 ? MS_SYNC : MS_ASYNC), 0);
		if (i % 7 == 0)
			check_drop(fd);
		CHECK_EQ(pread(other, buf, sizeof(buf), 0), sizeof(buf));
		CHECK(memcmp(buf, want, sizeof(want)) == 0);
		CHECK(memcmp(p, want, sizeof(want)) == 0);
	}
	CHECK_EQ(munmap(p, sizeof(want)), 0);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	CHECK(memcmp(buf, want, sizeof(want)) == 0);
}

static void private_stores_stay_private(void)
{
	enum { PAGES = 16 };
	static unsigned char buf[PAGES * PAGE], want[PAGES * PAGE];
	int fd = file_of_pages("f", PAGES), reader = check_open("f", O_RDONLY, 0);
	unsigned char *p = map(reader, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	unsigned char *shared = map(fd, PAGES * PAGE, PROT_READ, MAP_SHARED, 0);

	check_fill(want, sizeof(want), PAGES);
	memset(p, 0xee, PAGES * PAGE / 2);
	CHECK(memcmp(p + PAGES * PAGE / 2, want + PAGES * PAGE / 2, PAGES * PAGE / 2) == 0);
	CHECK(memcmp(shared, want, sizeof(want)) == 0);
	CHECK_EQ(msync(p, sizeof(want), MS_SYNC), 0);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	CHECK(memcmp(buf, want, sizeof(want)) == 0);
	CHECK(p[0] == 0xee && p[PAGES * PAGE / 2 - 1] == 0xee);
	CHECK_EQ(munmap(p, sizeof(want)), 0);
	check_drop(fd);
	CHECK_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	CHECK(memcmp(buf, want, sizeof(want)) == 0);
}

static void protection_follows_the_open_mode(void)
{
	int ro, wo;

	close(file_of_pages("f", 1));
	ro = check_open("f", O_RDONLY, 0);
	wo = check_open("f", O_WRONLY, 0);
	CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED && errno == EACCES);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, wo, 0) == MAP_FAILED && errno == EACCES);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, ro, 0) != MAP_FAILED);
}

/* Copies this program into the file system and runs the copy, which then is a busy text file. */
static void programs_run_from_here(void)
{
	static char buf[1 << 16];
	int in = check_open("/proc/self/exe", O_RDONLY, 0), out = check_open("prog", O_WRONLY | O_CREAT, 0755), status;
	unsigned char *text;
	ssize_t n;
	pid_t pid;

	while ((n = read(in, buf, sizeof(buf))) > 0)
		CHECK_EQ(write(out, buf, (size_t)n), n);
	check_drop(out);
	CHECK_EQ(close(out), 0);
	for (int i = 0; i < 3; i++) {
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			execl("./prog", "prog", "--exit-42", (char *)NULL);
			_exit(1);
		}
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(WIFEXITED(status));
		CHECK_EQ(WEXITSTATUS(status), 42);
	}
	out = check_open("prog", O_RDONLY, 0);
	text = map(out, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, 0);
	CHECK_EQ(pread(in, buf, PAGE, 0), PAGE);
	CHECK(memcmp(text, buf, PAGE) == 0);
	CHECK_EQ(chmod("prog", 0644), 0);
	CHECK_ERR(execl("./prog", "prog", (char *)NULL), EACCES);
}

static void populated_mappings_hold_the_file(void)
{
	size_t len = ram_bytes() / 2;
	unsigned char *want = malloc(len), *p, *core = malloc(len / PAGE);
	size_t resident = 0;
	int fd;

	CHECK(want && core);
	check_make_file("f", len, 5);
	check_fill(want, len, 5);
	fd = check_open("f", O_RDWR, 0);
	check_drop(fd);
	p = map(fd, len, PROT_READ, MAP_SHARED | MAP_POPULATE, 0);
	CHECK_EQ(mincore(p, len, core), 0);
	for (size_t i = 0; i < len / PAGE; i++)
		resident += core[i] & 1;
	CHECK_EQ(resident, len / PAGE);
	CHECK(memcmp(p, want, len) == 0);
}

/* The kernel then holds more than the daemon may: the daemon must still serve it, and others. */
static void a_locked_mapping_may_be_larger_than_ram(void)
{
	size_t len = ram_bytes() * 2;
	struct rlimit rl = { RLIM_INFINITY, RLIM_INFINITY };
	unsigned char *p, *want = malloc(1 << 20), *got = malloc(1 << 20);
	int fd = check_open("f", O_RDWR | O_CREAT, 0600);

	(void)setrlimit(RLIMIT_MEMLOCK, &rl); /* may be refused, and is not needed with CAP_IPC_LOCK */
	CHECK(want && got);
	CHECK_EQ(ftruncate(fd, (off_t)len), 0);
	p = map(fd, len, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	if (mlock(p, len) != 0 && (errno == EPERM || errno == ENOMEM))
		check_skip("so much memory may not be locked (RLIMIT_MEMLOCK)");
	for (size_t at = 0; at < len; at += 1 << 20)
		check_fill(p + at, 1 << 20, at);
	CHECK_EQ(msync(p, len, MS_SYNC), 0);
	check_make_file("other", ram_bytes(), 77);
	for (size_t at = 0; at < len; at += 1 << 20) {
		check_fill(want, 1 << 20, at);
		CHECK(memcmp(p + at, want, 1 << 20) == 0);
		CHECK_EQ(pread(fd, got, 1 << 20, (off_t)at), 1 << 20);
		CHECK(memcmp(got, want, 1 << 20) == 0);
	}
}

static void touching_past_the_end_is_sigbus(void)
{
	int fd = check_open("f", O_RDWR | O_CREAT, 0600);
	unsigned char *p;

	CHECK_EQ(write(fd, "abc", 3), 3);
	p = map(fd, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	CHECK(!faults(p, false));
	CHECK(memcmp(p, "abc", 3) == 0);
	CHECK(check_zeroes(p + 3, PAGE - 3));
	CHECK(faults(p + PAGE, false));
	CHECK(faults(p + 2 * PAGE, true));
	CHECK_EQ(ftruncate(fd, 2 * PAGE + 1), 0);
	CHECK(!faults(p + PAGE, false) && p[PAGE] == 0);
	CHECK(!faults(p + 2 * PAGE, true));
}

static void truncating_a_mapped_file_cuts_the_mapping(void)
{
	enum { PAGES = 8 };
	int fd = file_of_pages("f", PAGES);
	unsigned char *p = map(fd, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0);

	memset(p, 0x77, PAGES * PAGE);
	CHECK_EQ(ftruncate(fd, 2 * PAGE + 10), 0);
	CHECK(!faults(p + 2 * PAGE, false));
	CHECK(p[2 * PAGE + 9] == 0x77);
	CHECK(check_zeroes(p + 2 * PAGE + 10, PAGE - 10));
	CHECK(faults(p + 3 * PAGE, false));
	CHECK(faults(p + 7 * PAGE, true));
	CHECK_EQ(ftruncate(fd, PAGES * PAGE), 0);
	CHECK(check_zeroes(p + 2 * PAGE + 10, (PAGES - 2) * PAGE - 10));
	CHECK(!faults(p + 7 * PAGE, true));
	check_drop(fd);
	CHECK(p[0] == 0x77 && p[2 * PAGE + 9] == 0x77 && p[2 * PAGE + 10] == 0);
	CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE), 0);
	CHECK(check_zeroes(p, PAGE)); /* a punched hole shows at once */
	CHECK(p[PAGE] == 0x77);
}

static void mappings_of_unlinked_files_live_on(void)
{
	int fd = file_of_pages("f", 4);
	unsigned char *p = map(fd, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0), want[PAGE];

	CHECK_EQ(unlink("f"), 0);
	CHECK_EQ(close(fd), 0);
	p[3 * PAGE] = 0x12;
	CHECK_EQ(msync(p, 4 * PAGE, MS_SYNC), 0);
	check_make_file("f", 4 * PAGE, 99);
	check_fill(want, PAGE, 4);
	CHECK(memcmp(p, want, PAGE) == 0);
	CHECK_EQ(p[3 * PAGE], 0x12);
}

/* Four times the daemon's memory through one mapping; all of it must come back after the kernel dropped it. */
static void mapped_stores_survive_eviction(void)
{
	size_t len = ram_bytes() * 4, step = 1 << 20;
	int fd = check_open("f", O_RDWR | O_CREAT, 0600);
	unsigned char *p, *want = malloc(step), *got = malloc(step);

	CHECK(want && got);
	CHECK_EQ(ftruncate(fd, (off_t)len), 0);
	p = map(fd, len, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	for (size_t at = 0; at < len; at += step)
		check_fill(p + at, step, at);
	CHECK_EQ(munmap(p, len), 0);
	check_drop(fd);
	for (size_t at = 0; at < len; at += step) {
		check_fill(want, step, at);
		CHECK_EQ(pread(fd, got, step, (off_t)at), step);
		CHECK(memcmp(got, want, step) == 0);
	}
	check_drop(fd);
	p = map(fd, len, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	for (size_t i = 0; i < len / PAGE; i++) { /* scattered: no read-ahead helps */
		size_t page = i * 7919 % (len / PAGE);

		p[page * PAGE + 8] ^= 0xff;
	}
	CHECK_EQ(msync(p, len, MS_SYNC), 0);
	CHECK_EQ(munmap(p, len), 0);
	check_drop(fd);
	for (size_t at = 0; at < len; at += step) {
		check_fill(want, step, at);
		for (size_t i = 8; i < step; i += PAGE)
			want[i] ^= 0xff;
		CHECK_EQ(pread(fd, got, step, (off_t)at), step);
		CHECK(memcmp(got, want, step) == 0);
	}
}

static void mremap_grows_with_the_file(void)
{
	int fd = file_of_pages("f", 1);
	unsigned char *p = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0), want[PAGE];

	for (size_t pages = 2; pages <= 512; pages *= 2) {
		CHECK_EQ(ftruncate(fd, (off_t)(pages * PAGE)), 0);
		p = mremap(p, pages / 2 * PAGE, pages * PAGE, MREMAP_MAYMOVE);
		CHECK(p != MAP_FAILED);
		check_fill(p + (pages - 1) * PAGE, PAGE, pages);
	}
	check_drop(fd);
	for (size_t pages = 2; pages <= 512; pages *= 2) {
		check_fill(want, PAGE, pages);
		CHECK(memcmp(p + (pages - 1) * PAGE, want, PAGE) == 0);
	}
	check_fill(want, PAGE, 1);
	CHECK(memcmp(p, want, PAGE) == 0);
}

static const struct check_case cases[] = {
	CASE(shared_mappings_of_two_processes_agree),
	CASE(mappings_agree_with_read_and_write),
	CASE(private_stores_stay_private),
	CASE(protection_follows_the_open_mode),
	CASE(programs_run_from_here),
	CASE(populated_mappings_hold_the_file),
	CASE(a_locked_mapping_may_be_larger_than_ram),
	CASE(touching_past_the_end_is_sigbus),
	CASE(truncating_a_mapped_file_cuts_the_mapping),
	CASE(mappings_of_unlinked_files_live_on),
	CASE(mapped_stores_survive_eviction),
	CASE(mremap_grows_with_the_file),
};

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--exit-42") == 0)
		return 42;
	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
