"""From the threads that generate to the event loop: all of it, in order, and not too often."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import cast

import pytest

from actors.engine.courier import ALONE_S, SHARED_S, Courier, Mailbox


class StandingLoop:
    """An event loop in which only that happens which a test wants to happen."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_soon_threadsafe(self, action: Callable[[], None]) -> None:
        self.soon.append(action)

    def call_later(self, delay: float, action: Callable[[], None]) -> object:
        self.later.append((delay, action))
        return object()

    def turn(self) -> None:
        """Do what was asked for."""
        actions, self.soon = self.soon, []
        for action in actions:
            action()

    def wait(self) -> None:
        """Let the time pass that was asked for."""
        actions, self.later = self.later, []
        for _, action in actions:
            action()


@pytest.fixture
def loop() -> StandingLoop:
    return StandingLoop()


@pytest.fixture
def courier(loop: StandingLoop) -> Courier:
    return Courier(cast(asyncio.AbstractEventLoop, loop))


def opened(courier: Courier) -> Mailbox[int]:
    mailbox: Mailbox[int] = Mailbox(courier)
    courier.open(mailbox)
    return mailbox


def taken(mailbox: Mailbox[int]) -> list[int]:
    return list(mailbox.take_now())


def test_the_first_item_is_delivered_at_once(loop: StandingLoop, courier: Courier) -> None:
    mailbox = opened(courier)
    mailbox.post(1)
    assert taken(mailbox) == []
    loop.turn()
    assert taken(mailbox) == [1]


def test_who_reads_alone_does_not_wait_as_long_as_several_do(
    loop: StandingLoop, courier: Courier
) -> None:
    one, other = opened(courier), opened(courier)
    assert ALONE_S < SHARED_S
    one.post(1)
    loop.turn()
    assert [delay for delay, _ in loop.later] == [ALONE_S]
    one.post(2)
    other.post(2)
    loop.wait()
    assert [delay for delay, _ in loop.later] == [SHARED_S]


def test_what_follows_is_delivered_together_after_a_while_without_being_asked_for(
    loop: StandingLoop, courier: Courier
) -> None:
    one, other = opened(courier), opened(courier)
    one.post(1)
    loop.turn()
    for number in (2, 3):
        one.post(number)
        other.post(number * 10)
    assert not loop.soon
    assert [delay for delay, _ in loop.later] == [ALONE_S]
    assert taken(one) == [1]
    assert taken(other) == []
    loop.wait()
    assert taken(one) == [2, 3]
    assert taken(other) == [20, 30]


def test_an_urgent_item_brings_along_what_waits_and_keeps_the_pace(
    loop: StandingLoop, courier: Courier
) -> None:
    mailbox = opened(courier)
    mailbox.post(1)
    loop.turn()
    mailbox.post(2)
    mailbox.post(3, urgent=True)
    loop.turn()
    assert taken(mailbox) == [1, 2, 3]
    assert len(loop.later) == 1


def test_after_a_pause_the_next_item_is_delivered_at_once_again(
    loop: StandingLoop, courier: Courier
) -> None:
    mailbox = opened(courier)
    mailbox.post(1)
    loop.turn()
    loop.wait()
    assert not loop.later
    mailbox.post(2)
    loop.turn()
    assert taken(mailbox) == [1, 2]


def test_nothing_wakes_the_loop_while_there_is_nothing(
    loop: StandingLoop, courier: Courier
) -> None:
    mailbox = opened(courier)
    mailbox.post(1)
    loop.turn()
    loop.wait()
    assert not loop.soon
    assert not loop.later


def test_a_closed_mailbox_gets_nothing_more(loop: StandingLoop, courier: Courier) -> None:
    mailbox = opened(courier)
    courier.close(mailbox)
    mailbox.post(1)
    loop.turn()
    assert taken(mailbox) == []
    assert not loop.later


async def test_all_that_many_threads_post_arrives_in_order() -> None:
    courier = Courier(asyncio.get_running_loop())
    mailboxes = [opened(courier) for _ in range(4)]

    def make(mailbox: Mailbox[int]) -> None:
        for number in range(2000):
            mailbox.post(number)
        mailbox.post(-1, urgent=True)

    async def read(mailbox: Mailbox[int]) -> list[int]:
        read: list[int] = []
        while not read or read[-1] != -1:
            read += await mailbox.take()
        return read

    threads = [threading.Thread(target=make, args=(mailbox,)) for mailbox in mailboxes]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(30):
        everything = await asyncio.gather(*(read(mailbox) for mailbox in mailboxes))
    for thread in threads:
        thread.join()
    assert everything == [[*range(2000), -1]] * 4
