#!/bin/bash
# SPDX-License-Identifier: MIT
# Mounts serve at once when started, and by unmount, SIGTERM or SIGKILL end without leaving files or swap space.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

mkdir -p mnt swap
swap=$PWD/swap
own_swap=
opts=ram=16m,swapsize=256m,size=128m,swap=$swap

# Root gives the swap directory a file system of its own, so that what it uses can be told to the byte.
if [ "$(id -u)" = 0 ]; then
	mount -t tmpfs -o size=512m swapfs swap
	own_swap=yes
fi

test_clean_up()
{
	unmount_all
	mount_pid=()
	[ -z "$own_swap" ] || umount -l "$swap"
}

swap_bytes()
{
	if [ -n "$own_swap" ]; then
		df --output=used -B1 "$swap" | tail -n 1
	else
		echo 0
	fi
}

swap_bytes_at_most() # BYTES
{
	[ "$(swap_bytes)" -le "$1" ]
}

# Bytes on the disk behind the daemon's unnamed swap file.
unnamed_bytes() # PID
{
	local fd
	for fd in "/proc/$1/fd/"*; do
		case $(readlink "$fd") in
		"$swap"/*"(deleted)")
			echo $(($(stat -L -c '%b * %B' "$fd")))
			return
			;;
		esac
	done
	fail "the daemon has no unnamed file in the swap directory"
}

nothing_left() # WHAT
{
	not_mounted mnt || fail "$1: still mounted"
	assert_eq "$1: files in the swap directory" "" "$(ls -A "$swap")"
	swap_bytes_at_most 0 || fail "$1: swap space still in use: $(swap_bytes)"
}

fill()
{
	"$HELPERS/randbytes" 1 $((64 << 20)) >mnt/big
	drop_cache mnt
	status mnt swapout_pages_total >out
	[ "$(cat out)" -gt 8192 ] || fail "only $(cat out) pages were swapped"
	[ "$(unnamed_bytes "$(daemon_pid mnt)")" -gt $((32 << 20)) ] || fail "the swap file holds too little"
	assert_eq "named files in the swap directory" "" "$(ls -A "$swap")"
	[ -z "$own_swap" ] || ! swap_bytes_at_most $((32 << 20)) || fail "the swap file system holds too little"
}

unmounting_frees_the_swap_space()
{
	mount_spillfs mnt "$opts"
	fill
	unmount mnt
	nothing_left "unmount"
}

removing_files_shrinks_the_swap_file()
{
	mount_spillfs mnt "$opts"
	fill
	rm mnt/big
	expect_empty mnt
	wait_for 20 "the swap file's shrinking after rm" swap_bytes_at_most $((1 << 20))
	assert_le "bytes of the swap file after rm" "$(unnamed_bytes "$(daemon_pid mnt)")" $((1 << 20))
	"$HELPERS/randbytes" 1 $((64 << 20)) >mnt/big # and grows again
	drop_cache mnt
	"$HELPERS/randbytes" 1 $((64 << 20)) | cmp - mnt/big
	unmount mnt
	nothing_left "unmount after rm"
}

# Of a daemon that was killed.
it_leaves_nothing() # WHAT
{
	wait_for 10 "the killed daemon's end" gone "${mount_pid[mnt]}"
	wait "${mount_pid[mnt]}" || true
	! timeout -k 1 10 ls mnt >/dev/null 2>&1 || fail "$1: a mount without a daemon answers"
	detach mnt || fail "$1: a mount without a daemon cannot be unmounted"
	unset "mount_pid[mnt]"
	wait_for 10 "the end of the killed daemon's swap space" swap_bytes_at_most 0
	nothing_left "$1"
}

kill_leaves_nothing()
{
	local pid
	mount_spillfs mnt "$opts"
	fill
	pid=$(daemon_pid mnt)
	kill -9 "$pid"
	it_leaves_nothing "kill -9"
}

# A killed daemon that was waiting for the kernel's flush never ends by itself, nor does anybody who uses the mount.
a_kill_amid_flushes_hangs_nobody()
{
	local pid i writers=()
	[ "$(id -u)" = 0 ] || [ -d /sys/fs/fuse/connections/1 ] || return 0 # nothing to abort a connection with
	mount_spillfs mnt "$opts"
	for i in 1 2 3 4; do
		"$HELPERS/seekloop" mnt/file$i 60 &
		writers+=($!)
	done
	sleep 1
	pid=$(daemon_pid mnt)
	kill -9 "$pid"
	for i in "${writers[@]}"; do
		wait_for 30 "the end of those who wrote and sought" gone "$i"
		wait "$i" || true
	done
	it_leaves_nothing "kill -9 amid flushes"
}

sigterm_unmounts()
{
	local rc=0
	mount_spillfs mnt "$opts"
	fill
	exec 9>mnt/open
	kill -TERM "$(daemon_pid mnt)"
	wait_for 20 "the daemon's end after SIGTERM" gone "${mount_pid[mnt]}"
	wait "${mount_pid[mnt]}" || rc=$?
	exec 9>&-
	assert_eq "exit status after SIGTERM" 0 $rc
	unset "mount_pid[mnt]"
	nothing_left "SIGTERM"
}

files_are_gone_after_a_remount()
{
	mount_spillfs mnt "$opts,mode=750,uid=1000,gid=1001"
	assert_eq "mode, uid, gid" "750 1000 1001" "$(stat -c '%a %u %g' mnt)"
	echo data >mnt/file
	unmount mnt
	assert_eq "files below the mount point" "" "$(ls -A mnt)"
	mount_spillfs mnt "$opts"
	assert_eq "mode of the root directory" 1777 "$(stat -c %a mnt)"
	assert_eq "files after a remount" "" "$(ls -A mnt)"
	unmount mnt
}

# Returns only when the mount serves, holds neither the terminal nor a pipe, and leaves the directory.
the_daemonised_form_serves_when_it_returns()
{
	local pid i session
	session=$(ps -o sid= -p $$)
	for i in 1 2 3; do
		timeout 60 bash -c '"$@" | cat' start "$SPILLFS" -o "$opts" "$PWD/mnt" || fail "it failed to start"
		mountpoint -q mnt || fail "it returned before the mount was there"
		echo hello >mnt/file || fail "it returned before the mount served"
		pid=$(status mnt pid) || fail "no daemon"
		adopt mnt "$pid"
		assert_eq "the daemon's directory" / "$(readlink "/proc/$pid/cwd")"
		[ "$(ps -o sid= -p "$pid")" != "$session" ] || fail "the daemon has no session of its own"
		unmount_daemonised mnt
		nothing_left "daemonised, round $i"
	done
}

the_form_of_mount_8()
{
	timeout 60 "$SPILLFS" scratch "$PWD/mnt" -o "$opts" || fail "SOURCE MOUNTPOINT -o ... failed"
	adopt mnt "$(status mnt pid)"
	assert_eq "source and type" "scratch fuse.spillfs" "$(findmnt -n -o SOURCE,FSTYPE mnt | tr -s ' ')"
	unmount_daemonised mnt
	nothing_left "mount(8) form"
}

# An ordinary file as swap: used, and empty again afterwards.
a_swap_file_is_emptied()
{
	truncate -s 128m file.swap
	mount_spillfs mnt "ram=16m,size=128m,swap=$PWD/file.swap"
	"$HELPERS/randbytes" 1 $((64 << 20)) >mnt/big
	drop_cache mnt
	[ "$(stat -c '%b' file.swap)" -gt $((32 << 11)) ] || fail "the swap file was not used"
	"$HELPERS/randbytes" 1 $((64 << 20)) | cmp - mnt/big
	unmount mnt
	assert_eq "length of the swap file" $((128 << 20)) "$(stat -c %s file.swap)"
	assert_le "blocks of the swap file" "$(stat -c %b file.swap)" 2048
	rm file.swap
}

for step in unmounting_frees_the_swap_space removing_files_shrinks_the_swap_file kill_leaves_nothing \
	a_kill_amid_flushes_hangs_nobody \
	sigterm_unmounts files_are_gone_after_a_remount the_daemonised_form_serves_when_it_returns \
	the_form_of_mount_8 a_swap_file_is_emptied; do
	$step
	echo "ok   $step"
done
