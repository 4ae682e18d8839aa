"""A guard that follows a killed one: it watches a supervisor that is not its child.

In place of the supervisor a few lines of Python start the guard, as the supervisor does, and then
end in different ways; the supervisor that the guard starts after it writes what it was told.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from noyau.processes import alive
from tests.support.scripts import BOUND_S, start_python
from tests.support.waiting import until

SUPERVISOR = """
import os, signal, subprocess, sys
from supervision.guard import STOPPING
notes, how = sys.argv[1:]
theirs, ours = os.pipe()
# Held back in the guard as well, until it can pass them on.
signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
GUARD = '''
import os, sys
from supervision.guard import Adopted, Guard
notes, pid, pipe = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
NEXT = "import sys; print(*sys.argv[2:], file=open(sys.argv[1], 'a'))"
adopted = Adopted(pid, pipe)
print("guard", os.getpid(), file=open(notes, "a"), flush=True)
sys.exit(Guard([sys.executable, "-S", "-c", NEXT, notes], adopted, 4, 7).run())
'''
guard = subprocess.Popen(
    [sys.executable, "-c", GUARD, notes, str(os.getpid()), str(theirs)], pass_fds=[theirs]
)
os.close(theirs)
if how == "exits":
    os.write(ours, bytes([0]))
elif how == "fails":
    os.write(ours, bytes([1]))
elif how == "is asked":
    signal.sigwait([signal.SIGTERM])
    os.write(ours, bytes([0]))
    print("asked", file=open(notes, "a"))
elif how == "is killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif how == "is stopped":
    os.kill(os.getpid(), signal.SIGSTOP)
os._exit(0)
"""


def notes_of(tmp_path: Path, how: str) -> Path:
    notes = tmp_path / "notes"
    notes.touch()
    process = start_python(SUPERVISOR, notes, how)
    if how == "is asked":
        until(lambda: notes.read_text().startswith("guard"))
        os.kill(guard_in(notes), signal.SIGTERM)
    process.wait(BOUND_S)
    until(lambda: notes.read_text().startswith("guard"))
    with contextlib.suppress(psutil.NoSuchProcess):
        guard = psutil.Process(guard_in(notes))
        until(lambda: not alive([guard]))
    return notes


def guard_in(notes: Path) -> int:
    return int(notes.read_text().split()[1])


@pytest.mark.parametrize("how", ["is killed", "fails", "is stopped"])
def test_a_supervisor_that_crashed_is_followed_by_one_that_knows_its_lineage(
    tmp_path: Path, how: str
) -> None:
    notes = notes_of(tmp_path, how)
    guard = guard_in(notes)
    (told,) = notes.read_text().splitlines()[1:]
    assert re.sub(r"pipe=\d+", "pipe=…", told) == (
        f"--guard={guard} --guard-pipe=… --restarts=5 --guard-restarts=7"
    )


def test_a_supervisor_that_ended_as_told_is_followed_by_none(tmp_path: Path) -> None:
    assert notes_of(tmp_path, "exits").read_text().count("\n") == 1


def test_being_asked_to_stop_is_passed_on(tmp_path: Path) -> None:
    notes = notes_of(tmp_path, "is asked")
    assert notes.read_text().splitlines()[1:] == ["asked"]
