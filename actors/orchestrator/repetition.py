"""Whether an answer says the same over and over, as small models do when they are lost. Pure.

Looked for at its end alone, and now and then. A text that has a period holds its own beginning
again one period later: so all of it but the longest period is sought in it, which gives the only
period that it can have, and comparing two slices tells whether it has that to its end.
"""

from __future__ import annotations

EVERY_CHARS = 64
"""Between two looks."""
LONGEST_PERIOD = 1024
LEAST_REPEATS = 8
"""A list of five lines that are alike is a list."""


class Repetition:
    """Watches one answer grow."""

    def __init__(self, bound_chars: int) -> None:
        """``bound_chars``: of the same over and over that are too much; 0 is no bound. One of less
        than `LEAST_REPEATS` is none either."""
        self._bound = bound_chars
        self._longest = min(LONGEST_PERIOD, bound_chars // LEAST_REPEATS)
        self._tail = ""
        self._unseen = 0

    def take(self, text: str) -> bool:
        """It goes on with this; whether it is lost in a loop."""
        if not self._longest:
            return False
        self._tail += text
        self._unseen += len(text)
        if self._unseen < EVERY_CHARS or len(self._tail) < self._bound:
            return False
        self._unseen = 0
        self._tail = self._tail[-self._bound :]
        return self._loops()

    def _loops(self) -> bool:
        tail = self._tail
        period = tail.find(tail[: -self._longest], 1)
        return period > 0 and tail[period:] == tail[:-period]
