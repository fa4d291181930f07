#!/bin/bash
# SPDX-License-Identifier: MIT
# git clones, checks, repacks and checks out a repository several times larger than the memory, without a difference.
. "$SRC/tests/mount/lib.sh"
need_fuse
need git

export HOME=$PWD GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
git_quiet()
{
	git -c gc.auto=0 -c advice.detachedHead=false "$@" >git.log 2>&1 || fail "git $*: $(tail -n 20 git.log)"
}

# 2,048 files of 16 KiB that do not compress, in 64 directories; then eight commits that each replace a part.
make_repository()
{
	local c d
	git_quiet init -q -b main source
	for d in $(seq 64); do
		mkdir -p "source/dir$d"
		"$HELPERS/randbytes" "$d" $((512 << 10)) | split -b 16k -a 2 - "source/dir$d/file"
	done
	git_quiet -C source add -A
	git_quiet -C source commit -q -m first
	for c in $(seq 8); do
		"$HELPERS/randbytes" $((1000 + c)) $((512 << 10)) | split -b 16k -a 2 - "source/dir$((c * 5))/file"
		git_quiet -C source rm -q -r "dir$((c * 5 + 1))"
		git_quiet -C source commit -q -a -m "change $c"
	done
}

make_repository
for cache in kernel none; do
	mount_spillfs mnt "ram=16m,swapsize=2g,size=1g,cache=$cache"
	git_quiet clone -q "file://$PWD/source" mnt/clone
	drop_cache mnt
	git_quiet -C mnt/clone fsck --full --strict
	git_quiet -C mnt/clone checkout -q -f HEAD~8
	drop_cache mnt
	git_quiet -C mnt/clone checkout -q -f main
	git_quiet -C mnt/clone gc -q --prune=now
	drop_cache mnt
	git_quiet -C mnt/clone fsck --full
	assert_eq "status ($cache)" "" "$(git -C mnt/clone status --porcelain)"
	git_quiet -C mnt/clone diff --exit-code HEAD
	diff -r --exclude=.git source mnt/clone || fail "cache=$cache: the work trees differ"
	assert_eq "head ($cache)" "$(git -C source rev-parse HEAD)" "$(git -C mnt/clone rev-parse HEAD)"
	expect_swapped mnt 4096
	rm -rf mnt/clone
	expect_empty mnt
	unmount mnt
done
