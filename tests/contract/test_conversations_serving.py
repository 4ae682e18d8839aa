"""The server's side: what it lets in, whom it tells, and how it stops.

Between a `Caller` and a `Server`, over every transport.
"""

from __future__ import annotations

import asyncio

import pytest

from actors.kernel.handlers import handles
from actors.kernel.hooks import Hooks
from actors.kernel.request import Request
from protocol.codec import Codec
from protocol.conversation import INITIAL_CREDIT
from protocol.envelope import NO_ID, PREFIX, Envelope, Kind, new_id
from protocol.errors import (
    ActorUnavailable,
    Cancelled,
    DeadlineExceeded,
    NotAllowed,
    NotFound,
    NoyauError,
    Overloaded,
    UnknownOperation,
    error_from_body,
)
from protocol.lifecycle import ActorState
from protocol.messages.actor import Ping
from protocol.messages.base import Operation
from protocol.ports import Peer
from tests.support.messages import Count, Look, Said, Say, Told, Whisper
from tests.support.network import ACTOR, Network, knows
from tests.support.owners import (
    Echo,
    Held,
    HeldCounter,
    Raising,
    Seen,
    numbers,
    read_until_it_breaks,
    soon,
    start,
)
from tests.support.waiting import eventually
from tests.support.wirings import Wiring

REQUEST, REPLY, ERROR = Kind.REQUEST, Kind.REPLY, Kind.ERROR


# --- the server's door -------------------------------------------------------------------------
@pytest.mark.parametrize("state", [state for state in ActorState if state is not ActorState.READY])
async def test_an_actor_that_is_not_ready_refuses_all_but_what_it_always_answers(
    wiring: Wiring, state: ActorState
) -> None:
    async with Network(wiring) as network:
        now = [state]
        node = network.start(Echo(), state=lambda: now[0])
        caller = await network.caller()
        assert (await soon(caller.ask(ACTOR, Ping(payload=b"x")))).payload == b"x"
        wire = network.wire(node)
        wire.send(REQUEST, Say.operation, Say())
        refused = error_from_body((await wire.next()).body)
        assert isinstance(refused, ActorUnavailable)
        assert refused.message == f"probe is {state}"
        assert refused.details == {"name": ACTOR, "refused": True}
        with pytest.raises(ActorUnavailable):
            await soon(numbers(await caller.stream(ACTOR, Count())))
        assert node.server.counters().rejected == 2


async def test_what_was_refused_is_asked_again_as_nothing_of_it_was_begun(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        now = [ActorState.DRAINING]
        node = network.start(Echo(), state=lambda: now[0])
        caller = await network.caller()
        asking = start(caller.ask(ACTOR, Say(text="x")))
        await eventually(lambda: node.server.counters().rejected >= 2)
        now[0] = ActorState.READY
        assert (await soon(asking)).text == "x"


async def test_what_was_refused_until_its_deadline_is_told_so(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        network.start(Echo(), state=lambda: ActorState.DRAINING)
        caller = await network.caller()
        with pytest.raises((ActorUnavailable, DeadlineExceeded)):
            await soon(caller.ask(ACTOR, Say(text="x"), timeout_s=0.3))


async def test_work_that_is_given_up_ends_with_an_error_and_the_next_is_taken(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        owner = Held()
        node = network.start(owner)
        caller = await network.caller()
        asking = start(caller.ask(ACTOR, Say(text="x")))
        await soon(owner.began.wait())
        assert node.server.give_up() == 1
        with pytest.raises(ActorUnavailable, match="gave this up"):
            await soon(asking)
        owner.let_go.set()
        assert (await soon(caller.ask(ACTOR, Say(text="y")))).text == "y"


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


# --- hooks -------------------------------------------------------------------------------------
class Broken(Hooks):
    """A hook with a defect at every point."""

    def before_handle(self, request: Request, message: Operation) -> None:
        raise ValueError("a defect")

    def after_handle(self, request: Request, message: Operation, error: NoyauError | None) -> None:
        raise ValueError("a defect")

    def on_refused(self, peer: Peer, error: NoyauError) -> None:
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


# --- stopping ----------------------------------------------------------------------------------
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
