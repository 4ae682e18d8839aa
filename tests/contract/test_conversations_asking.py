"""Asks: exactly one reply, or exactly one typed error; and who may ask what.

Between a `Caller` and a `Server`, over every transport.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.kernel.handlers import handles
from protocol.codec import Codec
from protocol.envelope import Kind
from protocol.errors import (
    ActorDied,
    ActorUnavailable,
    EngineFailed,
    FrameTooLarge,
    InternalError,
    InvalidMessage,
    InvalidRequest,
    NotAllowed,
    NotFound,
    NoyauError,
    OutcomeUnknown,
    Overloaded,
    UnknownOperation,
    error_from_body,
)
from protocol.messages.actor import Hello, Ping
from protocol.messages.base import Role
from tests.support.messages import Count, Look, Number, Said, Say, Whisper
from tests.support.network import ACTOR, Network, Probe
from tests.support.owners import (
    Echo,
    Raising,
    numbers,
    read_until_it_breaks,
    soon,
)
from tests.support.wirings import Wiring

REQUEST, REPLY, ERROR = Kind.REQUEST, Kind.REPLY, Kind.ERROR


# --- ask ---------------------------------------------------------------------------------------
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


# --- roles -------------------------------------------------------------------------------------
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


async def test_what_an_actor_refuses_to_begin_is_no_failure_of_its_own(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        refusal = ActorUnavailable("not yet", name=ACTOR, refused=True)
        node = network.start(Raising(refusal))
        wire = network.wire(node)
        for message in (Say(), Look()):
            wire.send(REQUEST, message.operation, message)
            assert type(error_from_body((await wire.next()).body)) is ActorUnavailable
        await soon(node.server.idle.wait())
        assert node.server.counters().failed == 0
        assert node.server.counters().handled == 2
