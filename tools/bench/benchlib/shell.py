# SPDX-License-Identifier: MIT
"""Runs commands with a time limit.

What is measured may hang in the kernel, so nothing here touches a mount from this process: each command that does is
a child in a session of its own.  A child that does not even die of SIGKILL waits for a FUSE daemon; cutting the
daemon's connection (the peer's abort) is what lets it go.
"""
import os
import signal
import subprocess
import time


class Failed(Exception):
    """A command failed, or ran out of time; the text says which and what it wrote."""


class Missing(Exception):
    """This machine cannot do it; the text is the reason."""


def kill_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _reap(process, seconds):
    try:
        process.communicate(timeout=seconds)
        return True
    except subprocess.TimeoutExpired:
        return False


def run(command, limit=60, env=None, cwd=None, abort=None, stdin=subprocess.DEVNULL):
    """Returns the command's stdout; Failed if its exit status is not 0 or it takes longer than limit seconds."""
    environment = dict(os.environ, LC_ALL="C", **(env or {}))
    process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
                               cwd=cwd, text=True, errors="replace", start_new_session=True)
    name = os.path.basename(command[0])
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        kill_group(process)
        if not _reap(process, 10) and abort is not None:
            abort()
            _reap(process, 20)
        raise Failed(f"{name}: not done within {limit:.0f} s") from None
    except BaseException:
        kill_group(process)
        if not _reap(process, 5) and abort is not None:
            abort()
            _reap(process, 10)
        raise
    if process.returncode < 0:
        raise Failed(f"{name}: killed by {signal.Signals(-process.returncode).name}")
    if process.returncode != 0:
        said = (err.strip() or out.strip()).splitlines()
        raise Failed(f"{name}: exit status {process.returncode}: {' / '.join(said[-3:])[:300]}")
    return out


def quietly(command, limit=30, **kwargs):
    """Like run(), for what is tidied up: True if it went well."""
    try:
        run(command, limit, **kwargs)
        return True
    except (Failed, OSError):
        return False


def start(command, log):
    """Starts a daemon in a session of its own; its output goes to the file log."""
    with open(log, "ab") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)


def wait_until(condition, seconds, step=0.05):
    """True as soon as condition() is, False after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(step)
    return True


