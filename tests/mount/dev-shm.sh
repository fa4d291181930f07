#!/bin/bash
# SPDX-License-Identifier: MIT
# Mounted on /dev/shm: shm_open, sem_open, and Python's shared memory, queues and locks, with data far above the memory.
# sanitize: yes
. "$SRC/tests/mount/lib.sh"
need_fuse
need python3
[ "$(id -u)" = 0 ] || skip "only root can mount on /dev/shm"
own_namespace
clear_place /dev/shm

python_test()
{
	cat <<-'END'
		import hashlib
		import multiprocessing as mp
		import os
		import sys
		from multiprocessing import shared_memory

		MIB = 1 << 20

		def block(n):
		    return hashlib.shake_128(b"%d" % n).digest(MIB)

		def fill(name, part, parts, size):
		    shm = shared_memory.SharedMemory(name)
		    for at in range(part, size // MIB, parts):
		        shm.buf[at * MIB:(at + 1) * MIB] = block(at)
		    shm.close()

		def wrong(name, size):
		    shm = shared_memory.SharedMemory(name)
		    bad = sum(shm.buf[at * MIB:(at + 1) * MIB] != block(at) for at in range(size // MIB))
		    shm.close()
		    return bad

		def count(lock, counter, rounds, queue):
		    for n in range(rounds):
		        with lock:
		            counter.value += 1
		        queue.put((os.getpid(), n))

		def main():
		    size = 64 * MIB
		    mp.set_start_method(sys.argv[1])
		    shm = shared_memory.SharedMemory(create=True, size=size)
		    assert os.stat("/dev/shm/" + shm.name).st_size == size
		    workers = [mp.Process(target=fill, args=(shm.name, n, 3, size)) for n in range(3)]
		    for w in workers:
		        w.start()
		    for w in workers:
		        w.join()
		    with mp.Pool(2) as pool:
		        assert pool.starmap(wrong, [(shm.name, size)] * 2) == [0, 0]
		    shm.close()
		    shm.unlink()

		    lock, queue = mp.Lock(), mp.Queue()
		    counter = mp.Value("q", 0, lock=False)
		    numbers = mp.Array("d", 2 * MIB)
		    workers = [mp.Process(target=count, args=(lock, counter, 300, queue)) for _ in range(4)]
		    for w in workers:
		        w.start()
		    got = [queue.get(timeout=30) for _ in range(4 * 300)]
		    for w in workers:
		        w.join()
		    assert counter.value == 4 * 300, counter.value
		    assert len(set(got)) == 4 * 300
		    assert numbers[:] == [0.0] * (2 * MIB)
		    print("good")

		if __name__ == "__main__":
		    main()
	END
}

python_test >python-test.py
for cache in kernel none; do
	mount_spillfs /dev/shm "ram=16m,swapsize=1g,size=512m,cache=$cache"
	mkdir /dev/shm/test
	"$HELPERS/shmtest" /dev/shm/test || fail "cache=$cache: shmtest failed (see above)"
	rmdir /dev/shm/test/* /dev/shm/test
	for start in fork spawn; do
		assert_eq "Python, $start, cache=$cache" good "$(timeout 60 python3 python-test.py $start 2>&1)"
	done
	assert_eq "left in /dev/shm" "" "$(ls -A /dev/shm)"
	expect_swapped /dev/shm 4096
	expect_empty /dev/shm
	unmount /dev/shm
done
