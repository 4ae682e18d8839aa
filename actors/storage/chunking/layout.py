"""Where a file's tensors lie: what the readers of headers hand over. Pure.

The limits here and in the readers are part of how a file is cut: with others a client would cut the
same file in another way, and find nothing. So they are no settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

MOST_TENSORS: Final = 1 << 18
"""In a file. The models with most experts have 20,000; each tensor takes 170 bytes of memory."""


class NoLayout(ValueError):
    """The file is not of a format that is known here, or its header cannot be right. Not an error
    of a user's: the file is then cut by content."""


class Span(NamedTuple):
    """A tensor's bytes in a file."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The tensors of a file, by offset, within the file and without overlap; at least one."""

    header: int
    """Bytes before the place where tensors may begin."""
    parts: tuple[int, ...]
    """Where in the header a part begins that changes apart from what stands before it, in order."""
    spans: tuple[Span, ...]
