"""Files that cannot be had: what needs them goes on without an optional one, says so in every
answer, and is started with it when it is there. With the real model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.storage.digests import digest_of
from actors.storage.manifest import Asset, Manifest, load_manifest, write_manifest
from noyau import Answer, Client, Query
from protocol.errors import AssetUnavailable, WouldBeDegraded
from protocol.messages.storage import RepairAssets
from tests.support.model import model_path
from tests.support.system import System, connect, running, until

ALONE = ("actors.memory.enabled=false", "actors.tool_user.enabled=false")


class Place:
    """An asset folder with the default model in it, and further models that are elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.assets = root / "assets"
        default = load_manifest().asset("default")
        self._listed = [default]
        (self.assets / default.path).parent.mkdir(parents=True)
        (self.assets / default.path).hardlink_to(model_path())

    def elsewhere(self, name: str, **more: Any) -> Path:
        """A model that another disk has, which is not there now; returns where it belongs."""
        default = load_manifest().asset("default")
        bytes_ = bytearray(model_path().read_bytes())
        # Another file with the same weights: its name in the header is another one.
        at = bytes_.index(b"Smollm2", 0, 100_000)
        bytes_[at : at + 7] = f"{name:_<7}"[:7].encode()
        place = self.root / "disk" / f"{name}.gguf"
        self.root.joinpath("aside").mkdir(exist_ok=True)
        self._aside(place).write_bytes(bytes_)
        self._listed.append(
            Asset.model_validate(
                {
                    "name": name, "path": f"models/{name}.gguf", "size": len(bytes_),
                    "hash": digest_of(bytes(bytes_), "sha256"),
                    "licence": default.licence, "sources": [place.as_uri()],
                } | more
            )
        )  # fmt: skip
        return place

    def _aside(self, place: Path) -> Path:
        return self.root / "aside" / place.name

    def bring(self, place: Path) -> None:
        """The disk is there again."""
        place.parent.mkdir(exist_ok=True)
        self._aside(place).rename(place)

    @asynccontextmanager
    async def noyau(self, *settings: str) -> AsyncGenerator[tuple[System, Client], None]:
        manifest = Manifest(
            version="1", default_model=self._listed[0].name, assets=tuple(self._listed)
        )
        (self.root / "manifest.json").write_bytes(write_manifest(manifest))
        named = f"actors.storage.settings.manifest={self.root / 'manifest.json'}"
        async with (
            running(*ALONE, named, *settings, assets=self.assets) as system,
            await connect(system) as client,
        ):
            yield system, client


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def ask(client: Client, **more: object) -> Answer:
    query = {"text": "Say hello.", "max_tokens": 4, "temperature": 0, "tools": False} | more
    return await client.ask(Query.model_validate(query), timeout_s=120)


@pytest.mark.timeout(240)
async def test_a_further_model_is_missed_replaced_or_refused_and_each_answer_says_so(
    place: Place,
) -> None:
    extra = place.elsewhere("extra", required=False)
    place.elsewhere("needed")
    default = load_manifest().asset("default").name
    place.elsewhere("big", fallback=default)
    settings = (
        *(
            f"actors.cpu_engine.settings.models.{name}={name}"
            for name in ("extra", "needed", "big")
        ),
        'actors.orchestrator.settings.experts={ coder = { model = "needed" } }',
    )
    async with place.noyau(*settings) as (_, client):
        by_default = await ask(client)
        assert not by_default.metadata.degraded
        missed = await ask(client, model="extra")
        assert missed.text == by_default.text
        [words] = missed.metadata.missing
        assert "without the model extra: extra, which is optional, cannot be had now" in words
        with pytest.raises(WouldBeDegraded, match="without the model extra"):
            await ask(client, model="extra", fail_if_degraded=True)
        with pytest.raises(AssetUnavailable, match=r"needed could not be fetched.*sha256 must be"):
            await ask(client, model="needed")
        place.bring(extra)
        async with client.stream(RepairAssets(names=["extra"]), timeout_s=60) as repair:
            async for _ in repair:
                continue
        here = await ask(client, model="extra")
        assert not here.metadata.degraded
        assert here.metadata.engines[0].model_name == "extra"
        # The first answer of a fallback says so as every other.
        with pytest.raises(WouldBeDegraded, match="without big, which cannot be had now"):
            await ask(client, model="big", fail_if_degraded=True, keep_alive_s=0)
        for _ in range(2):
            told = (await ask(client, model="big", keep_alive_s=0)).metadata
            assert told.missing == [f"without big, which cannot be had now: {default} answers"]
        # An expert's model may always lack.
        expert = await ask(client, expert="coder")
        assert expert.text == by_default.text
        assert expert.metadata.degraded
        assert "without the model needed" in expert.metadata.missing[0]


@pytest.mark.timeout(240)
async def test_an_engine_with_a_fallback_and_without_its_draft_has_both_as_soon_as_they_are_there(
    place: Place,
) -> None:
    default = load_manifest().asset("default").name
    big, draft = place.elsewhere("big", fallback=default), place.elsewhere("draft", required=False)
    settings = (
        "actors.cpu_engine.settings.model=big",
        "actors.cpu_engine.settings.speculation=draft",
        "actors.cpu_engine.settings.draft_model=draft",
        "actors.storage.settings.missing_retry_s=0.5",
    )
    async with place.noyau(*settings) as (system, client):
        [missing] = (await ask(client)).metadata.missing
        instead = f"without big, which cannot be had now: {default} answers"
        undrafted = "without a draft: draft, which is optional, cannot be had now"
        assert missing.startswith(f"{instead}; {undrafted}")
        place.bring(draft)
        answer = await answered(client, lambda answer: answer.metadata.missing == [instead])
        assert answer.metadata.engines[0].drafted_tokens > 0
        place.bring(big)
        answer = await answered(client, lambda answer: not answer.metadata.missing)
        assert answer.metadata.engines[0].model_name == "big"
        log = (system.folder / "data" / "logs" / "storage.jsonl").read_text()
        assert log.count("big is here: ") == log.count("draft is here: ") == 1
        [engine] = [one for one in (await client.status()).actors if one.name == "cpu_engine"]
        assert engine.restarts == 2


async def answered(client: Client, wanted: Callable[[Answer], bool]) -> Answer:
    """The first answer that is as it is wanted."""
    async with asyncio.timeout(60):
        while not wanted(answer := await ask(client, max_tokens=24)):
            await client.caller.wait_for_news(client.caller.clock.now() + 0.1)
    return answer


@pytest.mark.timeout(240)
async def test_a_file_that_is_there_and_damaged_restarts_nobody_again_and_again(
    place: Place, tmp_path: Path
) -> None:
    """On another disk, into which storage does not write: it cannot be mended."""
    default = load_manifest().asset("default").name
    big = place.elsewhere("big", fallback=default)
    place.bring(big)
    there = tmp_path / "another" / "big.gguf"
    there.parent.mkdir()
    bytes_ = bytearray(big.read_bytes())
    big.unlink()
    bytes_[50_000_000] ^= 1
    there.write_bytes(bytes_)
    (place.assets / "models" / "big.gguf").symlink_to(there)
    settings = (
        "actors.cpu_engine.settings.model=big",
        "actors.storage.settings.missing_retry_s=0.2",
    )
    async with place.noyau(*settings) as (system, client):
        assert (await ask(client)).metadata.missing
        log = system.folder / "data" / "logs" / "storage.jsonl"
        await until(lambda: log.read_text().count("still cannot be had") >= 3)
        [engine] = [one for one in (await client.status()).actors if one.name == "cpu_engine"]
        assert engine.restarts == 0
