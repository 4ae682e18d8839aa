"""What Linux is asked about the processes of tools: their parents, their ends, their limits.

Standard library only. `supervision/processes.py` has the like for actors; no actor imports that
layer, as it could then not be taken away from under them.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_OPEN_FILES = 256
"""Descriptors a tool may have open: a leak ends here and not at the system's limit."""

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int | bytes) -> None:
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def become_subreaper() -> None:
    """Have orphaned descendants become children of this process instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def gain_nothing() -> None:
    """No program that this process starts has more rights than it (set-user-id is ignored)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(parent: int, signal_: signal.Signals) -> None:
    """Have the kernel send ``signal_`` when the parent ends; ends now when it is gone already."""
    _prctl(_PR_SET_PDEATHSIG, int(signal_))
    if os.getppid() != parent:
        os._exit(0)


def set_name(name: str) -> None:
    """The name that ``ps`` and ``top`` show, at most 15 bytes."""
    _prctl(_PR_SET_NAME, name.encode()[:15])


def children() -> list[int]:
    """The pids of this process's children, also those that only wait to be reaped.

    For processes of one thread: the kernel lists children by the thread that has them.
    """
    pid = os.getpid()
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_descendants(timeout_s: float = 2.0) -> None:
    """SIGKILL every descendant of this process and reap them. Needs `become_subreaper`.

    The children of what is killed become children of this process, and the next round finds them.
    Gives up after ``timeout_s``: only a process stuck in the kernel (state D) takes so long.
    """
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(0.0005)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process of a tool may use; each of its own children has the same again."""

    cpu_s: int = 30
    memory_mib: int = 256
    """To be mapped beyond what it has when this is set."""
    file_mib: int = 64
    """The largest file that it writes, and all that it prints."""
    output_bytes: int = 64 * 1024
    """The longest result: kept by who writes and reads it, not by the kernel."""

    def apply(self) -> None:
        """Bind this process and those it will start, for good."""
        memory = _mapped_bytes() + self.memory_mib * 2**20
        wanted = [
            (resource.RLIMIT_CORE, 0, 0),
            # One second more for a tool that catches the first signal.
            (resource.RLIMIT_CPU, self.cpu_s, self.cpu_s + 1),
            (resource.RLIMIT_AS, memory, memory),
            (resource.RLIMIT_FSIZE, self.file_mib * 2**20, self.file_mib * 2**20),
            (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
        ]
        for what, soft, hard in wanted:
            _, most = resource.getrlimit(what)
            if most != resource.RLIM_INFINITY:
                # The user's own limit is lower: that one it stays.
                soft, hard = min(soft, most), min(hard, most)
            resource.setrlimit(what, (soft, hard))


def _mapped_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
