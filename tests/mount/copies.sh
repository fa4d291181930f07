#!/bin/bash
# SPDX-License-Identifier: MIT
# tar and rsync carry trees into, within and out of the mount with all data, times, owners, links, holes, ACLs and attributes.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
need tar rsync getfattr setfattr getfacl setfacl python3

# Everything that a copy can get wrong; as root also what only root can make.  The names are as odd as they may be.
make_tree() # DIR
{
	local dir=$1 n long
	long=$(printf 'n%.0s' {1..255})
	mkdir -p "$dir"/{plain,empty,sparse,names,"sticky dir"}
	for n in $(seq 40); do
		"$HELPERS/randbytes" "$n" 1000003 >"$dir/plain/file$n"
	done
	: >"$dir/plain/empty"
	chmod 4755 "$dir/plain/file1"
	chmod 2711 "$dir/plain/file2"
	chmod 0 "$dir/plain/file3"
	chmod 1777 "$dir/sticky dir"
	chmod 2750 "$dir/empty"
	ln "$dir/plain/file4" "$dir/names/hard link"
	ln "$dir/plain/file4" "$dir/hard"
	ln -s ../plain/file5 "$dir/names/symlink"
	ln -s "/nowhere/$long" "$dir/names/dangling"
	mkfifo "$dir/fifo"
	echo x >"$dir/names/$long"
	echo x >"$dir/names/"$'new\nline\ttab'
	echo x >"$dir/names/"$'\xff\xfe not UTF-8'
	echo x >"$dir/names/-rf *"
	truncate -s 20m "$dir/sparse/nothing"
	truncate -s 20m "$dir/sparse/islands"
	for n in 3 9 17; do
		"$HELPERS/randbytes" "$n" 65536 |
			dd of="$dir/sparse/islands" bs=65536 seek=$((n * 16)) conv=notrunc status=none
	done
	setfattr -n user.empty -v '' "$dir/plain/file6"
	setfattr -n user.binary -v 0x00ff0a0d "$dir/plain/file6"
	setfattr -n user.large -v "$(printf 'v%.0s' {1..2000})" "$dir/plain"
	if [ -n "$acls" ]; then
		setfacl -m u:1:rwx,u:2:r,g:3:x,m::rx "$dir/plain/file7"
		setfacl -d -m u:1:rwx,o::- "$dir/sticky dir"
		mkdir "$dir/sticky dir/heir"
	fi
	if [ "$(id -u)" = 0 ]; then
		chown 12345:54321 "$dir/plain/file8"
		chown -h 1:2 "$dir/names/symlink"
		mknod "$dir/device" b 240 1048575
		mknod "$dir/socket-like" c 0 0
		setfattr -n trusted.secret -v yes "$dir/plain/file9"
		setfattr -n security.capability -v 0x0100000200000000000000000000000000000000 "$dir/plain/file10"
	fi
	find "$dir" -depth -exec touch -h -d '1999-12-31 23:59:59.123456789' {} +
	touch -h -d '1969-06-01 00:00:00.5' "$dir/names/symlink" "$dir/plain/file11"
	touch -d '2200-01-01 00:00:00.999999999' "$dir/plain/file12" "$dir/empty"
}

manifest_script()
{
	cat <<-'END'
		import hashlib
		import os
		import stat
		import sys

		def digest(path):
		    with open(path, "rb") as f:
		        return hashlib.sha256(f.read()).hexdigest()

		def describe(path, names, root):
		    st = os.lstat(path)
		    line = [os.fsencode(os.path.relpath(path, root)), oct(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns]
		    if stat.S_ISREG(st.st_mode):
		        line += [st.st_size, digest(path)]
		        line.append("holes" if st.st_blocks * 512 < st.st_size / 2 else "dense")
		    elif stat.S_ISLNK(st.st_mode):
		        line.append(os.fsencode(os.readlink(path)))
		    elif not stat.S_ISDIR(st.st_mode):
		        line.append(st.st_rdev)
		    if not stat.S_ISDIR(st.st_mode):
		        line += [st.st_nlink, names.setdefault(st.st_ino, line[0])]
		    for name in sorted(os.listxattr(path, follow_symlinks=False)):
		        line.append((name, os.getxattr(path, name, follow_symlinks=False)))
		    print(*line)

		def main(root):
		    paths = [root]
		    for top, dirs, files in os.walk(root):
		        paths += [os.path.join(top, name) for name in dirs + files]
		    names = {}
		    for path in sorted(paths, key=os.fsencode):
		        describe(path, names, root)

		main(sys.argv[1])
	END
}

same() # WHAT DIR
{
	drop_cache mnt
	python3 manifest.py "$2" >got
	cmp -s expected got || fail "cache=$cache, $1: $(diff expected got | cut -c 1-400 | head -n 20)"
}

tar_all() # ARGUMENTS...
{
	tar --warning=no-timestamp --acls --xattrs --xattrs-include='*' --numeric-owner -S -p "$@"
}

sync_all() # FROM TO
{
	rsync -aHAXS --numeric-ids "$1/" "$2/"
}

manifest_script >manifest.py
for cache in kernel none; do
	mount_spillfs mnt "ram=16m,swapsize=1g,size=768m,cache=$cache"
	acls=
	: >mnt/probe
	: >probe
	if setfacl -m u:1:r mnt/probe 2>/dev/null && setfacl -m u:1:r probe 2>/dev/null; then
		acls=yes
	else
		echo "without ACLs: there are none here"
	fi
	rm mnt/probe probe

	# The same tree made outside is the same inside.
	if [ ! -e outside ]; then
		make_tree outside
		python3 manifest.py outside >expected
	fi
	make_tree mnt/inside
	same "made inside" mnt/inside
	rm -r mnt/inside

	tar_all -cf mnt/tree.tar -C outside .
	mkdir mnt/tar
	tar_all -xf mnt/tree.tar -C mnt/tar
	same "tar into the mount" mnt/tar
	tar_all -cf - -C mnt/tar . | (mkdir back && tar_all -xf - -C back)
	same "tar out of the mount" back
	rm -r back mnt/tree.tar

	sync_all mnt/tar mnt/rsync
	same "rsync within the mount" mnt/rsync
	"$HELPERS/randbytes" 77 5000 >>mnt/rsync/plain/file1
	chmod 777 mnt/rsync/plain/file2
	rm -r mnt/rsync/names
	sync_all outside mnt/rsync
	same "rsync again, of the differences" mnt/rsync
	sync_all mnt/rsync back
	same "rsync out of the mount" back
	cp -a mnt/rsync mnt/cp
	same "cp -a" mnt/cp
	rm -r back
	expect_swapped mnt 4096
	rm -r mnt/*
	expect_empty mnt
	unmount mnt
done
