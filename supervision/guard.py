"""The guard: a tiny parent that starts the supervisor again when it crashed.

Standard library only, so that hardly anything can go wrong in it. It is a sub-reaper: whatever
a killed supervisor leaves behind becomes its child, and it kills that before it starts the next
one. When the guard itself is killed, the supervisor is told by the kernel and stops in order.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque

from supervision.processes import become_subreaper, kill_descendants, set_name

FINAL_EXIT_CODES = (0, 2, 78)
"""Ended as told; wrong usage; cannot start as it was told to. Starting again would not help."""
MAX_CRASHES = 5
WINDOW_S = 60.0
"""More crashes than that within the window is giving up: a supervisor that cannot live needs a
person. Kills by hand, even several in a row, stay below it."""


class Guard:
    """Keeps one supervisor running."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_to_stop = False
        self._crashes: deque[float] = deque()

    def run(self) -> int:
        """Start the supervisor, wait, start again; returns the exit code to end with."""
        become_subreaper()
        set_name("noyau-guard")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._stop())
        restarts = 0
        while True:
            code = self._run_once(restarts)
            # Nothing outlives its supervisor, however it ended.
            kill_descendants()
            if self._asked_to_stop or code in FINAL_EXIT_CODES:
                return code if code >= 0 else 128 - code
            delay = self._delay_after_crash(time.monotonic())
            if delay is None:
                sys.stderr.write(
                    f"noyau: the supervisor crashed {MAX_CRASHES + 1} times within "
                    f"{WINDOW_S:g} s; its log says why\n"
                )
                return 1
            restarts += 1
            sys.stderr.write(f"noyau: the supervisor ended ({_how(code)}); starting another\n")
            time.sleep(delay)

    def _run_once(self, restarts: int) -> int:
        self._process = subprocess.Popen(
            [*self._command, f"--guard={os.getpid()}", f"--restarts={restarts}"],
            # A group of its own: Ctrl-C in the terminal reaches it through the guard, once.
            process_group=0,
        )
        if self._asked_to_stop:
            self._process.terminate()
        return self._process.wait()

    def _stop(self) -> None:
        self._asked_to_stop = True
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    def _delay_after_crash(self, now: float) -> float | None:
        """Seconds to wait before the next start, or None to give up."""
        self._crashes.append(now)
        while now - self._crashes[0] > WINDOW_S:
            self._crashes.popleft()
        if len(self._crashes) > MAX_CRASHES:
            return None
        return 0.0 if len(self._crashes) == 1 else 0.1 * 2.0 ** (len(self._crashes) - 2)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        # A real-time signal has no name.
        return f"signal {-code}"


if __name__ == "__main__":
    sys.exit(Guard([sys.executable, "-m", "supervisor", *sys.argv[1:]]).run())
