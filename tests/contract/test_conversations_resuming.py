"""Streams whose reader's connection is cut, and who comes back for the rest, with his token."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

import pytest

from actors.kernel import serving
from actors.kernel.handlers import handles
from actors.kernel.resuming import KEPT_CHUNKS, KEPT_S, Part, Tail
from protocol.client import ResumingStream
from protocol.clock import ManualClock
from protocol.conversation import INITIAL_CREDIT
from protocol.envelope import Envelope, Kind
from protocol.errors import InvalidRequest, StreamBroken, error_from_body
from tests.support.messages import Count, Counted, Number
from tests.support.network import ACTOR, Network, Node, Wire
from tests.support.owners import Counter, Echo, Raising, soon
from tests.support.waiting import eventually
from tests.support.wirings import Wiring

REQUEST, CHUNK, END, ERROR = Kind.REQUEST, Kind.CHUNK, Kind.END, Kind.ERROR
TOKEN = "0123456789abcdef" * 2


def ask(wire: Wire, upto: int, *, first: int = 0, token: str = TOKEN) -> bytes:
    return wire.send(
        REQUEST, Count.operation, Count(upto=upto), sequence=first, idempotency_key=token
    )


async def following(wire: Wire) -> Envelope:
    """The next envelope that is no sign of life."""
    while (envelope := await wire.next()).kind == Kind.HEARTBEAT:
        pass
    return envelope


async def read(wire: Wire, id_: bytes, count: int) -> list[int]:
    """The numbers of the next chunks, each of which holds its own."""
    chunks = [await following(wire) for _ in range(count)]
    assert [(one.id, one.kind) for one in chunks] == [(id_, CHUNK)] * count
    assert [one.body for one in chunks] == [{"number": one.sequence} for one in chunks]
    return [one.sequence for one in chunks]


async def broken(wire: Wire) -> Exception:
    answer = await following(wire)
    assert answer.kind == ERROR
    return error_from_body(answer.body)


async def cut(wire: Wire, node: Node, let_it_look: Callable[[], object] = lambda: None) -> None:
    """Close the connection, and have the server see it, for which its time must go on."""
    wire.link.close()
    (request,) = node.server._open.values()

    def seen() -> bool:
        let_it_look()
        return request.lost_at is not None or not node.server._open

    await eventually(seen)


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PROBE_S", 0.02)


async def test_who_comes_back_with_the_token_gets_the_rest_and_nothing_twice(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        owner = Counter()
        node = network.start(owner)
        wire = network.wire(node)
        assert await read(wire, ask(wire, 200), 10) == list(range(10))
        await soon(owner.made_it(INITIAL_CREDIT + 1).wait())
        await cut(wire, node)
        assert not owner.over.is_set()
        back = network.wire(node)
        id_ = ask(back, 200, first=10)
        assert await read(back, id_, INITIAL_CREDIT) == list(range(10, 10 + INITIAL_CREDIT))
        back.send(Kind.CREDIT, Count.operation, id=id_, sequence=1000)
        rest = await read(back, id_, 200 - 10 - INITIAL_CREDIT)
        assert rest == list(range(10 + INITIAL_CREDIT, 200))
        end = await following(back)
        assert (end.kind, end.sequence, end.body["total"]) == (END, 200, 200)
        await soon(node.server.idle.wait())
        assert node.server.counters().handled == 1
        assert owner.made == 200


async def test_he_may_come_back_before_his_loss_is_seen(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        node = network.start(Counter())
        wire, back = network.wire(node), network.wire(node)
        await read(wire, ask(wire, 100), 3)
        id_ = ask(back, 100, first=3)
        assert (await read(back, id_, INITIAL_CREDIT))[0] == 3
        # What he says on the old connection is late now.
        assert node.server.in_flight == 1


async def test_a_stream_that_ended_meanwhile_is_had_to_its_end(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        node = network.start(Echo())
        wire = network.wire(node)
        await read(wire, ask(wire, 5), 5)
        assert (await following(wire)).kind == END
        back = network.wire(node)
        id_ = ask(back, 5, first=2)
        assert await read(back, id_, 3) == [2, 3, 4]
        assert (await following(back)).kind == END
        again = network.wire(node)
        id_ = ask(again, 5, first=5)
        end = await following(again)
        assert (end.id, end.kind, end.sequence) == (id_, END, 5)


async def test_the_error_of_a_stream_is_had_as_its_end_is(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        node = network.start(Raising(InvalidRequest("no more")))
        wire = network.wire(node)
        await read(wire, ask(wire, 2), 2)
        assert str(await broken(wire)) == "no more"
        back = network.wire(node)
        assert await read(back, ask(back, 2, first=1), 1) == [1]
        assert str(await broken(back)) == "no more"


async def test_what_is_not_kept_is_told_to_be_resumed_otherwise(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Counter()
        node = network.start(owner)
        wire = network.wire(node)
        ask(wire, 10, first=3)
        error = await broken(wire)
        assert isinstance(error, StreamBroken)
        assert error.not_kept
        assert owner.made == 0
        # From its beginning it is a stream like any other.
        await read(wire, ask(wire, 10), 10)


async def test_a_reader_that_lacks_more_than_is_kept_is_told_and_the_writer_stops(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        owner = Counter()
        node = network.start(owner)
        wire = network.wire(node)
        id_ = ask(wire, 10_000)
        wire.send(Kind.CREDIT, Count.operation, id=id_, sequence=KEPT_CHUNKS + 50)
        await read(wire, id_, KEPT_CHUNKS + 50)
        back = network.wire(node)
        ask(back, 10_000, first=49)
        error = await broken(back)
        assert isinstance(error, StreamBroken)
        assert error.not_kept
        await soon(owner.over.wait())
        await soon(node.server.idle.wait())


async def test_nobody_gets_a_stream_without_its_token_or_by_one_that_can_be_guessed(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        node = network.start(Counter())
        wire, other = network.wire(node), network.wire(node)
        await read(wire, ask(wire, 1000), INITIAL_CREDIT)
        ask(other, 1000, first=10, token="f" * 32)
        assert isinstance(await broken(other), StreamBroken)
        ask(other, 1000, token="short")
        error = await broken(other)
        assert isinstance(error, InvalidRequest)
        assert "is the secret" in error.message
        assert node.server.in_flight == 1


async def test_a_stream_without_a_token_ends_with_its_reader(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Counter()
        node = network.start(owner)
        wire = network.wire(node)
        await read(wire, ask(wire, 1000, token=""), INITIAL_CREDIT)
        wire.link.close()
        await soon(owner.over.wait())
        await soon(node.server.idle.wait())


async def test_a_reader_that_takes_it_back_ends_it(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Counter()
        node = network.start(owner)
        wire = network.wire(node)
        id_ = ask(wire, 1000)
        await read(wire, id_, INITIAL_CREDIT)
        wire.send(Kind.CANCEL, Count.operation, id=id_)
        await soon(owner.over.wait())
        ask(wire, 1000, first=INITIAL_CREDIT)
        assert isinstance(await broken(wire), StreamBroken)


async def test_a_reader_that_does_not_come_back_in_time_finds_nothing(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner, clock = Counter(), ManualClock()
        node = network.start(owner, clock=clock)
        wire = network.wire(node)
        await read(wire, ask(wire, 1000), INITIAL_CREDIT)
        await cut(wire, node, lambda: clock.advance(serving.PROBE_S))
        assert not owner.over.is_set()
        clock.advance(KEPT_S + 0.1)
        await soon(owner.over.wait())
        back = network.wire(node)
        ask(back, 1000, first=INITIAL_CREDIT)
        assert isinstance(await broken(back), StreamBroken)


def test_a_tail_holds_what_a_reader_can_lack() -> None:
    tail = Tail()
    for number in range(300):
        tail.add(Part(3, number, number))
    oldest = 300 - KEPT_CHUNKS
    assert tail.since(oldest - 1, 300) is None
    assert tail.since(301, 300) is None
    assert tail.since(300, 300) == []
    kept = tail.since(oldest, 300)
    assert kept is not None
    assert [part.body for part in kept] == list(range(oldest, 300))
    tail.end = Part(4, "end", 300)
    assert tail.since(299, 300) == [Part(3, 299, 299), Part(4, "end", 300)]


class Slowly(Counter):
    """Takes its time to let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()

    @handles(Count)
    async def count(self, message: Count) -> AsyncGenerator[Number | Counted, None]:
        try:
            async with contextlib.aclosing(super().count(message)) as numbers:
                async for number in numbers:
                    yield number
        finally:
            await self.let_go.wait()


async def test_a_stream_that_is_being_given_up_is_not_resumed_into_silence(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        owner = Slowly()
        node = network.start(owner)
        wire = network.wire(node)
        id_ = ask(wire, 1000)
        await read(wire, id_, INITIAL_CREDIT)
        wire.send(Kind.CANCEL, Count.operation, id=id_)
        await soon(owner.over.wait())
        ask(wire, 1000, first=10)
        error = await broken(wire)
        assert isinstance(error, StreamBroken)
        assert error.not_kept
        owner.let_go.set()


async def test_an_end_is_not_kept_longer_than_it_is_said_to_be(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Network(wiring) as network:
        clock = ManualClock()
        node = network.start(Echo(), clock=clock)
        wire = network.wire(node)
        await read(wire, ask(wire, 5), 5)
        assert (await following(wire)).kind == END
        clock.advance(KEPT_S + 0.1)
        ask(wire, 5, first=2)
        assert isinstance(await broken(wire), StreamBroken)


async def test_a_reader_that_is_cancelled_while_it_comes_back_goes_on_where_it_stopped(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        node = network.start(Counter())
        caller = await network.caller()
        stream = ResumingStream(caller, ACTOR, Count(upto=200), 60, kept=True)
        got = [(await anext(stream)).number for _ in range(20)]
        (connection,) = caller._connections.values()
        assert connection.link is not None
        connection.link.close()
        caller._link_lost(caller.directory.entries[ACTOR], "the cable was pulled")
        while len(got) < 200:
            # Polled, and cancelled more than once while it waits for the way back.
            try:
                got.append((await asyncio.wait_for(anext(stream), 0.05)).number)
            except TimeoutError:
                continue
        assert got == list(range(200))
        assert len(stream.regained) == 1
        assert node.server.in_flight <= 1
