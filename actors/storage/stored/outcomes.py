"""What the store of files tells beside its answers, so that somebody can log it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from actors.storage.stored.entries import StoredFile


@dataclass(frozen=True, slots=True)
class FileQuarantined:
    """A file is not what was saved: it was moved aside, and its name means nothing any more."""

    what: ClassVar[str] = "file.quarantined"
    file: StoredFile
    reason: str
    moved_to: Path | None
    """None: there was nothing to move."""

    def __str__(self) -> str:
        where = f"what lay there is at {self.moved_to}" if self.moved_to else "nothing lay there"
        return f"{self.file.name} of {self.file.owner} is lost, as {self.reason}; {where}"


@dataclass(frozen=True, slots=True)
class UploadsExpired:
    """Uploads that nobody went on with."""

    what: ClassVar[str] = "file.uploads_expired"
    owner: str
    count: int

    def __str__(self) -> str:
        return f"{self.owner} did not go on with {self.count} uploads: they are dropped"


@dataclass(frozen=True, slots=True)
class FileStays:
    """A file that does not count any more could not be removed or moved aside; that is tried
    again."""

    what: ClassVar[str] = "file.stays"
    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} stays for now: {self.reason}"


@dataclass(frozen=True, slots=True)
class StrangersIgnored:
    """Something that storage did not put there lies in a folder of stored files. It is left
    alone."""

    what: ClassVar[str] = "file.strangers_ignored"
    folder: Path
    count: int
    example: str

    def __str__(self) -> str:
        return (
            f"{self.count} things in {self.folder} are no stored files and are ignored, such as "
            f"{self.example!r}: move them away"
        )


FileEvent = FileQuarantined | UploadsExpired | FileStays | StrangersIgnored

Observe = Callable[[FileEvent], object]
"""Called from the thread that works; must be quick and must not raise."""
