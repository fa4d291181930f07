#!/bin/bash
# SPDX-License-Identifier: MIT
# Daemon and writers in one memory cgroup hardly larger than ram=: writing, mapping, syncing when full, unmounting and SIGTERM when dirty all end in time, and nobody is killed.
# alone: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
[ "$(id -u)" = 0 ] || skip "needs root"
own_namespace

RAM_MIB=${RAM_MIB:-48}
LIMIT_MIB=${LIMIT_MIB:-$((RAM_MIB + 8 + 16))} # ram=, what spillfs(8) adds to it, and the kernel's part and the writers
SECONDS_EACH=${SECONDS_EACH:-40}
group=

test_clean_up()
{
	unmount_all
	mount_pid=()
	if [ -n "$group" ]; then
		echo $$ >"${group%/*}/cgroup.procs"
		rmdir "$group" 2>/dev/null || { sleep 1; rmdir "$group"; }
	fi
}

# A cgroup of LIMIT_MIB, v1 or v2, that this shell and all that it starts live in.
enter_cgroup()
{
	local own
	if [ -e /sys/fs/cgroup/memory/memory.limit_in_bytes ]; then
		own=$(awk -F: '$2 ~ /(^|,)memory(,|$)/ { print $3 }' /proc/self/cgroup)
		group=/sys/fs/cgroup/memory${own%/}/spillfs-test-$$
		[ -d "${group%/*}" ] || group=/sys/fs/cgroup/memory/spillfs-test-$$
		mkdir "$group" || { group=; skip "no memory cgroup can be made"; }
		echo $((LIMIT_MIB << 20)) >"$group/memory.limit_in_bytes"
		oom_file=memory.oom_control
	elif grep -qw memory /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null; then
		group=/sys/fs/cgroup/spillfs-test-$$
		mkdir "$group" || { group=; skip "no memory cgroup can be made"; }
		echo $((LIMIT_MIB << 20)) >"$group/memory.max"
		[ ! -e "$group/memory.swap.max" ] || echo 0 >"$group/memory.swap.max"
		oom_file=memory.events
	else
		skip "no memory cgroups"
	fi
	echo $$ >"$group/cgroup.procs"
}

oom_kills()
{
	awk '$1 == "oom_kill" { print $2 }' "$group/$oom_file"
}

# Must end by itself in time, and well.
in_time() # WHAT COMMAND...
{
	local what=$1 began rc=0
	shift
	began=$(date +%s%N)
	timeout -k 5 "$SECONDS_EACH" "$@" || rc=$?
	[ $rc != 124 ] && [ $rc != 137 ] || fail "cache=$cache, $what: not within $SECONDS_EACH seconds"
	[ $rc = 0 ] || fail "cache=$cache, $what: exit status $rc"
	printf 'cache=%s %s: %d ms\n' "$cache" "$what" $((($(date +%s%N) - began) / 1000000))
	assert_eq "cache=$cache, $what: processes killed for want of memory" 0 "$(oom_kills)"
}

# What cannot be had back at once, while the command runs: the kernel must never have to look for more than there is.
with_room_left() # WHAT COMMAND...
{
	local most
	while sleep 0.02 &&
		awk '$1 ~ /^(rss|anon|dirty|file_dirty|writeback|file_writeback)$/ { n += $2 } END { print int(n / 1048576) }' \
			"$group/memory.stat"; do
		:
	done >committed &
	sampler_pid=$!
	in_time "$@"
	sampler_end
	most=$(sort -n committed | tail -n 1)
	echo "cache=$cache $1: at most $most of $LIMIT_MIB MiB that could not be had back"
	assert_le "cache=$cache $1: MiB that could not be had back" "$most" $((LIMIT_MIB - 4))
}

mount_it()
{
	mount_spillfs mnt "ram=${RAM_MIB}m,swapsize=512m,size=$1,cache=$cache"
}

# All syncs at once; sync -f of a file in the mount is syncfs(2) of the mount alone.
many_syncs()
{
	local i pids=()
	for i in 1 2 3 4 5 6 7 8; do
		sync -f mnt/f0 &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || exit 1; done
}
export -f many_syncs

# Nothing leaves the RAM for seconds: what the kernel has dirty, and the frames, have to fit all the same.
disk_that_stalls()
{
	echo "write stall 500 every 4" >faults
	SPILLFS=$BUILD/tests/spillfs-faults SPILLFS_FAULTS=$PWD/faults mount_it 128m
	with_room_left "4 writers until full, on a disk that stalls" "$HELPERS/enospc" fill rdwr 65536 4 mnt
	in_time "all that was accepted from a disk that stalls" "$HELPERS/enospc" verify mnt
	unmount mnt
}

may_be_dirty()
{
	cat "/sys/class/bdi/$(mountpoint -d mnt)/max_bytes"
}

more_may_be_dirty_than()
{
	[ "$(may_be_dirty)" -gt $(($1 + (1 << 20))) ]
}

# The less ram= leaves, the less may be dirty; also after it has been changed.
window_follows_ram()
{
	local narrow kib
	kib=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)
	kib=$((kib * $(cat /proc/sys/vm/dirty_ratio) / 10000))
	if [ $kib -lt 16384 ] || [ ! -w /sys ]; then
		echo "cannot be narrowed here: the kernel's own window, about $kib KiB"
		return 0
	fi
	mount_it 192m
	narrow=$(may_be_dirty)
	"$SPILLCTL" set mnt ram=$((RAM_MIB / 2))m
	wait_for 10 "more dirty pages when ram= leaves more than $((narrow >> 20)) MiB" more_may_be_dirty_than "$narrow"
	echo "may be dirty: $((narrow >> 20)) MiB with ram=${RAM_MIB}m, $(($(may_be_dirty) >> 20)) with half of it"
	unmount mnt
}

# Who looks for the room in the cgroups there waits for the mount to answer.
over_a_cgroup_file_system()
{
	mkdir -p mnt/cgroups
	mount -t cgroup -o memory none mnt/cgroups || mount -t cgroup2 none mnt/cgroups
	mount_it 192m
	"$SPILLCTL" set mnt ram=$((RAM_MIB / 2))m
	unmount mnt
	umount mnt/cgroups
	rmdir mnt/cgroups
	echo "over a cgroup file system: ok"
}

# As for plain users, and for root in most containers: how much may be dirty is not the daemon's to say.
with_the_kernels_window()
{
	local most
	mount -o remount,bind,ro /sys
	mount_it 192m
	most=$(may_be_dirty)
	with_room_left "4 writers until full, $((most >> 20)) MiB may be dirty" "$HELPERS/enospc" fill rdwr 65536 4 mnt
	in_time "all that was accepted" "$HELPERS/enospc" verify mnt
	unmount mnt
}

sigterm_while_dirty()
{
	local pid rc=0
	mount_it 400m
	"$HELPERS/enospc" fill rdwr 262144 4 mnt >/dev/null 2>&1 &
	local writers=$!
	sleep 1
	pid=${mount_pid[mnt]}
	kill -TERM "$(daemon_pid mnt)"
	wait_for "$SECONDS_EACH" "the daemon's end after SIGTERM while it was written to" gone "$pid"
	wait "$pid" || rc=$?
	unset "mount_pid[mnt]"
	wait_for 10 "the writers' hearing of the end" gone $writers
	wait $writers 2>/dev/null || true
	assert_eq "exit status after SIGTERM" 0 $rc
	not_mounted mnt || fail "still mounted"
	echo "cache=$cache SIGTERM while dirty: ok"
}

enter_cgroup
for cache in kernel none; do
	mount_it 192m
	with_room_left "4 writers until full" "$HELPERS/enospc" fill rdwr 65536 4 mnt
	in_time "8 processes that sync when full" bash -c many_syncs
	in_time "all that was accepted" "$HELPERS/enospc" verify mnt
	rm mnt/f*
	in_time "a mapping larger than RAM, written" "$HELPERS/ram-cap" mapped 20000 mnt/mapped
	cp mnt/mapped mnt/dirty
	in_time "unmounting while dirty" umount mnt
	wait_for 20 "the daemon's exit" gone "${mount_pid[mnt]}"
	wait "${mount_pid[mnt]}" || fail "the daemon's exit status"
	unset "mount_pid[mnt]"
	sigterm_while_dirty
	[ $cache = none ] || disk_that_stalls
done
cache=kernel
window_follows_ram
over_a_cgroup_file_system
with_the_kernels_window
echo "OOM kills: $(oom_kills); most memory: $(($(cat "$group/memory.max_usage_in_bytes" "$group/memory.peak" 2>/dev/null | head -n 1) >> 20)) of $LIMIT_MIB MiB"
assert_eq "processes killed for want of memory" 0 "$(oom_kills)"
