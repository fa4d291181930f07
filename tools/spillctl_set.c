/* SPDX-License-Identifier: MIT */
/*
 * spillctl_set: other limits and rules for a mount in use.  The list is read as -o of spillfs(8) is, by the same code;
 * the daemon does all of it or nothing (SPILLFS_IOC_SET).  Owns nothing, no locks.
 */
#include "tools/spillctl.h"

#include "fuse-fs/ask.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

/* What is settled with mount(8) or chmod(1), not here; NULL: nothing of that. */
static const char *set_elsewhere(const struct options *opt)
{
	if ((opt->ms_set | opt->ms_clear) != 0)
		return "options of mount(8) are changed by mount -o remount";
	if ((opt->given & OPTIONS_OWNER) != 0)
		return "mode=, uid= and gid= are the root directory's: use chmod(1), chown(1), chgrp(1)";
	return opt->given == 0 ? "nothing to set" : NULL;
}

static enum exit_code set_apply(const char *path, const struct options *opt)
{
	struct spillfs_set set;
	char why[256] = "";

	if (set_elsewhere(opt) != NULL)
		return spillctl_bad_usage("set", set_elsewhere(opt));
	if (ask_fill(opt, &set, why, sizeof(why)) != 0 || ask_set(path, &set, why, sizeof(why)) != 0) {
		fprintf(stderr, "spillctl: %s: %s\n", path, why);
		return EXIT_FAILED;
	}
	return EXIT_OK;
}

enum exit_code spillctl_set(int argc, char **argv)
{
	static const struct option longs[] = { { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	char remount[] = "remount", *words[] = { argv[0], "-o", remount, "-o", NULL, NULL, NULL };
	struct options opt;
	enum exit_code status;
	char why[256];
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1)
		return c == 'h' ? spillctl_help() : spillctl_bad_option(argv);
	if (argc - optind != 2)
		return spillctl_bad_usage("set: a mountpoint and a list of options are needed", NULL);
	words[4] = argv[optind + 1];
	words[5] = argv[optind];
	if (options_parse(6, words, &opt, why, sizeof(why)) != 0)
		status = spillctl_bad_usage("set", why);
	else
		status = set_apply(opt.mountpoint, &opt);
	options_free(&opt);
	return status;
}
