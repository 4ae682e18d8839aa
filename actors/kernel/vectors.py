"""Vectors of texts: as model libraries and servers give them, and as they cross the wire. Pure."""

from __future__ import annotations

import array
import math
import sys
from collections.abc import Sequence
from typing import Any

from protocol.errors import EngineFailed, EngineGarbage

FLOAT_BYTES = 4
"""Of one number."""


def rows_of(answer: Any, count: int) -> list[list[float]]:
    """The vectors in an answer of OpenAI's ``/embeddings``, in the order of the texts. Raises
    `EngineFailed` for anything else, and where they are not ``count``."""
    try:
        rows = sorted(answer["data"], key=lambda row: int(row["index"]))
        found = [list(row["embedding"]) for row in rows]
    except (TypeError, KeyError, ValueError):
        raise EngineFailed(f"it answers with no vectors: {answer!r:.200}") from None
    if len(found) != count:
        raise EngineFailed(f"it made {len(found)} vectors of {count} texts")
    return found


def tokens_of(answer: Any) -> int:
    """How many tokens the texts had, by what it says of its usage; 0 where it does not say."""
    used = answer.get("usage")
    tokens = used.get("prompt_tokens") if isinstance(used, dict) else None
    return tokens if isinstance(tokens, int) else 0


def packed(rows: Sequence[Sequence[float]], dimension: int | None = None) -> list[bytes]:
    """Each row as a vector of unit length, in little-endian float32. ``dimension``: how many
    numbers each must have; None: as many as the others.

    Raises `EngineFailed` where it has not, or there is no row, and `EngineGarbage` for numbers
    that are none and for a vector without a direction.
    """
    if not rows:
        raise EngineFailed("there are no vectors, and no numbers")
    expected = len(rows[0]) if dimension is None else dimension
    return [_packed(row, expected) for row in rows]


def _packed(row: Sequence[float], dimension: int) -> bytes:
    if len(row) != dimension or not dimension:
        raise EngineFailed(f"it made a vector of {len(row)} numbers, where {dimension} are wanted")
    try:
        length = math.hypot(*row)
    except TypeError:
        # JSON knows no NaN: where one was, as damaged weights make it, nothing is.
        length = math.nan
    if not math.isfinite(length) or length == 0:
        raise EngineGarbage(f"it made a vector of {len(row)} numbers and length {length}")
    return _little_endian(array.array("f", (number / length for number in row))).tobytes()


def read_vector(data: bytes) -> Sequence[float]:
    """The numbers of a vector. Raises ValueError where it is none."""
    numbers = array.array("f")
    numbers.frombytes(data)
    return _little_endian(numbers)


def _little_endian(numbers: array.array[float]) -> array.array[float]:
    """From this machine's order, or back."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
