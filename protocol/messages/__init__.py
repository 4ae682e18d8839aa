"""Every message, one file for each receiver. A new receiver is one file and one line here."""

from protocol.messages import actor, engine, orchestrator, storage, supervisor
from protocol.messages.base import (
    OPERATIONS,
    Ask,
    Empty,
    Event,
    Message,
    Operation,
    Role,
    Stream,
)

__all__ = [
    "OPERATIONS",
    "Ask",
    "Empty",
    "Event",
    "Message",
    "Operation",
    "Role",
    "Stream",
    "actor",
    "engine",
    "orchestrator",
    "storage",
    "supervisor",
]
