"""One link to one incarnation, and the conversations that are open on it.

Each conversation filed here ends: with its answer, with an error, at its deadline, or at once when
the link is lost. An answer of a dead incarnation has no way in, because its link is closed.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field

from protocol.clock import Clock
from protocol.codec import Codec, salvage_id
from protocol.context import CURRENT
from protocol.envelope import NO_ID, NOTHING, Envelope, Kind, Priority, new_id
from protocol.errors import (
    ActorDied,
    ActorUnavailable,
    DeadlineExceeded,
    NoyauError,
    Overloaded,
    ProtocolError,
)
from protocol.messages.actor import Farewell
from protocol.messages.base import Event, Message
from protocol.pending import Pending
from protocol.ports import Link
from protocol.timers import Timers

# Plain numbers: packing an enum's member takes three times as long.
_REQUEST, _EVENT, _NORMAL = Kind.REQUEST.value, Kind.EVENT.value, Priority.NORMAL.value
NOTE_AGAIN_S = 0.5
"""When a note that found a full queue is sent again, where the queue does not say when."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an actor is, and the secret that proves it."""

    name: str
    epoch: str
    secret: bytes = field(repr=False)


@dataclass(slots=True)
class Speaker:
    """What all connections of one process share."""

    source: str
    epoch: str
    codec: Codec
    clock: Clock
    timers: Timers
    loop: asyncio.AbstractEventLoop
    late: int = 0
    """Messages that came for a conversation that was over."""


class Connection:
    """A link, once there is one, and its conversations."""

    def __init__(self, speaker: Speaker, name: str, epoch: str) -> None:
        self.name = name
        self.epoch = epoch
        self.link: Link | None = None
        self.lost = False
        """Whether its loss was told already."""
        self.farewell = False
        """Whether the other side has ended in order, and reads nothing more."""
        self.unanswered = 0
        """Conversations that had no end in their time."""
        self._speaker = speaker
        self._open: dict[bytes, Pending] = {}

    # --- out ------------------------------------------------------------------------------

    def _send(self, frame: bytes, *, at_once: bool = False) -> None:
        if self.link is None:
            raise ActorDied(f"there is no connection to {self.name}")
        self.link.send(frame, at_once=at_once)

    def emit(self, message: Event, kind: Kind = Kind.EVENT) -> None:
        """Send what nobody answers. Raises `ActorDied` or `Overloaded`."""
        context, me = CURRENT.get(), self._speaker
        envelope = Envelope(
            new_id(), kind.value, message.operation, me.source, me.epoch, self.name,
            context.correlation if context is not None else NO_ID, body=message,
        )  # fmt: skip
        self._send(me.codec.encode(envelope))

    def request(
        self,
        pending: Pending,
        message: Message,
        key: str,
        first: int = 0,
        own_priority: int | None = None,
    ) -> None:
        """Send a conversation's request and file it. Raises what sending and packing raise, and
        then nothing is filed. ``first``: the first chunk that is wanted, where it resumes one;
        ``own_priority``: not that of what this is asked for."""
        context, me = CURRENT.get(), self._speaker
        id_, until = pending.id, pending.until
        deadline_ms = None
        if until is not None:
            deadline_ms = int((until - me.clock.now()) * 1000)
            if deadline_ms < 0:
                deadline_ms = 0
        if context is None:
            correlation, priority = id_, _NORMAL
        else:
            correlation, priority = context.correlation, context.priority
        if own_priority is not None:
            priority = own_priority
        # The fields themselves: for a model msgspec has to ask, which takes as long again.
        frame = me.codec.encode(
            Envelope(
                id_, _REQUEST, pending.operation, me.source, me.epoch, self.name, correlation,
                first, deadline_ms, priority, key, "", message.__dict__,
            )
        )  # fmt: skip
        link = self.link
        if link is None:
            raise ActorDied(f"there is no connection to {self.name}")
        if self.farewell:
            raise self._unread()
        link.send(frame)
        self._open[id_] = pending
        if until is not None:
            pending.bucket = me.timers.file(until, id_, functools.partial(self._timed_out, pending))

    def note(self, pending: Pending, kind: Kind, sequence: int = 0) -> None:
        """Send a cancel or credit; when the peer is gone the loss of its link says the rest."""
        me = self._speaker
        envelope = Envelope(
            pending.id, kind.value, pending.operation, me.source, me.epoch, self.name,
            sequence=sequence,
        )  # fmt: skip
        self._send_note(me.codec.encode(envelope))

    def _send_note(self, frame: bytes) -> None:
        try:
            # A credit that waited until its reader has nothing left to read would come too late.
            self._send(frame, at_once=True)
        except ActorDied:
            return
        except Overloaded as full:
            # Later, but not never: without it the stream stands still, or work goes on for nobody.
            delay = full.details.get("retry_after_s", NOTE_AGAIN_S)
            self._speaker.loop.call_later(delay, self._send_note, frame)

    # --- in -------------------------------------------------------------------------------

    def on_frame(self, frame: bytes) -> None:
        """Take one frame of the link."""
        me = self._speaker
        try:
            envelope = me.codec.decode(frame)
        except ProtocolError as error:
            if frame == NOTHING:
                return
            # Whose answer it was can mostly be read, and he need not wait for his deadline.
            pending = self._open.get(salvage_id(frame))
            if pending is None:
                me.late += 1
            else:
                self.end(pending, error)
            return
        pending = self._open.get(envelope.id)
        if pending is None:
            if envelope.operation == Farewell.operation and envelope.kind == _EVENT:
                self._left()
            else:
                me.late += 1
            return
        try:
            over = pending.receive(envelope)
        except NoyauError as error:
            self.end(pending, error)
            return
        if over:
            del self._open[envelope.id]
            me.timers.remove(pending.bucket, pending.id)
            # The last thing done here: whoever waits goes on in the middle of this.
            pending.go_on()

    # --- the end --------------------------------------------------------------------------

    def _left(self) -> None:
        """The other side ended in order. What it left unanswered it did not read."""
        self.farewell = True
        conversations, self._open = self._open, {}
        for pending in conversations.values():
            self._speaker.timers.remove(pending.bucket, pending.id)
            pending.fail(self._unread())

    def _unread(self) -> ActorUnavailable:
        error = ActorUnavailable(f"{self.name} has ended", name=self.name, refused=True)
        # It is what the other side says.
        error.remote = True
        return error

    def _timed_out(self, pending: Pending) -> None:
        self.unanswered += 1
        self.end(pending, DeadlineExceeded(f"no end of {pending.operation} in time"))

    def end(self, pending: Pending, error: NoyauError) -> None:
        """Give a conversation up: fail it here, and tell the other side to stop working on it."""
        if self._open.pop(pending.id, None) is None:
            return
        self._speaker.timers.remove(pending.bucket, pending.id)
        pending.fail(error)
        self.note(pending, Kind.CANCEL)

    def drop(self, reason: str) -> None:
        """The other side is gone: close the link and fail all that is open with `ActorDied`."""
        self._let_go()
        conversations, self._open = self._open, {}
        for pending in conversations.values():
            self._speaker.timers.remove(pending.bucket, pending.id)
            pending.fail(ActorDied(reason, actor=self.name, epoch=self.epoch))

    def close(self, error: NoyauError) -> None:
        """We go: take back what is open, and close the link."""
        for pending in list(self._open.values()):
            self.end(pending, error)
        self._let_go()

    def _let_go(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None
