/* SPDX-License-Identifier: MIT */
/*
 * sysvtest: prints what System V shared memory does, one line a result, with ids, addresses and pids replaced by what
 * they mean.  It judges nothing: tests/mount/sysv.sh runs it with the kernel's own segments and again with
 * libspillfs-sysv, and the two transcripts must be the same.
 *
 *    sysvtest CASE...     the cases named; "large" runs the shell command SYSVTEST_BETWEEN between writing and reading
 *    sysvtest peer        see sysvpeer.h
 */
#include "tests/mount/sysvtest.h"

#include <sys/mman.h>
#include <time.h>

#define SIZE   (3 * PAGE + 100)
#define NOBODY 65534

key_t test_key;
static time_t test_began;
static struct {
	pid_t pid;
	const char *name;
} test_known[32];
static unsigned test_nknown;

static void test_know(pid_t pid, const char *name)
{
	CHECK(test_nknown < 32);
	test_known[test_nknown].pid = pid;
	test_known[test_nknown++].name = name;
}

static const char *test_who(pid_t pid)
{
	for (unsigned i = test_nknown; i-- > 0;) {
		if (test_known[i].pid == pid)
			return test_known[i].name;
	}
	return pid == 0 ? "nobody" : "somebody";
}

static const char *test_when(time_t t)
{
	return t == 0 ? "never" : t >= test_began && t <= time(NULL) ? "now" : "another time";
}

void test_stat(const char *what, int id)
{
	struct shmid_ds ds;

	if (shmctl(id, IPC_STAT, &ds) != 0) {
		SAY(what, peer_result(-1));
		return;
	}
	printf("%-44s key %s mode %o size %zu nattch %lu by %s, last %s, at %s dt %s ct %s, %u:%u %u:%u\n", what,
	       ds.shm_perm.__key == test_key ? "ours"
	       : ds.shm_perm.__key == 0	     ? "none"
					     : "?",
	       ds.shm_perm.mode, ds.shm_segsz, (unsigned long)ds.shm_nattch, test_who(ds.shm_cpid),
	       test_who(ds.shm_lpid), test_when(ds.shm_atime), test_when(ds.shm_dtime), test_when(ds.shm_ctime),
	       ds.shm_perm.uid, ds.shm_perm.gid, ds.shm_perm.cuid, ds.shm_perm.cgid);
}

struct peer test_peer(const char *name)
{
	struct peer peer = peer_start();

	test_know(peer.pid, name);
	return peer;
}

int test_make(int flags)
{
	int id = shmget(test_key, SIZE, IPC_CREAT | IPC_EXCL | flags);

	CHECK(id >= 0);
	return id;
}

static char *test_attach(int id, const void *at, int flags)
{
	char *mem = shmat(id, at, flags);

	CHECK(mem != (void *)-1);
	return mem;
}

static int test_shmat(int id, const void *at, int flags)
{
	return shmat(id, at, flags) == (void *)-1 ? -1 : 0;
}

/* --- cases ------------------------------------------------------------------------------------------------ */

static void keys(void)
{
	int id, other, third;

	SAY_ID("a key that is not there", shmget(test_key, SIZE, 0));
	SAY_ID("creating nothing", shmget(test_key, 0, IPC_CREAT | 0600));
	SAY_ID("creating too much", shmget(test_key, SIZE_MAX, IPC_CREAT | 0600));
	id = shmget(test_key, SIZE, IPC_CREAT | IPC_EXCL | 0640);
	SAY_ID("creating", id);
	test_stat("just created", id);
	SAY_ID("creating again, exclusively", shmget(test_key, SIZE, IPC_CREAT | IPC_EXCL | 0640));
	SAY("creating again", shmget(test_key, SIZE, IPC_CREAT | 0640) == id ? "the same" : "another");
	SAY("by key alone", shmget(test_key, 0, 0) == id ? "the same" : "another");
	SAY("smaller", shmget(test_key, 1, 0) == id ? "the same" : "another");
	SAY_ID("one byte larger", shmget(test_key, SIZE + 1, 0));
	SAY_ID("a page larger", shmget(test_key, SIZE + PAGE, IPC_CREAT | 0600));
	third = shmget(IPC_PRIVATE, 1, IPC_CREAT | IPC_EXCL | 0600);
	other = shmget(IPC_PRIVATE, SIZE, 0600);
	SAY("private twice", third == other ? "the same" : "another");
	SAY_RC("removing the first", shmctl(third, IPC_RMID, NULL));
	test_stat("private", other);
	SAY_RC("removing it", shmctl(other, IPC_RMID, NULL));
	SAY_RC("removing it again", shmctl(other, IPC_RMID, NULL));
	test_stat("after that", other);
	SAY_RC("attaching it", test_shmat(other, NULL, 0));
	SAY_RC("removing -1", shmctl(-1, IPC_RMID, NULL));
	SAY_RC("attaching -1", test_shmat(-1, NULL, 0));
	SAY_RC("an unknown command", shmctl(id, 12345, NULL));
	SAY_RC("stat into nowhere", shmctl(id, IPC_STAT, NULL));
	shmctl(id, IPC_RMID, NULL);
	SAY_ID("the key after removing", shmget(test_key, SIZE, 0));
}

static void contents(void)
{
	int id = test_make(0600);
	struct peer a = test_peer("a");
	char *mem = test_attach(id, NULL, 0), *again = test_attach(id, NULL, 0);

	SAY("a new segment", check_zeroes(mem, 4 * PAGE) ? "all zero" : "not zero");
	mem[0] = 1;
	mem[SIZE - 1] = 2;
	mem[4 * PAGE - 1] = 3; /* past the end, in its last page */
	SAY("attached again", again != mem && again[0] == 1 ? "the same memory" : "another");
	SAY("a attaches", peer_ask(&a, "at 0 %d 0", id));
	SAY("a sees the first byte", peer_ask(&a, "peek 0 0"));
	SAY("a sees the last", peer_ask(&a, "peek 0 %d", SIZE - 1));
	SAY("a sees the page's last", peer_ask(&a, "peek 0 %d", 4 * PAGE - 1));
	SAY("a writes", peer_ask(&a, "poke 0 5000 77"));
	SAY_RC("seen here", mem[5000]);
	peer_end(&a, "exit");
	SAY_RC("and after a's end", again[5000]);
	SAY_RC("detach", shmdt(mem));
	SAY_RC("detach again", shmdt(mem));
	SAY_RC("detach in the middle", shmdt(again + PAGE));
	SAY_RC("detach off a page", shmdt(again + 1));
	test_stat("one is left", id);
	SAY_RC("detach the other", shmdt(again));
	mem = test_attach(id, NULL, SHM_RDONLY);
	SAY_RC("kept while nobody was attached", mem[5000]);
	shmctl(id, IPC_RMID, NULL);
}

/* The rights of the mapping that begins at mem, as /proc has them. */
static const char *test_rights(const char *mem)
{
	static char rights[8];
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "re");

	CHECK(maps != NULL);
	strcpy(rights, "none");
	while (fgets(line, sizeof(line), maps) != NULL) {
		char found[8];
		unsigned long start;

		if (sscanf(line, "%lx-%*x %7s", &start, found) == 2 && start == (unsigned long)mem)
			strcpy(rights, found);
	}
	fclose(maps);
	return rights;
}

static void flags(void)
{
	int id = test_make(0700), other = shmget(IPC_PRIVATE, PAGE, 0600);
	char *area = mmap(NULL, 64 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *mem = test_attach(id, NULL, 0);

	CHECK(area != MAP_FAILED);
	SAY("rights", test_rights(mem));
	shmdt(mem);
	mem = test_attach(id, NULL, SHM_RDONLY);
	SAY("rights, SHM_RDONLY", test_rights(mem));
	shmdt(mem);
	mem = test_attach(id, NULL, SHM_EXEC);
	SAY("rights, SHM_EXEC", test_rights(mem));
	shmdt(mem);
	SAY_RC("an address that is taken", test_shmat(id, area, 0));
	SAY_RC("an odd address", test_shmat(id, area + 1, 0));
	SAY_RC("SHM_REMAP and no address", test_shmat(id, NULL, SHM_REMAP));
	SAY_RC("SHM_REMAP at an odd address", test_shmat(id, area + 1, SHM_REMAP));
	test_stat("none of these counts", id);
	SAY("SHM_REMAP", shmat(id, area + 8 * PAGE, SHM_REMAP) == area + 8 * PAGE ? "there" : peer_result(-1));
	SAY("SHM_REMAP, SHM_RND",
	    shmat(id, area + 16 * PAGE + 7, SHM_REMAP | SHM_RND) == area + 16 * PAGE ? "there" : peer_result(-1));
	test_stat("both count", id);
	SAY("SHM_REMAP over all of one",
	    shmat(id, area + 16 * PAGE, SHM_REMAP) == area + 16 * PAGE ? "there" : peer_result(-1));
	test_stat("instead of it", id);
	SAY("SHM_REMAP over its middle",
	    shmat(other, area + 17 * PAGE, SHM_REMAP) == area + 17 * PAGE ? "there" : peer_result(-1));
	test_stat("two pieces count twice", id);
	test_stat("and what covers it", other);
	area[16 * PAGE] = 42;
	SAY_RC("through the first", area[8 * PAGE]);
	SAY_RC("not through the one between", area[17 * PAGE]);
	SAY_RC("detach both pieces", shmdt(area + 16 * PAGE));
	test_stat("both pieces gone", id);
	SAY("the one between stays", test_rights(area + 17 * PAGE));
	SAY_RC("detach it", shmdt(area + 17 * PAGE));
	munmap(area + 16 * PAGE, 8 * PAGE);
	SAY("SHM_RND at a free address",
	    shmat(id, area + 16 * PAGE + 9, SHM_RND) == area + 16 * PAGE ? "there" : peer_result(-1));
	shmctl(id, IPC_RMID, NULL);
	shmctl(other, IPC_RMID, NULL);
}

static void fork_inherits(void)
{
	int id = test_make(0600), to_child[2];
	char *mem = test_attach(id, NULL, 0), byte;
	pid_t child;

	test_attach(id, NULL, SHM_RDONLY);
	test_stat("two attaches", id);
	CHECK(pipe(to_child) == 0);
	fflush(stdout);
	child = fork();
	if (child == 0) {
		CHECK(read(to_child[0], &byte, 1) == 1);
		mem[1] = 9;
		_exit(shmdt(mem) == 0 && read(to_child[0], &byte, 1) == 1 ? 0 : 1);
	}
	test_know(child, "the child");
	test_stat("at once after fork", id);
	CHECK(write(to_child[1], "x", 1) == 1);
	while (mem[1] == 0)
		usleep(1000);
	for (int i = 0; i < 1000; i++) { /* until it has detached, too */
		struct shmid_ds ds;

		CHECK(shmctl(id, IPC_STAT, &ds) == 0);
		if (ds.shm_nattch == 3)
			break;
		usleep(1000);
	}
	test_stat("the child detached one", id);
	CHECK(write(to_child[1], "x", 1) == 1);
	check_child(child);
	test_stat("the child ended", id);
	SAY_RC("what it wrote", mem[1]);
	shmctl(id, IPC_RMID, NULL);
}

static void ends(void)
{
	static const char *const how[] = { "exit", "_exit", "exec", NULL };
	int id = test_make(0600);

	for (unsigned i = 0; i < 4; i++) {
		struct peer a = test_peer("a");

		printf("--- %s\n", how[i] ? how[i] : "kill -9");
		SAY("a attaches", peer_ask(&a, "at 0 %d 0", id));
		SAY("a attaches again", peer_ask(&a, "at 1 %d %d", id, SHM_RDONLY));
		test_stat("while a lives", id);
		peer_end(&a, how[i]);
		test_stat("after a", id);
	}
	shmctl(id, IPC_RMID, NULL);
	test_stat("removed", id);
}

static void removal(void)
{
	static const char *const how[] = { "exit", "exec", NULL };

	for (unsigned i = 0; i < 3; i++) {
		int id = test_make(0600), next;
		struct peer a = test_peer("a"), b = test_peer("b");

		printf("--- %s\n", how[i] ? how[i] : "kill -9");
		SAY("a attaches", peer_ask(&a, "at 0 %d 0", id));
		SAY("a writes", peer_ask(&a, "poke 0 1 55"));
		SAY("b removes", peer_ask(&b, "ctl %d %d", id, IPC_RMID));
		test_stat("removed, attached", id);
		SAY_ID("its key", shmget(test_key, 1, 0));
		next = test_make(0600);
		SAY("the key anew", next != id ? "another" : "the same");
		SAY("b attaches what was removed", peer_ask(&b, "at 0 %d 0", id));
		SAY("b reads", peer_ask(&b, "peek 0 1"));
		SAY("a detaches", peer_ask(&a, "dt 0"));
		test_stat("b is left", id);
		SAY("b removes it again", peer_ask(&b, "ctl %d %d", id, IPC_RMID));
		peer_end(&b, how[i]);
		test_stat("nobody is left", id);
		SAY("a attaches", peer_ask(&a, "at 0 %d 0", id));
		test_stat("the new one", next);
		shmctl(next, IPC_RMID, NULL);
		peer_end(&a, "exit");
	}
}

static void change(void)
{
	int id = test_make(0600);
	struct shmid_ds ds;

	CHECK(shmctl(id, IPC_STAT, &ds) == 0);
	ds.shm_perm.mode = 0107640;
	ds.shm_segsz = 1;
	SAY_RC("IPC_SET mode", shmctl(id, IPC_SET, &ds));
	test_stat("after it", id);
	if (geteuid() == 0) {
		ds.shm_perm.uid = 1234;
		ds.shm_perm.gid = 4321;
		SAY_RC("IPC_SET owner", shmctl(id, IPC_SET, &ds));
		test_stat("after it", id);
	}
	SAY_RC("SHM_LOCK", shmctl(id, SHM_LOCK, NULL));
	test_stat("locked", id);
	SAY_RC("SHM_UNLOCK", shmctl(id, SHM_UNLOCK, NULL));
	test_stat("unlocked", id);
	SAY_RC("IPC_SET of what is not there", shmctl(INT32_MAX, IPC_SET, &ds));
	SAY_RC("SHM_LOCK of what is not there", shmctl(INT32_MAX, SHM_LOCK, NULL));
	shmctl(id, IPC_RMID, NULL);
}

/* What a stranger may do to a segment of each mode. */
static void rights(void)
{
	static const int modes[] = { 0600, 0604, 0602, 0606, 0607, 0666, 0060 };

	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		int id = test_make(modes[i]);
		struct peer a = test_peer("a");

		printf("--- mode %04o\n", modes[i]);
		peer_ask(&a, "become %d", NOBODY);
		SAY("get, no rights", atoi(peer_ask(&a, "get %d 0 0", test_key)) == id ? "the id" : "refused");
		SAY("get to read", atoi(peer_ask(&a, "get %d 0 0444", test_key)) == id ? "the id" : "refused");
		SAY("get to write", atoi(peer_ask(&a, "get %d 0 0666", test_key)) == id ? "the id" : "refused");
		SAY("get, too large", peer_ask(&a, "get %d %d 0666", test_key, 5 * PAGE));
		SAY("at", peer_ask(&a, "at 0 %d 0", id));
		SAY("at, SHM_RDONLY", peer_ask(&a, "at 1 %d %d", id, SHM_RDONLY));
		SAY("at, SHM_EXEC", peer_ask(&a, "at 2 %d %d", id, SHM_EXEC));
		SAY("stat", peer_ask(&a, "stat %d", id));
		SAY("set", peer_ask(&a, "set %d %d %d 0666", id, NOBODY, NOBODY));
		SAY("lock", peer_ask(&a, "ctl %d %d", id, SHM_LOCK));
		SAY("remove", peer_ask(&a, "ctl %d %d", id, IPC_RMID));
		test_stat("as it is", id);
		peer_end(&a, "exit");
		shmctl(id, IPC_RMID, NULL);
		test_stat("at the end", id);
	}
}

/* An owner other than root, and root beside it. */
static void owner(void)
{
	struct peer a = test_peer("a"), b = test_peer("b");
	int id;

	peer_ask(&a, "become %d", NOBODY);
	peer_ask(&b, "become 2");
	id = atoi(peer_ask(&a, "get %d 10000 %d", test_key, IPC_CREAT | 0640));
	test_stat("made by a", id);
	SAY("b attaches", peer_ask(&b, "at 0 %d %d", id, SHM_RDONLY));
	SAY("a attaches", peer_ask(&a, "at 0 %d 0", id));
	SAY("a lets all read", peer_ask(&a, "set %d %d %d 0644", id, NOBODY, NOBODY));
	SAY("b attaches", peer_ask(&b, "at 0 %d %d", id, SHM_RDONLY));
	test_stat("b reads", id);
	SAY("b removes", peer_ask(&b, "ctl %d %d", id, IPC_RMID));
	SAY("a takes all rights", peer_ask(&a, "set %d %d %d 0", id, NOBODY, NOBODY));
	SAY("a may not attach", peer_ask(&a, "at 1 %d 0", id));
	SAY("nor look", peer_ask(&a, "stat %d", id));
	SAY_RC("root attaches", test_shmat(id, NULL, 0));
	SAY("a removes", peer_ask(&a, "ctl %d %d", id, IPC_RMID));
	test_stat("removed", id);
	SAY("a detaches", peer_ask(&a, "dt 0"));
	peer_ask(&b, "dt 0");
	test_stat("root is left", id);
	id = atoi(peer_ask(&a, "get %d 10000 %d", test_key, IPC_CREAT | 0666));
	SAY("b attaches a's next", peer_ask(&b, "at 0 %d 0", id));
	SAY("a removes it", peer_ask(&a, "ctl %d %d", id, IPC_RMID));
	SAY("b, who does not own it, is the last", peer_ask(&b, "dt 0"));
	SAY("b looks for it", peer_ask(&b, "stat %d", id));
	SAY("a looks for it", peer_ask(&a, "stat %d", id));
	peer_end(&a, "exit");
	peer_end(&b, "exit");
}

static int test_find(int id)
{
	struct shm_info info;
	struct shmid_ds ds;
	int most = shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&info);

	for (int i = 0; i <= most; i++) {
		if (shmctl(i, SHM_STAT, &ds) == id && id >= 0)
			return (int)ds.shm_segsz;
	}
	return 0;
}

static void info(void)
{
	struct shm_info before, after;
	struct shminfo limits;
	struct shmid_ds ds;
	int one, two;

	shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&before);
	one = test_make(0600);
	two = shmget(IPC_PRIVATE, 5 * PAGE, 0600);
	SAY("SHM_INFO", shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&after) >= 0 ? "an index" : peer_result(-1));
	SAY_RC("segments more", after.used_ids - before.used_ids);
	SAY_RC("pages more", (long)(after.shm_tot - before.shm_tot));
	SAY("IPC_INFO", shmctl(0, IPC_INFO, (struct shmid_ds *)(void *)&limits) >= 0 ? "an index" : peer_result(-1));
	SAY_RC("shmmin", (long)limits.shmmin);
	SAY_RC("shmmni", (long)limits.shmmni);
	SAY_RC("found by SHM_STAT", test_find(one));
	SAY_RC("and the other", test_find(two));
	SAY_RC("SHM_STAT of an index past all", shmctl(30000, SHM_STAT, &ds));
	shmctl(one, IPC_RMID, NULL);
	SAY_RC("found after removing", test_find(one));
	shmctl(two, IPC_RMID, NULL);
}

static const struct check_case cases[] = {
	CASE(keys),
	CASE(contents),
	CASE(flags),
	CASE(fork_inherits),
	CASE(ends),
	CASE(removal),
	CASE(change),
	CASE(rights),
	CASE(owner),
	CASE(info),
	{ "race", test_race },
	{ "churn", test_churn },
	{ "large", test_large },
	{ "locked", test_locked },
};

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "peer") == 0)
		return peer_main();
	test_key = 0x5f000000 | getpid();
	test_began = time(NULL);
	test_know(getpid(), "us");
	alarm(120);
	for (int i = 1; i < argc; i++) {
		for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
			int id;

			if (strcmp(cases[c].name, argv[i]) != 0)
				continue;
			printf("=== %s\n", argv[i]);
			cases[c].run();
			id = shmget(test_key, 0, 0);
			if (id >= 0)
				shmctl(id, IPC_RMID, NULL);
			test_nknown = 1;
		}
	}
	return 0;
}
