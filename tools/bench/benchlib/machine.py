# SPDX-License-Identifier: MIT
"""What the machine has and allows: mounts, memory cgroups of either version, swap files, programs.

Everything made here is undone by a close() or by leaving a "with"; a swap file has a second guard, a process that
outlives this one and turns it off if this one was killed.
"""
import os
import platform
import shutil
import subprocess
import time

from . import shell

CGROUP_ROOT = "/sys/fs/cgroup"


def is_root():
    return os.geteuid() == 0


def read_text(path, default=""):
    try:
        with open(path, encoding="ascii", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return default


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            raise shell.Missing(f"{program} is not installed")


def mount_of(path):
    """(major:minor, type) of what is mounted exactly at path, else None; from the kernel's list, without asking it."""
    found = None
    for line in read_text("/proc/self/mountinfo").splitlines():
        fields = line.split()
        if fields[4] == path:
            found = (fields[2], fields[fields.index("-") + 1])
    return found


def type_of_dir(path):
    """Type of the file system that holds the directory."""
    return shell.run(["stat", "-f", "-c", "%T", path], 10).strip().replace("ext2/ext3", "ext4")


def unmount(path, connection=None):
    """Unmounts for certain: politely, then by cutting the FUSE connection, then lazily."""
    if mount_of(path) is None:
        return
    command = ["umount", path] if is_root() else ["fusermount3", "-u", path]
    # A last fio may still be closing.
    for _ in range(3):
        if shell.quietly(command, 60) or mount_of(path) is None:
            return
        time.sleep(0.3)
    abort_fuse(connection)
    shell.quietly(["umount", "-l", path] if is_root() else ["fusermount3", "-u", "-z", path], 20)


def fuse_connection(path):
    """Number of the FUSE connection that is mounted at path, else None."""
    mount = mount_of(path)
    return mount[0].split(":")[1] if mount is not None else None


def abort_fuse(connection):
    """Ends every wait for a daemon that does not answer."""
    if connection is None:
        return
    try:
        with open(f"/sys/fs/fuse/connections/{connection}/abort", "w", encoding="ascii") as f:
            f.write("1")
    except OSError:
        pass


def bdi(path):
    """The kernel's limits for the mount at path, which decide how fast buffered writes are."""
    mount = mount_of(path)
    base = f"/sys/class/bdi/{mount[0]}" if mount is not None else "/nonexistent"
    names = ("strict_limit", "max_ratio", "max_bytes", "read_ahead_kb")
    return {name: int(text) for name in names if (text := read_text(f"{base}/{name}")).isdigit()}


# --- memory cgroups ---

def _own_cgroup(version):
    for line in read_text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if (version == 2 and controllers == "") or (version == 1 and "memory" in controllers.split(",")):
            return path
    return None


def _v2_parent(root):
    """A cgroup below which ours may be: its children have the memory controller, or can be given it."""
    own = _own_cgroup(2) or "/"
    for path in (os.path.dirname(own), "/"):
        parent = os.path.normpath(root + path)
        if "memory" not in read_text(f"{parent}/cgroup.controllers").split() or not os.access(parent, os.W_OK):
            continue
        control = f"{parent}/cgroup.subtree_control"
        if "memory" not in read_text(control).split():
            try:
                with open(control, "w", encoding="ascii") as f:
                    f.write("+memory")
            except OSError:
                continue
        return parent
    return None


def _v1_parent(root):
    own = os.path.normpath(root + (_own_cgroup(1) or "/"))
    for parent in (own, root):
        if os.path.exists(f"{parent}/memory.limit_in_bytes") and os.access(parent, os.W_OK):
            return parent
    return None


def cgroup_parent():
    """(version, directory) where a memory cgroup can be made; Missing when there is no such place."""
    if not is_root():
        raise shell.Missing("a memory cgroup needs root")
    if os.path.exists(f"{CGROUP_ROOT}/memory/memory.limit_in_bytes"):
        parent = _v1_parent(f"{CGROUP_ROOT}/memory")
        if parent is not None:
            return 1, parent
    for root in (CGROUP_ROOT, f"{CGROUP_ROOT}/unified"):
        if os.path.exists(f"{root}/cgroup.controllers"):
            parent = _v2_parent(root)
            if parent is not None:
                return 2, parent
    raise shell.Missing("no cgroup with a memory controller can be made here")


class Cgroup:
    """A memory cgroup with a limit; enter() is the prefix that runs a command inside."""

    def __init__(self, limit_bytes):
        version, parent = cgroup_parent()
        self.path = f"{parent}/spillfs-bench-{os.getpid()}"
        os.mkdir(self.path)
        try:
            name = "memory.limit_in_bytes" if version == 1 else "memory.max"
            with open(f"{self.path}/{name}", "w", encoding="ascii") as f:
                f.write(str(limit_bytes))
        except OSError as error:
            os.rmdir(self.path)
            raise shell.Missing(f"cannot limit a memory cgroup: {error.strerror}") from None
        self.version = version

    def enter(self):
        return ["sh", "-c", f'echo $$ >"{self.path}/cgroup.procs" && exec "$@"', "sh"]

    def oom_kills(self):
        text = read_text(f"{self.path}/" + ("memory.oom_control" if self.version == 1 else "memory.events"))
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))

    def _remove(self):
        try:
            os.rmdir(self.path)
        except OSError:
            return not os.path.exists(self.path)
        return True

    def close(self):
        if shell.wait_until(self._remove, 10, 0.1):
            return
        # Somebody is left inside; it is one of ours, since nobody else is ever put there.
        for pid in read_text(f"{self.path}/cgroup.procs").split():
            try:
                os.kill(int(pid), 9)
            except OSError:
                pass
        shell.wait_until(self._remove, 10, 0.1)


# --- swap ---

class SwapFile:
    """A swap file that is on from here to close()."""

    def __init__(self, path, size_bytes, mountpoint):
        if not is_root():
            raise shell.Missing("swapon needs root")
        need("mkswap", "swapon", "swapoff")
        self.path = path
        # Survives us: at the end of its stdin, which only our death or close() brings, it tidies up.
        script = 'trap "" INT TERM HUP; cat >/dev/null; if grep -qF -- "$1 " /proc/swaps; then ' \
                 'umount -l "$2"; swapoff "$1"; fi; rm -f -- "$1"'
        self.guard = subprocess.Popen(["sh", "-c", script, "sh", path, mountpoint], stdin=subprocess.PIPE,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as f:
                os.posix_fallocate(f.fileno(), 0, size_bytes)
            shell.run(["mkswap", path], 60)
            shell.run(["swapon", path], 60)
        except (OSError, shell.Failed) as error:
            self.close()
            raise shell.Missing(f"a swap file cannot be used here: {error}") from None

    def close(self):
        if self.path + " " in read_text("/proc/swaps"):
            shell.quietly(["swapoff", self.path], 300)
        try:
            self.guard.stdin.close()
            self.guard.wait(300)
        except (OSError, subprocess.TimeoutExpired):
            pass


def describe():
    """What one must know of the machine to read the numbers."""
    memory = {line.split(":")[0]: line.split()[1] for line in read_text("/proc/meminfo").splitlines()}
    return {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "memory_bytes": int(memory.get("MemTotal", "0")) * 1024,
        "load_average": os.getloadavg()[0],
        "root": is_root(),
        "zswap": read_text("/sys/module/zswap/parameters/enabled", "absent"),
        "transparent_hugepage": read_text("/sys/kernel/mm/transparent_hugepage/enabled", "absent"),
    }
