"""Looking at processes that are no actors: who is stopped, and who would get on if it were let."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from configs import HangSettings
from protocol.clock import MonotonicClock
from supervision.lookout import Lookout, LookoutEvents
from tests.support.scripts import start_python
from tests.support.waiting import eventually

SPINS = "while True: pass"
LOOKS = HangSettings(look_interval_s=0.1)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """What a test starts, and what ends with it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


class Seen:
    """What a lookout says of one process, whose name is ``it``."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.stopped = 0
        self.held_up_s: list[float] = []
        self.looks = 0
        self.lookout = Lookout(
            LOOKS, folder, MonotonicClock().now, lambda: (), lambda: [("it", pid)],
            LookoutEvents(
                hangs=lambda *_: None, has_memory=lambda *_: None, beats=lambda *_: None,
                stopped=self._stop, held_up=self._hold_up, looked=self._look,
            ),
        )  # fmt: skip

    def _stop(self, name: str) -> None:
        self.stopped += name == "it"

    def _hold_up(self, name: str, for_s: float) -> None:
        assert name == "it"
        self.held_up_s.append(for_s)

    def _look(self) -> None:
        self.looks += 1


async def test_one_that_gets_no_core_is_held_up_for_as_long_as_that_lasts(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    core = min(os.sched_getaffinity(0))
    starved, *greedy = [start_python(SPINS) for _ in range(3)]
    processes += [starved, *greedy]
    for process in processes:
        os.sched_setaffinity(process.pid, {core})
    # It gets what the others leave, and they leave nothing.
    os.sched_setscheduler(starved.pid, os.SCHED_IDLE, os.sched_param(0))
    seen = Seen(tmp_path, starved.pid)
    seen.lookout.start()
    try:
        await eventually(lambda: len(seen.held_up_s) >= 3)
    finally:
        seen.lookout.stop()
    assert all(for_s > 0 for for_s in seen.held_up_s)
    assert len(seen.held_up_s) <= seen.looks
    assert seen.stopped == 0


async def test_one_that_waits_for_work_is_not_held_up_and_one_that_is_stopped_is_told(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    waits = start_python("import time; print(flush=True); time.sleep(600)")
    processes.append(waits)
    assert waits.stdout is not None
    waits.stdout.readline()
    await eventually(lambda: psutil.Process(waits.pid).status() == psutil.STATUS_SLEEPING)
    seen = Seen(tmp_path, waits.pid)
    seen.lookout.start()
    try:
        await eventually(lambda: seen.looks >= 5)
        waits.send_signal(signal.SIGSTOP)
        await eventually(lambda: seen.stopped)
    finally:
        seen.lookout.stop()
    assert seen.held_up_s == []
