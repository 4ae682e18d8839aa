"""Futures whose waiter goes on at once."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, copy_context

import pytest

from protocol.waiting import answer

WHO: ContextVar[str] = ContextVar("who", default="nobody")


async def from_the_loop(action: object, *arguments: object) -> None:
    """Have the loop call something itself, as it does when a socket has news."""
    done = asyncio.get_running_loop().create_future()

    def act() -> None:
        action(*arguments)  # type: ignore[operator]
        done.set_result(None)

    asyncio.get_running_loop().call_soon(act)
    await done


async def test_the_waiter_has_gone_on_when_answering_returns_and_in_its_own_context() -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    notes: list[str] = []

    async def wait() -> None:
        WHO.set("the waiter")
        notes.append(f"{await future} for {WHO.get()}")

    def give() -> None:
        answer(future, "an answer")
        notes.append(f"given by {WHO.get()}")

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    await from_the_loop(give)
    assert notes == ["an answer for the waiter", "given by nobody"]
    await task


async def test_from_within_a_task_the_waiter_goes_on_in_the_next_turn() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(asyncio.wait_for(future, 5))
    await asyncio.sleep(0)
    answer(future, 3)
    assert not task.done()
    assert await task == 3


async def test_nobody_may_wait_yet_or_several() -> None:
    loop = asyncio.get_running_loop()
    early: asyncio.Future[int] = loop.create_future()
    await from_the_loop(answer, early, 1)
    assert await early == 1
    shared: asyncio.Future[int] = loop.create_future()

    async def wait() -> int:
        return await shared

    tasks = [asyncio.ensure_future(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    await from_the_loop(answer, shared, 2)
    assert await asyncio.gather(*tasks) == [2, 2, 2]


async def test_who_was_cancelled_is_not_answered() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait() -> int:
        return await future

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    task.cancel()
    await from_the_loop(answer, future, 1)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_waiter_that_raises_harms_nobody_but_itself() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await future
        raise ValueError("its own affair")

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    await from_the_loop(answer, future, 1)
    with pytest.raises(ValueError, match="its own affair"):
        await task


async def test_a_waiter_that_asks_again_and_again_goes_on_each_time() -> None:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[int]] = []

    async def ask(times: int) -> int:
        total = 0
        for _ in range(times):
            futures.append(loop.create_future())
            total += await futures[-1]
        return total

    task = asyncio.ensure_future(ask(1000))
    await asyncio.sleep(0)

    def give_all() -> None:
        for number in range(1000):
            answer(futures[number], 1)

    await from_the_loop(give_all)
    assert await task == 1000


async def test_a_waiter_whose_context_is_in_use_goes_on_in_the_next_turn() -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    context = copy_context()

    async def wait() -> int:
        return await future

    task = context.run(lambda: loop.create_task(wait(), context=context))
    await asyncio.sleep(0)
    loop.call_soon(answer, future, 5, context=context)
    assert await asyncio.wait_for(task, 5) == 5
