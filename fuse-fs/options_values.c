/* SPDX-License-Identifier: MIT */
/*
 * options_values.c: what may stand behind the equals sign of an option, and where it goes in struct options.  Owns
 * nothing; needs no lock.  Called by options_table.c.
 */
#include "fuse-fs/options_impl.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

/* A plain decimal number: no sign, no space, no other base. */
int options_parse_digits(const char *text, uint64_t *value, const char **end)
{
	uint64_t n = 0;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	for (; *text >= '0' && *text <= '9'; text++) {
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return -ERANGE;
	}
	*value = n;
	*end = text;
	return 0;
}

/* How far a suffix shifts a number to the left; -1: it is none. */
static int options_suffix_shift(char c)
{
	switch (c) {
	case '\0':
		return 0;
	case 'k':
	case 'K':
		return 10;
	case 'm':
	case 'M':
		return 20;
	case 'g':
	case 'G':
		return 30;
	case 't':
	case 'T':
		return 40;
	default:
		return -1;
	}
}

int options_parse_bytes(const char *text, uint64_t total, uint64_t *bytes)
{
	const char *end = NULL;
	uint64_t n = 0;
	int shift = 0;
	int err = options_parse_digits(text, &n, &end);

	if (err != 0)
		return err;
	if (*end == '%' && end[1] == '\0' && total != 0) {
		unsigned __int128 part = (unsigned __int128)total * n / 100;

		if (part > INT64_MAX)
			return -ERANGE;
		*bytes = (uint64_t)part;
		return 0;
	}
	shift = options_suffix_shift(*end);
	if (shift < 0 || (*end != '\0' && end[1] != '\0'))
		return -EINVAL;
	if (n > (uint64_t)INT64_MAX >> shift)
		return -ERANGE;
	*bytes = n << shift;
	return 0;
}

/* The same with an error line that names the option. */
static int options_bytes(struct options_parser *p, const char *name, const char *value, uint64_t total, uint64_t *out)
{
	switch (options_parse_bytes(value, total, out)) {
	case 0:
		return 0;
	case -ERANGE:
		return options_fail(p, "'%s=%s': the number is too large", name, value);
	default:
		return options_fail(p, "'%s=%s' is not a number (with k, m, g or t%s after it)", name, value,
				    total != 0 ? ", or %" : "");
	}
}

/* A hard limit of a quota: bytes or inodes, not 0. */
static int options_hardlimit(struct options_parser *p, const char *name, const char *value, unsigned given,
			     uint64_t *out)
{
	int err = options_bytes(p, name, value, 0, out);

	if (err == 0 && *out == 0)
		return options_fail(p, "'%s=%s': 0 is no limit: leave the option out", name, value);
	p->opt->given |= given;
	return err;
}

/* --- sizes and limits --------------------------------------------------------------------------------------- */

/* tmpfs takes size=0 and nr_blocks=0 for "no limit": then RAM and swap are the limit. */
int options_size(struct options_parser *p, const char *value)
{
	p->opt->given |= OPTIONS_SIZE;
	return options_bytes(p, "size", value, p->machine_bytes, &p->opt->size_bytes);
}

int options_nr_blocks(struct options_parser *p, const char *value)
{
	uint64_t blocks = 0;
	int err = options_bytes(p, "nr_blocks", value, 0, &blocks);

	if (err != 0)
		return err;
	if (blocks > INT64_MAX / OPTIONS_BLOCK_BYTES)
		return options_fail(p, "'nr_blocks=%s': the number is too large", value);
	p->opt->given |= OPTIONS_SIZE;
	p->opt->size_bytes = blocks * OPTIONS_BLOCK_BYTES;
	return 0;
}

int options_nr_inodes(struct options_parser *p, const char *value)
{
	p->opt->given |= OPTIONS_INODES;
	return options_bytes(p, "nr_inodes", value, 0, &p->opt->inodes_limit);
}

int options_ram(struct options_parser *p, const char *value)
{
	int err = options_bytes(p, "ram", value, p->machine_bytes, &p->opt->ram_bytes);

	if (err == 0 && p->opt->ram_bytes == 0)
		return options_fail(p, "'ram=%s' leaves no memory at all", value);
	p->opt->given |= OPTIONS_RAM;
	return err;
}

int options_swapsize(struct options_parser *p, const char *value)
{
	int err = options_bytes(p, "swapsize", value, 0, &p->opt->swap_bytes);

	if (err == 0 && p->opt->swap_bytes == 0)
		return options_fail(p, "'swapsize=%s' leaves no swap: say noswap", value);
	p->opt->given |= OPTIONS_SWAPSIZE;
	return err;
}

int options_reserve(struct options_parser *p, const char *value)
{
	p->opt->given |= OPTIONS_RESERVE;
	return options_bytes(p, "reserve", value, p->machine_bytes, &p->opt->reserve_bytes);
}

/* A limit without its quota would be an empty promise, so it brings the quota with it. */
int options_usr_blocks(struct options_parser *p, const char *value)
{
	p->opt->usrquota = true;
	return options_hardlimit(p, "usrquota_block_hardlimit", value, OPTIONS_USRQUOTA | OPTIONS_USR_BLOCKS,
			      &p->opt->usr_hardlimit.block_bytes);
}

int options_usr_inodes(struct options_parser *p, const char *value)
{
	p->opt->usrquota = true;
	return options_hardlimit(p, "usrquota_inode_hardlimit", value, OPTIONS_USRQUOTA | OPTIONS_USR_INODES,
			      &p->opt->usr_hardlimit.inodes);
}

int options_grp_blocks(struct options_parser *p, const char *value)
{
	p->opt->grpquota = true;
	return options_hardlimit(p, "grpquota_block_hardlimit", value, OPTIONS_GRPQUOTA | OPTIONS_GRP_BLOCKS,
			      &p->opt->grp_hardlimit.block_bytes);
}

int options_grp_inodes(struct options_parser *p, const char *value)
{
	p->opt->grpquota = true;
	return options_hardlimit(p, "grpquota_inode_hardlimit", value, OPTIONS_GRPQUOTA | OPTIONS_GRP_INODES,
			      &p->opt->grp_hardlimit.inodes);
}

/* --- the root directory ------------------------------------------------------------------------------------- */

int options_mode(struct options_parser *p, const char *value)
{
	char *end = NULL;
	unsigned long mode = strtoul(value, &end, 8);

	if (*value < '0' || *value > '7' || *end != '\0' || mode > 07777)
		return options_fail(p, "'mode=%s' is not an octal mode (0 to 7777)", value);
	p->opt->given |= OPTIONS_OWNER;
	p->opt->mode = (mode_t)mode;
	return 0;
}

/* A number is a number even when somebody is called so. */
static bool options_id(const char *value, uint64_t *id)
{
	const char *end = NULL;

	return options_parse_digits(value, id, &end) == 0 && *end == '\0' && *id < UINT32_MAX;
}

int options_uid(struct options_parser *p, const char *value)
{
	uint64_t id = 0;
	const struct passwd *pw = NULL;

	if (!options_id(value, &id)) {
		pw = getpwnam(value);
		if (pw == NULL)
			return options_fail(p, "'uid=%s' is neither a number nor a user here", value);
		id = pw->pw_uid;
	}
	p->opt->given |= OPTIONS_OWNER;
	p->opt->uid = (uid_t)id;
	return 0;
}

int options_gid(struct options_parser *p, const char *value)
{
	uint64_t id = 0;
	const struct group *gr = NULL;

	if (!options_id(value, &id)) {
		gr = getgrnam(value);
		if (gr == NULL)
			return options_fail(p, "'gid=%s' is neither a number nor a group here", value);
		id = gr->gr_gid;
	}
	p->opt->given |= OPTIONS_OWNER;
	p->opt->gid = (gid_t)id;
	return 0;
}

/* --- words -------------------------------------------------------------------------------------------------- */

int options_cache(struct options_parser *p, const char *value)
{
	p->opt->given |= OPTIONS_CACHE;
	if (strcmp(value, "kernel") == 0)
		p->opt->cache = SPILLFS_CACHE_KERNEL;
	else if (strcmp(value, "none") == 0)
		p->opt->cache = SPILLFS_CACHE_NONE;
	else
		return options_fail(p, "'cache=%s': it can be kernel or none", value);
	return 0;
}

/* Replaces *where by a copy of value. */
int options_set_string(struct options_parser *p, char **where, const char *value)
{
	char *copy = strdup(value);

	if (copy == NULL)
		return options_fail(p, "out of memory");
	free(*where);
	*where = copy;
	return 0;
}

int options_swap(struct options_parser *p, const char *value)
{
	if (*value == '\0')
		return options_fail(p, "'swap=' names no directory, file or device");
	p->opt->given |= OPTIONS_SWAP;
	return options_set_string(p, &p->opt->swap_path, value);
}

int options_huge(struct options_parser *p, const char *value)
{
	static const char *const words[] = {
		[SPILLFS_HUGE_NEVER] = "never",
		[SPILLFS_HUGE_ALWAYS] = "always",
		[SPILLFS_HUGE_WITHIN_SIZE] = "within_size",
		[SPILLFS_HUGE_ADVISE] = "advise",
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(value, words[i]) == 0) {
			p->opt->huge = (enum spillfs_huge)i;
			p->opt->given |= OPTIONS_HUGE;
			return 0;
		}
	}
	return options_fail(p, "'huge=%s': it can be never, always, within_size or advise", value);
}

/* --- mpol=MODE[=FLAG][:NODES] ------------------------------------------------------------------------------- */

static void options_node_set(struct options_mpol *mpol, uint64_t node)
{
	mpol->nodes[node / (8 * sizeof(unsigned long))] |= 1UL << (node % (8 * sizeof(unsigned long)));
}

/* "0-3,5,7": 0 or -EINVAL. */
static int options_nodes(struct options_mpol *mpol, const char *text)
{
	uint64_t first = 0, last = 0;

	for (;;) {
		if (options_parse_digits(text, &first, &text) != 0)
			return -EINVAL;
		last = first;
		if (*text == '-' && options_parse_digits(text + 1, &last, &text) != 0)
			return -EINVAL;
		if (last < first || last >= OPTIONS_NODES)
			return -EINVAL;
		for (uint64_t node = first; node <= last; node++)
			options_node_set(mpol, node);
		if (*text == '\0')
			return 0;
		if (*text++ != ',')
			return -EINVAL;
	}
}

/* The mode and its flag, len bytes. */
static int options_mpol_mode(struct options_mpol *mpol, const char *text, size_t len)
{
	static const char *const words[] = {
		[MPOL_IS_DEFAULT] = "default",	     [MPOL_IS_PREFER] = "prefer", [MPOL_IS_BIND] = "bind",
		[MPOL_IS_INTERLEAVE] = "interleave", [MPOL_IS_LOCAL] = "local",
	};
	const char *flag = memchr(text, '=', len);
	size_t mode_len = flag != NULL ? (size_t)(flag - text) : len;

	if (flag != NULL) {
		size_t flag_len = len - mode_len - 1;

		mpol->is_static = flag_len == strlen("static") && strncmp(flag + 1, "static", flag_len) == 0;
		mpol->is_relative = flag_len == strlen("relative") && strncmp(flag + 1, "relative", flag_len) == 0;
		if (!mpol->is_static && !mpol->is_relative)
			return -EINVAL;
	}
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strlen(words[i]) == mode_len && strncmp(text, words[i], mode_len) == 0) {
			mpol->mode = i;
			return 0;
		}
	}
	return -EINVAL;
}

/* Which modes take nodes, as the kernel's own parser has it. */
static bool options_mpol_fits(const struct options_mpol *mpol, const char *nodes)
{
	switch (mpol->mode) {
	case MPOL_IS_BIND:
		return nodes != NULL;
	case MPOL_IS_PREFER: /* one node, or none: then it is local */
		return nodes == NULL || nodes[strspn(nodes, "0123456789")] == '\0';
	case MPOL_IS_INTERLEAVE:
		return true;
	default:
		return nodes == NULL && !mpol->is_static && !mpol->is_relative;
	}
}

int options_mpol(struct options_parser *p, const char *value)
{
	struct options_mpol mpol = { 0 };
	const char *colon = strchr(value, ':');
	const char *nodes = colon != NULL ? colon + 1 : NULL;
	size_t len = colon != NULL ? (size_t)(colon - value) : strlen(value);

	if (options_mpol_mode(&mpol, value, len) != 0 || (nodes != NULL && options_nodes(&mpol, nodes) != 0) ||
	    !options_mpol_fits(&mpol, nodes))
		return options_fail(p, "'mpol=%s' is not default, local, prefer:NODE, bind:NODES or interleave[:NODES]",
				    value);
	if (mpol.mode == MPOL_IS_PREFER && nodes == NULL)
		mpol.mode = MPOL_IS_LOCAL;
	mpol.all_nodes = mpol.mode == MPOL_IS_INTERLEAVE && nodes == NULL;
	p->opt->mpol = mpol;
	p->opt->given |= OPTIONS_MPOL;
	return 0;
}
