"""Memory as a real process with the real model: what it acknowledged survives SIGKILL."""

from __future__ import annotations

import asyncio
import json
import os
import signal

from protocol.client import Client
from protocol.messages.memory import (
    AppendTurns,
    Embed,
    Forget,
    GetConversation,
    ListConversations,
    ListMemories,
    Recall,
    Remember,
    Turn,
)
from tests.integration.test_command import command, noyau
from tests.support.system import System, pid_of, running

MEMORY = (
    "query.engines=[]",
    "actors.cpu_engine.enabled=false",
    "actors.gpu_engine.enabled=false",
    "actors.orchestrator.enabled=false",
    "actors.memory.class=actors.memory:Memory",
    'actors.memory.needs=["storage"]',
    "restart.max_restarts=100",
)
FIRST_FETCH_S = 110.0
"""The weights come over the network once for all tests."""

FACTS = [
    "Anna's favourite drink is green tea.",
    "The router stands in the cellar behind the shelf.",
    "Bob was born in Lyon in 1984.",
    "The meeting about the budget is on Tuesday at ten.",
]


async def kill_memory(client: Client) -> None:
    """SIGKILL; returns at once."""
    os.kill(pid_of(await client.status(), "memory"), signal.SIGKILL)


async def until_recalling(client: Client) -> None:
    """Wait until the model is there, however long its fetching takes."""
    async with asyncio.timeout(FIRST_FETCH_S):
        while not client.caller.directory.entries["memory"].info.get("model"):
            await client.caller.wait_for_news(client.caller.clock.now() + 0.5)


async def test_what_was_acknowledged_is_found_again_after_every_kill() -> None:
    async with running(*MEMORY) as system, system.client() as client:
        await until_recalling(client)
        await _the_right_memory_is_recalled(client)
        await _nothing_acknowledged_is_lost(client)
        await _bad_requests_are_refused_and_it_lives(client)
        _the_model_was_converted_once(system)
        await _a_damaged_model_is_made_anew(system, client)


async def _the_right_memory_is_recalled(client: Client) -> None:
    for fact in FACTS:
        assert (await client.ask(Remember(text=fact))).duplicate_of is None
    for question, fact in (
        ("What does Anna like to drink?", FACTS[0]),
        ("Where is the network equipment?", FACTS[1]),
        ("birthplace of Bob", FACTS[2]),
        ("When do we talk about money?", FACTS[3]),
    ):
        found = await client.ask(Recall(query=question, limit=2))
        assert found.hits[0].text == fact
        assert found.hits[0].score > found.hits[1].score
    again = await client.ask(Remember(text=FACTS[0].upper()))
    assert again.duplicate_of is not None
    long = await client.ask(Remember(text="a long story about a ship " * 300))
    assert long.duplicate_of is None
    await client.ask(Forget(ids=[long.id]))


async def _nothing_acknowledged_is_lost(client: Client) -> None:
    """Two writers go on while memory is killed four times: no turn is lost, doubled or moved."""
    begun = await client.ask(AppendTurns(turns=[Turn(role="user", content="Let us count.")]))
    talk = begun.conversation
    acknowledged: dict[int, str] = {0: "Let us count."}
    remembered: list[str] = []
    stop = asyncio.Event()

    async def write(name: str) -> None:
        number = 0
        while not stop.is_set():
            turn = Turn(role="user", content=f"{name} {number}")
            appended = await client.ask(AppendTurns(conversation=talk, turns=[turn]))
            acknowledged[appended.numbers[0]] = turn.content
            number += 1

    async def remember() -> None:
        number = 0
        while not stop.is_set():
            # Its own words each time, or it would be a near-duplicate.
            text = f"{FACTS[number % 4]} note {number * 7919} {chr(97 + number % 26) * 9}"
            remembered.append((await client.ask(Remember(text=text))).id)
            number += 1

    writers = [asyncio.create_task(work) for work in (write("one"), write("two"), remember())]
    for _ in range(4):
        target, count = len(acknowledged) + 30, len(remembered) + 3
        async with asyncio.timeout(60):
            while len(acknowledged) < target or len(remembered) < count:
                done, _ = await asyncio.wait(writers, timeout=0.02)
                assert not done, [task.exception() for task in done]
        await kill_memory(client)
    stop.set()
    await asyncio.gather(*writers)
    found = await client.ask(GetConversation(conversation=talk, last=10_000))
    assert [turn.number for turn in found.turns] == list(range(len(acknowledged)))
    assert {turn.number: turn.content for turn in found.turns} == acknowledged
    assert (await client.ask(ListConversations())).items[0].title == "Let us count."
    kept = {item.id for item in (await client.ask(ListMemories(limit=1000))).items}
    assert set(remembered) <= kept
    found_again = await client.ask(Recall(query=FACTS[2]))
    assert found_again.hits[0].text == FACTS[2]


async def _bad_requests_are_refused_and_it_lives(client: Client) -> None:
    before = pid_of(await client.status(), "memory")
    refused = await asyncio.gather(
        client.ask(Remember(text="")),
        client.ask(Remember(text="x" * 20_000)),
        client.ask(Recall.model_construct(query="x", limit=0, min_score=0.0)),
        client.ask(GetConversation(conversation="nobody")),
        client.ask(Embed(texts=["only for actors"])),
        return_exceptions=True,
    )
    assert [getattr(error, "code", error) for error in refused] == [
        "invalid_request", "invalid_request", "invalid_message", "not_found", "not_allowed",
    ]  # fmt: skip
    nul = await client.ask(Remember(text="before\0after"))
    items = (await client.ask(ListMemories(limit=1))).items
    assert (items[0].id, items[0].text) == (nul.id, "before\0after")
    assert pid_of(await client.status(), "memory") == before


def _the_model_was_converted_once(system: System) -> None:
    (made,) = (system.data_folder / "models").iterdir()
    assert made.suffix == ".gguf"


async def _a_damaged_model_is_made_anew(system: System, client: Client) -> None:
    """Weights with flipped bits load without a word: only what they compute gives them away."""
    (made,) = (system.data_folder / "models").iterdir()
    good = made.read_bytes()
    middle = len(good) // 2
    flipped = good[:middle] + bytes(b ^ 0x55 for b in good[middle : middle + 8_000_000])
    for damaged in (good[:middle], flipped + good[len(flipped) :]):
        # Under another name first: the living process has the file mapped.
        beside = made.with_suffix(".new")
        beside.write_bytes(damaged)
        beside.replace(made)
        await kill_memory(client)
        found = await client.ask(Recall(query=FACTS[2]))
        assert found.hits[0].text == FACTS[2]
        assert made.read_bytes() == good


async def test_memories_are_had_from_the_command_line() -> None:
    async with running(*MEMORY) as system:

        async def memories(*arguments: str, stdin: str | None = None) -> str:
            return await command(system, "memories", *arguments, stdin=stdin)

        first = json.loads(await memories("remember", "--json", stdin="Rex is a dog.\n"))
        await memories("remember", "--source", "manual", "The", "fuse", "box", "is", "blue.")
        again = json.loads(await memories("remember", "--json", "Rex is a dog."))
        assert again["duplicate_of"] == first["id"]

        table = (await memories("recall", "which animal is Rex?")).splitlines()
        assert "Rex is a dog." in table[1]
        assert "command line" in table[1]
        found = json.loads(await memories("recall", "--json", "-n", "1", "what colour is it?"))
        assert [hit["source"] for hit in found["hits"]] == ["manual"]
        assert "Nothing like that" in await memories("recall", "--min-score", "0.99", "x")

        assert json.loads(await memories("list", "--json"))["total"] == 2
        await memories("forget", "--yes", first["id"])
        assert "Rex" not in await memories("list")
        gone = await asyncio.to_thread(
            noyau, "memories", "forget", "--yes", first["id"], run_folder=system.run_folder
        )
        assert gone.returncode == 1
        empty = await asyncio.to_thread(noyau, "memories", "remember", run_folder=system.run_folder)
        assert empty.returncode == 1
        assert "the text to remember" in empty.stderr
