"""What a disk does, and does not do: files that nobody sees yet, and errors with their remedies."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.storage.publishing import free_bytes
from protocol.errors import AssetUnavailable, DiskFull

Write = Callable[[int, memoryview], int]
"""`os.write`, or what a test puts in its place."""


class Damaged(Exception):
    """A file on disk is not what was saved, and why. It never leaves this package."""


@contextmanager
def file_errors(folder: Path) -> Iterator[None]:
    """Turn OSError from work in ``folder`` into `DiskFull` or `AssetUnavailable`, which say what to
    do."""
    try:
        yield
    except OSError as error:
        where = {"folder": str(folder)}
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"the disk of {folder} is full: {free_bytes(folder) / 1e6:.1f} MB are free. Free "
                "some space and try again",
                **where,
            ) from error
        if error.errno == errno.EFBIG:
            raise DiskFull(
                f"a file in {folder} may not become so large: raise the limit of file sizes "
                "(`ulimit -f`) or save smaller ones",
                **where,
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise AssetUnavailable(
                f"{folder} cannot be written to or read ({error.strerror}): make it and what is in "
                "it the user's own, on a file system that is not read-only",
                **where,
            ) from error
        raise AssetUnavailable(
            f"the disk of {folder} did not do its part: {error}", **where
        ) from error


class Staged:
    """A file on its way in. Methods raise OSError."""

    def __init__(self, path: Path, write: Write) -> None:
        self.path = path
        self._write = write
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._descriptor: int | None = os.open(path, flags, 0o600)

    @property
    def descriptor(self) -> int:
        """Open until `close`."""
        assert self._descriptor is not None
        return self._descriptor

    def append(self, data: memoryview) -> None:
        """Write all of it behind what there is."""
        while data:
            data = data[self._write(self.descriptor, data) :]

    def holds(self, data: memoryview, offset: int) -> bool:
        """Whether these bytes are there already."""
        return os.pread(self.descriptor, len(data), offset) == data

    def sync(self) -> None:
        """The content is on the disk."""
        os.fsync(self.descriptor)

    def close(self) -> None:
        """Nothing more is written."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def discard(self) -> None:
        """It is not wanted any more."""
        self.close()
        self.path.unlink(missing_ok=True)
