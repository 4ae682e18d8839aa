"""The requests of one round, made alike by all contestants whose requests can be awaited.

It imports nothing but the standard library, so that a peer's script in another environment can
use it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def ask_many(
    ask: Callable[[], Awaitable[object]], calls: int, in_flight: int
) -> tuple[float, list[float]]:
    """Have ``in_flight`` askers make ``calls`` requests together.

    Returns the seconds that it took and, where one was in flight at a time, the microseconds of
    each request.
    """
    latencies_us: list[float] = []
    left = iter(range(calls))

    async def ask_on() -> None:
        for _ in left:
            await ask()

    async def ask_and_time() -> None:
        for _ in left:
            sent_at = time.perf_counter()
            await ask()
            latencies_us.append((time.perf_counter() - sent_at) * 1e6)

    asker = ask_and_time if in_flight == 1 else ask_on
    began = time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(in_flight)))
    return time.perf_counter() - began, latencies_us
