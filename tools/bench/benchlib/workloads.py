# SPDX-License-Identifier: MIT
"""The workloads that are measured in rounds.  Each yields (cell, rate) for one peer in one round; the rates are all
"more is better".  A cell that fails yields its Failed instead, and the rest of the round goes on if it can.
"""
import glob
import json
import os
import time

from . import shell

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MIB = 1 << 20
GROW_STEPS = (0.5, 1, 2, 3, 4, 6, 8)
GROW_BIN_SECONDS = 0.25

SEQUENTIAL, RANDOM, OPS = "MiB/s", "IOPS", "ops/s"
# cell -> (text, unit); the order is that of the run, and of the table.
HOT = {
    "rand-read-1": ("random read 4k, 1 job", RANDOM),
    "rand-read-2": ("random read 4k, 2 jobs", RANDOM),
    "seq-read": ("sequential read 1m", SEQUENTIAL),
    "mmap-read": ("mmap random read 4k", RANDOM),
    "rand-write-1": ("random write 4k, 1 job", RANDOM),
    "rand-write-2": ("random write 4k, 2 jobs", RANDOM),
    "seq-write": ("sequential write 1m", SEQUENTIAL),
    "mmap-write": ("mmap random write 4k", RANDOM),
}
BIG = {
    "first-write": ("first write 1m", SEQUENTIAL),
    "overwrite": ("overwrite 1m", SEQUENTIAL),
    "swap-out": ("to the disk during overwrite", SEQUENTIAL),
    "seq-read": ("sequential read 1m", SEQUENTIAL),
    "cold-read": ("sequential read 1m, cold", SEQUENTIAL),
    "rand-read-1": ("random read 4k, 1 job", RANDOM),
    "rand-read-8": ("random read 4k, 8 jobs", RANDOM),
    "zipf-read": ("zipf 1.1 read 4k", RANDOM),
    "rand-write-1": ("random write 4k, 1 job", RANDOM),
    "rand-write-8": ("random write 4k, 8 jobs", RANDOM),
    "mmap-rw": ("mmap random read/write 4k", RANDOM),
}
META_JOBS = (1, 4)
META_PHASES = {"create": "create, write, close", "stat": "first stat", "restat": "stat again",
               "read": "open, read, close", "readdir": "readdir", "rename": "rename", "unlink": "unlink"}
META = {f"{phase}-{jobs}": (f"{text}, {jobs} job{'s' if jobs > 1 else ''}", OPS)
        for jobs in META_JOBS for phase, text in META_PHASES.items()}
META.update({
    "untar": ("untar a source tree", "files/s"),
    "git-status": ("git status", "files/s"),
    "rm-tree": ("rm -r of the tree", "files/s"),
})
GROW = {f"mix-{step:g}x": (f"random 70/30 mix over {step:g}x of RAM", RANDOM) for step in GROW_STEPS}
CELLS = {"hot": HOT, "big": BIG, "grow": GROW, "meta": META}
TITLES = {
    "hot": "(a) hot: the data fits",
    "big": "(b) bigger than memory: four times the cgroup's limit",
    "grow": "(d) the working set grows",
    "meta": "(c) metadata: many small files",
    "requests": "(e) requests per operation",
    "memory": "(f) memory per page and per file",
}


class Fio:
    """Runs sections of one job file on one peer."""

    def __init__(self, peer, job_file, **variables):
        self.peer = peer
        self.job_file = os.path.join(HERE, job_file)
        self.variables = {f"BENCH_{k.upper()}": str(v) for k, v in variables.items()}
        self.variables["BENCH_FILE"] = peer.file()

    def run(self, section, limit, **variables):
        """The section's rate in bytes and in operations a second, and the seconds it ran."""
        env = dict(self.variables, **{f"BENCH_{k.upper()}": str(v) for k, v in variables.items()})
        out = self.peer.run(["fio", "--output-format=json", f"--section={section}", self.job_file], limit, env=env,
                            cwd="/")
        # fio puts its notes before the object.
        job = json.loads(out[out.index("{"):])["jobs"][0]
        if job.get("error", 0) != 0:
            raise shell.Failed(f"fio {section}: error {job['error']}")
        directions = [job[d] for d in ("read", "write") if job[d]["total_ios"] > 0]
        if not directions:
            raise shell.Failed(f"fio {section}: did nothing")
        return (sum(d["bw_bytes"] for d in directions), sum(d["iops"] for d in directions),
                max(d["runtime"] for d in directions) / 1000)


def _rate(result, unit):
    return result[0] / MIB if unit == SEQUENTIAL else result[1]


def hot(peer, sizes, _out):
    """(a) one file that fits; written first, then each section."""
    fio = Fio(peer, "hot.fio", size=sizes.hot_bytes, seconds=sizes.hot_seconds)
    for section in ("prepare", "warm"):
        fio.run(section, 300)
    for cell, (_, unit) in HOT.items():
        try:
            yield cell, _rate(fio.run(cell, sizes.hot_seconds + 60), unit)
        except shell.Failed as failed:
            yield cell, failed


def _big_cell(peer, fio, cell, unit, sizes):
    if cell == "cold-read":
        # What is dirty cannot be dropped.
        shell.quietly(peer.prefix() + ["sync", peer.file()], 120, abort=peer.abort)
    before = peer.status() if cell == "overwrite" else None
    result = fio.run(cell, 600)
    yield cell, _rate(result, unit)
    if cell == "overwrite" and peer.direct:
        yield "swap-out", result[0] / MIB
    elif before is not None:
        pages = peer.status()["swapout_pages_total"] - before["swapout_pages_total"]
        if pages * 4096 < sizes.big_bytes / 2:
            yield "swap-out", shell.Failed(f"only {pages} pages went to swap: this tested nothing")
        else:
            yield "swap-out", pages * 4096 / MIB / result[2]


def big(peer, sizes, _out):
    """(b) one file of four times the cgroup's limit.  Without the first section's file there is nothing to go on."""
    fio = Fio(peer, "big.fio", size=sizes.big_bytes, seconds=sizes.big_seconds, direct=peer.direct)
    for cell, (_, unit) in BIG.items():
        if cell == "swap-out" or (cell == "mmap-rw" and peer.direct):
            continue
        try:
            yield from _big_cell(peer, fio, cell, unit, sizes)
        except shell.Failed as failed:
            yield cell, failed
            if cell == "first-write":
                return


def _spread(bins, start, end, rate):
    """Adds a rate that held from start to end (seconds) to the bins, by the share of each that it covers."""
    for i in range(len(bins)):
        covered = min(end, (i + 1) * GROW_BIN_SECONDS) - max(start, i * GROW_BIN_SECONDS)
        if covered > 0:
            bins[i] += rate * covered / GROW_BIN_SECONDS


def _bin_logs(prefix, seconds):
    """Sums fio's logs (milliseconds, KiB/s, direction, ...) of all jobs to 4 KiB operations a second."""
    bins = [0.0] * max(1, round(seconds / GROW_BIN_SECONDS))
    for path in glob.glob(glob.escape(prefix) + "_bw.*.log"):
        last = {}
        with open(path, encoding="ascii") as f:
            for line in f:
                milliseconds, kib, direction = (int(field) for field in line.split(",")[:3])
                # An entry stands at the end of its interval.
                _spread(bins, last.get(direction, 0), milliseconds / 1000, kib / 4)
                last[direction] = milliseconds / 1000
        os.unlink(path)
    return bins


def grow(peer, sizes, out):
    """(d) steps of a growing file.  A cell's rate is the step's mean; out gets what each interval had."""
    logs = os.path.join(peer.work, "log")
    # fio does not log its last interval: half a second more than is looked at.
    fio = Fio(peer, "grow.fio", seconds=f"{sizes.grow_seconds * 1000 + 500}ms", log=logs)
    filled, series = 0, []
    for step in GROW_STEPS:
        size = int(step * sizes.grow_limit_bytes) & ~(MIB - 1)
        cell = f"mix-{step:g}x"
        try:
            fio.run("fill", 300, offset=filled, size=size - filled)
            filled = size
            yield cell, fio.run("mix", sizes.grow_seconds + 90, size=size)[1]
        except shell.Failed as failed:
            # One that was killed may well live with the next step; what it logged says nothing.
            yield cell, failed
            _bin_logs(logs, sizes.grow_seconds)
            series.append({"step": step, "iops": []})
            continue
        series.append({"step": step, "iops": _bin_logs(logs, sizes.grow_seconds)})
    out.append({"peer": peer.name, "interval_seconds": GROW_BIN_SECONDS, "steps": series})


def _timed(peer, command, limit, env=None):
    start = time.monotonic()
    peer.run(command, limit, env=env, cwd="/")
    return time.monotonic() - start


def _tree(peer, sizes):
    tree = os.path.join(peer.target, "tree")
    env = {"HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0",
           "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    passes = 5
    yield "untar", sizes.tree_files / _timed(peer, ["tar", "-xf", sizes.tree, "-C", peer.target], 300)
    # Refreshes the index, which the tarball's knows other inodes than these.
    peer.run(["git", "-C", tree, "status", "--short"], 300, env=dict(env, GIT_OPTIONAL_LOCKS="1"), cwd="/")
    loop = f'for i in $(seq {passes}); do test -z "$(git -C "$1" status --porcelain)" || exit 1; done'
    yield "git-status", sizes.tree_files * passes / _timed(peer, ["sh", "-c", loop, "sh", tree], 300, env)
    yield "rm-tree", sizes.tree_files / _timed(peer, ["rm", "-r", tree], 300)


def meta(peer, sizes, _out):
    """(c) metabench at one and four jobs, then a source tree."""
    files = min(sizes.meta_files, peer.most_files() or sizes.meta_files)
    for jobs in META_JOBS:
        try:
            text = peer.run([peer.config.metabench, "-n", str(files), "-j", str(jobs), "-p",
                             ",".join(META_PHASES), peer.target], 600)
            for phase, result in json.loads(text).items():
                yield f"{phase}-{jobs}", result["ops"] / result["seconds"]
        except shell.Failed as failed:
            yield f"create-{jobs}", failed
    done = set()
    try:
        for cell, rate in _tree(peer, sizes):
            done.add(cell)
            yield cell, rate
    except shell.Failed as failed:
        yield next(c for c in ("untar", "git-status", "rm-tree") if c not in done), failed


ROUNDS = {"hot": hot, "big": big, "grow": grow, "meta": meta}


def make_tree(directory, files):
    """A tarball of a git work tree of so many files, the same bytes each time; returns its path."""
    tree, state = os.path.join(directory, "tree"), 20240229
    for i in range(files):
        folder = os.path.join(tree, f"part{i // 400:02d}", f"module{i // 20 % 20:02d}")
        os.makedirs(folder, exist_ok=True)
        lines = []
        state = (state * 6364136223846793005 + 1442695040888963407) & (2 ** 64 - 1)
        # Sizes as in a source tree: most of a few KiB, some of many.
        for j in range(20 + (state >> 40) % 200 + (1500 if i % 50 == 0 else 0)):
            lines.append(f"static const unsigned value_{i}_{j} = {(state ^ (j * 2654435761)) & 0xffffffff}u;\n")
        with open(os.path.join(folder, f"file{i:05d}.c"), "w", encoding="ascii") as f:
            f.writelines(lines)
    env = {"HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "bench", "GIT_AUTHOR_EMAIL": "b@x",
           "GIT_COMMITTER_NAME": "bench", "GIT_COMMITTER_EMAIL": "b@x"}
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["-c", "gc.auto=0", "commit", "-q", "-m", "tree"]):
        shell.run(["git", "-C", tree] + command, 120, env=env)
    tarball = os.path.join(directory, "tree.tar")
    shell.run(["tar", "-cf", tarball, "-C", directory, "--owner=0", "--group=0", "tree"], 120)
    shell.run(["rm", "-rf", "--one-file-system", tree], 120)
    return tarball
