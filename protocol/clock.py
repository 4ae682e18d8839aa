"""Time as a value. Whatever decides takes ``now``; whatever does I/O takes a `Clock`."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A source of monotonic time, in seconds. Its zero means nothing; only differences do."""

    def now(self) -> float:
        """Seconds, never going back, unaffected by changes of the wall clock."""
        ...


class MonotonicClock:
    """The operating system's monotonic clock. On Linux all processes share its zero."""

    # The function itself: this is asked twice for every message.
    now = staticmethod(time.monotonic)


class ManualClock:
    """A clock that moves only when told to: time in tests is a value that the test moves."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        """The moment the clock was last moved to."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Move on by ``seconds`` (zero or more) and return the new now."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-seconds} s")
        self._now += seconds
        return self._now
