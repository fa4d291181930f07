#!/bin/bash
# SPDX-License-Identifier: MIT
# POSIX ACLs are stored, enforced and inherited as on tmpfs, and setfacl, getfacl and cp -a work with them.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
need setfacl getfacl

# What root, setfacl and cp see, one line a step, to be compared.
session() # DIR
{
	(
		cd "$1"
		umask 027
		mkdir project
		setfacl -m u:1001:rwx,g:4321:r-x project
		setfacl -d -m u:1001:rw-,g:4321:r-- project
		mkdir -p project/a/b
		echo x >project/a/b/file
		: >project/empty
		ln -s file project/a/b/link
		chmod 0751 project/a
		cp -a project copy
		setfacl -x u:1001 copy/a/b/file
		setfacl -b copy/empty
		setfacl -k copy/a
		mv copy/a moved
		find . -mindepth 1 ! -type l | sort | xargs getfacl -n
		find . -mindepth 1 -printf '%P %m %u %g\n' | sort
		stat -c %A project project/empty copy/empty
	)
}

expect_of_tmpfs acltest
if mount_tmpfs reference; then
	session reference >expected
fi

# Without them nothing may look as if it were protected by one.
mount_spillfs mnt ram=64m,swapsize=64m,noacl
umask 027
: >mnt/f
assert_eq "mode with noacl" 640 "$(stat -c %a mnt/f)"
umask 022
! setfacl -m u:1001:r mnt/f 2>err || fail "noacl, and an ACL is taken"
grep -q "not supported" err || fail "noacl: $(cat err)"
unmount mnt

for cache in kernel none; do
	mount_spillfs mnt "ram=64m,swapsize=64m,cache=$cache"
	mkdir mnt/programs mnt/session
	"$HELPERS/acltest" "$PWD/mnt/programs" || fail "cache=$cache: see above"
	session mnt/session >got
	grep -q '^user:1001:rwx' got || fail "getfacl shows no ACL: $(cat got)"
	[ ! -f expected ] || diff expected got || fail "cache=$cache: other than tmpfs (<)"
	if [ "$(id -u)" = 0 ]; then
		: >mnt/long
		seq -f 'u:%g:r' -s , 507 >list # and owner, group, mask and others
		setfacl -m "$(cat list)" mnt/long || fail "an ACL of 511 entries is refused"
		assert_eq "entries of the longest ACL" 511 "$(getfacl -n -c mnt/long | grep -c :)"
		! setfacl -m u:999:r mnt/long 2>/dev/null || fail "an ACL is longer than a page"
		assert_eq "entries after that" 511 "$(getfacl -n -c mnt/long | grep -c :)"
		chmod 640 mnt/long
		assert_eq "its mask after chmod" mask::r-- "$(getfacl -n -c mnt/long | grep mask)"
	fi
	rm -r mnt/*
	expect_empty mnt

	# 5,000 ACLs are memory, and count as such; and they go with their files.
	setfacl -d -m u:1:r,u:2:r,u:3:r,u:4:r,u:5:r,u:6:r,u:7:r,u:8:r,g:1:r,g:2:r,g:3:r,g:4:r mnt
	used=$(status mnt bookkeeping_bytes)
	mkdir mnt/many
	(cd mnt/many && seq 5000 | xargs touch)
	grown=$(($(status mnt bookkeeping_bytes) - used))
	echo "cache=$cache: 5000 files with an ACL take $grown bytes"
	assert_le "memory of 5000 files with an ACL of 17 entries" $((5000 * 450)) $grown
	rm -r mnt/many
	assert_le "memory of them when they are gone" \
		"$(($(status mnt bookkeeping_bytes) - used))" $((grown / 4))
	unmount mnt
done
