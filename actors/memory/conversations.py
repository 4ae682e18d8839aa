"""The tables of conversations and their turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from actors.memory.database import Database, Reply, Request, errors
from actors.memory.texts import title_of
from protocol.envelope import new_id
from protocol.errors import NotFound


@dataclass(frozen=True, slots=True)
class TurnRow:
    """One turn; ``metadata`` is JSON."""

    role: str
    content: str
    metadata: str
    number: int = -1
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """One conversation without its turns."""

    number: int
    id: str
    title: str
    turns: int
    created_at: float
    updated_at: float


class ConversationTables(Database):
    """What was said."""

    def append(self, request: Request, conversation: str, turns: Sequence[TurnRow]) -> Reply:
        """Put turns behind those there are; an empty ``conversation`` begins a new one. Raises
        ``NotFound``."""

        def change() -> Reply:
            row = self._find(conversation) if conversation else self._begin(request.now)
            numbers = list(range(row.turns, row.turns + len(turns)))
            self.db.executemany(
                "INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (row.number, number, turn.role, turn.content, turn.metadata, request.now)
                    for number, turn in zip(numbers, turns, strict=True)
                ],
            )
            asked = (title_of(turn.content) for turn in turns if turn.role == "user")
            title = row.title or next(filter(None, asked), "")
            self.db.execute(
                "UPDATE conversations SET title = ?, turns = ?, updated_at = max(updated_at, ?) "
                "WHERE number = ?",
                (title, row.turns + len(turns), request.now, row.number),
            )
            return {"conversation": row.id, "numbers": numbers}

        return self.once(request, change)

    def _begin(self, now: float) -> ConversationRow:
        identity = new_id().hex()
        self.db.execute(
            "INSERT INTO conversations (id, title, turns, created_at, updated_at) "
            "VALUES (?, '', 0, ?, ?)",
            (identity, now, now),
        )
        return ConversationRow(self.db.last_insert_rowid(), identity, "", 0, now, now)

    def _find(self, conversation: str) -> ConversationRow:
        row = self.first("SELECT * FROM conversations WHERE id = ?", conversation)
        if row is None:
            raise NotFound(
                f"there is no conversation {conversation!r}; memory.conversations lists them",
                conversation=conversation,
            )
        return ConversationRow(*row)

    def conversation(self, conversation: str, last: int) -> tuple[ConversationRow, list[TurnRow]]:
        """A conversation and its last turns in their order. Raises ``NotFound``."""
        with errors(self.path):
            found = self._find(conversation)
            rows = self.db.execute(
                "SELECT role, content, metadata, number, created_at FROM turns "
                "WHERE conversation = ? AND number >= ? ORDER BY number",
                (found.number, found.turns - last),
            )
            return found, [TurnRow(*row) for row in rows]

    def appended(self, key: str) -> tuple[ConversationRow, list[TurnRow]] | None:
        """The turns that the request of this key appended, and their conversation."""
        with errors(self.path):
            row = self.first("SELECT reply FROM requests WHERE key = ?", key)
            reply = json.loads(row[0]) if row is not None else {}
            if "numbers" not in reply:
                return None
            try:
                found = self._find(reply["conversation"])
            except NotFound:
                return None
            rows = self.db.execute(
                "SELECT role, content, metadata, number, created_at FROM turns WHERE conversation "
                "= ? AND number IN (SELECT value FROM json_each(?)) ORDER BY number",
                (found.number, json.dumps(reply["numbers"])),
            )
            return found, [TurnRow(*row) for row in rows]

    def conversations(self, offset: int, limit: int) -> tuple[list[ConversationRow], int]:
        """A page of conversations, the one that went on last first, and how many there are."""
        with errors(self.path):
            rows = self.db.execute(
                "SELECT * FROM conversations ORDER BY updated_at DESC, number DESC "
                "LIMIT ? OFFSET ?",
                (limit, offset),
            )
            found = [ConversationRow(*row) for row in rows]
            return found, int(self.one("SELECT count(*) FROM conversations")[0])

    def forget_conversation(self, request: Request, conversation: str) -> Reply:
        """Remove a conversation with its turns. Raises ``NotFound``."""

        def change() -> Reply:
            found = self._find(conversation)
            self.db.execute("DELETE FROM conversations WHERE number = ?", (found.number,))
            return {"count": found.turns}

        return self.once(request, change)
