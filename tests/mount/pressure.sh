#!/bin/bash
# SPDX-License-Identifier: MIT
# When its memory cgroup is short of memory, the daemon gives back RAM it holds, loses nothing, and takes it again afterwards.
# alone: yes
. "$SRC/tests/mount/lib.sh"
. "$SRC/tests/mount/cgroup-lib.sh"
need_fuse
[ "$(id -u)" = 0 ] || skip "needs root"

RAM_MIB=96
OTHERS_MIB=24 # what the cgroup has beyond the daemon's ram= and overhead
DATA_MIB=160
HOG_MIB=64
SECONDS_EACH=${SECONDS_EACH:-40}
group=
hogs=()

test_clean_up()
{
	exec 3>&-
	[ "${#hogs[@]}" = 0 ] || kill "${hogs[@]}" 2>/dev/null || true
	unmount_all
	mount_pid=()
	[ -z "$group" ] || cgroup_remove "$group"
}

enter_cgroup()
{
	local parent
	parent=$(cgroup_parent) || skip "no memory cgroup can be made"
	cgroup_make "$parent/spillfs-pressure-$$" $(((RAM_MIB + 8 + OTHERS_MIB) << 20)) || skip "no memory cgroup can be made"
	group=$parent/spillfs-pressure-$$
}

# With &: a command in the group, and $! is the command itself.
within()
{
	exec bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$@"
}

rss_mib()
{
	awk '$1 == "VmRSS:" { print int($2 / 1024) }' "/proc/$(daemon_pid mnt)/status"
}

rss_at_most()
{
	[ "$(rss_mib)" -le "$1" ]
}

frames_at_most() # MIB
{
	[ "$(status mnt frames_used_bytes)" -le $(($1 << 20)) ]
}

# Of all the files in a random order: free frames are then scattered all over the memory.
read_here_and_there()
{
	fio --name=f --filename="$PWD/mnt/f" --size=${DATA_MIB}m --rw=randread --bs=4k --ioengine=psync --invalidate=0 \
		--norandommap --io_size=$((DATA_MIB / 2))m >fio.log 2>&1 || fail "$(cat fio.log)"
}

is_there()
{
	"$HELPERS/randbytes" 3 $((DATA_MIB << 20)) | cmp - mnt/f || fail "the file is not what was written"
}

begin()
{
	printf '#!/bin/bash\necho $$ >"%s/cgroup.procs" && exec "%s" "$@"\n' "$group" "$real" >spillfs
	chmod +x spillfs
	SPILLFS=$PWD/spillfs mount_spillfs mnt "ram=${RAM_MIB}m,swapsize=512m,cache=none"
	"$HELPERS/randbytes" 3 $((DATA_MIB << 20)) >mnt/f
	read_here_and_there
	before=$(rss_mib)
	[ "$before" -ge $((RAM_MIB * 7 / 8)) ] || fail "only $before MiB are in use"
}

finish() # WHAT
{
	is_there
	expect_swapped mnt $(((DATA_MIB - RAM_MIB) * 256))
	read_here_and_there
	echo "$1: $before MiB resident, $relieved under pressure, $(rss_mib) afterwards; $(cgroup_kills "$group") killed"
	[ "$(rss_mib)" -ge $((RAM_MIB * 7 / 8)) ] || fail "$1: of its RAM it uses only $(rss_mib) MiB afterwards"
	assert_eq "$1: killed for want of memory" 0 "$(cgroup_kills "$group")"
	rm mnt/f
	expect_empty mnt
	unmount mnt
}

# Page cache that does not fit: the kernel reads the same pages of a file again and again.
a_cache_that_does_not_fit()
{
	begin
	"$HELPERS/randbytes" 1 $((HOG_MIB << 20)) >hogged
	sync hogged
	drop_cache hogged
	for _ in 1 2 3 4 5 6 7 8; do
		within "$HELPERS/hog" cache hogged "$SECONDS_EACH" &
		hogs+=($!)
	done
	wait_for "$SECONDS_EACH" "memory given back (now $(rss_mib) of $before MiB)" rss_at_most $((before * 3 / 4))
	frames_at_most $((RAM_MIB * 3 / 4)) || fail "frames_used_bytes is $(status mnt frames_used_bytes)"
	relieved=$(rss_mib)
	kill "${hogs[@]}"
	wait "${hogs[@]}" || true
	hogs=()
	rm hogged
	finish "a cache that does not fit"
}

# Memory that nobody can reclaim: without the daemon's help somebody is killed.
memory_of_somebody_else()
{
	local line
	begin
	mkfifo hold said
	within "$HELPERS/hog" anonymous $HOG_MIB 25 <hold >said &
	exec 3>hold 4<said
	read -r -t "$SECONDS_EACH" line <&4 || fail "the hog did not get its memory"
	relieved=$(rss_mib)
	assert_le "MiB resident" "$relieved" $((RAM_MIB - (HOG_MIB - OTHERS_MIB) / 2))
	exec 3>&- 4<&-
	wait $! || fail "the hog was killed"
	rm hold said
	finish "memory of somebody else"
}

real=${SPILLFS_REAL:-$SPILLFS} # tools/test --cgroup would put the daemon into another group
need fio
enter_cgroup
for part in a_cache_that_does_not_fit memory_of_somebody_else; do
	$part
done
