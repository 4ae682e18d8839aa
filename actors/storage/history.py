"""What became of the files, a line of JSON each: who wants to know when a model changed reads it.

Only ever added to; a line that a crash cut short is no line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from actors.storage.lines import Line
from actors.storage.publishing import clear_way, read_own


class History:
    """The file at ``path``, which need not exist yet. Safe for threads and processes: a line is
    one write at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, line: Line) -> None:
        """Write a line, durably. Raises ``OSError``."""
        clear_way(self._path)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            text = line.model_dump_json(exclude_defaults=True)
            os.write(descriptor, f"{chr(10) if torn else ''}{text}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lines(self, asset: str | None = None) -> list[Line]:
        """All of them, or those of one file; the oldest first."""
        return [line for line in self._all() if asset is None or line.asset == asset]

    def _all(self) -> Iterator[Line]:
        for each in (read_own(self._path) or b"").splitlines():
            try:
                yield Line.model_validate_json(each)
            except ValidationError:
                # A line that a crash cut short.
                continue
