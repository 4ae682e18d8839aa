"""Reading a file on disk for cutting: by pread, through one window, never mapped.

A mapped file that somebody truncates is a SIGBUS; a read one is an error that says so.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from actors.storage.chunking.regions import READ_BYTES
from protocol.errors import AssetUnavailable, Cancelled

WINDOW_BYTES: Final = 4 * READ_BYTES


@contextmanager
def opened(file: Path | int) -> Iterator[int]:
    """A descriptor of the file, closed afterwards unless it was given. Raises ``OSError``."""
    if isinstance(file, int):
        yield file
        return
    # Without O_NONBLOCK a named pipe at the path would hold this thread until somebody writes.
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Window:
    """A regular file seen through a stretch of it that is kept in memory.

    Raises ``AssetUnavailable`` where it is another kind of file.
    """

    def __init__(
        self,
        descriptor: int,
        name: str,
        cancelled: Callable[[], bool] = lambda: False,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise AssetUnavailable(f"{name} is no regular file, so it has no chunks")
        self.size = found.st_size
        self._descriptor = descriptor
        self._name = name
        self._cancelled = cancelled
        self._report = report
        self._bytes = memoryview(bytearray(min(WINDOW_BYTES, self.size)))
        self._base = self._filled = self._furthest = 0
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def read(self, offset: int, size: int) -> memoryview:
        """See `Read`."""
        if not self._base <= offset <= offset + size <= self._base + self._filled:
            if size > len(self._bytes):
                self._bytes = memoryview(bytearray(size))
            self._fill(offset, size)
        begin = offset - self._base
        return self._bytes[begin : begin + size]

    def _fill(self, offset: int, needed: int) -> None:
        """Read a window from ``offset`` on, of which ``needed`` bytes must come."""
        if self._cancelled():
            raise Cancelled(f"cutting {self._name} into chunks was cancelled")
        self._furthest = max(self._furthest, offset)
        self._report(self._furthest, self.size)
        self._base, self._filled = offset, 0
        while self._filled < needed:
            at = offset + self._filled
            count = os.preadv(self._descriptor, [self._bytes[self._filled :]], at)
            if not count:
                raise AssetUnavailable(
                    f"{self._name} ended at byte {at} of {self.size} while it was read: another "
                    "program writes to it; try again once that is done"
                )
            self._filled += count
