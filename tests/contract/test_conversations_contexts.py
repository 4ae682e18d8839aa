"""What travels with a request to every process that works for it.

Between a `Caller` and a `Server`, over every transport.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from actors.kernel.handlers import handles
from actors.kernel.request import Request
from protocol.caller import Caller
from protocol.clock import ManualClock
from protocol.context import CURRENT, CallContext
from protocol.envelope import Kind, Priority, new_id
from tests.support.messages import Count, Counted, Look, Number, Said, Say
from tests.support.network import ACTOR, Network, Probe
from tests.support.owners import (
    Held,
    Script,
    numbers,
    soon,
    start,
)
from tests.support.wirings import Wiring

REQUEST, REPLY, ERROR = Kind.REQUEST, Kind.REPLY, Kind.ERROR


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
