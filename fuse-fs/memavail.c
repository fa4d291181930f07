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

/* The number after "key " in a file of such lines; or, with an empty key, the file's first number. */
static bool memavail_read(const char *dir, const char *name, const char *key, uint64_t *value)
{
	char path[PATH_MAX];
	char line[256];
	bool found = false;
	FILE *f = NULL;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return false;
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), f) != NULL) {
		size_t n = strlen(key);

		if (strncmp(line, key, n) == 0)
			found = sscanf(line + n, "%*[: ]%" SCNu64, value) == 1 ||
				sscanf(line + n, "%" SCNu64, value) == 1;
	}
	fclose(f);
	return found;
}

/* A number that is taken off used, as far as that goes. */
static void memavail_deduct(const char *dir, const char *key, uint64_t *used)
{
	uint64_t n = 0;

	if (memavail_read(dir, "memory.stat", key, &n))
		*used -= n < *used ? n : *used;
}

/*
 * What one cgroup's own limit leaves; UINT64_MAX without one ("max", or v1's huge number).  Cold page cache is charged,
 * yet goes as soon as somebody wants the memory.  With all_cache also warm page cache, as it goes before anybody is
 * killed; but not what is dirty or being written, as it may be our own mount's and wait for us.
 */
static void memavail_level(const char *dir, bool v2, bool all_cache, struct options_room *here)
{
	uint64_t used = 0, all = 0, writeback = 0, *limit = &here->limit;

	*here = (struct options_room){ .room = UINT64_MAX };
	if (!memavail_read(dir, v2 ? "memory.max" : "memory.limit_in_bytes", "", limit) || *limit >= INT64_MAX / 2)
		return;
	memavail_read(dir, v2 ? "memory.current" : "memory.usage_in_bytes", "", &used);
	all = used;
	memavail_deduct(dir, v2 ? "inactive_file " : "total_inactive_file ", &used);
	if (all_cache) {
		memavail_deduct(dir, v2 ? "active_file " : "total_active_file ", &used);
		memavail_read(dir, "memory.stat", v2 ? "file_dirty " : "total_dirty ", &here->dirty);
		memavail_read(dir, "memory.stat", v2 ? "file_writeback " : "total_writeback ", &writeback);
		here->dirty += writeback;
		used = used + here->dirty < all ? used + here->dirty : all;
	}
	here->room = *limit > used ? *limit - used : 0;
}

/* Whichever of dir and the groups above it leaves the least. */
static void memavail_levels(const char *dir, const char *top, bool v2, bool all_cache, struct options_room *least)
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

uint64_t options_cgroup_available(const char *dir, const char *top, bool v2)
{
	struct options_room least;

	memavail_levels(dir, top, v2, false, &least);
	return least.room;
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

static void memavail_least(const char *dir, const char *top, bool v2, void *ctx)
{
	uint64_t *least = ctx, here = options_cgroup_available(dir, top, v2);

	if (here < *least)
		*least = here;
}

static uint64_t memavail_cgroups(void)
{
	uint64_t least = UINT64_MAX;

	options_cgroups(memavail_least, &least);
	return least;
}

static void memavail_least_room(const char *dir, const char *top, bool v2, void *ctx)
{
	struct options_room *least = ctx, here;

	memavail_levels(dir, top, v2, true, &here);
	if (here.room < least->room)
		*least = here;
}

void options_cgroup_room(struct options_room *room)
{
	*room = (struct options_room){ .room = UINT64_MAX };
	options_cgroups(memavail_least_room, room);
}

uint64_t options_memory_available(void)
{
	uint64_t kib = 0;
	uint64_t machine = 0;
	uint64_t groups = memavail_cgroups();

	if (memavail_read("/proc", "meminfo", "MemAvailable", &kib))
		machine = kib << 10;
	else
		machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	return groups < machine ? groups : machine;
}
