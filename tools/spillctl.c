/* SPDX-License-Identifier: MIT */
/*
 * spillctl: asks a mounted spillfs how it is, through an ioctl on a directory of the mount (fuse-fs/ctl.h).  This
 * file owns the table of verbs and the help; one thread, no locks, no state that outlives a command.  Exit status:
 * 0, 1 when the mount cannot be asked, 2 when the command line is wrong.
 */
#include "tools/spillctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	enum exit_code (*run)(int argc, char **argv);
} verbs[] = {
	{ "status", spillctl_status },
	{ "set", spillctl_set },
	{ "stat", spillctl_stat },
	{ "evict", spillctl_evict },
	{ "pin", spillctl_pin },
	{ "unpin", spillctl_unpin },
	{ "quota", spillctl_quota },
	{ "swapon", spillctl_swapon },
	{ "swapoff", spillctl_swapoff },
};

static const char usage_text[] = "Usage: spillctl status MOUNTPOINT [--json]\n"
				 "       spillctl set MOUNTPOINT OPTION[,OPTION...]\n"
				 "       spillctl stat [-r] [--json] PATH...\n"
				 "       spillctl evict|pin|unpin [-r] PATH...\n"
				 "       spillctl quota MOUNTPOINT [-u USER | -g GROUP] [--set block=N,inode=N | --json]\n"
				 "       spillctl swapon [-p PRIORITY] MOUNTPOINT PATH [SIZE]\n"
				 "       spillctl swapon --show MOUNTPOINT\n"
				 "       spillctl swapoff MOUNTPOINT PATH|AREA\n"
				 "\n"
				 "status   shows what a mounted spillfs holds in RAM and in swap, and what it has done;\n"
				 "         MOUNTPOINT may be any directory of the mount\n"
				 "set      gives a mount in use other limits: size= ram= swapsize= nr_inodes= nr_blocks=\n"
				 "         huge= mpol= inode32 inode64, all of them or none\n"
				 "stat     shows for each file what of it is in RAM, in swap, or nowhere\n"
				 "evict    sends the files' pages to swap, now\n"
				 "pin      brings the files' pages into RAM and keeps them there, later ones too\n"
				 "unpin    takes that back\n"
				 "quota    shows what users and groups have and may have, or sets the limits of one;\n"
				 "         0 is no limit\n"
				 "swapon   adds a swap area: a directory, a file or a block device; or shows all\n"
				 "swapoff  moves the pages of one to RAM and to the others, and closes it\n"
				 "\n"
				 "  -j, --json     print one JSON object\n"
				 "  -r, --recursive  PATH may be a directory: all regular files below it\n"
				 "  -p, --priority=N  of the new area, 0 to 32767: higher ones are used first\n"
				 "      --show     list the swap areas\n"
				 "  -h, --help     print this help\n"
				 "  -V, --version  print the version\n"
				 "\n"
				 "Exit status: 0 done, 1 failed, 2 wrong command line.  See spillctl(8).\n";

enum exit_code spillctl_bad_usage(const char *what, const char *arg)
{
	fprintf(stderr, "spillctl: %s%s%s (see spillctl --help)\n", what, arg ? ": " : "", arg ? arg : "");
	return EXIT_USAGE;
}

/* getopt says which letter it stumbled over, but for a long option only that it was the last one read. */
enum exit_code spillctl_bad_option(char *const *argv)
{
	char text[] = { '-', (char)optopt, '\0' };

	return spillctl_bad_usage("bad option", optopt ? text : argv[optind - 1]);
}

enum exit_code spillctl_help(void)
{
	fputs(usage_text, stdout);
	return spillctl_flush();
}

enum exit_code spillctl_flush(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_OK;
	fprintf(stderr, "spillctl: standard output: %s\n", strerror(errno));
	return EXIT_FAILED;
}

const char *spillctl_human_bytes(uint64_t bytes, char *buf, size_t len)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1024;
		unit++;
	}
	snprintf(buf, len, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
	return buf;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : NULL;

	opterr = 0; /* one way to complain, not getopt's */
	if (!verb)
		return spillctl_bad_usage("no command", NULL);
	if (strcmp(verb, "-h") == 0 || strcmp(verb, "--help") == 0)
		return spillctl_help();
	if (strcmp(verb, "-V") == 0 || strcmp(verb, "--version") == 0) {
		puts("spillctl " SPILLFS_VERSION);
		return spillctl_flush();
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verb, verbs[i].name) == 0)
			return verbs[i].run(argc - 1, argv + 1);
	return spillctl_bad_usage(verb[0] == '-' ? "bad option" : "unknown command", verb);
}
