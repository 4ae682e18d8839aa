"""One timer for all deadlines of a process, instead of one for each request.

A deadline is filed in a bucket of `RESOLUTION_S`; the event loop is woken once for the earliest
bucket. Filing and removing are dict operations. With nothing filed, nothing wakes.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Hashable

from protocol.clock import Clock

RESOLUTION_S = 0.01


class TimerWheel:
    """Deadlines in buckets. Pure: `due` is asked with ``now`` and returns what has come."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[Hashable, Callable[[], None]]] = {}
        self._order: list[int] = []

    def file(self, at: float, key: Hashable, action: Callable[[], None]) -> int:
        """Have ``action`` come due at ``at`` (seconds, monotonic). Returns the bucket."""
        # Rounded up: a deadline may be late by the resolution, never early.
        bucket = int(at / RESOLUTION_S) + 1
        entries = self._buckets.get(bucket)
        if entries is None:
            entries = self._buckets[bucket] = {}
            heapq.heappush(self._order, bucket)
        entries[key] = action
        return bucket

    def remove(self, bucket: int, key: Hashable) -> None:
        """Forget a deadline. One that came due already is no error."""
        entries = self._buckets.get(bucket)
        if entries is not None:
            entries.pop(key, None)

    def due(self, now: float) -> list[Callable[[], None]]:
        """Take out and return every action whose time has come, earliest first."""
        actions: list[Callable[[], None]] = []
        while self._order and self._order[0] * RESOLUTION_S <= now:
            actions.extend(self._buckets.pop(heapq.heappop(self._order)).values())
        return actions

    def next_at(self) -> float | None:
        """When to look again, seconds, or None when nothing is filed."""
        while self._order and not self._buckets[self._order[0]]:
            # Everything in it was removed: no reason to wake for it.
            del self._buckets[heapq.heappop(self._order)]
        return self._order[0] * RESOLUTION_S if self._order else None


class Timers:
    """A `TimerWheel` driven by the running event loop."""

    def __init__(self, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._wheel = TimerWheel()
        self._clock = clock
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self._wakes_at = float("inf")
        # See `TimerWheel.remove`. The loop may still wake once for the empty bucket.
        self.remove = self._wheel.remove

    def file(self, at: float, key: Hashable, action: Callable[[], None]) -> int:
        """See `TimerWheel.file`."""
        bucket = self._wheel.file(at, key, action)
        if bucket * RESOLUTION_S < self._wakes_at:
            self._arm(bucket * RESOLUTION_S)
        return bucket

    def close(self) -> None:
        """Never wake again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._wakes_at = at
        self._handle = self._loop.call_later(max(0.0, at - self._clock.now()), self._wake)

    def _wake(self) -> None:
        self._handle = None
        self._wakes_at = float("inf")
        for action in self._wheel.due(self._clock.now()):
            try:
                action()
            except Exception as error:  # noqa: BLE001 - the others that are due must come too
                self._loop.call_exception_handler(
                    {"message": f"a deadline's action raised: {action!r}", "exception": error}
                )
        upcoming = self._wheel.next_at()
        if upcoming is not None and upcoming < self._wakes_at:
            self._arm(upcoming)
