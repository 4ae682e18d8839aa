"""A noyau in one process: a supervisor that knows where everybody is, actors, and their callers.

Everything between a `Caller` and a `Server` is real: the envelopes, the transport, the directory.
Only the processes are missing; `Node.die` plays the death of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import structlog.testing
from msgspec.structs import replace

from actors.kernel.handlers import handles
from actors.kernel.hooks import Hooks
from actors.kernel.serving import MAX_OPEN_PER_PEER, Server
from protocol.caller import Caller
from protocol.clock import Clock, MonotonicClock
from protocol.codec import Codec
from protocol.connection import Identity
from protocol.endpoints import SUPERVISOR
from protocol.envelope import NOTHING, Envelope, Kind, new_id
from protocol.lifecycle import ActorState
from protocol.messages.actor import Ping, Pong
from protocol.messages.base import Empty
from protocol.messages.supervisor import DirectoryChange, DirectoryEntry, WatchDirectory
from protocol.ports import Link, Listener, OnFrame, Transport
from tests.support.wirings import BOUND_S, Wiring

SECRET = b"the secret of this boot"

ACTOR = "probe"


class Probe:
    """The owner of a server; subclass it and add handlers."""

    @handles(Ping, always=True)
    def ping(self, message: Ping) -> Pong:
        """Answer at once, as every actor does."""
        return Pong(name=ACTOR, epoch="", payload=message.payload)


class Everybody:
    """The supervisor's owner: it tells whoever watches where everybody is."""

    def __init__(self) -> None:
        self.entries: dict[str, DirectoryEntry] = {}
        self._watchers: list[tuple[dict[str, DirectoryEntry], asyncio.Event]] = []

    def put(self, entry: DirectoryEntry) -> None:
        """Change an entry and tell it."""
        self.entries[entry.name] = entry
        for changed, news in self._watchers:
            changed[entry.name] = entry
            news.set()

    @handles(WatchDirectory)
    async def watch(self, message: WatchDirectory) -> AsyncGenerator[DirectoryChange | Empty, None]:
        """All entries, then those that change."""
        del message
        changed, news = dict(self.entries), asyncio.Event()
        watcher = (changed, news)
        self._watchers.append(watcher)
        try:
            while True:
                entries = list(changed.values())
                changed.clear()
                yield DirectoryChange(entries=entries)
                await news.wait()
                news.clear()
        finally:
            self._watchers.remove(watcher)


@dataclass(slots=True)
class Node:
    """One incarnation of the supervisor or of an actor."""

    name: str
    epoch: str
    endpoint: str
    server: Server
    listener: Listener
    end: Callable[[], None]

    async def die(self) -> None:
        """End as a killed process does: the connections are cut, nothing more is said."""
        self.listener.close()
        await self.server.stop()
        self.end()


class Wire:
    """A peer that speaks in envelopes and may break every rule."""

    def __init__(self, transport: Transport, endpoint: str) -> None:
        self._codec = Codec()
        self._inbox: asyncio.Queue[Envelope] = asyncio.Queue()
        self.lost = asyncio.Event()
        self.link: Link = transport.connect(
            endpoint,
            self._on_frame,
            lambda reason: self.lost.set(),
        )

    def _on_frame(self, frame: bytes) -> None:
        if frame != NOTHING:
            self._inbox.put_nowait(self._codec.decode(frame))

    def send(self, kind: Kind, operation: str, body: Any = None, **fields: Any) -> bytes:
        """Send one envelope; returns its id. ``fields`` are those of `Envelope`."""
        envelope = Envelope(fields.pop("id", None) or new_id(), kind, operation, body=body)
        self.link.send(self._codec.encode(replace(envelope, **fields)))
        return envelope.id

    @property
    def waiting(self) -> int:
        """Envelopes that came and were not taken yet."""
        return self._inbox.qsize()

    async def next(self) -> Envelope:
        """The next envelope that comes."""
        return await asyncio.wait_for(self._inbox.get(), BOUND_S)

    async def before(self, payload: bytes = b"fence") -> list[Envelope]:
        """All envelopes that come before the answer to a ping sent now."""
        ping = self.send(Kind.REQUEST, Ping.operation, Ping(payload=payload))
        came: list[Envelope] = []
        while (envelope := await self.next()).id != ping:
            came.append(envelope)
        return came


class Network:
    """Use it with ``async with``: the supervisor runs inside."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.everybody = Everybody()
        self.supervisor: Node
        self._nodes: list[Node] = []
        self._callers: list[Caller] = []
        # Kept, not shown: a traceback drawn for people holds the loop up longer than any test.
        self._capture = structlog.testing.capture_logs()

    async def __aenter__(self) -> Self:
        self.logs = self._capture.__enter__()
        self.start_supervisor()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for caller in self._callers:
            caller.close()
        for node in self._nodes:
            await node.server.stop()
            node.listener.close()
        self._capture.__exit__(kind, error, traceback)

    def start_supervisor(self, generation: str = "") -> None:
        """Start it; again after its death, with another ``generation``, at the same endpoint."""
        self.supervisor = self._start(SUPERVISOR, self.everybody, generation, SUPERVISOR)

    def start(
        self,
        owner: object,
        *,
        name: str = ACTOR,
        epoch: str = "1",
        announced: ActorState | None = ActorState.READY,
        clock: Clock | None = None,
        codec: Codec | None = None,
        hooks: list[Hooks] | None = None,
        state: Callable[[], ActorState] = lambda: ActorState.READY,
        max_open_per_peer: int = MAX_OPEN_PER_PEER,
    ) -> Node:
        """Start an incarnation of an actor, and have the supervisor tell of it."""
        node = self._start(
            name, owner, epoch, f"{name}.{epoch}",
            clock=clock, codec=codec, hooks=hooks, state=state, max_open_per_peer=max_open_per_peer,
        )  # fmt: skip
        if announced is not None:
            self.announce(node, announced)
        return node

    def _start(self, name: str, owner: object, epoch: str, at: str, **options: Any) -> Node:
        clock = options.pop("clock", None) or MonotonicClock()
        server = Server(owner, name=name, epoch=epoch, secret=SECRET, clock=clock, **options)
        endpoint = self.wiring.endpoint(at)
        transport = self.wiring.transport()
        listener = transport.listen(endpoint, server.on_frame)
        server.attach(listener)
        node = Node(name, epoch, endpoint, server, listener, lambda: self.wiring.end(transport))
        self._nodes.append(node)
        return node

    def listen(self, on_frame: OnFrame, epoch: str = "1") -> Listener:
        """An actor without a server: it answers as the test wants it to."""
        endpoint = self.wiring.endpoint(f"{ACTOR}.{epoch}")
        listener = self.wiring.transport().listen(endpoint, on_frame)
        self.tell(epoch=epoch, endpoint=endpoint, state=ActorState.READY)
        return listener

    def announce(self, node: Node, state: ActorState = ActorState.READY) -> None:
        """Have the supervisor tell where this incarnation is."""
        self.tell(name=node.name, epoch=node.epoch, endpoint=node.endpoint, state=state)

    def tell(
        self,
        *,
        state: ActorState,
        name: str = ACTOR,
        epoch: str = "",
        endpoint: str = "",
        reason: str = "",
    ) -> None:
        """Have the supervisor tell something of an actor."""
        self.everybody.put(
            DirectoryEntry(name=name, epoch=epoch, endpoint=endpoint, state=state, reason=reason)
        )

    def identity(self, epoch: str = "7", secret: bytes = SECRET, name: str = "asker") -> Identity:
        """Who another actor is that asks this one."""
        return Identity(name, epoch, secret)

    async def caller(
        self,
        identity: Identity | None = None,
        *,
        transport: Transport | None = None,
        clock: Clock | None = None,
        codec: Codec | None = None,
    ) -> Caller:
        """A caller that has the directory."""
        caller = Caller(
            transport or self.wiring.transport(),
            self.wiring.endpoint(SUPERVISOR),
            identity=identity,
            clock=clock,
            codec=codec,
        )
        self._callers.append(caller)
        caller.open()
        await caller.connected(BOUND_S)
        return caller

    def wire(self, node: Node) -> Wire:
        """A bare connection to an actor."""
        return Wire(self.wiring.transport(), node.endpoint)


async def knows(caller: Caller, condition: Callable[[dict[str, DirectoryEntry]], bool]) -> None:
    """Wait until the caller's directory is as ``condition`` wants it."""
    async with asyncio.timeout(BOUND_S):
        while not condition(caller.directory.entries):
            await caller.wait_for_news(caller.clock.now() + BOUND_S)
