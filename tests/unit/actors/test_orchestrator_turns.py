"""Turns with the engines: what the queue decides is done, whoever leaves at whatever moment."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from actors.orchestrator.admission_terms import AdmissionPolicy, Capacity
from actors.orchestrator.turns import Turns
from protocol.clock import ManualClock
from protocol.envelope import Priority
from protocol.errors import DeadlineExceeded, Overloaded


async def settle() -> None:
    """Let everybody go on as far as they can."""
    for _ in range(5):
        await asyncio.sleep(0)


class Room:
    """Turns, and those who want one."""

    def __init__(self, slots: int = 1, tokens: float = float("inf"), **policy: Any) -> None:
        self.clock = ManualClock(100.0)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.turns = Turns(AdmissionPolicy(**policy), self.clock, self._published)
        self.turns.resize(Capacity(slots, tokens))
        self.order: list[str] = []
        self.leave: dict[str, asyncio.Event] = {}

    def _published(self, what: str, text: str, **data: Any) -> None:
        assert text
        self.events.append((what, data))

    def turn(self, **wanted: Any) -> AbstractAsyncContextManager[None]:
        usual: dict[str, Any] = {"priority": Priority.NORMAL, "client": "c", "cost": 1}
        return self.turns.turn(**({"until": 1000.0} | usual | wanted))

    async def comes(self, name: str, **wanted: Any) -> asyncio.Task[None]:
        """One who stays until it is told to leave."""
        self.leave[name] = asyncio.Event()

        async def stay() -> None:
            async with self.turn(**wanted):
                self.order.append(name)
                await self.leave[name].wait()

        task = asyncio.create_task(stay())
        await settle()
        return task

    async def leaves(self, name: str) -> None:
        self.leave[name].set()
        await settle()

    async def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.turns._tick()
        await settle()

    @property
    def running(self) -> int:
        return self.turns.metrics.running


async def test_one_goes_ahead_at_once_and_the_next_when_it_leaves() -> None:
    room = Room()
    await room.comes("a")
    await room.comes("b")
    assert (room.order, room.turns.waiting) == (["a"], 1)
    await room.leaves("a")
    assert (room.order, room.turns.waiting, room.running) == (["a", "b"], 0, 1)
    await room.leaves("b")
    assert (room.running, room.turns.metrics.finished) == (0, 2)


async def test_who_is_urgent_goes_first() -> None:
    room = Room()
    await room.comes("a")
    await room.comes("normal")
    await room.comes("critical", priority=Priority.CRITICAL)
    await room.leaves("a")
    assert room.order == ["a", "critical"]


async def test_more_room_lets_those_ahead_who_wait() -> None:
    room = Room()
    for name in "abcd":
        await room.comes(name)
    room.turns.resize(Capacity(3))
    await settle()
    assert room.order == ["a", "b", "c"]
    room.turns.resize(Capacity(1))
    await room.leaves("a")
    await room.leaves("b")
    assert room.order == ["a", "b", "c"]
    await room.leaves("c")
    assert room.order == ["a", "b", "c", "d"]


async def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    room = Room(max_waiting=1)
    await room.comes("a")
    await room.comes("b")
    with pytest.raises(Overloaded) as refused:
        async with room.turn():
            pass
    assert refused.value.details["retry_after_s"] > 0
    assert (room.turns.waiting, room.running) == (1, 1)


async def test_one_who_waits_is_dropped_for_one_who_is_more_urgent() -> None:
    room = Room(max_waiting=1)
    await room.comes("a")
    low = await room.comes("low", priority=Priority.LOW)
    await room.comes("high", priority=Priority.HIGH)
    with pytest.raises(Overloaded):
        await low
    await room.leaves("a")
    assert room.order == ["a", "high"]


async def test_whose_deadline_passes_while_it_waits_is_told_so() -> None:
    room = Room()
    await room.comes("a")
    late = await room.comes("b", until=105.0)
    await room.tick(4)
    assert not late.done()
    await room.tick(1)
    with pytest.raises(DeadlineExceeded):
        await late
    await room.leaves("a")
    assert room.order == ["a"]


async def test_an_alarm_is_set_for_the_next_deadline_and_for_nothing_else() -> None:
    room = Room()
    await room.comes("a", until=100.5)
    assert room.turns._alarm is None
    await room.comes("b", until=105.0)
    assert room.turns._alarm is not None
    await room.leaves("a")
    assert room.turns._alarm is None


# --- cancelled ------------------------------------------------------------------------------------


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_is_cancelled_while_it_waits_is_out_of_the_way() -> None:
    room = Room()
    await room.comes("a")
    gone = await room.comes("b")
    await room.comes("c")
    await cancelled(gone)
    assert room.turns.waiting == 1
    await room.leaves("a")
    assert room.order == ["a", "c"]


async def test_who_is_cancelled_in_its_turn_gives_it_back() -> None:
    room = Room()
    gone = await room.comes("a")
    await room.comes("b")
    await cancelled(gone)
    await settle()
    assert (room.order, room.running) == (["a", "b"], 1)


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_who_is_cancelled_at_the_moment_it_is_let_ahead_gives_its_turn_on(
    cancelled_first: bool,
) -> None:
    room = Room()
    await room.comes("a")
    gone = await room.comes("b")
    await room.comes("c")
    if cancelled_first:
        gone.cancel()
        room.turns.resize(Capacity(2))
    else:
        room.turns.resize(Capacity(2))
        gone.cancel()
    await settle()
    assert gone.cancelled()
    assert (room.order, room.running, room.turns.waiting) == (["a", "c"], 2, 0)


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_who_is_cancelled_at_the_moment_it_is_dropped_leaves_nothing_behind(
    cancelled_first: bool,
) -> None:
    room = Room()
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    await room.comes("a")
    gone = await room.comes("b", until=105.0)
    room.clock.advance(5)
    if cancelled_first:
        gone.cancel()
        room.turns._tick()
    else:
        room.turns._tick()
        gone.cancel()
    await settle()
    assert gone.cancelled()
    del gone
    assert (room.running, room.turns.waiting, told) == (1, 0, [])


# --- events ---------------------------------------------------------------------------------------


async def test_overload_is_published_when_it_begins_and_when_it_is_over() -> None:
    room = Room(max_waiting=1, hard_open_rejections=2, hard_open_s=60)
    await room.comes("a")
    await room.comes("b")
    for _ in range(2):
        with pytest.raises(Overloaded):
            async with room.turn():
                pass
    assert room.events == [("overload.begun", {"waiting": 1, "running": 1})]
    with pytest.raises(Overloaded, match="urgent queries alone"):
        async with room.turn():
            pass
    await room.leaves("a")
    assert room.events[1:] == [("overload.over", {"waiting": 0, "shed": 1})]


async def test_overload_is_over_by_time_alone_too() -> None:
    room = Room(max_waiting=2, hard_open_rejections=1, hard_open_s=60, drain_share=0)
    for name in "abc":
        await room.comes(name)
    with pytest.raises(Overloaded):
        async with room.turn():
            pass
    await room.tick(60)
    assert [what for what, _ in room.events] == ["overload.begun", "overload.over"]


# --- how much one holds ---------------------------------------------------------------------------


async def test_an_answer_weighs_no_more_than_the_slot_that_holds_it() -> None:
    room = Room(slots=4, tokens=8192)
    for name in "abcd":
        await room.comes(name, cost=1_000_000)
    assert room.order == ["a", "b", "c", "d"]
