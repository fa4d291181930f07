#!/bin/bash
# SPDX-License-Identifier: MIT
# Each way to fill a mount ends in ENOSPC; df is right; a full mount still reads, renames, truncates and deletes; room is back at once.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

SIZE_MIB=${SIZE_MIB:-64}
size=$((SIZE_MIB << 20))

free_blocks_are() # WHAT BYTES
{
	assert_eq "cache=$cache, $1: blocks and free blocks in df" "$((size / 4096)) $(($2 / 4096))" "$(stat -f -c '%b %a' mnt)"
}

fill() # METHOD BLOCK
{
	local accepted
	accepted=$("$HELPERS/enospc" fill "$1" "$2" 1 mnt) || fail "cache=$cache, $1"
	[ ! -e mnt/source ] || accepted=$((accepted + (1 << 20)))
	assert_eq "cache=$cache, $1: bytes that fit" $size "$accepted"
	"$HELPERS/enospc" verify mnt || fail "cache=$cache, $1: accepted data is lost"
	free_blocks_are "$1" 0
}

# Inodes, with the words in the log that tell which limit it was.
inodes()
{
	local made
	mkdir mnt/many
	made=$("$HELPERS/enospc" inodes mnt/many) || fail "not ENOSPC"
	assert_eq "files below a directory with nr_inodes=2000" 1998 "$made"
	assert_eq "df -i" "2000 0" "$(stat -f -c '%c %d' mnt)"
	assert_eq "log lines that say so" 1 "$(grep -c 'inodes ran out' daemon.log)"
	echo data >mnt/many/7 || fail "no inode left is no reason to refuse data"
	rm mnt/many/8
	: >mnt/many/again || fail "no inode is free right after rm"
	rm -r mnt/many
	assert_eq "df -i when empty" "2000 1999" "$(stat -f -c '%c %d' mnt)"
}

for cache in kernel none; do
	: >daemon.log
	mount_spillfs mnt "ram=16m,swapsize=128m,size=$size,nr_inodes=2000,cache=$cache"
	free_blocks_are "empty" $size
	inodes
	for method in write pwrite append direct copy fallocate; do
		fill $method 131072
		rm mnt/*
		expect_empty mnt
		free_blocks_are "empty again" $size
	done
	fill rdwr 1048576
	"$HELPERS/enospc" full mnt || fail "cache=$cache: a full mount"
	expect_empty mnt
	free_blocks_are "empty at last" $size
	expect_swapped mnt 4096
	unmount mnt
done
