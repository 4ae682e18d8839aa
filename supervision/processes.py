"""What Linux is asked about processes: descendants, parent-death signal, sub-reaper.

Standard library only: the guard, which must hardly need anything, uses it, and so do the processes
of tools.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

# <stdio.h>
_IOLBF = 1

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
    """Have the kernel send ``signal_`` when the parent's forking thread ends.

    Ends the process at once when ``parent`` is gone already: the kernel would not tell.
    """
    _prctl(_PR_SET_PDEATHSIG, int(signal_))
    if os.getppid() != parent:
        os._exit(0)


def set_name(name: str) -> None:
    """The name that ``ps`` and ``top`` show, at most 15 bytes."""
    _prctl(_PR_SET_NAME, name.encode()[:15])


def print_line_by_line() -> None:
    """Have C libraries write each line that they print at once, as to a terminal: what they hold
    back for more is lost when the process crashes."""
    _libc.setvbuf(ctypes.c_void_p.in_dll(_libc, "stdout"), None, _IOLBF, ctypes.c_size_t(0))


def forget_environment() -> None:
    """Clear the environment, also as the kernel shows it and as it came from the parent."""
    os.environ.clear()
    # proc(5): fields 50 and 51 of stat are where the environment begins and ends.
    stat = Path("/proc/self/stat").read_bytes()
    fields = stat[stat.rindex(b")") + 2 :].split()
    begin, end = int(fields[47]), int(fields[48])
    ctypes.memset(begin, 0, end - begin)


def close_all_but(kept: int) -> None:
    """Close every descriptor but this one and the standard three."""
    for one in list(Path("/proc/self/fd").iterdir()):
        number = int(one.name)
        if number > 2 and number != kept:
            # The listing's own descriptor is among them, and closed already.
            with contextlib.suppress(OSError):
                os.close(number)


def children_of(parent: int) -> list[int]:
    """The pids of the direct children of a process, also those that only wait to be reaped.

    Empty for a process that is gone. While some of them end, others may be missing from the list
    (see proc(5)): whoever needs them all asks again.
    """
    try:
        # The kernel lists children by the thread that has them.
        tasks = list(Path(f"/proc/{parent}/task").iterdir())
        if tasks and not (tasks[0] / "children").exists():
            return _searched_children_of(parent)
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        # It is gone; or a thread of it, whose children another thread has now.
        return _searched_children_of(parent)


def _searched_children_of(parent: int) -> list[int]:
    """The same by looking at every process, for a kernel without CONFIG_PROC_CHILDREN."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # The name in parentheses may hold anything; the parent's pid is second behind it.
        if int(stat[stat.rindex(b")") + 2 :].split()[1]) == parent:
            found.append(int(entry.name))
    return found


_ROUND_S = 0.001
LEAST_ROUNDS = 100


def kill_descendants(timeout_s: float = 2.0) -> list[int]:
    """SIGKILL every descendant of this process and reap them; returns those killed.

    Needs `become_subreaper` first: the children of what is killed become children of this
    process, and the next round finds them. Gives up, with what it has, after ``timeout_s`` and no
    fewer rounds than a tenth of a second has, as this process may have been paused: only one stuck
    in the kernel (state D) takes so long.
    """
    killed: list[int] = []
    until, rounds = time.monotonic() + timeout_s, 0
    while time.monotonic() < until or rounds < LEAST_ROUNDS:
        rounds += 1
        for pid in children_of(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            if pid not in killed:
                killed.append(pid)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            break
        time.sleep(_ROUND_S)
    return killed
