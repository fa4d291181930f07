#!/bin/bash
# SPDX-License-Identifier: MIT
# spillctl stat, evict, pin and unpin: a pinned file is never read back from swap, an evicted one gives its RAM back.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

RAM_MIB=64
FILE_MIB=16
PAGES=$((FILE_MIB * 256))

rss_kib() # MNT
{
	awk '$1 == "VmRSS:" { print $2 }' "/proc/$(daemon_pid "$1")/status"
}

rss_below() # MNT KIB
{
	[ "$(rss_kib "$1")" -lt "$2" ]
}

# Four times the RAM goes through the mount.
stream() # MNT
{
	make_file "$1/stream" $((4 * RAM_MIB)) 99
	drop_cache "$1/stream"
	cat "$1/stream" >/dev/null
	rm "$1/stream"
	fill_ram "$1" $((4 * RAM_MIB))
}

refused() # WHAT TEXT COMMAND...
{
	local what=$1 text=$2 said
	shift 2
	! said=$("$@" 2>&1) || fail "$what: was not refused"
	[[ $said == *"$text"* ]] || fail "$what: says '$said'"
}

for cache in kernel none; do
	mount_spillfs mnt "ram=${RAM_MIB}m,swapsize=1g,cache=$cache,mode=1777"
	make_file ref $FILE_MIB 1

	# Swap-ins while four times the RAM is streamed through: none for what is pinned, all of it without.
	cp ref mnt/file
	sync -f mnt
	"$SPILLCTL" pin mnt/file
	assert_eq "$cache: pinned pages" $PAGES "$(file_stat mnt/file pinned_pages)"
	assert_eq "$cache: pinned_bytes" $((FILE_MIB << 20)) "$(status mnt pinned_bytes)"
	stream mnt
	assert_eq "$cache: resident pages after streaming" $PAGES "$(file_stat mnt/file resident_pages)"
	swapped_in=$(status mnt swapin_pages_total)
	drop_cache mnt/file
	cmp ref mnt/file || fail "$cache: the pinned file has changed"
	assert_eq "$cache: swap-ins for the pinned file" "$swapped_in" "$(status mnt swapin_pages_total)"
	# Renamed it is the same file; what is written to it later is pinned too.
	mv mnt/file mnt/renamed
	head -c 1M ref >>mnt/renamed
	sync -f mnt
	assert_eq "$cache: pinned pages after appending" $((PAGES + 256)) "$(file_stat mnt/renamed pinned_pages)"
	refused "$cache: evicting a pinned file" "is pinned" "$SPILLCTL" evict mnt/renamed
	truncate -s ${FILE_MIB}M mnt/renamed
	"$SPILLCTL" unpin mnt/renamed
	assert_eq "$cache: pinned_bytes after unpin" 0 "$(status mnt pinned_bytes)"
	stream mnt
	stream mnt
	assert_le "$cache: pages that went after unpin" $((PAGES / 2)) "$(file_stat mnt/renamed swapped_pages)"
	swapped_in=$(status mnt swapin_pages_total)
	drop_cache mnt/renamed
	cmp ref mnt/renamed || fail "$cache: the file has changed"
	[ "$(status mnt swapin_pages_total)" -ge $((swapped_in + PAGES / 2)) ] || fail "$cache: unpinned, but not read from swap: this tested nothing"

	# A pin ends with the last name and the last descriptor.
	"$SPILLCTL" pin mnt/renamed
	exec 5<mnt/renamed
	rm mnt/renamed
	assert_eq "$cache: pinned_bytes of a file that is open" $((FILE_MIB << 20)) "$(status mnt pinned_bytes)"
	exec 5<&-
	expect_empty mnt
	assert_eq "$cache: pinned_bytes after the last close" 0 "$(status mnt pinned_bytes)"

	# Beyond the limit: refused as a whole.
	make_file mnt/big $((RAM_MIB - 4)) 2
	refused "$cache: pinning more than fits" "may be pinned" "$SPILLCTL" pin mnt/big
	assert_eq "$cache: pinned_bytes after that" 0 "$(status mnt pinned_bytes)"
	rm mnt/big
	expect_empty mnt

	unmount mnt

	# Evicting really gives RAM back, and loses nothing while the file is written to.  A new mount, with
	# room: how much goes back depends on what else lies in the same 2 MiB.
	mount_spillfs mnt "ram=$((2 * RAM_MIB))m,swapsize=1g,cache=$cache,mode=1777"
	for name in a b c; do # one after the other: memory goes back in chunks of 2 MiB that hold nothing any more
		cp ref mnt/$name
		sync -f mnt
	done
	"$SPILLCTL" pin mnt/[abc] >/dev/null # a machine that is slow to give memory may have had some evicted
	"$SPILLCTL" unpin mnt/[ab] # c stays pinned: what is left can be counted exactly
	before=$(rss_kib mnt)
	"$SPILLCTL" evict mnt/a mnt/b | tee evicted
	assert_eq "$cache: lines of evict" 2 "$(grep -c "$PAGES pages" evicted)"
	assert_eq "$cache: resident pages of an evicted file" 0 "$(file_stat mnt/a resident_pages)"
	assert_eq "$cache: swapped pages of an evicted file" $PAGES "$(file_stat mnt/a swapped_pages)"
	assert_eq "$cache: frames left" $((FILE_MIB << 20)) "$(status mnt frames_used_bytes)"
	"$SPILLCTL" status mnt | head -n 8
	wait_for 20 "$cache: memory going back (was $before KiB)" rss_below mnt $((before - (FILE_MIB << 10)))
	echo "$cache: resident memory $before KiB before evict, $(rss_kib mnt) KiB after"
	cmp ref mnt/a || fail "$cache: the evicted file has changed"
	(
		trap - EXIT
		for i in $(seq 40); do
			"$HELPERS/randbytes" "$i" 65536 | dd of=mnt/b bs=64k seek="$i" conv=notrunc status=none
			"$HELPERS/randbytes" "$i" 65536 | dd of=written bs=64k seek="$i" conv=notrunc status=none
		done
	) &
	writer=$!
	while kill -0 $writer 2>/dev/null; do
		"$SPILLCTL" evict mnt/b >>evicted
	done
	wait $writer || fail "$cache: the writer failed"
	cmp -i 64k -n $((40 << 16)) written mnt/b || fail "$cache: written data was lost"
	cmp -n 64k ref mnt/b || fail "$cache: what was not written to has changed"
	rm written
	expect_swapped mnt 1000

	# What there is of a sparse file, and of a tree of them.
	mkdir -p mnt/tree/sub
	cp ref mnt/tree/sub/whole
	truncate -s 10M mnt/tree/sparse
	dd if=ref of=mnt/tree/sparse bs=4k count=3 seek=100 conv=notrunc status=none
	fallocate -n -o 4M -l 40k mnt/tree/sparse
	ln -s sparse mnt/tree/link
	mkfifo mnt/tree/fifo
	sync -f mnt
	assert_eq "$cache: holes" $((2560 - 13)) "$(file_stat mnt/tree/sparse hole_pages)"
	assert_eq "$cache: reserved" 10 "$(file_stat mnt/tree/sparse reserved_pages)"
	assert_eq "$cache: resident" 3 "$(file_stat mnt/tree/sparse resident_pages)"
	"$SPILLCTL" evict -r mnt/tree >evicted
	assert_eq "$cache: files of a tree" 2 "$(wc -l <evicted)"
	"$SPILLCTL" stat -r --json mnt/tree >tree.json
	assert_eq "$cache: a tree's pages in swap" $((PAGES + 3)) "$(jq .total.swapped_pages tree.json)"
	assert_eq "$cache: a tree's files" 2 "$(jq '.files | length' tree.json)"
	"$SPILLCTL" stat -r mnt/tree | grep -q "whole$" || fail "$cache: stat shows no file"
	refused "$cache: a directory without -r" "is a directory" "$SPILLCTL" stat mnt/tree
	refused "$cache: a FIFO" "not a regular file" timeout 10 "$SPILLCTL" stat mnt/tree/fifo
	refused "$cache: a file of another file system" "not a spillfs" "$SPILLCTL" stat ref
	refused "$cache: a missing file" "No such file" "$SPILLCTL" pin mnt/nowhere

	# The owner may, another user may not; whoever may read may see.
	if [ "$(id -u)" = 0 ]; then
		chmod 755 .
		install -o 12345 -m 644 ref mnt/theirs
		as_user() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }
		if ! as_user 12345 "$SPILLCTL" --version >/dev/null 2>&1; then
			echo "spillctl cannot be run by other users here: who may is not tested"
		else
			as_user 12345 "$SPILLCTL" pin mnt/theirs >/dev/null || fail "$cache: the owner may not pin"
			refused "$cache: another user's unpin" "only its owner" as_user 12346 "$SPILLCTL" unpin mnt/theirs
			refused "$cache: another user's evict" "only its owner" as_user 12346 "$SPILLCTL" evict mnt/theirs
			as_user 12346 "$SPILLCTL" stat mnt/theirs >/dev/null || fail "$cache: a reader may not see"
			assert_eq "$cache: still pinned" $PAGES "$(file_stat mnt/theirs pinned_pages)"
		fi
	fi
	rm -r mnt/*
	expect_empty mnt
	unmount mnt

	mount_spillfs mnt "ram=${RAM_MIB}m,noswap,cache=$cache"
	cp ref mnt/file
	refused "$cache: evict without swap" "noswap" "$SPILLCTL" evict mnt/file
	"$SPILLCTL" pin mnt/file
	assert_eq "$cache: pinned without swap" $PAGES "$(file_stat mnt/file pinned_pages)"
	unmount mnt
done
