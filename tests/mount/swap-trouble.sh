#!/bin/bash
# SPDX-License-Identifier: MIT
# A swap disk that is full, fails, lies, stalls or moves half: wrong bytes never come back, old data does, and all is well again when the disk is.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
[ -x "$BUILD/tests/spillfs-faults" ] || skip "no daemon with faults was built"

STALL_SECONDS=${STALL_SECONDS:-3} # 30: a disk as slow as they get
MIB=${MIB:-32}
real=$SPILLFS
export SPILLFS_FAULTS=$PWD/faults
: >faults
opts=ram=16m,swapsize=256m,size=128m

test_clean_up()
{
	unmount_all
	mount_pid=()
	[ ! -d swapfs ] || umount -l swapfs 2>/dev/null
	return 0
}

# The rules from now on.  A new file each time: the engine looks at the time of its last change.
break_disk() # RULE...
{
	printf '%s\n' "$@" >faults.new
	mv faults.new faults
}

mend_disk()
{
	: >faults.new
	mv faults.new faults
}

put() # FILE MIB SEED
{
	"$HELPERS/randbytes" "$3" $(($2 << 20)) 2>/dev/null | dd of="$1" bs=64k iflag=fullblock status=none 2>dd.log
}

said() # COUNT WORDS
{
	assert_eq "cache=$cache: log lines with '$2'" "$1" "$(grep -c "$2" daemon.log || true)"
}

begin()
{
	: >daemon.log
	mount_spillfs mnt "$opts,cache=$cache"
}

# Old data in swap and in RAM.
put_old()
{
	put mnt/old $MIB 1 || fail "$(cat dd.log)"
	sync mnt/old
}

finish()
{
	mend_disk
	rm -f mnt/*
	expect_empty mnt
	wait_for 20 "bad slots back in use" status_is mnt swap_bad_bytes 0
	put mnt/again $MIB 9 || fail "cache=$cache: no room after all that: $(cat dd.log)"
	is_there mnt/again $MIB 9
	unmount mnt
}

some_writes_fail()
{
	begin
	break_disk "write EIO every 3"
	put_old
	is_there mnt/old $MIB 1
	[ "$(status mnt swapout_errors_total)" -gt 0 ] || fail "no write failed"
	assert_eq "failed reads" 0 "$(status mnt swapin_errors_total)"
	said 1 "cannot write"
	finish
}

# Nothing can be swapped out any more.
all_writes_fail() # ERROR
{
	begin
	put_old
	break_disk "write $1 always"
	! { put mnt/new 96 2 && sync mnt/new 2>>dd.log; } || fail "cache=$cache, $1: 96 MiB fitted into 16 MiB of RAM"
	grep -q "No space left" dd.log || fail "cache=$cache, $1: $(cat dd.log)"
	is_there mnt/old $MIB 1
	said 1 "cannot write"
	assert_eq "cache=$cache, $1: swap_state" failing "$(status mnt swap_state)"
	! fallocate -l 64m mnt/reserved 2>/dev/null || fail "room was promised that there is not"
	mend_disk
	rm -f mnt/new mnt/reserved
	wait_for 10 "new writes after the disk was mended" put mnt/new $MIB 3
	sync mnt/new
	said 1 "takes writes again"
	assert_eq "cache=$cache, $1: swap_state" good "$(status mnt swap_state)"
	is_there mnt/old $MIB 1
	is_there mnt/new $MIB 3
	finish
}

reads_fail()
{
	begin
	put_old
	is_there mnt/old $MIB 1
	drop_cache mnt/old
	break_disk "read EIO always"
	! cat mnt/old >/dev/null 2>cat.log || fail "nothing was read from the disk"
	grep -q "Input/output error" cat.log || fail "not EIO but $(cat cat.log)"
	[ "$(status mnt swapin_errors_total)" -gt 0 ] || fail "no read failed"
	mend_disk
	is_there mnt/old $MIB 1

	drop_cache mnt/old
	break_disk "read altered always"
	! cat mnt/old >/dev/null 2>cat.log || fail "altered bytes were read"
	grep -q "Input/output error" cat.log || fail "not EIO but $(cat cat.log)"
	[ "$(status mnt checksum_errors_total)" -gt 0 ] || fail "no checksum was wrong"
	said 1 "cannot read back at byte [0-9]*: Input/output"
	said 1 "cannot read back at byte [0-9]*: not what was written"
	mend_disk
	is_there mnt/old $MIB 1
	finish
}

transfers_are_short()
{
	begin
	break_disk "write short every 2" "read short every 2"
	put_old
	is_there mnt/old $MIB 1
	expect_swapped mnt 4096
	mend_disk
	is_there mnt/old $MIB 1
	said 0 "swap:"
	finish
}

disk_stalls()
{
	local began
	begin
	put_old
	is_there mnt/old $MIB 1
	echo hot >mnt/hot
	break_disk "write stall $((STALL_SECONDS * 1000)) once" "read stall $((STALL_SECONDS * 1000)) once"
	began=$SECONDS
	put mnt/new $MIB 2 || fail "$(cat dd.log)" &
	local writer=$!
	sleep 0.5
	assert_eq "what is in RAM while the disk stalls" hot "$(timeout 2 cat mnt/hot)"
	status mnt swap_used_bytes >/dev/null
	wait $writer || fail "a writer did not outlive the stall"
	is_there mnt/old $MIB 1
	is_there mnt/new $MIB 2
	[ $((SECONDS - began)) -ge "$STALL_SECONDS" ] || fail "nothing stalled"
	said 0 "swap:"
	finish
}

io_uring_is_refused()
{
	break_disk "setup EPERM"
	begin
	assert_eq "I/O engine" threads "$(status mnt io_engine)"
	put_old
	is_there mnt/old $MIB 1
	expect_swapped mnt 4096
	finish
}

# No fault engine: the file system that the swap file is on is smaller than swapsize=.
the_disk_is_really_full()
{
	[ "$(id -u)" = 0 ] || return 0
	mkdir -p swapfs
	mount -t tmpfs -o size=40m swapfs swapfs
	: >daemon.log
	SPILLFS=$real mount_spillfs mnt "$opts,cache=$cache,swap=$PWD/swapfs"
	put mnt/old 24 1 || fail "$(cat dd.log)"
	! { put mnt/new 96 2 && sync mnt/new 2>>dd.log; } || fail "cache=$cache: 96 MiB fitted into a swap file of 40"
	grep -q "No space left" dd.log || fail "cache=$cache: $(cat dd.log)"
	is_there mnt/old 24 1
	said 1 "cannot write"
	rm mnt/new
	mount -o remount,size=400m swapfs
	wait_for 10 "new writes after the disk has room" put mnt/new $MIB 3
	is_there mnt/old 24 1
	is_there mnt/new $MIB 3
	finish
	umount swapfs
}

# What users run must not have any of this in it.
! grep -q SPILLFS_FAULTS "$real" || fail "the fault engine is in the daemon that is installed"
grep -q SPILLFS_FAULTS "$BUILD/tests/spillfs-faults" || fail "the fault engine is not in spillfs-faults"
SPILLFS=$BUILD/tests/spillfs-faults

run() # PART [ARGUMENT]
{
	local began=$SECONDS
	[ -z "${PART:-}" ] || [ "$PART" = "$1" ] || return 0
	"$@"
	echo "cache=$cache $*: $((SECONDS - began)) s"
}

for cache in ${CACHES:-kernel none}; do
	run some_writes_fail
	run all_writes_fail ENOSPC
	run all_writes_fail EIO
	run reads_fail
	run disk_stalls
	run the_disk_is_really_full
done
cache=kernel
run transfers_are_short
run io_uring_is_refused
