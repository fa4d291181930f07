#!/bin/bash
# SPDX-License-Identifier: MIT
# stress-ng's file system and mapping stressors find nothing wrong when they verify what they do, some at a time.
# alone: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
need stress-ng

SECONDS_EACH=${STRESS_SECONDS:-2}
# Names, attributes, links; data and holes; mappings; locks and leases; other ways to move data.
BATCHES=(
	'chmod chown dentry dir dirmany filename getdent'
	'link mknod open rename symlink touch utime xattr'
	'copy-file fallocate fpunch hdd iomix revio seek sync-file'
	'madvise mmap msync fault readahead'
	'flock lease locka lockf lockofd dup fstat fcntl'
	'aio io-uring sendfile splice tee dnotify inotify fiemap'
)

# One of each; those that this version does not know are left out, and said so once.
arguments() # STRESSOR...
{
	local name
	for name; do
		if grep -q -- "--$name " known; then
			printf -- '--%s 1 ' "$name"
		else
			echo "stress-ng here has no $name" >&2
		fi
	done
	echo
}

stress-ng --help >known
mkdir mnt
for cache in kernel none; do
	mount_spillfs mnt "ram=16m,swapsize=1g,size=512m,cache=$cache"
	for group in "${BATCHES[@]}"; do
		read -ra names <<<"$group"
		read -ra args <<<"$(arguments "${names[@]}")"
		timeout 60 stress-ng --temp-path mnt --verify --timeout "$SECONDS_EACH" --hdd-bytes 48m --mmap-bytes 32m \
			--mmap-file --copy-file-bytes 128m --fallocate-bytes 64m --iomix-bytes 32m --readahead-bytes 64m \
			--seek-size 32m --sync-file-bytes 48m --msync-bytes 32m --oom-avoid --no-rand-seed \
			"${args[@]}" >stress.log 2>&1 ||
			fail "cache=$cache, $group: $(grep -v 'dispatching' stress.log | tail -n 20)"
		! grep -E 'fail:|corrupt|incorrect' stress.log || fail "cache=$cache: it complains (see above)"
	done
	# System V segments, by the library and so in the mount: as large as they are, they show in swap.
	before=$(status mnt swapout_pages_total)
	LD_PRELOAD=$BUILD/tools/sysv/libspillfs-sysv.so SPILLFS_SYSV_DIR=$PWD/mnt timeout 60 stress-ng --verify \
		--timeout "$SECONDS_EACH" --shm-sysv 2 --shm-sysv-bytes 16m >stress.log 2>&1 ||
		fail "cache=$cache, shm-sysv: $(tail -n 20 stress.log)"
	assert_le "pages to swap, of segments and before" $((before + 4096)) "$(status mnt swapout_pages_total)"
	expect_swapped mnt 1024
	assert_eq "left behind" "" "$(ls -A mnt)"
	expect_empty mnt
	unmount mnt
done
