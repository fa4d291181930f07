/* SPDX-License-Identifier: MIT */
/* parity_run: an episode and what happens when it fails; between parity.c and parity_shrink.c alone. */
#ifndef TESTS_MOUNT_PARITY_RUN_H
#define TESTS_MOUNT_PARITY_RUN_H

#include "tests/mount/parity.h"

/*
 * Runs one episode in a process of its own, only the steps that keep has (NULL: all).  0, 1: a difference, described
 * in p->shared; 2: trouble.
 */
int par_run_episode(struct par *p, uint64_t episode, const bool *keep, const char *spoil);

/* After an episode failed: leaves steps out for as long as it fails in the same way, and prints what remains. */
void par_shrink(struct par *p, const bool *keep, const char *spoil);

/* Removes what an episode made, whatever its modes and flags are. */
void par_remove_episode(const char *side);

#endif
