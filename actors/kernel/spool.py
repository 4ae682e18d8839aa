"""What waits to be saved, for callers that must not fail: bounded, the oldest given up first. Pure.

::

    put ──► waiting ──begin──► in hand ──saved──► gone
               ▲                  │
               └──── failed ──────┴── will never do ──► lost (counted)

A spool stands between who has something to save and a storage that may be away. When it is full,
the oldest goes: of what a log tells, the newest says why. Losses are counted, and told at
intervals.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.backoff import Backoff
from protocol.errors import (
    ActorDied,
    InternalError,
    NoyauError,
    ProtocolError,
    QuotaExceeded,
    RequestError,
)

TELL_EVERY_S = 10.0
"""Between two tellings of losses: a log line, and not one for each loss."""
MOST_FATAL = 5
"""Deaths of storage, or defects of it, with the same entry in hand: then the entry is taken for
their cause and given up, as all others wait behind it."""


@dataclass(frozen=True, slots=True)
class SpoolBounds:
    """How much may wait, what is in hand counted in."""

    entries: int = 1000
    """A quarter of an hour of one file a second: storage is back in a moment, or somebody looks."""
    bytes: int = 16 * 1024 * 1024
    """A third of what a small actor uses itself."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to be saved."""

    name: str
    data: bytes = field(repr=False)
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True)
class Losses:
    """What was not saved, and will not be."""

    overflowed: int = 0
    """Entries that had to make room."""
    refused: int = 0
    """Entries that would never do, whoever tried."""
    bytes: int = 0
    """Of both."""
    reason: str = ""
    """The last error."""

    @property
    def entries(self) -> int:
        """Of both kinds."""
        return self.overflowed + self.refused


class Spool:
    """Entries in their order, and when the next is tried. Times are monotonic seconds."""

    def __init__(
        self,
        bounds: SpoolBounds | None = None,
        backoff: Backoff | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """``draw`` gives [0, 1), for the jitter."""
        self._bounds = bounds or SpoolBounds()
        self._backoff = backoff or Backoff(first_s=0.1, factor=2.0, max_s=10.0)
        self._draw = draw
        self._waiting: deque[Entry] = deque()
        self._in_hand: Entry | None = None
        self._bytes = 0
        self._failures = 0
        """In a row."""
        self._fatal = 0
        """Of those, deaths and defects with the same entry."""
        self._not_before = float("-inf")
        self._reason = ""
        self._overflowed = self._refused = self._lost_bytes = 0
        self._told = Losses()
        self._tell_at = float("-inf")

    def __len__(self) -> int:
        return len(self._waiting) + (self._in_hand is not None)

    @property
    def bytes(self) -> int:
        """Of all that waits or is in hand."""
        return self._bytes

    def put(self, entry: Entry) -> None:
        """One more. The oldest that wait make room for it; where there is none even without them,
        it is lost itself."""
        held = 0 if self._in_hand is None else len(self._in_hand.data)
        most_entries = self._bounds.entries - (self._in_hand is not None)
        if most_entries < 1 or held + len(entry.data) > self._bounds.bytes:
            self.lose(entry, "the spool is too small for it")
            return
        while (
            len(self._waiting) >= most_entries or self._bytes + len(entry.data) > self._bounds.bytes
        ):
            oldest = self._waiting.popleft()
            self._bytes -= len(oldest.data)
            # It was the one that had failed, if one had.
            self._fatal = 0
            self.lose(oldest, self._reason)
        self._waiting.append(entry)
        self._bytes += len(entry.data)

    def lose(self, entry: Entry, reason: str) -> None:
        """An entry that does not wait any more, or never did, is not going to be saved."""
        self._overflowed += 1
        self._lost_bytes += len(entry.data)
        self._reason = reason

    def due(self) -> float | None:
        """When the next one is to be tried, which may be over; None: nothing waits."""
        return self._not_before if self._waiting and self._in_hand is None else None

    def begin(self) -> Entry:
        """Take the oldest in hand; `saved` or `failed` says what came of it."""
        self._in_hand = self._waiting.popleft()
        return self._in_hand

    def saved(self) -> None:
        """What is in hand is on the disk."""
        self._let_go()
        self._failures = 0
        self._not_before = float("-inf")

    def failed(self, error: NoyauError, now: float) -> None:
        """What is in hand could not be saved: it is tried again first, after a pause that grows; or
        it is lost, where it is itself to blame."""
        entry = self._in_hand
        assert entry is not None
        self._reason = f"{error.code}: {error.message}"
        if self._is_to_blame(error):
            self._refused += 1
            self._lost_bytes += len(entry.data)
            self._let_go()
            return
        self._in_hand = None
        self._waiting.appendleft(entry)
        pause = self._backoff.delay(self._failures, self._draw)
        wanted = error.details.get("retry_after_s")
        if isinstance(wanted, int | float):
            pause = max(pause, min(wanted, self._backoff.max_s))
        self._not_before = now + pause
        self._failures += 1

    def _is_to_blame(self, error: NoyauError) -> bool:
        if isinstance(error, ActorDied | InternalError):
            self._fatal += isinstance(error, InternalError) or error.process is not None
            return self._fatal >= MOST_FATAL
        # A quota may be raised, and files of before expire.
        return isinstance(error, ProtocolError | RequestError) and not isinstance(
            error, QuotaExceeded
        )

    def _let_go(self) -> None:
        assert self._in_hand is not None
        self._bytes -= len(self._in_hand.data)
        self._in_hand = None
        self._fatal = 0

    # --- losses -----------------------------------------------------------------------------

    @property
    def losses(self) -> Losses:
        """All of them since the beginning."""
        return Losses(self._overflowed, self._refused, self._lost_bytes, self._reason)

    def tell(self, now: float) -> Losses | None:
        """Those that were not told yet, if it is time to tell some."""
        if now < self._tell_at or self.losses.entries == self._told.entries:
            return None
        all_, told = self.losses, self._told
        self._told, self._tell_at = all_, now + TELL_EVERY_S
        return Losses(
            all_.overflowed - told.overflowed, all_.refused - told.refused,
            all_.bytes - told.bytes, all_.reason,
        )  # fmt: skip

    def give_up(self, reason: str) -> None:
        """There is no time left for what waits: it is lost. All losses may be told."""
        while self._waiting:
            entry = self._waiting.popleft()
            self._bytes -= len(entry.data)
            self.lose(entry, reason)
        self._tell_at = float("-inf")
