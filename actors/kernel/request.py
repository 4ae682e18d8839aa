"""One conversation at the answering end, and what a server counts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from actors.kernel.handlers import Handler
from actors.kernel.peers import PeerInfo
from protocol.context import CallContext
from protocol.conversation import Conversation, Outflow
from protocol.errors import NoyauError


@dataclass(slots=True, eq=False)
class Request:
    """One conversation at the answering end."""

    peer: bytes
    id: bytes
    operation: str
    context: CallContext
    info: PeerInfo | None
    """Which actor asks; None for a client."""
    conversation: Conversation
    handler: Handler
    began: float = 0.0
    bucket: int = -1
    task: asyncio.Task[None] | None = None
    begun: bool = False
    """Whether the task has taken its first step."""
    verdict: NoyauError | None = None
    """Why the task is being cancelled, where it is."""
    outflow: Outflow | None = None
    credit: asyncio.Event | None = None
    """Set when credit came; a stream has one."""


@dataclass(slots=True)
class Tally:
    """What is counted; see `protocol.messages.actor.Counters`."""

    handled: int = 0
    failed: int = 0
    rejected: int = 0
    late: int = 0
    progress: int = 0
