"""The processes of a running noyau, looked at from outside."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import psutil

from protocol.messages.supervisor import Status

POLL_S = 0.02


def processes_of(found: Status) -> list[psutil.Process]:
    """Every process that the status names and that still exists."""
    pids = [found.guard.pid, found.supervisor.pid, found.spawner.pid]
    pids += [actor.pid for actor in found.actors]
    processes = []
    for pid in pids:
        if pid is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                processes.append(psutil.Process(pid))
    return processes


def processes_in(run_folder: Path) -> list[psutil.Process]:
    """Every process of a noyau that was told its run folder on the command line, and all below
    them. Also finds what no longer answers, and what a killed parent left behind."""
    told = f"run.folder={run_folder}"
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if told in process.cmdline():
                below = process.children(recursive=True)
                found |= {one.pid: one for one in (process, *below)}
    return alive(list(found.values()))


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run. A zombie has ended; it only waits for its parent to notice."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


async def wait_until_gone(processes: list[psutil.Process], timeout_s: float) -> list[int]:
    """Wait for all of them to end; returns the pids of those that have not in time."""
    until = time.monotonic() + timeout_s
    while left := alive(processes):
        if time.monotonic() >= until:
            break
        await asyncio.sleep(POLL_S)
    return [process.pid for process in left]
