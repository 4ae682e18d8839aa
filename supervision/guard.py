"""The guard: a tiny process that starts the supervisor again when it crashed or fell silent.

::

    python -m supervision.guard [ARGUMENTS OF THE SUPERVISOR …]
    python -m supervision.guard --adopt=PID,FD,RESTARTS,GUARD_RESTARTS [ARGUMENTS …]

The first guard is the supervisor's parent. When it is killed, the supervisor starts the next one
(`supervision.guarded`), which adopts: it cannot learn the exit code of a process that is no child
of its own, so it is told that on the pipe (`supervision.listening`). The supervisor that follows is
a child again.

A supervisor that was stopped by a signal, or whose event loop stands still, answers no more than a
dead one: `supervision.silence` decides, and it is killed and followed by another.

Standard library only, so that hardly anything can go wrong in it. It is a sub-reaper: whatever
a killed supervisor leaves behind becomes its child, and it kills that before it starts the next
one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from typing import Protocol

from supervision.listening import Listener, say
from supervision.processes import become_subreaper, kill_descendants, set_name

FINAL_EXIT_CODES = (0, 2, 78)
"""Ended as told; wrong usage; cannot start as it was told to. Starting again would not help."""
MAX_CRASHES = 5
WINDOW_S = 60.0
"""More crashes than that within the window is giving up: a supervisor that cannot live needs a
person. Kills by hand, even several in a row, stay below it."""
ADOPT = "--adopt="
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that ask to stop, which a guard passes on."""


class Guarded(Protocol):
    """The supervisor that is being guarded."""

    def wait(self) -> int | None:
        """Its exit code, or the negated signal number, or None where that cannot be known."""
        ...

    def stop(self) -> None:
        """Ask it to stop. Harmless when it has ended."""
        ...


class Child:
    """A supervisor that this guard started."""

    def __init__(self, command: list[str], restarts: int, guard_restarts: int) -> None:
        ours, theirs = os.pipe()
        told = (
            f"--guard={os.getpid()}", f"--guard-pipe={theirs}",
            f"--restarts={restarts}", f"--guard-restarts={guard_restarts}",
        )  # fmt: skip
        # A group of its own: Ctrl-C in the terminal reaches it through the guard, once.
        self._process = subprocess.Popen([*command, *told], process_group=0, pass_fds=(theirs,))
        os.close(theirs)
        pid = self._process.pid
        self._listener = Listener(pid, ours, os.pidfd_open(pid))

    def wait(self) -> int:
        """See `Guarded.wait`."""
        self._listener.wait()
        code = self._process.wait()
        if self._listener.killed and self._listener.announced is not None:
            # It had ended as it wanted to, all but for the last step.
            return self._listener.announced
        return code

    def stop(self) -> None:
        """See `Guarded.stop`."""
        self._listener.signal(signal.SIGTERM)


class Adopted:
    """A supervisor that another guard started, and that started this one."""

    def __init__(self, pid: int, pipe: int) -> None:
        pidfd: int | None = None
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
        if pidfd is not None and os.getppid() != pid:
            # It died before, and the number may be another's by now.
            os.close(pidfd)
            pidfd = None
        self._listener = Listener(pid, pipe, pidfd)

    def wait(self) -> int | None:
        """See `Guarded.wait`."""
        self._listener.wait()
        if self._listener.killed and self._listener.announced is None:
            return -signal.SIGKILL
        return self._listener.announced

    def stop(self) -> None:
        """See `Guarded.stop`."""
        self._listener.signal(signal.SIGTERM)


class Guard:
    """Keeps one supervisor running."""

    def __init__(
        self,
        command: list[str],
        adopted: Guarded | None = None,
        restarts: int = 0,
        guard_restarts: int = 0,
    ) -> None:
        """``command`` starts a supervisor; ``adopted`` runs already, the ``restarts``-th after the
        first. ``guard_restarts``: how many guards there were before this one."""
        self._command = command
        self._guarded = adopted
        self._restarts = restarts
        self._guard_restarts = guard_restarts
        self._asked_to_stop = False
        self._crashes: deque[float] = deque()

    def run(self) -> int:
        """Start the supervisor, wait, start again; returns the exit code to end with."""
        become_subreaper()
        set_name("noyau-guard")
        for number in STOPPING:
            signal.signal(number, lambda *_: self._stop())
        # Whoever started this guard may have held them back until now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        while True:
            if self._guarded is None:
                self._guarded = Child(self._command, self._restarts, self._guard_restarts)
                if self._asked_to_stop:
                    self._guarded.stop()
            code = self._guarded.wait()
            self._guarded = None
            # Nothing outlives its supervisor, however it ended.
            kill_descendants()
            if self._asked_to_stop or code in FINAL_EXIT_CODES:
                return _passed_on(code)
            delay = self._delay_after_crash(time.monotonic())
            if delay is None:
                say(
                    f"the supervisor crashed {MAX_CRASHES + 1} times within {WINDOW_S:g} s; its "
                    "log says why"
                )
                return 1
            self._restarts += 1
            say(f"the supervisor ended ({_how(code)}); starting another")
            time.sleep(delay)

    def _stop(self) -> None:
        self._asked_to_stop = True
        if self._guarded is not None:
            self._guarded.stop()

    def _delay_after_crash(self, now: float) -> float | None:
        """Seconds to wait before the next start, or None to give up."""
        self._crashes.append(now)
        while now - self._crashes[0] > WINDOW_S:
            self._crashes.popleft()
        if len(self._crashes) > MAX_CRASHES:
            return None
        return 0.0 if len(self._crashes) == 1 else 0.1 * 2.0 ** (len(self._crashes) - 2)


def _passed_on(code: int | None) -> int:
    """The exit code as shells give it."""
    if code is None:
        return 1
    return code if code >= 0 else 128 - code


def _how(code: int | None) -> str:
    if code is None:
        return "nobody knows how"
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        # A real-time signal has no name.
        return f"signal {-code}"


def main(arguments: list[str]) -> int:
    """Be the guard that the command line asks for; returns the exit code."""
    command = [sys.executable, "-m", "supervisor"]
    if not (arguments and arguments[0].startswith(ADOPT)):
        return Guard([*command, *arguments]).run()
    pid, pipe, restarts, guard_restarts = map(int, arguments[0].removeprefix(ADOPT).split(","))
    adopted = Adopted(pid, pipe)
    return Guard([*command, *arguments[1:]], adopted, restarts, guard_restarts).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
