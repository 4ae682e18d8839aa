"""Who is read next, and who writes in which row of the batch. Pure.

::

    waiting ── a row is free ──► reading ── the prompt is read ──► writing ──► gone
                                    chunk by chunk, in turn          a token each step, together
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

SAME_ROWS = 8
"""Rows are computed so many at a time, empty ones too: a matrix product may round differently for
another number of rows, and then whoever runs beside an answer would change its text."""
SAME_TOKENS = 64
"""Keys and values are looked at so many at a time, for the same reason."""


class Batch(Generic[T]):
    """The requests of one model and their rows."""

    def __init__(self, rows: int) -> None:
        self._free = list(range(rows))
        self._waiting: deque[T] = deque()
        self._reading: deque[T] = deque()
        self._writing: list[T] = []
        self._rows: dict[T, int] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._rows)

    def all(self) -> list[T]:
        """Every request, in no order."""
        return [*self._waiting, *self._rows]

    def add(self, request: T) -> None:
        """One more; it waits until a row is free."""
        self._waiting.append(request)

    def place(self) -> list[T]:
        """Give free rows to those that wait, the first ones first; returns who got one."""
        placed = []
        while self._waiting and self._free:
            request = self._waiting.popleft()
            # The lowest one: so the rows in use stay few and together.
            self._rows[request] = self._free.pop(0)
            self._reading.append(request)
            placed.append(request)
        return placed

    def row(self, request: T) -> int:
        """Its row."""
        return self._rows[request]

    @property
    def to_read(self) -> T | None:
        """Of whom the next chunk is read: each in turn, so that nobody waits for all of a long
        prompt."""
        return self._reading[0] if self._reading else None

    def had_turn(self, request: T) -> None:
        """A chunk of it has been read; the others are next."""
        self._reading.remove(request)
        self._reading.append(request)

    def read(self, request: T) -> None:
        """All of its prompt has been read: it writes from now on."""
        self._reading.remove(request)
        self._writing.append(request)

    @property
    def writing(self) -> list[T]:
        """Those that get their next token together, the oldest first."""
        return list(self._writing)

    def remove(self, request: T) -> None:
        """It is over; its row is free. More than once is no mistake."""
        for line in (self._waiting, self._reading, self._writing):
            if request in line:
                line.remove(request)
        row = self._rows.pop(request, None)
        if row is not None:
            self._free = sorted([*self._free, row])


def rows_to_compute(highest: int, rows: int) -> int:
    """How many rows a step computes when ``highest`` is the last one in use."""
    return min(rows, -(-(highest + 1) // SAME_ROWS) * SAME_ROWS)


def tokens_to_look_at(longest: int, context_tokens: int) -> int:
    """Of how many tokens a step looks at keys and values when the longest row has so many."""
    return min(context_tokens, -(-longest // SAME_TOKENS) * SAME_TOKENS)
