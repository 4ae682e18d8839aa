"""The commands that the docs show are run, and say what the docs say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from actors.tool_user.catalogue import load_catalogue
from tests.integration.test_command import ROOT, noyau
from tests.integration.test_conversations_kept import SIMULATED
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


def run(system: System, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {"NOYAU_RUN__FOLDER": str(system.run_folder), "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        ["bash", "-c", command], env=os.environ | settings | {"PATH": path} | variables,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
async def test_the_commands_of_a_page_work_as_shown(page: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    shutil.copy(model_path(), mine)
    async with running(*PAGES[page]) as system:
        assert shown(page)
        for command, lines in shown(page):
            listed = await asyncio.to_thread(
                noyau, "conversations", "list", "--json", run_folder=system.run_folder
            )
            items = json.loads(listed.stdout)["items"]
            newest = items[0]["conversation"] if items else ""
            done = await asyncio.to_thread(run, system, command, ID=newest, FILE=str(mine))
            assert done.returncode == 0, (command, done.stderr)
            for line in lines:
                assert line in done.stdout + done.stderr, (command, line)


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
