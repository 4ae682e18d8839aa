"""A file under way: written anywhere, checked chunk by chunk, and still there after a crash.

Its name is the hash of what it becomes, so the next run finds it and keeps what is right in it. No
list of what is there is kept beside it: such a list could be wrong, the bytes themselves cannot.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from actors.storage.digests import Hasher, algorithm_of, hasher_of
from actors.storage.manifest import Chunk
from actors.storage.sources import PIECE_BYTES
from protocol.errors import AssetCorrupt

_KEEP_SIZE: Final = 1
"""FALLOC_FL_KEEP_SIZE (linux/falloc.h): the space is taken, the file is no longer for it."""
_NOT_HERE: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class PartialFile:
    """The file at ``path``, opened for writing, made where there is none. Any number of threads
    can write and read different stretches of it."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o644)
        self.path = path

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    @property
    def length(self) -> int:
        """Bytes, up to the last that was written."""
        return os.fstat(self._descriptor).st_size

    def reserve(self, size: int) -> None:
        """Take the disk space for ``size`` bytes now. Raises ``OSError`` (ENOSPC) where there is
        not as much; does nothing where the file system cannot."""
        call = ctypes.CDLL(None, use_errno=True).fallocate
        call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        if call(self._descriptor, _KEEP_SIZE, 0, size) != 0:
            number = ctypes.get_errno()
            if number not in _NOT_HERE:
                raise OSError(number, os.strerror(number), str(self.path))

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """All of ``data``."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            offset += written
            view = view[written:]

    def read(self, size: int, offset: int) -> bytes:
        """At most ``size`` bytes: fewer where the file ends."""
        return os.pread(self._descriptor, size, offset)

    def cut(self, length: int) -> None:
        """Let go of what lies behind ``length`` bytes."""
        os.ftruncate(self._descriptor, length)

    def sync(self) -> None:
        """Have the disk hold it."""
        os.fsync(self._descriptor)


class Appended:
    """A file written from its beginning on, piece by piece."""

    def __init__(self, file: PartialFile) -> None:
        self._file = file
        self._offset = 0

    def write(self, piece: bytes, /) -> None:
        """All of ``piece``, behind the last one."""
        self._file.write(piece, self._offset)
        self._offset += len(piece)


class ChunkWriter:
    """Takes bytes that come in order, writes those of the wanted chunks, and checks each.

    Args:
        chunks: side by side. ``wanted`` are the offsets of those to write; the others pass by.
    """

    def __init__(self, file: PartialFile, chunks: Sequence[Chunk], wanted: set[int]) -> None:
        self._file = file
        self._chunks = chunks
        self._wanted = wanted
        self._index = 0
        self._into = 0
        """Bytes of the chunk at hand that were taken."""
        self._hasher: Hasher = hasher_of(algorithm_of(chunks[0].hash))
        self.right = 0
        """Wanted chunks that came, and are what they should be."""

    @property
    def position(self) -> int:
        """Offset of the next byte that it takes."""
        if self._index == len(self._chunks):
            return self.end
        return self._chunks[self._index].offset + self._into

    @property
    def end(self) -> int:
        """Offset behind its last byte."""
        return self._chunks[-1].offset + self._chunks[-1].size

    @property
    def between_chunks(self) -> bool:
        """Whether the next byte begins a chunk."""
        return not self._into

    @property
    def done(self) -> bool:
        """Whether all came."""
        return self._index == len(self._chunks)

    def start_over(self) -> None:
        """Take the chunk at hand from its beginning again."""
        if not self.done:
            self._begin(self._index)

    def continue_with(self, length: int) -> None:
        """The first ``length`` bytes of the first chunk are in the file already: an earlier run
        left them. Whether they are right shows when the chunk is whole."""
        self._begin(0)
        while self._into < length:
            piece = self._file.read(min(PIECE_BYTES, length - self._into), self.position)
            if not piece:
                break
            self._hasher.update(piece)
            self._into += len(piece)

    def take(self, data: bytes) -> int:
        """Write ``data``; returns how many bytes of it were wanted.

        Raises ``AssetCorrupt`` at a chunk that is not what it should be; that chunk begins anew.
        """
        view, used = memoryview(data), 0
        while view:
            if self.done:
                raise AssetCorrupt("more bytes came than were asked for")
            chunk = self._chunks[self._index]
            part = view[: chunk.size - self._into]
            if chunk.offset in self._wanted:
                self._file.write(part, chunk.offset + self._into)
                self._hasher.update(part)
                used += len(part)
            self._into += len(part)
            view = view[len(part) :]
            if self._into == chunk.size:
                self._check(chunk)
        return used

    def _check(self, chunk: Chunk) -> None:
        if chunk.offset in self._wanted:
            found = f"{algorithm_of(chunk.hash)}-{self._hasher.hexdigest()}"
            if found != chunk.hash:
                self.start_over()
                raise AssetCorrupt(
                    f"the {chunk.size} bytes from {chunk.offset} on are not what the manifest "
                    f"promises: they have {found}, not {chunk.hash}"
                )
            self.right += 1
        self._begin(self._index + 1)

    def _begin(self, index: int) -> None:
        self._index, self._into = index, 0
        if index < len(self._chunks):
            self._hasher = hasher_of(algorithm_of(self._chunks[index].hash))
