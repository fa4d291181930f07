/* SPDX-License-Identifier: MIT */
/*
 * spillctl_swap: the verbs swapon and swapoff, and the list of swap areas that "status" shows too.  swapoff goes on
 * until the daemon says that the area is closed; an interrupt stops it, and the area stays in use.  One thread, no
 * locks; the flag that SIGINT and SIGTERM set is all that outlives a function.
 */
#include "tools/spillctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PRIORITY_MAX 32767

static volatile sig_atomic_t swap_interrupted;

/* --- the list --------------------------------------------------------------------------------------------------- */

int spillctl_area_next(int fd, unsigned from, struct spillfs_area *area)
{
	memset(area, 0, sizeof(*area));
	area->version = SPILLFS_CTL_VERSION;
	area->area = from;
	if (ioctl(fd, SPILLFS_IOC_AREA, area) != 0)
		return -errno;
	area->path[sizeof(area->path) - 1] = '\0';
	return area->version == SPILLFS_CTL_VERSION ? 0 : -EPROTO;
}

const char *spillctl_area_kind(const struct spillfs_area *area)
{
	static const char *const kinds[] = { "directory", "file", "device" };

	return area->kind < sizeof(kinds) / sizeof(kinds[0]) ? kinds[area->kind] : "unknown";
}

const char *spillctl_area_state(const struct spillfs_area *area)
{
	static const char *const states[] = { "in-use", "sick", "leaving" };

	return area->state < sizeof(states) / sizeof(states[0]) ? states[area->state] : "unknown";
}

static enum exit_code swap_show(const char *mountpoint)
{
	int fd = spillctl_open(mountpoint), err = fd;
	struct spillfs_area area;
	unsigned n = 0;

	for (unsigned from = 0; err >= 0; from = area.area + 1) {
		char size[32], used[32];

		err = spillctl_area_next(fd, from, &area);
		if (err < 0)
			break;
		if (n++ == 0)
			printf("%-31s %-9s %10s %10s %5s %4s %s\n", "NAME", "TYPE", "SIZE", "USED", "PRIO", "AREA",
			       "STATE");
		printf("%-31s %-9s %10s %10s %5" PRId32 " %4" PRIu32 " %s\n", area.path, spillctl_area_kind(&area),
		       spillctl_human_bytes(area.size_bytes, size, sizeof(size)),
		       spillctl_human_bytes(area.used_bytes, used, sizeof(used)), area.priority, area.area,
		       spillctl_area_state(&area));
	}
	if (fd >= 0)
		close(fd);
	if (err != -ENOENT || fd < 0) {
		spillctl_complain(mountpoint, err);
		return EXIT_FAILED;
	}
	return spillctl_flush();
}

/* --- what may go wrong -------------------------------------------------------------------------------------------- */

static enum exit_code swap_failed(const char *mountpoint, int err)
{
	if (err == -EPERM)
		fprintf(stderr, "spillctl: %s: only who mounted, and root, may do that\n", mountpoint);
	else
		spillctl_complain(mountpoint, err);
	return EXIT_FAILED;
}

/* --- swapon --------------------------------------------------------------------------------------------------------- */

/* A number with one of k m g t behind it, in bytes.  False: it is none. */
static bool swap_bytes(const char *text, uint64_t *bytes)
{
	static const char units[] = "kmgt";
	unsigned shift = 0;
	const char *unit;
	char *end = NULL;

	errno = 0;
	*bytes = strtoull(text, &end, 10);
	if (errno || end == text || text[0] < '0' || text[0] > '9')
		return false;
	if (*end) {
		unit = strchr(units, *end | 0x20);
		if (!unit || end[1])
			return false;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (*bytes == 0 || *bytes > UINT64_MAX >> shift)
		return false;
	*bytes <<= shift;
	return true;
}

static bool swap_priority(const char *text, int32_t *priority)
{
	char *end = NULL;
	long n = strtol(text, &end, 10);

	*priority = (int32_t)n;
	return end != text && !*end && n >= 0 && n <= PRIORITY_MAX;
}

/* path from the root on, by its name alone: what it leads to is for the daemon to see.  False: too long. */
static bool swap_absolute(const char *path, char *out, size_t len)
{
	char cwd[PATH_MAX] = "";
	int n;

	if (path[0] != '/' && !getcwd(cwd, sizeof(cwd)))
		return false;
	n = snprintf(out, len, path[0] == '/' ? "%s%s" : "%s/%s", cwd, path);
	return n >= 0 && (size_t)n < len;
}

static enum exit_code swap_on(const char *mountpoint, const char *path, int32_t priority, uint64_t bytes)
{
	struct spillfs_swapon on = { .version = SPILLFS_CTL_VERSION, .priority = priority, .size_bytes = bytes };
	int fd, err = 0;

	if (!swap_absolute(path, on.path, sizeof(on.path))) {
		fprintf(stderr, "spillctl: %s: %s\n", path, strerror(ENAMETOOLONG));
		return EXIT_FAILED;
	}
	fd = spillctl_open(mountpoint);
	if (fd < 0 || ioctl(fd, SPILLFS_IOC_SWAPON, &on) != 0)
		err = -errno;
	if (fd >= 0)
		close(fd);
	if (err)
		return swap_failed(mountpoint, err);
	on.why[sizeof(on.why) - 1] = '\0';
	if (on.error)
		fprintf(stderr, "spillctl: swapon: %s\n", on.why);
	return on.error ? EXIT_FAILED : EXIT_OK;
}

enum exit_code spillctl_swapon(int argc, char **argv)
{
	static const struct option options[] = {
		{ "show", no_argument, NULL, 's' },
		{ "priority", required_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int32_t priority = SPILLFS_PRIORITY_AUTO;
	uint64_t bytes = 0;
	bool show = false;
	int opt, n;

	while ((opt = getopt_long(argc, argv, "p:h", options, NULL)) != -1) {
		switch (opt) {
		case 's':
			show = true;
			break;
		case 'p':
			if (!swap_priority(optarg, &priority))
				return spillctl_bad_usage("swapon: priorities are 0 to 32767", optarg);
			break;
		case 'h':
			return spillctl_help();
		default:
			return spillctl_bad_option(argv);
		}
	}
	n = argc - optind;
	if (n < 1)
		return spillctl_bad_usage("swapon: no mountpoint given", NULL);
	if (show)
		return n == 1 ? swap_show(argv[optind])
			      : spillctl_bad_usage("swapon: --show takes a mountpoint alone", argv[optind + 1]);
	if (n < 2)
		return spillctl_bad_usage("swapon: no directory, file or device given", NULL);
	if (n > 3)
		return spillctl_bad_usage("swapon: too many arguments", argv[optind + 3]);
	if (n == 3 && !swap_bytes(argv[optind + 2], &bytes))
		return spillctl_bad_usage("swapon: not a size", argv[optind + 2]);
	return swap_on(argv[optind], argv[optind + 1], priority, bytes);
}

/* --- swapoff -------------------------------------------------------------------------------------------------------- */

static void swap_interrupt(int signal_number)
{
	(void)signal_number;
	swap_interrupted = 1;
}

/* The number of the area that is called so: by its number, or by the one path that is it.  -errno. */
static int swap_find(int fd, const char *name)
{
	bool by_number = name[0] && name[strspn(name, "0123456789")] == '\0';
	char absolute[SPILLFS_PATH_BYTES], real[PATH_MAX];
	unsigned from = 0, found = 0, number = 0;
	struct spillfs_area area;
	int err = 0;

	if (!swap_absolute(name, absolute, sizeof(absolute)))
		return -ENAMETOOLONG;
	if (!realpath(name, real))
		real[0] = '\0';
	for (; (err = spillctl_area_next(fd, from, &area)) == 0; from = area.area + 1) {
		if (by_number ? strtoul(name, NULL, 10) == area.area
			      : strcmp(area.path, absolute) == 0 || strcmp(area.path, real) == 0) {
			number = area.area;
			found++;
		}
	}
	if (err != -ENOENT)
		return err;
	return found == 1 ? (int)number : found ? -ENOTUNIQ : -ENOENT;
}

static int swap_off_part(int fd, struct spillfs_swapoff *off, uint32_t what)
{
	off->version = SPILLFS_CTL_VERSION;
	off->what = what;
	off->error = 0;
	if (ioctl(fd, SPILLFS_IOC_SWAPOFF, off) != 0)
		return -errno;
	off->why[sizeof(off->why) - 1] = '\0';
	return 0;
}

static void swap_off_progress(const struct spillfs_swapoff *off, bool last)
{
	char left[32];

	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%s to go%s", spillctl_human_bytes(off->left_bytes, left, sizeof(left)),
			last ? "            \n" : "     ");
}

static enum exit_code swap_off(int fd, const char *mountpoint, unsigned area)
{
	const struct sigaction action = { .sa_handler = swap_interrupt };
	struct spillfs_swapoff off = { .area = area };
	int err = 0;

	/* The daemon finishes the part it is at before a signal gets us out of the ioctl. */
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	for (uint32_t what = SPILLFS_SWAPOFF_BEGIN;; what = SPILLFS_SWAPOFF_GO_ON) {
		err = swap_off_part(fd, &off, what);
		if (err || off.error != -EAGAIN || swap_interrupted)
			break;
		swap_off_progress(&off, false);
	}
	swap_off_progress(&off, true);
	if (swap_interrupted && (err == -EINTR || (!err && off.error == -EAGAIN))) {
		err = swap_off_part(fd, &off, SPILLFS_SWAPOFF_STOP);
		fprintf(stderr, "spillctl: swapoff: interrupted; the area stays in use\n");
		return EXIT_FAILED;
	}
	if (err)
		return swap_failed(mountpoint, err);
	if (off.error)
		fprintf(stderr, "spillctl: swapoff: %s; the area stays in use\n", off.why);
	return off.error ? EXIT_FAILED : EXIT_OK;
}

enum exit_code spillctl_swapoff(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	enum exit_code code = EXIT_FAILED;
	int opt, fd, area;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h')
			return spillctl_help();
		return spillctl_bad_option(argv);
	}
	if (argc - optind < 2)
		return spillctl_bad_usage(argc == optind ? "swapoff: no mountpoint given" : "swapoff: no area given",
					  NULL);
	if (argc - optind > 2)
		return spillctl_bad_usage("swapoff: too many arguments", argv[optind + 2]);
	fd = spillctl_open(argv[optind]);
	if (fd < 0)
		return swap_failed(argv[optind], fd);
	area = swap_find(fd, argv[optind + 1]);
	if (area >= 0)
		code = swap_off(fd, argv[optind], (unsigned)area);
	else if (area == -ENOENT)
		fprintf(stderr, "spillctl: swapoff: %s is not a swap area of this mount\n", argv[optind + 1]);
	else if (area == -ENOTUNIQ)
		fprintf(stderr, "spillctl: swapoff: %s is more than one area: give its number (swapon --show)\n",
			argv[optind + 1]);
	else
		code = swap_failed(argv[optind], area);
	close(fd);
	return code;
}
