#!/bin/bash
# SPDX-License-Identifier: MIT
# Swap areas come and go under a live mount: files, directories and a loop device; data stays right, and what does not fit is refused.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

loop=
test_clean_up()
{
	unmount_all
	mount_pid=()
	[ -z "$loop" ] || losetup -d "$loop" 2>/dev/null
	[ ! -d tmp ] || umount -l tmp 2>/dev/null
	return 0
}

ctl()
{
	timeout -k 1 60 "$SPILLCTL" "$@"
}

put() # FILE MIB SEED
{
	"$HELPERS/randbytes" "$3" $(($2 << 20)) 2>/dev/null | dd of="$1" bs=64k iflag=fullblock status=none &&
		sync "$1"
}

area() # NUMBER FIELD
{
	ctl status mnt --json | jq -er --argjson n "$1" --arg f "$2" '.swap_areas[] | select(.area == $n) | .[$f]'
}

areas_are() # COUNT
{
	assert_eq "swap areas" "$1" "$(ctl status mnt --json | jq '.swap_areas | length')"
}

refused() # WORDS COMMAND...
{
	local words=$1
	shift
	! ctl "$@" >refused.log 2>&1 || fail "not refused: $*"
	grep -q -- "$words" refused.log || fail "$*: '$(cat refused.log)' lacks '$words'"
}

pages_move_between_areas()
{
	mkdir -p two
	truncate -s 128m file
	mount_spillfs mnt "ram=16m,swapsize=128m,size=1g,cache=$cache"
	areas_are 1
	ctl swapon -p 5 mnt two 128m
	ctl swapon --priority=3 mnt "$PWD/file"
	areas_are 3
	assert_eq "sum of the areas" $((384 << 20)) "$(status mnt swap_limit_bytes)"
	assert_eq "types" "directory directory file" "$(ctl status mnt --json | jq -r '[.swap_areas[].type] | join(" ")')"
	put mnt/a 64 1
	[ "$(area 1 used_bytes)" -gt $((40 << 20)) ] || fail "the highest priority was not used: $(ctl swapon --show mnt)"
	assert_eq "use of the lowest priority" 0 "$(area 0 used_bytes)"
	ctl swapoff mnt two
	areas_are 2
	is_there mnt/a 64 1
	ctl swapoff mnt 0
	areas_are 1
	is_there mnt/a 64 1
	assert_eq "TYPE in --show" file "$(ctl swapon --show mnt | awk 'NR == 2 { print $2 }')"
	refused "have room for" swapoff mnt file
	assert_eq "state after a refusal" in-use "$(area 2 state)"
	is_there mnt/a 64 1
	expect_swapped mnt 4096
	rm mnt/a
	ctl swapoff mnt file
	areas_are 0
	assert_eq "engine without areas" none "$(status mnt io_engine)"
	assert_eq "disk space of the file that was used" 0 "$(stat -c %b file)"
	ctl swapon mnt two 64m
	put mnt/b 40 2
	is_there mnt/b 40 2
	unmount mnt
	rm -r file two
}

# The kernel says a moment after rm that it has forgotten a file, and its pages take another to come free.
what_was_just_removed_does_not_count()
{
	mkdir -p two
	mount_spillfs mnt "ram=16m,noswap,size=1g,cache=$cache"
	for _ in 1 2 3; do
		ctl swapon mnt two 400m
		put mnt/a 300 1
		rm mnt/a
		ctl swapoff mnt two
	done
	unmount mnt
	rm -r two
}

a_mount_without_swap_gets_some()
{
	mkdir -p late
	mount_spillfs mnt "noswap,ram=24m,size=1g,cache=$cache"
	! { put mnt/a 60 1; } 2>/dev/null || fail "60 MiB fitted into 24 MiB of RAM"
	rm -f mnt/a
	put mnt/a 8 1
	ctl swapon mnt late 128m
	put mnt/b 60 2
	is_there mnt/a 8 1
	is_there mnt/b 60 2
	rm mnt/b
	ctl swapoff mnt late
	is_there mnt/a 8 1
	unmount mnt
	rm -r late
}

what_cannot_be_swap_is_named()
{
	mount_spillfs mnt "ram=16m,swapsize=64m,cache=$cache"
	truncate -s 64m busy
	mkfifo -m 600 fifo
	refused "no such file" swapon mnt absent
	refused "lies in the mount" swapon mnt mnt/inner
	refused "lies in the mount" swapon mnt mnt
	ln -s mnt link
	refused "lies in the mount" swapon mnt link
	refused "not a directory, file or block device" swapon mnt fifo
	refused "too small" swapon mnt busy 128m
	ctl swapon mnt busy
	refused "in use" swapon mnt busy
	refused "not a swap area" swapoff mnt absent
	refused "not a swap area" swapoff mnt 9
	refused "no mountpoint" swapon
	refused "not a size" swapon mnt busy 12x
	refused "priorities" swapon -p 40000 mnt busy
	refused "not a spillfs mount" swapon --show .
	areas_are 2
	if [ "$(id -u)" = 0 ] && chmod 755 mnt && command -v setpriv >/dev/null; then
		cp "$SPILLCTL" "$PWD/ctl" && chmod 755 "$PWD/ctl"
		! setpriv --reuid=65534 --clear-groups "$PWD/ctl" swapoff "$PWD/mnt" 1 >refused.log 2>&1 ||
			fail "a stranger took an area away"
	fi
	unmount mnt
	rm -f busy fifo link ctl
}

data_stays_right_while_areas_change()
{
	local pid
	command -v fio >/dev/null || return 0
	mkdir -p one two
	mount_spillfs mnt "ram=24m,swapsize=256m,size=1g,cache=$cache"
	fio --name=v --directory="$PWD/mnt" --size=64m --bs=4k --rw=randwrite --ioengine=psync --verify=crc32c \
		--verify_fatal=1 --verify_state_save=0 --loops=2 --numjobs=2 --output-format=terse --output=fio.out >fio.log 2>&1 &
	pid=$!
	while ! gone $pid; do
		ctl swapon -p 3 mnt one 256m
		ctl swapon -p 3 mnt two 256m
		sleep 0.5
		ctl swapoff mnt one
		ctl swapoff mnt two
		rounds=$((${rounds:-0} + 1))
	done
	wait $pid || fail "fio (cache=$cache): $(cat fio.log fio.out)"
	expect_swapped mnt 4096
	echo "cache=$cache: $rounds rounds of two areas that came and went"
	unmount mnt
	rm -r one two
}

# The daemon and ^C: whoever is interrupted leaves the area in use.
an_interrupt_leaves_the_area()
{
	local pid
	mkdir -p two
	mount_spillfs mnt "ram=16m,swapsize=512m,size=1g,cache=$cache"
	ctl swapon -p 0 mnt two 512m
	put mnt/a 300 1
	[ "$(area 1 used_bytes)" -gt $((200 << 20)) ] || fail "nothing to move: $(ctl swapon --show mnt)"
	"$SPILLCTL" swapoff mnt two 2>off.log &
	pid=$!
	wait_for 10 "the area leaves" sh -c "'$SPILLCTL' swapon --show mnt | grep -q leaving"
	kill -TERM $pid
	! wait $pid || fail "swapoff was done before it could be interrupted"
	grep -q interrupted off.log || fail "$(cat off.log)"
	assert_eq "state after an interrupt" in-use "$(area 1 state)"
	"$SPILLCTL" swapoff mnt two 2>off.log &
	pid=$!
	wait_for 10 "the area leaves" sh -c "'$SPILLCTL' swapon --show mnt | grep -q leaving"
	kill -KILL $pid
	wait $pid || true
	wait_for 15 "the area stays when nobody goes on" sh -c "! '$SPILLCTL' swapon --show mnt | grep -q leaving"
	is_there mnt/a 300 1
	ctl swapoff mnt two
	is_there mnt/a 300 1
	unmount mnt
	rm -r two
}

devices_and_tmpfs()
{
	[ "$(id -u)" = 0 ] || return 0
	truncate -s 128m image
	loop=$(losetup -f --show "$PWD/image" 2>/dev/null) || { loop=; return 0; }
	mkdir -p tmp
	mount -t tmpfs -o size=64m swapon-test tmp
	mount_spillfs mnt "ram=16m,swapsize=64m,size=1g,cache=$cache"
	ctl swapon -p 9 mnt "$loop"
	refused "in use" swapon mnt "$loop"
	put mnt/a 60 1
	assert_eq "type of $loop" device "$(area 1 type)"
	[ "$(area 1 used_bytes)" -gt $((32 << 20)) ] || fail "the device is not used: $(ctl swapon --show mnt)"
	if ctl swapon -p 20 mnt tmp 48m 2>tmpfs.log; then
		put mnt/b 24 2
		ctl swapoff mnt tmp
		is_there mnt/b 24 2
		rm mnt/b
	else
		grep -q "not possible\|no unnamed files" tmpfs.log || fail "$(cat tmpfs.log)"
	fi
	ctl swapon mnt "$PWD" 128m
	ctl swapoff mnt "$loop"
	is_there mnt/a 60 1
	losetup -d "$loop"
	loop=
	unmount mnt
	umount tmp
	rm image
}

# One disk dies: pages go to the other, and what can be read moves there.
one_disk_dies()
{
	[ -x "$BUILD/tests/spillfs-faults" ] || return 0
	mkdir -p two
	: >faults
	SPILLFS_FAULTS=$PWD/faults SPILLFS=$BUILD/tests/spillfs-faults \
		mount_spillfs mnt "ram=16m,swapsize=128m,size=1g,cache=$cache"
	ctl swapon -p 5 mnt two 128m
	put mnt/a 40 1
	printf 'write EIO always area 1\n' >faults.new
	mv faults.new faults
	put mnt/b 60 2
	assert_eq "state of the dead disk" sick "$(area 1 state)"
	assert_eq "state of the other" in-use "$(area 0 state)"
	[ "$(area 0 used_bytes)" -gt $((32 << 20)) ] || fail "pages did not go to the healthy disk"
	is_there mnt/a 40 1
	is_there mnt/b 60 2
	ctl swapoff mnt two
	is_there mnt/a 40 1
	unmount mnt
	rm -r two faults
}

run() # PART
{
	local began=$SECONDS
	[ -z "${PART:-}" ] || [ "$PART" = "$1" ] || return 0
	"$@"
	echo "cache=$cache $*: $((SECONDS - began)) s"
}

for cache in kernel none; do
	run pages_move_between_areas
	run what_was_just_removed_does_not_count
	run a_mount_without_swap_gets_some
	run data_stays_right_while_areas_change
	run one_disk_dies
done
cache=kernel
run what_cannot_be_swap_is_named
run an_interrupt_leaves_the_area
run devices_and_tmpfs
