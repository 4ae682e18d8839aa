"""How fast assets may be fetched: one token bucket that all fetching threads draw from.

    take(bytes) ──► ticket ──► wait until the bucket has filled up to it ──► go on

A ticket is a place in one line of bytes, not a number of seconds: so a limit that changes while
threads wait counts for them at once, and nobody is overtaken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from actors.storage.sources.interface import Cancelled as IsCancelled
from protocol.clock import Clock, MonotonicClock
from protocol.errors import Cancelled

SLICE_S: Final = 0.2
"""A waiting thread looks this often whether it is cancelled or the limit has changed."""
BURST_S: Final = 0.5
"""Seconds of the limit that may pass at once after a pause: even enough for a call on the same
line, and more than what a disk's hiccup holds back."""


class TokenBucket:
    """Pure: what may pass in any stretch of time is ``burst`` and ``bytes_per_s`` times its length.

    A ticket larger than ``burst`` is paid for before it passes, so that holds for any sizes.
    Times are monotonic seconds.
    """

    def __init__(self, bytes_per_s: float, burst: float, now: float) -> None:
        self._check(bytes_per_s, burst)
        self._rate, self._burst = bytes_per_s, burst
        self._taken = 0.0
        self._allowed = burst
        """Up to which place in the line bytes may pass; at most ``burst`` beyond the last."""
        self._at = now

    def change(self, bytes_per_s: float, burst: float, now: float) -> None:
        """Another limit from now on, also for those who wait."""
        self._check(bytes_per_s, burst)
        self._fill(now)
        self._rate, self._burst = bytes_per_s, burst
        self._fill(now)

    def take(self, count: int, now: float) -> float:
        """A ticket for ``count`` bytes, behind all others."""
        self._fill(now)
        self._taken += count
        return self._taken

    def wait_s(self, ticket: float, now: float) -> float:
        """Seconds until the ticket's bytes may pass; 0 when they may."""
        self._fill(now)
        missing = ticket - self._allowed
        # Less than a byte is rounding: waiting for it would not move a clock of doubles.
        return missing / self._rate if missing >= 1 else 0.0

    def give_back(self, count: int, now: float) -> None:
        """The ``count`` bytes of a ticket that will not pass; whoever waits comes earlier."""
        self._fill(now)
        self._allowed = min(self._taken + self._burst, self._allowed + count)

    def _fill(self, now: float) -> None:
        filled = self._allowed + self._rate * max(0.0, now - self._at)
        self._allowed = min(self._taken + self._burst, filled)
        self._at = max(self._at, now)

    @staticmethod
    def _check(bytes_per_s: float, burst: float) -> None:
        if not (bytes_per_s > 0 and burst >= 0):
            raise ValueError(f"no limit: {bytes_per_s} bytes per second, {burst} at once")


class Bandwidth:
    """The one limit of all threads. ``bytes_per_s`` None: none.

    Args:
        clock: what the limit is measured with.
        pause: how a thread waits for some seconds.
    """

    def __init__(
        self,
        bytes_per_s: float | None = None,
        clock: Clock | None = None,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._clock = clock or MonotonicClock()
        self._pause = pause
        self._lock = threading.Lock()
        self._bucket: TokenBucket | None = None
        self.limit(bytes_per_s)

    def limit(self, bytes_per_s: float | None) -> None:
        """Another limit, from now on and also for those who wait; None: none."""
        now = self._clock.now()
        with self._lock:
            if bytes_per_s is None:
                self._bucket = None
            elif self._bucket is None:
                self._bucket = TokenBucket(bytes_per_s, bytes_per_s * BURST_S, now)
            else:
                self._bucket.change(bytes_per_s, bytes_per_s * BURST_S, now)

    def take(self, count: int, cancelled: IsCancelled) -> None:
        """Wait until ``count`` more bytes may pass. Raises ``Cancelled``, and then they have not.

        Called after a piece has come: what is not read yet waits in the sender, as TCP has it.
        """
        with self._lock:
            bucket = self._bucket
            if bucket is None:
                return
            ticket = bucket.take(count, self._clock.now())
        while wait_s := self._left_s(bucket, ticket):
            if cancelled():
                with self._lock:
                    bucket.give_back(count, self._clock.now())
                raise Cancelled("waiting for its share of the bandwidth was cancelled")
            self._pause(min(wait_s, SLICE_S))

    def _left_s(self, bucket: TokenBucket, ticket: float) -> float:
        with self._lock:
            if bucket is not self._bucket:
                return 0.0  # the limit was lifted
            return bucket.wait_s(ticket, self._clock.now())
