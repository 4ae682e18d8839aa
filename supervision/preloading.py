"""Importing actor classes in the spawner, so that their restarts find them imported.

The import of an actor's own modules is more than half of the time that its restart takes. But what
is imported in the spawner must never harm it, as all actors die with it. So each class is tried
in a fork first, and imported here only when that neither fails, nor hangs, nor crashes there, nor
leaves a thread behind, which no later fork would have.
"""

from __future__ import annotations

import importlib
import os
import signal
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from supervision.processes import die_with_parent

TRIAL_S = 10
"""How long an import may take. A cold disk takes seconds for the larger ones."""

_FAILS, _HAS_THREADS = 3, 4
_PROBLEMS = {
    _FAILS: "its import fails",
    _HAS_THREADS: "it starts a thread, which no fork of this process would have",
    -signal.SIGALRM: f"its import takes longer than {TRIAL_S} s",
}


class Preloader:
    """Imports one class after the other; the caller has the loop."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._known: set[str] = set()
        self._trial: tuple[int, str] | None = None
        """The process that tries, and the class."""

    @property
    def trial_pid(self) -> int | None:
        """The process that tries, while there is one."""
        return None if self._trial is None else self._trial[0]

    @property
    def wants_to_go_on(self) -> bool:
        """Whether `go_on` has something to do."""
        return bool(self._waiting) and self._trial is None

    def add(self, classes: Iterable[str]) -> None:
        """Import these too, in time; each a ``module:Class``."""
        for class_path in classes:
            if class_path not in self._known:
                self._known.add(class_path)
                self._waiting.append(class_path)

    def go_on(self) -> None:
        """Try the next one, in a fork. Raises OSError when there can be none."""
        class_path = self._waiting.popleft()
        here = os.getpid()
        pid = os.fork()
        if pid == 0:
            _try(class_path, here)
        self._trial = pid, class_path

    def ended(self, pid: int, status: int) -> tuple[str, str] | None:
        """A child of this process ended, with this exit code or negated signal number. Where it
        was the one that tried: the class, imported now, and what speaks against that or nothing."""
        if self._trial is None or self._trial[0] != pid:
            return None
        class_path = self._trial[1]
        self._trial = None
        if status != 0:
            return class_path, _PROBLEMS.get(status, f"its import ends the process with {status}")
        try:
            _load(class_path)
        except Exception as error:  # noqa: BLE001 - whatever a class's file raises is its problem
            return class_path, f"its import fails: {type(error).__name__}: {error}"
        return class_path, ""


def _load(class_path: str) -> None:
    module, _, name = class_path.partition(":")
    # The class too, as a package may import what it offers when that is asked for.
    getattr(importlib.import_module(module), name)


def _try(class_path: str, spawner: int) -> NoReturn:
    """In the fork: import it, and end with 0 when nothing speaks against it."""
    code = _FAILS
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(spawner, signal.SIGKILL)
        signal.alarm(TRIAL_S)
        _load(class_path)
        code = 0 if len(list(Path("/proc/self/task").iterdir())) == 1 else _HAS_THREADS
    finally:
        # A fork must never return into the loop. Why it failed the actor says when it starts.
        os._exit(code)
