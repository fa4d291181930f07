/* SPDX-License-Identifier: MIT */
/*
 * options_impl: what the three files of the option parser share and nobody else sees.
 *
 *   options.c --- each -o list, split at its commas ---> options_table.c --- what follows "=" ---> options_values.c
 */
#ifndef FUSE_FS_OPTIONS_IMPL_H
#define FUSE_FS_OPTIONS_IMPL_H

#include "fuse-fs/options.h"

#define OPTIONS_BLOCK_BYTES 4096

/* One parse: the result, where the error goes, and what must be known of other options in the end. */
struct options_parser {
	struct options *opt;
	char *why;
	size_t why_len;
	uint64_t machine_bytes;
	char *remount_only; /* the first option that means something to a remount alone */
};

/* Writes the line that says why; returns -EINVAL. */
int options_fail(struct options_parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Replaces *where by a copy of value. */
int options_set_string(struct options_parser *p, char **where, const char *value);

/* Appends to the list for libfuse, which splits at commas again.  options_table.c */
int options_pass_on(struct options_parser *p, const char *item);

/* Splits at commas and takes each item.  options_table.c */
int options_list(struct options_parser *p, const char *text);

/* --- options_values.c: one for each option that has a value ------------------------------------------------ */

/* A plain decimal number: no sign, no space, no other base.  0, -EINVAL or -ERANGE. */
int options_parse_digits(const char *text, uint64_t *value, const char **end);

int options_size(struct options_parser *p, const char *value);
int options_nr_blocks(struct options_parser *p, const char *value);
int options_nr_inodes(struct options_parser *p, const char *value);
int options_ram(struct options_parser *p, const char *value);
int options_swap(struct options_parser *p, const char *value);
int options_swapsize(struct options_parser *p, const char *value);
int options_reserve(struct options_parser *p, const char *value);
int options_mode(struct options_parser *p, const char *value);
int options_uid(struct options_parser *p, const char *value);
int options_gid(struct options_parser *p, const char *value);
int options_cache(struct options_parser *p, const char *value);
int options_huge(struct options_parser *p, const char *value);
int options_mpol(struct options_parser *p, const char *value);
int options_usr_blocks(struct options_parser *p, const char *value);
int options_usr_inodes(struct options_parser *p, const char *value);
int options_grp_blocks(struct options_parser *p, const char *value);
int options_grp_inodes(struct options_parser *p, const char *value);

#endif
