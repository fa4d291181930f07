/* SPDX-License-Identifier: MIT */
/*
 * memavail.c: how much memory this process may take: MemAvailable of the machine, or what the memory cgroups
 * above it (v1 or v2, each level up to the top that is visible) leave.  Owns nothing and needs no lock.  Called
 * by options.c for the default of ram=, by window.c, and by pressure.c for the room in the cgroups.
 */
#include "fuse-fs/mountinfo.h"
#include "fuse-fs/options.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* More ways to our memory cgroups than so many are not looked at. */
#define MEMAVAIL_GROUPS 8

/* A line "key number" of a file, or, with an empty key, the file's first number; value stays where there is none. */
struct memavail_number {
	const char *key;
	uint64_t value;
	bool found;
};

/* Looks for all of n numbers in one pass; were all found? */
static bool memavail_read(const char *dir, const char *name, struct memavail_number *numbers, size_t n)
{
	char path[PATH_MAX];
	char line[256];
	size_t found = 0;
	FILE *f = NULL;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return false;
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	while (found < n && fgets(line, sizeof(line), f) != NULL) {
		for (size_t i = 0; i < n; i++) {
			const size_t len = strlen(numbers[i].key);

			if (numbers[i].found || strncmp(line, numbers[i].key, len) != 0)
				continue;
			numbers[i].found = sscanf(line + len, "%*[: ]%" SCNu64, &numbers[i].value) == 1 ||
					   sscanf(line + len, "%" SCNu64, &numbers[i].value) == 1;
			found += numbers[i].found;
		}
	}
	fclose(f);
	return found == n;
}

/* The one number of a file that holds no more. */
static bool memavail_read_only(const char *dir, const char *name, uint64_t *value)
{
	struct memavail_number number = { .key = "" };

	if (!memavail_read(dir, name, &number, 1))
		return false;
	*value = number.value;
	return true;
}

static uint64_t memavail_less(uint64_t from, uint64_t what)
{
	return what < from ? from - what : 0;
}

/*
 * What one cgroup's own limit leaves; UINT64_MAX without one ("max", or v1's huge number).  Cold page cache is charged,
 * yet goes as soon as somebody wants the memory.  With all_cache also warm page cache, as it goes before anybody is
 * killed; but not what is dirty or being written, as it may be our own mount's and wait for us.
 */
static void memavail_level(const char *dir, bool v2, bool all_cache, struct options_room *here)
{
	struct memavail_number stat[] = {
		{ .key = v2 ? "inactive_file " : "total_inactive_file " },
		{ .key = v2 ? "active_file " : "total_active_file " },
		{ .key = v2 ? "file_dirty " : "total_dirty " },
		{ .key = v2 ? "file_writeback " : "total_writeback " },
	};
	uint64_t used = 0, unclean;

	*here = (struct options_room){ .room = UINT64_MAX };
	if (!memavail_read_only(dir, v2 ? "memory.max" : "memory.limit_in_bytes", &here->limit) ||
	    here->limit >= INT64_MAX / 2)
		return;
	memavail_read_only(dir, v2 ? "memory.current" : "memory.usage_in_bytes", &used);
	memavail_read(dir, "memory.stat", stat, all_cache ? 4 : 1);
	if (all_cache) {
		here->dirty = stat[2].value + stat[3].value;
		unclean = memavail_less(used, stat[0].value + stat[1].value) + here->dirty;
		used = unclean < used ? unclean : used;
	} else {
		used = memavail_less(used, stat[0].value);
	}
	here->room = memavail_less(here->limit, used);
}

void options_cgroup_levels(const char *dir, const char *top, bool v2, bool all_cache, struct options_room *least)
{
	char path[PATH_MAX];
	size_t top_len = strlen(top);

	*least = (struct options_room){ .room = UINT64_MAX };
	if (snprintf(path, sizeof(path), "%s", dir) >= (int)sizeof(path))
		return;
	while (strlen(path) >= top_len) {
		char *slash = strrchr(path, '/');
		struct options_room here;

		memavail_level(path, v2, all_cache, &here);
		if (here.room < least->room)
			*least = here;
		if (slash == NULL || slash == path)
			break;
		*slash = '\0';
	}
}

/* One line of /proc/self/cgroup, while the mounts are looked through for it. */
struct memavail_hierarchy {
	bool v2;
	char group[PATH_MAX]; /* as that file names it */
	void (*visit)(const char *dir, const char *top, bool v2, void *ctx);
	void *ctx;
};

/* A cgroup mount: finds our group below it. */
static int memavail_mount(const struct mountinfo *mi, void *ctx)
{
	const struct memavail_hierarchy *h = ctx;
	const char *group = h->group;
	size_t root_len = strcmp(mi->root, "/") == 0 ? 0 : strlen(mi->root);
	char dir[PATH_MAX];

	if (strcmp(mi->type, h->v2 ? "cgroup2" : "cgroup") != 0)
		return 0;
	if (!h->v2 && strstr(mi->super_options, "memory") == NULL)
		return 0;
	/* In a container the mount often begins at our own group, or our group lies outside of what is visible. */
	if (strncmp(group, mi->root, root_len) == 0)
		group += root_len;
	else
		group = "";
	if (strcmp(group, "/") == 0)
		group = "";
	if (snprintf(dir, sizeof(dir), "%s%s", mi->mountpoint, group) >= (int)sizeof(dir))
		return 0;
	h->visit(access(dir, F_OK) == 0 ? dir : mi->mountpoint, mi->mountpoint, h->v2, h->ctx);
	return 0;
}

/* hierarchy:controllers:path; v2 is hierarchy 0 without controllers. */
void options_cgroups(void (*visit)(const char *dir, const char *top, bool v2, void *ctx), void *ctx)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[PATH_MAX + 256];

	if (f == NULL)
		return;
	while (fgets(line, sizeof(line), f) != NULL) {
		struct memavail_hierarchy h = { .visit = visit, .ctx = ctx };
		char *controllers = strchr(line, ':');
		char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;

		if (path == NULL)
			continue;
		*path++ = '\0';
		controllers++;
		h.v2 = *controllers == '\0';
		if (!h.v2 && strstr(controllers, "memory") == NULL)
			continue;
		path[strcspn(path, "\n")] = '\0';
		snprintf(h.group, sizeof(h.group), "%.*s", (int)sizeof(h.group) - 1, path);
		mountinfo_each(memavail_mount, &h);
	}
	fclose(f);
}

/* --- the groups of this process -------------------------------------------------------------------------------------- */

/* A memory cgroup of this process: its directory, and where its hierarchy is mounted. */
struct memavail_group {
	char *dir, *top;
	bool v2;
};

struct options_groups {
	struct memavail_group group[MEMAVAIL_GROUPS];
	unsigned n;
	const char *except;
};

static bool memavail_is_below(const char *path, const char *dir)
{
	const size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static void memavail_find(const char *dir, const char *top, bool v2, void *ctx)
{
	struct options_groups *groups = ctx;
	struct memavail_group group = { .v2 = v2 };

	if (groups->n == MEMAVAIL_GROUPS || (groups->except != NULL && memavail_is_below(top, groups->except)))
		return;
	group.dir = strdup(dir);
	group.top = strdup(top);
	if (group.dir != NULL && group.top != NULL) {
		groups->group[groups->n++] = group;
	} else {
		free(group.dir);
		free(group.top);
	}
}

struct options_groups *options_groups_find(const char *except)
{
	struct options_groups *groups = calloc(1, sizeof(*groups));

	if (groups == NULL)
		return NULL;
	groups->except = except;
	options_cgroups(memavail_find, groups);
	groups->except = NULL;
	return groups;
}

void options_groups_free(struct options_groups *groups)
{
	for (unsigned i = 0; groups != NULL && i < groups->n; i++) {
		free(groups->group[i].dir);
		free(groups->group[i].top);
	}
	free(groups);
}

void options_groups_room(const struct options_groups *groups, bool all_cache, struct options_room *least)
{
	*least = (struct options_room){ .room = UINT64_MAX };
	for (unsigned i = 0; i < groups->n; i++) {
		const struct memavail_group *group = &groups->group[i];
		struct options_room here;

		options_cgroup_levels(group->dir, group->top, group->v2, all_cache, &here);
		if (here.room < least->room)
			*least = here;
	}
}

uint64_t options_memory_available(const struct options_groups *groups)
{
	struct memavail_number available = { .key = "MemAvailable" };
	struct options_groups *found = groups == NULL ? options_groups_find(NULL) : NULL;
	struct options_room room = { .room = UINT64_MAX };
	uint64_t machine = 0;

	if (memavail_read("/proc", "meminfo", &available, 1))
		machine = available.value << 10;
	else
		machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	if (groups != NULL || found != NULL)
		options_groups_room(groups != NULL ? groups : found, false, &room);
	options_groups_free(found);
	return room.room < machine ? room.room : machine;
}
