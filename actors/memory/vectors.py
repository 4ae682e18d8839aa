"""Which vectors are nearest? Two indexes behind one interface, both made anew from the database.

Cosine similarity throughout: an index brings what it is given to unit length. An index belongs to
one thread at a time. usearch is imported with the first index that needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from protocol.errors import MissingDependency

# Before numpy is imported: its threads would be started then, and a process that has threads cannot
# be forked, so the spawner could not have this module ready for the next start. A matrix times a
# vector waits for memory and not for a core: with two threads it was quicker by a tenth.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

FIRST_ROWS: Final = 1024
"""Of the matrix when it is new; it doubles."""

CONNECTIVITY: Final = 32
EXPANSION_ADD: Final = 256
EXPANSION_SEARCH: Final = 2048
"""Of HNSW, far above usearch's defaults. Among 20,000 random vectors of 384 dimensions, the hardest
there are, searching with 512 finds 0.972 of the ten nearest, with 1024 0.997, with 2048 0.999, in
about the same time (benchmarks/memory.py)."""


@dataclass(frozen=True, slots=True)
class Match:
    """A vector's number, and its cosine similarity to what was searched for."""

    number: int
    score: float


class VectorIndex(Protocol):
    """Vectors by number. A vector is little-endian float32, several lie behind one another."""

    def __len__(self) -> int:
        """How many vectors there are."""
        ...

    def add(self, numbers: Sequence[int], vectors: bytes) -> None:
        """Add vectors; a number that is there gets the new one. Raises ValueError unless there
        are as many vectors as numbers, and no number twice."""
        ...

    def remove(self, numbers: Sequence[int]) -> None:
        """Remove vectors; a number that is not there is fine."""
        ...

    def search(self, vector: bytes, limit: int, min_score: float = -1.0) -> list[Match]:
        """The at most ``limit`` nearest with at least ``min_score``, nearest first."""
        ...


class ExactIndex:
    """All vectors in one matrix, compared one by one: always right, and linear."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._rows: dict[int, int] = {}
        self._numbers = np.zeros(FIRST_ROWS, dtype=np.int64)
        self._matrix = np.zeros((FIRST_ROWS, dimension), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, numbers: Sequence[int], vectors: bytes) -> None:
        """See `VectorIndex.add`."""
        given = _unit_rows(numbers, vectors, self._dimension)
        self.remove(numbers)
        begin, end = len(self._rows), len(self._rows) + len(numbers)
        self._grow(end)
        self._matrix[begin:end] = given
        self._numbers[begin:end] = numbers
        self._rows.update(zip(numbers, range(begin, end), strict=True))

    def _grow(self, needed: int) -> None:
        size = len(self._numbers)
        if needed <= size:
            return
        rows = max(2 * size, needed)
        # Copied by hand, as numpy's resize zeroes and copies all of it.
        matrix = np.empty((rows, self._dimension), dtype=np.float32)
        numbers = np.empty(rows, dtype=np.int64)
        used = len(self._rows)
        matrix[:used], numbers[:used] = self._matrix[:used], self._numbers[:used]
        self._matrix, self._numbers = matrix, numbers

    def remove(self, numbers: Sequence[int]) -> None:
        """See `VectorIndex.remove`."""
        for number in numbers:
            row = self._rows.pop(number, None)
            if row is None:
                continue
            # The last one takes its place, so that the rows stay without gaps.
            last = len(self._rows)
            if row != last:
                moved = int(self._numbers[last])
                self._matrix[row], self._numbers[row] = self._matrix[last], moved
                self._rows[moved] = row

    def search(self, vector: bytes, limit: int, min_score: float = -1.0) -> list[Match]:
        """See `VectorIndex.search`."""
        used = len(self._rows)
        if used == 0:
            return []
        query = _unit_rows([0], vector, self._dimension)[0]
        scores = self._matrix[:used] @ query
        count = min(limit, used)
        best = np.argpartition(scores, used - count)[used - count :]
        # Equal scores in the order of their numbers, so that the same question has one answer.
        best = best[np.lexsort((self._numbers[best], -scores[best]))]
        return _matches(self._numbers[best], scores[best], min_score)


class UsearchIndex:
    """A graph of neighbours (HNSW): far quicker among very many, misses one in a hundred."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._index: Any = _usearch()(
            ndim=dimension,
            metric="cos",
            dtype="f16",
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
            expansion_search=EXPANSION_SEARCH,
        )

    def __len__(self) -> int:
        return len(self._index)

    def add(self, numbers: Sequence[int], vectors: bytes) -> None:
        """See `VectorIndex.add`."""
        given = _unit_rows(numbers, vectors, self._dimension)
        self.remove(numbers)
        if len(numbers):
            keys = np.asarray(numbers, dtype=np.uint64)
            # One thread: the others of this machine belong to whoever answers meanwhile.
            self._index.add(keys, given, threads=1)

    def remove(self, numbers: Sequence[int]) -> None:
        """See `VectorIndex.remove`."""
        for number in numbers:
            if number in self._index:
                self._index.remove(number)

    def search(self, vector: bytes, limit: int, min_score: float = -1.0) -> list[Match]:
        """See `VectorIndex.search`."""
        if len(self._index) == 0:
            return []
        query = _unit_rows([0], vector, self._dimension)[0]
        found = self._index.search(query, limit, threads=1)
        return _matches(found.keys, 1.0 - found.distances, min_score)


INDEXES: Final[dict[str, Callable[[int], VectorIndex]]] = {
    "exact": ExactIndex,
    "usearch": UsearchIndex,
}
"""Every kind by name: what the contract suite runs over."""


def _unit_rows(numbers: Sequence[int], vectors: bytes, dimension: int) -> Any:
    """The vectors as rows of unit length; one of zeros stays so, and is like nothing."""
    if len(vectors) != len(numbers) * dimension * 4:
        raise ValueError(
            f"{len(vectors)} bytes are not {len(numbers)} vectors of {dimension} float32"
        )
    if len(set(numbers)) != len(numbers):
        raise ValueError("a number is there twice")
    rows = np.frombuffer(vectors, dtype="<f4").reshape(len(numbers), dimension)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def _matches(numbers: Any, scores: Any, min_score: float) -> list[Match]:
    # Rounding may bring the score of two equal vectors past 1, which no cosine is.
    found = [
        Match(int(n), max(-1.0, min(1.0, float(s)))) for n, s in zip(numbers, scores, strict=True)
    ]
    return [match for match in found if match.score >= min_score]


def _usearch() -> Any:
    try:
        from usearch.index import Index
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f'so many memories need {error.name}: pip install "noyau[memory]", or raise '
            "actors.memory.settings.approximate_above"
        ) from None
    return Index
