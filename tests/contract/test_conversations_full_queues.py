"""A full queue at the wrong moment costs time, never a message.

Between a `Caller` and a `Server`, over every transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from protocol.clock import ManualClock
from protocol.conversation import INITIAL_CREDIT
from protocol.envelope import Kind
from protocol.errors import (
    DeadlineExceeded,
    Overloaded,
)
from protocol.ports import Link, Listener, OnFrame, Transport
from tests.support.messages import Count, Say
from tests.support.network import ACTOR, Network, Wire
from tests.support.owners import (
    Counter,
    Echo,
    Held,
    numbers,
    soon,
    start,
)
from tests.support.waiting import eventually
from tests.support.wirings import Wiring

REQUEST, REPLY, ERROR = Kind.REQUEST, Kind.REPLY, Kind.ERROR


class Choking:
    """A transport whose links can be full; everything else is the real one."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.full = False
        self.refused = 0

    def listen(self, endpoint: str, on_frame: OnFrame) -> Listener:
        return self.inner.listen(endpoint, on_frame)

    def connect(
        self, endpoint: str, on_frame: Callable[[bytes], None], on_lost: Callable[[str], None]
    ) -> Link:
        return ChokingLink(self, self.inner.connect(endpoint, on_frame, on_lost))

    def close(self) -> None:
        self.inner.close()


class ChokingLink:
    def __init__(self, transport: Choking, inner: Link) -> None:
        self.transport = transport
        self.inner = inner

    def send(self, frame: bytes, *, at_once: bool = False) -> None:
        if self.transport.full:
            self.transport.refused += 1
            raise Overloaded("the receiver reads too slowly", retry_after_s=0.001)
        self.inner.send(frame)

    def close(self) -> None:
        self.inner.close()


async def test_an_ask_on_a_full_queue_is_overload_and_leaves_nothing_open(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        network.start(Echo())
        transport = Choking(wiring.transport())
        caller = await network.caller(transport=transport)
        assert (await soon(caller.ask(ACTOR, Say(text="x")))).text == "x"
        transport.full = True
        with pytest.raises(Overloaded):
            await soon(caller.ask(ACTOR, Say()))
        transport.full = False
        assert (await soon(caller.ask(ACTOR, Say(text="x")))).text == "x"


async def test_a_credit_that_found_the_queue_full_is_sent_later_and_costs_no_chunk(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        owner = Counter()
        network.start(owner)
        transport = Choking(wiring.transport())
        caller = await network.caller(transport=transport)
        stream = await caller.stream(ACTOR, Count(upto=300))
        await soon(owner.made_it(INITIAL_CREDIT + 1).wait())
        transport.full = True
        got = [(await soon(stream.__anext__())).number for _ in range(INITIAL_CREDIT)]
        assert transport.refused > 0
        transport.full = False
        got += await soon(numbers(stream))
        assert got == list(range(300))


async def test_a_cancel_that_found_the_queue_full_is_sent_later(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner, clock = Held(), ManualClock()
        node = network.start(owner, clock=ManualClock())
        transport = Choking(wiring.transport())
        caller = await network.caller(transport=transport, clock=clock)
        asks = [start(caller.ask(ACTOR, Say(), timeout_s=0.01)) for _ in range(3)]
        while len(owner.requests) < 3:
            owner.began.clear()
            await soon(owner.began.wait())
        transport.full = True
        clock.advance(1)
        for ask in asks:
            with pytest.raises(DeadlineExceeded):
                await soon(ask)
        assert transport.refused > 0
        transport.full = False
        await soon(node.server.idle.wait())
        assert owner.ended == ["cancelled"] * 3


async def test_the_reader_of_a_wire_is_told_of_its_loss(wiring: Wiring) -> None:
    # The tests above lean on it.
    async with Network(wiring) as network:
        node = network.start(Echo())
        wire: Wire = network.wire(node)
        await wire.before()
        await node.die()
        await soon(wire.lost.wait())


async def test_a_client_that_floods_starves_no_other(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        network.start(Echo())
        flooder, quiet = await network.caller(), await network.caller()
        made = 0

        async def flood() -> None:
            nonlocal made
            while True:
                made += 1
                await flooder.ask(ACTOR, Say(text="again and again"), timeout_s=60)

        # It never stops while the other one asks.
        tasks = [start(flood()) for _ in range(500)]
        await eventually(lambda: made >= 2000)
        for number in range(50):
            assert (await soon(quiet.ask(ACTOR, Say(text=str(number))))).text == str(number)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
