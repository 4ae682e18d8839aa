"""CPU, memory, threads, open files and age of processes, for the status: read from the system when
somebody asks."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the system says of one process."""

    cpu_percent: float
    """Of one core, since the last look; at the first one, since its start."""
    rss_bytes: int
    threads: int
    open_files: int | None
    """Files, sockets, pipes …; None where the system does not tell."""
    uptime_s: float


class VitalsReader:
    """Reads vitals; keeps a handle per process, as CPU use is a difference between two looks."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def read(self, pid: int) -> Vitals | None:
        """None for a process that is gone."""
        try:
            process = self._known.get(pid)
            known = process is not None
            if process is None:
                process = self._known[pid] = psutil.Process(pid)
            with process.oneshot():
                uptime_s = time.time() - process.create_time()
                # Asked in any case: the next answer is the use since this look.
                cpu_percent = process.cpu_percent(None)
                if not known:
                    times = process.cpu_times()
                    cpu_percent = 100 * (times.user + times.system) / max(uptime_s, 0.01)
                return Vitals(
                    cpu_percent, process.memory_info().rss, process.num_threads(),
                    _open_files(process), uptime_s,
                )  # fmt: skip
        except psutil.NoSuchProcess:
            self._known.pop(pid, None)
            return None

    def keep_only(self, pids: set[int]) -> None:
        """Forget all other processes."""
        self._known = {pid: process for pid, process in self._known.items() if pid in pids}


def _open_files(process: psutil.Process) -> int | None:
    try:
        return process.num_fds()
    except psutil.AccessDenied:
        # It may keep its /proc from others, also from its own user: prctl(2), PR_SET_DUMPABLE.
        return None
