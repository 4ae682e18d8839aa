"""The store of files: whole and right, or not there at all, whenever this process dies.

    save ──► `receiving` ──► staged and proved ──► publish: one rename ──► the old one is removed
    read ──► find ──► `reading` ──► damaged? ──► moved aside, told, and lost under its name

Synchronous, and it knows nothing of messages: the storage actor calls it from threads. What can
take long (writing, syncing and reading content) is done without the lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from actors.storage.stored.disk import Damaged, Staged, file_errors
from actors.storage.stored.entries import StoredFile, expiry, revision_after
from actors.storage.stored.folder import FileFolder
from actors.storage.stored.index import Index
from actors.storage.stored.names import check_name, check_owner
from actors.storage.stored.outcomes import FileQuarantined, FileStays, Observe
from actors.storage.stored.quota import Claim, Quota, Usage, admit, usage
from actors.storage.stored.reading import FileReader
from protocol.errors import (
    AssetCorrupt,
    AssetUnavailable,
    InvalidRequest,
    NotFound,
    QuotaExceeded,
)

BATCH: Final = 256
"""Expired files removed in one go: some milliseconds, in which whoever saves waits."""


class FileStore:
    """All stored files below ``folder``. Any number of threads may use it."""

    def __init__(
        self,
        folder: Path,
        quota_of: Callable[[str], Quota],
        observe: Observe,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the folder, remove what a dead process left, and learn what there is.

        Args:
            folder: need not exist yet; nothing outside it is written or read.
            quota_of: how much an owner may keep.
            observe: is told what callers should log.
            wall_clock: seconds since the Unix epoch: expiry outlives the machine's boot.

        Raises `AssetUnavailable` when another process has the folder, or it cannot be used, and
        `DiskFull`.
        """
        self.lock = threading.RLock()
        """Over what there is: held for a rename, never while content is written or read."""
        self.root = folder
        self._quota_of = quota_of
        self._observe = observe
        self._now = wall_clock
        self._index = Index()
        with file_errors(folder):
            self.folder = FileFolder(folder, observe)
            try:
                self._learn()
            except BaseException:
                # Whoever tries again must not find it taken.
                self.folder.close()
                raise

    def _learn(self) -> None:
        """Remove what a dead process left, and find what there is."""
        self.folder.clear_staging()
        for file in self.folder.scan():
            superseded = self._index.put(file)
            if superseded is not None:
                self._retire(superseded)

    # --- what there is ----------------------------------------------------------------------

    def find(self, owner: str, name: str) -> StoredFile | None:
        """The file that this name means now."""
        with self.lock:
            return self._index.find(owner, name, self._now())

    def page(
        self, owner: str, prefix: str = "", after: str = "", limit: int = 100
    ) -> tuple[list[StoredFile], bool]:
        """Files of an owner in the order of their names, and whether others follow."""
        with self.lock:
            return self._index.of(check_owner(owner)).page(prefix, after, limit, self._now())

    def usage(self, owner: str, claims: list[Claim]) -> tuple[Usage, Quota]:
        """What an owner keeps, with these open uploads, and what it may keep."""
        with self.lock:
            shelf = self._index.of(check_owner(owner))
            return usage(shelf.sizes, shelf.bytes, claims), self._quota_of(owner)

    @property
    def owners(self) -> list[str]:
        """All that keep something."""
        with self.lock:
            return [owner for owner in self._index.owners if len(self._index.of(owner))]

    # --- saving, for `receiving` ------------------------------------------------------------

    def admit(self, owner: str, claims: list[Claim], wanted: Claim) -> None:
        """Raise `QuotaExceeded` unless ``wanted`` fits beside the other open uploads' claims."""
        with file_errors(self.root), self.lock:
            try:
                self._admit(owner, claims, wanted)
            except QuotaExceeded:
                # What has expired counts as long as it is there, but nobody is refused for it.
                gone = self._index.expired(self._now(), owner)
                if not gone:
                    raise
                for file in gone:
                    self._remove(file)
                self._admit(owner, claims, wanted)

    def _admit(self, owner: str, claims: list[Claim], wanted: Claim) -> None:
        shelf = self._index.of(owner)
        before = usage(shelf.sizes, shelf.bytes, claims)
        after = usage(shelf.sizes, shelf.bytes, [*claims, wanted])
        admit(owner, self._quota_of(owner), before, after)

    def publish(
        self, owner: str, name: str, staged: Staged, size: int, checksum: str, ttl_s: float | None
    ) -> StoredFile:
        """What was staged is what the name means from now on. Raises `DiskFull` and
        `AssetUnavailable`, and then the name means what it meant before."""
        with file_errors(self.root), self.lock:
            now = self._now()
            before = self._index.of(owner).get(name)
            file = StoredFile(
                owner, name, revision_after(now, before), expiry(now, ttl_s), size, checksum
            )
            self.folder.publish(staged, file)
            self._index.put(file)
            if before is not None:
                self._retire(before)
            return file

    def _retire(self, file: StoredFile) -> None:
        """A revision does not count any more: remove it, or do so later."""
        try:
            self.folder.remove(file)
        except (OSError, AssetUnavailable) as error:
            self._index.of(file.owner).keep_stale(file)
            self._observe(FileStays(self.root / file.owner / file.disk_name, str(error)))

    # --- reading ----------------------------------------------------------------------------

    def open(
        self, owner: str, name: str, offset: int = 0, size: int | None = None, checksum: str = ""
    ) -> FileReader:
        """Begin to read a file, or a range of it; with ``checksum`` only while that is its content.

        Raises `NotFound`, `InvalidRequest` for a range that begins behind the end, `AssetCorrupt`
        for what is seen at once not to be what was saved, and `AssetUnavailable`.
        """
        with file_errors(self.root), self.lock:
            file = self.find(check_owner(owner), check_name(name))
            if file is None:
                raise NotFound(f"{owner} keeps no file {name!r}", owner=owner, name=name)
            if checksum not in ("", file.checksum):
                raise NotFound(
                    f"{name!r} of {owner} was replaced: it has another content now; read it from "
                    "the beginning",
                    owner=owner, name=name, checksum=file.checksum,
                )  # fmt: skip
            if offset > file.size:
                raise InvalidRequest(
                    f"the range begins at {offset}, and {name!r} of {owner} has {file.size} bytes",
                    size=file.size,
                )
            try:
                return FileReader(self.folder.open(file), file, offset, size)
            except Damaged as reason:
                raise self.damaged(file, str(reason)) from None

    def step(self, reader: FileReader, most_bytes: int) -> tuple[int, bytes] | None:
        """See `FileReader.step`. Raises `AssetCorrupt` once it is seen that the content is not what
        was saved, and `AssetUnavailable` where the disk fails."""
        with file_errors(self.root):
            try:
                return reader.step(most_bytes)
            except Damaged as reason:
                raise self.damaged(reader.file, str(reason)) from None

    def damaged(self, file: StoredFile, reason: str) -> AssetCorrupt:
        """Move a file aside that is not what was saved; returns the error for who wanted it."""
        with self.lock:
            if self._index.of(file.owner).get(file.name) == file:
                self._move_aside(file, reason)
        return AssetCorrupt(
            f"{file.name!r} of {file.owner} is not what was saved: {reason}. It was moved to "
            f"{self.root / '.quarantine' / file.owner}; save it again",
            owner=file.owner, name=file.name, checksum=file.checksum,
        )  # fmt: skip

    def _move_aside(self, file: StoredFile, reason: str) -> None:
        try:
            moved_to = self.folder.quarantine(file)
        except (OSError, AssetUnavailable) as error:
            # Whoever reads it is told again, and it is tried again.
            self._observe(FileStays(self.root / file.owner / file.disk_name, str(error)))
        else:
            self._index.of(file.owner).drop(file)
            self._observe(FileQuarantined(file, reason, moved_to))

    # --- going ------------------------------------------------------------------------------

    def delete(self, owner: str, name: str) -> bool:
        """The name means nothing any more, durably; returns whether it meant something. Raises
        `AssetUnavailable`."""
        with file_errors(self.root), self.lock:
            file = self._index.of(check_owner(owner)).get(check_name(name))
            if file is None:
                return False
            self._remove(file)
            self.folder.sync(owner)
            return not file.expired(self._now())

    def _remove(self, file: StoredFile) -> None:
        """Older revisions first: what is left by a crash in between must not be one of those."""
        shelf = self._index.of(file.owner)
        for stale in shelf.stale(file.name):
            self.folder.remove(stale)
            shelf.drop_stale(stale)
            self.folder.sync(file.owner)
        self.folder.remove(file)
        shelf.drop(file)

    def collect(self) -> int:
        """Remove what has expired, and what could not be removed before; returns how many files
        expired. One that cannot be removed keeps no other from that: the first such error, an
        `AssetUnavailable`, is raised when all others are done."""
        with self.lock:
            expired = self._index.expired(self._now())
        failed: list[Exception] = []
        for first in range(0, len(expired), BATCH):
            with self.lock:
                for file in expired[first : first + BATCH]:
                    self._collect(file, failed)
        with self.lock:
            for stale in self._index.all_stale():
                self._collect(stale, failed)
        if failed:
            with file_errors(self.root):
                raise failed[0]
        return len(expired)

    def _collect(self, file: StoredFile, failed: list[Exception]) -> None:
        shelf = self._index.of(file.owner)
        try:
            if shelf.get(file.name) == file:
                self._remove(file)
            elif file in shelf.stale(file.name):
                self.folder.remove(file)
                shelf.drop_stale(file)
        except (OSError, AssetUnavailable) as error:
            failed.append(error)

    def close(self) -> None:
        """Let another process have the folder."""
        self.folder.close()
