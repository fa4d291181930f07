#!/bin/bash
# SPDX-License-Identifier: MIT
# However many write how much at a time, a full mount says ENOSPC before anything is lost: fsync() finds nothing amiss.
# sanitize: yes
# cgroup: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

SIZE_MIB=${SIZE_MIB:-96} # SIZE_MIB=1024: larger than what the kernel may hold unsent
MODES=${MODES:-kernel-size none-size kernel-tight none-tight kernel-ram kernel-late kernel-again kernel-prealloc kernel-suid}

# Fills the empty mount; all that was accepted is there afterwards, and is as much as the limit allows.
fill() # METHOD BLOCK WRITERS MOST_OVER
{
	local accepted least what="$mode $1, $3 at a time in blocks of $2"
	[[ $mode == *-size ]] && least=$((size - $2 * $3)) || least=$((size - size / 64 - $2 * $3)) # memory for the tree counts, too
	accepted=$("$HELPERS/enospc" fill "$1" "$2" "$3" mnt | awk '{ sum += $1 } END { printf "%d", sum }') || fail "$what"
	[ ! -e mnt/source ] || accepted=$((accepted + (1 << 20)))
	echo "$what: accepted $((accepted / 1024)) of $((size / 1024)) KiB"
	assert_le "$what: bytes that must fit" "$least" "$accepted"
	assert_le "$what: bytes that were accepted" "$accepted" $((size + $4))
	"$HELPERS/enospc" verify mnt || fail "$what: accepted data is lost"
	assert_le "$what: blocks that df says are free" "$(stat -f -c %a mnt)" $((($2 * $3 + $4) / 4096))
}

empty()
{
	rm -rf mnt/*
	expect_empty mnt
}

# A file is created with room for everybody, the kernel hears of it when the mount is full, and asks for each write() all the same.
late()
{
	[ -x "$BUILD/tests/spillfs-faults" ] || return 0
	echo "create stall 1000 every 2" >faults
	SPILLFS=$BUILD/tests/spillfs-faults SPILLFS_FAULTS=$PWD/faults mount_spillfs mnt ram=16m,swapsize=256m
	size=$(($(stat -f -c '%b * 4096' mnt)))
	fill rdwr 4096 2 $((5 << 20))
	empty
	unmount mnt
}

# A file that stays open while the mount was near full, is so no more and is again: nothing that was written unasked in
# between is taken for what one write() of it needs.
again()
{
	local block=131072
	mount_spillfs mnt ram=16m,swapsize=256m
	head -c 200M /dev/zero >mnt/first
	exec 5>mnt/open
	rm mnt/first
	! dd bs=$block status=none </dev/zero >&5 2>dd.err || fail "$mode: there was no end"
	grep -q 'No space left' dd.err || fail "$mode: $(cat dd.err)"
	exec 5>&-
	assert_le "$mode: blocks that are left" "$(stat -f -c %a mnt)" $(((block + (5 << 20)) / 4096))
	empty
	unmount mnt
}

# Far from full nobody asks; then a fallocate() takes nearly all of it at once, but not what is on its way already.
prealloc()
{
	local writers
	mount_spillfs mnt ram=16m,swapsize=512m
	"$HELPERS/enospc" fill rdwr 65536 4 mnt >accepted &
	writers=$!
	wait_for 20 "some data" sh -c '[ "$(stat -c %s mnt/f0 2>/dev/null || echo 0)" -gt 20000000 ]'
	fallocate -l $((($(stat -f -c %a mnt) - 15360) * 4096)) mnt/large || echo "$mode: fallocate came too late"
	wait $writers || fail "$mode: writers beside a large fallocate"
	"$HELPERS/enospc" verify mnt || fail "$mode: accepted data is lost"
	empty
	unmount mnt
}

# What the kernel writes through, as the file has a suid bit to lose, holds a page locked that a flush would wait for.
suid()
{
	[ "$(id -u)" = 0 ] && command -v setpriv >/dev/null || return 0
	mount_spillfs mnt ram=16m,swapsize=192m,size=96m
	chmod 711 .
	echo hello >mnt/s
	chown 65534 mnt/s
	chmod 4755 mnt/s
	fallocate -l 94m mnt/large
	timeout 60 setpriv --reuid=65534 --clear-groups dd if=/dev/zero of=mnt/s bs=100 count=3 seek=50 conv=notrunc status=none ||
		fail "$mode: writing to a file with a suid bit: $?"
	assert_eq "$mode: mode of the file" 755 "$(stat -c %a mnt/s)"
	empty
	unmount mnt
}

for mode in $MODES; do
	case $mode in
	kernel-late | kernel-again | kernel-prealloc | kernel-suid)
		"${mode#kernel-}" # not in a condition: there set -e would not count
		continue
		;;
	esac
	cache=${mode%-*}
	case $mode in
	*-size) opts=ram=16m,swapsize=$((SIZE_MIB * 2))m,size=${SIZE_MIB}m ;;
	*-tight) opts=ram=16m,swapsize=$((SIZE_MIB))m ;;
	*-ram) opts=ram=${SIZE_MIB}m,noswap ;;
	esac
	mount_spillfs mnt "$opts,cache=$cache"
	size=$(($(stat -f -c '%b * 4096' mnt)))
	free=$(stat -f -c %a mnt)
	over=0
	[ $cache = none ] || over=$((5 << 20)) # one write(), or a little more than the store's reserve
	fill rdwr 4096 8 $over
	empty
	fill mixed 131072 8 $over
	empty
	fill rdwr 1048576 1 $((over ? 1048576 : 0))
	empty
	fill early 4194304 8 $over
	empty
	fill write 33554432 1 $((over ? 32 << 20 : 0))
	empty
	if [[ $mode != *-size ]]; then # with size= below it, RAM and swap are filled
		fill mapped 131072 1 $((5 << 20)) # a little more than the store's reserve
		empty
	fi
	# Some frames hold what is left of the bookkeeping.
	assert_le "$mode: free blocks when all was removed" $((free - 16)) "$(stat -f -c %a mnt)"
	unmount mnt
done
