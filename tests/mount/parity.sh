#!/bin/bash
# SPDX-License-Identifier: MIT
# Random system calls of all kinds, by several users, do on spillfs what they do on tmpfs, but for a list of differences.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
[ "$(id -u)" = 0 ] || skip "only root can mount a tmpfs, and be several users"

SEED=${SEED:-1}               # the same calls each time, as a change is tested here; SEED=$(date +%s) looks for more
EPISODES=${EPISODES:-40}      # per mode; a multiple of it for a long run
MODES=${MODES:-none kernel}
LIST=$SRC/tests/mount/parity.differences

# tmpfs mounts are this test's own to take away.
test_clean_up()
{
	umount "$TEST_DIR"/tmpfs-? 2>/dev/null || true
}

mount_tmpfs() # DIR OPTS
{
	mkdir "$1"
	mount -t tmpfs -o "$2,mode=755" parity "$1"
}

same=size=1g,nr_inodes=20000
mount_tmpfs tmpfs-a $same
mount_tmpfs tmpfs-b $same

# The tester itself: two tmpfs never differ, with no list at all; and whatever is made to differ is found, and shrunk to
# nothing, since no step is needed for it.
"$HELPERS/parity" -m self -s "$SEED" -c 6 tmpfs-a tmpfs-b >self.log 2>&1 ||
	fail "parity finds two tmpfs different: $(cat self.log)"
for kind in byte mode time xattr name; do
	! "$HELPERS/parity" -m self -s "$SEED" -c 1 -x $kind tmpfs-a tmpfs-b >self.log 2>&1 || fail "parity missed a $kind"
	grep -q "DIFFERENT.*: self tree " self.log || fail "-x $kind failed for another reason: $(cat self.log)"
	grep -q "shrunk to 0 steps" self.log || fail "-x $kind was not shrunk: $(cat self.log)"
done

# Both are full most of the time.  A store to a mapping has nobody who could be told, and is left out.
tiny=size=12m,nr_inodes=60
mount_tmpfs tmpfs-c $tiny
mount_spillfs mnt "ram=8m,swapsize=64m,$tiny,cache=none,mode=755"
"$HELPERS/parity" -m full -f -s "$SEED" -c "$EPISODES" -w map_store -l "$LIST" mnt tmpfs-c ||
	fail "a full mount differs from a full tmpfs (see above)"
unmount mnt

for cache in $MODES; do
	mount_spillfs mnt "ram=8m,swapsize=2g,$same,cache=$cache,mode=755"
	"$HELPERS/parity" -m $cache -s "$SEED" -c "$EPISODES" -l "$LIST" mnt tmpfs-b ||
		fail "cache=$cache differs from tmpfs (see above)"
	expect_swapped mnt 1000
	expect_empty mnt
	unmount mnt
done
