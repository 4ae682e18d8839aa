"""Signs of life: one page of memory that an actor shares with its supervisor.

An actor writes it, from any of its threads; the supervisor reads it, whatever the actor's event
loop is doing. So a worker thread that makes progress is seen while the loop is held up, and a
wedged process is seen although nobody answers.

::

    u64  0 magic and version · 1 beat, ns · 2 progress · 3 what it is doing

Each field is eight aligned bytes, written in one piece; they need not fit together.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

SUFFIX = ".signs"
"""Of the page's file: ``RUN/NAME.EPOCH.signs``."""
MAGIC = int.from_bytes(b"noyau\x00\x00\x01", "big")
PAGE_BYTES = mmap.PAGESIZE

_MAGIC, _BEAT, _PROGRESS, _DOING = range(4)
_FIELDS = struct.Struct("=4Q")
_ALL_BITS = 2**64 - 1


class Doing(IntEnum):
    """What an actor says that it is doing; each is given time of its own."""

    IDLE = 0
    """Waiting for work, or for others: its event loop turns."""
    LOADING = 1
    """Not ready yet: it loads or fetches, which may hold its event loop up."""
    WORKING = 2
    """Its threads work, and raise the progress with each unit of that."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What the page says."""

    beat_at: float
    """When its event loop last turned, in monotonic seconds; 0 before the first time."""
    progress: int
    doing: Doing


class SignsPage:
    """The page, as the actor has it: in a file that only its owner may read. Raises OSError where
    that cannot be made."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, PAGE_BYTES)
            self._fields = memoryview(mmap.mmap(descriptor, PAGE_BYTES)).cast("Q")
        finally:
            os.close(descriptor)
        self._fields[_DOING] = Doing.LOADING
        self._fields[_MAGIC] = MAGIC

    def beat(self, now_s: float) -> None:
        """The event loop turns at this moment, in monotonic seconds."""
        self._fields[_BEAT] = int(now_s * 1e9)

    def progressed(self, units: int) -> None:
        """So many units more are done; from any thread."""
        # Two threads at once may lose one of their units: it is the change that counts.
        self._fields[_PROGRESS] = (self._fields[_PROGRESS] + units) & _ALL_BITS

    def does(self, doing: Doing) -> None:
        """It does this from now on."""
        self._fields[_DOING] = doing


class SignsReader:
    """The page, as the supervisor reads it. Not mapped: whatever an actor does to its file, reading
    it can do no harm."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._content = b""
        self._signs: Signs | None = None

    @classmethod
    def open(cls, path: Path) -> SignsReader | None:
        """None where there is no file (yet)."""
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return None

    def read(self) -> Signs | None:
        """What it says now; None where it is no page."""
        content = os.pread(self._descriptor, _FIELDS.size, 0)
        if content != self._content:
            self._content, self._signs = content, _unpacked(content)
        return self._signs

    def close(self) -> None:
        """Let go of it; the file stays."""
        os.close(self._descriptor)


def _unpacked(content: bytes) -> Signs | None:
    if len(content) < _FIELDS.size:
        return None
    magic, beat, progress, doing = _FIELDS.unpack(content)
    if magic != MAGIC:
        return None
    known = Doing(doing) if doing in Doing._value2member_map_ else Doing.IDLE
    return Signs(beat_at=beat / 1e9, progress=progress, doing=known)
