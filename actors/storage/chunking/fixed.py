"""Cutting at equal distances: right where bytes change in place and nothing is ever inserted."""

from __future__ import annotations

from collections.abc import Iterator


def fixed_cuts(offset: int, size: int, piece: int) -> Iterator[tuple[int, int]]:
    """The (offset, size) of the pieces of ``size`` bytes that begin at ``offset``.

    All have ``piece`` bytes but the last, which has what is left.
    """
    end = offset + size
    for at in range(offset, end, piece):
        yield at, min(piece, end - at)
