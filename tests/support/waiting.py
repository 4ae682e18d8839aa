"""Waiting for what other processes do: until a condition holds, and never without a bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PAUSE_S = 0.01
PATIENCE_S = 30.0
"""For what takes milliseconds: only a machine that is swamped, or a defect, takes so long."""


def until(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Return as soon as ``condition()`` is true. Raises AssertionError after ``seconds``."""
    bound = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < bound, f"still not so after {seconds:g} s"
        time.sleep(PAUSE_S)


async def eventually(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """As `until`, while the event loop goes on."""
    bound = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < bound, f"still not so after {seconds:g} s"
        await asyncio.sleep(PAUSE_S)
