#!/bin/bash
# SPDX-License-Identifier: MIT
# A bad option names itself in one line and exits 2; a mount that cannot work says why in one line and exits 1.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

mkdir mnt swap
failures=0

# Runs the daemon, which must fail: with that status, one line that contains WORD, and nothing mounted.
refused() # STATUS WORD ARGUMENTS...
{
	local want=$1 word=$2 rc=0
	shift 2
	timeout -k 5 30 "$SPILLFS" "$@" >out.log 2>err.log </dev/null || rc=$?
	if [ $rc != "$want" ] || [ "$(wc -l <err.log)" != 1 ] || ! grep -qF -- "$word" err.log ||
		[ -s out.log ]; then
		echo "FAIL: spillfs $*: exit status $rc (should be $want), should be one line with '$word':"
		cat out.log err.log
		failures=$((failures + 1))
	else
		echo "ok   $rc $(cat err.log)"
	fi
	if is_mounted "${!#}" && [ -z "${mounted:-}" ]; then
		echo "FAIL: spillfs $*: left a mount"
		failures=$((failures + 1))
		detach "${!#}"
	fi
}

bad_option() # NAME OPTIONS
{
	refused 2 "$1" -f -o "$2" "$PWD/mnt"
}

cannot_mount() # WORD OPTIONS [MOUNTPOINT]
{
	refused 1 "$1" -f -o "$2" "${3:-$PWD/mnt}"
	refused 1 "$1" -o "$2" "${3:-$PWD/mnt}" # the daemonised form tells the one who started it
}

bad_option nosuch nosuch
bad_option nosuch nosuch=1
bad_option nosuch ram=16m,nosuch,size=1g
for option in size=abc size= size=-1 size=1x size=99999999999999999999g size=1.5g ram= ram=-1 ram=abc ram=0 \
	swapsize=0x swapsize=-5 swapsize=abc swapsize=0 nr_inodes=x nr_inodes=-1 nr_blocks=x mode=999 mode=x \
	reserve=x huge=yes mpol=bind mpol=bind:x mpol=prefer:0-1 usrquota_block_hardlimit=0 grpquota_inode_hardlimit=x \
	mode=10000 uid=x-no-such-user uid=-5 gid=x-no-such-group cache=foo cache= swap=; do
	bad_option "${option%%=*}" "$option"
done
for option in size ram cache mode uid swap; do
	bad_option $option $option # a value is missing
done
bad_option noswap noswap,swap="$PWD/swap"
bad_option noswap swap="$PWD/swap",noswap
bad_option noswap noswap,swapsize=1g
refused 2 Q -Q "$PWD/mnt"
refused 2 "mount point" -f
refused 2 third -f first second third

bad_option user_id user_id=0
cannot_mount reserve= "ram=16m,swap=$PWD/swap,swapsize=64m,reserve=100m"
cannot_mount reserve= "ram=16m,swap=$PWD/swap,swapsize=1000g,reserve=900g"
[ -d /sys/devices/system/node/node63 ] || cannot_mount mpol= "ram=16m,swap=$PWD/swap,mpol=bind:63"
cannot_mount absent "ram=16m,swap=$PWD/absent"
cannot_mount absent "ram=16m,swap=$PWD/swap" "$PWD/absent"
cannot_mount /proc "ram=16m,swap=/proc"
cannot_mount mnt "ram=16m,swap=$PWD/mnt"
mkdir mnt/inner
cannot_mount mnt "ram=16m,swap=$PWD/mnt/inner"
rmdir mnt/inner
cannot_mount ram "ram=1k,swap=$PWD/swap"
cannot_mount ram "ram=1k,noswap"
: >file
cannot_mount file "ram=16m,swap=$PWD/swap" "$PWD/file"
cannot_mount file "ram=16m,swap=$PWD/file/x"
printf 'short' >short
cannot_mount short "ram=16m,swap=$PWD/short"
mkfifo fifo
cannot_mount fifo "ram=16m,swap=$PWD/fifo"

if [ "$(id -u)" = 0 ]; then
	mkdir other
	test_clean_up()
	{
		unmount_all
		mount_pid=()
		is_mounted other && umount -l other
	}
	mount -t tmpfs -o size=64m tmpfs other
	mount -o remount,ro other
	cannot_mount other "ram=16m,swap=$PWD/other"
	umount other
	mount -t ramfs ramfs other
	cannot_mount O_DIRECT "ram=16m,swap=$PWD/other"
	umount other
fi

# Mounting over a spillfs: nothing may be stacked, and the first must go on.
mount_spillfs mnt ram=16m,swapsize=64m
mounted=yes
echo first >mnt/file
cannot_mount mnt "ram=16m,swapsize=64m,swap=$PWD/swap"
assert_eq "the first mount's file" first "$(cat mnt/file)"
unmount mnt
mounted=
not_mounted mnt || fail "mounts were stacked"

# One swap file cannot serve two mounts.
truncate -s 64m shared
mkdir second
mount_spillfs mnt "ram=16m,swap=$PWD/shared"
cannot_mount shared "ram=16m,swap=$PWD/shared" "$PWD/second"
unmount mnt

for flag in -h --help -V --version; do
	timeout 10 "$SPILLFS" $flag >out.log 2>err.log || fail "$flag: exit status $?"
	[ -s out.log ] || fail "$flag prints nothing"
done
[ $failures = 0 ] || fail "$failures cases"
