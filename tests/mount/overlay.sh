#!/bin/bash
# SPDX-License-Identifier: MIT
# overlayfs takes the mount as its upper layer: copy-up, whiteouts, opaque directories, renames; and it holds many files.
. "$SRC/tests/mount/lib.sh"
need_fuse
[ "$(id -u)" = 0 ] || skip "only root can mount an overlay in this namespace"
grep -qw overlay /proc/filesystems || skip "the kernel has no overlayfs"
need getfattr setfattr
own_namespace

test_clean_up()
{
	! is_mounted merged || timeout -k 1 60 umount merged
}

make_lower()
{
	local d
	mkdir -p lower/gone lower/kept lower/replaced lower/deep/er
	echo old >lower/changed
	echo old >lower/removed
	echo old >lower/moved
	echo old >lower/linked
	ln lower/linked lower/linked2
	echo old >lower/replaced/old
	echo old >lower/deep/er/file
	ln -s changed lower/symlink
	setfattr -n user.colour -v blue lower/changed
	chmod 2755 lower/kept
	touch -d '2001-02-03 04:05:06.789' lower/changed lower/kept
	for d in $(seq 16); do
		"$HELPERS/randbytes" "$d" 1048576 >"lower/deep/big$d"
	done
}

upper_attribute() # NAME PATH
{
	getfattr --absolute-names --only-values -n "$prefix.overlay.$1" "mnt/upper/$2" 2>/dev/null
}

assert_whiteout() # PATH
{
	assert_eq "$1 in the upper layer ($options)" "character special file 0 0" "$(stat -c '%F %t %T' "mnt/upper/$1")"
}

change_things()
{
	local n
	echo new >>merged/changed
	assert_eq "copied up" "old new" "$(tr '\n' ' ' <merged/changed | sed 's/ $//')"
	assert_eq "attribute of the copy" blue "$(getfattr --only-values -n user.colour merged/changed)"
	chmod 600 merged/deep/er/file
	if [[ $options == *metacopy=on* ]]; then
		upper_attribute metacopy deep/er/file >/dev/null || fail "chmod copied more than the metadata"
	else
		assert_eq "the whole of the copy" old "$(cat mnt/upper/deep/er/file)"
	fi
	rm merged/removed
	assert_whiteout removed
	rm -r merged/gone
	assert_whiteout gone
	mv merged/moved merged/kept/arrived
	assert_whiteout moved
	rm -r merged/replaced
	mkdir merged/replaced
	echo new >merged/replaced/new
	assert_eq "opaque ($options)" y "$(upper_attribute opaque replaced)"
	assert_eq "in the opaque directory" new "$(ls merged/replaced)"
	echo back >merged/removed
	assert_eq "removed and made again" back "$(cat merged/removed)"
	ln merged/changed merged/hard
	ln -s nowhere merged/dangling
	mkfifo merged/fifo
	mknod merged/null c 1 3
	for n in $(seq 16); do
		"$HELPERS/randbytes" $((100 + n)) 1048576 >>"merged/deep/big$n"
	done
}

check_things()
{
	local n
	assert_eq "names ($options)" \
		"changed dangling deep fifo hard kept linked linked2 null removed replaced symlink" "$(cd merged && echo *)"
	assert_eq "changed" new "$(tail -n 1 merged/hard)"
	assert_eq "moved" old "$(cat merged/kept/arrived)"
	assert_eq "mode of a directory that was copied up" 2755 "$(stat -c %a merged/kept)"
	assert_eq "mode of a file that was" 600 "$(stat -c %a merged/deep/er/file)"
	assert_eq "its content" old "$(cat merged/deep/er/file)"
	assert_eq "replaced" new "$(ls merged/replaced)"
	echo thrown >merged/null
	for n in $(seq 16); do
		cmp <("$HELPERS/randbytes" "$n" 1048576; "$HELPERS/randbytes" $((100 + n)) 1048576) "merged/deep/big$n" ||
			fail "$options: big$n differs"
	done
}

# Directories of the lower layer move as well, when the upper layer can keep where they came from.
move_directory()
{
	mv merged/deep merged/elsewhere
	assert_eq "redirect ($options)" deep "$(upper_attribute redirect elsewhere)"
	assert_whiteout deep
	assert_eq "moved with its files" 16 "$(find merged/elsewhere -name 'big*' | wc -l)"
	mv merged/elsewhere merged/deep
}

mount_overlay()
{
	mount -t overlay overlay -o "lowerdir=lower,upperdir=mnt/upper,workdir=mnt/work,$options" merged
}

mkdir merged
make_lower
before=$(find lower -type f -exec sha256sum {} + | sort | sha256sum)
for cache in kernel none; do
	for options in redirect_dir=on redirect_dir=on,metacopy=on,index=on userxattr; do
		prefix=trusted
		[ $options != userxattr ] || prefix=user
		mount_spillfs mnt "ram=16m,swapsize=1g,size=512m,cache=$cache"
		mkdir mnt/upper mnt/work
		mount_overlay || fail "cache=$cache: the kernel refuses it with $options"
		# The kernel falls back to a read-only mount, or to less, where the upper layer lacks something.
		change_things
		[ $prefix = user ] || move_directory
		check_things
		umount merged
		drop_cache mnt
		mount_overlay
		check_things
		umount merged
		expect_swapped mnt 2048
		rm -r mnt/upper mnt/work
		expect_empty mnt
		unmount mnt
	done
done
assert_eq "the lower layer" "$before" "$(find lower -type f -exec sha256sum {} + | sort | sha256sum)"
