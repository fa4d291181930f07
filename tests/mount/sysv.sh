#!/bin/bash
# SPDX-License-Identifier: MIT
# libspillfs-sysv does what the kernel's System V shared memory does, line for line, and for segments far above the memory.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
own_namespace # so that the default place, /dev/shm, can be our mount

library=$BUILD/tools/sysv/libspillfs-sysv.so
cases=(keys contents flags fork_inherits ends removal change info race churn large)
if [ "$(id -u)" = 0 ]; then
	cases+=(rights owner)
	place=/dev/shm
	clear_place $place
else
	place=$PWD/mnt
	export SPILLFS_SYSV_DIR=$place
fi

# A library under ASan needs the run time before it, and the commands leak as they please.
runtime=$(ldd "$library" | awk '$1 ~ /^libasan/ { print $3 }')

preloaded() # COMMAND...
{
	LD_PRELOAD=${runtime:+$runtime:}$library ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0 "$@"
}

timeout 120 "$HELPERS/sysvtest" "${cases[@]}" >kernel 2>&1 || fail "the kernel's own: $(tail -n 3 kernel)"
grep -q '^=== large' kernel || fail "the program said nothing"

# Without a mount: one line says what is missing.
preloaded "$HELPERS/sysvtest" keys >none 2>&1 || true
assert_eq "complaints" 1 "$(grep -c '^libspillfs-sysv: .*SPILLFS_SYSV_DIR' none)"
grep -q 'a key that is not there  *ENOSYS' none || fail "no mount, but no ENOSYS: $(cat none)"

export SYSVTEST_BETWEEN="$HELPERS/dropcache $place"
for cache in kernel none; do
	mount_spillfs "$place" "ram=16m,swapsize=1g,size=512m,cache=$cache"
	preloaded timeout 180 \
		"$HELPERS/sysvtest" "${cases[@]}" >spillfs 2>&1 || fail "preloaded: $(tail -n 3 spillfs)"
	diff -u kernel spillfs || fail "cache=$cache: not what the kernel does"
	expect_swapped "$place" 4096
	# Whoever looks next tidies away what the killed have left.
	preloaded ipcmk -M 100 >made
	id=$(sed -n 's/.*: *//p' made)
	[ -e "$place/.SYSV.$id" ] || fail "ipcmk made nothing in $place"
	preloaded ipcrm -m "$id"
	assert_eq "left behind" "" "$(ls -A "$place")"
	expect_empty "$place"

	# SHM_LOCK keeps a segment in RAM while another is written through the little there is, and SHM_INFO counts both.
	# (What the kernel writes back may go around the RAM: something has to come past it.)
	filler="$HELPERS/randbytes 99 $((64 << 20)) | dd of=$place/filler bs=1M iflag=fullblock oflag=direct status=none"
	SYSVTEST_BETWEEN="$SYSVTEST_BETWEEN && $filler && rm $place/filler" \
		preloaded "$HELPERS/sysvtest" locked >got 2>&1 || fail "locked: $(cat got)"
	assert_eq "a locked segment (cache=$cache)" "kept unlocked ENOMEM gone" "$(awk '!/^===/ { print $NF }' got | xargs)"
	expect_empty "$place"

	# Room is set aside when a segment is made, not when it is written to.
	! preloaded ipcmk -M $((600 << 20)) >made 2>&1 || fail "a segment larger than the mount was made"
	preloaded ipcmk -M $((400 << 20)) >made
	! preloaded ipcmk -M $((200 << 20)) >made2 2>&1 || fail "two segments larger than the mount were made"
	assert_eq "segments" 1 "$(find "$place" -name '.SYSV.*' | wc -l)"
	preloaded ipcrm -m "$(sed -n 's/.*: *//p' made)"
	expect_empty "$place"
	unmount "$place"
done
