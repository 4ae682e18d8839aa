"""All that memory keeps: memories and conversations, in one file."""

from __future__ import annotations

from actors.memory.conversations import ConversationRow, ConversationTables, TurnRow
from actors.memory.database import KEYS_KEPT_S, SWEEP_EVERY, Reply, Request
from actors.memory.memories import MemoryRow, MemoryTables

__all__ = [
    "KEYS_KEPT_S",
    "SWEEP_EVERY",
    "ConversationRow",
    "MemoryRow",
    "Reply",
    "Request",
    "Store",
    "TurnRow",
]


class Store(MemoryTables, ConversationTables):
    """See `Database` for what its making raises."""
