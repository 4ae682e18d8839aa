"""Bits that flip in a model's file: found, mended from a server, and whoever had it loaded loads it
again. With the real model and real processes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.storage.chunking import best_chunking, chunks_of
from actors.storage.manifest import Asset, Chunk, Manifest, load_manifest, write_manifest
from protocol.messages.engine import Misbehave
from tests.support.events import watching
from tests.support.faulty_server import FaultyServer
from tests.support.model import model_path
from tests.support.system import System, connect, running

NO_MEMORY = ("actors.memory.enabled=false", "actors.tool_user.enabled=false")


class Served:
    """The model on a server that gives parts of it, and a copy of it for one noyau."""

    def __init__(self, folder: Path, server: FaultyServer, asset: Asset) -> None:
        self.folder, self.server, self.asset = folder, server, asset
        self.file = folder / "assets" / asset.path

    def flip(self, offset: int) -> Chunk:
        """A bit of the file that is in use; returns the piece that it is in."""
        with self.file.open("r+b") as file:
            file.seek(offset)
            [byte] = file.read(1)
            file.seek(offset)
            file.write(bytes([byte ^ 16]))
        return next(
            chunk for chunk in self.asset.chunks
            if chunk.offset <= offset < chunk.offset + chunk.size
        )  # fmt: skip

    def fetched(self) -> list[tuple[int, int]]:
        """The stretches of the model that were asked for."""
        return self.server.ranges("*.gguf")

    @asynccontextmanager
    async def noyau(self, *settings: str) -> AsyncGenerator[System, None]:
        manifest = f"actors.storage.settings.manifest={self.folder / 'manifest.json'}"
        async with running(*NO_MEMORY, manifest, *settings, assets=self.folder / "assets") as found:
            yield found


@pytest.fixture
def served(tmp_path: Path) -> Any:
    built_in = load_manifest().asset("default")
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "model.gguf").hardlink_to(model_path())
    chunking = best_chunking(model_path(), built_in.size)
    with FaultyServer(folder) as server:
        asset = Asset.model_validate(
            built_in.model_dump(exclude={"sources", "chunks", "chunking"})
            | {
                "chunks": chunks_of(model_path(), chunking), "chunking": chunking,
                "sources": [server.url("model.gguf")],
            }
        )  # fmt: skip
        manifest = Manifest(version="1", default_model=asset.name, assets=(asset,))
        (tmp_path / "manifest.json").write_bytes(write_manifest(manifest))
        found = Served(tmp_path, server, asset)
        found.file.parent.mkdir(parents=True)
        shutil.copyfile(model_path(), found.file)
        yield found


async def test_a_bit_that_flipped_before_the_start_is_repaired_with_its_piece_alone(
    served: Served,
) -> None:
    chunk = served.flip(50_000_000)
    async with served.noyau() as system, await connect(system) as client:
        answer = await client.ask("Say hello.", timeout_s=120)
        assert answer.text
        assert served.fetched() == [(chunk.offset, chunk.offset + chunk.size)]
        log = (system.folder / "data" / "logs" / "storage.jsonl").read_text()
        assert "is damaged, or another file" in log
        assert "is repaired: 1 of" in log
    assert served.file.read_bytes() == model_path().read_bytes()


async def test_garbage_has_the_model_read_and_mended_and_its_engine_load_it_again(
    served: Served,
) -> None:
    async with served.noyau("chaos.allowed=true") as system, await connect(system) as client:
        await client.ask("Say hello.", timeout_s=120)
        async with watching(client, "asset") as told:
            chunk = served.flip(70_000_000)
            before = client.caller.directory.entries["cpu_engine"].epoch
            await client.ask(Misbehave(how="garble", after_tokens=3, answers=1), to="cpu_engine")
            answer = await client.ask("Say hello again.", timeout_s=120)
            assert answer.text
            repaired = await told.until("asset.repaired")
            assert "1 of" in repaired.text
            reload = await told.until("asset.reload")
            assert "cpu_engine" in reload.text
            assert served.fetched() == [(chunk.offset, chunk.offset + chunk.size)]
            async with asyncio.timeout(60):
                while client.caller.directory.entries["cpu_engine"].epoch == before:
                    await client.caller.wait_for_news(client.caller.clock.now() + 1)
            assert (await client.ask("And again.", timeout_s=120)).text
    assert served.file.read_bytes() == model_path().read_bytes()


async def test_the_scrub_finds_what_nobody_asked_for(served: Served) -> None:
    pace = ("actors.storage.settings.scrub_period_s=1",
            "actors.storage.settings.scrub_bytes_per_s=1000000000")  # fmt: skip
    async with served.noyau(*pace) as system, await connect(system) as client:
        await client.ask("Say hello.", timeout_s=120)
        async with watching(client, "asset") as told:
            served.flip(90_000_000)
            damaged = await told.until("asset.damaged")
            assert "1 of its pieces are wrong" in damaged.text
            await told.until("asset.repaired")
            await told.until("asset.reload")
    assert served.file.read_bytes() == model_path().read_bytes()
