/* SPDX-License-Identifier: MIT */
/*
 * sysvload.c: the cases of sysvtest that take many processes or much memory.  Called by its main; no state.
 */
#include "tests/mount/sysvtest.h"

/* Processes race for a key; all must get one segment, and one of them alone must have made it. */
void test_race(void)
{
	int wrong = 0;

	for (int round = 0; round < 40; round++) {
		int pipes[2], id, ids[4], makers = 0;

		CHECK(pipe(pipes) == 0);
		fflush(stdout);
		for (int i = 0; i < 4; i++) {
			if (fork() == 0) {
				int made = shmget(test_key, SIZE, IPC_CREAT | IPC_EXCL | 0600);
				int got[2] = { made >= 0, shmget(test_key, SIZE, 0) };

				CHECK(write(pipes[1], got, sizeof(got)) == sizeof(got));
				_exit(0);
			}
		}
		for (int i = 0; i < 4; i++) {
			int got[2];

			CHECK(read(pipes[0], got, sizeof(got)) == sizeof(got));
			CHECK(wait(NULL) > 0);
			makers += got[0];
			ids[i] = got[1];
		}
		close(pipes[0]);
		close(pipes[1]);
		id = shmget(test_key, 0, 0);
		for (int i = 0; i < 4; i++)
			wrong += ids[i] != id || id < 0;
		wrong += makers != 1;
		CHECK(shmctl(id, IPC_RMID, NULL) == 0);
	}
	SAY_RC("races that went wrong", wrong);
}

static void race_worker(int id, unsigned seed)
{
	for (int i = 0; i < 60; i++) {
		char *mem = shmat(id, NULL, (rand_r(&seed) & 1) ? SHM_RDONLY : 0);
		pid_t child = fork();

		if (child == 0) {
			if (rand_r(&seed) & 1)
				shmdt(mem);
			if (rand_r(&seed) & 1)
				raise(SIGKILL);
			_exit(0);
		}
		if (rand_r(&seed) & 1)
			shmdt(mem);
		CHECK(waitpid(child, NULL, 0) == child);
	}
	raise(SIGKILL);
}

/* Attaches, forks and deaths at once must leave a count of none. */
void test_churn(void)
{
	int id = test_make(0600);
	struct peer a = test_peer("a");

	SAY("a attaches", peer_ask(&a, "at 0 %d 0", id));
	fflush(stdout);
	for (unsigned i = 0; i < 4; i++) {
		if (fork() == 0)
			race_worker(id, i);
	}
	for (int i = 0; i < 4; i++)
		CHECK(wait(NULL) > 0);
	for (int left = 0; left != 1;) { /* grandchildren that nobody waits for */
		struct shmid_ds ds;

		CHECK(shmctl(id, IPC_STAT, &ds) == 0);
		left = (int)ds.shm_nattch;
		CHECK(left >= 1);
		usleep(1000);
	}
	SAY_RC("removing", shmctl(id, IPC_RMID, NULL));
	peer_end(&a, NULL);
	test_stat("after all", id);
}

/* A segment several times larger than the memory: what one process wrote, another finds. */
void test_large(void)
{
	size_t size = (size_t)96 << 20;
	int id = shmget(test_key, size, IPC_CREAT | IPC_EXCL | 0600);
	struct peer a = test_peer("a"), b = test_peer("b");

	SAY("a attaches", peer_ask(&a, "at 0 %d 0", id));
	SAY("a fills", peer_ask(&a, "fill 0 %zu 5", size));
	SAY("b attaches", peer_ask(&b, "at 0 %d %d", id, SHM_RDONLY));
	SAY("b compares", peer_ask(&b, "compare 0 %zu 5", size));
	peer_end(&a, NULL);
	peer_end(&b, "exit");
	if (getenv("SYSVTEST_BETWEEN") != NULL) /* what makes the kernel forget the pages */
		CHECK(system(getenv("SYSVTEST_BETWEEN")) == 0);
	a = test_peer("a");
	SAY("a new process attaches", peer_ask(&a, "at 0 %d 0", id));
	SAY("and compares", peer_ask(&a, "compare 0 %zu 5", size));
	peer_end(&a, "exit");
	shmctl(id, IPC_RMID, NULL);
}

/* Pages of our segments in RAM: there are no others.  In kernel's own and in spillfs's SHM_INFO. */
static unsigned long test_resident(void)
{
	struct shm_info info;

	CHECK(shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&info) >= 0);
	return info.shm_rss;
}

/* Not to be compared with the kernel, which has no budget: needs a mount of much less RAM than 96 MiB. */
void test_locked(void)
{
	size_t small = (size_t)4 << 20, size = (size_t)96 << 20;
	int id = shmget(test_key, small, IPC_CREAT | IPC_EXCL | 0600), large;
	struct peer a = test_peer("a"), b = test_peer("b");

	peer_ask(&a, "at 0 %d 0", id);
	peer_ask(&a, "fill 0 %zu 1", small);
	CHECK(shmctl(id, SHM_LOCK, NULL) == 0);
	large = shmget(IPC_PRIVATE, size, 0600);
	peer_ask(&b, "at 0 %d 0", large);
	peer_ask(&b, "fill 0 %zu 2", size);
	peer_end(&b, "exit");
	CHECK(system(getenv("SYSVTEST_BETWEEN")) == 0);
	CHECK(shmctl(large, IPC_RMID, NULL) == 0);
	SAY("after much else", test_resident() == small / PAGE ? "kept" : "gone");
	CHECK(shmctl(id, SHM_UNLOCK, NULL) == 0);
	SAY("the segment", strcmp(peer_ask(&a, "compare 0 %zu 1", small), "equal") == 0 ? "unlocked" : "different");
	large = shmget(IPC_PRIVATE, size, 0600);
	b = test_peer("b");
	peer_ask(&b, "at 0 %d 0", large);
	peer_ask(&b, "fill 0 %zu 2", size);
	peer_end(&b, "exit");
	CHECK(system(getenv("SYSVTEST_BETWEEN")) == 0);
	SAY_RC("locking more than there is", shmctl(large, SHM_LOCK, NULL));
	CHECK(shmctl(large, IPC_RMID, NULL) == 0);
	SAY("after much else", test_resident() < small / PAGE ? "gone" : "kept");
	peer_end(&a, "exit");
	shmctl(id, IPC_RMID, NULL);
}
