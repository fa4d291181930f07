/* SPDX-License-Identifier: MIT */
/*
 * faults: breaks the swap disk on purpose, in the program build/tests/spillfs-faults alone; what is installed does
 * not contain it.  The environment variable SPILLFS_FAULTS names a file; whenever it changes, its lines
 *
 *    OPERATION FAULT [WHEN [area N]]        write ENOSPC always      read EIO every 7      write stall 5000 once
 *
 * apply from then on: OPERATION read or write, or create: then a stall alone, and it is the finished reply to a CREATE
 * that stalls; FAULT ENOSPC, EIO, short (a transfer moves a part of its bytes),
 * altered (the bytes read are not those on the disk), stall MS; WHEN always, once or every N; "always" if left out;
 * area N: errors and stalls of that swap area alone.
 * An empty file mends everything.  The line "setup EPERM" must be there when the program starts: io_uring is
 * refused.
 */
#ifndef TESTS_FAULT_FAULTS_H
#define TESTS_FAULT_FAULTS_H

struct swapstore;

void faults_install(struct swapstore *store);

#endif
