#!/bin/bash
# SPDX-License-Identifier: MIT
# Random operations by four processes at once give the same results, errors and bytes as on an ordinary directory.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

OPS=${OPS:-4000}
SEED=${SEED:-$(date +%s)} # printed by each process; SEED=N repeats a run

# The tester itself: two ordinary directories never differ, and one byte that does is found.
mkdir self
mkdir self/a self/b self/c self/d
"$HELPERS/fsrandom" -s "$SEED" -n 400 -f 8 self/a self/b >self/log 2>&1 ||
	fail "fsrandom finds two ordinary directories different: $(cat self/log)"
! "$HELPERS/fsrandom" -s "$SEED" -n 400 -f 8 -x self/c self/d >self/log 2>&1 || fail "fsrandom missed a byte"
grep -q "DIFFERENT.*: byte 4500 is" self/log || fail "fsrandom failed for another reason: $(cat self/log)"
rm -r self

for cache in kernel none; do
	mount_spillfs mnt "ram=16m,swapsize=2g,size=1g,cache=$cache,mode=755"
	pids=()
	for p in 0 1 2 3; do
		mkdir "mnt/p$p" "ref$p"
		"$HELPERS/fsrandom" -s $((SEED + p)) -n "$OPS" "$PWD/mnt/p$p" "$PWD/ref$p" &
		pids+=($!)
	done
	rc=0
	for pid in "${pids[@]}"; do
		wait "$pid" || rc=1
	done
	[ $rc = 0 ] || fail "cache=$cache: differences (see above)"
	expect_swapped mnt 10000
	rm -r mnt/p? ref?
	expect_empty mnt
	unmount mnt
done
