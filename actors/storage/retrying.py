"""Whether and when to try a source again. Pure.

    a failure ──► can trying again help? ──no──► give up
                       yes ──► the retries are used up? ──yes──► give up
                                    no ──► does the place ask for more patience than we have?
                                                no ──► wait 2, 4, 8 s, or as long as it asks
    progress  ──► all retries are there again

Giving up means this source, not the file: the next source is asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from actors.storage.sources.interface import NoRanges, NotThere
from protocol.backoff import Backoff
from protocol.errors import AssetUnavailable, NoyauError, Untrusted

_DELAYS: Final = Backoff(first_s=2.0, factor=2.0, max_s=8.0)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and how long to wait.

    Three retries after 2, 4 and 8 s outlast what ends by itself: a router that reconnects, a
    server that restarts. What lasts longer is for the next source.
    """

    delays: Backoff = _DELAYS
    retries: int = 3
    """Without progress in between."""
    jitter: float = 0.25
    """Up to this share is added to each delay, so that many who failed at one moment do not come
    back at one moment. Added, because nobody should come sooner than a place asked for."""
    longest_wait_s: float = 120.0
    """Of what a place may ask for by Retry-After; who asks for more is given up. Coming back
    earlier than asked would earn the same answer."""


class Retries:
    """Of one thing that is fetched from one source. Not thread-safe: each thread has its own."""

    def __init__(
        self, policy: RetryPolicy | None = None, draw: Callable[[], float] = random.random
    ) -> None:
        """``draw`` gives numbers of [0, 1)."""
        self._policy = policy or RetryPolicy()
        self._draw = draw
        self._used = 0

    def progressed(self) -> None:
        """Something came that need not be fetched again: the next failure is the first."""
        self._used = 0

    def again_at(self, error: NoyauError, now: float) -> float | None:
        """After ``error``: the moment of the next try, in seconds of ``now``; None: give up."""
        policy = self._policy
        asked_s = asked_wait_s(error)
        if not may_help(error) or self._used >= policy.retries or asked_s > policy.longest_wait_s:
            return None
        wait_s = max(policy.delays.ceiling(self._used), asked_s)
        self._used += 1
        return now + wait_s * (1 + policy.jitter * self._draw())


def may_help(error: NoyauError) -> bool:
    """Whether the same place, asked again, may deliver. Not where it has no such thing, sent what
    cannot be right, or needs what is not installed; signatures that do not hold may be a line that
    spoils bytes, which is more common than an attack."""
    if isinstance(error, Untrusted):
        return True
    return isinstance(error, AssetUnavailable) and not isinstance(error, (NotThere, NoRanges))


def asked_wait_s(error: NoyauError) -> float:
    """Seconds that the place asked to be left alone; 0 where it did not."""
    asked = error.details.get("retry_after_s", 0.0)
    return float(asked) if isinstance(asked, (int, float)) and asked > 0 else 0.0
