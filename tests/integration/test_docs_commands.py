"""The commands that the docs show are run, and say what the docs say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from actors.tool_user.catalogue import load_catalogue
from tests.integration.test_command import ROOT, noyau
from tests.integration.test_conversations_kept import SIMULATED
from tests.support.invoking import invoked
from tests.support.model import model_path
from tests.support.system import System, running

PAGES = {
    "conversations.md": SIMULATED, "memory.md": SIMULATED, "models.md": (), "tools.md": SIMULATED,
    "operating.md": SIMULATED, "running.md": SIMULATED,
    "resilience.md": (
        *SIMULATED[:2], *(one.replace("cpu", "gpu") for one in SIMULATED[:2]), "chaos.allowed=true",
    ),
    "reliability.md": (*SIMULATED, "chaos.allowed=true"),
}  # fmt: skip
"""Each with the settings of the noyau that its commands are run in."""


def shown(page: str) -> list[tuple[str, list[str]]]:
    """The commands of a page, each with the lines that it is shown to print."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


PLAIN = r"noyau (models|memories|conversations|files|assets|status)( [^|&;<>`]*)?"


def run(command: str, folder: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """As a shell does, but for what is plainly one command of noyau's: that in this process, for
    a new one takes a second to import what it needs."""
    if re.fullmatch(PLAIN, command):
        words = shlex.split(command)[1:]
        given = [re.sub(r"\$([A-Z]+)", lambda name: variables[name[1]], word) for word in words]
        with contextlib.chdir(folder):
            return invoked(*given, **variables)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        ["bash", "-c", command], env=os.environ | settings | {"PATH": path} | variables,
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
async def test_the_commands_of_a_page_work_as_shown(page: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    shutil.copy(model_path(), mine)
    async with running(*PAGES[page]) as system:
        assert shown(page)
        for command, lines in shown(page):
            newest = await newest_conversation(system) if "$ID" in command else ""
            done = await asyncio.to_thread(
                run, command, NOYAU_RUN__FOLDER=str(system.run_folder), ID=newest, FILE=str(mine)
            )
            check(command, lines, done)


async def newest_conversation(system: System) -> str:
    listed = await asyncio.to_thread(
        noyau, "conversations", "list", "--json", run_folder=system.run_folder
    )
    conversation: str = json.loads(listed.stdout)["items"][0]["conversation"]
    return conversation


def check(command: str, lines: list[str], done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, (command, done.stderr)
    for line in lines:
        assert line in done.stdout + done.stderr, (command, line)


def test_publishing_and_updating_work_as_shown(tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(random.Random(1).randbytes(3_000_000))
    models = tmp_path / "data" / "assets" / "models"
    models.mkdir(parents=True)
    shutil.copy(model_path(), models)
    folders = {"NOYAU_RUN__FOLDER": f"{tmp_path}/run", "NOYAU_DATA__FOLDER": f"{tmp_path}/data"}
    for command, lines in shown("assets.md"):
        check(command, lines, run(command, folder=tmp_path, FILE=str(mine), **folders))


@pytest.mark.parametrize("name", ["dice", "shelf"])
def test_a_tool_that_the_docs_show_is_one(name: str, tmp_path: Path) -> None:
    (code,) = re.findall(
        rf"```python\n(# /srv/tools/{name}\.py.*?)```",
        (ROOT / "docs" / "tools.md").read_text(), re.DOTALL,
    )  # fmt: skip
    (tmp_path / f"{name}.py").write_text(code)
    catalogue = load_catalogue([tmp_path])
    assert catalogue.broken == []
    tool = catalogue.get(name)
    assert tool.match is not None or tool.examples
