#!/bin/bash
# SPDX-License-Identifier: MIT
# What chattr sets is kept, shown, inherited and obeyed as on tmpfs.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
need chattr lsattr

expect_of_tmpfs flagstest

# chattr and lsattr themselves, and what a user of them sees.
session() # DIR
{
	(
		cd "$1"
		mkdir d
		echo x >d/f
		chattr +A +d d
		echo x >d/g
		chattr +i d/f
		! rm -f d/f 2>/dev/null || fail "rm removes an immutable file"
		lsattr d/f d/g | cut -c1-22
		lsattr -d d | cut -c1-22
		chattr -i d/f
		chattr +a d/f
		echo y >>d/f
		! echo z 2>/dev/null >d/f || fail "an append-only file is truncated"
		cat d/f
		chattr -a d/f
	)
}

if mount_tmpfs reference; then
	session reference >expected
fi
for cache in kernel none; do
	mount_spillfs mnt "ram=64m,swapsize=64m,cache=$cache"
	echo "--- flagstest, cache=$cache"
	"$HELPERS/flagstest" "$PWD/mnt" || fail "cache=$cache: see above"
	mkdir mnt/session
	if [ "$(id -u)" = 0 ]; then
		session mnt/session >got
		[ ! -f expected ] || diff expected got || fail "cache=$cache: other than tmpfs (<)"
	fi
	if [ $cache = none ]; then
		: >mnt/f
		before=$(stat -c %z mnt/f)
		sleep 0.05
		chattr +d mnt/f
		[ "$(stat -c %z mnt/f)" != "$before" ] || fail "chattr does not change a file's ctime"
	fi
	rm -r mnt/*
	expect_empty mnt
	assert_eq "inodes in use when all is removed" 1 "$(status mnt inodes_used)"
	unmount mnt
done
