"""Several models in one engine, loaded when they are asked for: the real one by several names."""

from __future__ import annotations

import asyncio
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.memory.reference import SENTENCE, cosine_to_reference
from noyau import Answer, Client, Query
from protocol.errors import InvalidRequest, NotFound, UnusableModel
from protocol.messages.engine import EmbedTexts
from protocol.messages.orchestrator import GetRuntime
from tests.support.model import embedding_model_path, model_path
from tests.support.system import System, connect, shared


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("models")
    for name in ("one", "two"):
        shutil.copy(model_path(), found / f"{name}.gguf")
    return found


@pytest.fixture(scope="module")
def system(folder: Path) -> Iterator[System]:
    with shared(
        *(f"actors.cpu_engine.settings.models.{name}={folder}/{name}.gguf"
          for name in ("one", "two", "lost")),
        f"actors.cpu_engine.settings.embedding_models.minilm={embedding_model_path()}",
        "actors.cpu_engine.settings.context_tokens=1024",
        'actors.orchestrator.settings.experts={ coder = { model = "two", max_tokens = 5 } }',
    ) as found:  # fmt: skip
        yield found


async def ask(client: Client, **more: object) -> Answer:
    query = {"text": "Say hello.", "max_tokens": 4, "temperature": 0, "tools": False} | more
    return await client.ask(Query.model_validate(query))


async def loaded(client: Client) -> list[str]:
    """As the engine's last heartbeat told."""
    cpu = next(one for one in (await client.ask(GetRuntime())).engines if one.name == "cpu_engine")
    return cpu.model.split(", ")


async def loaded_when(client: Client, wanted: Callable[[list[str]], bool]) -> None:
    async with asyncio.timeout(30):
        while not wanted(await loaded(client)):
            await client.caller.wait_for_news(client.caller.clock.now() + 0.05)


async def test_a_model_is_loaded_when_it_is_asked_for_and_the_one_used_least_makes_room(
    system: System,
) -> None:
    async with await connect(system) as client:
        first = await ask(client)
        name = first.metadata.engines[0].model_name
        assert "SmolLM2" in name
        one = await ask(client, model="one")
        assert one.metadata.engines[0].model_name == "one"
        # The same weights: the same answer.
        assert one.text == first.text
        await loaded_when(client, lambda found: sorted(found) == sorted([name, "one"]))
        assert (await ask(client)).text == first.text
        assert (await ask(client, model="two")).metadata.engines[0].model_name == "two"
        await loaded_when(client, lambda found: sorted(found) == sorted([name, "two"]))


async def test_an_expert_brings_its_model(system: System) -> None:
    async with await connect(system) as client:
        told = (await ask(client, expert="coder", max_tokens=None)).metadata
        assert (told.expert, told.engines[0].model_name) == ("coder", "two")
        assert told.usage.completion_tokens <= 5


async def test_a_model_leaves_when_its_time_is_over(system: System) -> None:
    async with await connect(system) as client:
        assert (await ask(client, model="one", keep_alive_s=0)).text
        await loaded_when(client, lambda found: "one" not in found)


async def test_a_model_whose_file_is_lost_is_told_and_harms_no_other(system: System) -> None:
    async with await connect(system) as client:
        with pytest.raises(UnusableModel, match=r"models\.lost.*No such file"):
            await ask(client, model="lost")
        assert (await ask(client)).text


async def test_texts_are_embedded_by_a_model_for_that_beside_the_answers(system: System) -> None:
    async with await connect(system) as client:
        answering = asyncio.create_task(ask(client))
        texts = [SENTENCE, *(f"text {number}" for number in range(40))]
        told = await client.ask(EmbedTexts(texts=texts), to="cpu_engine", timeout_s=60)
        assert (await answering).text
        assert len(told.vectors) == 41
        assert (told.dimension, told.device, told.backend) == (384, "cpu", "llama_cpp")
        vector = struct.unpack("<384f", told.vectors[0])
        assert cosine_to_reference(vector) > 0.999
        assert told.prompt_tokens > 41 * 4
        named = await client.ask(EmbedTexts(texts=[SENTENCE], model="minilm"), to="cpu_engine")
        assert named.model == told.model
        await loaded_when(client, lambda found: told.model_name in found)


async def test_what_cannot_be_embedded_is_refused_in_words(system: System) -> None:
    async with await connect(system) as client:
        for wrong, error, words in (
            (EmbedTexts(texts=["a", " "]), InvalidRequest, "text 1 is empty"),
            (EmbedTexts(texts=["word " * 600]), InvalidRequest, "text 0 has 602 tokens.*at most"),
            (EmbedTexts(texts=["a"], model="two"), NotFound, "no model 'two' that embeds.*minilm"),
        ):
            with pytest.raises(error, match=words):
                await client.ask(wrong, to="cpu_engine")
        with pytest.raises(NotFound, match="no engine has a model 'minilm'"):
            await ask(client, model="minilm")
