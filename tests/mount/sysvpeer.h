/* SPDX-License-Identifier: MIT */
/*
 * sysvpeer: processes that sysvtest tells what to do.  A peer is the same program, started anew by fork and exec, so
 * it has nothing in common with who started it but what the system (or the library under test) gives both.  It reads
 * one line, does it, answers with one line.
 */
#ifndef TESTS_MOUNT_SYSVPEER_H
#define TESTS_MOUNT_SYSVPEER_H

#include <sys/types.h>

struct peer {
	pid_t pid;
	int to, from;
};

/* What a peer's process runs: commands from standard input until it ends. */
int peer_main(void);

struct peer peer_start(void);

/* Sends the command; the answer is in a static buffer until the next. */
const char *peer_ask(struct peer *peer, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Says something to end the peer ("exit", "_exit", "exec", or NULL for kill -9), and waits for its end. */
void peer_end(struct peer *peer, const char *how);

/* ERRNO's name or the number, as answers and transcripts show a result. */
const char *peer_result(long rc);

#endif
