"""Cutting and hashing a file on disk, in one pass.

In one thread: with the kernel told to read ahead the disk is the limit (2.2 GB/s with one thread,
2.4 with two), and the other cores belong to the engine that may be answering meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from actors.storage.chunking.content import content_cuts
from actors.storage.chunking.cutting import regions_of
from actors.storage.chunking.fixed import fixed_cuts
from actors.storage.chunking.reading import Window, opened
from actors.storage.chunking.regions import READ_BYTES, Read, Region
from actors.storage.digests import hasher_of
from actors.storage.manifest import Chunk, Chunking


def each_chunk(
    file: Path | int,
    chunking: Chunking,
    algorithm: str = "blake3",
    cancelled: Callable[[], bool] = lambda: False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Generator[Chunk, None, None]:
    """The file's chunks in order, each made when it is asked for.

    They tell of the bytes that were read. Where somebody may write to the file, whoever copies a
    chunk out of it hashes it again on the way.

    Blocking. Memory: 4 MiB, and eight times the average piece where content is cut.

    Args:
        file: a path, or an open descriptor, whose position is neither used nor moved.
        algorithm: of the chunks' hashes, one of `actors.storage.digests.ALGORITHMS`.
        cancelled: asked at least every 4 MiB.
        report: told as often of the bytes done and of all bytes.

    Raises:
        AssetUnavailable: it is no regular file, or another program cuts it short meanwhile.
        Cancelled: as asked.
        InvalidSettings: no file can be cut so.
        MissingDependency: the library for cutting by content is not installed.
        OSError: the disk failed.
    """
    with opened(file) as descriptor:
        window = Window(descriptor, str(file), cancelled, report)
        for region in regions_of(window.read, window.size, chunking):
            for offset, size, digits in _hashed(region, window.read, algorithm):
                yield Chunk(offset=offset, size=size, hash=f"{algorithm}-{digits}")
        report(window.size, window.size)


def chunks_of(
    file: Path | int,
    chunking: Chunking,
    algorithm: str = "blake3",
    cancelled: Callable[[], bool] = lambda: False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Chunk, ...]:
    """All chunks of the file at once; otherwise as `each_chunk`."""
    return tuple(each_chunk(file, chunking, algorithm, cancelled, report))


def _hashed(region: Region, read: Read, algorithm: str) -> Iterator[tuple[int, int, str]]:
    if region.by_content:
        for offset, data in content_cuts(read, region.offset, region.size, region.piece):
            hasher = hasher_of(algorithm)
            hasher.update(data)
            yield offset, len(data), hasher.hexdigest()
        return
    for offset, size in fixed_cuts(region.offset, region.size, region.piece):
        hasher = hasher_of(algorithm)
        for at, count in fixed_cuts(offset, size, READ_BYTES):
            hasher.update(read(at, count))
        yield offset, size, hasher.hexdigest()
