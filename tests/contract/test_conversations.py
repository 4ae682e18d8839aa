"""Conversations between a `Caller` and a `Server`, over every transport.

Each ends: with its answer, with a typed error, at its deadline, or at once when one side dies.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from actors.kernel.handlers import handles
from actors.kernel.hooks import Hooks
from actors.kernel.request import Request
from protocol.caller import SUPERVISOR, Caller
from protocol.clock import ManualClock
from protocol.codec import Codec
from protocol.context import CURRENT, CallContext
from protocol.conversation import INITIAL_CREDIT
from protocol.envelope import NO_ID, PREFIX, Envelope, Kind, Priority, new_id
from protocol.errors import (
    ActorDied,
    ActorUnavailable,
    Cancelled,
    DeadlineExceeded,
    EngineFailed,
    FrameTooLarge,
    IllegalTransition,
    InternalError,
    InvalidMessage,
    InvalidRequest,
    MalformedFrame,
    NotAllowed,
    NotFound,
    NoyauError,
    OutcomeUnknown,
    Overloaded,
    StreamBroken,
    UnknownOperation,
    error_from_body,
)
from protocol.lifecycle import ActorState
from protocol.messages.actor import Hello, Ping
from protocol.messages.base import Operation, Role
from protocol.pending import OutgoingStream
from protocol.ports import Link, Listener, OnFrame, Transport
from tests.support.messages import Count, Counted, Look, Number, Said, Say, Told, Whisper
from tests.support.network import ACTOR, Network, Probe, Wire, knows
from tests.support.wirings import BOUND_S, WIRINGS, Wiring

T = TypeVar("T")

REQUEST, REPLY, ERROR = Kind.REQUEST, Kind.REPLY, Kind.ERROR


@pytest.fixture(params=WIRINGS)
def wiring(request: pytest.FixtureRequest) -> Iterator[Wiring]:
    wiring = WIRINGS[request.param]()
    yield wiring
    wiring.close()
    assert not wiring.complaints


async def soon(awaitable: Awaitable[T]) -> T:
    """What must come without anybody's deadline; a bound that is reached only when it does not."""
    return await asyncio.wait_for(awaitable, BOUND_S)


def start(work: Awaitable[T]) -> asyncio.Future[T]:
    return asyncio.ensure_future(work)


class Echo(Probe):
    """Answers what it was asked, one way or another."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @handles(Say)
    def say(self, message: Say) -> Said:
        return Said(text=message.text)

    @handles(Look)
    async def look(self, message: Look) -> Said:
        await asyncio.sleep(0)
        return Said(text=message.text)

    @handles(Whisper)
    def whisper(self, message: Whisper, request: Request) -> Said:
        return Said(text=f"{request.info} said {message.text}")

    @handles(Count)
    async def count(self, message: Count) -> AsyncGenerator[Number | Counted, None]:
        for number in range(message.upto):
            yield Number(number=number)
        yield Counted(total=message.upto)

    @handles(Told)
    def hear(self, message: Told) -> None:
        self.told.append(message.text)


class Held(Probe):
    """Holds every ask until it is let go, and notes how each began and ended."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.ended: list[str] = []
        self.began = asyncio.Event()
        self.over = asyncio.Event()
        self.let_go = asyncio.Event()

    @handles(Say)
    async def say(self, message: Say, request: Request) -> Said:
        await self._hold(request)
        return Said(text=message.text)

    @handles(Look)
    async def look(self, message: Look, request: Request) -> Said:
        await self._hold(request)
        return Said(text=message.text)

    @handles(Count)
    async def count(
        self, message: Count, request: Request
    ) -> AsyncGenerator[Number | Counted, None]:
        await self._hold(request)
        yield Counted()

    async def _hold(self, request: Request) -> None:
        self.requests.append(request)
        self.began.set()
        how = "cancelled"
        try:
            await self.let_go.wait()
            how = "done"
        finally:
            self.ended.append(how)
            self.over.set()


class Raising(Probe):
    """Raises one error in every kind of handler."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    @handles(Say)
    def say(self, message: Say) -> Said:
        raise self.error

    @handles(Look)
    async def look(self, message: Look) -> Said:
        raise self.error

    @handles(Count)
    async def count(self, message: Count) -> AsyncGenerator[Number | Counted, None]:
        for number in range(message.upto):
            yield Number(number=number)
        raise self.error

    @handles(Told)
    def hear(self, message: Told) -> None:
        raise self.error


class Counter(Probe):
    """Counts on and on; notes how far it came and that it was let go."""

    def __init__(self) -> None:
        self.made = 0
        self.reached: dict[int, asyncio.Event] = {}
        self.over = asyncio.Event()

    def made_it(self, number: int) -> asyncio.Event:
        return self.reached.setdefault(number, asyncio.Event())

    @handles(Count)
    async def count(self, message: Count) -> AsyncGenerator[Number | Counted, None]:
        try:
            for number in range(message.upto):
                self.made += 1
                self.made_it(self.made).set()
                yield Number(number=number)
            yield Counted(total=message.upto)
        finally:
            self.over.set()

    @handles(Say)
    def say(self, message: Say) -> Said:
        return Said(text=message.text)


class HeldCounter(Held):
    """Holds asks, and counts on and on."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = Counter()

    @handles(Count)
    async def count(
        self, message: Count, request: Request
    ) -> AsyncGenerator[Number | Counted, None]:
        async with contextlib.aclosing(self.counter.count(message)) as chunks:
            async for chunk in chunks:
                yield chunk


async def numbers(stream: OutgoingStream[Number, Counted]) -> list[int]:
    return [chunk.number async for chunk in stream]


async def read_until_it_breaks(
    stream: OutgoingStream[Number, Counted],
) -> tuple[list[int], NoyauError]:
    got: list[int] = []

    async def read() -> None:
        async for chunk in stream:
            got.append(chunk.number)

    with pytest.raises(NoyauError) as caught:
        await soon(read())
    return got, caught.value


# --- ask ------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [Say(text="hé 🌍"), Look(text="x")], ids=["plain", "coroutine"])
async def test_an_ask_gets_its_reply(wiring: Wiring, message: Say | Look) -> None:
    async with Network(wiring) as network:
        node = network.start(Echo())
        caller = await network.caller()
        assert await soon(caller.ask(ACTOR, message)) == Said(text=message.text)
        assert node.server.in_flight == 0
        assert node.server.counters().handled == 1
        assert node.server.counters().failed == node.server.counters().rejected == 0


async def test_each_of_many_asks_at_once_gets_its_own_reply(wiring: Wiring) -> None:
    class Reversing(Probe):
        """Answers the last one first."""

        def __init__(self) -> None:
            self.waiting: list[asyncio.Event] = []

        @handles(Say)
        async def say(self, message: Say) -> Said:
            mine = asyncio.Event()
            self.waiting.append(mine)
            if len(self.waiting) == 200:
                mine.set()
            await mine.wait()
            self.waiting.pop()
            if self.waiting:
                self.waiting[-1].set()
            return Said(text=message.text)

    async with Network(wiring) as network:
        network.start(Reversing())
        caller = await network.caller()
        asks = [caller.ask(ACTOR, Say(text=str(number))) for number in range(200)]
        replies = await soon(asyncio.gather(*asks))
        assert [reply.text for reply in replies] == [str(number) for number in range(200)]
        assert caller.late == 0


@pytest.mark.parametrize(
    "error",
    [
        NotFound("no such thing", name="x"),
        Overloaded("full", retry_after_s=0.5),
        OutcomeUnknown("perhaps"),
        EngineFailed("out of memory", device="gpu"),
        ActorDied("another one", actor="engine"),
    ],
    ids=lambda error: error.code,
)
async def test_an_error_comes_back_as_itself(wiring: Wiring, error: NoyauError) -> None:
    async with Network(wiring) as network:
        network.start(Raising(error))
        caller = await network.caller()
        messages: list[Say | Look] = [Say()]
        if not isinstance(error, ActorDied):
            # An idempotent ask is sent again when somebody died.
            messages.append(Look())
        for message in messages:
            with pytest.raises(type(error)) as caught:
                await soon(caller.ask(ACTOR, message))
            assert caught.value.message == error.message
            assert caught.value.details == error.details
        stream = await caller.stream(ACTOR, Count(upto=2))
        got, end = await read_until_it_breaks(stream)
        assert got == [0, 1]
        assert type(end) is type(error)
        assert end.details == error.details


async def test_what_a_handler_should_not_raise_is_an_internal_error_and_the_server_goes_on(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        owner = Raising(ZeroDivisionError("a defect"))
        node = network.start(owner)
        caller = await network.caller()
        for message in (Say(), Look()):
            with pytest.raises(InternalError, match=r"probe\.\w+ failed: ZeroDivisionError"):
                await soon(caller.ask(ACTOR, message))
        got, end = await read_until_it_breaks(await caller.stream(ACTOR, Count(upto=1)))
        assert got == [0]
        assert type(end) is InternalError
        assert node.server.counters().failed == 3
        assert node.server.in_flight == 0
        assert (await soon(caller.ask(ACTOR, Ping(payload=b"x")))).payload == b"x"


async def test_only_what_is_the_actor_s_own_fault_counts_as_failed(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        node = network.start(Raising(InvalidRequest("impossible")))
        caller = await network.caller()
        for message in (Say(), Look()):
            with pytest.raises(InvalidRequest):
                await soon(caller.ask(ACTOR, message))
        await soon(node.server.idle.wait())
        assert node.server.counters().handled == 2
        assert node.server.counters().failed == 0


async def test_an_operation_without_a_handler_is_unknown(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        node = network.start(Probe())
        caller = await network.caller()
        with pytest.raises(UnknownOperation, match=r"probe has no operation 'probe\.say'"):
            await soon(caller.ask(ACTOR, Say()))
        with pytest.raises(UnknownOperation):
            await soon(numbers(await caller.stream(ACTOR, Count())))
        assert node.server.counters().rejected == 2


async def test_an_invalid_body_is_refused_with_every_place(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        node = network.start(Echo())
        caller = await network.caller()
        with pytest.raises(InvalidMessage) as caught:
            await soon(caller.ask(ACTOR, Say.model_construct(text=5)))  # type: ignore[arg-type]
        assert [error["at"] for error in caught.value.details["errors"]] == ["text"]
        assert node.server.counters().rejected == 1
        assert node.server.counters().failed == 0


async def test_a_reply_that_does_not_validate_fails_the_ask(wiring: Wiring) -> None:
    class Wrong(Probe):
        @handles(Say)
        async def say(self, message: Say) -> Number:
            return Number(number=1)

    async with Network(wiring) as network:
        network.start(Wrong())
        caller = await network.caller()
        with pytest.raises(InvalidMessage, match="Said: text"):
            await soon(caller.ask(ACTOR, Say()))


@pytest.mark.parametrize("message", [Say(), Look()], ids=["plain", "coroutine"])
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Said(text="a lone surrogate \ud800"), InvalidMessage),
        (Said(text="x" * 20_000), FrameTooLarge),
        (object(), InvalidMessage),
    ],
    ids=["surrogate", "too large", "no message"],
)
async def test_a_reply_that_cannot_be_sent_is_an_error_and_not_silence(
    wiring: Wiring, message: Say | Look, reply: Any, expected: type[NoyauError]
) -> None:
    class Unsendable(Probe):
        @handles(Say)
        def say(self, message: Say) -> Any:
            return reply

        @handles(Look)
        async def look(self, message: Look) -> Any:
            return reply

    async with Network(wiring) as network:
        node = network.start(Unsendable(), codec=Codec(max_frame_bytes=10_000))
        caller = await network.caller()
        with pytest.raises(expected):
            await soon(caller.ask(ACTOR, message))
        await soon(node.server.idle.wait())
        assert node.server.counters().failed == 1


@pytest.mark.parametrize("message", [Say(), Look()], ids=["plain", "coroutine"])
@pytest.mark.parametrize(
    "error",
    [
        NotFound("no file \udcff here"),
        NotFound("x" * 20_000),
        NotFound("odd", where=object()),
        NotFound("long", names=["x" * 20_000]),
    ],
    ids=["surrogate", "too long", "unpackable detail", "long detail"],
)
async def test_an_error_that_cannot_be_sent_whole_keeps_its_class(
    wiring: Wiring, message: Say | Look, error: NoyauError
) -> None:
    async with Network(wiring) as network:
        node = network.start(Raising(error), codec=Codec(max_frame_bytes=10_000))
        caller = await network.caller()
        with pytest.raises(NotFound) as caught:
            await soon(caller.ask(ACTOR, message))
        assert caught.value.message[:3] == error.message[:3]
        await soon(node.server.idle.wait())
        assert node.server.in_flight == 0


async def test_a_reply_the_caller_cannot_read_fails_the_ask_at_once(wiring: Wiring) -> None:
    class Numbered(Probe):
        @handles(Say)
        def say(self, message: Say) -> Any:
            # Its names are not text: no body of any message.
            return {1: "one"}

        @handles(Look)
        def look(self, message: Look) -> Any:
            return Said(text="x" * 20_000)

    async with Network(wiring) as network:
        network.start(Numbered())
        caller = await network.caller(codec=Codec(max_frame_bytes=10_000))
        with pytest.raises(InvalidMessage):
            await soon(caller.ask(ACTOR, Say()))
        with pytest.raises(FrameTooLarge):
            await soon(caller.ask(ACTOR, Look()))


async def test_a_request_that_cannot_be_packed_is_refused_before_it_is_sent(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        node = network.start(Echo())
        caller = await network.caller(codec=Codec(max_frame_bytes=10_000))
        with pytest.raises(InvalidMessage):
            await soon(caller.ask(ACTOR, Say(text="\ud800")))
        with pytest.raises(FrameTooLarge):
            await soon(caller.ask(ACTOR, Say(text="x" * 20_000)))
        assert (await soon(caller.ask(ACTOR, Say(text="fine")))).text == "fine"
        assert node.server.counters().rejected == 0


async def test_a_request_larger_than_the_receiver_takes_is_refused_to_whom_it_concerns(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        network.start(Echo(), codec=Codec(max_frame_bytes=10_000))
        caller = await network.caller()
        with pytest.raises(FrameTooLarge) as caught:
            await soon(caller.ask(ACTOR, Say(text="x" * 20_000)))
        assert caught.value.details["limit"] == 10_000


# --- roles ----------------------------------------------------------------------------------


async def test_a_stranger_is_refused_what_only_actors_may(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        node = network.start(Echo())
        caller = await network.caller()
        with pytest.raises(NotAllowed, match="needs the role internal, this connection has oper"):
            await soon(caller.ask(ACTOR, Whisper(text="x")))
        assert node.server.counters().rejected == 1


async def test_an_actor_that_proves_it_is_one_is_allowed_and_known(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        network.start(Echo())
        caller = await network.caller(network.identity(epoch="7"))
        said = await soon(caller.ask(ACTOR, Whisper(text="psst")))
        assert said.text == "PeerInfo(name='asker', epoch='7') said psst"


async def test_a_wrong_secret_proves_nothing_and_is_counted(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        node = network.start(Echo())
        caller = await network.caller(network.identity(secret=b"of another boot"))
        with pytest.raises(NotAllowed):
            await soon(caller.ask(ACTOR, Whisper(text="x")))
        # The hello and the request.
        assert node.server.counters().rejected == 2
        assert (await soon(caller.ask(ACTOR, Say(text="still a stranger")))).text


async def test_a_wrong_secret_takes_back_what_a_right_one_gave(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        node = network.start(Echo())
        wire = network.wire(node)
        right = network.identity()
        hello = Hello(name=right.name, epoch=right.epoch, secret=right.secret)
        wire.send(Kind.EVENT, Hello.operation, hello)
        wire.send(REQUEST, Whisper.operation, Whisper())
        assert (await wire.next()).kind == REPLY
        wire.send(Kind.EVENT, Hello.operation, hello.model_copy(update={"secret": b"wrong"}))
        assert error_from_body((await wire.next()).body).code == "not_allowed"
        wire.send(REQUEST, Whisper.operation, Whisper())
        assert error_from_body((await wire.next()).body).code == "not_allowed"


async def test_strangers_may_be_given_less(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        node = network.start(Echo())
        node.server.peers.strangers = Role.OBSERVE
        caller = await network.caller()
        assert (await soon(caller.ask(ACTOR, Look(text="x")))).text == "x"
        with pytest.raises(NotAllowed, match="needs the role ask"):
            await soon(caller.ask(ACTOR, Say()))


# --- deadlines and cancelling ----------------------------------------------------------------


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
        for deadline_ms in (0, -1000):
            wire.send(REQUEST, Say.operation, Say(), deadline_ms=deadline_ms)
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


# --- streams --------------------------------------------------------------------------------


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


# --- a receiver that breaks the rules --------------------------------------------------------


class Script:
    """A receiver whose every answer the test gives; it notes what else the caller sends."""

    def __init__(self, network: Network) -> None:
        self.codec = Codec()
        self.notes: asyncio.Queue[Envelope] = asyncio.Queue()
        self.requests: asyncio.Queue[tuple[bytes, Envelope]] = asyncio.Queue()
        self.listener = network.listen(self._on_frame)

    def _on_frame(self, peer: bytes, frame: bytes) -> None:
        envelope = self.codec.decode(frame)
        if envelope.kind == REQUEST:
            self.requests.put_nowait((peer, envelope))
        else:
            self.notes.put_nowait(envelope)

    async def answer(self, *answers: tuple[Kind, int, object]) -> None:
        """Send these kinds, sequences and bodies to the next request."""
        peer, request = await soon(self.requests.get())
        for kind, sequence, body in answers:
            envelope = Envelope(request.id, kind, request.operation, sequence=sequence, body=body)
            self.listener.send(peer, self.codec.encode(envelope))


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


# --- death ----------------------------------------------------------------------------------


async def test_a_receiver_that_dies_mid_stream_ends_it_after_the_chunks_that_came(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        owner = Counter()
        node = network.start(owner)
        caller = await network.caller()
        stream = await caller.stream(ACTOR, Count(upto=10_000))
        first = await soon(stream.__anext__())
        await soon(owner.made_it(INITIAL_CREDIT).wait())
        await node.die()
        got, error = await read_until_it_breaks(stream)
        assert [first.number, *got] == list(range(1 + len(got)))
        assert type(error) is ActorDied
        assert error.details == {"actor": ACTOR, "epoch": "1"}
        assert not error.remote
        assert stream.end is None
        with pytest.raises(ActorDied):
            await soon(stream.__anext__())


async def test_a_receiver_that_dies_fails_all_that_was_asked_of_it_at_once(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Held()
        node = network.start(owner)
        caller = await network.caller()
        asks = [start(caller.ask(ACTOR, Say(), timeout_s=1000)) for _ in range(5)]
        await soon(owner.began.wait())
        await node.die()
        for ask in asks:
            with pytest.raises(ActorDied, match="probe died: "):
                await soon(ask)


async def test_the_supervisor_s_word_of_a_death_is_enough(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Held()
        network.start(owner)
        caller = await network.caller()
        deaths: list[tuple[str, str]] = []
        caller.on_death.append(lambda death: deaths.append((death.epoch, death.reason)))
        ask = start(caller.ask(ACTOR, Say(), timeout_s=1000))
        await soon(owner.began.wait())
        # It hangs: its sockets are still there.
        network.tell(state=ActorState.WAITING, reason="silent for 5 s")
        with pytest.raises(ActorDied, match="probe died: silent for 5 s"):
            await soon(ask)
        assert deaths == [("1", "silent for 5 s")]


async def test_an_idempotent_ask_is_sent_again_to_the_next_incarnation(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Held()
        node = network.start(owner, epoch="1")
        caller = await network.caller()
        ask = start(caller.ask(ACTOR, Look(text="again")))
        await soon(owner.began.wait())
        await node.die()
        network.tell(state=ActorState.WAITING, reason="killed")
        echo = Echo()
        network.start(echo, epoch="2")
        assert (await soon(ask)).text == "again"


async def test_an_ask_that_is_not_idempotent_is_never_sent_again(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        first, second = Held(), Held()
        node = network.start(first, epoch="1")
        caller = await network.caller()
        ask = start(caller.ask(ACTOR, Say()))
        await soon(first.began.wait())
        await node.die()
        network.start(second, epoch="2")
        with pytest.raises(ActorDied):
            await soon(ask)
        await soon(knows(caller, lambda entries: entries[ACTOR].epoch == "2"))
        assert (await soon(caller.ask(ACTOR, Ping()))).name == ACTOR
        assert second.requests == []


async def test_the_late_reply_of_a_dead_incarnation_has_no_way_in(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        old, new = Held(), Held()
        network.start(old, epoch="1")
        caller = await network.caller()
        ask = start(caller.ask(ACTOR, Look(text="x")))
        await soon(old.began.wait())
        # The old process was declared dead but still answers.
        network.start(new, epoch="2")
        await soon(new.began.wait())
        old.let_go.set()
        await soon(old.over.wait())
        assert (await soon(caller.ask(ACTOR, Ping()))).name == ACTOR
        assert not ask.done()
        assert caller.late == 0
        new.let_go.set()
        assert (await soon(ask)).text == "x"


async def test_a_dead_asker_has_its_conversations_cancelled_and_nobody_else_s(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        owner = Held()
        node = network.start(owner)
        dying = await network.caller(network.identity(epoch="7"))
        living = await network.caller(network.identity(epoch="8"))
        stranger = await network.caller()
        asks = [start(caller.ask(ACTOR, Say(text="x"))) for caller in (dying, living, stranger)]
        while len(owner.requests) < 3:
            owner.began.clear()
            await soon(owner.began.wait())
        node.server.peer_died("7")
        await soon(owner.over.wait())
        assert owner.ended == ["cancelled"]
        assert node.server.in_flight == 2
        owner.let_go.set()
        for ask in asks[1:]:
            assert (await soon(ask)).text == "x"
        assert not asks[0].done()
        asks[0].cancel()


async def test_without_its_supervisor_a_process_takes_everybody_for_dead(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Held()
        network.start(owner)
        caller = await network.caller()
        lost: list[str] = []
        caller.on_supervisor_lost.append(lost.append)
        ask = start(caller.ask(ACTOR, Say(), timeout_s=1000))
        await soon(owner.began.wait())
        await network.supervisor.die()
        with pytest.raises(ActorDied, match="the supervisor is gone"):
            await soon(ask)
        assert len(lost) == 1


async def test_a_caller_finds_the_next_supervisor_and_goes_on(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        network.start(Echo())
        caller = await network.caller()
        await network.supervisor.die()
        await soon(knows(caller, lambda entries: not entries))
        ask = start(caller.ask(ACTOR, Say(text="patience")))
        network.start_supervisor("2")
        assert (await soon(ask)).text == "patience"


# --- who is there ---------------------------------------------------------------------------


async def test_an_ask_waits_for_its_actor_to_be_ready(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        node = network.start(Echo(), announced=ActorState.STARTING)
        caller = await network.caller()
        ask = start(caller.ask(ACTOR, Say(text="x")))
        await soon(knows(caller, lambda entries: ACTOR in entries))
        assert not ask.done()
        network.announce(node)
        assert (await soon(ask)).text == "x"


async def test_an_actor_that_is_not_ready_in_time_is_unavailable(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        network.tell(state=ActorState.STARTING, epoch="1", reason="loading the model")
        caller = await network.caller()
        await soon(knows(caller, lambda entries: ACTOR in entries))
        with pytest.raises(ActorUnavailable, match=r"still starting.*loading the model"):
            await soon(caller.ask(ACTOR, Say(), timeout_s=0.01))


async def test_an_actor_that_will_not_come_back_is_unavailable_at_once(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        network.tell(state=ActorState.FAILED, reason="crashed 5 times")
        caller = await network.caller()
        await soon(knows(caller, lambda entries: ACTOR in entries))
        with pytest.raises(ActorUnavailable, match="failed: crashed 5 times"):
            await soon(caller.ask(ACTOR, Say(), timeout_s=1000))


async def test_an_actor_nobody_knows_is_not_found(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        caller = await network.caller()
        with pytest.raises(NotFound, match="no actor 'nobody'"):
            await soon(caller.ask("nobody", Say(), timeout_s=1000))


# --- what travels with a request --------------------------------------------------------------


async def test_what_a_handler_asks_inherits_correlation_deadline_and_priority(
    wiring: Wiring,
) -> None:
    class Middle(Probe):
        """Asks the next one, and knows nothing of contexts."""

        def __init__(self) -> None:
            self.caller: Caller | None = None

        @handles(Say)
        async def say(self, message: Say) -> Said:
            assert self.caller is not None
            if message.text == "stream":
                stream = await self.caller.stream("inner", Count(upto=1), timeout_s=1000)
                assert await numbers(stream) == [0]
                return Said(text="")
            # Its own, longer deadline cannot outlive the one it works under.
            return await self.caller.ask("inner", Look(), timeout_s=1000)

    class Inner(Probe):
        @handles(Look)
        def look(self, message: Look, request: Request) -> Said:
            seen.append(request.context)
            return Said(text="")

        @handles(Count)
        async def count(
            self, message: Count, request: Request
        ) -> AsyncGenerator[Number | Counted, None]:
            seen.append(request.context)
            yield Number(number=0)
            yield Counted()

    seen: list[CallContext] = []
    async with Network(wiring) as network:
        # One clock for all: deadlines can be compared.
        clock, middle = ManualClock(100.0), Middle()
        node = network.start(middle, clock=clock)
        inner = network.start(Inner(), epoch="inner", announced=None, clock=clock)
        network.everybody.put(
            network.everybody.entries[ACTOR].model_copy(
                update={"name": "inner", "endpoint": inner.endpoint}
            )
        )
        middle.caller = await network.caller(clock=clock)
        wire = network.wire(node)
        root = new_id()
        for text in ("ask", "stream"):
            wire.send(
                REQUEST, Say.operation, Say(text=text),
                correlation=root, deadline_ms=5000, priority=int(Priority.HIGH),
            )  # fmt: skip
            assert (await wire.next()).kind == REPLY
        assert len(seen) == 2
        for context in seen:
            assert context.correlation == root
            assert context.priority == Priority.HIGH
            assert context.deadline == pytest.approx(105.0, abs=0.002)


async def test_handlers_at_work_at_the_same_time_have_contexts_of_their_own(
    wiring: Wiring,
) -> None:
    class Contextual(Held):
        @handles(Say)
        async def say(self, message: Say, request: Request) -> Said:
            await self._hold(request)
            context = CURRENT.get()
            assert context is not None
            return Said(text=context.correlation.hex())

    async with Network(wiring) as network:
        owner = Contextual()
        node = network.start(owner)
        wire = network.wire(node)
        roots = {
            wire.send(REQUEST, Say.operation, Say(), correlation=r): r for r in (new_id(), new_id())
        }
        while len(owner.requests) < 2:
            owner.began.clear()
            await soon(owner.began.wait())
        owner.let_go.set()
        for _ in range(2):
            answer = await wire.next()
            assert answer.body["text"] == roots[answer.id].hex()
        assert CURRENT.get() is None


async def test_an_ask_outside_of_any_request_is_the_root_of_its_work(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        script = Script(network)
        caller = await network.caller(network.identity(epoch="7"))
        ask = start(caller.ask(ACTOR, Say(), timeout_s=50, idempotency_key="once"))
        _, request = await soon(script.requests.get())
        assert request.correlation == request.id
        assert request.deadline_ms is not None
        assert 0 < request.deadline_ms <= 50_000
        assert request.priority == Priority.NORMAL
        assert request.idempotency_key == "once"
        assert (request.source, request.epoch, request.target) == ("asker", "7", ACTOR)
        ask.cancel()


# --- the server's door ------------------------------------------------------------------------


@pytest.mark.parametrize("state", [state for state in ActorState if state is not ActorState.READY])
async def test_an_actor_that_is_not_ready_refuses_all_but_what_it_always_answers(
    wiring: Wiring, state: ActorState
) -> None:
    async with Network(wiring) as network:
        now = [state]
        node = network.start(Echo(), state=lambda: now[0])
        caller = await network.caller()
        assert (await soon(caller.ask(ACTOR, Ping(payload=b"x")))).payload == b"x"
        with pytest.raises(ActorUnavailable, match=f"probe is {state}") as caught:
            await soon(caller.ask(ACTOR, Say()))
        assert caught.value.details == {"name": ACTOR}
        with pytest.raises(ActorUnavailable):
            await soon(numbers(await caller.stream(ACTOR, Count())))
        assert node.server.counters().rejected == 2
        now[0] = ActorState.READY
        assert (await soon(caller.ask(ACTOR, Say(text="x")))).text == "x"


async def test_an_id_that_is_open_already_is_refused_and_the_first_goes_on(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Held()
        node = network.start(owner)
        wire = network.wire(node)
        request = wire.send(REQUEST, Say.operation, Say(text="first"))
        wire.send(REQUEST, Say.operation, Say(text="second"), id=request)
        refused = await wire.next()
        assert (refused.id, refused.kind) == (request, ERROR)
        assert "open already" in error_from_body(refused.body).message
        owner.let_go.set()
        reply = await wire.next()
        assert (reply.kind, reply.body) == (REPLY, {"text": "first"})
        assert owner.ended == ["done"]


async def test_nobody_can_touch_a_conversation_of_another_connection(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Held()
        node = network.start(owner)
        mine, theirs = network.wire(node), network.wire(node)
        request = mine.send(REQUEST, Say.operation, Say(text="mine"))
        await soon(owner.began.wait())
        theirs.send(Kind.CANCEL, Say.operation, id=request)
        theirs.send(REQUEST, Say.operation, Say(text="theirs"), id=request)
        assert await theirs.before() == []
        assert node.server.in_flight == 2
        owner.let_go.set()
        assert (await mine.next()).body == {"text": "mine"}
        assert (await theirs.next()).body == {"text": "theirs"}
        assert node.server.counters().late == 1


async def test_too_many_open_conversations_of_one_connection_are_overload(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Held()
        node = network.start(owner, max_open_per_peer=3)
        caller, other = await network.caller(), await network.caller()
        asks = [start(caller.ask(ACTOR, Say(text="x"))) for _ in range(3)]
        while len(owner.requests) < 3:
            owner.began.clear()
            await soon(owner.began.wait())
        with pytest.raises(Overloaded) as caught:
            await soon(caller.ask(ACTOR, Say()))
        assert caught.value.details["retry_after_s"] > 0
        asks.append(start(other.ask(ACTOR, Say(text="x"))))
        asks[0].cancel()
        await soon(owner.over.wait())
        assert (await soon(caller.ask(ACTOR, Ping()))).name == ACTOR
        asks.append(start(caller.ask(ACTOR, Say(text="x"))))
        while len(owner.requests) < 5:
            owner.began.clear()
            await soon(owner.began.wait())
        owner.let_go.set()
        for ask in asks[1:]:
            assert (await soon(ask)).text == "x"
        assert node.server.counters().rejected == 1


def broken_frames() -> dict[str, tuple[bytes, bytes, str]]:
    """Frames, the id that can be read in them, and the code of their refusal."""
    one = new_id()
    good = Codec().encode(Envelope(one, REQUEST, Say.operation, body={"text": "x"}))
    large = Codec().encode(Envelope(one, REQUEST, Say.operation, body={"text": "x" * 20_000}))
    return {
        "nothing": (b"", NO_ID, "malformed_frame"),
        "noise": (b"GET / HTTP/1.1\r\n", NO_ID, "malformed_frame"),
        "head only": (PREFIX, NO_ID, "malformed_frame"),
        "cut off": (good[:-3], one, "malformed_frame"),
        "too long": (good + b"\x00", one, "malformed_frame"),
        "another version": (PREFIX[:1] + b"\x02" + good[2:], one, "unsupported_version"),
        "too large": (large, one, "frame_too_large"),
    }


@pytest.mark.parametrize("name", broken_frames())
async def test_a_broken_frame_gets_a_typed_error_and_the_server_goes_on(
    wiring: Wiring, name: str
) -> None:
    async with Network(wiring) as network:
        node = network.start(Echo(), codec=Codec(max_frame_bytes=10_000))
        wire = network.wire(node)
        frame, identifier, code = broken_frames()[name]
        wire.link.send(frame)
        refusal = await wire.next()
        assert refusal.kind == ERROR
        assert refusal.body["code"] == code
        # Ids differ from call to call; none is none.
        assert (refusal.id == NO_ID) is (identifier == NO_ID)
        assert node.server.counters().rejected == 1
        wire.send(REQUEST, Say.operation, Say(text="fine"))
        assert (await wire.next()).body == {"text": "fine"}


@pytest.mark.parametrize("kind", [Kind.REPLY, Kind.CHUNK, Kind.END, Kind.ERROR])
async def test_an_answer_nobody_asked_for_is_refused(wiring: Wiring, kind: Kind) -> None:
    async with Network(wiring) as network:
        node = network.start(Echo())
        wire = network.wire(node)
        sent = wire.send(kind, Say.operation, {"text": "x"})
        refusal = await wire.next()
        assert (refusal.id, refusal.kind, refusal.body["code"]) == (sent, ERROR, "malformed_frame")
        assert node.server.counters().rejected == 1


@pytest.mark.parametrize("message", [Say(), Look(), Count()], ids=lambda one: one.operation)
async def test_a_request_told_as_an_event_is_refused_and_not_run(
    wiring: Wiring, message: Operation
) -> None:
    class Never(Echo):
        @handles(Say)
        def say(self, message: Say) -> Said:
            raise AssertionError("nobody would get the answer")

    async with Network(wiring) as network:
        node = network.start(Never())
        wire = network.wire(node)
        for kind in (Kind.EVENT, Kind.HEARTBEAT):
            wire.send(kind, message.operation, message)
            refusal = await wire.next()
            assert (refusal.kind, refusal.body["code"]) == (ERROR, "malformed_frame")
        assert node.server.counters().rejected == 2
        assert node.server.counters().failed == 0


async def test_an_event_sent_as_a_request_is_refused_and_not_run(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Echo()
        wire = network.wire(network.start(owner))
        wire.send(REQUEST, Told.operation, Told(text="x"))
        refusal = await wire.next()
        assert (refusal.kind, refusal.body["code"]) == (ERROR, "malformed_frame")
        assert owner.told == []


async def test_an_operation_of_endless_length_is_refused_with_a_short_error(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        node = network.start(Echo(), codec=Codec(max_frame_bytes=10_000))
        wire = network.wire(node)
        sent = wire.send(REQUEST, "x" * 9_000)
        refusal = await wire.next()
        assert (refusal.id, refusal.kind) == (sent, ERROR)
        assert type(error_from_body(refusal.body)) is UnknownOperation
        assert node.server.counters().rejected == 1
        wire.send(REQUEST, Say.operation, Say(text="fine"))
        assert (await wire.next()).body == {"text": "fine"}


async def test_events_are_heard_and_one_that_cannot_be_handled_ends_nothing(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        owner = Echo()
        node = network.start(owner)
        wire = network.wire(node)
        wire.send(Kind.EVENT, Told.operation, Told(text="x"))
        wire.send(Kind.EVENT, Told.operation, {"text": "x" * 101})
        (refusal,) = await wire.before()
        assert refusal.body["code"] == "invalid_message"
        assert owner.told == ["x"]
        assert node.server.counters().rejected == 1

        failing = network.start(Raising(ZeroDivisionError("a defect")), epoch="2")
        wire = network.wire(failing)
        wire.send(Kind.EVENT, Told.operation, Told(text="x"))
        assert await wire.before() == []
        assert failing.server.counters().failed == 1


# --- hooks ----------------------------------------------------------------------------------


class Seen(Hooks):
    """Notes what it was shown."""

    def __init__(self) -> None:
        self.before: list[type[Operation]] = []
        self.after: list[tuple[type[Operation], NoyauError | None]] = []
        self.refused: list[str] = []

    def before_handle(self, request: Request, message: Operation) -> None:
        if not isinstance(message, Ping):
            self.before.append(type(message))

    def after_handle(self, request: Request, message: Operation, error: NoyauError | None) -> None:
        if not isinstance(message, Ping):
            self.after.append((type(message), error))

    def on_refused(self, peer: bytes, error: NoyauError) -> None:
        self.refused.append(error.code)


class Broken(Hooks):
    """A hook with a defect at every point."""

    def before_handle(self, request: Request, message: Operation) -> None:
        raise ValueError("a defect")

    def after_handle(self, request: Request, message: Operation, error: NoyauError | None) -> None:
        raise ValueError("a defect")

    def on_refused(self, peer: bytes, error: NoyauError) -> None:
        raise ValueError("a defect")


async def test_hooks_see_every_conversation_and_one_that_raises_does_no_harm(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        seen = Seen()
        node = network.start(Echo(), hooks=[Broken(), seen])
        caller = await network.caller()
        assert (await soon(caller.ask(ACTOR, Say(text="x")))).text == "x"
        assert (await soon(caller.ask(ACTOR, Look(text="x")))).text == "x"
        assert await soon(numbers(await caller.stream(ACTOR, Count(upto=3)))) == [0, 1, 2]
        with pytest.raises(NotAllowed):
            await soon(caller.ask(ACTOR, Whisper()))
        await soon(node.server.idle.wait())
        assert seen.before == [Say, Look, Count]
        assert seen.after == [(Say, None), (Look, None), (Count, None)]
        assert seen.refused == ["not_allowed"]


async def test_hooks_are_told_what_a_conversation_ended_in(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        seen = Seen()
        node = network.start(Raising(NotFound("x")), hooks=[seen])
        caller = await network.caller()
        for message in (Say(), Look()):
            with pytest.raises(NotFound):
                await soon(caller.ask(ACTOR, message))
        await soon(node.server.idle.wait())
        assert [(cls, type(error)) for cls, error in seen.after] == [
            (Say, NotFound),
            (Look, NotFound),
        ]

        held = Held()
        node = network.start(held, epoch="2", hooks=[seen])
        seen.after.clear()
        await soon(knows(caller, lambda entries: entries[ACTOR].epoch == "2"))
        ask = start(caller.ask(ACTOR, Say()))
        await soon(held.began.wait())
        ask.cancel()
        await soon(node.server.idle.wait())
        assert [(cls, type(error)) for cls, error in seen.after] == [(Say, Cancelled)]


# --- stopping -------------------------------------------------------------------------------


async def test_a_server_that_stops_ends_what_is_open_and_answers_nothing_more(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        owner = HeldCounter()
        node = network.start(owner)
        caller = await network.caller()
        ask = start(caller.ask(ACTOR, Say(), timeout_s=1000))
        stream = await caller.stream(ACTOR, Count(upto=1000))
        await soon(owner.began.wait())
        await soon(owner.counter.made_it(INITIAL_CREDIT + 1).wait())
        await soon(node.server.stop())
        with pytest.raises(ActorUnavailable, match="probe is stopping"):
            await soon(ask)
        got, error = await read_until_it_breaks(stream)
        assert got == list(range(INITIAL_CREDIT))
        assert type(error) is ActorUnavailable
        assert owner.ended == ["cancelled"]
        assert node.server.in_flight == 0
        assert node.server.idle.is_set()
        counted = node.server.counters()
        ping = Envelope(new_id(), REQUEST, Ping.operation, body={})
        for frame in (Codec().encode(ping), b"no envelope at all"):
            node.server.on_frame(b"somebody", frame)
        assert node.server.counters() == counted


async def test_a_server_that_stops_ends_also_what_had_not_begun(wiring: Wiring) -> None:
    class StopsAtTheThird(Seen):
        """Has the server stop in the moment in which the third request arrived."""

        stopping: asyncio.Task[None] | None = None

        def before_handle(self, request: Request, message: Operation) -> None:
            super().before_handle(request, message)
            if len(self.before) == 3:
                self.stopping = asyncio.get_running_loop().create_task(node.server.stop())

    async with Network(wiring) as network:
        seen = StopsAtTheThird()
        node = network.start(Held(), hooks=[seen])
        wire = network.wire(node)
        sent = [wire.send(REQUEST, Say.operation, Say()) for _ in range(3)]
        refused = [await wire.next() for _ in sent]
        assert {one.id for one in refused} == {*sent}
        assert {one.body["code"] for one in refused} == {"actor_unavailable"}
        assert seen.stopping is not None
        await soon(seen.stopping)
        assert node.server.in_flight == 0
        assert [type(error) for _, error in seen.after] == [ActorUnavailable] * 3


# --- a full queue at the wrong moment ----------------------------------------------------------


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

    def send(self, frame: bytes) -> None:
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
