#!/bin/bash
# SPDX-License-Identifier: MIT
# Names, permissions, times, links, directories, holes, extended attributes and locks behave as POSIX and tmpfs have it.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

for cache in kernel none; do
	mount_spillfs mnt "ram=64m,swapsize=256m,size=256m,nr_inodes=100000,cache=$cache"
	assert_eq "mode of the root directory" 1777 "$(stat -c %a mnt)"
	rc=0
	for program in posixtest dirtest holestest xattrtest locktest; do
		echo "--- $program, cache=$cache"
		"$HELPERS/$program" "$PWD/mnt" || rc=1
	done
	[ $rc = 0 ] || fail "cache=$cache: see above"
	rm -r mnt/*
	expect_empty mnt
	assert_eq "inodes in use when all is removed" 1 "$(status mnt inodes_used)"
	unmount mnt
done
