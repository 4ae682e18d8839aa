"""A real noyau for the time of a measurement: guard, supervisor, spawner and actors.

It has a run folder and a data folder of its own, both gone afterwards, and no setting of the
user's reaches it. Only the weights are the user's, so that they are fetched once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import psutil

from configs import load_settings
from noyau.processes import processes_in
from protocol.client import Client
from protocol.endpoints import endpoint
from protocol.errors import NotRunning, NoyauError
from protocol.lifecycle import ActorState
from protocol.messages.supervisor import Shutdown
from supervision.processes import die_with_parent

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".venv-peers"
"""The environment that peers live in, where `make bench` made it."""

READY_S = 600.0
"""From the start to READY, at most: the first run fetches the weights."""
STOP_S = 30.0
_LOOK_S = 0.002
_SHOWN_LINES = 10


def _environ() -> dict[str, str]:
    """This process's environment without the user's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("NOYAU_")}


def without_default_actors() -> list[str]:
    """Assignments that switch off every actor of the default settings."""
    actors = load_settings(environ=_environ()).actors
    return ["query.engines=[]", *(f"actors.{name}.enabled=false" for name in actors)]


class System:
    """``async with System("actors.NAME.settings.threads=1", …) as system``: up and READY inside.

    ``assignments`` are what ``--set`` takes; ``entry`` is what Python is told to run. ``client``
    is connected, ``ready_after_s`` says how long it took from the start until all were READY.
    """

    def __init__(
        self,
        *assignments: str,
        ready_timeout_s: float = READY_S,
        entry: Sequence[str] = ("-m", "supervision.guard"),
    ) -> None:
        self.folder = Path()
        self.ready_after_s = 0.0
        self._assignments = assignments
        self._entry = entry
        self._ready_timeout_s = ready_timeout_s
        self._client: Client | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def run_folder(self) -> Path:
        """Where its sockets are."""
        return self.folder / "run"

    @property
    def data_folder(self) -> Path:
        """Where its logs and databases are."""
        return self.folder / "data"

    @property
    def client(self) -> Client:
        """The connection to it. Raises `NotRunning` outside of the ``async with``."""
        if self._client is None:
            raise NotRunning("this system is not started")
        return self._client

    @property
    def guard(self) -> subprocess.Popen[bytes]:
        """The process above all others. Raises `NotRunning` outside of the ``async with``."""
        if self._guard is None:
            raise NotRunning("this system is not started")
        return self._guard

    async def pid(self, actor: str) -> int | None:
        """The process id of an actor's present incarnation."""
        status = await self.client.status()
        return next(one.pid for one in status.actors if one.name == actor)

    async def __aenter__(self) -> Self:
        # Not below $TMPDIR, which may be long: a local socket's path is limited to 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="noyau-", dir="/tmp"))
        try:
            self._share_weights()
            began = time.monotonic()
            self._guard = self._start()
            self._client = await self._connect(began + self._ready_timeout_s)
            await self._wait_until_ready(self._client, began + self._ready_timeout_s)
            self.ready_after_s = time.monotonic() - began
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stop()

    def _share_weights(self) -> None:
        shared = load_settings().data.assets_folder
        shared.mkdir(parents=True, exist_ok=True)
        self.data_folder.mkdir()
        (self.data_folder / "assets").symlink_to(shared, target_is_directory=True)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, *self._entry]
        folders = (f"run.folder={self.run_folder}", f"data.folder={self.data_folder}")
        for assignment in (*folders, *self._assignments):
            command += ["--set", assignment]
        parent = os.getpid()
        with self._output.open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=_environ(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C ends the benchmark, and that ends this in order.
                process_group=0,
                # A benchmark that is killed leaves nothing running.
                preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
            )

    @property
    def _output(self) -> Path:
        return self.folder / "output"

    async def _connect(self, until: float) -> Client:
        address = Path(endpoint(self.run_folder, "supervisor").removeprefix("ipc://"))
        while True:
            if self.guard.poll() is not None:
                raise self._failure(f"noyau ended with exit code {self.guard.returncode}")
            if time.monotonic() > until:
                raise self._failure("noyau did not answer in time")
            if address.exists():
                try:
                    return await Client.connect(self.run_folder).open()
                except NotRunning:
                    # Between the making of the socket's file and the listening on it.
                    pass
            await asyncio.sleep(_LOOK_S)

    async def _wait_until_ready(self, client: Client, until: float) -> None:
        for name in list(client.caller.directory.entries):
            try:
                await client.caller.ready(name, until)
            except NoyauError as error:
                if client.caller.directory.entries[name].state is not ActorState.UNAVAILABLE:
                    raise self._failure(error.message) from error

    def _failure(self, what: str) -> NotRunning:
        said = self._output.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]
        return NotRunning("\n".join([what, *said]))

    async def _stop(self) -> None:
        try:
            if self._client is not None:
                await self._stop_in_order(self._client)
            if self._guard is not None:
                await asyncio.to_thread(_end, self._guard, self.run_folder)
        finally:
            self._client = self._guard = None
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _stop_in_order(self, client: Client) -> None:
        try:
            await client.ask(Shutdown(), timeout_s=STOP_S)
        except NoyauError:
            # Whatever the benchmark did to it: the guard is told below.
            return
        finally:
            await client.close()
        await asyncio.to_thread(_wait, self.guard)


def _wait(guard: subprocess.Popen[bytes]) -> bool:
    try:
        guard.wait(STOP_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(guard: subprocess.Popen[bytes], run_folder: Path) -> None:
    """Make sure that it is gone, with all that belongs to it."""
    if guard.poll() is None:
        guard.terminate()
        _wait(guard)
    for process in processes_in(run_folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    guard.wait()
