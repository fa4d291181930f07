# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Shared by the mounted tests, which source it first:  . "$SRC/tests/mount/lib.sh"
#
# A test runs in a private empty directory with SPILLFS, SPILLCTL, BUILD and SRC set; it exits 0 (passed), 77
# (skipped; the last line says why) or anything else (failed).  What is mounted here is unmounted here, on every
# way out.  No helper looks into a mount before the daemon is known to serve it, and all that is asked of a
# mount in the clean-up has a time limit: a test that fails must not hang the machine as well.

set -eu -o pipefail
: "${SPILLFS:?path of the daemon}" "${SPILLCTL:?path of spillctl}" "${BUILD:?build directory}" "${SRC:?source root}"
export LC_ALL=C
HELPERS=$BUILD/tests
TEST_DIR=$PWD
DAEMON_LOG=$TEST_DIR/daemon.log
# No daemon outlives this; a test that hangs in the mount then fails by itself, before the runner loses patience.
# SPILLFS_TEST_FULL=yes is tools/test --full: some tests then run at a scale that takes minutes and gigabytes.
SPILLFS_TEST_FULL=${SPILLFS_TEST_FULL:-}
DAEMON_SECONDS=${DAEMON_SECONDS:-${SPILLFS_TEST_FULL:+3600}}
DAEMON_SECONDS=${DAEMON_SECONDS:-240}
declare -A mount_pid=() mount_connection=() # by mountpoint
tmpfs_mounted=()

fail()
{
	echo "FAIL: $*" >&2
	exit 1
}

skip()
{
	echo "skipped: $*"
	exit 77
}

scale() # USUAL FULL
{
	if [ -n "$SPILLFS_TEST_FULL" ]; then
		echo "$2"
	else
		echo "$1"
	fi
}

need()
{
	local tool
	for tool; do
		command -v "$tool" >/dev/null || skip "$tool is not installed"
	done
}

need_fuse()
{
	[ -w /dev/fuse ] || skip "/dev/fuse cannot be opened"
	[ "$(id -u)" = 0 ] || need fusermount3
	need jq
}

# As root: goes on in a mount (and IPC) namespace of the test's own, to mount where others would mind.
own_namespace()
{
	if [ "$(id -u)" = 0 ] && [ -z "${TEST_NAMESPACE-}" ]; then
		TEST_NAMESPACE=yes exec unshare --mount --ipc --propagation private "$0"
	fi
	[ -n "${TEST_NAMESPACE-}" ] || return 0
	# What other tests have mounted was copied, and would outlive their unmounting.
	awk '/ - fuse\.spillfs / { print $5 }' /proc/self/mountinfo |
		while read -r mnt; do
			umount -c -l "$(printf %b "$mnt")" || true
		done
}

# After own_namespace: nothing is mounted there any more, as far as this test can see.
clear_place() # DIR
{
	while is_mounted "$1"; do
		umount -l "$1"
	done
}

assert_eq() # WHAT EXPECTED GOT
{
	[ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
}

assert_le() # WHAT SMALLER LARGER
{
	[ "$2" -le "$3" ] || fail "$1: $2 is more than $3"
}

# Polls until the command succeeds; fails the test after SECONDS.
wait_for() # SECONDS WHAT COMMAND...
{
	local seconds=$1 what=$2 end
	shift 2
	end=$((SECONDS + seconds))
	until "$@"; do
		[ $SECONDS -lt "$end" ] || fail "$what: not within $seconds seconds"
		sleep 0.05
	done
}

# By text alone: even lstat() of a mountpoint asks whoever serves it.
absolute() # PATH
{
	case $1 in
	/*) echo "$1" ;;
	*) echo "$PWD/$1" ;;
	esac
}

# Is something mounted there?  Asks the kernel's list, never the file system itself.
is_mounted() # MNT
{
	awk -v mnt="$(absolute "$1")" '$5 == mnt { found = 1 } END { exit !found }' /proc/self/mountinfo
}

not_mounted()
{
	! is_mounted "$1"
}

gone() # PID
{
	! kill -0 "$1" 2>/dev/null
}

# Waits for the end of a daemon's "timeout"; where it does not come, says what the daemon's threads wait for.
wait_gone() # PID WHAT
{
	local end=$((SECONDS + 30)) thread
	until gone "$1"; do
		if [ $SECONDS -ge "$end" ]; then
			for thread in /proc/$(cat "/proc/$1/task/$1/children" | tr -d ' ')/task/*; do
				echo "$(cat "$thread/comm" "$thread/stack" 2>/dev/null | tr '\n' ' ')"
			done
			fail "$2: not within 30 seconds: $(cat "$DAEMON_LOG")"
		fi
		sleep 0.05
	done
}

# The daemon's own pid: "timeout" started it, and passes SIGTERM on but cannot pass SIGKILL.
daemon_pid() # MNT
{
	local children
	children=$(cat "/proc/${mount_pid[$1]}/task/${mount_pid[$1]}/children")
	echo "${children%% *}"
}

# Bytes on the disk behind the daemon's unnamed swap file, which lies below the test's directory.
swap_file_bytes() # MNT
{
	local fd
	for fd in "/proc/$(daemon_pid "$1")/fd/"*; do
		case $(readlink "$fd") in
		"$TEST_DIR"/*"(deleted)")
			echo $(($(stat -L -c '%b * %B' "$fd")))
			return
			;;
		esac
	done
	fail "the daemon has no unnamed file below $TEST_DIR"
}

swap_file_at_most() # MNT BYTES
{
	[ "$(swap_file_bytes "$1")" -le "$2" ]
}

connection_of() # MNT: the number below /sys/fs/fuse/connections
{
	awk -v mnt="$(absolute "$1")" '$5 == mnt { split($3, dev, ":"); print dev[2] }' /proc/self/mountinfo | tail -n 1
}

# Mounts in the foreground form, with its swap below the test's directory unless OPTS says otherwise.
mount_spillfs() # MNT OPTS
{
	local mnt=$1 opts=$2 end
	case ,$opts, in
	*,swap=* | *,noswap,*) ;;
	*)
		mkdir -p "$TEST_DIR/swap"
		opts=swap=$TEST_DIR/swap${opts:+,$opts}
		;;
	esac
	mkdir -p "$mnt"
	timeout -k 10 "$DAEMON_SECONDS" "$SPILLFS" -f -o "$opts" "$mnt" >>"$DAEMON_LOG" 2>&1 &
	mount_pid[$mnt]=$!
	end=$((SECONDS + 20))
	until is_mounted "$mnt"; do
		gone "${mount_pid[$mnt]}" && fail "the daemon ended before it mounted ($opts): $(cat "$DAEMON_LOG")"
		[ $SECONDS -lt $end ] || fail "not mounted within 20 seconds ($opts)"
		sleep 0.05
	done
	mount_connection[$mnt]=$(connection_of "$mnt")
	timeout -k 1 20 stat -f "$mnt" >/dev/null || fail "mounted, but it does not answer ($opts)"
}

# A tmpfs of the kernel's, to compare with.  Fails where it may not be mounted.
mount_tmpfs() # MNT
{
	mkdir "$1"
	[ "$(id -u)" = 0 ] && mount -t tmpfs none "$1" 2>/dev/null && tmpfs_mounted+=("$PWD/$1")
}

# What these programs of the tests claim must be what a tmpfs does; where there can be none, that is not checked.
expect_of_tmpfs() # PROGRAM...
{
	local program
	mount_tmpfs tmpfs || return 0
	for program; do
		echo "--- $program, tmpfs"
		"$HELPERS/$program" "$PWD/tmpfs" || fail "$program does not say what tmpfs does"
	done
	umount tmpfs
}

detach() # MNT
{
	if [ "$(id -u)" = 0 ]; then
		timeout -k 1 60 umount "$1"
	else
		timeout -k 1 60 fusermount3 -u "$1"
	fi
}

# Unmounts, waits for the daemon, and insists that it ended well (so a sanitizer's report fails the test).
unmount() # MNT
{
	local mnt=$1 rc=0 pid=${mount_pid[$1]}
	detach "$mnt" || fail "cannot unmount $mnt"
	wait_gone "$pid" "the daemon's exit after unmounting"
	wait "$pid" || rc=$?
	unset "mount_pid[$mnt]" "mount_connection[$mnt]"
	[ $rc = 0 ] || fail "the daemon exited with $rc: $(cat "$DAEMON_LOG")"
}

# For a daemon that was started some other way; unmount_daemonised is its way out.
adopt() # MNT PID
{
	mount_pid[$1]=$2
	mount_connection[$1]=$(connection_of "$1")
}

unmount_daemonised() # MNT
{
	local pid=${mount_pid[$1]}
	detach "$1" || fail "cannot unmount $1"
	wait_gone "$pid" "the daemon's exit after unmounting"
	unset "mount_pid[$1]" "mount_connection[$1]"
}

# After anything that may have gone wrong: ask, then cut the connection, then kill.
unmount_all()
{
	local mnt pid abort
	for mnt in "${!mount_pid[@]}"; do
		pid=${mount_pid[$mnt]}
		if is_mounted "$mnt" && ! timeout -k 1 10 umount "$mnt" 2>/dev/null &&
			! timeout -k 1 10 fusermount3 -u "$mnt" 2>/dev/null; then
			abort=/sys/fs/fuse/connections/${mount_connection[$mnt]:-none}/abort
			[ -w "$abort" ] && echo 1 >"$abort"
			umount -l "$mnt" 2>/dev/null || fusermount3 -uz "$mnt" 2>/dev/null || true
		fi
		for _ in $(seq 100); do
			gone "$pid" && break
			sleep 0.05
		done
		if ! gone "$pid"; then
			kill -9 "$(daemon_pid "$mnt")" "$pid" 2>/dev/null || true
		fi
		wait "$pid" 2>/dev/null || true
	done
}

clean_up()
{
	local rc=$? mnt
	trap - EXIT
	set +e
	[ -n "${sampler_pid:-}" ] && kill "$sampler_pid" 2>/dev/null
	declare -F test_clean_up >/dev/null && test_clean_up
	unmount_all
	for mnt in "${tmpfs_mounted[@]}"; do
		! is_mounted "$mnt" || umount -l "$mnt"
	done
	if [ $rc != 0 ] && [ $rc != 77 ] && [ -s "$DAEMON_LOG" ]; then
		echo "--- the daemon said:" >&2
		tail -n 40 "$DAEMON_LOG" >&2
	fi
	exit $rc
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# One value of the mount's status object.
status() # MNT FIELD
{
	timeout -k 1 20 "$SPILLCTL" status "$1" --json | jq -er --arg f "$2" \
		'.[$f] | if . == null then error("status has no " + $f) else . end'
}

status_is() # MNT FIELD VALUE
{
	[ "$(status "$1" "$2")" = "$3" ]
}

# Fails unless at least PAGES pages went to swap, and as many came back, since the mount.
expect_swapped() # MNT [PAGES]
{
	local out in
	out=$(status "$1" swapout_pages_total)
	in=$(status "$1" swapin_pages_total)
	echo "swapped out $out pages, in $in pages"
	[ "$out" -ge "${2:-1}" ] || fail "only $out pages were swapped out: this tested nothing"
	[ "$in" -ge "${2:-1}" ] || fail "only $in pages were swapped in: this tested nothing"
	assert_eq "failed swap writes" 0 "$(status "$1" swapout_errors_total)"
	assert_eq "failed swap reads" 0 "$(status "$1" swapin_errors_total)"
}

# After everything was removed: pages, frames and slots must all be free again, without an unmount.
expect_empty() # MNT
{
	local field
	for field in size_used_bytes swap_used_bytes frames_used_bytes; do
		wait_for 10 "$field back to 0 after everything was removed (now $(status "$1" $field))" \
			status_is "$1" $field 0
	done
}

# Known bytes.
make_file() # PATH MIB SEED
{
	"$HELPERS/randbytes" "$3" $(($2 << 20)) >"$1"
}

# It reads, from the daemon and not from the kernel's cache, as make_file made it.
is_there() # PATH MIB SEED
{
	drop_cache "$1"
	"$HELPERS/randbytes" "$3" $(($2 << 20)) | cmp - "$1" || fail "${cache:+cache=$cache: }$1 is not what was written"
}

file_stat() # PATH FIELD
{
	timeout -k 1 20 "$SPILLCTL" stat --json "$1" | jq -er --arg f "$2" '.files[0][$f]'
}

# Makes the kernel forget the file data it caches below PATH, so that the next read asks the daemon.
drop_cache() # PATH...
{
	"$HELPERS/dropcache" "$@"
}

# Writes so much to a file and removes it, past the kernel's cache: what is written back out of that need take no RAM.
fill_ram() # MNT MIB
{
	"$HELPERS/randbytes" 99 $(($2 << 20)) |
		dd of="$1/filler" bs=1M iflag=fullblock oflag=direct status=none || fail "filling $2 MiB of RAM"
	rm "$1/filler"
}

# Samples the memory that the mount uses until sampler_stop, which fails the test if it ever passed the cap.
sampler_start() # MNT
{
	: >"$TEST_DIR/samples"
	(
		trap - EXIT
		while timeout -k 1 20 "$SPILLCTL" status "$1" --json |
			jq -r '"\(.frames_used_bytes) \(.ram_used_bytes) \(.ram_limit_bytes)"' >>"$TEST_DIR/samples"; do
			sleep 0.1
		done
	) &
	sampler_pid=$!
}

# Ends the background job $sampler_pid, whatever it samples; clean_up kills it where a test fails before that.
sampler_end()
{
	kill "$sampler_pid" 2>/dev/null || true
	wait "$sampler_pid" 2>/dev/null || true
	sampler_pid=
}

sampler_stop()
{
	sampler_end
	awk '
		$0 !~ /^[0-9]+ [0-9]+ [0-9]+$/ { if (NR > 1 && bad == "") bad = $0; next }
		{ n++; if ($1 > frames) frames = $1; if ($2 > ram) ram = $2; limit = $3 }
		$1 > $3 { over = "frames_used_bytes " $1 }
		$2 > $3 { over = "ram_used_bytes " $2 }
		END {
			printf "%d samples: frames at most %d, memory at most %d, cap %d\n", n, frames, ram, limit
			if (over != "") { print "FAIL: " over " passed the cap"; exit 1 }
			if (n < 3 || frames == 0) { print "FAIL: too few samples to tell"; exit 1 }
		}' "$TEST_DIR/samples" || exit 1
}

# Runs test programs in both cache modes; each removes, or leaves for us to remove, all it makes.
run_in_both_modes() # OPTIONS PROGRAM...
{
	local opts=$1 cache program rc
	shift
	for cache in kernel none; do
		mount_spillfs mnt "$opts,cache=$cache"
		rc=0
		for program in "$@"; do
			echo "--- $program, cache=$cache"
			"$HELPERS/$program" "$PWD/mnt" || rc=1
		done
		[ $rc = 0 ] || fail "cache=$cache: see above"
		rm -r mnt/*
		expect_empty mnt
		assert_eq "inodes in use when all is removed" 1 "$(status mnt inodes_used)"
		unmount mnt
	done
}
