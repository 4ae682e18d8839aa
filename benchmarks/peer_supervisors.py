"""Supervisors of processes that others wrote, each with one tiny worker, for `benchmarks.recovery`.

circus and supervisord run in the peers' own environment, in a folder of their own below /tmp, and
listen to nothing but sockets in it. Both look at their workers at intervals, so a worker is killed
at a moment drawn evenly from one interval; killed right after a look, it would always wait longest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgpack
import psutil
import zmq

from benchmarks.bare import Drained
from benchmarks.system import PEERS, ROOT
from supervision.processes import die_with_parent

ANSWER_S = 60.0
"""A peer that has not brought its worker back by then does not do what it is measured for."""
STOP_S = 10.0
_ASK_AGAIN_S = 0.5
WORKER = ROOT / "benchmarks" / "worker.py"

_CIRCUS = """
[circus]
endpoint = ipc://{folder}/control
pubsub_endpoint = ipc://{folder}/events
# Empty: it does not look for others of its kind in the network.
multicast_endpoint =
{settings}
[watcher:worker]
cmd = {worker}
{worker_settings}
"""
_SUPERVISORD = """
[supervisord]
nodaemon = true
logfile = {folder}/log
pidfile = {folder}/pid
childlogdir = {folder}

[program:worker]
command = {worker}
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A peer and how it is set up."""

    module: str
    """What Python is told to run, with the configuration's path after ``arguments``."""
    arguments: Sequence[str]
    configuration: str
    period_s: float
    """It looks at its worker so often."""
    settle_s: float = 0.1
    """A worker that ends sooner counts as one that did not start."""
    settings: str = ""
    worker_settings: str = ""

    @property
    def installed(self) -> bool:
        """Whether `make bench` has put it where the peers live."""
        package = self.module.partition(".")[0]
        return any(PEERS.glob(f"lib/python*/site-packages/{package}/__init__.py"))


_FASTEST_CHECK_S = 0.01
"""Looks more often make circus busier, but no faster: it brought a worker back in 64, 58, 68 and
67 ms with 1, 3, 10 and 30 ms between them, and took 19, 11, 5 and 2 % of a core for looking."""

KINDS = {
    # circus.config: check_delay is 5 s unless it is set.
    "circus": Kind("circus.circusd", (), _CIRCUS, period_s=5.0),
    "circus, fastest": Kind(
        "circus.circusd", (), _CIRCUS, period_s=_FASTEST_CHECK_S,
        settings=f"check_delay = {_FASTEST_CHECK_S}\nwarmup_delay = 0\n",
        worker_settings="warmup_delay = 0\ngraceful_timeout = 0\nmax_retry = -1\n",
    ),
    # supervisor.options: startsecs is 1 unless it is set; supervisor.supervisord waits 1 s at most
    # for something to happen before it looks again.
    "supervisord": Kind(
        "supervisor.supervisord", ("--nodaemon", "--configuration"), _SUPERVISORD,
        period_s=1.0, settle_s=1.1,
    ),
}  # fmt: skip
"""Two are as they come, one is set to its fastest."""


async def ask(endpoint: str) -> int:
    """The pid of the worker that answers there, as soon as one does."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[int] = loop.create_future()
    context: zmq.Context[Any] = zmq.Context.instance()
    dealer = Drained(context, zmq.DEALER)

    def receive() -> None:
        pid = msgpack.unpackb(dealer.socket.recv(zmq.NOBLOCK))
        if not answered.done():
            answered.set_result(pid)

    # zmq's default of 100 ms between tries would swamp what is measured.
    dealer.socket.set(zmq.RECONNECT_IVL, 1)
    dealer.start(receive)
    try:
        dealer.socket.connect(endpoint)
        dealer.socket.send(b"\x01", zmq.NOBLOCK)
        dealer.drain()
        return await answered
    finally:
        loop.remove_reader(dealer.socket.get(zmq.FD))
        dealer.socket.close()


async def _gone(pid: int) -> None:
    """Wait until a process has ended: what is sent to its socket from now on reaches the next."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    pidfd = os.pidfd_open(pid)
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


class Peer:
    """``async with Peer("circus") as peer``: it runs, and its worker answers."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._kind = KINDS[name]
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _endpoint(self) -> str:
        return f"ipc://{self._folder}/worker"

    async def __aenter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="nyb", dir="/tmp"))
        try:
            self._process = self._start()
            await self._answer()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        process, self._process = self._process, None
        try:
            if process is not None:
                await asyncio.to_thread(_end, process)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> subprocess.Popen[bytes]:
        configuration = self._folder / "configuration.ini"
        worker = shlex.join([sys.executable, "-P", str(WORKER), self._endpoint])
        configuration.write_text(
            self._kind.configuration.format(
                folder=self._folder,
                worker=worker,
                settings=self._kind.settings,
                worker_settings=self._kind.worker_settings,
            )
        )
        parent = os.getpid()
        with (self._folder / "output").open("wb") as output:
            return subprocess.Popen(
                # -I: nothing of noyau's is on its path; its supervisor.py has a peer's name.
                [str(PEERS / "bin" / "python"), "-I", "-m", self._kind.module,
                 *self._kind.arguments, str(configuration)],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # As with `System`: Ctrl-C ends the benchmark, and that ends this in order.
                process_group=0,
                preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),
            )  # fmt: skip

    async def _answer(self) -> int:
        """The pid of its worker. Raises RuntimeError when none answers in time."""
        try:
            return await asyncio.wait_for(ask(self._endpoint), ANSWER_S)
        except TimeoutError:
            said = (self._folder / "output").read_text(errors="replace")[-1000:]
            raise RuntimeError(f"no worker of {self._name} answers:\n{said}") from None

    async def _at_any_moment(self) -> int:
        """Wait for a moment to end the worker; returns its pid."""
        pid = await self._answer()
        await asyncio.sleep(self._kind.settle_s + random.random() * self._kind.period_s)
        return pid

    async def kill_and_ask(self) -> float:
        """Milliseconds from SIGKILL of the worker to the answer of the next one."""
        pid = await self._at_any_moment()
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        await _gone(pid)
        assert await self._answer() != pid
        return (time.perf_counter() - began) * 1000

    async def stop_and_ask(self, within_s: float) -> float | None:
        """Milliseconds from SIGSTOP of the worker to the answer of another one; None when there
        is none in time."""
        pid = await self._at_any_moment()
        began = time.perf_counter()
        os.kill(pid, signal.SIGSTOP)
        try:
            while (left := began + within_s - time.perf_counter()) > 0:
                # What the stopped one was asked is lost with it: ask anew.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, _ASK_AGAIN_S)):
                        if await ask(self._endpoint) != pid:
                            return (time.perf_counter() - began) * 1000
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that it is gone, with all that belongs to it."""
    below: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        below = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for one in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
