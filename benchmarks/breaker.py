"""What a decision of the circuit breaker costs.

``python -m benchmarks.breaker``. A decision is what a call costs besides itself: a permit taken and
given back with a success, while the breaker is closed. In turns with the same of two public
breakers, and with a floor: two calls of functions that do nothing. A refusal is what a caller gets
from an open breaker. ``now`` is an argument of ours, so a caller who does not know it yet pays for
reading the clock besides; neither of the others reads it while it is closed.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from circuitbreaker import CircuitBreaker as PublicBreaker
from purgatory import SyncCircuitBreakerFactory

from actors.orchestrator.breaker import CircuitBreaker
from actors.orchestrator.circuit import BreakerPolicy
from actors.orchestrator.verdicts import Verdict
from benchmarks.harness import (
    Figure,
    Options,
    alternate,
    median_ratio,
    parse_arguments,
    show_figures,
    show_table,
)

DECISIONS = 200_000
"""In each round: a tenth of a second for the fast ones, a few tenths for the slowest."""
NOW = 1000.0


def ours() -> None:
    """Permits taken and given back."""
    breaker = CircuitBreaker("engine", BreakerPolicy())
    acquire, release, success = breaker.acquire, breaker.release, Verdict.SUCCESS
    for _ in range(DECISIONS):
        permit = acquire(NOW)
        if permit is not None:
            release(permit, success, NOW)


def refusals() -> None:
    """The same from one that is open."""
    breaker = CircuitBreaker("engine", BreakerPolicy(failures=1))
    breaker.release(breaker.force(NOW), Verdict.FAILURE, NOW)
    acquire = breaker.acquire
    for _ in range(DECISIONS):
        permit = acquire(NOW)
        assert permit is None


def floor() -> None:
    """Two calls that decide nothing."""

    def take(now: float) -> float:
        return now

    def give_back(permit: float, verdict: Verdict, now: float) -> None:
        del permit, verdict, now

    success = Verdict.SUCCESS
    for _ in range(DECISIONS):
        permit = take(NOW)
        if permit is not None:
            give_back(permit, success, NOW)


def circuitbreaker() -> None:
    """Of the package of that name, as its decorator does it."""
    breaker = PublicBreaker(name="engine")
    for _ in range(DECISIONS):
        if not breaker.opened:
            with breaker:
                pass


def purgatory() -> None:
    """Of the package of that name: its breaker for programs without asyncio, the faster one."""
    breaker = SyncCircuitBreakerFactory().get_breaker("engine")
    for _ in range(DECISIONS):
        with breaker:
            pass


def per_second(decide: Callable[[], None]) -> Callable[[], Awaitable[float]]:
    """One round of a contestant: how many in a second."""

    async def turn() -> float:
        began = time.perf_counter()
        decide()
        return DECISIONS / (time.perf_counter() - began)

    return turn


CONTESTANTS = {
    "noyau": ours,
    "noyau, refusals": refusals,
    "floor: empty calls": floor,
    "circuitbreaker": circuitbreaker,
    "purgatory": purgatory,
}


async def measure(options: Options) -> dict[str, list[float]]:
    """The rounds of all."""
    return await alternate({name: per_second(do) for name, do in CONTESTANTS.items()}, options)


def report(rates: dict[str, list[float]]) -> None:
    """Print what was measured."""
    mine = rates["noyau"]
    show_table(
        ["decisions of a breaker", "per s", "ns each", "noyau is", "rounds"],
        [
            [
                name,
                f"{statistics.median(of):,.0f}",
                f"{1e9 / statistics.median(of):.0f}",
                f"{median_ratio(mine, of) or 0:.2f} times as fast",
                str(len(of)),
            ]
            for name, of in rates.items()
        ],
    )
    show_figures(
        "breaker",
        {
            "breaker_decisions_per_s": Figure(statistics.median(mine), "1/s", ">= 1000000"),
            "breaker_refusals_per_s": Figure(
                statistics.median(rates["noyau, refusals"]), "1/s", ">= 1000000"
            ),
            "breaker_to_floor": Figure(median_ratio(mine, rates["floor: empty calls"]), "ratio"),
            "breaker_to_circuitbreaker": Figure(
                median_ratio(mine, rates["circuitbreaker"]), "ratio"
            ),
            "breaker_to_purgatory": Figure(median_ratio(mine, rates["purgatory"]), "ratio"),
        },
    )


if __name__ == "__main__":
    chosen = parse_arguments(__doc__, runs=15, quick_runs=7)
    report(asyncio.run(measure(chosen)))
