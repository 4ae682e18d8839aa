"""A real noyau for tests: started as a user starts it, in folders of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from noyau.processes import processes_in
from protocol.client import Client
from protocol.errors import NotRunning
from protocol.lifecycle import SETTLED
from protocol.messages.supervisor import GetStatus, Status
from tests.support.model import shared_assets

STOP_S = 20.0
ONE_THREAD = ("actors.cpu_engine.settings.threads=1",)
"""Tests run side by side, and two threads of a model that wait for each other are far slower than
one on cores that others use too."""


@dataclass
class System:
    """One running noyau."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def run_folder(self) -> Path:
        """Where its sockets are."""
        return self.folder / "run"

    @property
    def data_folder(self) -> Path:
        """Where its data is."""
        return self.folder / "data"

    @property
    def output(self) -> str:
        """What it wrote to its terminal."""
        return (self.folder / "terminal").read_text()

    def client(self) -> Client:
        """A client of it."""
        return Client.connect(self.run_folder)

    def processes(self) -> list[psutil.Process]:
        """Everything of it that is alive now, the process started first included."""
        return processes_in(self.run_folder)

    def stop(self) -> None:
        """Stop it in order, or at least stop it."""
        left = self.processes()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                if self.process.poll() is not None and "supervision.guard" in process.cmdline():
                    process.terminate()
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        psutil.wait_procs(left, timeout=STOP_S)
        for process in [*left, *self.processes()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(5)


@contextlib.asynccontextmanager
async def running(
    *assignments: str,
    guard: bool = True,
    wait: bool = True,
    assets: bool | Path = True,
    environment: dict[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> AsyncGenerator[System, None]:
    """A noyau with these settings, all of its actors READY unless ``wait`` is false.

    Weights are fetched once for all tests; with ``assets=False`` it starts without any, with a path
    with those that are there. ``files`` lie in its data folder before it starts.
    """
    folder = Path(tempfile.mkdtemp(prefix="ny", dir="/tmp"))
    (folder / "data").mkdir()
    for name, content in (files or {}).items():
        (folder / "data" / name).write_bytes(content)
    if assets:
        there = assets if isinstance(assets, Path) else shared_assets()
        (folder / "data" / "assets").symlink_to(there)
    command = [sys.executable, "-m", "supervision.guard" if guard else "supervisor"]
    if not guard:
        command.append("--no-guard")
    folders = (f"run.folder={folder}/run", f"data.folder={folder}/data")
    for one in (*folders, *ONE_THREAD, *assignments):
        command += ["--set", one]
    with (folder / "terminal").open("wb") as terminal:
        process = _start(command, terminal.fileno(), environment or {})
    system = System(folder, process)
    try:
        if wait:
            await until_ready(system)
        yield system
    finally:
        system.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def shared(*assignments: str) -> Iterator[System]:
    """As `running`, for a fixture whose tests leave it as it was."""
    with asyncio.Runner() as runner:
        context = running(*assignments)
        system = runner.run(context.__aenter__())
        try:
            yield system
        finally:
            runner.run(context.__aexit__(None, None, None))


def _start(command: list[str], output: int, extra: dict[str, str]) -> subprocess.Popen[bytes]:
    # Whatever NOYAU_ variables the person who runs the tests has set are not the tests' settings.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NOYAU_")} | extra
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
    )


async def connect(system: System, seconds: float = 30) -> Client:
    """A client as soon as the supervisor answers."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(NotRunning):
                return await system.client().open()
            assert system.process.poll() is None, f"it ended: {system.output}"
            await asyncio.sleep(0.02)


async def until_ready(system: System, seconds: float = 60) -> Status:
    """Wait until every actor is READY; returns the status."""
    async with await connect(system) as client:
        return await status_when(
            client, lambda found: all(actor.state in SETTLED for actor in found.actors), seconds
        )


async def status_when(
    client: Client, wanted: Callable[[Status], bool], seconds: float = 30
) -> Status:
    """The first status for which ``wanted(status)`` holds; `TimeoutError` where none does in time,
    with the last one. A supervisor that is just being followed by another has all of that time."""
    clock, found = client.caller.clock, None
    until = clock.now() + seconds
    while (left_s := until - clock.now()) > 0:
        found = await client.ask(GetStatus(), timeout_s=left_s)
        if wanted(found):
            return found
        await client.caller.wait_for_news(clock.now() + 0.05)
    raise TimeoutError(f"not so within {seconds:g} s: {found}")


def running_pid(found: Status, name: str) -> int | None:
    """The pid of an actor, or of ``spawner``, ``supervisor`` or ``guard``; None between two."""
    if name in ("spawner", "supervisor", "guard"):
        process: int | None = getattr(found, name).pid
        return process
    return next(actor.pid for actor in found.actors if actor.name == name)


def pid_of(found: Status, name: str) -> int:
    """The pid of a process that must be there."""
    pid = running_pid(found, name)
    assert isinstance(pid, int), f"{name} has no process"
    return pid


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until the condition holds; fails with TimeoutError when it does not in time."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)
