"""Which chunks of a wanted file are on this disk already? Reads and hashes; decides nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from actors.storage.chunking import chunks_of
from actors.storage.chunking.reading import opened
from actors.storage.digests import algorithm_of, hasher_of
from actors.storage.index import PIECE_BYTES
from actors.storage.manifest import Asset, Chunk
from actors.storage.plan import Found
from actors.storage.sources import Cancelled as IsCancelled
from protocol.errors import AssetUnavailable, Cancelled, InvalidSettings, MissingDependency

Read = Callable[[int, int], bytes]
"""``read(size, offset)``: fewer bytes than ``size`` where the file ends."""


@contextmanager
def reading(path: Path) -> Iterator[Read]:
    """Read anywhere in a file. Raises ``OSError``."""
    with opened(path) as descriptor:
        yield lambda size, offset: os.pread(descriptor, size, offset)


def pieces_of(read: Read, offset: int, size: int) -> Iterator[bytes]:
    """The ``size`` bytes from ``offset`` on, `PIECE_BYTES` at a time; fewer where the file ends."""
    end = offset + size
    while offset < end and (piece := read(min(PIECE_BYTES, end - offset), offset)):
        yield piece
        offset += len(piece)


def in_place(read: Read, length: int, chunks: Sequence[Chunk], cancelled: IsCancelled) -> set[int]:
    """Indexes of the chunks that lie right at their own offsets in a file of ``length`` bytes."""
    right = set()
    for index, chunk in enumerate(chunks):
        if cancelled():
            raise Cancelled("looking for what is there was cancelled")
        try:
            if chunk.offset + chunk.size <= length and _is_right(read, chunk):
                right.add(index)
        except OSError as error:
            # A bad spot on the disk: what lies there is lost, and no more than that.
            if error.errno != errno.EIO:
                raise
    return right


def _is_right(read: Read, chunk: Chunk) -> bool:
    hasher = hasher_of(algorithm_of(chunk.hash))
    for piece in pieces_of(read, chunk.offset, chunk.size):
        hasher.update(piece)
    return f"{algorithm_of(chunk.hash)}-{hasher.hexdigest()}" == chunk.hash


def find_elsewhere(
    places: Sequence[Path], asset: Asset, chunks: Sequence[Chunk], cancelled: IsCancelled
) -> dict[str, Found]:
    """By hash, where chunks of the asset lie in other local files, of whatever version.

    Looked for first where they would be if little had moved, then wherever the same way of cutting
    finds the same pieces. A place that cannot be read has nothing.
    """
    found: dict[str, Found] = {}
    wanted = {chunk.hash for chunk in chunks}
    for place, path in enumerate(places):
        if wanted <= found.keys():
            break
        try:
            for hash_, offset in _chunks_in(path, asset, chunks, cancelled):
                if hash_ in wanted:
                    found.setdefault(hash_, Found(place, offset))
        except (OSError, AssetUnavailable, InvalidSettings, MissingDependency):
            # Nothing is lost by it: what it may have had comes from the sources.
            continue
    return found


def _chunks_in(
    path: Path, asset: Asset, chunks: Sequence[Chunk], cancelled: IsCancelled
) -> Iterator[tuple[str, int]]:
    with reading(path) as read:
        length = path.stat().st_size
        if length == asset.size or asset.chunking is None:
            right = in_place(read, length, chunks, cancelled)
            yield from ((chunks[index].hash, chunks[index].offset) for index in right)
            if asset.chunking is None or 2 * len(right) > len(chunks):
                return
    algorithm = algorithm_of(chunks[0].hash)
    for chunk in chunks_of(path, asset.chunking, algorithm, cancelled=cancelled):
        yield chunk.hash, chunk.offset
