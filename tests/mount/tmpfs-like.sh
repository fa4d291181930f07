#!/bin/bash
# SPDX-License-Identifier: MIT
# Times, privileges, handles and the rest of what tmpfs offers are as on tmpfs, where the same programs run first.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

programs=(timestest privtest handletest misctest)
expect_of_tmpfs "${programs[@]}"
for cache in kernel none; do
	mount_spillfs mnt "ram=64m,swapsize=256m,nr_inodes=200000,cache=$cache"
	rc=0
	for program in "${programs[@]}"; do
		echo "--- $program, cache=$cache"
		"$HELPERS/$program" "$PWD/mnt" || rc=1
	done
	[ $rc = 0 ] || fail "cache=$cache: see above"
	rm -r mnt/*
	expect_empty mnt
	assert_eq "inodes in use when all is removed" 1 "$(status mnt inodes_used)"
	unmount mnt
done
