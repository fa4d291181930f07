/* SPDX-License-Identifier: MIT */
/*
 * sysvpeer.c: the commands of a peer (sysvpeer.h), and the pipes to it.  One thread, no locks; its state is what it
 * has attached, by number.
 */
#include "tests/mount/sysvpeer.h"

#include "tests/mount/check_that.h"

#include <stdarg.h>
#include <sys/shm.h>

#define PEER_ATTACHES 8

static char *peer_mem[PEER_ATTACHES];

const char *peer_result(long rc)
{
	static char number[32];

	if (rc == -1)
		return strerrorname_np(errno);
	snprintf(number, sizeof(number), "%ld", rc);
	return number;
}

static const char *peer_attach(int n, int id, int flags)
{
	void *mem = shmat(id, NULL, flags);

	if (mem == (void *)-1)
		return peer_result(-1);
	peer_mem[n] = mem;
	return "attached";
}

static const char *peer_set(int id, int uid, int gid, int mode)
{
	struct shmid_ds ds = { .shm_perm.uid = (uid_t)uid, .shm_perm.gid = (gid_t)gid };

	ds.shm_perm.mode = (unsigned short)mode;
	return peer_result(shmctl(id, IPC_SET, &ds));
}

/* Does len bytes hold what seed makes? */
static const char *peer_compare(int n, size_t len, uint64_t seed)
{
	char want[PAGE];

	for (size_t at = 0; at < len; at += PAGE) {
		check_fill(want, PAGE, seed + at);
		if (memcmp(peer_mem[n] + at, want, PAGE) != 0)
			return "different";
	}
	return "equal";
}

static const char *peer_fill(int n, size_t len, uint64_t seed)
{
	for (size_t at = 0; at < len; at += PAGE)
		check_fill(peer_mem[n] + at, PAGE, seed + at);
	return "filled";
}

static const char *peer_become(int uid)
{
	check_become((uid_t)uid, (gid_t)uid);
	return "done";
}

static const char *peer_do(const char *line)
{
	struct shmid_ds ds;
	long a, b, c, d;
	char verb[16];
	int n = sscanf(line, "%15s %li %li %li %li", verb, &a, &b, &c, &d) - 1;

#define PEER_IS(name, args) (strcmp(verb, name) == 0 && n == (args))
	if (PEER_IS("get", 3))
		return peer_result(shmget((key_t)a, (size_t)b, (int)c));
	if (PEER_IS("at", 3))
		return peer_attach((int)a, (int)b, (int)c);
	if (PEER_IS("dt", 1))
		return peer_result(shmdt(peer_mem[a]));
	if (PEER_IS("peek", 2))
		return peer_result(peer_mem[a][b]);
	if (PEER_IS("poke", 3))
		return peer_result(peer_mem[a][b] = (char)c);
	if (PEER_IS("stat", 1))
		return peer_result(shmctl((int)a, IPC_STAT, &ds));
	if (PEER_IS("set", 4))
		return peer_set((int)a, (int)b, (int)c, (int)d);
	if (PEER_IS("ctl", 2))
		return peer_result(shmctl((int)a, (int)b, NULL));
	if (PEER_IS("fill", 3))
		return peer_fill((int)a, (size_t)b, (uint64_t)c);
	if (PEER_IS("compare", 3))
		return peer_compare((int)a, (size_t)b, (uint64_t)c);
	if (PEER_IS("become", 1))
		return peer_become((int)a);
	return "what?";
}

int peer_main(void)
{
	char line[256];

	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (strcmp(line, "exit\n") == 0)
			return 0;
		if (strcmp(line, "_exit\n") == 0)
			_exit(0);
		if (strcmp(line, "exec\n") == 0)
			execl("/bin/true", "true", NULL);
		printf("%s\n", peer_do(line));
		fflush(stdout);
	}
	return 1;
}

struct peer peer_start(void)
{
	struct peer peer;
	int to[2], from[2];

	CHECK(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0);
	peer.pid = fork();
	CHECK(peer.pid >= 0);
	if (peer.pid == 0) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		execl("/proc/self/exe", "sysvtest", "peer", NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	peer.to = to[1];
	peer.from = from[0];
	return peer;
}

const char *peer_ask(struct peer *peer, const char *fmt, ...)
{
	static char answer[256];
	va_list ap;
	size_t len = 0;

	va_start(ap, fmt);
	CHECK(vdprintf(peer->to, fmt, ap) > 0);
	va_end(ap);
	CHECK(write(peer->to, "\n", 1) == 1);
	while (len < sizeof(answer) - 1 && read(peer->from, answer + len, 1) == 1 && answer[len] != '\n')
		len++;
	answer[len] = '\0';
	return len > 0 ? answer : "no answer";
}

void peer_end(struct peer *peer, const char *how)
{
	if (how == NULL)
		CHECK(kill(peer->pid, SIGKILL) == 0);
	else
		CHECK(dprintf(peer->to, "%s\n", how) > 0);
	CHECK(waitpid(peer->pid, NULL, 0) == peer->pid);
	close(peer->to);
	close(peer->from);
}
