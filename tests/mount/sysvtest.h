/* SPDX-License-Identifier: MIT */
/*
 * sysvtest: what the cases of sysvtest share: one key, one small segment, and lines of a transcript.
 */
#ifndef TESTS_MOUNT_SYSVTEST_H
#define TESTS_MOUNT_SYSVTEST_H

#include "tests/mount/check_that.h"
#include "tests/mount/sysvpeer.h"

#include <sys/shm.h>

#define SIZE (3 * PAGE + 100)

#define SAY(what, result) printf("%-44s %s\n", what, result)
#define SAY_RC(what, rc)  SAY(what, peer_result(rc))
/* A call that gives an id: success is all that both sides have in common. */
#define SAY_ID(what, rc)  SAY(what, (rc) >= 0 ? "an id" : peer_result(-1))

extern key_t test_key; /* of this run alone */

/* A new segment of SIZE bytes with test_key; flags are its mode. */
int test_make(int flags);

/* All of IPC_STAT in one line. */
void test_stat(const char *what, int id);

/* A peer whose pid is shown by this name. */
struct peer test_peer(const char *name);

/* sysvload.c: cases of many processes, or much memory. */
void test_race(void);
void test_churn(void);
void test_large(void);
void test_locked(void);

#endif
