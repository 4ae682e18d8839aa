"""One client of the flood, in a process of its own.

    python -m benchmarks.flooder RUN_FOLDER

It keeps a number of requests open, asks again at once whatever the answer was, and keeps books:
each request ends with its reply, with a typed error, or, when nothing came in its time, as lost.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks.driven import Values, take_orders
from benchmarks.slow import Work
from protocol.client import Client
from protocol.errors import DeadlineExceeded, NoyauError

REPLIED = "replied"
LOST = "lost"


async def outcome(client: Client, timeout_s: float) -> str:
    """How one request ended: `REPLIED`, `LOST` or an error's code."""
    try:
        await client.ask(Work(), timeout_s=timeout_s)
    except NoyauError as error:
        # One that the actor did not send is made here, because nothing came.
        mute = isinstance(error, DeadlineExceeded) and not error.remote
        return LOST if mute else error.code
    return REPLIED


async def flood(client: Client, order: Values) -> Values:
    """Make ``requests`` requests, ``open`` at a time, each with ``timeout_s`` to be answered."""
    outcomes: Counter[str] = Counter()
    left = iter(range(order["requests"]))
    sent = 0

    async def ask_on() -> None:
        nonlocal sent
        for _ in left:
            sent += 1
            outcomes[await outcome(client, order["timeout_s"])] += 1

    began = time.perf_counter()
    await asyncio.gather(*(ask_on() for _ in range(order["open"])))
    return {"seconds": time.perf_counter() - began, "sent": sent, "outcomes": outcomes}


async def main(run_folder: Path) -> None:
    """Take orders until stdin ends."""
    async with Client.connect(run_folder) as client:
        await take_orders(lambda order: flood(client, order))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
