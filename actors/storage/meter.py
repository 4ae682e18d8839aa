"""How fast it goes and how long it will take, for people who look at a progress bar. Pure.

The rate is that of the last seconds: an average since the beginning would not show that a line has
become slow, and that between two readings would dance.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

WINDOW_S: Final = 8.0
"""What the rate is taken over: calm enough to be read, and it follows a change while one looks."""
FIRST_S: Final = 1.0
"""Of readings before anything is said: the first packets tell of the connection's start."""
_SPACING: Final = 64
"""Readings kept in a window, at most; those between say nothing more."""


class Meter:
    """Takes in ``(now, done)`` readings; ``now`` in monotonic seconds, ``done`` in bytes.

    Bytes that were there before the first reading (a download that is resumed) do not count as
    fast ones.
    """

    def __init__(self, window_s: float = WINDOW_S) -> None:
        if not window_s > 0:
            raise ValueError(f"no window: {window_s} s")
        self._window_s = window_s
        self._readings: deque[tuple[float, int]] = deque()
        self._last: tuple[float, int] | None = None

    def note(self, now: float, done: int) -> None:
        """A reading. One with fewer bytes than the last begins anew: it was started over."""
        if self._last is not None and done < self._last[1]:
            self._readings.clear()
        self._last = (now, done)
        if not self._readings or now - self._readings[-1][0] >= self._window_s / _SPACING:
            self._readings.append(self._last)
        self._forget(now)

    def rate(self, now: float) -> float | None:
        """Bytes per second over the last seconds; None while it cannot be said."""
        if self._last is None:
            return None
        self._forget(now)
        began, first = self._readings[0]
        if now - began < FIRST_S:
            return None
        if self._last[0] <= now - self._window_s:
            return 0.0
        return (self._last[1] - first) / (now - began)

    def _forget(self, now: float) -> None:
        # One reading at or before the window's beginning stays, for the rate to begin at.
        while len(self._readings) > 1 and self._readings[1][0] <= now - self._window_s:
            self._readings.popleft()

    def remaining_s(self, now: float, total: int) -> float | None:
        """Seconds until ``total`` bytes are done; None while it cannot be said, also when nothing
        moves."""
        rate = self.rate(now)
        if self._last is None or not rate:
            return None
        left = max(0, total - self._last[1]) / rate
        return left if math.isfinite(left) else None
