#!/bin/bash
# SPDX-License-Identifier: MIT
# PostgreSQL runs pgbench in a cluster far above the memory, and checksums, indexes, balances and a dump are right.
. "$SRC/tests/mount/lib.sh"
need_fuse
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -x "$bin/pgbench" ] || skip "PostgreSQL is not installed"
own_namespace

# The server refuses root, and its user cannot pass the directories above ours: hence another place, and another user.
place=$PWD/mnt
user=()
if [ "$(id -u)" = 0 ]; then
	place=/mnt
	clear_place $place
	user=(setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/)
fi
SCALE=3 # 45 MiB, and as much of WAL
export PGHOST=$place/pg PGUSER=tester PGDATABASE=postgres PGDATA=$place/pg/data
library=$BUILD/tools/sysv/libspillfs-sysv.so

as_user() # COMMAND...
{
	(cd "$place" && timeout 100 "${user[@]}" "$@") >pg.log 2>&1 || fail "$*: $(tail -n 20 pg.log)"
}

query() # SQL
{
	as_user "$bin/psql" -X -At -v ON_ERROR_STOP=1 -c "$1"
	cat pg.log
}

server() # start | stop
{
	as_user "${preload[@]}" "$bin/pg_ctl" -s -w -m fast -l "$place/pg/log" "$1"
}

test_clean_up()
{
	[ ! -e "$PGDATA/postmaster.pid" ] || kill -INT "$(head -n 1 "$PGDATA/postmaster.pid")" 2>/dev/null
	for _ in $(seq 100); do
		[ -e "$PGDATA/postmaster.pid" ] || break
		sleep 0.1
	done
}

configure()
{
	cat >>"$PGDATA/postgresql.conf" <<-END
		listen_addresses = ''
		unix_socket_directories = '$place/pg'
		shared_buffers = 16MB
		max_wal_size = 64MB
		checkpoint_timeout = 30s
		wal_sync_method = fdatasync
		$1
	END
}

check_balances()
{
	assert_eq "accounts and history" t "$(query "SELECT (SELECT sum(abalance) FROM pgbench_accounts) =
		(SELECT sum(delta) FROM pgbench_history)")"
	assert_eq "tellers and branches" t "$(query "SELECT (SELECT sum(tbalance) FROM pgbench_tellers) =
		(SELECT sum(bbalance) FROM pgbench_branches)")"
	assert_eq "accounts" $((SCALE * 100000)) "$(query "SELECT count(*) FROM pgbench_accounts")"
	# Every index has every row, and every row is readable.
	as_user "$bin/pg_amcheck" --install-missing --heapallindexed --parent-check postgres
}

# The sum of all that is in the database; newer versions put a random word around it.
dump()
{
	as_user "$bin/pg_dump" -a
	[ "$(wc -l <pg.log)" -gt $((SCALE * 100000)) ] || fail "the dump is too short: $(tail pg.log)"
	grep -v '^\\\(un\)\?restrict' pg.log | sha256sum
}

# A cluster with its shared buffers in an mmap, or, with the preload library, in System V segments on the same mount.
run_cluster() # CONFIGURATION
{
	mkdir "$place/pg" "$place/shm"
	[ "$(id -u)" != 0 ] || chown 65534:65534 "$place/pg" "$place/shm"
	as_user "$bin/initdb" -k -A trust -U tester --no-locale -E UTF8
	configure "$1"
	server start
	as_user "$bin/pgbench" -q -i -s $SCALE
	as_user "$bin/pgbench" -T 2 -c 4 -j 2
	sed -n 's/^number of transactions actually processed: /transactions: /p' pg.log
	check_balances
	if [ ${#preload[@]} -gt 0 ]; then
		[ "$(find "$place/shm" -name 'SYSV*' -size +16M | wc -l)" = 1 ] ||
			fail "the buffers are not a segment here: $(ls -lA "$place/shm")"
	fi
	before=$(dump)
	server stop
	assert_eq "segments left" "" "$(find "$place/shm" -type f)"
	drop_cache "$place"
	as_user "$bin/pg_checksums" --check
	server start
	assert_eq "the dump after a restart" "$before" "$(dump)"
	server stop
	expect_swapped "$place" 4096
	rm -rf "$place/pg" "$place/shm" "$place/lib"
	expect_empty "$place"
}

for cache in kernel none; do
	mount_spillfs "$place" "ram=24m,swapsize=2g,size=1g,cache=$cache"
	if [ $cache = kernel ]; then
		preload=()
		run_cluster ""
	else
		# The library, too, has to be where that user may read it: else it is ignored.
		mkdir "$place/lib"
		cp "$library" "$place/lib/"
		preload=(env LD_PRELOAD="$place/lib/${library##*/}" SPILLFS_SYSV_DIR="$place/shm")
		run_cluster "shared_memory_type = sysv
			dynamic_shared_memory_type = sysv"
	fi
	unmount "$place"
done
