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
from typing import TypeVar

from protocol.backoff import Backoff
from protocol.clock import Clock, MonotonicClock
from protocol.codec import Codec
from protocol.connection import Connection, Identity, Speaker
from protocol.context import CURRENT
from protocol.directory import SUSPICION_S, Death, Directory
from protocol.endpoints import SUPERVISOR, resolved
from protocol.envelope import Kind
from protocol.epochs import same_makers
from protocol.errors import (
    ActorDied,
    ActorUnavailable,
    Cancelled,
    NotRunning,
    NoyauError,
    OutcomeUnknown,
    Poisoned,
)
from protocol.messages.actor import Hello
from protocol.messages.base import Ask, Event, Message, Stream
from protocol.messages.supervisor import DirectoryChange, DirectoryEntry, Heartbeat, WatchDirectory
from protocol.pending import OutgoingStream, PendingAsk
from protocol.ports import Transport
from protocol.timers import Timers

R = TypeVar("R", bound=Message)
C = TypeVar("C", bound=Message)
E = TypeVar("E", bound=Message)

DEFAULT_ASK_S = 30.0
"""The deadline of an ask that names none and inherits none."""
DEFAULT_STREAM_S = 300.0

RECONNECT = Backoff(first_s=0.02, factor=1.6, max_s=0.25)
RETRY = Backoff(first_s=0.01, factor=2.0, max_s=0.5)
MAX_DEATHS = 2
"""An idempotent request is sent again after the first death of its receiver, and not after the
second: twice may be chance, a third try would end what everybody else needs."""
GONE_S = 15.0
"""How long a supervisor may be away before waiting for it is given up. A guard has a new one
up, with the model loaded, in about 2 s; a cold disk takes several times that."""


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
        self.on_death: list[Callable[[Death], None]] = []
        """Called for each incarnation that is gone."""
        self.on_supervisor_lost: list[Callable[[str], None]] = []
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._timers = Timers(self.clock, self._loop)
        self._identity = identity
        self._speaker = Speaker(
            identity.name if identity else name, identity.epoch if identity else "",
            codec or Codec(), self.clock, self._timers, self._loop,
        )  # fmt: skip
        self._endpoint = supervisor_endpoint
        self._reconnects = reconnects
        self._supervisor = Connection(self._speaker, SUPERVISOR, "")
        self._connections: dict[str, Connection] = {}
        """By epoch: over TCP the next incarnation may have the port of the last."""
        # That to the READY incarnation of each name, until the directory or a link says otherwise.
        self._routes: dict[str, Connection] = {}
        self._news: asyncio.Future[None] = self._loop.create_future()
        self._watch: asyncio.Task[None] | None = None
        self._away_since: float | None = self.clock.now()
        self._away_reason = "not connected yet"
        self._attempts = 0
        self._closed = False

    @property
    def late(self) -> int:
        """Messages that came for a conversation that was over."""
        return self._speaker.late

    @property
    def max_frame_bytes(self) -> int:
        """Of what it sends, blobs included."""
        return self._speaker.codec.max_frame_bytes

    def unanswered(self) -> dict[str, int]:
        """Conversations without an end in their time, by the epoch of whom they were with."""
        return {
            connection.epoch: connection.unanswered
            for connection in self._connections.values()
            if connection.unanswered
        }

    # --- the supervisor and the directory -------------------------------------------------

    def open(self) -> None:
        """Connect to the supervisor and follow the directory. Returns at once."""
        here = self._supervisor = Connection(self._speaker, SUPERVISOR, "")
        self._connect(here, self._endpoint, functools.partial(self._supervisor_lost, here))
        self._watch = self._loop.create_task(self._follow_directory(here))

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

    async def _follow_directory(self, here: Connection) -> None:
        reason = "the supervisor is stopping"
        try:
            async for change in self._begin_stream(here, WatchDirectory(), None):
                self._directory_changed(change)
        except NoyauError as error:
            reason = error.message
        # However it ended: without a directory this process is blind, so it starts over.
        self._supervisor_lost(here, reason)

    def _directory_changed(self, change: DirectoryChange) -> None:
        self._away_since = None
        self._attempts = 0
        entries = [
            entry.model_copy(update={"endpoint": resolved(entry.endpoint, self._endpoint)})
            for entry in change.entries
        ]
        for death in self.directory.apply(entries):
            self._bury(death)
        self._announce()

    def _announce(self) -> None:
        self._routes.clear()
        news, self._news = self._news, self._loop.create_future()
        news.set_result(None)

    def _supervisor_lost(self, here: Connection, reason: str) -> None:
        if self._closed or here.lost:
            # Both the link and the directory's stream tell of one loss.
            return
        here.lost = True
        here.drop(f"the connection to the supervisor was lost: {reason}")
        for death in self.directory.clear():
            self._bury(death)
        if self._away_since is None or not self._attempts:
            # The first reason, and not that nobody answered to the tries that followed.
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
        connection = self._connections.pop(death.epoch, None)
        if connection is not None:
            connection.drop(f"{death.name} died: {death.reason or 'no reason known'}")
        for callback in self.on_death:
            callback(death)

    def tell_supervisor(self, event: Event) -> None:
        """Send an event nobody answers. Raises `ActorDied` without a supervisor."""
        kind = Kind.HEARTBEAT if isinstance(event, Heartbeat) else Kind.EVENT
        self._supervisor.emit(event, kind)

    # --- links ----------------------------------------------------------------------------

    def _connect(
        self, connection: Connection, endpoint: str, on_lost: Callable[[str], None]
    ) -> None:
        connection.link = self._transport.connect(endpoint, connection.on_frame, on_lost)
        if self._identity is not None:
            me = self._identity
            connection.emit(Hello(name=me.name, epoch=me.epoch, secret=me.secret))

    def _to(self, entry: DirectoryEntry) -> Connection:
        connection = self._connections.get(entry.epoch)
        if connection is None:
            connection = Connection(self._speaker, entry.name, entry.epoch)
            self._connections[entry.epoch] = connection
            self._connect(connection, entry.endpoint, functools.partial(self._link_lost, entry))
        return connection

    def _link_lost(self, entry: DirectoryEntry, reason: str) -> None:
        self._routes.clear()
        connection = self._connections.pop(entry.epoch, None)
        self.directory.suspect(entry.epoch, self.clock.now())
        if connection is not None:
            connection.drop(f"{entry.name} died: {reason}")

    # --- asking ---------------------------------------------------------------------------

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

    async def ask(
        self,
        target: str,
        message: Ask[R],
        *,
        timeout_s: float | None = None,
        idempotency_key: str = "",
        again: bool = True,
    ) -> R:
        """Ask and wait for the reply.

        Waits for ``target`` to be READY first. Raises what the receiver raised, `ActorDied` when
        it died meanwhile or stopped in the middle of it (`OutcomeUnknown` where the request acts
        on something outside), and `DeadlineExceeded`. An idempotent request is sent again instead,
        until the deadline, unless ``again`` is false, and so is any that a draining one refused;
        when `MAX_DEATHS` incarnations have died with it in hand, `Poisoned` is raised.
        """
        until = self._until(timeout_s, DEFAULT_ASK_S)
        attempt = 0
        deaths: list[str] = []
        while True:
            try:
                connection = self._routes.get(target) or await self._find(target, until)
                pending = PendingAsk(message, until, self._loop)
                connection.request(pending, message, idempotency_key)
                try:
                    return await pending.future
                except asyncio.CancelledError:
                    connection.end(pending, Cancelled("the caller no longer waits"))
                    raise
            except ActorDied as death:
                if message.acts_outside and death.process is not None:
                    raise _outcome_unknown(message, f"{death.process} died") from None
                if not (again and message.idempotent) or self.clock.now() >= until:
                    raise
                self._check_deaths(target, message.operation, death, deaths)
            except ActorUnavailable as error:
                # Its own word, and not that of one that it asked in its turn.
                its_own = error.remote and error.details.get("name") == target
                if its_own and message.acts_outside and not error.refused:
                    raise _outcome_unknown(message, error.message) from None
                may_repeat = error.refused or (again and message.idempotent)
                if not (its_own and may_repeat) or self.clock.now() >= until:
                    raise
                self._routes.pop(target, None)
                if error.refused:
                    # It ends, and the directory does not know yet.
                    self.directory.suspect(connection.epoch, self.clock.now())
            await asyncio.sleep(RETRY.delay(attempt))
            attempt += 1

    def _check_deaths(
        self, target: str, operation: str, death: ActorDied, deaths: list[str]
    ) -> None:
        """Note who died with the request in hand. Raises `Poisoned` when that is enough."""
        # A lost link to the supervisor says nothing: it is lost with whatever else is wrong.
        if target == SUPERVISOR or death.process is None or death.process in deaths:
            return
        # Those before it that may have died with their spawner or supervisor say nothing.
        deaths[:] = [one for one in deaths if same_makers(one, death.process)]
        deaths.append(death.process)
        if len(deaths) >= MAX_DEATHS:
            raise Poisoned(
                f"{target} died {len(deaths)} times in a row while it worked on {operation}; ask "
                f"differently, and see `noyau logs {target}`",
                deaths=deaths,
            ) from None

    async def _find(self, target: str, until: float) -> Connection:
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
        connection = self._routes[target] = self._to(entry)
        return connection

    async def stream(
        self,
        target: str,
        message: Stream[C, E],
        *,
        timeout_s: float | None = None,
        token: str = "",
        first: int = 0,
        priority: int | None = None,
    ) -> OutgoingStream[C, E]:
        """Begin a stream. Waits for ``target`` to be READY, then returns at once.

        Iterating raises as `ask` does; it ends normally only when the receiver's end arrived and
        every chunk before it did. With a secret ``token`` it can be resumed while its receiver
        keeps it: with the same one, from the chunk numbered ``first`` on. ``priority``: another
        than that of the request which this is asked for.
        """
        until = self._until(timeout_s, DEFAULT_STREAM_S)
        connection = await self._find(target, until)
        return self._begin_stream(connection, message, until, token, first, priority)

    def _begin_stream(
        self,
        connection: Connection,
        message: Stream[C, E],
        until: float | None,
        token: str = "",
        first: int = 0,
        priority: int | None = None,
    ) -> OutgoingStream[C, E]:
        def give_credit(granted: int) -> None:
            connection.note(stream, Kind.CREDIT, granted)

        def give_up() -> None:
            connection.end(stream, Cancelled("the caller no longer reads"))

        stream = OutgoingStream(
            message, until, self._loop, connection.epoch, give_credit, give_up, first
        )
        connection.request(stream, message, token, first, priority)
        return stream

    # --- the end --------------------------------------------------------------------------

    def close(self) -> None:
        """Disconnect from everybody. What is still open fails with `Cancelled`."""
        self._closed = True
        self._timers.close()
        self._routes.clear()
        for connection in [self._supervisor, *self._connections.values()]:
            connection.close(Cancelled("the connection is being closed"))
        self._connections.clear()
        self._announce()

    def _check_open(self) -> None:
        if self._closed:
            raise Cancelled("the connection is closed")


def _outcome_unknown(message: Ask[R], why: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{why}, having {message.operation} in hand: whether that was done nobody knows; look "
        "before you ask again",
        operation=message.operation,
    )
