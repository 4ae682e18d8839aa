"""Deadlines and cancelling: nothing goes on longer than somebody waits for it.

Between a `Caller` and a `Server`, over every transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from actors.kernel.handlers import handles
from protocol.clock import ManualClock
from protocol.endpoints import SUPERVISOR
from protocol.envelope import Kind
from protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    error_from_body,
)
from protocol.lifecycle import ActorState
from protocol.messages.actor import Ping
from tests.support.messages import Count, Counted, Look, Number, Say
from tests.support.network import ACTOR, Network, Probe, knows
from tests.support.owners import (
    Counter,
    Held,
    Seen,
    numbers,
    read_until_it_breaks,
    soon,
    start,
)
from tests.support.wirings import Wiring

REQUEST, REPLY, ERROR = Kind.REQUEST, Kind.REPLY, Kind.ERROR


async def test_at_its_deadline_an_ask_fails_and_its_handler_is_cancelled(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner, clock = Held(), ManualClock()
        # The receiver's clock stands still: what ends the handler is the caller's word.
        node = network.start(owner, clock=ManualClock())
        caller = await network.caller(clock=clock)
        ask = start(caller.ask(ACTOR, Say(), timeout_s=0.01))
        await soon(owner.began.wait())
        assert not ask.done()
        clock.advance(1)
        with pytest.raises(DeadlineExceeded, match=r"no end of probe\.say in time"):
            await soon(ask)
        assert caller.unanswered() == {node.server.epoch: 1}
        await soon(node.server.idle.wait())
        assert owner.ended == ["cancelled"]


async def test_a_receiver_keeps_the_deadline_itself(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner, clock = Held(), ManualClock()
        node = network.start(owner, clock=clock)
        wire = network.wire(node)
        request = wire.send(REQUEST, Say.operation, Say(), deadline_ms=10)
        await soon(owner.began.wait())
        clock.advance(1)
        answer = await wire.next()
        assert (answer.id, answer.kind) == (request, ERROR)
        assert type(error_from_body(answer.body)) is DeadlineExceeded
        await soon(node.server.idle.wait())
        assert owner.ended == ["cancelled"]
        assert await wire.before() == []


async def test_a_deadline_that_has_passed_still_gets_its_answer(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        node = network.start(Held())
        wire = network.wire(node)
        wire.send(REQUEST, Say.operation, Say(), deadline_ms=0)
        assert type(error_from_body((await wire.next()).body)) is DeadlineExceeded
        await soon(node.server.idle.wait())


async def test_a_stream_ends_at_its_deadline_after_the_chunks_that_came(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner, clock = Counter(), ManualClock()
        network.start(owner, clock=ManualClock())
        caller = await network.caller(clock=clock)
        stream = await caller.stream(ACTOR, Count(upto=10_000), timeout_s=0.01)
        first = await soon(stream.__anext__())
        clock.advance(1)
        await soon(owner.over.wait())
        got, error = await read_until_it_breaks(stream)
        assert type(error) is DeadlineExceeded
        assert [first.number, *got] == list(range(1 + len(got)))
        assert stream.end is None


async def test_an_ask_that_is_cancelled_cancels_its_handler(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Held()
        node = network.start(owner)
        caller = await network.caller()
        ask = start(caller.ask(ACTOR, Say()))
        await soon(owner.began.wait())
        ask.cancel()
        await soon(owner.over.wait())
        await soon(node.server.idle.wait())
        assert owner.ended == ["cancelled"]
        assert node.server.counters().failed == 0
        assert ask.cancelled()
        assert (await soon(caller.ask(ACTOR, Ping()))).name == ACTOR
        assert caller.late == 0


@pytest.mark.parametrize("operation", [Say.operation, Count.operation])
async def test_a_request_taken_back_before_its_handler_began_leaves_nothing_open(
    wiring: Wiring, operation: str
) -> None:
    async with Network(wiring) as network:
        seen = Seen()
        node = network.start(Held(), hooks=[seen], max_open_per_peer=60)
        wire = network.wire(node)
        for times in (1, 2):
            for _ in range(50):
                # Both arrive in one turn of the receiver's loop.
                request = wire.send(REQUEST, operation, {})
                wire.send(Kind.CANCEL, operation, id=request)
            assert await wire.before() == []
            await soon(node.server.idle.wait())
            assert node.server.in_flight == 0
            assert [type(error) for _, error in seen.after] == [Cancelled] * 50 * times
        assert node.server.counters().failed == 0
        # What was taken back is not counted against the connection any more.
        assert node.server.counters().rejected == 0


async def test_leaving_a_stream_early_lets_the_writer_go(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Counter()
        node = network.start(owner)
        caller = await network.caller()
        async with await caller.stream(ACTOR, Count(upto=10_000)) as stream:
            assert (await soon(stream.__anext__())).number == 0
        await soon(owner.over.wait())
        await soon(node.server.idle.wait())
        assert node.server.counters().failed == 0
        with pytest.raises(Cancelled):
            await soon(numbers(stream))


async def test_a_client_that_disconnects_takes_its_requests_back(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Held()
        node = network.start(owner)
        caller = await network.caller()
        ask = start(caller.ask(ACTOR, Say()))
        await soon(owner.began.wait())
        caller.close()
        with pytest.raises(Cancelled):
            await soon(ask)
        await soon(owner.over.wait())
        await soon(node.server.idle.wait())
        assert owner.ended == ["cancelled"]


async def test_closing_fails_also_what_waits_for_its_actor(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        network.tell(state=ActorState.STARTING, epoch="1")
        caller = await network.caller()
        await soon(knows(caller, lambda entries: ACTOR in entries))
        asks = [start(caller.ask(ACTOR, Say())), start(caller.ask(ACTOR, Look()))]
        # Their first step: now they wait.
        await asyncio.sleep(0)
        caller.close()
        for ask in asks:
            with pytest.raises(Cancelled):
                await soon(ask)
        with pytest.raises(Cancelled):
            await soon(caller.ask(SUPERVISOR, Ping()))


async def test_a_reader_that_vanishes_cancels_the_stream_and_is_no_failure(
    wiring: Wiring,
) -> None:
    class Paced(Probe):
        """Writes one chunk each time it is told to."""

        def __init__(self) -> None:
            self.pace = asyncio.Semaphore(1)
            self.over = asyncio.Event()

        @handles(Count)
        async def count(self, message: Count) -> AsyncGenerator[Number | Counted, None]:
            try:
                for number in range(message.upto):
                    await self.pace.acquire()
                    yield Number(number=number)
                yield Counted()
            finally:
                self.over.set()

    async with Network(wiring) as network:
        owner, seen = Paced(), Seen()
        node = network.start(owner, hooks=[seen])
        wire = network.wire(node)
        # Credit without end: what stops the writer is nothing but the loss of its reader.
        request = wire.send(REQUEST, Count.operation, Count(upto=1_000_000))
        wire.send(Kind.CREDIT, Count.operation, id=request, sequence=1_000_000)
        await wire.next()
        # No cancel: as when its process was killed.
        wire.link.close()
        other = network.wire(node)
        while not owner.over.is_set():
            owner.pace.release()
            await other.before()
        await soon(node.server.idle.wait())
        assert [type(error) for cls, error in seen.after if cls is Count] == [Cancelled]
        assert node.server.counters().failed == 0
