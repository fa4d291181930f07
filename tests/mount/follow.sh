#!/bin/bash
# SPDX-License-Identifier: MIT
# A lone caller is served by the follower; with others about, on busy processors and at the end nobody waits for it.
# sanitize: yes
# alone: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
need chrt setpriv

hogs=()
busy() # COUNT: that many threads that do nothing but run
{
	local i
	for ((i = 0; i < $1; i++)); do
		timeout "$DAEMON_SECONDS" sh -c 'while :; do :; done' &
		hogs+=($!)
	done
}

calm()
{
	[ ${#hogs[@]} = 0 ] || kill "${hogs[@]}" 2>/dev/null || true
	[ ${#hogs[@]} = 0 ] || wait "${hogs[@]}" || true
	hogs=()
}
test_clean_up() { calm; }

follower() # MNT: its directory below /proc
{
	local thread
	for thread in "/proc/$(daemon_pid "$1")/task/"*; do
		[ "$(cat "$thread/comm")" != spillfs-follow ] || echo "$thread"
	done
}

# How often the follower began to run: twice in its life, unless it serves.
runs() # MNT
{
	awk '/ctxt_switches/ { sum += $2 } END { print sum }' "$(follower "$1")/status"
}

# The daemon is started by a command.
daemon_by() # COMMAND...
{
	printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$*" "$daemon" >by
	chmod +x by
	SPILLFS=$PWD/by
}

allowed() # THREAD
{
	awk '$1 == "Cpus_allowed_list:" { print $2 }' "$1/status"
}

files()
{
	"$BUILD/tools/metabench" -n "$1" -j "$2" -p create,stat,read,rename,unlink "$3" >/dev/null
}

tree() # DIR: 400 files of all sizes up to 100 KiB
{
	local i
	mkdir "$1"
	for ((i = 0; i < 400; i++)); do
		mkdir -p "$1/$((i / 40))"
		head -c $((i * i % 100000)) "$TEST_DIR/random" >"$1/$((i / 40))/$i"
	done
}

# Until it serves.  Excused is a machine whose processors others keep busy, most of the times that we look.
wait_to_be_followed() # WHAT
{
	local before free=0 busy=0 runnable
	before=$(runs mnt)
	until [ $(($(runs mnt) - before)) -gt 1000 ]; do
		files 2000 1 mnt
		runnable=$(awk '{ sub("/.*", "", $4); print $4 }' /proc/loadavg) # with awk itself
		if [ "$runnable" -gt "$(nproc)" ]; then
			busy=$((busy + 1))
		else
			free=$((free + 1))
		fi
		[ $free -lt 100 ] || fail "$1: the follower does not serve"
		[ $busy -lt $((20 + 4 * free)) ] || { echo "$1: others keep the processors busy, so nobody is followed"; break; }
	done
}

# Without the privilege the follower stays under SCHED_IDLE for good, as a plain user's does.
serves_lone_callers() # WHAT
{
	local i jobs caller
	mount_spillfs mnt ram=64m,swapsize=256m

	# Where one processor is all there is, nobody is followed, and all else has to work the same.
	if [ "$(nproc)" -gt 1 ]; then
		wait_to_be_followed "$1"
		sleep 0.1
		assert_eq "$1: processors of the follower afterwards" "$(allowed "/proc/$(daemon_pid mnt)")" \
			"$(allowed "$(follower mnt)")"
	fi

	# Alone, and beside three that do the same, and read back by another process.
	for jobs in 1 4; do
		files 2000 "$jobs" mnt
		cp -r ref mnt/copy
		diff -r ref mnt/copy || fail "$1: the copy differs"
		rm -r mnt/copy
	done

	# More wants to run than there are processors: a thread that yields to everybody may not be what others wait for.
	busy $(($(nproc) * 2))
	files 500 1 mnt
	cp -r ref mnt/copy
	diff -r ref mnt/copy || fail "$1: the copy differs that was made on busy processors"
	rm -r mnt/copy
	# They come while it serves.
	calm
	for ((i = 0; i < 5; i++)); do
		files 1000 1 mnt &
		caller=$!
		busy $(($(nproc) * 2))
		wait "$caller" || fail "$1: files were not made, or not found"
		calm
	done
	expect_empty mnt
	unmount mnt
}

head -c 100000 /dev/urandom >random
tree ref
daemon=$SPILLFS
serves_lone_callers "as it is"
if [ "$(id -u)" = 0 ]; then
	daemon_by setpriv --bounding-set=-sys_nice --inh-caps=-sys_nice
	serves_lone_callers "without the privilege"
fi

# Under another policy than the usual one it leaves that be.
daemon_by chrt -b 0
mount_spillfs mnt ram=64m,swapsize=256m
files 5000 1 mnt
assert_le "runs of the follower under SCHED_BATCH" "$(runs mnt)" 100
unmount mnt
SPILLFS=$daemon

# The end comes in the middle of it.
for way in unmount TERM KILL; do
	mount_spillfs mnt ram=64m,swapsize=256m
	files 100000 1 mnt 2>/dev/null &
	caller=$!
	sleep 1
	! gone "$caller" || fail "$way: the caller was done too early"
	case $way in
	unmount) umount -l mnt 2>/dev/null || fusermount3 -uz mnt ;;
	*) kill -"$way" "$(daemon_pid mnt)" ;;
	esac
	! wait "$caller" || fail "$way: the caller did not notice"
	wait_gone "${mount_pid[mnt]}" "$way: the daemon's exit"
	[ "$way" != KILL ] || umount -l mnt 2>/dev/null || fusermount3 -uz mnt 2>/dev/null || true
	not_mounted mnt || fail "$way: still mounted"
	unset "mount_pid[mnt]" "mount_connection[mnt]"
done
