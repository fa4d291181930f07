#!/bin/bash
# SPDX-License-Identifier: MIT
# statfs tells the limits, and more files or data than size=, nr_inodes=, RAM and swap allow end in ENOSPC, not in loss.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

statfs() # FORMAT
{
	stat -f -c "$1" mnt
}

statfs_is() # FORMAT VALUE
{
	[ "$(statfs "$1")" = "$2" ]
}

# Writes MIB of known bytes.  Leaves dd's words in dd.log, fsync's in sync.log; succeeds if neither complained.
put() # FILE MIB
{
	local rc=0
	"$HELPERS/randbytes" 7 $(($2 << 20)) 2>/dev/null |
		dd of="$1" bs=64k iflag=fullblock status=none 2>dd.log || rc=1
	sync "$1" 2>sync.log || rc=1
	echo "cache=$cache: of $2 MiB write() took $(stat -c %s "$1") bytes; $(cat dd.log sync.log)"
	return $rc
}

# Unless close() or fsync() reported a loss, all that write() took must be there.
accepted_is_there() # FILE
{
	local size
	if [ -s sync.log ] || grep -q "closing" dd.log; then
		return
	fi
	size=$(stat -c %s "$1")
	drop_cache "$1"
	"$HELPERS/randbytes" 7 "$size" | cmp - "$1" || fail "cache=$cache: accepted bytes are lost without an error"
}

# More data than fits must be refused while the daemon lives on, and there must be room again after rm.
overfill() # MIB
{
	local most
	! put mnt/big "$1" || fail "cache=$cache: $1 MiB fitted"
	grep -q "No space left" dd.log sync.log || fail "cache=$cache: not ENOSPC but $(cat dd.log sync.log)"
	accepted_is_there mnt/big
	most=$(($(status mnt size_limit_bytes) + slack))
	assert_le "size_used_bytes (cache=$cache)" "$(status mnt size_used_bytes)" $most
	rm mnt/big
	expect_empty mnt
	put mnt/small 4 || fail "cache=$cache: no room after rm: $(cat dd.log sync.log)"
	accepted_is_there mnt/small
	rm mnt/small
}

check_statfs()
{
	local free
	assert_eq "block size, blocks, inodes, free inodes" "4096 16384 1000 999" "$(statfs '%S %b %c %d')"
	assert_eq "longest name" 255 "$(statfs %l)"
	free=$(statfs %f)
	assert_eq "free blocks of an empty file system" 16384 "$free"
	put mnt/f 1
	assert_eq "free blocks after 1 MiB" $((free - 256)) "$(statfs %f)"
	assert_eq "free inodes after one file" 999 "$(($(statfs %d) + 1))"
	rm mnt/f
	wait_for 5 "free blocks after rm" statfs_is %f 16384
}

check_inodes()
{
	local i made=0
	mkdir mnt/many
	for i in $(seq 1100); do
		{ : >"mnt/many/f$i"; } 2>/dev/null || break
		made=$((made + 1))
	done
	assert_eq "files that nr_inodes=1000 allows below one directory" 998 $made
	! mkdir mnt/one-more 2>err.log || fail "an inode too many"
	grep -q "No space left" err.log || fail "not ENOSPC but $(cat err.log)"
	! ln -s x mnt/link 2>/dev/null || fail "an inode too many"
	ln mnt/many/f1 mnt/many/hard || fail "a hard link needs no inode"
	rm mnt/many/f2
	: >mnt/again || fail "no inode is free after rm"
	rm -r mnt/many mnt/again
	assert_eq "inodes in use when all is removed" 1 "$(status mnt inodes_used)"
}

for cache in kernel none; do
	slack=0
	[ $cache = none ] || slack=$((32 << 20)) # what the kernel had acknowledged before it heard

	mount_spillfs mnt "ram=16m,swapsize=128m,size=64m,nr_inodes=1000,cache=$cache"
	check_statfs
	check_inodes
	if [ $cache = none ]; then
		! put mnt/exact 80 || fail "80 MiB fitted into 64"
		assert_eq "bytes that fit" $((64 << 20)) "$(stat -c %s mnt/exact)"
		assert_eq "free blocks" 0 "$(statfs %a)"
		dd if=/dev/zero of=mnt/exact bs=1M count=2 conv=notrunc status=none || fail "overwriting needs no room"
		{ : >mnt/empty; } || fail "an empty file needs no room"
		rm mnt/exact mnt/empty
	fi
	! fallocate -l 100m mnt/reserved 2>err.log || fail "fallocate past the limit"
	grep -q "No space left" err.log || fail "not ENOSPC but $(cat err.log)"
	rm mnt/reserved
	expect_empty mnt
	overfill 160
	expect_swapped mnt 4096
	unmount mnt

	# size= promises more than RAM and swap hold
	mount_spillfs mnt "ram=16m,swapsize=16m,size=1g,cache=$cache"
	overfill 160
	unmount mnt

	mount_spillfs mnt "ram=32m,noswap,cache=$cache"
	overfill 160
	assert_eq "pages swapped with noswap" 0 "$(status mnt swapout_pages_total)"
	unmount mnt
done
