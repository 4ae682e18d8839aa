"""The guard kills what fell silent; the supervisor's beats never hold it up.

In place of the supervisor the guard runs a few lines of Python, as in ``test_guard.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from configs.sections import RestartSettings
from supervision.guarded import GuardKeeper, Lineage
from supervision.listening import BEAT
from tests.support.scripts import BOUND_S, start_python

GUARD = """
import sys
import supervision.silence as silence
silence.SILENT_S = float(sys.argv[1])
import supervision.guard as guard
sys.exit(guard.Guard([sys.executable, "-S", "-c", *sys.argv[2:]]).run())
"""

PREPARE = """
import os, signal, sys, time
notes, *options = sys.argv[1:]
options = dict(one.lstrip("-").split("=") for one in options)
run, pipe = int(options["restarts"]), int(options["guard-pipe"])
def note(text):
    with open(notes, "a") as file:
        file.write(f"{text}\\n")
def beat():
    os.write(pipe, bytes([255]))
note(run)
"""


def guarded(folder: Path, code: str, silent_s: float = 60) -> tuple[int, list[str], str]:
    """Run it under a guard that believes a silence after so long: the guard's exit code, what was
    noted, and what the guard said."""
    notes = folder / "notes"
    process = start_python(GUARD, silent_s, PREPARE + code, notes)
    try:
        _, said = process.communicate(timeout=BOUND_S)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait(BOUND_S)
        raise
    return process.returncode, notes.read_text().splitlines(), said


@pytest.mark.parametrize("beats", ["", "beat()"])
def test_a_stopped_supervisor_is_killed_and_followed_by_another(tmp_path: Path, beats: str) -> None:
    code = f"{beats}\nif run == 0: os.kill(os.getpid(), signal.SIGSTOP)"
    exit_code, notes, said = guarded(tmp_path, code)
    assert (exit_code, notes) == (0, ["0", "1"])
    assert "hangs, and is killed: it was stopped by a signal" in said
    assert "the supervisor ended (SIGKILL); starting another" in said


def test_a_supervisor_that_beats_no_more_is_killed_and_followed_by_another(tmp_path: Path) -> None:
    code = "beat()\nif run == 0: signal.pause()"
    exit_code, notes, said = guarded(tmp_path, code, silent_s=0.2)
    assert (exit_code, notes) == (0, ["0", "1"])
    assert "event loop has not turned" in said


def test_a_supervisor_that_closed_the_pipe_is_silent(tmp_path: Path) -> None:
    code = "beat()\nif run == 0: os.close(pipe); signal.pause()"
    assert guarded(tmp_path, code, silent_s=0.2)[:2] == (0, ["0", "1"])


def test_a_supervisor_that_beats_is_left_alone(tmp_path: Path) -> None:
    code = "for _ in range(30): beat(); time.sleep(0.05)\nnote('over')"
    assert guarded(tmp_path, code, silent_s=0.2) == (0, ["0", "over"], "")


def test_one_that_hangs_in_its_last_step_had_ended_as_told(tmp_path: Path) -> None:
    code = "beat(); os.write(pipe, bytes([0])); signal.pause()"
    assert guarded(tmp_path, code, silent_s=0.2)[:2] == (0, ["0"])


def test_whoever_asks_a_stopped_supervisor_to_stop_gets_that(tmp_path: Path) -> None:
    code = "note(os.getppid()); os.kill(os.getppid(), signal.SIGTERM)\nos.kill(os.getpid(), 19)"
    exit_code, notes, _ = guarded(tmp_path, "signal.signal(15, signal.SIG_IGN);" + code)
    assert exit_code == 128 + signal.SIGKILL
    assert len(notes) == 2


# --- the supervisor's end ---------------------------------------------------------------------


class Keeping:
    """A keeper of this very process's parent, or of a guard that it was told of."""

    def __init__(self, guard: int, pipe: int | None) -> None:
        self.told: list[str] = []
        self.keeper = GuardKeeper(
            Lineage(guard=guard, pipe=pipe), RestartSettings(),
            asyncio.get_running_loop().time, lambda what, _: self.told.append(what),
        )  # fmt: skip


async def test_the_event_loop_beats_and_says_how_it_ends() -> None:
    theirs, ours = os.pipe()
    it = Keeping(os.getppid(), ours)
    it.keeper.start()
    said = await asyncio.to_thread(os.read, theirs, 1)
    said += await asyncio.to_thread(os.read, theirs, 1)
    it.keeper.stop(7)
    assert said == 2 * BEAT
    # More of them may have come meanwhile.
    assert os.read(theirs, 4096).lstrip(BEAT) == bytes([7])
    os.close(theirs)


async def test_a_guard_that_reads_nothing_never_holds_the_supervisor_up() -> None:
    theirs, ours = os.pipe()
    it = Keeping(os.getppid(), ours)
    assert not os.get_inheritable(ours)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(ours, bytes(4096))
    it.keeper.start()
    it.keeper.stop(0)
    os.close(theirs)
    it.keeper.stop(0)


def test_the_spawner_that_is_forked_off_the_supervisor_cannot_speak_for_it(tmp_path: Path) -> None:
    code = """
import os, sys
from supervision.spawner import fork_spawner
theirs, ours = os.pipe()
started = fork_spawner()
started.channel.setblocking(True)
started.channel.recv(1000)
links = {os.readlink(f"/proc/{started.pid}/fd/{n}") for n in os.listdir(f"/proc/{started.pid}/fd")}
print(os.readlink(f"/proc/self/fd/{ours}") in links)
"""
    process = start_python(code)
    assert process.communicate(timeout=BOUND_S) == ("False\n", "")
