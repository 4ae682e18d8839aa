"""Reads a stored file, and proves it while it reads.

There is one checksum for the whole file, so a range is proved by reading what lies before and
behind it too: that costs a second for some gigabytes, and no bit of it goes unlooked at.
"""

from __future__ import annotations

import os
import threading
from typing import Final

from blake3 import blake3

from actors.storage.stored.disk import Damaged
from actors.storage.stored.entries import StoredFile
from protocol.errors import Cancelled

SILENT_BYTES: Final = 8 * 1024 * 1024
"""Read at most in one step without handing something out: some milliseconds, after which a reader
that went away is noticed."""


class FileReader:
    """One reading of one file. Any thread may take a step, one at a time."""

    def __init__(self, descriptor: int, file: StoredFile, offset: int, size: int | None) -> None:
        """Read ``size`` bytes from ``offset`` on, or all to the end. It closes the descriptor."""
        self.file = file
        self.done = False
        """Whether all was read and is what was saved."""
        # A file object, which also closes when nobody has the reader any more.
        self._content = os.fdopen(descriptor, "rb", buffering=0)
        self._begin = offset
        self._end = file.size if size is None else min(file.size, offset + size)
        self._at = 0
        self._digest = blake3()
        self._lock = threading.Lock()

    def step(self, most_bytes: int) -> tuple[int, bytes] | None:
        """Go on; returns the offset and bytes of the next part of the range, or None where this
        step had none. Raises `Damaged` as soon as it is seen, and OSError."""
        with self._lock:
            silent = 0
            while self._at < self.file.size and silent < SILENT_BYTES:
                offset = self._at
                if self._begin <= offset < self._end:
                    return offset, self._read(min(most_bytes, self._end - offset))
                border = self._begin if offset < self._begin else self.file.size
                silent += len(self._read(min(SILENT_BYTES // 8, border - offset)))
            if self._at == self.file.size:
                self._prove()
            return None

    def _read(self, size: int) -> bytes:
        if self._content.closed:
            raise Cancelled(f"the reading of {self.file.name} was given up")
        piece = self._content.read(size)
        if not piece:
            raise Damaged(f"it ends after {self._at} of {self.file.size} bytes")
        self._digest.update(piece)
        self._at += len(piece)
        return piece

    def _prove(self) -> None:
        found = f"blake3-{self._digest.hexdigest()}"
        if found != self.file.checksum:
            raise Damaged(f"its content has the checksum {found} and not {self.file.checksum}")
        self.done = True

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._content.close()
