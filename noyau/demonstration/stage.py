"""A noyau for the time of the demo, with folders of its own; only the weights are the user's."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from configs import Settings, load_settings
from noyau.demonstration.report import Report
from noyau.processes import alive, processes_of
from noyau.starting import wait_until_up
from noyau.up import guard_command
from protocol.client import Client
from protocol.errors import EngineFailed, NotRunning
from protocol.lifecycle import SETTLED
from protocol.messages.supervisor import Status

SHARED = ("assets", "models")
"""Folders of the user's data that the demo uses too: what was fetched, and what was made of it."""
CONNECT_S = 30.0
STOP_S = 20.0
FETCH_S = 600.0


@contextlib.asynccontextmanager
async def stage(
    config: Path | None, assignments: Sequence[str], report: Report
) -> AsyncGenerator[Client, None]:
    """Start a noyau, wait until it is up, and stop it at the end. What the demo remembers and says
    is gone with it."""
    folder = Path(tempfile.mkdtemp(prefix="noyau-demo-", dir="/tmp"))
    mine = load_settings(file=config, assignments=assignments).data.folder
    given = [*assignments, f"run.folder={folder / 'run'}", f"data.folder={folder / 'data'}"]
    try:
        _share(mine, folder / "data")
        settings = load_settings(file=config, assignments=given)
        async with _running(settings, guard_command(config, given), report) as client:
            yield client
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _share(mine: Path, data: Path) -> None:
    data.mkdir()
    for name in SHARED:
        (mine / name).mkdir(parents=True, exist_ok=True)
        (data / name).symlink_to(mine / name, target_is_directory=True)


@contextlib.asynccontextmanager
async def _running(
    settings: Settings, command: list[str], report: Report
) -> AsyncGenerator[Client, None]:
    began = time.monotonic()
    guard = _start(command)
    try:
        async with await _connect(settings, guard) as client:
            found = await wait_until_up(client, report.console)
            report.measure("start to all ready", f"{time.monotonic() - began:.2f} s", once=True)
            for actor in found.actors:
                if actor.state not in SETTLED:
                    raise EngineFailed(f"{actor.name} could not start: {actor.reason}")
            yield client
            everything = processes_of(await client.status())
    finally:
        guard.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(STOP_S)
    report.check("stopped in order, nothing left running", not alive(everything))


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def _connect(settings: Settings, guard: subprocess.Popen[bytes]) -> Client:
    until = time.monotonic() + CONNECT_S
    while True:
        with contextlib.suppress(NotRunning):
            return await Client.connect(settings.run.folder).open()
        if guard.poll() is not None or time.monotonic() > until:
            raise NotRunning(
                "the system did not start; run `noyau up` with the same settings to see why"
            )
        await asyncio.sleep(0.05)


async def until_memory_has_its_model(client: Client, report: Report) -> None:
    """The first time it is fetched (83 MB); conversations would not have to wait for it."""
    caller = client.caller
    until = caller.clock.now() + FETCH_S
    with report.console.status("the embedding model") as shown:
        while not caller.directory.entries["memory"].info.get("model"):
            if caller.clock.now() > until:
                raise EngineFailed("memory has no embedding model; see its log")
            (memory,) = (a for a in (await client.status()).actors if a.name == "memory")
            shown.update(memory.reason or memory.activity.what)
            await caller.wait_for_news(caller.clock.now() + 0.2)


def pid_of(found: Status, name: str) -> int:
    """Of an actor, or of the supervisor itself; 0 where there is none."""
    if name == "supervisor":
        return found.supervisor.pid or 0
    return next(actor.pid or 0 for actor in found.actors if actor.name == name)


def restarts_of(found: Status, name: str) -> int:
    """How often it was started again."""
    if name == "supervisor":
        return found.supervisor.restarts
    return next(actor.restarts for actor in found.actors if actor.name == name)


async def back(client: Client, name: str, killed: int) -> Status:
    """The status as soon as an actor has another process than the one that was killed."""
    async with asyncio.timeout(CONNECT_S):
        while pid_of(found := await client.status(), name) in (0, killed):
            await client.caller.wait_for_news(client.caller.clock.now() + 0.1)
    return found
