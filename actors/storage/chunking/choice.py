"""How to cut a file that is to be published."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from actors.storage.chunking.cutting import SMALLEST_PIECE
from actors.storage.chunking.reading import Window, opened
from actors.storage.chunking.tensors import NoLayout, layout_of
from actors.storage.manifest import Chunking

_PIECES: Final = 4096
"""About as many a file has. An update brings the list of all pieces and the whole of each piece
that changed: with more, the list grows; with fewer, what is fetched around a small change."""
_LEAST, _MOST = 64 << 10, 1 << 20


def best_chunking(path: Path, size: int, previous: Chunking | None = None) -> Chunking:
    """How to cut the file of ``size`` bytes at ``path`` so that updates of it fetch little.

    By tensors where it has them, else by content; in some 4096 to 8192 pieces of 64 KiB to 1 MiB.

    Args:
        previous: how the last version was cut. It is kept where the method fits this file, so that
            whoever keeps pieces by their hash finds them again.

    Raises ``OSError`` where the disk fails, and ``AssetUnavailable`` where it is no regular file or
    shorter than that.
    """
    method = _method(path, size)
    if previous is not None and previous.method == method:
        return previous
    return Chunking(method=method, piece=piece_for(size))


def piece_for(size: int) -> int:
    """Bytes of a piece in a file of ``size`` bytes: the power of two below a 4096th of it."""
    return min(max(1 << (size // _PIECES).bit_length() >> 1, _LEAST), _MOST)


def _method(path: Path, size: int) -> Literal["tensors", "content"]:
    with opened(path) as descriptor:
        try:
            layout = layout_of(Window(descriptor, str(path)).read, size)
        except NoLayout:
            return "content"
    # With a piece for each of many tiny tensors the list of pieces would be a part of the file.
    return "tensors" if len(layout.spans) * SMALLEST_PIECE <= size else "content"
