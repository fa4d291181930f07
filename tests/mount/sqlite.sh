#!/bin/bash
# SPDX-License-Identifier: MIT
# SQLite keeps its data whole in WAL and mmap mode, a writer and readers at once, in a database far above the memory.
. "$SRC/tests/mount/lib.sh"
need_fuse
need sqlite3

ROWS=${ROWS:-200000}
ACCOUNTS=100
TRANSFERS=150 # the last of them touches rows from 150,000 on

# MODE is what each connection sets first; wal uses a shared mapping of its own for the index.
sql() # DB [STATEMENTS]
{
	local db=$1
	shift
	sqlite3 -bail -cmd ".timeout 30000" -cmd "$mode" "$db" "$@" 2>>sqlite.log | tail -n 1
}

# Money moves between accounts, so that the sum is the same in every snapshot.
writer()
{
	local i
	for i in $(seq $TRANSFERS); do
		echo "BEGIN IMMEDIATE;
			UPDATE account SET money = money - $i WHERE id = $((i * 7 % ACCOUNTS));
			UPDATE account SET money = money + $i WHERE id = $((i * 13 % ACCOUNTS));
			UPDATE big SET n = n + 1 WHERE id BETWEEN $((i * 1000)) AND $((i * 1000 + 49));
			COMMIT;"
	done | sql mnt/db.sqlite >/dev/null
}

reader()
{
	local i sum rows first
	for i in $(seq 15); do
		sum=$(sql mnt/db.sqlite "SELECT sum(money) FROM account;")
		[ "$sum" = $((ACCOUNTS * 1000)) ] || fail "a reader saw the sum '$sum': $(tail -n 3 sqlite.log)"
		first=$((i * 500))
		rows=$(sql mnt/db.sqlite "SELECT count(*) FROM big WHERE id BETWEEN $first AND $((first + 99));")
		[ "$rows" = 100 ] || fail "a reader saw $rows of 100 rows: $(tail -n 3 sqlite.log)"
	done
}

fill()
{
	sql mnt/db.sqlite "
		CREATE TABLE account (id INTEGER PRIMARY KEY, money INTEGER);
		CREATE TABLE big (id INTEGER PRIMARY KEY, n INTEGER, filler TEXT);
		WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < $ACCOUNTS - 1)
			INSERT INTO account SELECT i, 1000 FROM c;
		WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < $ROWS - 1)
			INSERT INTO big SELECT i, i * 3, printf('%0200d', i) FROM c;
		CREATE INDEX big_n ON big(n);" >/dev/null
}

check_database()
{
	local pids=() pid
	fill
	writer &
	pids+=($!)
	reader &
	pids+=($!)
	reader &
	pids+=($!)
	for pid in "${pids[@]}"; do
		wait "$pid" || fail "cache=$cache, $mode: a reader or the writer failed: $(tail -n 3 sqlite.log)"
	done
	drop_cache mnt
	assert_eq "integrity ($cache, $mode)" ok "$(sql mnt/db.sqlite "PRAGMA integrity_check;")"
	assert_eq "rows ($cache, $mode)" "$ROWS" "$(sql mnt/db.sqlite "SELECT count(*) FROM big;")"
	assert_eq "money ($cache, $mode)" $((ACCOUNTS * 1000)) "$(sql mnt/db.sqlite "SELECT sum(money) FROM account;")"
	assert_eq "filler ($cache, $mode)" 0 \
		"$(sql mnt/db.sqlite "SELECT count(*) FROM big WHERE filler <> printf('%0200d', id);")"
	assert_eq "updates ($cache, $mode)" "$expected_sum" "$(sql mnt/db.sqlite "SELECT sum(n) FROM big;")"
	rm -f mnt/db.sqlite*
}

expected_sum=$(awk -v rows="$ROWS" -v t=$TRANSFERS 'BEGIN {
	for (i = 0; i < rows; i++)
		sum += i * 3 + (i >= 1000 && i % 1000 < 50 && i < t * 1000 + 50)
	printf "%.0f", sum
}')
for cache in kernel none; do
	mount_spillfs mnt "ram=16m,swapsize=1g,size=512m,cache=$cache"
	mode="PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
	check_database
	mode="PRAGMA journal_mode=DELETE; PRAGMA mmap_size=1073741824;"
	check_database
	expect_swapped mnt 4096
	expect_empty mnt
	unmount mnt
done
