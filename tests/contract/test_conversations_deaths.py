"""Deaths: whoever waits for a dead process is told at once, and finds its next incarnation.

Between a `Caller` and a `Server`, over every transport.
"""

from __future__ import annotations

import asyncio

import pytest

from actors.kernel import serving
from protocol.codec import Codec
from protocol.conversation import INITIAL_CREDIT
from protocol.envelope import NO_ID, NOTHING, Envelope, Kind, new_id
from protocol.errors import (
    ActorDied,
    ActorUnavailable,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    Poisoned,
)
from protocol.lifecycle import ActorState
from protocol.messages.actor import Farewell, Ping
from protocol.ports import Peer
from tests.support.messages import Count, Launch, Look, Said, Say
from tests.support.network import ACTOR, Network, Node, knows
from tests.support.owners import (
    Counter,
    Echo,
    Held,
    Script,
    read_until_it_breaks,
    soon,
    start,
)
from tests.support.wirings import Wiring

REQUEST, REPLY, ERROR = Kind.REQUEST, Kind.REPLY, Kind.ERROR


# --- death -------------------------------------------------------------------------------------
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


async def test_an_idempotent_ask_that_two_died_over_is_not_sent_a_third_time(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        network.tell(state=ActorState.STARTING)
        caller = await network.caller()
        first, second, third = Held(), Held(), Held()
        ask = start(caller.ask(ACTOR, Look(text="poison")))
        for epoch, owner in (("1", first), ("2", second)):
            node = network.start(owner, epoch=epoch)
            await soon(owner.began.wait())
            await node.die()
            network.tell(state=ActorState.WAITING, reason="killed")
        network.start(third, epoch="3")
        with pytest.raises(Poisoned, match=r"probe died 2 times.*`noyau logs probe`") as caught:
            await soon(ask)
        assert caught.value.details == {"deaths": [f"{ACTOR}.1", f"{ACTOR}.2"]}
        await soon(knows(caller, lambda entries: entries[ACTOR].epoch == "3"))
        assert (await soon(caller.ask(ACTOR, Ping()))).name == ACTOR
        assert third.requests == []


async def test_an_ask_that_two_spawners_took_its_receivers_away_from_is_sent_a_third_time(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        network.tell(state=ActorState.STARTING)
        caller = await network.caller()
        ask = start(caller.ask(ACTOR, Look(text="no poison")))
        for epoch in ("boot-1-3", "boot-2-9"):
            owner = Held()
            node = network.start(owner, epoch=epoch)
            await soon(owner.began.wait())
            await node.die()
            network.tell(state=ActorState.WAITING, reason="died with the spawner")
        network.start(Echo(), epoch="boot-3-15")
        assert (await soon(ask)).text == "no poison"


async def test_an_ask_that_is_to_be_sent_once_is_not_sent_again(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        owner = Held()
        node = network.start(owner)
        caller = await network.caller()
        ask = start(caller.ask(ACTOR, Look(), again=False))
        await soon(owner.began.wait())
        await node.die()
        with pytest.raises(ActorDied) as caught:
            await soon(ask)
        assert caught.value.process == f"{ACTOR}.1"


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


# --- who is there ------------------------------------------------------------------------------
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


async def test_what_a_client_asked_for_that_is_gone_is_not_worked_on_any_more(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "PROBE_S", 0.05)
    async with Network(wiring) as network:
        counter, transport = Counter(), wiring.transport()
        node = network.start(counter)
        # It reads nothing, so no chunk beyond the first credit is ever sent.
        link = transport.connect(node.endpoint, lambda frame: None, lambda reason: None)
        request = Envelope(new_id(), REQUEST, Count.operation, body=Count(upto=10_000))
        link.send(Codec().encode(request))
        await soon(counter.made_it(INITIAL_CREDIT).wait())
        assert node.server.in_flight == 1
        link.close()
        await soon(node.server.idle.wait())
        await soon(counter.over.wait())


async def test_a_client_that_is_there_is_looked_for_and_its_answer_comes(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "PROBE_S", 0.001)
    async with Network(wiring) as network:
        owner, came = Held(), asyncio.Queue[bytes]()
        node = network.start(owner)
        link = wiring.transport().connect(node.endpoint, came.put_nowait, lambda reason: None)
        link.send(Codec().encode(Envelope(new_id(), REQUEST, Say.operation, body=Say(text="yes"))))
        for _ in range(3):
            assert await soon(came.get()) == NOTHING
        owner.let_go.set()
        while (frame := await soon(came.get())) == NOTHING:
            continue
        assert Codec().decode(frame).body == {"text": "yes"}


async def launching(network: Network) -> tuple[Node, asyncio.Future[Said]]:
    """An actor that has something in hand which acts outside, and what its caller waits for."""
    owner = Held()
    node = network.start(owner)
    caller = await network.caller()
    asking = start(caller.ask(ACTOR, Launch()))
    await soon(owner.began.wait())
    return node, asking


async def test_what_acts_outside_has_an_unknown_outcome_when_its_receiver_dies_over_it(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        node, asking = await launching(network)
        await node.die()
        following = Held()
        network.start(following, epoch="2")
        with pytest.raises(OutcomeUnknown, match=r"probe\.launch.*look before you ask again"):
            await soon(asking)
        # The next one answers, and was not asked: only the caller can know whether to do it again.
        following.let_go.set()
        caller = await network.caller()
        await soon(caller.ask(ACTOR, Ping()))
        assert following.requests == []


async def test_what_acts_outside_has_an_unknown_outcome_when_its_receiver_stops_in_the_middle(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        node, asking = await launching(network)
        await node.server.stop()
        with pytest.raises(OutcomeUnknown, match="is stopping"):
            await soon(asking)


async def test_what_acts_outside_is_asked_again_where_nothing_of_it_was_begun(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        states = [ActorState.DRAINING, ActorState.READY]
        owner = Held()
        owner.let_go.set()
        network.start(owner, state=lambda: states.pop(0) if len(states) > 1 else states[0])
        caller = await network.caller()
        assert (await soon(caller.ask(ACTOR, Launch()))).text == "launched"


# --- a farewell --------------------------------------------------------------------------------


async def test_what_acts_outside_and_crosses_with_a_farewell_is_asked_of_the_next_one(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        leaving = Script(network)
        caller = await network.caller()
        asking = start(caller.ask(ACTOR, Launch()))
        peer, _ = await soon(leaving.requests.get())
        farewell = Envelope(NO_ID, Kind.EVENT, Farewell.operation)
        leaving.listener.send(peer, Codec().encode(farewell))
        following = Held()
        following.let_go.set()
        network.start(following, epoch="2")
        assert (await soon(asking)).text == "launched"
        assert caller.late == 0


async def test_who_ends_in_order_says_farewell_to_those_who_asked_it_something(
    wiring: Wiring,
) -> None:
    async with Network(wiring) as network:
        leaving, following = Held(), Held()
        node = network.start(leaving, epoch="1")
        caller = await network.caller()
        await soon(caller.ask(ACTOR, Ping()))
        await node.server.stop()
        asking = start(caller.ask(ACTOR, Launch()))
        following.let_go.set()
        network.start(following, epoch="2")
        assert (await soon(asking)).text == "launched"
        assert leaving.requests == []


async def test_whoever_lost_an_answer_by_a_full_queue_is_told_no_farewell(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take the request that was done for one that nobody read."""
    async with Network(wiring) as network:
        node = network.start(Echo())
        losing, other = network.wire(node), network.wire(node)
        for wire in (losing, other):
            wire.send(REQUEST, Ping.operation, Ping())
            assert (await wire.next()).kind == REPLY
        send, full = node.listener.send, [True]

        def once_full(peer: Peer, frame: bytes) -> None:
            if full and Codec().decode(frame).kind == REPLY:
                full.pop()
                raise Overloaded("its queue is full")
            send(peer, frame)

        monkeypatch.setattr(node.listener, "send", once_full)
        losing.send(REQUEST, Ping.operation, Ping())
        # What it asks next is answered: it is there, and reads.
        assert [one.kind for one in await losing.before()] == []
        await node.server.stop()
        assert (await other.next()).operation == Farewell.operation
        node.listener.close()
        await soon(losing.lost.wait())
        assert losing.waiting == 0
