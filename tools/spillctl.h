/* SPDX-License-Identifier: MIT */
/*
 * spillctl: one file per group of verbs.  main() finds the verb in its table and hands it the rest of the command
 * line; a verb reads its own options (getopt_long, from optind = 1), does its work and returns the exit status.
 *
 *   spillctl.c          main, the table of verbs, help, how to complain
 *   spillctl_ctl.c      the mount: opened, asked, its errors in words
 *   spillctl_status.c   status
 *   spillctl_set.c      set
 *   spillctl_file.c     stat, evict, pin, unpin: of files
 *   spillctl_quota.c    quota
 *   spillctl_swap.c     swapon, swapoff, and the list of swap areas
 */
#ifndef TOOLS_SPILLCTL_H
#define TOOLS_SPILLCTL_H

#include "fuse-fs/ctl.h"

#include <stddef.h>

enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* --- spillctl.c ----------------------------------------------------------------------------------------------------- */

/* "spillctl: what: arg (see spillctl --help)", arg may be NULL.  EXIT_USAGE. */
enum exit_code spillctl_bad_usage(const char *what, const char *arg);

/* After getopt_long() returned '?', with opterr 0.  EXIT_USAGE. */
enum exit_code spillctl_bad_option(char *const *argv);

/* The help of all verbs, on standard output.  EXIT_OK. */
enum exit_code spillctl_help(void);

/* Flushes standard output; says so when that, or anything printed before, failed. */
enum exit_code spillctl_flush(void);

/* "12.3 MiB" in buf: three to four figures, in the largest unit that leaves something before the point. */
const char *spillctl_human_bytes(uint64_t bytes, char *buf, size_t len);

/* --- spillctl_ctl.c ------------------------------------------------------------------------------------------------- */

/* The directory of a mount, open for ioctls; or -errno. */
int spillctl_open(const char *path);

/* 0, or -errno from the open or the ioctl; -EPROTO as well when the daemon answers in another version. */
int spillctl_fetch_status(const char *path, struct spillfs_status *st);

/* "spillctl: path: why", in terms of a mount that cannot be asked where -errno means that. */
void spillctl_complain(const char *path, int err);

/* --- spillctl_swap.c ------------------------------------------------------------------------------------------------ */

/* The first swap area whose number is not below from, of the mount that fd is open in.  0, -ENOENT: none, or -errno. */
int spillctl_area_next(int fd, unsigned from, struct spillfs_area *area);

/* In words. */
const char *spillctl_area_kind(const struct spillfs_area *area);
const char *spillctl_area_state(const struct spillfs_area *area);

/* --- the verbs: argv[0] is the verb itself; the exit status ----------------------------------------------------------- */

enum exit_code spillctl_status(int argc, char **argv);
enum exit_code spillctl_set(int argc, char **argv);
enum exit_code spillctl_stat(int argc, char **argv);
enum exit_code spillctl_evict(int argc, char **argv);
enum exit_code spillctl_pin(int argc, char **argv);
enum exit_code spillctl_unpin(int argc, char **argv);
enum exit_code spillctl_quota(int argc, char **argv);
enum exit_code spillctl_swapon(int argc, char **argv);
enum exit_code spillctl_swapoff(int argc, char **argv);

#endif
