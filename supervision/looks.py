"""A look at a process: what the kernel says of it, and what can be told from that alone.

Standard library only, and no dataclass, which would make the guard's start longer: it uses this.
"""

from __future__ import annotations

import os
from typing import NamedTuple

STOPPED_LOOKS = 2
"""Who was stopped for a moment only is let go on."""
STARVED_SHARE = 0.2
"""A process that wants to run and got less than this share of a core is starved."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STAT_BYTES = 1024
"""A line of /proc/PID/stat is shorter than half of that."""


class Look(NamedTuple):
    """What the kernel says of a process."""

    state: str
    """As in proc(5): R, S, D, T, t, Z …"""
    cpu_s: float
    """CPU time so far, of all its threads."""
    faults: int = 0
    """Pages that it touched for the first time, so far: loading shows by them."""
    rss_bytes: int = 0
    """What it has in memory now."""

    def excuses(self, used_s: float, silence_s: float) -> bool:
        """Whether a process that was silent for so long, and used so much CPU time meanwhile,
        would go on if it were let: it waits for a disk, or is starved."""
        return self.state == "D" or (self.state == "R" and used_s < STARVED_SHARE * silence_s)


def read_stat(stat: bytes) -> Look:
    """What /proc/PID/stat says; see proc(5)."""
    # The name in parentheses may hold anything.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return Look(
        state=fields[0].decode(),
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        faults=int(fields[7]) + int(fields[9]),
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
    )


class Eye:
    """Kept on one process: what it shows is never that of a later one with the same number."""

    def __init__(self, pid: int) -> None:
        """Raises FileNotFoundError or ProcessLookupError for one that is gone."""
        self._stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)

    def look(self) -> Look:
        """Look at it now. Raises ProcessLookupError when it is gone."""
        return read_stat(os.pread(self._stat, _STAT_BYTES, 0))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._stat)


class Stops:
    """Whether one process was stopped by a signal (state T); t, a debugger, is something else."""

    def __init__(self) -> None:
        self._in_a_row = 0

    @property
    def suspected(self) -> bool:
        """Whether it was stopped at the last look."""
        return self._in_a_row > 0

    def look(self, state: str) -> bool:
        """One look at it; whether it was seen stopped often enough."""
        self._in_a_row = self._in_a_row + 1 if state == "T" else 0
        return self._in_a_row >= STOPPED_LOOKS

    def start_anew(self) -> None:
        """What was seen before does not count."""
        self._in_a_row = 0
