"""Deadlines: never early, late by the resolution at most, and gone when removed."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.clock import ManualClock
from protocol.timers import RESOLUTION_S, Timers, TimerWheel

# Sums of seconds are not exact; a deadline is no promise below a nanosecond.
GRAIN = 1e-9


def run(wheel: TimerWheel, now: float) -> None:
    for action in wheel.due(now):
        action()


@given(st.floats(0, 1e6), st.lists(st.floats(0, 5), min_size=1, max_size=20))
def test_a_deadline_is_never_early_and_late_by_the_resolution_at_most(
    start: float, delays: list[float]
) -> None:
    clock, wheel = ManualClock(start), TimerWheel()
    came: dict[int, float] = {}

    def note(key: int) -> None:
        came[key] = clock.now()

    for key, delay in enumerate(delays):
        wheel.file(start + delay, key, partial(note, key))
    # The loop wakes exactly when it was told to, and looks at nothing else.
    while (upcoming := wheel.next_at()) is not None:
        clock.advance(max(0.0, upcoming - clock.now()))
        before = len(came)
        run(wheel, clock.now())
        if len(came) == before:
            # Moving the clock by a difference may leave it a rounding short.
            clock.advance(GRAIN)
    for key, delay in enumerate(delays):
        late = came[key] - (start + delay)
        assert -GRAIN <= late <= RESOLUTION_S + 2 * GRAIN


def test_nothing_comes_before_its_time() -> None:
    wheel = TimerWheel()
    wheel.file(1.0, "one", lambda: None)
    assert wheel.due(0.999) == []
    assert len(wheel.due(1.0 + RESOLUTION_S)) == 1
    assert wheel.due(100.0) == []


def test_deadlines_come_earliest_first() -> None:
    wheel = TimerWheel()
    came: list[float] = []
    for at in (3.0, 1.0, 2.0, 1.5):
        wheel.file(at, at, partial(came.append, at))
    run(wheel, 10.0)
    assert came == [1.0, 1.5, 2.0, 3.0]


def test_a_removed_deadline_never_comes_and_others_of_its_bucket_do() -> None:
    wheel = TimerWheel()
    came: list[str] = []
    bucket = wheel.file(1.0, "gone", lambda: came.append("gone"))
    assert wheel.file(1.0, "stays", lambda: came.append("stays")) == bucket
    wheel.remove(bucket, "gone")
    run(wheel, 2.0)
    assert came == ["stays"]


def test_removing_what_has_come_or_never_was_is_no_error() -> None:
    wheel = TimerWheel()
    bucket = wheel.file(1.0, "one", lambda: None)
    run(wheel, 2.0)
    wheel.remove(bucket, "one")
    wheel.remove(12345, "never")


def test_with_nothing_filed_nothing_wakes() -> None:
    wheel = TimerWheel()
    assert wheel.next_at() is None
    buckets = [wheel.file(at / 10, at, lambda: None) for at in range(10)]
    assert wheel.next_at() is not None
    for at, bucket in enumerate(buckets):
        wheel.remove(bucket, at)
    assert wheel.next_at() is None


def test_a_removed_action_is_let_go() -> None:
    class Action:
        def __call__(self) -> None:
            pass

    wheel, action = TimerWheel(), Action()
    alive = weakref.ref(action)
    bucket = wheel.file(1.0, "one", action)
    wheel.remove(bucket, "one")
    del action
    gc.collect()
    assert alive() is None


def held(wheel: TimerWheel) -> int:
    return sys.getsizeof(wheel._order) + sys.getsizeof(wheel._buckets) + len(wheel._buckets)


def test_memory_does_not_grow_with_the_number_of_deadlines_kept_and_removed() -> None:
    clock, wheel = ManualClock(), TimerWheel()

    def an_hour_of_asks() -> int:
        most = 0
        for number in range(36_000):
            bucket = wheel.file(clock.advance(0.1) + 30.0, number, lambda: None)
            if number % 10:
                wheel.remove(bucket, number)
            run(wheel, clock.now())
            most = max(most, held(wheel))
        return most

    first = an_hour_of_asks()
    assert an_hour_of_asks() <= first
    assert len(wheel._buckets) <= 30.0 / 0.1 + 1


async def test_the_loop_is_woken_for_what_is_due() -> None:
    clock = ManualClock(10.0)
    timers = Timers(clock, asyncio.get_running_loop())
    came = asyncio.Event()
    timers.file(9.0, "one", came.set)
    await asyncio.wait_for(came.wait(), 5)


async def test_an_earlier_deadline_filed_later_is_not_kept_waiting() -> None:
    clock = ManualClock(10.0)
    timers = Timers(clock, asyncio.get_running_loop())
    came = asyncio.Event()
    timers.file(1000.0, "far", lambda: None)
    timers.file(9.0, "near", came.set)
    await asyncio.wait_for(came.wait(), 5)


async def test_an_action_may_file_the_next_deadline() -> None:
    clock = ManualClock(10.0)
    timers = Timers(clock, asyncio.get_running_loop())
    came = asyncio.Event()

    def again() -> None:
        timers.file(9.5, "two", came.set)

    timers.file(9.0, "one", again)
    await asyncio.wait_for(came.wait(), 5)


async def test_closed_timers_never_wake() -> None:
    clock = ManualClock(10.0)
    loop = asyncio.get_running_loop()
    timers, others = Timers(clock, loop), Timers(clock, loop)
    came: list[str] = []
    timers.file(9.0, "closed", lambda: came.append("closed"))
    timers.close()
    done = asyncio.Event()
    others.file(9.0, "open", done.set)
    await asyncio.wait_for(done.wait(), 5)
    assert came == []


async def test_an_action_that_raises_keeps_no_other_from_coming() -> None:
    clock, loop = ManualClock(10.0), asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    timers = Timers(clock, loop)
    came = asyncio.Event()

    def broken() -> None:
        raise ValueError("a defect")

    timers.file(8.0, "broken", broken)
    timers.file(9.0, "good", lambda: None)
    timers.file(9.5, "last", came.set)
    await asyncio.wait_for(came.wait(), 5)
    assert [str(context["exception"]) for context in told] == ["a defect"]


@pytest.mark.parametrize("at", [-1.0, 0.0, 0.005])
def test_a_deadline_in_the_past_is_due_at_once(at: float) -> None:
    wheel = TimerWheel()
    wheel.file(at, "one", lambda: None)
    assert len(wheel.due(at + RESOLUTION_S)) == 1
