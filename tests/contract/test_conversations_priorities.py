"""A request's priority reaches its receiver, through resumes too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from actors.kernel.handlers import handles
from actors.kernel.request import Request
from protocol.client import ResumingStream
from protocol.envelope import Priority
from protocol.messages.orchestrator import Answered, Query, Text
from tests.support.network import ACTOR, Network, Probe
from tests.support.owners import soon
from tests.support.wirings import Wiring

END = Answered(
    id="q", query="q", finish_reason="stop", profile="lite", engines=[], seams=[], tokens=1,
    queued_ms=0, first_token_ms=None, total_ms=0,
)  # fmt: skip


class Noting(Probe):
    """Notes how urgent what it is asked is; with ``stays``, it comes to no end."""

    def __init__(self, stays: bool = False) -> None:
        self.stays = stays
        self.priorities: list[int] = []

    @handles(Query)
    async def query(
        self, message: Query, request: Request
    ) -> AsyncGenerator[Text | Answered, None]:
        self.priorities.append(request.context.priority)
        yield Text(text="a")
        if self.stays:
            await asyncio.Event().wait()
        yield END


@pytest.mark.parametrize("priority", Priority)
async def test_a_stream_s_priority_is_the_one_that_its_receiver_sees(
    wiring: Wiring, priority: Priority
) -> None:
    async with Network(wiring) as network:
        owner = Noting()
        network.start(owner)
        caller = await network.caller()
        stream = ResumingStream(caller, ACTOR, Query(text="q"), 60, priority=priority)
        assert [piece.text async for piece in stream] == ["a"]
        assert owner.priorities == [priority]


async def test_it_stays_the_same_when_the_next_incarnation_goes_on(wiring: Wiring) -> None:
    async with Network(wiring) as network:
        first, second = Noting(stays=True), Noting()
        node = network.start(first)
        caller = await network.caller()
        stream = ResumingStream(caller, ACTOR, Query(text="q"), 60, priority=Priority.CRITICAL)
        await soon(anext(stream))
        await node.die()
        network.start(second, epoch="2")
        assert [piece.text async for piece in stream] == ["a"]
        assert len(stream.resumed) == 1
        assert (first.priorities, second.priorities) == ([Priority.CRITICAL], [Priority.CRITICAL])
