#!/bin/bash
# SPDX-License-Identifier: MIT
# The daemon's memory stays below ram= and 8 MiB whatever is put into the mount, and goes back to the system after rm.
. "$SRC/tests/mount/lib.sh"
need_fuse

# FILES=1000000 PAGES=10000000 XATTRS=100000 is the full scale.
FILES=${FILES:-80000}
PAGES=${PAGES:-500000}
XATTRS=${XATTRS:-8000}
OVERHEAD_KIB=$((8 << 10)) # what spillfs(8) says comes on top of ram=: code, libraries, stacks, malloc

rss_kib() # MNT
{
	awk '$1 == "VmRSS:" { print $2 }' "/proc/$(daemon_pid "$1")/status"
}

hwm_kib()
{
	awk '$1 == "VmHWM:" { print $2 }' "/proc/$(daemon_pid "$1")/status"
}

rss_at_most() # MNT KIB
{
	[ "$(rss_kib "$1")" -le "$2" ]
}

# VmHWM is the highest that VmRSS ever was: the kernel samples it for us.
storm() # RAM_MIB WHAT COUNT PATH OPTS
{
	local made empty peak cap_kib=$(($1 << 10))
	mount_spillfs mnt "ram=$1m,swapsize=512m,nr_inodes=0,$5"
	empty=$(rss_kib mnt)
	made=$("$HELPERS/ram-cap" "$2" "$3" "$4") || fail "$2"
	[ "$made" -gt 0 ] || fail "no $2 were made"
	peak=$(hwm_kib mnt)
	echo "ram=$1m $2: $made of $3, memory $empty KiB when empty, at most $peak, of a cap of $cap_kib"
	assert_le "$2: VmHWM in KiB against ram= and overhead" "$peak" $((cap_kib + OVERHEAD_KIB))
	assert_le "$2: ram_used_bytes" "$(status mnt ram_used_bytes)" $(($1 << 20))
	[ "$2" != pages ] || [ "$(status mnt swapout_pages_total)" -gt $(($3 / 8)) ] || fail "only $(status mnt swapout_pages_total) pages were swapped"
	rm -rf mnt/*
	expect_empty mnt
	assert_le "$2: VmHWM in KiB after rm" "$(hwm_kib mnt)" $((cap_kib + OVERHEAD_KIB))
	wait_for 20 "memory going back after rm (now $(rss_kib mnt) KiB)" rss_at_most mnt $((empty + (10 << 10)))
	echo "after rm: $(rss_kib mnt) KiB"
	unmount mnt
}

storm 192 files "$FILES" mnt cache=kernel
storm 32 files "$FILES" mnt cache=kernel # more than fit: ENOSPC, not more memory
storm 24 pages "$PAGES" mnt/f cache=none
storm 24 pages "$((PAGES / 4))" mnt/f cache=kernel
storm 64 xattrs "$XATTRS" mnt cache=kernel # more than fit
