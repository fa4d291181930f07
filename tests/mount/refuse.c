/* SPDX-License-Identifier: MIT */
/*
 * refuse: runs a program to which the kernel refuses a system call, as a container's seccomp profile does.
 *
 *    refuse SYSCALL ERRNO PROGRAM [ARG...]     ERRNO: EPERM or ENOSYS
 *
 * The refusal holds for all that the program starts.  One process; no lock.  For io-refused.sh.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int nr = argc > 3 ? seccomp_syscall_resolve_name(argv[1]) : __NR_SCMP_ERROR, err = 0;

	if (nr == __NR_SCMP_ERROR || (strcmp(argv[2], "EPERM") != 0 && strcmp(argv[2], "ENOSYS") != 0)) {
		fprintf(stderr, "usage: refuse SYSCALL EPERM|ENOSYS PROGRAM [ARG...]\n");
		return 2;
	}
	if (filter == NULL)
		err = -ENOMEM;
	if (err == 0)
		err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(argv[2][1] == 'P' ? EPERM : ENOSYS), nr, 0);
	if (err == 0)
		err = seccomp_load(filter);
	if (err != 0) {
		fprintf(stderr, "refuse %s: %s\n", argv[1], strerror(-err));
		return 1;
	}
	execv(argv[3], argv + 3);
	fprintf(stderr, "%s: %s\n", argv[3], strerror(errno));
	return 1;
}
