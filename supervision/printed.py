"""What a process prints, as lines: put together from bytes, cut where they are too long, and
dropped where they are too many. Pure.

::

    bytes ─► LineSplitter ─► lines ─► LineLimit ─► lines to be written, and how many were dropped
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

LINE_BYTES = 8192
"""A longer line becomes several. Lines of people and tracebacks have some hundred; what has more,
such as a dump of data, must not be held in memory while its end is waited for."""

LINES_AT_ONCE = 500
"""A library that tells all about a model as it loads it prints some hundred lines."""

LINES_PER_S = 100
"""More than anybody reads; an hour of it fills the files of one process, and no disk."""

LAST_LINES = 50
"""Of those that were dropped, so many are kept, to be written when the flood is over: what a
process says last, such as why it crashes, counts most. A traceback has less."""


class LineSplitter:
    """Makes lines of one stream's bytes, in whatever pieces they come.

    A carriage return ends a line too, as progress bars print one for each state. Empty lines say
    nothing, and are left out.
    """

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole with this."""
        text = self._begun + data
        lines = text.splitlines()
        self._begun = lines.pop() if lines and text[-1:] not in (b"\n", b"\r") else b""
        if max(map(len, lines), default=0) > LINE_BYTES:
            lines = [piece for line in lines for piece in _pieces(line)]
        found = [line for line in lines if line.strip()]
        if len(self._begun) > LINE_BYTES:
            *long, self._begun = _pieces(self._begun)
            found += long
        return found

    def end(self) -> list[bytes]:
        """What was begun and comes to no end."""
        begun, self._begun = self._begun, b""
        return [begun] if begun.strip() else []


def _pieces(line: bytes) -> list[bytes]:
    """The line in pieces of at most `LINE_BYTES`, none of which ends inside a character."""
    pieces = []
    while len(line) > LINE_BYTES:
        at = LINE_BYTES
        # The bytes of a UTF-8 character behind its first, at most three, are 10xxxxxx.
        while at > LINE_BYTES - 4 and line[at] & 0xC0 == 0x80:
            at -= 1
        pieces.append(line[:at])
        line = line[at:]
    return [*pieces, line]


class Allowed(NamedTuple):
    """What may be written now."""

    dropped: int
    """So many lines before these will never be written."""
    lines: list[bytes]


class LineLimit:
    """Lets `LINES_AT_ONCE` lines pass, and `LINES_PER_S` in the long run: a token bucket.

    When it is empty, lines are dropped until there is a second's worth in it again. The last ones
    dropped pass then, or when the stream is over, whichever comes first.
    """

    def __init__(self, now: float) -> None:
        """``now``, here and below: monotonic seconds."""
        self._tokens = float(LINES_AT_ONCE)
        self._at = now
        self._dropped = 0
        self._last: deque[bytes] = deque(maxlen=LAST_LINES)

    @property
    def dropping(self) -> bool:
        """Whether lines are kept back: ask again with none, in a while."""
        return self._dropped > 0

    def take(self, lines: Sequence[bytes], now: float) -> Allowed:
        """Which of what waits and of these, in this order, may be written now."""
        self._tokens = min(LINES_AT_ONCE, self._tokens + (now - self._at) * LINES_PER_S)
        self._at = now
        if self.dropping and self._tokens < LINES_PER_S:
            self._drop(lines)
            return Allowed(0, [])
        dropped, waiting = self._let_go()
        free = max(0, int(self._tokens) - len(waiting))
        passing = [*waiting, *lines[:free]]
        self._tokens -= len(passing)
        self._drop(lines[free:])
        return Allowed(dropped, passing)

    def end(self) -> Allowed:
        """The stream is over: the last of what was dropped."""
        return Allowed(*self._let_go())

    def _drop(self, lines: Sequence[bytes]) -> None:
        self._dropped += len(lines)
        self._last.extend(lines[-LAST_LINES:])

    def _let_go(self) -> tuple[int, list[bytes]]:
        waiting = list(self._last)
        dropped = self._dropped - len(waiting)
        self._last.clear()
        self._dropped = 0
        return dropped, waiting
