"""Whether a process that ended is started again, and when. Pure.

::

    restart     ended as told or code 0    crashed                     cannot start (code 78)
    permanent   again                      again                       give up
    transient   stay stopped               again                       give up
    temporary   stay stopped               stay stopped                give up

"Again" is at once the first time; then after exponential backoff with full jitter, until an
incarnation has been READY for `stable_s`. More than `max_restarts` within `window_s` (Erlang/OTP's
restart intensity) is giving up: the actor is `failed`.
"""

from __future__ import annotations

import random
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from configs.sections import RestartSettings
from protocol.backoff import Backoff

SETUP_EXIT_CODE = 78
"""EX_CONFIG of sysexits.h: the process cannot start as it was told to."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended; both None when that could not be learnt."""

    code: int | None = None
    signal: int | None = None
    collateral: bool = False
    """It died with the spawner: no fault of its own, so nothing is counted against it."""
    never_ran: str = ""
    """Why there was no process at all (the fork failed)."""
    ended_for: str = ""
    """Why the supervisor ended it: that it hung, or needed too much memory."""

    @classmethod
    def from_status(cls, status: int) -> Exit:
        """From a wait status: non-negative exit code, or the negated signal number, as
        `os.waitstatus_to_exitcode` gives it."""
        return cls(code=status) if status >= 0 else cls(signal=-status)

    @property
    def clean(self) -> bool:
        """Whether it ended with code 0, and by itself."""
        return self.code == 0 and not self.ended_for

    def __str__(self) -> str:
        if self.never_ran:
            return self.never_ran
        if self.collateral:
            return "died with the spawner"
        if self.ended_for:
            return self.ended_for
        if self.signal is not None:
            try:
                return f"killed by {signal.Signals(self.signal).name}"
            except ValueError:
                return f"killed by signal {self.signal}"
        return "ended, nobody knows how" if self.code is None else f"exit code {self.code}"


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again after ``after_s`` seconds."""

    after_s: float


@dataclass(frozen=True, slots=True)
class StayStopped:
    """Its restart type asks for no more."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It is `failed`, and why."""

    reason: str


Decision = Again | StayStopped | GiveUp
Kind = Literal["permanent", "transient", "temporary"]


class RestartPolicy:
    """Decides for one actor; remembers its restarts."""

    def __init__(
        self,
        settings: RestartSettings,
        kind: Kind,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._kind = kind
        self._draw = draw
        self._backoff = _backoff(settings)
        self._in_a_row = 0
        self._recent: deque[float] = deque()

    def decide(self, now: float, ended: Exit, ready_for_s: float | None) -> Decision:
        """What follows from an end. ``ready_for_s``: how long it had been READY, if ever."""
        if ended.collateral:
            return Again(0.0)
        if ended.code == SETUP_EXIT_CODE:
            return GiveUp("it cannot start as it was told to")
        if self._kind == "temporary" or (self._kind == "transient" and ended.clean):
            return StayStopped()
        if ready_for_s is not None and ready_for_s >= self._settings.stable_s:
            self._in_a_row = 0
        while self._recent and now - self._recent[0] > self._settings.window_s:
            self._recent.popleft()
        if len(self._recent) >= self._settings.max_restarts:
            return GiveUp(
                f"it ended {len(self._recent) + 1} times within {self._settings.window_s:g} s, "
                f"last: {ended}"
            )
        self._recent.append(now)
        self._in_a_row += 1
        if self._in_a_row == 1:
            return Again(0.0)
        return Again(self._backoff.delay(self._in_a_row - 2, self._draw))

    def reload(self, settings: RestartSettings, kind: Kind) -> None:
        """Decide by these from now on. What happened so far still counts."""
        self._settings, self._kind = settings, kind
        self._backoff = _backoff(settings)

    def forgive(self) -> None:
        """Somebody starts it by hand: the past no longer counts."""
        self._in_a_row = 0
        self._recent.clear()


def _backoff(settings: RestartSettings) -> Backoff:
    return Backoff(settings.backoff_first_s, settings.backoff_factor, settings.backoff_max_s)
