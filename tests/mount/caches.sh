#!/bin/bash
# SPDX-License-Identifier: MIT
# What is written back of a large file goes around a full RAM, of a small one not; readahead and requests are large.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

RAM_MIB=64 # so requests are of 512 KiB
OLD_MIB=32
NEW_MIB=$((3 * RAM_MIB))

requests() # OPCODE
{
	timeout -k 1 20 "$SPILLCTL" status mnt --json | jq -er --arg o "$1" '.requests_total[$o] // 0'
}

write_out() # PATH MIB SEED
{
	make_file "$@"
	sync "$1"
}

for cache in kernel none; do
	mount_spillfs mnt "ram=${RAM_MIB}m,swapsize=1g,cache=$cache"
	device=$(mountpoint -d mnt)
	if [ -w "/sys/class/bdi/$device/read_ahead_kb" ]; then
		assert_eq "readahead in KiB" 2048 "$(cat "/sys/class/bdi/$device/read_ahead_kb")"
	fi

	write_out mnt/old $OLD_MIB 1
	before=$(file_stat mnt/old resident_pages)
	write_out mnt/new $NEW_MIB 2
	around=$(status mnt writearound_pages_total)
	after=$(file_stat mnt/old resident_pages)
	echo "cache=$cache: $around pages went around; of the old file $before, then $after are in RAM"
	if [ $cache = kernel ]; then
		# How much besides depends on how fast the memory comes.
		assert_le "a quarter of the new file, in pages around" $((NEW_MIB * 64)) "$around"
	else
		assert_eq "pages around" 0 "$around"
	fi

	# Cold, from one end to the other: as few requests as there can be, and a few.
	drop_cache mnt/new
	reads=$(requests READ)
	cat mnt/new >/dev/null
	reads=$(($(requests READ) - reads))
	assert_le "a READ for each MiB" $NEW_MIB "$reads"
	[ $cache = none ] || assert_le "READs of $NEW_MIB MiB" "$reads" $((NEW_MIB * 2 * 3 / 2))
	is_there mnt/new $NEW_MIB 2
	is_there mnt/old $OLD_MIB 1
	expect_swapped mnt $((NEW_MIB * 128))

	# A small file has its place in RAM all the same: it may be gone before it is cold.
	write_out mnt/small 8 3
	assert_eq "pages around after a small file" "$around" "$(status mnt writearound_pages_total)"
	is_there mnt/small 8 3
	rm mnt/*
	expect_empty mnt
	unmount mnt
done
