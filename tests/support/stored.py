"""A store of files in a folder of its own, for tests of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from actors.storage.stored.disk import Write
from actors.storage.stored.entries import StoredFile
from actors.storage.stored.outcomes import FileEvent
from actors.storage.stored.quota import Quota
from actors.storage.stored.reading import FileReader
from actors.storage.stored.receiving import Receiver, Taken, UploadBounds
from actors.storage.stored.store import FileStore
from actors.storage.stored.uploads import Part

OWNER = "telemetry"
ROOMY = Quota(bytes=1 << 30, files=1000)
BOUNDS = UploadBounds(most_open=4, timeout_s=60)


def checksum(data: bytes) -> str:
    return f"blake3-{blake3(data).hexdigest()}"


@dataclass
class Times:
    """Both clocks of a store, moved by the test."""

    wall: float = 1_000_000.0
    mono: float = 50.0


@dataclass
class Bench:
    """A store, and what it told."""

    folder: Path
    quota: Quota = ROOMY
    write: Write = os.write
    events: list[FileEvent] = field(default_factory=list)
    times: Times = field(default_factory=Times)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """As at a start."""
        self.store = FileStore(
            self.folder, lambda owner: self.quota, self.events.append, lambda: self.times.wall
        )
        self.receiver = Receiver(
            self.store, BOUNDS, self.events.append, lambda: self.times.mono,
            lambda descriptor, data: self.write(descriptor, data),
        )  # fmt: skip

    def restart(self) -> None:
        """As after the end of the process."""
        self.store.close()
        self.open()

    def save(
        self, name: str, data: bytes, *, ttl_s: float | None = None, owner: str = OWNER
    ) -> StoredFile:
        """In one part."""
        taken = self.receiver.take(
            owner, Part("", name, 0, len(data), ttl_s=ttl_s), memoryview(data)
        )
        assert taken.file is not None
        return taken.file

    def part(
        self, upload: str, name: str, offset: int, data: bytes, whole: bytes | None = None,
        size: int | None = None,
    ) -> Taken:  # fmt: skip
        """One part; the last one where it is told the ``whole``."""
        last = whole is not None
        part = Part(
            upload, name, offset, len(data), last, "" if whole is None else checksum(whole), size
        )
        return self.receiver.take(OWNER, part, memoryview(data))

    def read(
        self, name: str, offset: int = 0, size: int | None = None, *, owner: str = OWNER,
        most_bytes: int = 1000,
    ) -> bytes:  # fmt: skip
        """All of it, proved."""
        return self.read_on(self.store.open(owner, name, offset, size), offset, most_bytes)

    def read_on(self, reader: FileReader, offset: int = 0, most_bytes: int = 1000) -> bytes:
        """All that a reader that is at ``offset`` still has, proved."""
        found = b""
        try:
            while not reader.done:
                piece = self.store.step(reader, most_bytes)
                if piece is not None:
                    assert piece[0] == offset + len(found)
                    found += piece[1]
        finally:
            reader.close()
        return found

    def path(self, name: str, owner: str = OWNER) -> Path:
        """Where the file of a name is on disk."""
        file = self.store.find(owner, name)
        assert file is not None
        return self.folder / owner / file.disk_name

    def on_disk(self, owner: str = OWNER) -> list[str]:
        """What lies in the folder of an owner."""
        folder = self.folder / owner
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def staged(self) -> list[Path]:
        """What is on its way in."""
        return list((self.folder / ".staging").iterdir())

    def used(self) -> tuple[int, int, int]:
        """Bytes, files, and reserved bytes of the owner."""
        found, _ = self.store.usage(OWNER, self.receiver.claims(OWNER))
        return found.bytes, found.files, found.reserved_bytes
