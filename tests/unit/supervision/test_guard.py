"""The guard: starts a crashed supervisor again, and knows when not to.

In place of the supervisor it runs a few lines of Python, which find in ``run`` how often they
were started before, and write what they see with ``note``.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from supervision.guard import FINAL_EXIT_CODES, MAX_CRASHES, WINDOW_S, Guard
from tests.support.scripts import BOUND_S, start_python
from tests.support.waiting import until

GUARD = """
import sys
import supervision.guard as guard
guard.MAX_CRASHES = int(sys.argv[1])
command = [sys.executable, "-S", "-c", *sys.argv[2:]]
sys.exit(guard.Guard(command).run())
"""

PREPARE = """
import os, signal, sys, time
notes, *options = sys.argv[1:]
options = dict(one.lstrip("-").split("=") for one in options)
run = int(options["restarts"])
def note(text):
    with open(notes, "a") as file:
        file.write(f"{text}\\n")
"""


class Guarded:
    """A guard and what it guards."""

    def __init__(self, folder: Path, code: str, max_crashes: int = MAX_CRASHES) -> None:
        self._notes = folder / "notes"
        self._notes.touch()
        self.process = start_python(GUARD, max_crashes, PREPARE + code, self._notes)
        self.said = ""

    @property
    def notes(self) -> list[str]:
        """What the guarded process wrote."""
        return self._notes.read_text().splitlines()

    def wait(self) -> int:
        """The guard's exit code."""
        try:
            _, self.said = self.process.communicate(timeout=BOUND_S)
        except subprocess.TimeoutExpired:
            # It takes its descendants with it only when it is asked to.
            self.process.terminate()
            self.process.wait(BOUND_S)
            raise
        return self.process.returncode


def test_a_supervisor_that_crashed_is_started_again_and_told_how_often(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, "note(run); sys.exit(70 if run < 2 else 0)")
    assert guarded.wait() == 0
    assert guarded.notes == ["0", "1", "2"]
    assert guarded.said.count("the supervisor ended (exit code 70); starting another") == 2


def test_a_supervisor_that_was_killed_is_started_again(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, "note(run)\nif run == 0: os.kill(os.getpid(), signal.SIGKILL)")
    assert guarded.wait() == 0
    assert guarded.notes == ["0", "1"]
    assert "SIGKILL" in guarded.said


def test_a_signal_without_a_name_is_a_crash_like_any_other(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, "note(run)\nif run == 0: os.kill(os.getpid(), 40)")
    assert guarded.wait() == 0
    assert guarded.notes == ["0", "1"]
    assert "signal 40" in guarded.said


@pytest.mark.parametrize("code", FINAL_EXIT_CODES)
def test_an_exit_that_starting_again_would_not_help_is_passed_on(tmp_path: Path, code: int) -> None:
    guarded = Guarded(tmp_path, f"note(run); sys.exit({code})")
    assert guarded.wait() == code
    assert guarded.notes == ["0"]


def test_a_supervisor_that_crashes_too_often_is_given_up_and_the_person_is_told(
    tmp_path: Path,
) -> None:
    guarded = Guarded(tmp_path, "note(run); sys.exit(70)", max_crashes=2)
    assert guarded.wait() == 1
    assert guarded.notes == ["0", "1", "2"]
    assert "crashed 3 times" in guarded.said


def test_crashes_wait_longer_each_time_until_there_were_too_many() -> None:
    guard = Guard([])
    delays = [guard._delay_after_crash(100.0 + at) for at in range(MAX_CRASHES + 1)]
    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8, None]


def test_crashes_long_ago_are_forgotten() -> None:
    guard = Guard([])
    assert [guard._delay_after_crash(at * (WINDOW_S + 1)) for at in range(20)] == [0.0] * 20


def test_the_supervisor_learns_its_guards_pid_and_has_a_process_group_of_its_own(
    tmp_path: Path,
) -> None:
    guarded = Guarded(
        tmp_path, "note(options['guard']); note(os.getppid()); note(os.getpgid(0) == os.getpid())"
    )
    assert guarded.wait() == 0
    assert guarded.notes == [str(guarded.process.pid), str(guarded.process.pid), "True"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_being_asked_to_stop_is_passed_on_and_waited_for(
    tmp_path: Path, number: signal.Signals
) -> None:
    guarded = Guarded(
        tmp_path,
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); note('up')\n"
        "note(signal.sigwait([signal.SIGTERM]) == signal.SIGTERM)",
    )
    until(lambda: guarded.notes)
    guarded.process.send_signal(number)
    assert guarded.wait() == 0
    assert guarded.notes == ["up", "True"]


def test_a_crash_after_being_asked_to_stop_is_not_started_again(tmp_path: Path) -> None:
    guarded = Guarded(
        tmp_path,
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); note('up')\n"
        "signal.sigwait([signal.SIGTERM]); sys.exit(70)",
    )
    until(lambda: guarded.notes)
    guarded.process.terminate()
    assert guarded.wait() == 70
    assert guarded.notes == ["up"]


def test_a_supervisor_that_dies_of_the_signal_gives_the_code_that_shells_give(
    tmp_path: Path,
) -> None:
    guarded = Guarded(tmp_path, "note('up')\nwhile True: signal.pause()")
    until(lambda: guarded.notes)
    guarded.process.terminate()
    assert guarded.wait() == 128 + signal.SIGTERM


def test_nothing_of_the_dead_supervisor_is_left_when_the_next_one_starts(tmp_path: Path) -> None:
    guarded = Guarded(
        tmp_path,
        """
if run == 0:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os.setsid()
        grandchild = os.fork()
        if grandchild == 0:
            signal.alarm(60)
            os.setsid()
            os.write(write, b".")
        while True:
            signal.pause()
    os.read(read, 1)
    with open(f"/proc/{child}/task/{child}/children") as file:
        grandchild = int(file.read())
    note(f"{child} {grandchild}")
    os.kill(os.getpid(), signal.SIGKILL)
else:
    with open(notes) as file:
        pids = file.read().split()
    note([pid for pid in pids if os.path.exists(f"/proc/{pid}")])
""",
    )
    assert guarded.wait() == 0
    assert len(guarded.notes[0].split()) == 2
    assert guarded.notes[1:] == ["[]"]


def test_nothing_is_left_behind_by_a_supervisor_that_ended_as_told(tmp_path: Path) -> None:
    guarded = Guarded(
        tmp_path,
        """
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    os.setsid()
    while True:
        signal.pause()
note(pid)
""",
    )
    assert guarded.wait() == 0
    assert not Path(f"/proc/{guarded.notes[0]}").exists()
