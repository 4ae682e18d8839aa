"""Every message, one file for each receiver. A new receiver is one file and one line here."""

from protocol.messages import actor, engine, memory, orchestrator, storage, supervisor, tool_user
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
    "memory",
    "orchestrator",
    "storage",
    "supervisor",
    "tool_user",
]
