#!/bin/bash
# SPDX-License-Identifier: MIT
# The daemon's memory stays below ram= and 8 MiB whatever is put into the mount, and goes back to the system after rm, as the disk's space does.
# alone: yes
# cgroup: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

FILES=${FILES:-$(scale 80000 1000000)}
PAGES=${PAGES:-$(scale 500000 10000000)}
SPREAD=${SPREAD:-$(scale 150000 10000000)} # distinct: at full scale 40 GB of swap are in use at once
XATTRS=${XATTRS:-$(scale 8000 400000)}
FILES_RAM=${FILES_RAM:-$(scale 192 1024)} # MiB in which so many files fit
SPREAD_RAM=${SPREAD_RAM:-$(scale 24 192)}
OVERHEAD_KIB=$((8 << 10)) # what spillfs(8) says comes on top of ram=: code, libraries, stacks, malloc
SWAP_LEFT=$((1 << 20))    # bytes that may stay in the swap file of an empty mount

memory_kib() # VmRSS|VmHWM
{
	awk -v "what=$1:" '$1 == what { print $2 }' "/proc/$(daemon_pid mnt)/status"
}

rss_at_most() # KIB
{
	[ "$(memory_kib VmRSS)" -le "$1" ]
}

begin() # RAM_MIB OPTS
{
	ram_mib=$1
	began=$SECONDS
	mount_spillfs mnt "ram=$1m,nr_inodes=0,$2"
	empty=$(memory_kib VmRSS)
	mkdir mnt/files mnt/xattrs
}

make() # WHAT COUNT PATH LEAST
{
	local made
	made=$("$HELPERS/ram-cap" "$1" "$2" "$3") || fail "$1"
	echo "ram=${ram_mib}m $1: $made of $2"
	[ "$made" -ge "$4" ] || fail "only $made $1 were made"
}

# VmHWM is the highest that VmRSS ever was: the kernel samples it for us.
within_the_cap() # WHAT
{
	assert_le "$1: VmHWM in KiB against ram= and overhead" "$(memory_kib VmHWM)" $(((ram_mib << 10) + OVERHEAD_KIB))
	assert_le "$1: ram_used_bytes" "$(status mnt ram_used_bytes)" $((ram_mib << 20))
}

finish() # WHAT LEAST_PAGES_SWAPPED
{
	local swapped disk
	swapped=$(status mnt swapout_pages_total)
	disk=$(swap_file_bytes mnt)
	within_the_cap "$1"
	echo "$1: $((SECONDS - began)) s, $swapped pages swapped out, swap file of $((disk >> 20)) MiB," \
		"memory $empty KiB when empty, at most $(memory_kib VmHWM), cap $((ram_mib << 10)) and $OVERHEAD_KIB"
	[ "$swapped" -ge "$2" ] || fail "only $swapped pages were swapped"
	rm -rf mnt/*
	expect_empty mnt
	within_the_cap "$1, after rm"
	wait_for 20 "memory going back after rm (now $(memory_kib VmRSS) KiB)" rss_at_most $((empty + (10 << 10)))
	wait_for 60 "the disk's space going back after rm (now $(swap_file_bytes mnt))" swap_file_at_most mnt $SWAP_LEFT
	echo "$1: after rm $(memory_kib VmRSS) KiB of memory, swap file of $(swap_file_bytes mnt) bytes; $((SECONDS - began)) s"
	unmount mnt
}

alone() # RAM_MIB WHAT COUNT PATH LEAST_PAGES_SWAPPED OPTS
{
	begin "$1" "$6"
	make "$2" "$3" "$4" 1
	finish "$2 alone" "$5"
}

# In one mount at the same time: names and attributes take RAM from the data, and all of it fits.
together()
{
	local what pids=()
	begin $((FILES_RAM + SPREAD_RAM + 16)) "swapsize=$(((SPREAD >> 8) + 512))m,cache=kernel"
	make files "$FILES" mnt/files "$FILES" &
	pids+=($!)
	make spread "$SPREAD" mnt/f "$SPREAD" &
	pids+=($!)
	make xattrs "$XATTRS" mnt/xattrs "$XATTRS" &
	pids+=($!)
	for what in "${pids[@]}"; do
		wait "$what" || fail "one of those that ran together"
	done
	finish "together" $((SPREAD / 2))
}

run() # PART ...
{
	[ -z "${PART:-}" ] || [ "$PART" = "$1" ] || return 0
	"${@:2}"
}

small=swapsize=512m
large=swapsize=$(((SPREAD >> 8) + 512))m
run files alone "$FILES_RAM" files "$FILES" mnt/files 0 $small,cache=kernel
run files alone 32 files "$FILES" mnt/files 0 $small,cache=kernel # more than fit: ENOSPC, not more memory
run pages alone 24 pages "$PAGES" mnt/f $((PAGES / 8)) $small,cache=none
run pages alone 24 pages $((PAGES / 4)) mnt/f $((PAGES / 32)) $small,cache=kernel
run spread alone "$SPREAD_RAM" spread "$SPREAD" mnt/f $((SPREAD * 3 / 4)) "$large,cache=none"
run xattrs alone 64 xattrs "$XATTRS" mnt/xattrs 0 $small,cache=kernel # more than fit
run together together
