/* SPDX-License-Identifier: MIT */
/*
 * spillctl_status: the verb "status": prints what a mount holds and has done, for a person or, with --json, for a
 * program.  Owns the names of the JSON members and of the requests; no locks.  Called by main().
 */
#include "tools/spillctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_BYTES 4096

/* clang-format off */
#define OPCODE(name) [FUSE_##name] = #name

/* Numbers stand where a kernel header that we still build with does not know the name. */
static const char *const opcode_names[SPILLFS_CTL_OPCODES] = {
	[0] = "OTHER",
	OPCODE(LOOKUP),
	OPCODE(FORGET),
	OPCODE(GETATTR),
	OPCODE(SETATTR),
	OPCODE(READLINK),
	OPCODE(SYMLINK),
	OPCODE(MKNOD),
	OPCODE(MKDIR),
	OPCODE(UNLINK),
	OPCODE(RMDIR),
	OPCODE(RENAME),
	OPCODE(LINK),
	OPCODE(OPEN),
	OPCODE(READ),
	OPCODE(WRITE),
	OPCODE(STATFS),
	OPCODE(RELEASE),
	OPCODE(FSYNC),
	OPCODE(SETXATTR),
	OPCODE(GETXATTR),
	OPCODE(LISTXATTR),
	OPCODE(REMOVEXATTR),
	OPCODE(FLUSH),
	OPCODE(INIT),
	OPCODE(OPENDIR),
	OPCODE(READDIR),
	OPCODE(RELEASEDIR),
	OPCODE(FSYNCDIR),
	OPCODE(GETLK),
	OPCODE(SETLK),
	OPCODE(SETLKW),
	OPCODE(ACCESS),
	OPCODE(CREATE),
	OPCODE(INTERRUPT),
	OPCODE(BMAP),
	OPCODE(DESTROY),
	OPCODE(IOCTL),
	OPCODE(POLL),
	OPCODE(NOTIFY_REPLY),
	OPCODE(BATCH_FORGET),
	OPCODE(FALLOCATE),
	OPCODE(READDIRPLUS),
	OPCODE(RENAME2),
	OPCODE(LSEEK),
	OPCODE(COPY_FILE_RANGE),
	OPCODE(SETUPMAPPING),
	OPCODE(REMOVEMAPPING),
	OPCODE(SYNCFS),
	[51] = "TMPFILE",
	[52] = "STATX",
	[53] = "COPY_FILE_RANGE_64",
};
/* clang-format on */

struct status_field {
	const char *name;
	size_t offset;
};

/* clang-format off */
#define FIELD(name) { #name, offsetof(struct spillfs_status, name) }

/* The 64-bit members, in the order of the JSON object; io_engine, cache and requests_total follow them. */
static const struct status_field status_fields[] = {
	FIELD(size_limit_bytes),
	FIELD(size_used_bytes),
	FIELD(ram_limit_bytes),
	FIELD(ram_used_bytes),
	FIELD(frames_used_bytes),
	FIELD(swap_limit_bytes),
	FIELD(swap_used_bytes),
	FIELD(swap_bad_bytes),
	FIELD(inodes_limit),
	FIELD(inodes_used),
	FIELD(swapin_pages_total),
	FIELD(swapout_pages_total),
	FIELD(swapin_errors_total),
	FIELD(swapout_errors_total),
	FIELD(checksum_errors_total),
	FIELD(zero_pages_total),
	FIELD(clean_evictions_total),
	FIELD(readthrough_pages_total),
	FIELD(writearound_pages_total),
	FIELD(bookkeeping_bytes),
	FIELD(pinned_bytes),
	FIELD(pinned_limit_bytes),
	FIELD(reserved_bytes),
};
/* clang-format on */

#define STATUS_NFIELDS (sizeof(status_fields) / sizeof(status_fields[0]))

/* A 64-bit member that the table above forgets would be missing from the JSON: let the compiler notice. */
_Static_assert(offsetof(struct spillfs_status, size_limit_bytes) + STATUS_NFIELDS * sizeof(uint64_t) ==
		       offsetof(struct spillfs_status, requests_total),
	       "status_fields lists every 64-bit member of struct spillfs_status");

static uint64_t field_value(const struct spillfs_status *st, const struct status_field *field)
{
	uint64_t value;

	memcpy(&value, (const char *)st + field->offset, sizeof(value));
	return value;
}

static const char *swap_state_name(uint32_t state)
{
	switch (state) {
	case SPILLFS_SWAP_NONE:
		return "none";
	case SPILLFS_SWAP_GOOD:
		return "good";
	case SPILLFS_SWAP_FAILING:
		return "failing";
	default:
		return "unknown";
	}
}

static const char *engine_name(uint32_t engine)
{
	switch (engine) {
	case SPILLFS_ENGINE_NONE:
		return "none";
	case SPILLFS_ENGINE_URING:
		return "io_uring";
	case SPILLFS_ENGINE_THREADS:
		return "threads";
	default:
		return "unknown";
	}
}

static const char *atime_name(uint32_t atime)
{
	switch (atime) {
	case SPILLFS_ATIME_RELATIVE:
		return "relatime";
	case SPILLFS_ATIME_NEVER:
		return "noatime";
	case SPILLFS_ATIME_STRICT:
		return "strictatime";
	default:
		return "unknown";
	}
}

static const char *huge_name(uint32_t huge)
{
	switch (huge) {
	case SPILLFS_HUGE_NEVER:
		return "never";
	case SPILLFS_HUGE_ALWAYS:
		return "always";
	case SPILLFS_HUGE_WITHIN_SIZE:
		return "within_size";
	case SPILLFS_HUGE_ADVISE:
		return "advise";
	default:
		return "unknown";
	}
}

static const char *cache_name(uint32_t cache)
{
	switch (cache) {
	case SPILLFS_CACHE_KERNEL:
		return "kernel";
	case SPILLFS_CACHE_NONE:
		return "none";
	default:
		return "unknown";
	}
}

/* The opcode's name; one that has none yet gets its number, written into buf. */
static const char *opcode_name(unsigned opcode, char *buf, size_t len)
{
	if (opcode_names[opcode])
		return opcode_names[opcode];
	snprintf(buf, len, "OPCODE_%u", opcode);
	return buf;
}

/* JSON's integers are signed here; no count gets near the difference, a limit "without end" may. */
static json_t *json_u64(uint64_t value)
{
	return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

static json_t *requests_to_json(const struct spillfs_status *st)
{
	json_t *requests = json_object();
	char buf[32];

	for (unsigned i = 0; i < SPILLFS_CTL_OPCODES; i++)
		if (st->requests_total[i] != 0)
			json_object_set_new(requests, opcode_name(i, buf, sizeof(buf)),
					    json_u64(st->requests_total[i]));
	return requests;
}

/* A path that is not UTF-8 cannot be said in JSON.  NULL: no memory, or *err says why the mount did not answer. */
static json_t *areas_to_json(const char *path, int *err)
{
	json_t *areas = json_array();
	int fd = spillctl_open(path);
	struct spillfs_area a;

	*err = fd < 0 ? fd : 0;
	for (unsigned from = 0; !*err; from = a.area + 1) {
		*err = spillctl_area_next(fd, from, &a);
		if (!*err && json_array_append_new(areas, json_pack("{si so* ss ss si sI sI sI}", "area", (int)a.area,
								   "path", json_string(a.path), "type", spillctl_area_kind(&a),
								   "state", spillctl_area_state(&a), "priority",
								   (int)a.priority, "size_bytes", (json_int_t)a.size_bytes,
								   "used_bytes", (json_int_t)a.used_bytes, "bad_bytes",
								   (json_int_t)a.bad_bytes)) != 0)
			*err = -ENOMEM;
	}
	if (fd >= 0)
		close(fd);
	if (*err == -ENOENT) { /* after the last */
		*err = 0;
		return areas;
	}
	json_decref(areas);
	return NULL;
}

static int print_json(const char *path, const struct spillfs_status *st)
{
	json_t *object = json_object();
	int err;

	json_object_set_new(object, "version", json_integer(st->version));
	json_object_set_new(object, "pid", json_integer(st->pid));
	json_object_set_new(object, "io_engine", json_string(engine_name(st->io_engine)));
	json_object_set_new(object, "swap_state", json_string(swap_state_name(st->swap_state)));
	json_object_set_new(object, "cache", json_string(cache_name(st->cache_mode)));
	for (size_t i = 0; i < STATUS_NFIELDS; i++)
		json_object_set_new(object, status_fields[i].name, json_u64(field_value(st, &status_fields[i])));
	json_object_set_new(object, "atime", json_string(atime_name(st->atime)));
	json_object_set_new(object, "nodiratime", json_boolean(st->nodiratime != 0));
	json_object_set_new(object, "inode_bits", json_integer(st->inode_bits));
	json_object_set_new(object, "huge", json_string(huge_name(st->huge)));
	json_object_set_new(object, "swap_areas", areas_to_json(path, &err));
	json_object_set_new(object, "requests_total", requests_to_json(st));

	/* A member that could not be allocated is missing: say so rather than print part of the truth. */
	if (json_object_size(object) != STATUS_NFIELDS + 11) {
		json_decref(object);
		return err ? err : -ENOMEM;
	}
	(void)!json_dumpf(object, stdout, JSON_INDENT(2)); /* what stdout did not take, spillctl_flush() says */
	putchar('\n');
	json_decref(object);
	return 0;
}

static const char *human_count(uint64_t count, char *buf, size_t len)
{
	snprintf(buf, len, "%" PRIu64, count);
	return buf;
}

/* One row of used / limit / percent; a limit of 0 is shown as text instead. */
static void print_usage_row(const char *name, uint64_t used, uint64_t limit, const char *no_limit,
			    const char *(*format)(uint64_t, char *, size_t))
{
	char used_buf[32], limit_buf[32];

	printf("%-9s %12s", name, format(used, used_buf, sizeof(used_buf)));
	if (limit == 0)
		printf(" %12s\n", no_limit);
	else
		printf(" %12s %5.0f %%\n", format(limit, limit_buf, sizeof(limit_buf)),
		       100.0 * (double)used / (double)limit);
}

static void print_pages_row(const char *name, uint64_t pages)
{
	char buf[32];

	printf("%-15s %12" PRIu64 " pages  %10s\n", name, pages,
	       spillctl_human_bytes(pages * PAGE_BYTES, buf, sizeof(buf)));
}

struct request_count {
	unsigned opcode;
	uint64_t count;
};

/* Most frequent first; equal counts in the order of their opcodes, so that the output is stable. */
static int request_count_cmp(const void *a, const void *b)
{
	const struct request_count *x = a, *y = b;

	if (x->count != y->count)
		return x->count < y->count ? 1 : -1;
	return x->opcode < y->opcode ? -1 : x->opcode > y->opcode;
}

static void print_requests(const struct spillfs_status *st)
{
	struct request_count counts[SPILLFS_CTL_OPCODES];
	size_t n = 0;
	char buf[32];

	for (unsigned i = 0; i < SPILLFS_CTL_OPCODES; i++)
		if (st->requests_total[i] != 0)
			counts[n++] = (struct request_count){ i, st->requests_total[i] };
	if (n == 0)
		return;
	qsort(counts, n, sizeof(counts[0]), request_count_cmp);
	printf("\n%-15s %12s\n", "requests", "count");
	for (size_t i = 0; i < n; i++)
		printf("%-15s %12" PRIu64 "\n", opcode_name(counts[i].opcode, buf, sizeof(buf)), counts[i].count);
}

static void print_human(const char *path, const struct spillfs_status *st)
{
	char buf[32];

	printf("%s: spillfs, cache=%s, swap I/O by %s, daemon pid %" PRIu32 "\n\n", path, cache_name(st->cache_mode),
	       engine_name(st->io_engine), st->pid);

	printf("%-9s %12s %12s\n", "", "used", "limit");
	print_usage_row("size", st->size_used_bytes, st->size_limit_bytes, "none", spillctl_human_bytes);
	print_usage_row("ram", st->ram_used_bytes, st->ram_limit_bytes, "none", spillctl_human_bytes);
	print_usage_row("  frames", st->frames_used_bytes, st->ram_limit_bytes, "none", spillctl_human_bytes);
	print_usage_row("  pinned", st->pinned_bytes, st->pinned_limit_bytes, "none", spillctl_human_bytes);
	print_usage_row("swap", st->swap_used_bytes, st->swap_limit_bytes, "no swap", spillctl_human_bytes);
	print_usage_row("inodes", st->inodes_used, st->inodes_limit, "none", human_count);

	putchar('\n');
	print_pages_row("swapped out", st->swapout_pages_total);
	print_pages_row("  write-around", st->writearound_pages_total);
	print_pages_row("swapped in", st->swapin_pages_total);
	print_pages_row("  read through", st->readthrough_pages_total);
	print_pages_row("dropped clean", st->clean_evictions_total);
	print_pages_row("all zero", st->zero_pages_total);

	printf("\n%-15s swap-in %" PRIu64 ", swap-out %" PRIu64 ", checksum %" PRIu64 "\n", "errors",
	       st->swapin_errors_total, st->swapout_errors_total, st->checksum_errors_total);
	printf("%-15s %s\n", "unusable swap", spillctl_human_bytes(st->swap_bad_bytes, buf, sizeof(buf)));
	if (st->swap_state == SPILLFS_SWAP_FAILING)
		printf("%-15s %s\n", "swap disk", "failing: it gets no pages, and is tried again now and then");
	print_requests(st);
}

static enum exit_code status_show(const char *path, bool json)
{
	struct spillfs_status st;
	int err = spillctl_fetch_status(path, &st);

	if (!err && json)
		err = print_json(path, &st);
	else if (!err)
		print_human(path, &st);
	if (err) {
		spillctl_complain(path, err);
		return EXIT_FAILED;
	}
	return spillctl_flush();
}

enum exit_code spillctl_status(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool json = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "jh", options, NULL)) != -1) {
		switch (opt) {
		case 'j':
			json = true;
			break;
		case 'h':
			return spillctl_help();
		default:
			return spillctl_bad_option(argv);
		}
	}
	if (optind == argc)
		return spillctl_bad_usage("status: no mountpoint given", NULL);
	if (optind + 1 < argc)
		return spillctl_bad_usage("status: more than one mountpoint", argv[optind + 1]);
	return status_show(argv[optind], json);
}
