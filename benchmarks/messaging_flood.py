"""A million requests at an actor that takes its time: is any lost, and does the actor grow?

Eight clients in eight processes (`benchmarks.flooder`) keep 2,000 requests open each at an actor
that works on a few at a time (`benchmarks.slow`) and takes 1,024 of each connection; it refuses
the others (`Overloaded`), and they ask again at once. Nothing waits on its own accord, so that all
queues are as full as they get. A request that ends without a reply or a typed error is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from benchmarks.driven import Driven, Values
from benchmarks.flooder import LOST, REPLIED
from benchmarks.harness import Figure, Options, System, show_table
from benchmarks.system import ROOT

REQUESTS, QUICK_REQUESTS = 1_000_000, 100_000
CLIENTS = 8
OPEN = 2000
"""Requests that each client keeps open."""
TIMEOUT_S = 120.0
"""The deadline of each: long after all that were taken before it have had their turn."""
ACTOR = "slow"
MIB = 1 << 20
_SAMPLE_S = 0.02


@dataclass(frozen=True, slots=True)
class Flood:
    """What came of it."""

    seconds: float
    sent: int
    outcomes: Counter[str]
    """How many requests ended with a reply, with each code of an error, or not at all."""
    grown_mib: float
    """By how much the actor's resident memory was above what it was before, at most."""

    @property
    def lost(self) -> int:
        """Requests that ended without an answer."""
        typed = sum(self.outcomes.values()) - self.outcomes[REPLIED] - self.outcomes[LOST]
        return self.sent - self.outcomes[REPLIED] - typed


async def measure(system: System, options: Options) -> Flood:
    """Flood once."""
    requests = QUICK_REQUESTS if options.quick else REQUESTS
    order = {"requests": requests // CLIENTS, "open": OPEN, "timeout_s": TIMEOUT_S}
    command = [sys.executable, "-m", "benchmarks.flooder", str(system.run_folder)]
    actor = psutil.Process(await system.pid(ACTOR))
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Driven(command, folder=ROOT)) for _ in range(CLIENTS)
        ]
        before = actor.memory_info().rss
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            floods = [group.create_task(client.order(order)) for client in clients]
            peak = await _peak_rss(actor, floods)
        seconds = time.monotonic() - began
    answers = [flood.result() for flood in floods]
    return Flood(
        seconds,
        sum(answer["sent"] for answer in answers),
        sum((Counter(answer["outcomes"]) for answer in answers), Counter()),
        (peak - before) / MIB,
    )


async def _peak_rss(process: psutil.Process, floods: Iterable[asyncio.Task[Values]]) -> int:
    """The most bytes that the process had resident until all was done."""
    peak = 0
    going_on = set(floods)
    while going_on:
        _, going_on = await asyncio.wait(going_on, timeout=_SAMPLE_S)
        peak = max(peak, process.memory_info().rss)
    return peak


def report(flood: Flood) -> dict[str, Figure]:
    """Print what was measured, and return its figures."""
    show_table(
        [f"{flood.sent:,} requests of {CLIENTS} clients, {OPEN:,} open each", "requests", "share"],
        [
            [how, f"{count:,}", f"{count / flood.sent:.1%}"]
            for how, count in flood.outcomes.most_common()
        ],
    )
    return {
        "flood_lost": Figure(flood.lost, "requests", "== 0"),
        "flood_rss_mb": Figure(flood.grown_mib, "MiB", "< 50"),
        "flood_replied": Figure(flood.outcomes[REPLIED], "requests"),
        "flood_refused": Figure(flood.outcomes["overloaded"], "requests"),
        "flood_rate": Figure(flood.sent / flood.seconds, "requests/s"),
    }
