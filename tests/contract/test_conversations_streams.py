"""Streams: every chunk once, in order, by credit, and one end; never silently cut short.

Between a `Caller` and a `Server`, over every transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from actors.kernel import serving
from actors.kernel.handlers import handles
from protocol.codec import Codec
from protocol.conversation import INITIAL_CREDIT
from protocol.envelope import Envelope, Kind, new_id
from protocol.errors import (
    FrameTooLarge,
    IllegalTransition,
    InternalError,
    InvalidMessage,
    MalformedFrame,
    NotFound,
    NoyauError,
    StreamBroken,
)
from tests.support.messages import Count, Counted, Number, Said, Say
from tests.support.network import ACTOR, Network, Node, Probe
from tests.support.owners import (
    Counter,
    Echo,
    Script,
    numbers,
    read_until_it_breaks,
    soon,
    start,
)
from tests.support.wirings import BOUND_S, Wiring

REQUEST, REPLY, ERROR = Kind.REQUEST, Kind.REPLY, Kind.ERROR


# --- streams -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "upto", [0, 1, INITIAL_CREDIT - 1, INITIAL_CREDIT, INITIAL_CREDIT + 1, 1000]
)
async def test_a_stream_is_all_its_chunks_in_order_and_then_its_end(
    wiring: Wiring, upto: int
) -> None:
    async with Network(wiring) as network:
        node = network.start(Echo())
        caller = await network.caller()
        stream = await caller.stream(ACTOR, Count(upto=upto))
        assert await soon(numbers(stream)) == list(range(upto))
        assert stream.end == Counted(total=upto)
        assert stream.epoch == "1"
        await soon(node.server.idle.wait())
        assert node.server.counters().handled == 1
        # It stays over.
        assert await soon(numbers(stream)) == []


async def test_a_handler_that_stops_without_an_end_is_an_internal_error_after_its_chunks(
    wiring: Wiring,
) -> None:
    class Unfinished(Probe):
        @handles(Count)
        async def count(self, message: Count) -> AsyncGenerator[Number | Counted, None]:
            for number in range(message.upto):
                yield Number(number=number)

    async with Network(wiring) as network:
        node = network.start(Unfinished())
        caller = await network.caller()
        for upto in (0, 3):
            stream = await caller.stream(ACTOR, Count(upto=upto))
            got, error = await read_until_it_breaks(stream)
            assert got == list(range(upto))
            assert type(error) is InternalError
            assert "stopped without saying how it ended" in str(error)
            assert stream.end is None
        assert node.server.counters().failed == 2


@pytest.mark.parametrize("text", ["\ud800", "x" * 20_000], ids=["surrogate", "too large"])
@pytest.mark.parametrize("upto", [0, 2])
async def test_an_end_or_a_chunk_that_cannot_be_sent_is_an_error_and_not_silence(
    wiring: Wiring, text: str, upto: int
) -> None:
    class Unsendable(Probe):
        @handles(Count)
        async def count(self, message: Count) -> AsyncGenerator[Any, None]:
            if message.upto:
                yield Number(number=0)
                yield Said(text=text)
            yield Counted(words=text)

    async with Network(wiring) as network:
        node = network.start(Unsendable(), codec=Codec(max_frame_bytes=10_000))
        caller = await network.caller()
        got, error = await read_until_it_breaks(await caller.stream(ACTOR, Count(upto=upto)))
        assert got == ([0] if upto else [])
        assert isinstance(error, InvalidMessage | FrameTooLarge)
        await soon(node.server.idle.wait())
        assert node.server.counters().failed == 1


async def test_a_slow_reader_stops_the_writer(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Counter()
        node = network.start(owner)
        wire = network.wire(node)
        request = wire.send(REQUEST, Count.operation, Count(upto=1000))
        # The writer holds one chunk more than it may send.
        await soon(owner.made_it(INITIAL_CREDIT + 1).wait())
        came = await wire.before()
        assert [one.sequence for one in came] == list(range(INITIAL_CREDIT))
        assert owner.made == INITIAL_CREDIT + 1
        wire.send(Kind.CREDIT, Count.operation, id=request, sequence=INITIAL_CREDIT + 10)
        await soon(owner.made_it(INITIAL_CREDIT + 11).wait())
        came = await wire.before()
        assert [one.sequence for one in came] == list(range(INITIAL_CREDIT, INITIAL_CREDIT + 10))
        # Credit that says nothing new opens nothing.
        wire.send(Kind.CREDIT, Count.operation, id=request, sequence=3)
        assert await wire.before() == []
        assert owner.made == INITIAL_CREDIT + 11


async def test_a_writer_is_never_more_than_the_window_ahead_of_its_reader(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Counter()
        network.start(owner)
        caller = await network.caller()
        stream = await caller.stream(ACTOR, Count(upto=500))
        ahead = []
        async with asyncio.timeout(BOUND_S):
            async for chunk in stream:
                ahead.append(owner.made - chunk.number)
        assert len(ahead) == 500
        assert max(ahead) <= INITIAL_CREDIT + 1


async def test_a_reader_that_rests_stops_no_other_conversation(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Counter()
        network.start(owner)
        caller = await network.caller()
        resting = await caller.stream(ACTOR, Count(upto=200))
        await soon(owner.made_it(INITIAL_CREDIT + 1).wait())
        quick = await caller.stream(ACTOR, Count(upto=300))
        assert await soon(numbers(quick)) == list(range(300))
        assert (await soon(caller.ask(ACTOR, Say(text="x")))).text == "x"
        assert await soon(numbers(resting)) == list(range(200))


async def test_a_credit_for_what_is_over_is_late_and_not_refused(wiring: Wiring) -> None:
    class Lingering(Probe):
        """Ends its stream, and takes its time to clean up."""

        def __init__(self) -> None:
            self.cleaned = asyncio.Event()

        @handles(Count)
        async def count(self, message: Count) -> AsyncGenerator[Number | Counted, None]:
            try:
                yield Counted()
            finally:
                await self.cleaned.wait()

    async with Network(wiring) as network:
        owner = Lingering()
        node = network.start(owner)
        wire = network.wire(node)
        request = wire.send(REQUEST, Count.operation, Count())
        assert (await wire.next()).kind == Kind.END
        wire.send(Kind.CREDIT, Count.operation, id=request, sequence=100)
        wire.send(Kind.CANCEL, Count.operation, id=request)
        assert await wire.before() == []
        owner.cleaned.set()
        await soon(node.server.idle.wait())
        wire.send(Kind.CREDIT, Count.operation, id=request, sequence=100)
        assert await wire.before() == []
        assert node.server.counters().rejected == 0
        assert node.server.counters().late == 3
        assert node.server.counters().failed == 0


# --- a receiver that breaks the rules ----------------------------------------------------------
def chunk(number: int) -> tuple[Kind, int, object]:
    return Kind.CHUNK, number, {"number": number}


@pytest.mark.parametrize(
    ("answers", "read", "expected"),
    [
        ([chunk(0), chunk(2)], [0], StreamBroken),
        ([chunk(0), chunk(0)], [0], StreamBroken),
        ([chunk(0), (Kind.END, 2, {})], [0], StreamBroken),
        ([chunk(0), (Kind.END, 0, {})], [0], StreamBroken),
        ([chunk(0), (Kind.REPLY, 0, {})], [0], IllegalTransition),
        ([chunk(0), (Kind.CREDIT, 9, None)], [0], IllegalTransition),
        ([chunk(0), (Kind.REQUEST, 0, {})], [0], IllegalTransition),
        ([chunk(0), (Kind.CHUNK, 1, {"number": "x"})], [0], InvalidMessage),
        ([chunk(0), (Kind.END, 1, {"total": "x"})], [0], InvalidMessage),
        ([chunk(0), (Kind.ERROR, 0, "junk")], [0], MalformedFrame),
        ([chunk(n) for n in range(INITIAL_CREDIT + 1)], range(INITIAL_CREDIT), IllegalTransition),
    ],
    ids=[
        "gap", "repeated", "end counts more", "end counts less", "reply", "credit", "request",
        "invalid chunk", "invalid end", "junk error", "over credit",
    ],
)  # fmt: skip
async def test_a_stream_that_is_not_whole_breaks_and_never_just_ends(
    wiring: Wiring,
    answers: list[tuple[Kind, int, object]],
    read: list[int],
    expected: type[NoyauError],
) -> None:
    async with Network(wiring) as network:
        script = Script(network)
        caller = await network.caller()
        stream = await caller.stream(ACTOR, Count())
        await script.answer(*answers)
        if expected is not MalformedFrame:
            # What ends by an error is over at the other side too; all else is taken back. Chunks
            # are read after that, so that no credit is given meanwhile.
            assert (await soon(script.notes.get())).kind == Kind.CANCEL
        got, error = await read_until_it_breaks(stream)
        assert got == list(read)
        assert type(error) is expected
        assert stream.end is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (chunk(0), IllegalTransition),
        ((Kind.END, 0, {}), IllegalTransition),
        ((Kind.CREDIT, 1, None), IllegalTransition),
        ((Kind.EVENT, 0, None), IllegalTransition),
        ((Kind.REPLY, 0, None), InvalidMessage),
        ((Kind.ERROR, 0, {"code": 5}), MalformedFrame),
        ((Kind.ERROR, 0, {"code": "not_found", "details": {"self": 1}}), NotFound),
        ((Kind.ERROR, 0, {"code": "of_the_future"}), NoyauError),
    ],
    ids=["chunk", "end", "credit", "event", "no body", "junk", "odd detail", "unknown code"],
)
async def test_an_ask_answered_wrongly_fails_with_what_was_wrong(
    wiring: Wiring, answer: tuple[Kind, int, object], expected: type[NoyauError]
) -> None:
    async with Network(wiring) as network:
        script = Script(network)
        caller = await network.caller()
        ask = start(caller.ask(ACTOR, Say()))
        await script.answer(answer)
        with pytest.raises(NoyauError) as caught:
            await soon(ask)
        assert type(caught.value) is expected


async def test_a_second_reply_and_a_strangers_reply_are_late_and_do_no_harm(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        script = Script(network)
        caller = await network.caller()
        first = start(caller.ask(ACTOR, Say()))
        peer, request = await soon(script.requests.get())
        for identifier in (new_id(), request.id, request.id):
            reply = Envelope(identifier, REPLY, request.operation, body={"text": "x"})
            script.listener.send(peer, script.codec.encode(reply))
        script.listener.send(peer, b"no envelope at all")
        assert (await soon(first)).text == "x"
        second = start(caller.ask(ACTOR, Say()))
        await script.answer((REPLY, 0, {"text": "y"}))
        assert (await soon(second)).text == "y"
        assert caller.late == 3


async def test_a_reader_that_lost_all_chunks_of_a_credit_is_told_and_the_stream_is_broken(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing more would come: the sender waits for credit, the reader for chunks to use up.
    monkeypatch.setattr(serving, "PROBE_S", 0.05)
    async with Network(wiring) as network:
        node = network.start(Echo())
        caller = await network.caller()
        lost = drop_chunks(monkeypatch, node, after=10)
        stream = await caller.stream(ACTOR, Count(upto=1000))
        got, error = await read_until_it_breaks(stream)
        assert got == list(range(10))
        assert type(error) is StreamBroken
        assert error.details == {"expected": INITIAL_CREDIT, "got": 10}
        assert len(lost) == INITIAL_CREDIT - 10
        await soon(node.server.idle.wait())


def drop_chunks(monkeypatch: pytest.MonkeyPatch, node: Node, after: int) -> list[bytes]:
    """Have all chunks but the first ones get lost; returns what does."""
    real, lost, passed = node.listener.send, list[bytes](), list[bytes]()

    def send(peer: bytes, frame: bytes) -> None:
        is_chunk = bool(frame) and Codec().decode(frame).kind == Kind.CHUNK
        if is_chunk and len(passed) >= after:
            lost.append(frame)
            return
        if is_chunk:
            passed.append(frame)
        real(peer, frame)

    monkeypatch.setattr(node.listener, "send", send)
    return lost
