"""From a method's name to the pieces of a file. Pure but for what `read` does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from actors.storage.chunking.content import check_average, content_cuts
from actors.storage.chunking.fixed import fixed_cuts
from actors.storage.chunking.regions import Read, Region
from actors.storage.chunking.tensors import NoLayout, layout_of, tensor_regions
from actors.storage.manifest import Chunking
from protocol.errors import InvalidSettings

SMALLEST_PIECE: Final = 4 << 10
"""Below that the list of pieces would be a good part of the file."""


def check_chunking(chunking: Chunking) -> None:
    """Raise ``InvalidSettings`` where no file can be cut so."""
    if chunking.piece < SMALLEST_PIECE:
        raise InvalidSettings(
            f"chunking.piece is {chunking.piece}, but pieces have at least {SMALLEST_PIECE} bytes"
        )
    if chunking.method != "fixed":
        check_average(chunking.piece)


def regions_of(read: Read, size: int, chunking: Chunking) -> Iterator[Region]:
    """The regions of a file of ``size`` bytes, in order and without gaps.

    A file without a layout has no tensors to cut by: it is cut by content.
    """
    check_chunking(chunking)
    if not size:
        return
    if chunking.method == "tensors":
        try:
            yield from tensor_regions(layout_of(read, size), size, chunking.piece)
            return
        except NoLayout:
            pass
    yield Region(0, size, chunking.piece, by_content=chunking.method != "fixed")


def cut(read: Read, size: int, chunking: Chunking) -> Iterator[tuple[int, int]]:
    """The (offset, size) of the pieces of a file of ``size`` bytes, in order and without gaps.

    They depend on nothing but the bytes and ``chunking``, on every machine and in every version:
    another way to cut gets another name. Reads only what decides: of tensors and for equal
    distances nothing but headers.

    Raises ``InvalidSettings`` where no file can be cut so, ``MissingDependency`` without the
    library for cutting by content, and what ``read`` raises.
    """
    for region in regions_of(read, size, chunking):
        if region.by_content:
            for offset, data in content_cuts(read, region.offset, region.size, region.piece):
                yield offset, len(data)
        else:
            yield from fixed_cuts(region.offset, region.size, region.piece)
