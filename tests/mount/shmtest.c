/* SPDX-License-Identifier: MIT */
/*
 * shmtest: POSIX shared memory and named semaphores between processes, where /dev/shm is the mount under test.
 * Cases as check_that.h runs them.
 */
#include "tests/mount/check_that.h"

#include <semaphore.h>
#include <sys/mman.h>
#include <time.h>

#define LARGE ((size_t)64 << 20)

static char *shm_map(const char *name, int flags, size_t len)
{
	int fd = shm_open(name, flags, 0600);
	char *mem;

	CHECK(fd >= 0);
	if (flags & O_CREAT)
		CHECK_EQ(ftruncate(fd, (off_t)len), 0);
	mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(mem != MAP_FAILED);
	CHECK_EQ(close(fd), 0);
	return mem;
}

static sem_t *shm_sem(const char *name, unsigned value)
{
	sem_t *sem = sem_open(name, O_CREAT | O_EXCL, 0600, value);

	CHECK(sem != SEM_FAILED);
	return sem;
}

static void names(void)
{
	char *mem = shm_map("/spillfs-test", O_RDWR | O_CREAT | O_EXCL, PAGE);

	CHECK(shm_open("/spillfs-test", O_RDWR | O_CREAT | O_EXCL, 0600) == -1 && errno == EEXIST);
	CHECK_EQ(check_stat("/dev/shm/spillfs-test").st_size, PAGE);
	mem[0] = 1;
	CHECK_EQ(shm_map("/spillfs-test", O_RDWR, PAGE)[0], 1);
	CHECK_EQ(shm_unlink("/spillfs-test"), 0);
	CHECK(shm_open("/spillfs-test", O_RDWR, 0) == -1 && errno == ENOENT);
	CHECK_EQ(mem[0], 1);
}

/* What one process stored, another loads: now, and after most of it has been to swap and back. */
static void large(void)
{
	char *mem = shm_map("/spillfs-large", O_RDWR | O_CREAT | O_EXCL, LARGE), want[PAGE];
	pid_t child = fork();

	if (child == 0) {
		for (size_t at = 0; at < LARGE; at += PAGE)
			check_fill(mem + at, PAGE, at);
		_exit(0);
	}
	check_child(child);
	CHECK_EQ(munmap(mem, LARGE), 0);
	check_drop(check_open("/dev/shm/spillfs-large", O_RDWR, 0));
	child = fork();
	if (child == 0) {
		mem = shm_map("/spillfs-large", O_RDWR, LARGE);
		for (size_t at = 0; at < LARGE; at += PAGE) {
			check_fill(want, PAGE, at);
			CHECK(memcmp(mem + at, want, PAGE) == 0);
		}
		_exit(0);
	}
	check_child(child);
	CHECK_EQ(shm_unlink("/spillfs-large"), 0);
}

/* Two processes hand each other the turn: a futex in a shared mapping of the mount. */
static void semaphores(void)
{
	sem_t *ping = shm_sem("/spillfs-ping", 0), *pong = shm_sem("/spillfs-pong", 0), *other;
	int *turns = (int *)(void *)shm_map("/spillfs-turns", O_RDWR | O_CREAT | O_EXCL, PAGE);
	struct timespec soon;
	pid_t child = fork();

	if (child == 0) {
		other = sem_open("/spillfs-ping", 0);
		CHECK(other != SEM_FAILED);
		for (int i = 0; i < 5000; i++) {
			CHECK_EQ(sem_wait(other), 0);
			CHECK_EQ(*turns, 2 * i + 1);
			*turns += 1;
			CHECK_EQ(sem_post(pong), 0);
		}
		_exit(0);
	}
	for (int i = 0; i < 5000; i++) {
		*turns += 1;
		CHECK_EQ(sem_post(ping), 0);
		CHECK_EQ(sem_wait(pong), 0);
		CHECK_EQ(*turns, 2 * i + 2);
	}
	check_child(child);
	CHECK_ERR(sem_trywait(ping), EAGAIN);
	CHECK_EQ(clock_gettime(CLOCK_REALTIME, &soon), 0);
	soon.tv_sec++;
	CHECK_ERR(sem_timedwait(ping, &soon), ETIMEDOUT);
	CHECK_EQ(sem_unlink("/spillfs-ping"), 0);
	CHECK_EQ(sem_unlink("/spillfs-pong"), 0);
	CHECK_EQ(shm_unlink("/spillfs-turns"), 0);
	CHECK(sem_open("/spillfs-ping", 0) == SEM_FAILED && errno == ENOENT);
}

/* A sleeper is woken although the page with the semaphore was written back, and all but mapped pages dropped. */
static void sleeper(void)
{
	sem_t *wake = shm_sem("/spillfs-wake", 0);
	char *mem = shm_map("/spillfs-room", O_RDWR | O_CREAT | O_EXCL, LARGE);
	pid_t child = fork();

	if (child == 0) {
		CHECK_EQ(sem_wait(wake), 0);
		_exit(0);
	}
	usleep(100000);
	for (size_t at = 0; at < LARGE; at += PAGE)
		check_fill(mem + at, PAGE, at);
	CHECK_EQ(munmap(mem, LARGE), 0);
	check_drop(check_open("/dev/shm/sem.spillfs-wake", O_RDWR, 0));
	check_drop(check_open("/dev/shm/spillfs-room", O_RDWR, 0));
	CHECK_EQ(sem_post(wake), 0);
	check_child(child);
	CHECK_EQ(sem_unlink("/spillfs-wake"), 0);
	CHECK_EQ(shm_unlink("/spillfs-room"), 0);
}

int main(int argc, char **argv)
{
	static const struct check_case cases[] = { CASE(names), CASE(large), CASE(semaphores), CASE(sleeper) };

	return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
