#!/bin/bash
# SPDX-License-Identifier: MIT
# Times, privileges, handles and the rest of what tmpfs offers are as on tmpfs, where the same programs run first.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

programs=(timestest privtest handletest misctest)
expect_of_tmpfs "${programs[@]}"
run_in_both_modes ram=64m,swapsize=256m,nr_inodes=200000 "${programs[@]}"
