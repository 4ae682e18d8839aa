"""The envelope, version 1: one frame, a magic and a version byte, then one msgpack array.

::

    'n' 0x01 | [ id, kind, operation, source, epoch, target, correlation,
                 sequence, deadline_ms, priority, idempotency_key, traceparent, body ]

One frame, because frames cost more than validation does; a fixed array, because names in every
header would cost more than all its values. A ``body`` is whatever the operation's model says.
"""

from __future__ import annotations

import os
from enum import IntEnum
from struct import Struct as Binary
from time import time_ns
from typing import Annotated, Any

from msgspec import Meta, Struct

MAGIC = ord("n")
VERSION = 1
PREFIX = bytes((MAGIC, VERSION))

NOTHING = b""
"""A frame that says nothing: its receiver ignores it, and a peer that is gone cannot be sent it."""

ID_BYTES = 16
NO_ID = bytes(ID_BYTES)
"""The id in an answer to a frame whose own id could not be read."""


class Kind(IntEnum):
    """What an envelope is for. The numbers are on the wire and never change meaning."""

    REQUEST = 1
    REPLY = 2
    CHUNK = 3
    END = 4
    ERROR = 5
    CANCEL = 6
    CREDIT = 7
    EVENT = 8
    HEARTBEAT = 9


class Priority(IntEnum):
    """How urgent a request is; the lower number goes first."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


Id = Annotated[bytes, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]


# No garbage collection: an envelope never holds what holds it.
class Envelope(Struct, array_like=True, frozen=True, gc=False):
    """One message. The fields stand in wire order; their types are checked when one is read."""

    id: Id
    """16 bytes, a UUIDv7. All messages of one conversation carry its request's id."""
    kind: Annotated[int, Meta(ge=Kind.REQUEST.value, le=Kind.HEARTBEAT.value)]
    """A `Kind`, as a plain number."""
    operation: str
    source: str = ""
    """What the sender calls itself: for logs. Never trusted, never used to decide."""
    epoch: str = ""
    target: str = ""
    correlation: Id = NO_ID
    """The id of the request at the root of all this work, the same in every process."""
    sequence: Annotated[int, Meta(ge=0)] = 0
    """Of a chunk or end: its number from 0. Of a credit: chunks below this one may be sent."""
    deadline_ms: Annotated[int, Meta(ge=0)] | None = None
    """Milliseconds left when it was sent: clocks of two machines cannot be compared."""
    priority: Annotated[int, Meta(ge=Priority.CRITICAL.value, le=Priority.LOW.value)] = (
        Priority.NORMAL.value
    )
    idempotency_key: str = ""
    traceparent: str = ""
    body: Any = None


_TAIL_BITS = (1 << 62) - 1
_HALVES = Binary(">QQ").pack


class IdSource:
    """Makes UUIDv7 ids (RFC 9562): 48 bits of milliseconds, then a counter, then random bits.

    The 62 random bits are drawn once for each process, and a counter below them makes every id
    of the process different: drawing fresh ones for each message costs more than sending it.
    """

    def __init__(self) -> None:
        self._tail = int.from_bytes(os.urandom(8), "big") & _TAIL_BITS
        self._counter = 0

    def __call__(self) -> bytes:
        """The next id, 16 bytes."""
        self._counter = counter = self._counter + 1
        return _HALVES(
            (time_ns() // 1_000_000 << 16) | 0x7000 | (counter >> 20 & 0xFFF),
            (1 << 63) | (self._tail + counter & _TAIL_BITS),
        )


new_id = IdSource()

# A forked process must not go on with its parent's random bits: two children would make equal ids.
os.register_at_fork(after_in_child=new_id.__init__)  # type: ignore[misc]
