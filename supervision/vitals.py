"""CPU, memory and age of processes, for the status: read from the system when somebody asks."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the system says of one process."""

    cpu_percent: float
    """Of one core, since the last look."""
    rss_bytes: int
    uptime_s: float


class VitalsReader:
    """Reads vitals; keeps a handle per process, as CPU use is a difference between two looks."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def read(self, pid: int) -> Vitals | None:
        """None for a process that is gone."""
        try:
            process = self._known.get(pid)
            if process is None:
                process = self._known[pid] = psutil.Process(pid)
            with process.oneshot():
                return Vitals(
                    process.cpu_percent(None),
                    process.memory_info().rss,
                    time.time() - process.create_time(),
                )
        except psutil.NoSuchProcess:
            self._known.pop(pid, None)
            return None

    def keep_only(self, pids: set[int]) -> None:
        """Forget all other processes."""
        self._known = {pid: process for pid, process in self._known.items() if pid in pids}
