#!/bin/bash
# SPDX-License-Identifier: MIT
# Mappings agree with each other, with read and write, end where the file ends, run programs, and survive eviction.
# sanitize: yes
# cgroup: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

for cache in kernel none; do
	RAM_MIB=16
	export RAM_MIB
	mount_spillfs mnt "ram=${RAM_MIB}m,swapsize=1g,size=512m,cache=$cache"
	"$HELPERS/mmaptest" "$PWD/mnt" || fail "cache=$cache: mmaptest failed (see above)"
	expect_swapped mnt $((RAM_MIB * 3 * 256))
	rm -r mnt/*
	expect_empty mnt
	unmount mnt
done
