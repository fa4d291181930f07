#!/bin/bash
# SPDX-License-Identifier: MIT
# Where io_uring is forbidden (seccomp), or memory may not be locked, the daemon says which engine it has, and fio's data survives the swap.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
need fio
[ -x "$HELPERS/refuse" ] || skip "built without libseccomp"

RAM_MIB=16
SIZE_MIB=$((4 * RAM_MIB))
real=$SPILLFS

# A program that starts the daemon in circumstances, to mount with in its place.
in_circumstances() # COMMAND...
{
	printf '#!/bin/bash\n%s\nexec %s "%s" "$@"\n' "$1" "${*:2}" "$real" >spillfs
	chmod +x spillfs
	SPILLFS=$PWD/spillfs
}

# What fio wrote is there, and went through swap both ways.
survives() # WHAT ENGINE...
{
	local engine what=$1 pass
	shift
	mount_spillfs mnt "ram=${RAM_MIB}m,swapsize=256m,cache=$cache"
	engine=$(status mnt io_engine)
	[[ " $* " == *" $engine "* ]] || fail "$what: the engine is $engine, not $*"
	for pass in --do_verify=1 --verify_only; do
		fio --name=f --directory="$PWD/mnt" --size=${SIZE_MIB}m --rw=randwrite --bs=4k --ioengine=psync \
			--verify=crc32c --verify_fatal=1 --verify_state_save=0 $pass >fio.log 2>&1 ||
			fail "$what, cache=$cache: $(cat fio.log)"
	done
	expect_swapped mnt $((2 * RAM_MIB * 256))
	rm mnt/*
	expect_empty mnt
	unmount mnt
	echo "$what, cache=$cache: engine $engine"
}

"$HELPERS/refuse" getsid EPERM "$(type -P true)" || skip "no seccomp filter can be set here"

for cache in kernel none; do
	if [ $cache = kernel ]; then
		in_circumstances : "$HELPERS/refuse" io_uring_setup EPERM
		survives "io_uring refused as by Docker" threads
	else
		in_circumstances : "$HELPERS/refuse" io_uring_setup ENOSYS
		survives "no io_uring in the kernel" threads
		in_circumstances : "$HELPERS/refuse" io_uring_register EPERM
		survives "nothing may be registered" io_uring threads
	fi
	little="setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock" # root is not limited else
	[ "$(id -u)" = 0 ] || little=
	in_circumstances "ulimit -l 64" "$little"
	survives "64 KiB of locked memory" io_uring threads
done
