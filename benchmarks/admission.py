"""How many decisions does the admission queue make in a second?

``python -m benchmarks.admission [--quick] [--runs N]``. Tickets of 8 clients in all four classes
enter and leave 16 slots, with nobody or with 50 waiting; entering is one decision and leaving
another. The floor is what cannot be left out: a deque and a counter, for the same arrivals. It
knows no classes, ages, clients, tokens, deadlines or bounds. Making the tickets is not counted.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from actors.orchestrator.admission import AdmissionQueue
from actors.orchestrator.admission_terms import AdmissionPolicy, Capacity, Ticket
from benchmarks.harness import (
    Figure,
    Options,
    alternate,
    median_ratio,
    parse_arguments,
    show_figures,
    show_table,
)
from protocol.envelope import Priority

SLOTS = 16
CLIENTS = 8
CLASSES = len(Priority)
DEPTHS = {"idle": 0, "queued": 50}
"""How many wait."""
PAIRS = 50_000
STEP_S = 0.01
"""Between two arrivals. As more urgent ones keep coming, LOW ones wait until they rise."""


def arrivals(depth: int) -> list[Ticket[int]]:
    """Those that fill slots and queue, then one for each pair."""
    return [
        Ticket(key, key % CLASSES, key // 4 % CLIENTS, 100, key * STEP_S + 3600)
        for key in range(SLOTS + depth + PAIRS)
    ]


async def noyau(depth: int) -> float:
    """Decisions per second of the admission queue."""
    queue: AdmissionQueue[int] = AdmissionQueue(AdmissionPolicy(), Capacity(SLOTS, 100 * SLOTS))
    tickets, running, now = arrivals(depth), deque[int](), 0.0
    for ticket in tickets[: SLOTS + depth]:
        running += queue.enter(ticket, now).ahead
    enter, leave, began = queue.enter, queue.leave, time.perf_counter()
    # Who enters finds all slots taken where others wait, and else the one that was left.
    for ticket in tickets[SLOTS + depth :]:
        now += STEP_S
        if depth:
            enter(ticket, now)
            running += leave(running.popleft(), now).ahead
        else:
            leave(running.popleft(), now)
            running += enter(ticket, now).ahead
    took = time.perf_counter() - began
    seen = queue.metrics()
    assert seen.finished == PAIRS
    assert seen.running == SLOTS
    return 2 * PAIRS / took


async def floor(depth: int) -> float:
    """The same of a deque and a counter."""
    tickets, running, waiting, used = arrivals(depth), deque[int](), deque[int](), 0
    for ticket in tickets[: SLOTS + depth]:
        if used < SLOTS:
            used += 1
            running.append(ticket.key)
        else:
            waiting.append(ticket.key)

    def enter(ticket: Ticket[int]) -> bool:
        nonlocal used
        if used < SLOTS and not waiting:
            used += 1
            return True
        waiting.append(ticket.key)
        return False

    def leave(key: int) -> int | None:
        nonlocal used
        if waiting:
            return waiting.popleft()
        used -= 1
        return None

    began = time.perf_counter()
    for ticket in tickets[SLOTS + depth :]:
        if depth:
            enter(ticket)
            ahead = leave(running.popleft())
            assert ahead is not None
            running.append(ahead)
        else:
            leave(running.popleft())
            enter(ticket)
            running.append(ticket.key)
    return 2 * PAIRS / (time.perf_counter() - began)


async def measure(options: Options) -> dict[str, Figure]:
    """Both at each depth, taking turns."""
    contestants: dict[str, Callable[[], Awaitable[float]]] = {}
    for name, depth in DEPTHS.items():
        contestants[name] = partial(noyau, depth)
        contestants[f"{name} floor"] = partial(floor, depth)
    # So many tickets at once would have the collector look at all of them again and again.
    gc.disable()
    rates = await alternate(contestants, options)
    gc.enable()
    ratios = {name: median_ratio(rates[name], rates[f"{name} floor"]) for name in DEPTHS}
    show_table(
        ["decisions per s, median", "waiting", "noyau", "floor", "ratio"],
        [
            [
                name,
                str(depth),
                f"{statistics.median(rates[name]):,.0f}",
                f"{statistics.median(rates[f'{name} floor']):,.0f}",
                f"{ratios[name] or 0:.3f}",
            ]
            for name, depth in DEPTHS.items()
        ],
    )
    queued = statistics.median(rates["queued"])
    return {
        "admission_decisions_per_s": Figure(queued, "1/s", ">= 1000000"),
        "admission_vs_floor": Figure(ratios["queued"], "of the floor"),
        "admission_idle_decisions_per_s": Figure(statistics.median(rates["idle"]), "1/s"),
        "admission_idle_vs_floor": Figure(ratios["idle"], "of the floor"),
    }


def main() -> None:
    options = parse_arguments(__doc__, runs=15, quick_runs=5)
    show_figures("admission", asyncio.run(measure(options)))


if __name__ == "__main__":
    main()
