#!/bin/bash
# SPDX-License-Identifier: MIT
# Names, permissions, times, links, directories, holes, extended attributes and locks behave as POSIX and tmpfs have it.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse

mount_spillfs mnt ram=64m
assert_eq "mode of the root directory" 1777 "$(stat -c %a mnt)"
unmount mnt
run_in_both_modes ram=64m,swapsize=256m,size=256m,nr_inodes=100000 posixtest dirtest holestest xattrtest locktest
