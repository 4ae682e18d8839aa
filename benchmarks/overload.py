"""Ten times as many questions as the engine can answer: who is served, and what does it cost?

``python -m benchmarks.overload [--seconds N]``. The engine is a simulated one with 16 slots and
answers of about a second. First and last, it is asked exactly what it can take: 16 questions at a
time, the next one when one is answered. In between, ten times that rate comes by the clock over
several connections, in all four classes and with deadlines. Whoever is refused does not try again:
what the queue says of when to come back is not followed. All settings but the engine's are the
defaults.

Each question is accounted for, at the clients and in the queue's own books.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import time
from collections.abc import AsyncGenerator

import psutil

from benchmarks.harness import Figure, System, end_in_order, p99, progress, show_figures, show_table
from benchmarks.overload_load import (
    ANSWERED,
    LOST,
    Load,
    at_capacity,
    by_the_clock,
)
from protocol.client import Client
from protocol.envelope import Priority
from protocol.messages.orchestrator import GetRuntime, QueueStatus

SECONDS, QUICK_SECONDS = 300.0, 30.0
CAPACITY_S, QUICK_CAPACITY_S = 20.0, 8.0
"""Before, and again behind it."""
TIMES = 10
SLOTS = 16
CONNECTIONS = 4
SETTINGS = (
    "actors.gpu_engine.enabled=false", "device.profile=lite",
    *(f"actors.cpu_engine.settings.{one}" for one in (
        "backend=simulated", "simulated_token_s=0.02", f"slots={SLOTS}", "context_tokens=32768",
    )),
)  # fmt: skip
WATCHED = ("orchestrator", "cpu_engine", "storage")
GROWTH_REACH_MIB = 8.0
LOOK_S = 1.0


@contextlib.asynccontextmanager
async def memory(system: System) -> AsyncGenerator[dict[str, list[float]], None]:
    """MiB (PSS) of the processes as they go on, once a second."""
    processes = {name: psutil.Process(await system.pid(name) or os.getpid()) for name in WATCHED}
    seen: dict[str, list[float]] = {name: [] for name in WATCHED}

    async def look() -> None:
        while True:
            for name, process in processes.items():
                full = await asyncio.to_thread(process.memory_full_info)
                seen[name].append(full.pss / (1 << 20))
            await asyncio.sleep(LOOK_S)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        await asyncio.wait([looking])


def quarters(values: list[float]) -> tuple[float, float]:
    """The medians of the first and the last quarter."""
    count = max(1, len(values) // 4)
    return statistics.median(values[:count]), statistics.median(values[-count:])


def off(queue: QueueStatus) -> int:
    """By how many the queue's books do not add up."""
    inside = queue.running + sum(queue.waiting.values())
    return queue.entered - (
        queue.finished + queue.dropped + queue.abandoned + queue.expired + inside
    )


async def measure(seconds: float, capacity_s: float) -> int:
    """Run the loads and print what happened; returns the exit code."""
    async with contextlib.AsyncExitStack() as stack:
        system = await stack.enter_async_context(System(*SETTINGS))
        clients = [
            await stack.enter_async_context(Client.connect(system.run_folder))
            for _ in range(CONNECTIONS)
        ]
        capacities = [await at_capacity(clients, SLOTS, capacity_s)]
        per_s = TIMES * capacities[0].answers_per_s()
        progress(f"{per_s / TIMES:.1f} answers/s at capacity; {per_s:.0f} a second are coming")
        async with memory(system) as seen, _beating(seconds):
            load = await by_the_clock(clients, per_s, seconds)
        at_end = (await system.client.ask(GetRuntime())).queue
        # So that the queue is as it was before.
        await asyncio.sleep(at_end.overloaded_for_s or 0)
        capacities.append(await at_capacity(clients, SLOTS, capacity_s))
        queue = (await system.client.ask(GetRuntime())).queue
    _show_classes(load, per_s)
    _show_books(load, capacities, at_end)
    made = figures(load, capacities, seen, [at_end, queue])
    show_figures("overload", made)
    return 1 if made["unaccounted_requests"].value or made["books_off"].value else 0


@contextlib.asynccontextmanager
async def _beating(seconds: float) -> AsyncGenerator[None, None]:
    """A line now and then."""

    async def beat() -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(max(10.0, seconds / 10))
            progress(f"{time.monotonic() - began:.0f} of {seconds:.0f} s")

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.wait([beating])


def _show_classes(load: Load, per_s: float) -> None:
    kinds = sorted(load.counts())
    show_table(
        [f"{per_s:.0f} questions a second", "sent", *kinds, "queued ms p50", "p99"],
        [
            [
                priority.name,
                str(sum(load.counts(priority).values())),
                *(str(load.counts(priority)[kind]) for kind in kinds),
                f"{statistics.median(_queued_ms(load, priority) or [0]):.0f}",
                f"{p99(_queued_ms(load, priority) or [0]):.0f}",
            ]
            for priority in Priority
        ],
    )


def _show_books(load: Load, capacities: list[Load], queue: QueueStatus) -> None:
    sent = load.sent + capacities[0].sent
    show_table(
        ["the queue's books, after the load", "value"],
        [
            ["sent by the clients", str(sent)],
            *([name, str(getattr(queue, name))] for name in (
                "entered", "finished", "dropped", "abandoned", "expired")),
            *([f"refused, {reason}", str(count)] for reason, count in queue.refused.items()),
            ["never came to it", str(sent - queue.entered - sum(queue.refused.values()))],
            ["a question was sent late by, at most ms", f"{load.latest_s * 1000:.0f}"],
            ["answers/s at capacity, before and behind",
             ", ".join(f"{one.answers_per_s():.1f}" for one in capacities)],
            ["answers/s in time in the overload", f"{load.answers_per_s():.1f}"],
            ["tokens/s at capacity, before and behind",
             ", ".join(f"{one.tokens_per_s():.0f}" for one in capacities)],
            ["tokens/s in time in the overload", f"{load.tokens_per_s():.0f}"],
        ],
    )  # fmt: skip


def _queued_ms(load: Load, priority: Priority) -> list[float]:
    return [o.queued_ms for o in load.outcomes if o.priority is priority and o.how == ANSWERED]


def figures(
    load: Load, capacities: list[Load], seen: dict[str, list[float]], queues: list[QueueStatus]
) -> dict[str, Figure]:
    """Goodput, the urgent ones' wait, the books and the memory."""
    counts, critical = load.counts(), load.counts(Priority.CRITICAL)
    queued = _queued_ms(load, Priority.CRITICAL)
    late = sum(one.how == ANSWERED and not one.in_time for one in load.outcomes)
    made = {
        "goodput": Figure(
            load.tokens_per_s() / statistics.mean(one.tokens_per_s() for one in capacities),
            "of capacity",
            ">= 0.9",
        ),
        "critical_queued_p99_ms": Figure(p99(queued) if queued else None, "ms", "<= 200"),
        "critical_answered_percent": Figure(
            100 * critical[ANSWERED] / max(1, sum(critical.values())), "%"
        ),
        "unaccounted_requests": Figure(
            load.sent - sum(counts.values()) + counts[LOST], "requests", "<= 0"
        ),
        "books_off": Figure(max(abs(off(queue)) for queue in queues), "requests", "<= 0"),
        "sent": Figure(load.sent, "requests"),
        "answered": Figure(counts[ANSWERED], "requests"),
        "answered_late": Figure(late, "requests"),
    }
    for name, values in seen.items():
        first, last = quarters(values)
        reach = f"<= {GROWTH_REACH_MIB:g}" if name != "storage" else None
        made[f"{name}_growth_mib"] = Figure(last - first, "MiB", reach)
        made[f"{name}_mib"] = Figure(last, "MiB")
    return made


if __name__ == "__main__":
    end_in_order()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:g} s instead")
    parser.add_argument(
        "--seconds", type=float, help=f"of overload (default: {SECONDS:g})"
    )  # fmt: skip
    given = parser.parse_args()
    usual = QUICK_SECONDS if given.quick else SECONDS
    sys.exit(
        asyncio.run(
            measure(given.seconds or usual, QUICK_CAPACITY_S if given.quick else CAPACITY_S)
        )
    )
