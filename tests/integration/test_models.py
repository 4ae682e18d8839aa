"""``noyau models`` on a running noyau, with the real model under another name."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from noyau import Client
from protocol.lifecycle import ActorState
from tests.integration.test_command import noyau
from tests.support.model import model_path
from tests.support.system import System, connect, pid_of, running, status_when
from tests.unit.actors.test_engine_model_file import write_model


async def models(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(noyau, "models", *arguments, run_folder=system.run_folder)


async def listed(system: System) -> dict[str, dict[str, Any]]:
    done = await models(system, "list", "--json")
    assert done.returncode == 0, done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)["models"]}


async def model_of_an_answer(client: Client) -> str:
    answered = await client.ask("Say hello.")
    assert answered.text
    return answered.metadata.engines[0].model_name


async def test_a_model_of_ones_own_answers_until_the_default_is_back(tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    shutil.copy(model_path(), mine)
    async with running() as system, await connect(system) as client:
        before = pid_of(await client.status(), "cpu_engine")
        done = await models(system, "use", str(mine))
        assert done.returncode == 0, done.stderr
        assert pid_of(await client.status(), "cpu_engine") != before
        assert await model_of_an_answer(client) == "mine"
        found = await listed(system)
        assert found["mine"]["chosen"]
        assert found["mine"]["used_by"] == ["cpu_engine"]
        assert not found["smollm2-135m-instruct"]["chosen"]

        table = await models(system, "list")
        assert "→  mine" in table.stdout

        assert (await models(system, "default")).returncode == 0
        assert "SmolLM2" in await model_of_an_answer(client)
        found = await listed(system)
        assert found["smollm2-135m-instruct"]["chosen"]
        assert not found["mine"]["chosen"]


async def test_a_model_that_cannot_be_loaded_leaves_the_one_before(tmp_path: Path) -> None:
    # It passes every check, but has none of the tensors that its architecture needs.
    hollow = write_model(tmp_path / "hollow.gguf")
    nothing = tmp_path / "nothing.gguf"
    nothing.write_text("no model at all")
    async with running() as system, await connect(system) as client:
        untouched = pid_of(await client.status(), "cpu_engine")
        refused = await models(system, "use", str(nothing))
        assert refused.returncode == 78
        assert "no GGUF file" in refused.stderr
        assert pid_of(await client.status(), "cpu_engine") == untouched

        failed = await models(system, "use", str(hollow))
        assert failed.returncode == 1
        assert "cannot load it" in failed.stderr
        assert "The model before is back." in failed.stderr
        assert "Traceback" not in failed.stderr
        assert "SmolLM2" in await model_of_an_answer(client)
        assert "hollow" not in await listed(system)


async def test_an_engine_whose_settings_name_a_model_keeps_it_and_that_is_told(
    tmp_path: Path,
) -> None:
    own, mine = tmp_path / "own.gguf", tmp_path / "mine.gguf"
    shutil.copy(model_path(), own)
    shutil.copy(model_path(), mine)
    setting = f"actors.cpu_engine.settings.model={own}"
    async with running(setting) as system, await connect(system) as client:
        done = await models(system, "use", str(mine))
        assert done.returncode == 78
        assert "actors.cpu_engine.settings.model" in done.stderr
        assert await model_of_an_answer(client) == "own"


async def test_a_chosen_model_that_vanished_is_told_and_the_default_mends_it(
    tmp_path: Path,
) -> None:
    mine = tmp_path / "mine.gguf"
    shutil.copy(model_path(), mine)
    async with running() as system, await connect(system) as client:
        assert (await models(system, "use", str(mine))).returncode == 0
        mine.unlink()
        await asyncio.to_thread(noyau, "restart", "cpu_engine", run_folder=system.run_folder)
        found = await status_when(
            client,
            lambda s: any(
                a.name == "cpu_engine" and a.state is ActorState.FAILED for a in s.actors
            ),
        )
        (reason,) = (actor.reason for actor in found.actors if actor.name == "cpu_engine")
        assert "noyau models default" in reason
        assert (await listed(system))["mine"]["bytes"] is None
        assert (await models(system, "default")).returncode == 0
        assert "SmolLM2" in await model_of_an_answer(client)


def test_without_a_running_noyau_the_choice_is_kept_for_the_next_start(tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    shutil.copy(model_path(), mine)
    data = {"NOYAU_DATA__FOLDER": str(tmp_path / "data")}
    done = noyau("models", "use", str(mine), run_folder=tmp_path / "none", **data)
    assert done.returncode == 0, done.stderr
    assert "next `noyau up`" in done.stderr
    shown = noyau("models", "list", "--json", run_folder=tmp_path / "none", **data)
    chosen = [one["name"] for one in json.loads(shown.stdout)["models"] if one["chosen"]]
    assert chosen == ["mine"]
