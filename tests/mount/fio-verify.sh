#!/bin/bash
# SPDX-License-Identifier: MIT
# What fio writes, four times the memory, reads back right, stays within the memory cap, and leaves nothing.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
need fio

ROUNDS=${ROUNDS:-1}
RAM_MIB=24
SIZE_MIB=$((4 * RAM_MIB))

# One job's data, checked twice: once by the job that wrote it, once by a second run that wrote nothing.  fio
# empties the kernel's cache of the file before each run, so the second has to come from the daemon.
verified() # NAME JOB-OPTIONS...
{
	local name=$1 pass
	shift
	for pass in --do_verify=1 --verify_only; do
		fio --name="$name" --directory="$PWD/mnt" --size=${SIZE_MIB}m --verify=crc32c --verify_fatal=1 \
			--verify_state_save=0 --output-format=terse --output="fio.$name" "$@" $pass >"fio.log" 2>&1 ||
			fail "fio $name $pass ($cache): $(cat fio.log "fio.$name")"
	done
}

uring=psync
fio --name=probe --filename="$PWD/probe" --size=4k --rw=write --ioengine=io_uring >/dev/null 2>&1 && uring=io_uring
rm -f probe
echo "random writes by $uring"

for cache in kernel none; do
	for round in $(seq "$ROUNDS"); do
		mount_spillfs mnt "ram=${RAM_MIB}m,swapsize=2g,size=1g,cache=$cache"
		sampler_start mnt
		verified seq --rw=write --bs=64k --ioengine=psync
		verified rand --rw=randwrite --bs=4k --ioengine=$uring --iodepth=16
		rm mnt/seq*
		verified odd --rw=randwrite --bsrange=512-16k --ioengine=psync --numjobs=2 \
			--size=$((SIZE_MIB / 2))m
		verified mapped --rw=randwrite --bs=4k --ioengine=mmap
		sampler_stop
		expect_swapped mnt $((SIZE_MIB * 256))
		rm mnt/*
		expect_empty mnt
		unmount mnt
		echo "cache=$cache round $round of $ROUNDS passed"
	done
done
