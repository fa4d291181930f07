# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Memory cgroups for tests, of v1 or v2, below the one that the shell is in: made, read and removed.

# Where new groups can be made; nothing where that cannot be.
cgroup_parent()
{
	local own top=/sys/fs/cgroup
	if [ -e $top/memory/memory.limit_in_bytes ]; then
		top=$top/memory
		own=$(awk -F: '$2 ~ /(^|,)memory(,|$)/ { print $3 }' /proc/self/cgroup)
	elif grep -qw memory $top/cgroup.controllers 2>/dev/null; then
		# A v2 group with processes in it has no children with controllers: but the root may.
		echo +memory >$top/cgroup.subtree_control 2>/dev/null || true
		own=
	else
		return 1
	fi
	[ -d "$top$own" ] || own=
	[ -w "$top${own%/}" ] && echo "$top${own%/}"
}

cgroup_is_v1() # GROUP
{
	[ -e "$1/memory.limit_in_bytes" ]
}

# A group that may have LIMIT bytes, without swap of the system; or without LIMIT, one to make others in.
cgroup_make() # GROUP [LIMIT]
{
	mkdir "$1" || return 1
	if [ $# = 1 ]; then
		cgroup_is_v1 "$1" || echo +memory >"$1/cgroup.subtree_control"
	elif cgroup_is_v1 "$1"; then
		echo "$2" >"$1/memory.limit_in_bytes"
		echo 0 >"$1/memory.swappiness"
	else
		echo "$2" >"$1/memory.max"
		[ ! -e "$1/memory.swap.max" ] || echo 0 >"$1/memory.swap.max"
	fi
}

cgroup_limit() # GROUP
{
	if cgroup_is_v1 "$1"; then
		cat "$1/memory.limit_in_bytes"
	else
		cat "$1/memory.max"
	fi
}

cgroup_peak() # GROUP
{
	if cgroup_is_v1 "$1"; then
		cat "$1/memory.max_usage_in_bytes"
	else
		cat "$1/memory.peak"
	fi
}

# How many were killed in it for want of memory.
cgroup_kills() # GROUP
{
	local file=$1/memory.events
	! cgroup_is_v1 "$1" || file=$1/memory.oom_control
	awk '$1 == "oom_kill" { print $2 }' "$file"
}

# How often an allocation met the limit, and had to reclaim first.
cgroup_meets() # GROUP
{
	if cgroup_is_v1 "$1"; then
		cat "$1/memory.failcnt"
	else
		awk '$1 == "max" { print $2 }' "$1/memory.events"
	fi
}

# Whoever is left in it goes to its parent.
cgroup_remove() # GROUP
{
	local pid
	while read -r pid; do
		echo "$pid" >"${1%/*}/cgroup.procs" 2>/dev/null || true
	done <"$1/cgroup.procs"
	rmdir "$1" 2>/dev/null || { sleep 1; rmdir "$1"; }
}
