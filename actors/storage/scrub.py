"""Reads a file as it lies on the disk and finds the pieces that are no longer what they were.

By the hashes of its chunks, which take a fifth of the time of its whole hash, and past the page
cache: what the disk has spoiled shows only to who asks the disk. Damage is only told here; the
repair is the store's.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from actors.storage.digests import Hasher, algorithm_of, hasher_of
from actors.storage.manifest import Chunk
from actors.storage.sources import Cancelled as IsCancelled
from protocol.errors import Cancelled

READ_BYTES: Final = 4 << 20
"""At once. With less, waiting for the disk and hashing take turns; more brings nothing."""
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}
_IDLE_CLASS: Final = 3 << 13
"""IOPRIO_CLASS_IDLE (linux/ioprio.h): the disk when nobody else wants it."""
_LEAST: Final = 19
"""Niceness: the processor when nobody else wants it."""


def damaged(
    path: Path,
    chunks: Sequence[Chunk],
    cancelled: IsCancelled,
    pace: Callable[[int], None] = lambda _: None,
    *,
    direct: bool = True,
) -> list[int]:
    """Indexes of the chunks that are not what they should be, also those behind the file's end.

    Args:
        chunks: of the whole file, without gaps.
        pace: called with the bytes that were read: waits, if that was too fast.
        direct: past the page cache, where the file system can.

    Raises ``OSError``, and ``Cancelled`` as asked.
    """
    found = _Checker(chunks)
    for piece in _pieces(path, direct=direct):
        if cancelled():
            raise Cancelled(f"scrubbing {path.name} was cancelled")
        found.take(piece)
        pace(len(piece))
    return found.end()


class _Checker:
    """Takes a file's bytes in their order and compares chunk by chunk."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = chunks
        self._index = 0
        self._into = 0
        self._hasher: Hasher = hasher_of(algorithm_of(chunks[0].hash))
        self._wrong: list[int] = []

    def take(self, view: memoryview) -> None:
        while view and self._index < len(self._chunks):
            chunk = self._chunks[self._index]
            part = view[: chunk.size - self._into]
            self._hasher.update(part)
            self._into += len(part)
            view = view[len(part) :]
            if self._into == chunk.size:
                self._next(chunk)

    def _next(self, chunk: Chunk) -> None:
        algorithm = algorithm_of(chunk.hash)
        if f"{algorithm}-{self._hasher.hexdigest()}" != chunk.hash:
            self._wrong.append(self._index)
        self._index, self._into = self._index + 1, 0
        if self._index < len(self._chunks):
            self._hasher = hasher_of(algorithm_of(self._chunks[self._index].hash))

    def end(self) -> list[int]:
        """What was wrong, and what never came."""
        return [*self._wrong, *range(self._index, len(self._chunks))]


def _pieces(path: Path, *, direct: bool) -> Iterator[memoryview]:
    """A file's bytes. Each piece is the same memory, filled anew."""
    descriptor = _open(path, direct=direct)
    try:
        # Memory of its own pages: reading past the cache wants it aligned.
        memory, offset = memoryview(mmap.mmap(-1, READ_BYTES)), 0
        while size := os.preadv(descriptor, [memory], offset):
            yield memory[:size]
            offset += size
            if size % mmap.PAGESIZE:
                # The file's end: from here on the kernel would find the offset not aligned.
                return
    finally:
        os.close(descriptor)


def _open(path: Path, *, direct: bool) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC
    if direct:
        try:
            return os.open(path, flags | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    # A file system in memory, say. What can be let go of the cache is let go.
    descriptor = os.open(path, flags)
    if direct:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return descriptor


def give_way() -> None:
    """Have this thread use processor and disk only when nobody else does. For good: it may not
    take that back without rights, so it is a thread that does nothing else."""
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, _LEAST)
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None, use_errno=True).syscall(number, 1, thread, _IDLE_CLASS)
