"""Exponential backoff with full jitter: how long to wait before the next try.

Full jitter (a delay drawn evenly from zero to the ceiling) spreads retries of many callers best;
see Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that grow by ``factor`` from ``first_s`` up to ``max_s``; all in seconds."""

    first_s: float = 0.1
    factor: float = 2.0
    max_s: float = 10.0

    def __post_init__(self) -> None:
        if not (self.first_s >= 0 and self.factor >= 1 and self.max_s >= self.first_s):
            raise ValueError(f"not a growing, bounded backoff: {self}")

    def ceiling(self, attempt: int) -> float:
        """The longest delay before try number ``attempt`` (0 is the first retry), in seconds."""
        if attempt < 0:
            raise ValueError(f"attempts are counted from 0, not {attempt}")
        # 2.0 ** 1100 overflows; past 64 doublings every sensible ceiling is reached anyway.
        return min(self.max_s, self.first_s * self.factor ** min(attempt, 64))

    def delay(self, attempt: int, draw: Callable[[], float] = random.random) -> float:
        """A delay in seconds, drawn evenly from zero to `ceiling`; ``draw`` gives [0, 1)."""
        return self.ceiling(attempt) * draw()
