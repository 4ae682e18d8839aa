"""A real system, a real model: what users do with it works."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from pathlib import Path

import pytest

from noyau import ChatMessage, Client, Query
from protocol.endpoints import endpoint
from protocol.errors import (
    DeadlineExceeded,
    InvalidMessage,
    InvalidRequest,
    NotAllowed,
    NotFound,
    NotRunning,
    UnknownOperation,
)
from protocol.lifecycle import ActorState, Health
from protocol.messages.actor import Ping
from protocol.messages.base import Ask, Empty
from protocol.messages.engine import Generate
from protocol.messages.storage import ListAssets, Provide
from protocol.messages.supervisor import Status
from protocol.transport import _NOT_CLOSED, ZmqTransport
from tests.support.events import watching
from tests.support.system import System, connect, pid_of, running, status_when

GREEDY = {"temperature": 0.0, "max_tokens": 24}


async def test_a_question_is_answered_and_the_metadata_tell_how() -> None:
    async with running() as system, system.client() as client:
        answer = await client.ask(Query(text="Why is the sky blue?", **GREEDY))
        assert answer.text.strip()
        (engine,) = answer.metadata.engines
        assert engine.engine.startswith("cpu_engine.")
        assert engine.device == "cpu"
        assert 0 < engine.completion_tokens <= 24
        assert answer.metadata.seams == []
        assert answer.metadata.finish_reason == "length"
        assert answer.metadata.first_token_ms is not None
        found = await status_when(client, lambda found: found.health is Health.HEALTHY)
        assert {a.name for a in found.actors if a.state is ActorState.READY} >= {
            "storage", "tool_user", "cpu_engine", "memory", "orchestrator",
        }  # fmt: skip
        await _the_rest_of_the_questions(system, client)


async def _the_rest_of_the_questions(system: System, client: Client) -> None:
    """One system serves several checks: a start costs a second, and they do not disturb."""
    # More questions at once than the engine has slots: all are answered.
    answers = await asyncio.gather(
        *(client.ask(Query(text=f"Count to {n}.", **GREEDY)) for n in range(3, 13))
    )
    assert all(answer.text.strip() for answer in answers)
    # Leaving a stream early frees its slot, also in the middle of a long prompt.
    long = "All work and no play makes Jack a dull boy. " * 150
    for _ in range(5):
        async with client.stream(Query(text=long)) as stream:
            if stream.received:
                break
    again = await client.ask(Query(text="Still there?", **GREEDY), timeout_s=60)
    assert again.text.strip()
    with pytest.raises(InvalidRequest, match="context holds 2048") as too_long:
        await client.ask(Query(text=long * 3))
    assert too_long.value.details["prompt_tokens"] > 2048
    with pytest.raises(InvalidRequest, match="empty"):
        await client.ask(Query(text="  "))
    with pytest.raises(DeadlineExceeded):
        await client.ask(Query(text=long, max_tokens=500), timeout_s=0.3)
    with pytest.raises(NotFound, match="cpu_engine, gpu_engine, memory"):
        await client.ask(Ping(), to="nobody")
    turns = [ChatMessage(role="system", content="Be brief."),
             ChatMessage(role="user", content="Hello")]  # fmt: skip
    assert (await client.ask(Query(messages=turns, **GREEDY))).text


async def test_engines_and_storage_answer_to_the_system_alone() -> None:
    async with running() as system, system.client() as client:
        generate = Generate(messages=[ChatMessage(role="user", content="hi")])
        with pytest.raises(NotAllowed, match="internal"):
            async for _ in client.stream(generate, to="cpu_engine"):
                pass
        with pytest.raises(NotAllowed, match="internal"):
            async for _ in client.stream(Provide(asset="default")):
                pass
        assets = await client.ask(ListAssets())
        assert any(one.default and one.present for one in assets.assets)
        with pytest.raises(UnknownOperation):
            await client.ask(Strange(), to="orchestrator")
        with pytest.raises(InvalidMessage, match="max_tokens"):
            await client.ask(Query.model_construct(text="hi", max_tokens=-1))
        await status_when(client, _rejections_are_counted_and_all_is_healthy)


class Strange(Ask[Empty], operation="orchestrator.strange"):
    """An operation that nobody has."""


def _rejections_are_counted_and_all_is_healthy(found: Status) -> bool:
    return found.health is Health.HEALTHY and any(
        actor.name == "orchestrator" and actor.counters.rejected >= 2 for actor in found.actors
    )


async def test_who_watches_events_is_told_of_deaths() -> None:
    async with running() as system, system.client() as client:
        async with watching(client, "actor.") as told:
            os.kill(pid_of(await client.status(), "orchestrator"), signal.SIGKILL)
            await told.until("actor.ready", "orchestrator")
        assert told.names[:2] == ["actor.died", "actor.ready"]


async def test_without_a_system_the_client_says_how_to_start_one() -> None:
    async with running("actors.cpu_engine.enabled=false", "query.engines=[]") as system:
        run_folder = system.run_folder
        async with system.client() as client:
            with pytest.raises(Exception, match="no engine"):
                await client.ask("hi")
    with pytest.raises(NotRunning, match="noyau up"):
        async with Client.connect(run_folder):
            pass


async def test_a_client_that_is_open_is_entered_as_it_is() -> None:
    async with running("actors.cpu_engine.class=tests.support.actors:CountingEngine") as system:
        client = await connect(system)
        connection = client.caller
        async with client:
            assert client.caller is connection
        with pytest.raises(NotRunning):
            _ = client.caller


async def test_a_client_that_is_cancelled_while_it_connects_leaves_nothing_open() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ny") as folder:
        mute = ZmqTransport()
        asked = asyncio.Event()
        mute.listen(endpoint(Path(folder), "supervisor"), lambda peer, frame: asked.set())
        before = set(_NOT_CLOSED)
        connecting = asyncio.create_task(Client.connect(folder).open())
        await asyncio.wait_for(asked.wait(), 10)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert before == _NOT_CLOSED
        mute.close()
