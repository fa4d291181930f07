#!/bin/bash
# SPDX-License-Identifier: MIT
# A mount in use takes other limits, by spillctl set and by mount -o remount, all or nothing; what is too small is refused.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
need setpriv fio

# ASan keeps what is freed for a while, so there the resident memory says nothing.
sanitized=
[[ $BUILD != *-asan* ]] || sanitized=yes

rss_kib()
{
	awk '$1 == "VmRSS:" { print $2 }' "/proc/$(daemon_pid mnt)/status"
}

blocks()
{
	stat -f -c %b mnt
}

set_to() # OPTIONS
{
	timeout -k 1 60 "$SPILLCTL" set mnt "$1" 2>err.log || fail "spillctl set $1: $(cat err.log)"
}

refused() # WORD COMMAND...
{
	local word=$1 rc=0
	shift
	timeout -k 1 60 "$@" >out.log 2>err.log || rc=$?
	[ $rc != 0 ] || fail "$*: not refused"
	[ "$(wc -l <err.log)" = 1 ] && grep -qF -- "$word" err.log || fail "$*: should be one line with '$word': $(cat err.log)"
	echo "ok   $rc $(cat err.log)"
}

remount() # OPTIONS: as mount(8) calls its helper
{
	timeout -k 1 60 "$SPILLFS" scratch "$PWD/mnt" -o "rw,remount,$1" 2>err.log || fail "remount,$1: $(cat err.log)"
}

option_is() # WORD: in the kernel's list
{
	awk -v mnt="$PWD/mnt" '$2 == mnt { print "," $4 "," }' /proc/mounts | grep -q ",$1,"
}

intact()
{
	drop_cache mnt/data
	"$HELPERS/randbytes" 7 $((150 << 20)) | cmp - mnt/data || fail "data is not what was written"
}

for cache in kernel none; do
	mount_spillfs mnt "ram=128m,swapsize=384m,nr_inodes=1000,cache=$cache"
	# More than once where the arena grows more slowly than we write: the cap is to be used.
	for _ in 1 2 3 4 5; do
		"$HELPERS/randbytes" 7 $((150 << 20)) | dd of=mnt/data bs=1M iflag=fullblock conv=notrunc status=none
		sync mnt/data
		[ "$(rss_kib)" -lt $((100 << 10)) ] || break
	done

	# size: df follows, below use is refused
	set_to size=200m
	assert_eq "blocks after size=200m" 51200 "$(blocks)"
	refused "would fit" "$SPILLCTL" set mnt size=100m
	assert_eq "blocks after a refused size" 51200 "$(blocks)"
	! fallocate -l 60m mnt/more 2>/dev/null || fail "size=200m does not bind"
	set_to nr_blocks=80k
	assert_eq "blocks after nr_blocks=80k" 81920 "$(blocks)"
	fallocate -l 60m mnt/more || fail "a larger size does not count"
	rm mnt/more
	set_to size=0

	# ram: memory goes back, pages to swap; and up again
	before=$(rss_kib)
	set_to ram=48m
	assert_eq ram_limit_bytes $((48 << 20)) "$(status mnt ram_limit_bytes)"
	assert_le ram_used_bytes "$(status mnt ram_used_bytes)" $((48 << 20))
	echo "cache=$cache: ram=128m -> 48m: resident $before -> $(rss_kib) KiB"
	[ -n "$sanitized" ] || assert_le "resident KiB after ram=48m" "$(rss_kib)" $((56 << 10))
	[ -n "$sanitized" ] || assert_le "resident KiB before that" $((100 << 10)) "$before"
	intact
	[ "$(status mnt swapout_pages_total)" -gt 20000 ] || fail "nothing was swapped"
	refused "too small" "$SPILLCTL" set mnt ram=1m
	refused "too large" "$SPILLCTL" set mnt ram=200%
	set_to ram=256m
	"$HELPERS/randbytes" 9 $((180 << 20)) >mnt/more
	sync mnt/more
	assert_le "frames that ram=256m allows" $((130 << 20)) "$(status mnt frames_used_bytes)"
	rm mnt/more
	intact

	# swapsize, nr_inodes
	set_to ram=48m
	refused "in use" "$SPILLCTL" set mnt swapsize=16m
	refused "swap to use" "$SPILLCTL" set mnt swapsize=1g
	set_to swapsize=300m
	assert_eq swap_limit_bytes $((300 << 20)) "$(status mnt swap_limit_bytes)"
	set_to nr_inodes=3
	: >mnt/one || fail "an inode is left"
	! { : >mnt/two; } 2>/dev/null || fail "nr_inodes=3 does not bind"
	refused "nr_inodes" "$SPILLCTL" set mnt nr_inodes=2
	# all or nothing
	refused "would fit" "$SPILLCTL" set mnt nr_inodes=500,size=100m
	assert_eq inodes_limit 3 "$(status mnt inodes_limit)"
	set_to nr_inodes=1000,inode32,huge=never
	assert_eq inode_bits 32 "$(status mnt inode_bits)"
	assert_eq huge never "$(status mnt huge)"
	rm mnt/one

	# what is not to be set, and who may not
	refused "cannot be changed" "$SPILLCTL" set mnt swap=/
	refused "cannot be changed" "$SPILLCTL" set mnt reserve=1m
	refused "usrquota" "$SPILLCTL" set mnt usrquota_block_hardlimit=1m
	refused "chmod" "$SPILLCTL" set mnt mode=700
	refused "nosuch" "$SPILLCTL" set mnt nosuch=1
	refused "needed" "$SPILLCTL" set mnt
	if [ "$(id -u)" = 0 ]; then
		stands=$(blocks)
		cp "$SPILLCTL" /dev/shm/spillctl.$$
		chmod 755 /dev/shm/spillctl.$$
		# Through an open directory: the test's own may be closed to others.
		refused "only root" setpriv --reuid 65534 --regid 65534 --clear-groups \
			/dev/shm/spillctl.$$ set /dev/fd/3 size=300m 3<mnt
		rm /dev/shm/spillctl.$$
		assert_eq "blocks after a stranger's try" "$stands" "$(blocks)"
	fi

	# remount
	refused "no spillfs" "$SPILLFS" scratch "$TEST_DIR" -o remount,size=1g
	remount "size=210m,nr_inodes=900,cache=$cache,swap=$TEST_DIR/swap,mode=700,user_id=0,group_id=0,max_read=65536"
	assert_eq "blocks after remount,size=210m" 53760 "$(blocks)"
	assert_eq "mode after remount,mode=700" 1777 "$(stat -c %a mnt)" # as tmpfs: no effect
	refused "would fit" "$SPILLFS" scratch "$PWD/mnt" -o remount,size=100m,noexec
	! option_is noexec || fail "half of a remount was done"
	if [ "$(id -u)" = 0 ]; then
		remount "ro,noexec,noatime,size=220m"
		option_is ro && option_is noexec && option_is noatime || fail "flags: $(grep "$PWD/mnt" /proc/mounts)"
		assert_eq "blocks" 56320 "$(blocks)"
		assert_eq atime noatime "$(status mnt atime)"
		! { : >mnt/new; } 2>/dev/null || fail "not read-only"
		remount "exec,atime,size=230m"
		! option_is noexec || fail "noexec stays"
		option_is rw || fail "rw was said"
		exec 4>mnt/open
		refused "mount:" "$SPILLFS" scratch "$PWD/mnt" -o remount,ro,size=240m
		assert_eq "blocks after the kernel refused" 58880 "$(blocks)"
		exec 4>&-
		mount -i -o remount,noexec "$PWD/mnt" && option_is noexec || fail "mount(8) itself"
	fi
	intact
	unmount mnt
done

# reserve: there from the start, and it stays
mount_spillfs mnt "ram=64m,swapsize=256m,reserve=192m,cache=none"
[ -n "$sanitized" ] || assert_le "resident KiB of reserve=192m,ram=64m" $((60 << 10)) "$(rss_kib)"
held() # KiB that the unnamed swap file has on the disk
{
	local fd
	for fd in "/proc/$(daemon_pid mnt)"/fd/*; do
		[[ $(readlink "$fd") != "$TEST_DIR"/swap/* ]] || stat -L -c '%b' "$fd"
	done | awk '{ print $1 / 2; exit }'
}
assert_le "KiB of the swap file at once" $((128 << 10)) "$(held)"
"$HELPERS/randbytes" 7 $((170 << 20)) >mnt/data
rm mnt/data
expect_empty mnt
sleep 2
assert_le "KiB of the swap file after rm" $((120 << 10)) "$(held)"
[ -n "$sanitized" ] || assert_le "resident KiB after rm" $((56 << 10)) "$(rss_kib)"
assert_eq reserved_bytes $((192 << 20)) "$(status mnt reserved_bytes)"
refused "too small" "$SPILLCTL" set mnt ram=40m
unmount mnt

# ram moves up and down while fio writes and verifies
mount_spillfs mnt "ram=96m,swapsize=512m"
fio --name=v --directory=mnt --size=48m --numjobs=3 --rw=randrw --bs=4k-64k --verify=crc32c --verify_fatal=1 \
	--ioengine=psync --loops=2 --group_reporting --output=fio.log &
fio_pid=$!
turns=0
while kill -0 $fio_pid 2>/dev/null; do
	for mib in 40 160 48 96; do
		set_to ram=${mib}m
		assert_le "ram_used_bytes at $mib MiB" "$(status mnt ram_used_bytes)" $((mib << 20))
		turns=$((turns + 1))
	done
done
wait $fio_pid || fail "fio: $(cat fio.log)"
echo "the cap moved $turns times"
[ $turns -ge 8 ] || fail "too few to tell"
expect_swapped mnt 1000
unmount mnt
