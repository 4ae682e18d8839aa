"""``noyau assets``, with and without a noyau that runs."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from actors.storage.manifest import Manifest, write_manifest
from tests.integration.test_command import SIMULATED, command
from tests.support.faulty_server import FaultyServer
from tests.support.invoking import invoked
from tests.support.sources import asset_of
from tests.support.system import System, running

DRAWN = random.Random(31)
OLD = DRAWN.randbytes(3 << 20)
NEW = OLD[: 1 << 20] + DRAWN.randbytes(50_000) + OLD[1 << 20 :]


class Here:
    """A folder with a publisher and somebody who follows him, none of which runs."""

    def __init__(self, root: Path, server: FaultyServer) -> None:
        self.root, self.server = root, server
        self.source, self.out, self.keys = root / "source", root / "out", root / "keys"
        own = root / "own.json"
        own.write_bytes(write_manifest(Manifest(version="0", assets=())))
        self.settings = (
            f"data.folder={root}/data",
            f"run.folder={root}/run",
            *self.for_storage(own),
        )

    def for_storage(self, own: Path) -> list[str]:
        return [
            f"actors.storage.settings.{each}"
            for each in (
                f"manifest={own}",
                f"repository={self.server.url('')}",
                f"repository_root={self.keys}/root.json",
                "updates=by_hand",
            )
        ]

    def assets(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """A verb of `noyau assets` with these settings."""
        settings = [word for each in self.settings for word in ("--set", each)]
        done = invoked("assets", *arguments, *settings)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.assets(*arguments, "--json", code=code).stdout)

    def publish(self, data: bytes, **about: str) -> Any:
        path = self.source / "models" / "tiny.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        said = "\n".join(f'{key} = "{value}"' for key, value in about.items())
        (self.source / "publish.toml").write_text(f'[files."models/tiny.bin"]\n{said}\n')
        done = invoked(
            "assets", "publish", str(self.source), str(self.out), "--keys", str(self.keys), "--json"
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def file(self) -> Path:
        return self.root / "data" / "assets" / "models" / "tiny.bin"


@pytest.fixture
def here(tmp_path: Path) -> Any:
    out = tmp_path / "out"
    out.mkdir()
    with FaultyServer(out) as server:
        yield Here(tmp_path, server)


def test_what_one_publishes_another_has_updates_mends_and_goes_back_from(here: Here) -> None:
    first = here.publish(OLD, version="1.0", licence="MIT")
    assert first["new_root"] == str(here.keys / "root.json")
    checked = here.json("update", "--check")
    assert [change["asset"] for change in checked["changes"]] == ["tiny"]
    assert not here.file.exists()
    assert here.json("update")["applied"]
    assert here.file.read_bytes() == OLD

    second = here.publish(NEW, version="1.1", changelog="Says hello.")
    assert (second["version"], second["changed"], second["new_root"]) == ("2", ["tiny"], None)
    assert here.json("update", "--fetch")["fetched_bytes"] < 1_200_000
    assert here.file.read_bytes() == OLD
    told = here.assets("update")
    assert "Says hello." in told.stdout
    assert here.file.read_bytes() == NEW
    assert "Nothing changed: manifest 2." in here.assets("update").stderr

    here.file.write_bytes(NEW[:-1] + b"!")
    damaged = here.json("verify", code=1)["assets"][0]
    assert (damaged["state"], len(damaged["damaged_chunks"])) == ("damaged", 1)
    assert "noyau assets repair tiny" in here.assets("verify", code=1).stderr
    assert here.json("repair")["assets"][0]["state"] == "whole"
    assert here.file.read_bytes() == NEW

    assert here.json("rollback", "tiny")["version"] == "1.0"
    assert here.file.read_bytes() == OLD
    assert "pinned" in here.assets("list").stdout
    here.assets("pin", "tiny", "--undo")
    here.assets("repair", "tiny")
    assert here.file.read_bytes() == NEW
    whats = [line["what"] for line in here.json("history", "tiny")["history"]]
    assert whats[:4] == ["updated", "updated", "repaired", "rolled back"]
    assert here.json("gc")["freed_bytes"] > 0
    assert "no earlier version" in here.assets("rollback", "tiny", code=1).stderr


def test_keys_are_listed_renewed_and_replaced_and_followers_notice_nothing(here: Here) -> None:
    here.publish(OLD)
    here.assets("update")
    keys = ("--keys", str(here.keys))
    listed = invoked("assets", "keys", "list", str(here.out), *keys, "--json")
    roles = {one["role"]: one for one in json.loads(listed.stdout)["roles"]}
    assert set(roles) == {"root", "timestamp", "snapshot", "targets"}
    assert invoked("assets", "keys", "renew", str(here.out), *keys, "--days", "3").returncode == 0
    for role in ("online", "root"):
        done = invoked("assets", "keys", "replace", str(here.out), role, *keys)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() not in listed.stdout
    here.publish(NEW)
    here.assets("update")
    assert here.file.read_bytes() == NEW


def test_a_file_of_ones_own_is_added_verified_and_removed(here: Here, tmp_path: Path) -> None:
    here.publish(NEW)
    mine = tmp_path / "Mine.gguf"
    mine.write_bytes(OLD)
    assert "actors.cpu_engine.settings.model=mine" in here.assets("add", str(mine)).stderr
    assert here.json("verify", "mine")["assets"][0]["state"] == "whole"
    assert "an asset 'mine' already" not in here.assets("add", str(mine)).stderr
    here.assets("remove", "mine")
    assert here.json("list")["assets"] == []
    assert "no asset is called 'mine'" in here.assets("verify", "mine", code=1).stderr


def test_what_cannot_be_done_is_told_with_what_to_do(here: Here, tmp_path: Path) -> None:
    settings = [word for each in here.settings[:3] for word in ("--set", each)]
    alone = invoked("assets", "update", *settings)
    assert alone.returncode == 78
    assert "no publisher is followed" in alone.stderr
    assert "get it from the publisher" in here.assets("update", code=78).stderr
    empty = invoked(
        "assets", "publish", str(tmp_path / "none"), str(here.out), "-k", str(here.keys)
    )
    assert empty.returncode == 78
    assert "there is no folder" in empty.stderr
    inside = invoked("assets", "publish", str(tmp_path), str(here.out), "-k", str(here.keys))
    assert "all of which is published" in inside.stderr
    here.source.mkdir()
    keys = str(here.out / "keys")
    served = invoked("assets", "publish", str(here.source), str(here.out), "-k", keys)
    assert "would be published" in served.stderr


async def test_a_running_noyau_does_it_itself_and_tells_of_it(here: Here) -> None:
    await asyncio.to_thread(here.publish, OLD)
    own = here.root / "own.json"
    own.write_bytes(write_manifest(Manifest(version="0", assets=())))

    async def assets(system: System, *arguments: str) -> Any:
        return json.loads(await command(system, "assets", *arguments, "--json"))

    async with running(*SIMULATED, *here.for_storage(own), assets=False) as system:
        assert (await assets(system, "update"))["applied"]
        file = system.data_folder / "assets" / "models" / "tiny.bin"
        assert file.read_bytes() == OLD
        file.write_bytes(OLD[:-1] + b"!")
        mended = (await assets(system, "repair"))["assets"]
        assert [(one["asset"], one["state"]) for one in mended] == [("tiny", "whole")]
        assert file.read_bytes() == OLD
        await command(system, "assets", "pin", "tiny")
        [listed] = (await assets(system, "list"))["assets"]
        assert (listed["pinned"], listed["present"]) == (True, True)
        mine = here.root / "mine.bin"
        mine.write_bytes(b"x" * 1000)
        await command(system, "assets", "add", str(mine))
        names = [one["asset"] for one in (await assets(system, "list"))["assets"]]
        assert names == ["tiny", "mine"]


def test_a_missing_file_of_another_place_can_be_had_by_its_manifest_alone(
    here: Here, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "x.bin").write_bytes(OLD)
    asset = asset_of(OLD, name="x").model_dump(mode="json", by_alias=True)
    manifest = {"version": "1", "files": [asset | {"sources": ["place/x.bin"]}]}
    (tmp_path / "own.json").write_text(json.dumps(manifest))
    settings = [word for each in here.settings[:3] for word in ("--set", each)]
    done = invoked("assets", "repair", "x", *settings)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "assets" / "models" / "x.bin").read_bytes() == OLD
