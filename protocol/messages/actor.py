"""Messages that every actor takes, whatever else it does."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from protocol.messages.base import Ask, Event, Message, Role


class Hello(Event, operation="actor.hello", role=Role.OBSERVE):
    """The first message on every connection of an actor: who it is, and the proof.

    A connection that said no hello, or the wrong secret, is a stranger with the role of its
    socket. A person's own program on the local socket is such a stranger and needs no hello.
    """

    name: str
    epoch: str
    secret: bytes = Field(repr=False)


class Farewell(Event, operation="actor.farewell", role=Role.OBSERVE):
    """The last message of a process that ends in order, to those who asked it something. What it
    has not answered or refused by then, it has not read: that may be asked of the next one."""


class Pong(Message):
    """The answer to a ping, and the payload back."""

    name: str
    epoch: str
    payload: bytes = b""


class Ping(Ask[Pong], operation="actor.ping", role=Role.OBSERVE):
    """Are you there? Answered in any state by the event loop itself, without a task."""

    idempotent = True
    payload: bytes = Field(default=b"", max_length=1 << 20)


class Counters(Message):
    """What an actor counted since it started."""

    handled: int = 0
    failed: int = 0
    """Requests that ended in an error which was the actor's own fault."""
    failed_in_a_row: int = 0
    """Of those, the latest, with no success since."""
    in_flight: int = 0
    waiting: int = 0
    """Of those, the ones that wait for their turn inside the actor."""
    rejected: int = 0
    """Frames and requests refused: malformed, unknown, invalid, not allowed, too many."""
    late: int = 0
    """Messages for a conversation that is over."""
    progress: int = 0
    """Raised with every unit of work done (a token, a batch, a MiB): work that goes on shows."""
    loop_lag_ms: float = 0.0
    """How late the event loop was at most since the last heartbeat."""


ActorFault = Literal["spin", "stall", "leak", "slow_exit", "fail", "drop", "delay", "none"]
"""What an actor can be asked to get wrong; ``none`` ends what still goes on."""


class Disturbed(Message):
    """The fault has begun."""

    epoch: str
    replaces: bool
    """Whether the process is expected to be replaced because of it."""
    noticed_within_s: float | None
    """After so long the supervisor surely knows, by the settings; None where it need not know."""
    lasts_s: float = 0.0
    """For how long it goes on, where it ends by itself."""


class Disturb(Ask[Disturbed], operation="actor.disturb", role=Role.OPERATE):
    """Get something wrong on purpose, where the settings allow it (``chaos.allowed``)::

    spin       a busy loop holds the interpreter until somebody ends the process
    stall      a native call that never returns holds the interpreter
    leak       memory grows over the actor's ceiling; without one, by ``mib``, and is freed
    slow_exit  the next order to end is ignored for ``seconds``
    fail       the next ``requests`` end in `ActorUnavailable`
    drop       replies and parts of streams are lost for ``seconds``, from the first one on
    delay      what is sent within the next ``seconds`` comes ``delay_s`` late, in its order
    """

    fault: ActorFault
    seconds: float = Field(default=1.0, ge=0, le=600, allow_inf_nan=False)
    delay_s: float = Field(default=0.2, ge=0, le=600, allow_inf_nan=False)
    requests: int = Field(default=3, ge=1, le=100_000)
    mib: int = Field(default=256, ge=1, le=65_536)
