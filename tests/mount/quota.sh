#!/bin/bash
# SPDX-License-Identifier: MIT
# Quotas of users and groups: to the page and the inode, in both cache modes, and what was accepted is never lost.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
[ "$(id -u)" = 0 ] || skip "writing as several users takes root"
need setpriv

LIMIT=$((20 << 20))
INODES=40

as() # UID COMMAND...
{
	setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"
}

usage() # KIND ID FIELD
{
	timeout -k 1 20 "$SPILLCTL" quota mnt "-${1:0:1}" "$2" --json | jq -er ".${1}s[0].$3 // 0"
}

# What du and find see of an owner's files.
du_bytes() # KIND ID
{
	find mnt "-${1:0:1}id" "$2" -printf '%b\n' | awk '{ sum += $1 } END { printf "%d", sum * 512 }'
}

usage_is() # KIND ID FIELD VALUE
{
	[ "$(usage "$1" "$2" "$3")" = "$4" ]
}

# The kernel forgets a removed file a moment after unlink() has returned, and so long it counts.
expect_usage_as_du() # ID
{
	local kind
	for kind in user group; do
		wait_for 10 "$cache: inodes of $kind $1 as find counts them" \
			usage_is $kind "$1" inodes_used "$(find mnt "-${kind:0:1}id" "$1" | wc -l)"
		assert_eq "$cache: bytes of $kind $1" "$(du_bytes $kind "$1")" "$(usage $kind "$1" block_used_bytes)"
	done
}

over_quota() # WHAT COMMAND...
{
	local what=$1 said
	shift
	! said=$("$@" 2>&1) || fail "$cache: $what was not refused"
	[[ $said == *"Disk quota exceeded"* ]] || fail "$cache: $what: says '$said'"
}

# Fills a file until it is refused, prints the bytes accepted; they must all be there, which fsync says and cmp sees.
fill() # UID PATH BLOCK
{
	over_quota "writing in blocks of $3" as "$1" dd if=ref of="$2" bs="$3" iflag=fullblock
	sync -f mnt || fail "$cache: accepted data was lost"
	drop_cache "$2"
	stat -c %s "$2"
}

for cache in kernel none; do
	slack=1
	[ $cache = none ] || slack=0 # the kernel does not say how long the write() is that it asks for
	mount_spillfs mnt "ram=32m,swapsize=512m,size=400m,cache=$cache,mode=1777,usrquota,grpquota,usrquota_block_hardlimit=$((LIMIT >> 10))k,usrquota_inode_hardlimit=$INODES"
	chmod 755 .
	"$HELPERS/randbytes" 7 $((LIMIT + (12 << 20))) >ref
	chmod 644 ref

	# One writer: exactly the limit, or one write more where the kernel buffers.
	for block in 4096 65536 1048576; do
		accepted=$(fill 12001 mnt/one $block)
		echo "$cache, blocks of $block: accepted $accepted of $LIMIT"
		assert_le "$cache: bytes that must fit" $((LIMIT - block + 1)) "$accepted"
		assert_le "$cache: bytes accepted" "$accepted" $((LIMIT + (slack ? 0 : block)))
		cmp -n "$accepted" ref mnt/one || fail "$cache: accepted data is lost"
		expect_usage_as_du 12001
		over_quota "a page more" as 12001 dd if=ref of=mnt/more bs=4096 count=1 conv=fsync
		as 12001 rm -f mnt/more
		as 12001 truncate -s 1M mnt/one
		assert_eq "$cache: bytes after truncating" $((1 << 20)) "$(usage user 12001 block_used_bytes)"
		as 12001 rm mnt/one
		expect_usage_as_du 12001
	done

	# fallocate is exact in both, and a hole punched gives back.
	as 12001 fallocate -l $LIMIT mnt/all
	over_quota "setting a page aside" as 12001 fallocate -l 4096 mnt/more
	as 12001 fallocate -p -o 1M -l 1M mnt/all
	as 12001 fallocate -l 1M mnt/more
	assert_eq "$cache: bytes set aside" $LIMIT "$(usage user 12001 block_used_bytes)"
	# Another user is not concerned, and root writes on, at the owner's expense.
	as 12002 dd if=ref of=mnt/theirs bs=64k count=160 status=none
	dd if=ref of=mnt/all bs=1M count=2 seek=30 conv=notrunc,fsync status=none
	assert_eq "$cache: bytes with root's" $((LIMIT + (2 << 20))) "$(usage user 12001 block_used_bytes)"
	rm mnt/all mnt/more
	expect_usage_as_du 12001

	# Several writers of one user, and one of another, at once.
	pids=()
	for i in 1 2 3 4; do
		as 12001 dd if=ref of=mnt/many$i bs=64k iflag=fullblock 2>said.$i &
		pids+=($!)
	done
	as 12002 dd if=ref of=mnt/theirs bs=64k count=160 status=none || fail "$cache: another user was refused"
	for i in 1 2 3 4; do
		! wait "${pids[i - 1]}" || fail "$cache: writer $i was not refused"
		grep -q "Disk quota exceeded" said.$i || fail "$cache: writer $i: $(cat said.$i)"
	done
	sync -f mnt || fail "$cache: accepted data was lost"
	total=0
	for i in 1 2 3 4; do
		size=$(stat -c %s mnt/many$i)
		cmp -n "$size" ref mnt/many$i || fail "$cache: accepted data is lost"
		total=$((total + size))
	done
	echo "$cache, four writers: accepted $total of $LIMIT"
	assert_le "$cache: bytes of four writers that must fit" $((LIMIT - 4 * 65536)) $total
	assert_le "$cache: bytes of four writers" $total $((LIMIT + (slack ? 0 : 4 * 65536)))
	expect_usage_as_du 12001
	expect_usage_as_du 12002

	# A group's limit, set for that one; chgrp moves what is there, or is refused.
	"$SPILLCTL" quota mnt -g 13001 --set block=5m,inode=3
	assert_eq "$cache: a limit that was set" $((5 << 20)) "$(usage group 13001 block_limit_bytes || true)"
	as 12003 dd if=ref of=mnt/group bs=1M count=6 status=none
	sync -f mnt
	in_group() { setpriv --reuid 12003 --regid 12003 --groups 13001 "$@"; }
	over_quota "chgrp" in_group chgrp 13001 mnt/group
	assert_eq "$cache: group after a refused chgrp" 12003 "$(stat -c %g mnt/group)"
	in_group truncate -s 4M mnt/group
	in_group chgrp 13001 mnt/group
	assert_eq "$cache: bytes of the group" $((4 << 20)) "$(usage group 13001 block_used_bytes)"
	assert_eq "$cache: bytes of the former group" 0 "$(usage group 12003 block_used_bytes)"
	over_quota "beyond the group's limit" in_group dd if=ref of=mnt/group bs=1M count=4 seek=4 conv=notrunc
	sync -f mnt
	expect_usage_as_du 12003

	# Inodes.
	mkdir -m 777 mnt/dir
	for i in $(seq $INODES); do as 12004 touch mnt/dir/$i; done
	over_quota "an inode more" as 12004 touch mnt/dir/more
	over_quota "a directory more" as 12004 mkdir mnt/dir/more
	expect_usage_as_du 12004
	"$SPILLCTL" quota mnt -u 12004 --set inode=0
	as 12004 touch mnt/dir/more || fail "$cache: no limit, but refused"
	chown 12005 mnt/dir/1
	expect_usage_as_du 12004
	expect_usage_as_du 12005

	# Who may see and set what.
	"$SPILLCTL" quota mnt | grep -q "^#12001  *+- .*20.0 MiB" || fail "$cache: the table: $("$SPILLCTL" quota mnt)"
	if as 12001 "$SPILLCTL" --version >/dev/null 2>&1; then
		assert_eq "$cache: lines that another user sees" "12001" "$(as 12001 "$SPILLCTL" quota mnt --json | jq -r '.users[].id')"
		! as 12001 "$SPILLCTL" quota mnt -u 12001 --set block=1g 2>said || fail "$cache: a user set a limit"
		grep -q "root may set" said || fail "$cache: says $(cat said)"
	fi

	# Removed but open: counted until the last close.
	exec 5<mnt/theirs
	rm mnt/theirs
	assert_eq "$cache: bytes of an open file" $((10 << 20)) "$(usage user 12002 block_used_bytes)"
	exec 5<&-
	wait_for 10 "the open file's bytes going" usage_is user 12002 block_used_bytes 0
	rm -r mnt/*
	for id in 12001 12002 12003 12004 12005; do
		wait_for 10 "$cache: inodes of $id at 0 when all is removed" usage_is user $id inodes_used 0
		assert_eq "$cache: bytes when all is removed" 0 "$(usage user $id block_used_bytes)"
	done
	expect_empty mnt
	unmount mnt
done

mount_spillfs mnt ram=32m,noswap
! "$SPILLCTL" quota mnt 2>said || fail "quotas where there are none"
grep -q "mounted without quotas" said || fail "without quotas: says $(cat said)"
unmount mnt
