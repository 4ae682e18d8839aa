"""Remembering and recalling: the database and the index of vectors, kept in step.

Text is the source of truth. The database is changed first, the index follows; whatever is killed
between the two, the next start makes the index from what was committed. All methods block and
belong to the database's thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from actors.memory.store import MemoryRow, Reply, Request, Store
from actors.memory.vectors import VectorIndex

PIECE: Final = 10_000
"""Vectors put into an index at once; between two pieces other threads have their turn."""


@dataclass(frozen=True, slots=True)
class Found:
    """A memory and how well it fits."""

    memory: MemoryRow
    score: float


@dataclass(frozen=True, slots=True)
class LoadedVectors:
    """All vectors of one model, out of the database."""

    model: str
    dimension: int
    numbers: list[int] = field(repr=False)
    vectors: bytes = field(repr=False)

    def fill(self, index: VectorIndex) -> VectorIndex:
        """Put them into the index. Of very many that takes minutes: not for the database's
        thread."""
        size = 4 * self.dimension
        for begin in range(0, len(self.numbers), PIECE):
            end = min(begin + PIECE, len(self.numbers))
            index.add(self.numbers[begin:end], self.vectors[begin * size : end * size])
        return index


class Recollection:
    """The memories of ``store`` that have a vector of ``model``."""

    def __init__(self, store: Store, model: str, index: VectorIndex, duplicate_score: float):
        self._store = store
        self.model = model
        self._index = index
        self._duplicate_score = duplicate_score
        # What changes while another index is made beside this one: numbers and their vectors, or
        # none for those that are gone.
        self._since: list[tuple[list[int], bytes | None]] | None = None

    def remember(self, request: Request, text: str, source: str, vector: bytes) -> Reply:
        """Store the text, or say which memory says the same: the reply of ``Remember``."""
        done = self._store.recorded(request)
        if done is not None:
            return done
        reply: Reply = {"duplicate_of": None, "score": None}
        nearest = self._index.search(vector, 1)
        if nearest:
            reply["score"] = nearest[0].score
        if nearest and nearest[0].score >= self._duplicate_score:
            same = self._store.by_numbers([nearest[0].number]).get(nearest[0].number)
            if same is not None:
                return reply | {"id": same.id, "duplicate_of": same.id}
        reply, number = self._store.add_memory(request, text, source, self.model, vector, reply)
        if number is not None:
            self._add([number], vector)
        return reply

    def recall(self, vector: bytes, limit: int, min_score: float) -> tuple[list[Found], int]:
        """The memories that fit best, best first; and how many could not be searched."""
        matches = self._index.search(vector, limit, min_score)
        rows = self._store.by_numbers([match.number for match in matches])
        found = [Found(rows[m.number], m.score) for m in matches if m.number in rows]
        return found, max(0, self._store.count_memories() - len(self._index))

    def forgot(self, numbers: Sequence[int]) -> None:
        """These memories are gone from the database."""
        self._index.remove(numbers)
        if self._since is not None:
            self._since.append((list(numbers), None))

    def catch_up(self, loaded: LoadedVectors) -> None:
        """Remove from the index what was forgotten while it was made."""
        self.forgot(list(set(loaded.numbers) - set(self._store.numbers(self.model))))

    def add_vectors(self, vectors: Sequence[tuple[int, bytes]]) -> None:
        """Memories that had no vector of this model get theirs."""
        kept = set(self._store.add_vectors(self.model, vectors))
        known = [(number, vector) for number, vector in vectors if number in kept]
        self._add([n for n, _ in known], b"".join(vector for _, vector in known))

    def _add(self, numbers: list[int], vectors: bytes) -> None:
        self._index.add(numbers, vectors)
        if self._since is not None:
            self._since.append((numbers, vectors))

    def __len__(self) -> int:
        """How many memories can be recalled."""
        return len(self._index)

    def begin_switch(self, dimension: int) -> LoadedVectors:
        """All vectors, for another index that is then made beside the present one."""
        self._since = []
        return LoadedVectors(self.model, dimension, *self._store.vectors(self.model))

    def switch(self, index: VectorIndex) -> None:
        """Use the other index from now on, after what changed while it was made."""
        for numbers, vectors in self._since or []:
            if vectors is None:
                index.remove(numbers)
            else:
                index.add(numbers, vectors)
        self._index, self._since = index, None
