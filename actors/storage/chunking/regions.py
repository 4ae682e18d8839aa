"""What a file is made of, as far as cutting is concerned: stretches that are cut each by itself.

A region's cuts depend on nothing but its own bytes, so a change in one moves no boundary in
another. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

READ_BYTES: Final = 1 << 20
"""The most that cutting asks for at once, but for the header of a safetensors file."""
Read = Callable[[int, int], bytes | memoryview]
"""``read(offset, size)`` gives exactly those bytes of the file, or raises. A view that it gives is
valid until the next call."""


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of a file, and how it is cut."""

    offset: int
    size: int
    piece: int
    """Bytes: the average of a piece where content decides, else the size of all but the last."""
    by_content: bool
    """Whether the bytes say where to cut, or the distance from the region's beginning."""
