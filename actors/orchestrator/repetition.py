"""Whether an answer says the same over and over, as small models do when they are lost. Pure.

Looked for at its end alone, and now and then: the last characters are sought in the text before
them, and where they stand gives the period; whether all of it is that period, again and again, is
one comparison of two slices.
"""

from __future__ import annotations

EVERY_CHARS = 64
"""Between two looks."""
PROBE_CHARS = 32
"""What is sought: it holds for any period, as a shorter one repeats within it."""
LONGEST_PERIOD = 1024
LEAST_REPEATS = 8
"""A list of five lines that are alike is a list."""


class Repetition:
    """Watches one answer grow."""

    def __init__(self, bound_chars: int) -> None:
        """``bound_chars``: of the same over and over that are too much; 0 is no bound."""
        self._bound = bound_chars
        self._tail = ""
        self._unseen = 0

    def take(self, text: str) -> bool:
        """It goes on with this; whether it is lost in a loop."""
        if not self._bound:
            return False
        self._tail += text
        self._unseen += len(text)
        if self._unseen < EVERY_CHARS or len(self._tail) < self._bound:
            return False
        self._unseen = 0
        kept = self._bound + LONGEST_PERIOD
        self._tail = self._tail[-kept:]
        return self._loops()

    def _loops(self) -> bool:
        tail = self._tail[-self._bound :]
        probe = tail[-PROBE_CHARS:]
        before = tail.rfind(probe, 0, len(tail) - 1)
        if before < 0:
            return False
        period = len(tail) - PROBE_CHARS - before
        if period > LONGEST_PERIOD or period * LEAST_REPEATS > self._bound:
            return False
        return tail[period:] == tail[:-period]
