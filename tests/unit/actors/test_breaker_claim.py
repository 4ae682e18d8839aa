"""Exactly as many calls as there are permits probe an engine that may be well again, where the
public breakers let a whole crowd at it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
from circuitbreaker import CircuitBreaker as PublicBreaker
from circuitbreaker import CircuitBreakerError
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState

from actors.orchestrator.breaker import CircuitBreaker
from actors.orchestrator.circuit import BreakerPolicy
from actors.orchestrator.verdicts import Verdict

CALLS = 50
PERMITS = 2
OPEN_S = 60.0

Engine = Callable[[], Awaitable[None]]
Guarded = Callable[[Engine], Awaitable[bool]]
"""Calls the engine through a breaker; False when that refuses."""


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def noyaus(clock: Clock) -> Guarded:
    policy = BreakerPolicy(failures=1, open_s=OPEN_S, permits=PERMITS)
    breaker = CircuitBreaker("engine", policy)

    async def guarded(engine: Engine) -> bool:
        permit = breaker.acquire(clock())
        if permit is None:
            return False
        verdict = Verdict.FAILURE
        try:
            await engine()
            verdict = Verdict.SUCCESS
        finally:
            breaker.release(permit, verdict, clock())
        return True

    return guarded


def circuitbreakers() -> Guarded:
    breaker = PublicBreaker(
        failure_threshold=1, recovery_timeout=OPEN_S, expected_exception=ConnectionError
    )

    async def guarded(engine: Engine) -> bool:
        try:
            await breaker.decorate(engine)()
        except CircuitBreakerError:
            return False
        return True

    return guarded


async def purgatorys() -> Guarded:
    breaker = await AsyncCircuitBreakerFactory().get_breaker("engine", threshold=1, ttl=OPEN_S)

    async def guarded(engine: Engine) -> bool:
        try:
            async with breaker:
                await engine()
        except OpenedState:
            return False
        return True

    return guarded


async def open_it(guarded: Guarded) -> None:
    """One failure is enough; from then on nobody gets through."""

    async def refused() -> None:
        raise ConnectionError

    async def well() -> None:
        return None

    with pytest.raises(ConnectionError):
        await guarded(refused)
    assert not await guarded(well)


async def let_through(guarded: Guarded) -> int:
    """How many of so many calls at once reach the engine. It answers none of them before each of
    them has reached it or was refused."""
    reached = refused = 0
    all_tried = asyncio.Event()

    def tried() -> None:
        if reached + refused == CALLS:
            all_tried.set()

    async def engine() -> None:
        nonlocal reached
        reached += 1
        tried()
        await all_tried.wait()

    async def call() -> None:
        nonlocal refused
        if not await guarded(engine):
            refused += 1
            tried()

    await asyncio.gather(*(call() for _ in range(CALLS)))
    assert reached + refused == CALLS
    return reached


async def test_of_50_calls_at_once_exactly_the_permitted_probes_reach_an_engine(
    monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    clock = Clock()
    monkeypatch.setattr("circuitbreaker.monotonic", clock)
    monkeypatch.setattr("purgatory.domain.model.time", SimpleNamespace(time=clock))
    breakers = {
        "noyau": noyaus(clock),
        "circuitbreaker": circuitbreakers(),
        "purgatory": await purgatorys(),
    }
    reached = {}
    for name, guarded in breakers.items():
        await open_it(guarded)
        clock.now += OPEN_S + 1
        reached[name] = await let_through(guarded)
        record_property(name, reached[name])

    assert reached["noyau"] == PERMITS
    # When one of these is no more, that library has learnt it too, and our docs have to say so.
    assert reached["circuitbreaker"] > PERMITS
    assert reached["purgatory"] > PERMITS
