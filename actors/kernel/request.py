"""One conversation at the answering end, and what a server counts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.kernel.handlers import Handler, Shape
from actors.kernel.peers import PeerInfo
from protocol.context import CallContext
from protocol.conversation import ASK, STREAM, Conversation, Outflow
from protocol.envelope import Envelope
from protocol.errors import NoyauError
from protocol.messages.base import Operation
from protocol.ports import Peer

if TYPE_CHECKING:
    from actors.kernel.resuming import Tail

_PLAIN, _STREAM = Shape.PLAIN, Shape.STREAM
_ASKED = Conversation(ASK)


class Request:
    """One conversation at the answering end."""

    # Not a dataclass: what a request answered at once never needs, it does not pay for.
    bucket: int = -1
    task: asyncio.Task[None] | None = None
    begun: bool = False
    """Whether the task has taken its first step."""
    verdict: NoyauError | None = None
    """Why the task is being cancelled, where it is."""
    outflow: Outflow | None = None
    credit: asyncio.Event | None = None
    """Set when credit came; a stream has one."""
    token: str = ""
    """By which a stream can be resumed; see `actors.kernel.resuming`."""
    tail: Tail | None = None
    """What such a stream sent last."""
    lost_at: float | None = None
    """Since when such a stream has no reader, monotonic seconds."""

    def __init__(
        self,
        peer: Peer,
        envelope: Envelope,
        handler: Handler,
        info: PeerInfo | None,
        deadline: float | None = None,
    ) -> None:
        self.peer = peer
        self.id = envelope.id
        self.operation = envelope.operation
        self.handler = handler
        self.info = info
        """Which actor asks; None for a client."""
        self.context = CallContext(envelope.correlation, deadline, envelope.priority)
        # A request that is answered at once never leaves its first state.
        if handler.shape is _PLAIN:
            self.conversation = _ASKED
        else:
            self.conversation = Conversation(STREAM if handler.shape is _STREAM else ASK)

    def arguments(self, message: Operation) -> tuple[object, ...]:
        """What its handler is called with."""
        return (message, self) if self.handler.takes_request else (message,)


@dataclass(slots=True)
class Tally:
    """What is counted; see `protocol.messages.actor.Counters`."""

    handled: int = 0
    failed: int = 0
    failed_in_a_row: int = 0
    rejected: int = 0
    late: int = 0
    progress: int = 0
    waiting: int = 0
    loop_lag_ms: float = 0.0
