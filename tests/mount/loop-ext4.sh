#!/bin/bash
# SPDX-License-Identifier: MIT
# An ext4 image in the mount, far above the memory, holds its files through a loop device, direct or not, and fsck agrees.
. "$SRC/tests/mount/lib.sh"
need_fuse
[ "$(id -u)" = 0 ] || skip "only root can set up a loop device"
need losetup mkfs.ext4 fsck.ext4 fstrim
grep -qw ext4 /proc/filesystems || skip "the kernel has no ext4"
own_namespace

MIB=1048576
device=

test_clean_up()
{
	! is_mounted inner || timeout -k 1 60 umount inner
	[ -z "$device" ] || timeout -k 1 60 losetup -d "$device"
}

# The loop device is gone only when the last user of it is, and its file is busy until then.
detach_loop()
{
	losetup -d "$device"
	wait_for 10 "the end of $device" unused_loop
	device=
}

unused_loop()
{
	! losetup "$device" >/dev/null 2>&1
}

image_bytes()
{
	stat -c '%b * 512' mnt/image | xargs expr
}

check_image() # DIRECT: on or off
{
	local n full
	truncate -s $((160 * MIB)) mnt/image
	mkfs.ext4 -q -F -E lazy_itable_init=0 mnt/image
	device=$(losetup -f --show --direct-io="$1" mnt/image) || skip "no loop device can be had"
	assert_eq "direct I/O of the loop device" "$([ "$1" = on ] && echo 1 || echo 0)" \
		"$(losetup -nO DIO "$device" | tr -d ' ')"
	mount "$device" inner
	for n in $(seq 24); do
		"$HELPERS/randbytes" "$n" $((4 * MIB)) >"inner/file$n"
	done
	umount inner
	detach_loop
	drop_cache mnt
	fsck.ext4 -f -n mnt/image >fsck.log 2>&1 || fail "cache=$cache, direct-io=$1: $(tail -n 20 fsck.log)"

	device=$(losetup -f --show --direct-io="$1" mnt/image)
	mount "$device" inner
	for n in $(seq 24); do
		"$HELPERS/randbytes" "$n" $((4 * MIB)) | cmp - "inner/file$n" || fail "cache=$cache, direct-io=$1: file$n"
	done
	# What the inner file system frees, the mount has back.
	full=$(image_bytes)
	rm inner/file?
	sync -f inner # blocks are free once the journal says so
	fstrim inner
	assert_le "bytes of the image after a trim (of $full)" "$(image_bytes)" $((full - 32 * MIB))
	umount inner
	fsck.ext4 -f -n "$device" >fsck.log 2>&1 || fail "after the trim: $(tail -n 20 fsck.log)"
	detach_loop
	rm mnt/image
}

mkdir inner
for cache in kernel none; do
	mount_spillfs mnt "ram=16m,swapsize=1g,size=512m,cache=$cache"
	check_image off
	check_image on
	expect_swapped mnt 4096
	expect_empty mnt
	unmount mnt
done
