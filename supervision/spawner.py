"""The supervisor's end of the spawner: orders out, pidfds in, never blocking on either.

A spawner that is stopped, or dead, or slow costs the supervisor nothing but a time-out: orders
wait in a queue here, and whatever it sends is read when the event loop sees it.

The first spawner is a fork of the supervisor itself, made while that has one thread and nothing
open: it has imported all that actors need, and importing it again would delay every start by a
third. Any later one is started by exec, as the supervisor then has threads, which no fork copies.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgpack

from protocol.errors import InternalError
from supervision.forking import StartedProcess, exec_server, fork_server
from supervision.forkserver import serve

PRELOAD = ("zmq", "zmq.utils.monitor", "asyncio", "actors.kernel.host")
"""What every actor needs. Nothing of a single actor: a broken library of one, imported without a
trial, would take all of them down."""


@dataclass(frozen=True, slots=True)
class SpawnOrder:
    """A process to be made."""

    key: str
    """Names the process in all that is said of it; the actor's ``NAME.EPOCH``."""
    name: str
    entry: str
    """``module:function``, called in the new process with the payload and the descriptor that the
    secret can be read from, to its end."""
    payload: dict[str, Any]
    secret: bytes = field(repr=False)
    """At most `PIPE_BUF` bytes. Never in the spawner's memory, which all its forks share: it goes
    into the new process by a pipe."""


@dataclass(frozen=True, slots=True)
class SpawnedProcess:
    """A process that was made. Its descriptors are the receiver's to close."""

    key: str
    pid: int
    pidfd: int
    stdout: int
    """The reading end of a pipe, as is the next one."""
    stderr: int


@dataclass(slots=True)
class SpawnerEvents:
    """What the owner wants to be told. Every call comes from the event loop."""

    ready: Callable[[], None]
    spawned: Callable[[SpawnedProcess], None]
    failed: Callable[[str, str], None]
    """(key, reason)"""
    ended: Callable[[str, int, int], None]
    """(key, exit code or negated signal number, how many descendants that it left were killed)"""
    preloaded: Callable[[str, str], None]
    """(``module:Class``, what speaks against it; or nothing when it is there)"""
    died: Callable[[], None]
    """The spawner itself is gone; its processes die with it."""


def _send(channel: socket.socket, packet: bytes, secret: bytes) -> None:
    """Send it, with a pipe that holds the secret where there is one."""
    if not secret:
        channel.send(packet)
        return
    reading, writing = os.pipe()
    try:
        os.write(writing, secret)
        socket.send_fds(channel, [packet], [reading])
    finally:
        os.close(reading)
        os.close(writing)


def fork_spawner() -> StartedProcess:
    """Fork a spawner off this process. Raises `InternalError` when it has threads already."""
    if threading.active_count() != 1:
        raise InternalError("a process with threads cannot be forked safely")
    for module in PRELOAD:
        importlib.import_module(module)
    return fork_server(serve)


def exec_spawner() -> StartedProcess:
    """Start a spawner in a fresh Python."""
    return exec_server(["-m", "supervision.forkserver"], PRELOAD, os.environ)


class Spawner:
    """One spawner process. When it died, make another."""

    def __init__(self, events: SpawnerEvents) -> None:
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[bytes, bytes]] = deque()
        """Packets, each with the secret that goes with it."""
        self._pid: int | None = None
        self._channel: socket.socket | None = None
        self._pidfd = -1

    @property
    def pid(self) -> int | None:
        """Its process, while there is one."""
        return self._pid

    def start(self, started: StartedProcess | None = None) -> None:
        """Take over a spawner that was started, or start one. It says `ready` when it has
        imported what actors need."""
        if self._pid is not None:
            raise InternalError("the spawner runs already")
        process = started or exec_spawner()
        self._pid, self._channel = process.pid, process.channel
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._on_death)
        self._loop.add_reader(self._channel, self._on_readable)

    def order(self, order: SpawnOrder) -> None:
        """Ask for a process. Returns at once; without a spawner the order is lost, and so it
        is with one that dies: the owner learns that by `died`."""
        self._send(
            {"spawn": order.key, "name": order.name, "entry": order.entry,
             "payload": order.payload},
            order.secret,
        )  # fmt: skip

    def preload(self, classes: Iterable[str]) -> None:
        """Have it import these, each a ``module:Class``, when it has nothing else to do; processes
        made after that find them imported. `preloaded` tells what came of each."""
        self._send({"preload": list(classes)})

    def _send(self, message: dict[str, Any], secret: bytes = b"") -> None:
        if self._channel is None:
            return
        self._queue.append((msgpack.packb(message), secret))
        self._flush()

    def _flush(self) -> None:
        if self._channel is None:
            return
        while self._queue:
            try:
                _send(self._channel, *self._queue[0])
            except BlockingIOError:
                self._loop.add_writer(self._channel, self._flush)
                return
            except (BrokenPipeError, ConnectionResetError):
                # It is dying; its pidfd tells the rest.
                self._queue.clear()
                break
            self._queue.popleft()
        self._loop.remove_writer(self._channel)

    def _on_readable(self) -> None:
        while self._channel is not None:
            try:
                packet, fds, _, _ = socket.recv_fds(self._channel, 1 << 16, 4)
            except BlockingIOError:
                return
            except ConnectionResetError:
                packet, fds = b"", []
            if not packet:
                self._loop.remove_reader(self._channel)
                return
            for descriptor in fds:
                # What is received would stay open in the next spawner and guard, started by exec.
                # (Python passes no flag of `recv_fds` on.)
                os.set_inheritable(descriptor, False)
            self._dispatch(msgpack.unpackb(packet), fds)

    def _dispatch(self, message: dict[str, Any], fds: list[int]) -> None:
        match message:
            case {"ready": True}:
                self._events.ready()
            case {"spawned": key, "pid": pid}:
                self._events.spawned(SpawnedProcess(key, pid, *fds))
            case {"failed": key, "reason": reason}:
                self._events.failed(key, reason)
            case {"ended": key, "status": status, "swept": swept}:
                self._events.ended(key, status, swept)
            case {"preloaded": name, "problem": problem}:
                self._events.preloaded(name, problem)

    def _on_death(self) -> None:
        # What it said last is still to be read, then it is over.
        self._on_readable()
        self._let_go()
        self._events.died()

    def _let_go(self) -> None:
        if self._channel is not None:
            self._loop.remove_reader(self._channel)
            self._loop.remove_writer(self._channel)
            self._channel.close()
            self._channel = None
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._pid is not None:
            os.waitpid(self._pid, 0)
            self._pid = None
        self._queue.clear()

    def kill(self) -> None:
        """SIGKILL it; `died` follows, and its processes die with it."""
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, where there is one."""
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, number)

    async def close(self, timeout_s: float = 2.0) -> None:
        """End it in order: it kills what may be left below it. `died` is not called."""
        if self._pid is None or self._channel is None:
            return
        gone = asyncio.Event()
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._channel.close()
        self._channel = None
        self._loop.add_reader(self._pidfd, gone.set)
        try:
            await asyncio.wait_for(gone.wait(), timeout_s)
        except TimeoutError:
            self.kill()
            await gone.wait()
        self._let_go()
