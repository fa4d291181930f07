# SPDX-License-Identifier: MIT
"""The peers: each is set up in an empty directory, gives commands a directory (or a file) to work on, and is taken
down again without a trace.  A peer that this machine cannot run raises Missing with the reason.
"""
import json
import os
import pwd
import re
import resource
import shutil

from . import machine, shell

DAEMON_SECONDS = 1800
USER = "nobody"


class Peer:
    """name: in JSON and on the command line; title: for people; groups: the workloads it takes part in."""

    name = title = ""
    groups = ()
    direct = 0

    def __init__(self, config):
        self.config = config
        self.work = self.cgroup = None
        self.target = None  # the directory to work in

    def check(self):
        """Missing, unless this machine can run it."""

    def open(self, work, cgroup):
        self.work, self.cgroup = work, cgroup
        try:
            self.set_up()
        except BaseException:
            self.close()
            raise

    def set_up(self):
        self.target = os.path.join(self.work, "dir")
        os.mkdir(self.target)

    def close(self):
        if self.target is not None:
            shell.quietly(["rm", "-rf", "--one-file-system", self.target], 300)
        self.target = None

    def prefix(self):
        """What a command is to be run behind."""
        return self.cgroup.enter() if self.cgroup is not None else []

    def run(self, command, limit, **kwargs):
        kills = self.cgroup.oom_kills() if self.cgroup is not None else 0
        try:
            return shell.run(self.prefix() + command, limit, abort=self.abort, **kwargs)
        except shell.Failed as failed:
            if self.cgroup is not None and self.cgroup.oom_kills() > kills:
                raise shell.Failed(f"{command[0]}: killed by the OOM killer of the cgroup") from failed
            raise

    def abort(self):
        pass

    def file(self):
        return os.path.join(self.target, "data")

    def status(self):
        """spillctl status as a dictionary; None where there is no daemon to ask."""
        return None

    def most_files(self):
        """How many it can have, where that is few; else None."""
        return None

    def facts(self):
        """What else was so while it ran."""
        return {}


class Mounted(Peer):
    """Something with a mountpoint of its own."""

    connection = None
    mountpoint = None

    def close(self):
        if self.mountpoint is not None:
            machine.unmount(self.mountpoint, self.connection)
            shell.quietly(["rmdir", self.mountpoint], 10)
        self.mountpoint = self.target = self.connection = None

    def abort(self):
        machine.abort_fuse(self.connection)

    def make_mountpoint(self):
        self.mountpoint = os.path.join(os.path.realpath(self.work), "mnt")
        os.mkdir(self.mountpoint)
        self.target = self.mountpoint


class Daemon(Mounted):
    """A FUSE daemon, under timeout(1), in the cgroup if there is one."""

    process = None

    def start(self, command):
        log = os.path.join(self.work, "daemon.log")
        limited = ["timeout", "-k", "10", str(DAEMON_SECONDS)] + command
        self.process = shell.start(self.prefix() + limited, log)

        def ready():
            return self.process.poll() is not None or machine.mount_of(self.mountpoint) is not None
        if not shell.wait_until(ready, 30) or machine.mount_of(self.mountpoint) is None:
            raise shell.Failed(f"{self.name} did not mount: {machine.read_text(log)[-300:]}")
        self.connection = machine.fuse_connection(self.mountpoint)
        shell.run(["stat", "-f", self.mountpoint], 30, abort=self.abort)

    def close(self):
        super().close()
        if self.process is None:
            return
        # timeout(1) passes SIGTERM on, upon which the daemon unmounts; so does the unmount that has been.
        if not shell.wait_until(lambda: self.process.poll() is not None, 30):
            self.process.terminate()
            if not shell.wait_until(lambda: self.process.poll() is not None, 20):
                shell.kill_group(self.process)
                self.process.wait(10)
        self.process = None


class Spillfs(Daemon):
    """Our own daemon, with its swap on the disk that the others use."""

    def __init__(self, config, name, title, groups, cache, binary=None, user=None):
        super().__init__(config)
        self.name, self.title, self.groups, self.cache = name, title, groups, cache
        self.binary = binary or config.spillfs
        self.user = user

    def check(self):
        if not os.access("/dev/fuse", os.W_OK):
            raise shell.Missing("/dev/fuse cannot be opened")
        if not machine.is_root() or self.user is not None:
            machine.need("fusermount3")
        if self.user is not None:
            if not machine.is_root():
                raise shell.Missing("already run as a plain user: see spillfs")
            machine.need("setpriv")
            try:
                pwd.getpwnam(self.user)
            except KeyError:
                raise shell.Missing(f"there is no user {self.user}") from None
            if not shell.quietly(self.prefix() + ["test", "-w", "/dev/fuse"], 10):
                raise shell.Missing(f"the user {self.user} may not open /dev/fuse, whose mode udev makes 666")
            if not shell.quietly(self.prefix() + ["test", "-x", self.binary], 10):
                raise shell.Missing(f"the user {self.user} cannot run {self.binary}")

    def prefix(self):
        if self.user is None:
            return super().prefix()
        user = pwd.getpwnam(self.user)
        return super().prefix() + ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups",
                                   "--inh-caps=-all"]

    def set_up(self):
        self.make_mountpoint()
        swap = os.path.join(self.work, "swap")
        os.mkdir(swap)
        if self.user is not None:
            user = pwd.getpwnam(self.user)
            for path in (self.mountpoint, swap):
                os.chown(path, user.pw_uid, user.pw_gid)
        options = [f"cache={self.cache}", f"swap={swap}", f"swapsize={self.config.swap_bytes}"]
        if self.config.size_bytes is not None:
            options.append(f"size={self.config.size_bytes}")
        if self.config.ram is not None:
            options.append(f"ram={self.config.ram}")
        options += self.config.spillfs_options
        self.start([self.binary, "-f", "-o", ",".join(options), self.mountpoint])

    def status(self):
        out = self.run([self.config.spillctl, "status", self.mountpoint, "--json"], 30)
        return json.loads(out)

    def daemon_pid(self):
        """timeout(1) is what we started; the daemon is its child."""
        children = machine.read_text(f"/proc/{self.process.pid}/task/{self.process.pid}/children").split()
        return int(children[0]) if children else None

    def rss_bytes(self):
        text = machine.read_text(f"/proc/{self.daemon_pid()}/status")
        found = re.search(r"^VmRSS:\s+(\d+) kB", text, re.M)
        return int(found.group(1)) * 1024 if found else None

    def facts(self):
        status = self.status()
        keep = ("io_engine", "ram_limit_bytes", "size_limit_bytes", "swap_limit_bytes", "swapin_pages_total",
                "swapout_pages_total", "swapin_errors_total", "swapout_errors_total", "clean_evictions_total",
                "readthrough_pages_total", "writearound_pages_total")
        return {"status": {k: status[k] for k in keep if k in status}, "bdi": machine.bdi(self.mountpoint),
                "rss_bytes": self.rss_bytes()}


class Tmpfs(Mounted):
    name, title, groups = "tmpfs", "kernel tmpfs", ("hot", "meta")

    def set_up(self):
        if machine.is_root():
            self.make_mountpoint()
            shell.run(["mount", "-t", "tmpfs", "-o", "size=100%,nr_inodes=0", "spillfs-bench", self.mountpoint], 20)
        else:
            self.target = f"/dev/shm/spillfs-bench-{os.getpid()}"
            os.mkdir(self.target)

    def check(self):
        if not machine.is_root():
            mount = machine.mount_of("/dev/shm")
            if mount is None or mount[1] != "tmpfs":
                raise shell.Missing("needs root, or a tmpfs at /dev/shm")

    def close(self):
        if self.mountpoint is None and self.target is not None:
            shell.quietly(["rm", "-rf", "--one-file-system", self.target], 120)
        super().close()


class TmpfsSwap(Tmpfs):
    name, title, groups = "tmpfs-swap", "kernel tmpfs + swap file", ("big", "grow")
    swap = None

    def check(self):
        if not machine.is_root():
            raise shell.Missing("mounting, swapon and a memory cgroup need root")
        machine.cgroup_parent()
        machine.need("mkswap", "swapon", "swapoff")

    def set_up(self):
        self.swap = machine.SwapFile(os.path.join(self.work, "swapfile"), self.config.swap_bytes,
                                     os.path.join(os.path.realpath(self.work), "mnt"))
        super().set_up()

    def close(self):
        super().close()
        if self.swap is not None:
            self.swap.close()
        self.swap = None


class DiskDir(Peer):
    name, title, groups = "ext4", "a directory of the disk", ("big", "grow", "meta")

    def facts(self):
        return {"type": machine.type_of_dir(self.work)}


class Passthrough(Daemon):
    name, title, groups = "passthrough_hp", "passthrough_hp over tmpfs", ("hot", "meta")

    def check(self):
        if not machine.is_root():
            raise shell.Missing("mounting its tmpfs needs root")
        if self.config.passthrough is None:
            raise shell.Missing(self.config.passthrough_why)

    def set_up(self):
        self.lower = os.path.join(self.work, "lower")
        os.mkdir(self.lower)
        shell.run(["mount", "-t", "tmpfs", "-o", "size=100%,nr_inodes=0", "spillfs-bench", self.lower], 20)
        self.make_mountpoint()
        # With FUSE passthrough the kernel would not ask the daemon at all.
        self.start([self.config.passthrough, "--foreground", "--nopassthrough", self.lower, self.mountpoint])

    lower = None

    def most_files(self):
        # It keeps a file open for each inode, and hears late of those that are gone.
        return resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2

    def facts(self):
        return {"most_files": self.most_files()}

    def close(self):
        super().close()
        if self.lower is not None:
            machine.unmount(os.path.realpath(self.lower))
            shell.quietly(["rmdir", self.lower], 10)
        self.lower = None


class Raw(Peer):
    name, title, groups = "raw", "raw device", ("big",)
    direct = 1

    def __init__(self, config):
        super().__init__(config)
        self.title = f"{config.device}, O_DIRECT" if config.device else "preallocated file, O_DIRECT"

    def check(self):
        if self.config.device is not None:
            # O_EXCL: not one that is mounted or otherwise in use.
            try:
                os.close(os.open(self.config.device, os.O_RDWR | os.O_EXCL))
            except OSError as error:
                raise shell.Missing(f"{self.config.device}: {error.strerror}") from None

    def set_up(self):
        super().set_up()
        if self.config.device is None:
            with open(self.file(), "xb") as f:
                os.posix_fallocate(f.fileno(), 0, self.config.data_bytes)
            # Blocks that were never written are not read from the disk, and cost journal when first written.
            shell.run(["dd", "if=/dev/urandom", f"of={self.file()}", "bs=1M", "oflag=direct", "conv=notrunc,fsync",
                       f"count={self.config.data_bytes >> 20}"], 600)

    def file(self):
        return self.config.device or super().file()


class Config:
    """What peers need to know of the run; sizes are those of the workload at hand."""

    def __init__(self, args, build):
        self.spillfs = args.spillfs or os.path.join(build, "fuse-fs", "spillfs")
        self.spillctl = os.path.join(build, "tools", "spillctl")
        self.metabench = os.path.join(build, "tools", "metabench")
        self.spillfs_options = [args.spillfs_options] if args.spillfs_options else []
        self.device = args.device
        self.passthrough, self.passthrough_why = None, "not built"
        self.data_bytes = self.swap_bytes = 0
        self.size_bytes = self.ram = None

    def resize(self, data_bytes, swap_bytes, ram=None, size_bytes=None):
        self.data_bytes, self.swap_bytes, self.ram, self.size_bytes = data_bytes, swap_bytes, ram, size_bytes


def build_passthrough(config, source, build, log):
    """Builds libfuse's example once, if its source is there; what is missing otherwise stands in the config."""
    binary = os.path.join(build, "example", "passthrough_hp")
    if not os.path.exists(os.path.join(source, "example", "passthrough_hp.cc")):
        config.passthrough_why = "its source is not in subprojects/libfuse/example"
        return
    if shutil.which("g++") is None and shutil.which("c++") is None:
        config.passthrough_why = "no C++ compiler is installed"
        return
    try:
        if not os.path.exists(os.path.join(build, "build.ninja")):
            log("building libfuse's passthrough_hp")
            shell.run(["meson", "setup", build, source, "-Dbuildtype=release", "-Ddefault_library=static",
                       "-Dexamples=true", "-Dtests=false", "-Dutils=false", "-Duseroot=false",
                       "-Denable-io-uring=false", "-Dwarning_level=0", "-Dwerror=false"], 120)
        shell.run(["ninja", "-C", build, "-j2", "example/passthrough_hp"], 600)
        config.passthrough = binary
    except (shell.Failed, OSError) as error:
        config.passthrough_why = f"cannot be built: {error}"


def all_peers(config, old=None):
    peers = [
        Spillfs(config, "spillfs", "spillfs cache=kernel", ("hot", "big", "grow", "meta", "requests", "memory"),
                "kernel"),
        Spillfs(config, "spillfs-none", "spillfs cache=none", ("hot", "big", "grow", "meta", "requests"), "none"),
        Spillfs(config, "spillfs-user", "spillfs cache=kernel, plain user", ("hot",), "kernel", user=USER),
        Tmpfs(config),
        TmpfsSwap(config),
        DiskDir(config),
        Passthrough(config),
        Raw(config),
    ]
    if old is not None:
        peers.insert(1, Spillfs(config, "spillfs-old", "spillfs, the other binary",
                                ("hot", "big", "grow", "meta", "requests", "memory"), "kernel", binary=old))
    return peers
