"""A query that processes die of ends after two of them; all others are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from actors.kernel import handles
from noyau import Client, Query
from protocol.errors import Poisoned
from protocol.lifecycle import SETTLED
from protocol.messages.engine import Generate, Generated, Tokens
from protocol.messages.supervisor import Status
from tests.support.actors import FREEZER, POISON, CountingEngine
from tests.support.system import connect, pid_of, running, running_pid, status_when, until
from tests.support.waiting import eventually
from tests.support.work import rows

WITHOUT_MEMORY = ("actors.memory.enabled=false", "actors.tool_user.enabled=false")
FRAGILE_ENGINE = ("actors.cpu_engine.class=tests.support.actors:FragileEngine", *WITHOUT_MEMORY)
FRAGILE_ORCHESTRATOR = (
    *WITHOUT_MEMORY,
    "actors.cpu_engine.class=tests.support.actors:CountingEngine",
    "actors.orchestrator.class=tests.support.actors:FragileOrchestrator",
)
WORDS = 60
HELD_S = 90.0


def counted(words: int = WORDS) -> str:
    return "".join(f"{number} " for number in range(words))


def restarts(found: Status) -> dict[str, int]:
    """Of those that were started again."""
    return {actor.name: actor.restarts for actor in found.actors if actor.restarts}


def settled(found: Status) -> bool:
    return all(actor.state in SETTLED for actor in found.actors)


def in_hand(found: Status) -> bool:
    """Whether an engine works on something."""
    return any(a.counters.in_flight for a in found.actors if a.name == "cpu_engine")


def has_another_spawner(old: int, found: Status) -> bool:
    """Whether one is there, and not this one."""
    return running_pid(found, "spawner") not in (None, old)


async def after_deaths(client: Client, **expected: int) -> Status:
    """The status when all deaths were noticed and are mended: so many, and no more."""

    def noticed(found: Status) -> bool:
        return settled(found) and sum(restarts(found).values()) >= sum(expected.values())

    found = await status_when(client, noticed)
    assert restarts(found) == expected
    return found


async def others_answered(client: Client, count: int = 3) -> None:
    queries = [Query(text="count", max_tokens=WORDS) for _ in range(count)]
    answers = await asyncio.gather(*(client.ask(query) for query in queries))
    assert [answer.text for answer in answers] == [counted()] * count


@pytest.mark.parametrize("word", [POISON, FREEZER])
async def test_a_query_that_its_engine_dies_of_ends_after_two_deaths(word: str) -> None:
    async with running(*FRAGILE_ENGINE) as system, await connect(system) as client:
        query = Query(text=word)
        with pytest.raises(Poisoned, match=r"cpu_engine, 2 times in a row.*noyau logs cpu_engine"):
            await client.ask(query)
        found = await after_deaths(client, cpu_engine=2)
        await until(lambda: rows(system)[query.id] == ("failed", 0, "poisoned"))
        await others_answered(client)
        # Asked again, it ends in the same way, and nobody dies of it; also elsewhere.
        with pytest.raises(Poisoned, match="2 times in a row"):
            await client.ask(query)
        old = pid_of(found, "orchestrator")
        os.kill(old, signal.SIGKILL)
        await status_when(client, lambda s: running_pid(s, "orchestrator") not in (None, old))
        with pytest.raises(Poisoned, match="2 times in a row"):
            await client.ask(query)
        assert restarts(await client.status()) == {"cpu_engine": 2, "orchestrator": 1}


async def test_others_in_hand_at_the_same_deaths_are_answered() -> None:
    async with running(*FRAGILE_ENGINE) as system, await connect(system) as client:
        poisoned = asyncio.create_task(client.ask(Query(text=POISON)))
        await others_answered(client)
        with pytest.raises(Poisoned):
            await poisoned
        await after_deaths(client, cpu_engine=2)


async def test_an_engine_that_dies_while_it_counts_tokens_dies_of_the_query_too() -> None:
    # Long enough that it must be counted what fits into the context.
    engine = ("actors.cpu_engine.class=tests.support.actors:FragileCounter",)
    async with running(*engine) as system, await connect(system) as client:
        begun = await client.ask(Query(text="count", conversation="", max_tokens=WORDS))
        query = Query(
            text=f"{POISON} " * 1000, conversation=begun.metadata.conversation, max_tokens=WORDS
        )
        with pytest.raises(Poisoned, match="cpu_engine, 2 times in a row"):
            await client.ask(query)
        await after_deaths(client, cpu_engine=2)


async def test_where_every_engine_dies_of_it_a_query_ends_after_one_of_each() -> None:
    dying = [
        f"actors.{name}.settings.{setting}"
        for name in ("gpu_engine", "cpu_engine")
        for setting in ("backend=simulated", "simulated_failure=die",
                        "simulated_failure_after_tokens=0")
    ]  # fmt: skip
    async with running(*dying, *WITHOUT_MEMORY) as system, await connect(system) as client:
        with pytest.raises(Poisoned, match="gpu_engine and cpu_engine, 2 times in a row"):
            await client.ask(Query(text="Why is the sky blue?"))
        await after_deaths(client, gpu_engine=1, cpu_engine=1)


@pytest.mark.parametrize("word", [POISON, FREEZER])
async def test_a_query_that_the_orchestrator_dies_of_ends_after_two_deaths(word: str) -> None:
    async with running(*FRAGILE_ORCHESTRATOR) as system, await connect(system) as client:
        query = Query(text=word)
        with pytest.raises(Poisoned, match=r"orchestrator, 2 times in a row.*logs orchestrator"):
            await client.ask(query)
        await after_deaths(client, orchestrator=2)
        await until(lambda: rows(system)[query.id][::2] == ("failed", "poisoned"))
        await others_answered(client)
        with pytest.raises(Poisoned, match="2 times in a row"):
            await client.ask(query)
        assert restarts(await client.status()) == {"orchestrator": 2}


async def test_others_in_hand_when_the_orchestrator_dies_of_one_are_answered() -> None:
    async with running(*FRAGILE_ORCHESTRATOR) as system, await connect(system) as client:
        others = asyncio.create_task(others_answered(client))
        await until(lambda: len(rows(system)) == 3)
        with pytest.raises(Poisoned):
            await client.ask(Query(text=POISON))
        await others
        await after_deaths(client, orchestrator=2)


class HeldEngine(CountingEngine):
    """Says nothing before a file is there."""

    @handles(Generate)
    async def generate(self, message: Generate) -> AsyncGenerator[Tokens | Generated, None]:
        """See `CountingEngine.generate`."""
        await eventually(let_go(self.incarnation.settings.data.folder).exists, HELD_S)
        async with contextlib.aclosing(super().generate(message)) as items:
            async for item in items:
                yield item


def let_go(data_folder: Path) -> Path:
    return data_folder / "let_go"


async def test_no_query_is_blamed_for_the_deaths_that_a_spawner_takes_along() -> None:
    # No text comes before the first kill, nor between two of them.
    held = (
        "actors.cpu_engine.class=tests.chaos.test_poison:HeldEngine",
        "restart.max_restarts=100",
    )
    async with (
        running(*held, *WITHOUT_MEMORY) as system,
        await connect(system) as client,
        client.stream(Query(text="count", max_tokens=2), timeout_s=HELD_S) as answer,
    ):
        told = asyncio.ensure_future(anext(answer))
        for _ in range(3):
            found = await status_when(client, lambda s: settled(s) and in_hand(s))
            old = pid_of(found, "spawner")
            os.kill(old, signal.SIGKILL)
            await status_when(client, functools.partial(has_another_spawner, old))
        let_go(system.data_folder).touch()
        assert (await told).text == "0 "
        # All three came over it.
        assert len(answer.resumed) == 3


async def test_an_answer_that_gets_on_between_deaths_is_no_poison() -> None:
    engine = "actors.cpu_engine.class=tests.support.actors:CountingEngine"
    many = "restart.max_restarts=100"
    async with running(engine, many, *WITHOUT_MEMORY) as system, await connect(system) as client:
        victims = ["cpu_engine", "orchestrator"] * 3
        pieces: list[str] = []
        async with client.stream(Query(text="count", max_tokens=600)) as stream:
            async for piece in stream:
                pieces.append(piece.text)
                if victims and len(pieces) % 60 == 0:
                    found = await status_when(client, settled)
                    os.kill(pid_of(found, victims.pop()), signal.SIGKILL)
        assert "".join(pieces) == counted(600)
        assert not victims
