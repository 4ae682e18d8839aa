"""The asking side of all conversations: one `Caller` for each process, actor or client.

It keeps a link to the supervisor, follows the directory over it, opens one link for each
incarnation it talks to, and sees to it that every conversation ends: with its answer, with an
error, at its deadline, or at once when the other side dies. An answer of a dead incarnation has
no way in, because its link is closed.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from protocol.backoff import Backoff
from protocol.clock import Clock, MonotonicClock
from protocol.codec import Codec, salvage_id
from protocol.context import CURRENT
from protocol.directory import SUSPICION_S, Death, Directory
from protocol.envelope import NO_ID, Envelope, Kind, Priority, new_id
from protocol.errors import (
    ActorDied,
    ActorUnavailable,
    Cancelled,
    DeadlineExceeded,
    NotRunning,
    NoyauError,
    Overloaded,
    ProtocolError,
)
from protocol.messages.actor import Hello
from protocol.messages.base import Ask, Event, Message, Stream
from protocol.messages.supervisor import DirectoryChange, DirectoryEntry, Heartbeat, WatchDirectory
from protocol.pending import OutgoingStream, Pending, PendingAsk
from protocol.ports import Link, Transport
from protocol.timers import Timers

R = TypeVar("R", bound=Message)
C = TypeVar("C", bound=Message)
E = TypeVar("E", bound=Message)

SUPERVISOR = "supervisor"

DEFAULT_ASK_S = 30.0
"""The deadline of an ask that names none and inherits none."""
DEFAULT_STREAM_S = 300.0

RECONNECT = Backoff(first_s=0.02, factor=1.6, max_s=0.25)
RETRY = Backoff(first_s=0.01, factor=2.0, max_s=0.5)
# Plain numbers: packing an enum's member takes three times as long.
_REQUEST, _NORMAL = Kind.REQUEST.value, Priority.NORMAL.value
GONE_S = 15.0
"""How long a supervisor may be away before waiting for it is given up. A guard has a new one
up, with the model loaded, in about 2 s; a cold disk takes several times that."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an actor is, and the secret that proves it."""

    name: str
    epoch: str
    secret: bytes = field(repr=False)


class _Peer:
    """One link and the conversations on it."""

    def __init__(self, name: str, epoch: str) -> None:
        self.name = name
        self.epoch = epoch
        self.link: Link | None = None
        self.lost = False
        self.conversations: dict[bytes, Pending] = {}

    def send(self, frame: bytes) -> None:
        if self.link is None:
            raise ActorDied(f"there is no connection to {self.name}")
        self.link.send(frame)


class Caller:
    """Asks, streams and tells. All methods belong to the event loop's thread."""

    def __init__(
        self,
        transport: Transport,
        supervisor_endpoint: str,
        *,
        identity: Identity | None = None,
        name: str = "client",
        clock: Clock | None = None,
        codec: Codec | None = None,
        reconnects: bool = True,
    ) -> None:
        self.clock = clock or MonotonicClock()
        self.directory = Directory()
        self.late = 0
        """Messages that came for a conversation that was over."""
        self.on_death: list[Callable[[Death], None]] = []
        """Called for each incarnation that is gone."""
        self.on_supervisor_lost: list[Callable[[str], None]] = []
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._timers = Timers(self.clock, self._loop)
        self._codec = codec or Codec()
        self._identity = identity
        self._source = identity.name if identity else name
        self._epoch = identity.epoch if identity else ""
        self._endpoint = supervisor_endpoint
        self._reconnects = reconnects
        self._supervisor = _Peer(SUPERVISOR, "")
        self._peers: dict[str, _Peer] = {}
        # The READY peer of each name, until the directory or a link says otherwise.
        self._routes: dict[str, _Peer] = {}
        self._news: asyncio.Future[None] = self._loop.create_future()
        self._watch: asyncio.Task[None] | None = None
        self._away_since: float | None = self.clock.now()
        self._away_reason = "not connected yet"
        self._attempts = 0
        self._closed = False

    # --- the supervisor and the directory -------------------------------------------------

    def open(self) -> None:
        """Connect to the supervisor and follow the directory. Returns at once."""
        peer = self._supervisor = _Peer(SUPERVISOR, "")
        self._connect(peer, self._endpoint, lambda reason: self._supervisor_lost(peer, reason))
        self._watch = self._loop.create_task(self._follow_directory(peer))

    async def connected(self, timeout_s: float) -> None:
        """Wait for the directory's first snapshot. Raises `NotRunning` as soon as it is clear
        that nobody listens at the endpoint, or after ``timeout_s``."""
        until = self.clock.now() + timeout_s
        while not self.directory.known:
            if self._attempts:
                raise NotRunning(f"nobody answers at {self._endpoint}")
            if self.clock.now() >= until:
                raise NotRunning(f"no answer from {self._endpoint} within {timeout_s:g} s")
            await self.wait_for_news(until)

    async def wait_for_news(self, until: float) -> None:
        """Return when the directory changed, or at ``until`` (monotonic seconds)."""
        left = until - self.clock.now()
        if left > 0:
            await asyncio.wait([self._news], timeout=left)

    async def ready(self, name: str, until: float) -> DirectoryEntry:
        """Wait for a READY incarnation of ``name``.

        Raises `NotFound`, `ActorUnavailable` (failed, or not ready at ``until``), or `NotRunning`
        when the supervisor stays away.
        """
        while True:
            self._check_open()
            entry = self.directory.ready(name, self.clock.now())
            if entry is not None:
                return entry
            now = self.clock.now()
            if self._away_since is not None and now - self._away_since >= GONE_S:
                raise NotRunning(f"the supervisor is gone: {self._away_reason}")
            if now >= until:
                raise self._not_ready(name)
            await self.wait_for_news(min(until, now + SUSPICION_S))

    def _not_ready(self, name: str) -> NoyauError:
        entry = self.directory.entries.get(name)
        if entry is None:
            return NotRunning(f"the supervisor is away: {self._away_reason}")
        why = f" ({entry.reason})" if entry.reason else ""
        return ActorUnavailable(f"{name} is still {entry.state.value}{why}", name=name)

    async def _follow_directory(self, peer: _Peer) -> None:
        reason = "the supervisor is stopping"
        try:
            async for change in self._begin_stream(peer, WatchDirectory(), None):
                self._directory_changed(change)
        except NoyauError as error:
            reason = error.message
        # However it ended: without a directory this process is blind, so it starts over.
        self._supervisor_lost(peer, reason)

    def _directory_changed(self, change: DirectoryChange) -> None:
        self._away_since = None
        self._attempts = 0
        for death in self.directory.apply(change.entries):
            self._bury(death)
        self._announce()

    def _announce(self) -> None:
        self._routes.clear()
        news, self._news = self._news, self._loop.create_future()
        news.set_result(None)

    def _supervisor_lost(self, peer: _Peer, reason: str) -> None:
        if self._closed or peer.lost:
            # Both the link and the directory's stream tell of one loss.
            return
        peer.lost = True
        self._drop(peer, f"the connection to the supervisor was lost: {reason}")
        for death in self.directory.clear():
            self._bury(death)
        if self._away_since is None:
            self._away_since = self.clock.now()
        self._away_reason = reason
        self._attempts += 1
        self._announce()
        for callback in self.on_supervisor_lost:
            callback(reason)
        if self._reconnects:
            delay = RECONNECT.ceiling(self._attempts - 1)
            self._loop.call_later(delay, self._reopen)

    def _reopen(self) -> None:
        if not self._closed:
            self.open()

    def _bury(self, death: Death) -> None:
        peer = self._peers.pop(death.endpoint, None)
        if peer is not None:
            self._drop(peer, f"{death.name} died: {death.reason or 'no reason known'}")
        for callback in self.on_death:
            callback(death)

    # --- links ----------------------------------------------------------------------------

    def _connect(self, peer: _Peer, endpoint: str, on_lost: Callable[[str], None]) -> None:
        peer.link = self._transport.connect(
            endpoint, functools.partial(self._on_frame, peer), on_lost
        )
        if self._identity is not None:
            me = self._identity
            self._emit(peer, Kind.EVENT, Hello(name=me.name, epoch=me.epoch, secret=me.secret))

    def _peer(self, entry: DirectoryEntry) -> _Peer:
        peer = self._peers.get(entry.endpoint)
        if peer is None:
            peer = self._peers[entry.endpoint] = _Peer(entry.name, entry.epoch)

            def lost(reason: str) -> None:
                self._link_lost(entry, reason)

            self._connect(peer, entry.endpoint, lost)
        return peer

    def _link_lost(self, entry: DirectoryEntry, reason: str) -> None:
        self._routes.clear()
        peer = self._peers.pop(entry.endpoint, None)
        self.directory.suspect(entry.epoch, self.clock.now())
        if peer is not None:
            self._drop(peer, f"{entry.name} died: {reason}")

    def _drop(self, peer: _Peer, reason: str) -> None:
        if peer.link is not None:
            peer.link.close()
            peer.link = None
        conversations, peer.conversations = peer.conversations, {}
        for pending in conversations.values():
            self._timers.remove(pending.bucket, pending.id)
            pending.fail(ActorDied(reason, actor=peer.name, epoch=peer.epoch))

    # --- sending --------------------------------------------------------------------------

    def _emit(self, peer: _Peer, kind: Kind, message: Event) -> None:
        context = CURRENT.get()
        envelope = Envelope(
            new_id(), kind.value, message.operation, self._source, self._epoch, peer.name,
            context.correlation if context is not None else NO_ID, body=message,
        )  # fmt: skip
        peer.send(self._codec.encode(envelope))

    def tell_supervisor(self, event: Event) -> None:
        """Send an event nobody answers. Raises `ActorDied` without a supervisor."""
        kind = Kind.HEARTBEAT if isinstance(event, Heartbeat) else Kind.EVENT
        self._emit(self._supervisor, kind, event)

    def _until(self, timeout_s: float | None, default_s: float) -> float:
        """The deadline, monotonic seconds: the caller's, but never past the inherited one."""
        context = CURRENT.get()
        inherited = context.deadline if context is not None else None
        if timeout_s is None:
            if inherited is not None:
                return inherited
            timeout_s = default_s
        until = self.clock.now() + timeout_s
        return until if inherited is None else min(until, inherited)

    def _request(self, peer: _Peer, pending: Pending, message: Message, key: str) -> None:
        """File the conversation and send its request."""
        context = CURRENT.get()
        id_, until = pending.id, pending.until
        deadline_ms = None if until is None else max(0, int((until - self.clock.now()) * 1000))
        peer.send(
            self._codec.encode(
                Envelope(
                    id_, _REQUEST, pending.operation, self._source, self._epoch, peer.name,
                    id_ if context is None else context.correlation, 0, deadline_ms,
                    _NORMAL if context is None else context.priority, key, "", message,
                )
            )
        )  # fmt: skip
        peer.conversations[id_] = pending
        if until is not None:
            pending.bucket = self._timers.file(
                until, id_, functools.partial(self._timed_out, peer, pending)
            )

    def _timed_out(self, peer: _Peer, pending: Pending) -> None:
        self.end(peer, pending, DeadlineExceeded(f"no end of {pending.operation} in time"))

    def end(self, peer: _Peer, pending: Pending, error: NoyauError) -> None:
        """Give a conversation up: fail it here, and tell the other side to stop working on it."""
        if peer.conversations.pop(pending.id, None) is None:
            return
        self._timers.remove(pending.bucket, pending.id)
        pending.fail(error)
        self._note(peer, pending, Kind.CANCEL, 0)

    def _note(self, peer: _Peer, pending: Pending, kind: Kind, sequence: int) -> None:
        """Send a cancel or credit; when the peer is gone the loss of its link says the rest."""
        envelope = Envelope(
            pending.id, kind.value, pending.operation, self._source, self._epoch, peer.name,
            sequence=sequence,
        )  # fmt: skip
        self._send_note(peer, self._codec.encode(envelope))

    def _send_note(self, peer: _Peer, frame: bytes) -> None:
        try:
            peer.send(frame)
        except ActorDied:
            return
        except Overloaded as full:
            # Later, but not never: without it the stream stands still, or work goes on for nobody.
            delay = full.details.get("retry_after_s", RETRY.max_s)
            self._loop.call_later(delay, self._send_note, peer, frame)

    # --- receiving ------------------------------------------------------------------------

    def _on_frame(self, peer: _Peer, frame: bytes) -> None:
        try:
            envelope = self._codec.decode(frame)
        except ProtocolError as error:
            # Whose answer it was can mostly be read, and he need not wait for his deadline.
            pending = peer.conversations.get(salvage_id(frame))
            if pending is None:
                self.late += 1
            else:
                self.end(peer, pending, error)
            return
        pending = peer.conversations.get(envelope.id)
        if pending is None:
            self.late += 1
            return
        try:
            over = pending.receive(envelope)
        except NoyauError as error:
            self.end(peer, pending, error)
            return
        if over:
            del peer.conversations[envelope.id]
            self._timers.remove(pending.bucket, pending.id)

    # --- asking ---------------------------------------------------------------------------

    async def ask(
        self,
        target: str,
        message: Ask[R],
        *,
        timeout_s: float | None = None,
        idempotency_key: str = "",
    ) -> R:
        """Ask and wait for the reply.

        Waits for ``target`` to be READY first. Raises what the receiver raised, `ActorDied` when
        it died meanwhile (an idempotent request is sent again instead, until the deadline), and
        `DeadlineExceeded`.
        """
        until = self._until(timeout_s, DEFAULT_ASK_S)
        attempt = 0
        while True:
            try:
                peer = self._routes.get(target) or await self._find(target, until)
                pending = PendingAsk(message, until, self._loop)
                self._request(peer, pending, message, idempotency_key)
                try:
                    return await pending.future
                except asyncio.CancelledError:
                    self.end(peer, pending, Cancelled("the caller no longer waits"))
                    raise
            except ActorDied:
                if not message.idempotent or self.clock.now() >= until:
                    raise
            await asyncio.sleep(RETRY.delay(attempt))
            attempt += 1

    async def _find(self, target: str, until: float) -> _Peer:
        self._check_open()
        if target == SUPERVISOR:
            while self._supervisor.link is None:
                self._check_open()
                if self._away_since is not None and self.clock.now() >= min(
                    until, self._away_since + GONE_S
                ):
                    raise NotRunning(f"the supervisor is gone: {self._away_reason}")
                await self.wait_for_news(min(until, self.clock.now() + SUSPICION_S))
            return self._supervisor
        entry = self.directory.ready(target, self.clock.now())
        if entry is None:
            entry = await self.ready(target, until)
        peer = self._routes[target] = self._peer(entry)
        return peer

    async def stream(
        self,
        target: str,
        message: Stream[C, E],
        *,
        timeout_s: float | None = None,
        idempotency_key: str = "",
    ) -> OutgoingStream[C, E]:
        """Begin a stream. Waits for ``target`` to be READY, then returns at once.

        Iterating raises as `ask` does; it ends normally only when the receiver's end arrived and
        every chunk before it did.
        """
        until = self._until(timeout_s, DEFAULT_STREAM_S)
        peer = await self._find(target, until)
        return self._begin_stream(peer, message, until, idempotency_key)

    def _begin_stream(
        self, peer: _Peer, message: Stream[C, E], until: float | None, key: str = ""
    ) -> OutgoingStream[C, E]:
        def give_credit(granted: int) -> None:
            self._note(peer, stream, Kind.CREDIT, granted)

        def give_up() -> None:
            self.end(peer, stream, Cancelled("the caller no longer reads"))

        stream = OutgoingStream(message, until, self._loop, peer.epoch, give_credit, give_up)
        self._request(peer, stream, message, key)
        return stream

    # --- the end --------------------------------------------------------------------------

    def close(self) -> None:
        """Disconnect from everybody. What is still open fails with `Cancelled`."""
        self._closed = True
        self._timers.close()
        self._routes.clear()
        for peer in [self._supervisor, *self._peers.values()]:
            for pending in list(peer.conversations.values()):
                self.end(peer, pending, Cancelled("the connection is being closed"))
            if peer.link is not None:
                peer.link.close()
        self._peers.clear()
        self._announce()

    def _check_open(self) -> None:
        if self._closed:
            raise Cancelled("the connection is closed")
