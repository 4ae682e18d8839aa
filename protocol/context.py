"""What travels with a request to every process that works for it.

A handler runs inside the context of its request; whatever it asks of others inherits the
correlation id, the priority and what is left of the deadline, without being told.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from protocol.envelope import NO_ID, Priority


@dataclass(slots=True, eq=False)
class CallContext:
    """The request this code works for."""

    correlation: bytes = NO_ID
    deadline: float | None = None
    """Monotonic seconds, or None."""
    priority: int = Priority.NORMAL.value


CURRENT: ContextVar[CallContext | None] = ContextVar("noyau_call", default=None)
