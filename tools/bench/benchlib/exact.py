# SPDX-License-Identifier: MIT
"""The workloads that are counted, not timed: requests per operation (e) and memory per page and per file (f)."""
import os
import time

from . import shell
from .workloads import Fio

REQUEST_FILES = 500
# Operation -> phase of metabench, and whether its files are renamed ones (metabench's -r).  None: not reported; it
# takes what is asked once a mount (operations that are not supported), or fills a cache.
OPERATIONS = (
    (None, "create,unlink", False),
    ("create, write, close", "create", False),
    (None, "stat", False),
    ("stat of a cached name", "stat", False),
    (None, "read", False),
    ("reopen, read, close of a cached file", "read", False),
    ("rename", "rename", False),
    ("unlink", "unlink", True),
    ("symlink", "symlink", False),
    (None, "readlink", False),
    ("readlink of a cached name", "readlink", False),
    ("unlink of a symlink", "unlink", False),
)
# Requests that fewer than one operation in ten takes depend on whether the clock ticked in between (the kernel then
# sends new times): they are shown, but decide nothing.
CHANCE = 0.1


def _requests(peer):
    return dict(peer.status()["requests_total"])


def _difference(before, after, own, times=1):
    """What came between two answers, without what the asking itself took."""
    counts = {name: after[name] - before.get(name, 0) - times * own.get(name, 0) for name in after}
    return {name: n for name, n in counts.items() if n != 0}


def _settled(peer, own):
    """The counts once they stand still, and how often that was asked: RELEASE and FORGET come late."""
    before, asked = _requests(peer), 1
    for _ in range(100):
        time.sleep(0.2)
        now, asked = _requests(peer), asked + 1
        if _difference(before, now, own) == {}:
            return now, asked
        before = now
    raise shell.Failed("the requests do not come to rest")


def _own(peer):
    """What one "spillctl status" takes itself: as much each time, or it is not known yet."""
    _requests(peer)
    costs = []
    for _ in range(20):
        time.sleep(0.2)
        first = _requests(peer)
        time.sleep(0.2)
        costs.append(_difference(first, _requests(peer), {}))
        if len(costs) > 1 and costs[-1] == costs[-2]:
            return costs[-1]
    raise shell.Failed("asking for the status takes other requests each time")


def requests(peer, _sizes):
    """A list of {operation, requests: opcode -> number per operation}, exact."""
    bench = [peer.config.metabench, "-n", str(REQUEST_FILES)]
    peer.run(bench + ["-p", "nothing", peer.target], 60)
    own, results = _own(peer), []
    for text, phase, renamed in OPERATIONS:
        before, _ = _settled(peer, own)
        peer.run(bench + (["-r"] if renamed else []) + ["-p", phase, peer.target], 120)
        after, asked = _settled(peer, own)
        counts = _difference(before, after, own, asked)
        if text is not None:
            results.append({"operation": text, "requests": {k: n / REQUEST_FILES for k, n in sorted(counts.items())}})
    return results


def within(requests_per_operation, allowed):
    """No more of any opcode than allowed.  How many FORGETs go into one BATCH_FORGET is the kernel's choice."""
    merged = {k: n for k, n in requests_per_operation.items() if k != "BATCH_FORGET"}
    if "BATCH_FORGET" in requests_per_operation:
        merged["FORGET"] = merged.get("FORGET", 0) + requests_per_operation["BATCH_FORGET"]
    return all(n <= allowed.get(name, 0) + CHANCE for name, n in merged.items())


def _at_rest(peer):
    """The status once reclaim has come to its target, with what the daemon keeps beyond the data added to it."""
    last = None
    for _ in range(60):
        status = peer.status()
        # A daemon that says it is believed.  Else it is what the cap is charged beyond frames with data: that has the
        # frames kept free in it, which are as many each time once all is at rest.
        status["kept"] = status.get("bookkeeping_bytes", status["ram_used_bytes"] - status["frames_used_bytes"])
        now = (status["kept"], status["swap_used_bytes"])
        if now == last:
            break
        last = now
        time.sleep(0.5)
    return status


def pages(peer, sizes):
    """
    Memory that a page in swap takes: what the second half of a file of sizes.memory_pages adds, when RAM has been full
    since its first half.
    """
    half = sizes.memory_pages // 2 * 4096
    fio, marks = Fio(peer, "fill.fio", size=half), []
    for offset in (0, half):
        fio.run("fill", 1500, offset=offset)
        marks.append((_at_rest(peer), peer.rss_bytes()))
    (before, rss), (after, rss_after) = marks
    swapped = (after["swap_used_bytes"] - before["swap_used_bytes"]) // 4096
    if before["swap_used_bytes"] == 0 or swapped < sizes.memory_pages / 4:
        raise shell.Failed(f"only {swapped} pages went to swap: this tested nothing")
    result = {
        "pages": sizes.memory_pages,
        "swapped_pages": after["swap_used_bytes"] // 4096,
        "bytes_per_swapped_page": (after["kept"] - before["kept"]) / swapped,
        # The same by the process's size: a check of the figure above.
        "rss_bytes_per_swapped_page":
            (rss_after - after["frames_used_bytes"] - rss + before["frames_used_bytes"]) / swapped,
        "ram_used_bytes": after["ram_used_bytes"],
        "rss_bytes": rss_after,
    }
    peer.run(["rm", peer.file()], 300)
    return result


def files(peer, sizes):
    """Memory that an empty file takes, its name included."""
    before, rss = _at_rest(peer), peer.rss_bytes()
    peer.run([peer.config.metabench, "-n", str(sizes.memory_files), "-j", "2", "-s", "0", "-p", "mknod", peer.target],
             1500)
    after, rss_after = _at_rest(peer), peer.rss_bytes()
    made = after["inodes_used"] - before["inodes_used"]
    if made < sizes.memory_files:
        raise shell.Failed(f"only {made} inodes were made")
    return {
        "files": made,
        "name_bytes": 8,
        "bytes_per_empty_file": (after["ram_used_bytes"] - before["ram_used_bytes"]) / made,
        "rss_bytes_per_empty_file": (rss_after - rss) / made,
    }


def free_disk_pages(directory):
    stat = os.statvfs(directory)
    return stat.f_bavail * stat.f_frsize // 4096
