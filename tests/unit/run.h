/* SPDX-License-Identifier: MIT */
/*
 * run.h: the end of every unit test's main(): runs the suite, as loudly as CK_VERBOSITY says.
 */
#ifndef TESTS_UNIT_RUN_H
#define TESTS_UNIT_RUN_H

#include <check.h>
#include <stdlib.h>

/* fork: CK_FORK_GETENV for check's own choice (a process for each test), CK_NOFORK for one.  main()'s exit status. */
static inline int run_suite(Suite *suite, enum fork_status fork)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_set_fork_status(runner, fork);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
