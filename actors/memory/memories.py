"""The tables of memories and their vectors. Texts are the truth; vectors are made from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors.memory.database import Database, Reply, Request, errors
from protocol.envelope import new_id


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """One memory. ``number`` is what its vector is known by."""

    number: int
    id: str
    text: str
    source: str
    created_at: float


class MemoryTables(Database):
    """What is remembered."""

    def add_memory(
        self, request: Request, text: str, source: str, model: str, vector: bytes, reply: Reply
    ) -> tuple[Reply, int | None]:
        """Store a memory and its vector; its id is put into ``reply``. Returns the reply and the
        new memory's number, None when this was done before."""
        made: list[int] = []

        def change() -> Reply:
            identity = new_id().hex()
            self.db.execute(
                "INSERT INTO memories (id, text, source, created_at) VALUES (?, ?, ?, ?)",
                (identity, text, source, request.now),
            )
            number = self.db.last_insert_rowid()
            self.db.execute("INSERT INTO vectors VALUES (?, ?, ?)", (number, model, vector))
            made.append(number)
            return reply | {"id": identity}

        answer = self.once(request, change)
        return answer, made[0] if made else None

    def memories(self, offset: int, limit: int) -> tuple[list[MemoryRow], int]:
        """A page of memories, the newest first, and how many there are in all."""
        with errors(self.path):
            rows = self.db.execute(
                "SELECT * FROM memories ORDER BY number DESC LIMIT ? OFFSET ?", (limit, offset)
            )
            return [MemoryRow(*row) for row in rows], self.count_memories()

    def count_memories(self) -> int:
        """How many memories there are."""
        with errors(self.path):
            return int(self.one("SELECT count(*) FROM memories")[0])

    def by_numbers(self, numbers: Sequence[int]) -> dict[int, MemoryRow]:
        """The memories with these numbers, as far as they are there."""
        with errors(self.path):
            rows = self.db.execute(
                "SELECT * FROM memories WHERE number IN (SELECT value FROM json_each(?))",
                (json.dumps(list(numbers)),),
            )
            return {row[0]: MemoryRow(*row) for row in rows}

    def forget_memories(self, request: Request, ids: Sequence[str]) -> tuple[Reply, list[int]]:
        """Remove memories and their vectors. Returns the reply and the numbers that are gone."""
        gone: list[int] = []

        def change() -> Reply:
            rows = self.db.execute(
                "DELETE FROM memories WHERE id IN (SELECT value FROM json_each(?)) "
                "RETURNING number",
                (json.dumps(list(ids)),),
            )
            gone.extend(row[0] for row in rows)
            return {"count": len(gone)}

        return self.once(request, change), gone

    # --- vectors --------------------------------------------------------------------------

    def vectors(self, model: str) -> tuple[list[int], bytes]:
        """All vectors of the model behind one another, and the memories they belong to."""
        with errors(self.path):
            # The plus keeps it from going through the index: all rows are wanted.
            rows: list[Any] = self.db.execute(
                "SELECT memory, vector FROM vectors WHERE +model = ?", (model,)
            ).fetchall()
            return [int(row[0]) for row in rows], b"".join([row[1] for row in rows])

    def numbers(self, model: str) -> list[int]:
        """The memories that have a vector of the model."""
        with errors(self.path):
            rows = self.db.execute("SELECT memory FROM vectors WHERE +model = ?", (model,))
            return [row[0] for row in rows]

    def without_vector(self, model: str, limit: int) -> list[tuple[int, str]]:
        """Memories that have no vector of the model yet: number and text."""
        with errors(self.path):
            rows = self.db.execute(
                "SELECT number, text FROM memories WHERE NOT EXISTS (SELECT 1 FROM vectors "
                "WHERE memory = number AND model = ?) ORDER BY number LIMIT ?",
                (model, limit),
            )
            return [(int(row[0]), str(row[1])) for row in rows]

    def add_vectors(self, model: str, vectors: Sequence[tuple[int, bytes]]) -> list[int]:
        """Add vectors of memories. Returns the numbers of those that are still there."""
        kept: list[int] = []
        with errors(self.path), self.transaction():
            for number, vector in vectors:
                kept += [
                    row[0]
                    for row in self.db.execute(
                        "INSERT OR REPLACE INTO vectors SELECT number, ?, ? FROM memories "
                        "WHERE number = ? RETURNING memory",
                        (model, vector, number),
                    )
                ]
        return kept

    def drop_other_vectors(self, model: str) -> None:
        """Remove the vectors of all other models: every memory has one of this."""
        with errors(self.path), self.transaction():
            self.db.execute("DELETE FROM vectors WHERE model != ?", (model,))
