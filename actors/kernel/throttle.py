"""How many lines a log gets of what others can make happen as often as they like. Pure."""

from __future__ import annotations

AT_ONCE = 20
PER_S = 1.0


class Throttle:
    """Lets `AT_ONCE` lines pass, and `PER_S` in the long run: a token bucket."""

    def __init__(self) -> None:
        self._left = float(AT_ONCE)
        self._at = 0.0
        self._skipped = 0

    def passes(self, now: float) -> int | None:
        """Whether this one is written: how many were not since the last one that was; None when
        this one is not either. ``now``: monotonic seconds."""
        self._left = min(float(AT_ONCE), self._left + (now - self._at) * PER_S)
        self._at = now
        if self._left < 1:
            self._skipped += 1
            return None
        self._left -= 1
        skipped, self._skipped = self._skipped, 0
        return skipped
