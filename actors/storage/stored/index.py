"""Which files there are: for each owner and name the revision that counts. Pure.

It is made of the names on disk at the start, see `entries`, and holds nothing that they do not.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from actors.storage.stored.entries import StoredFile


class Shelf:
    """The files of one owner."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        """Bytes by name."""
        self.bytes = 0
        """Of all."""
        self._files: dict[str, StoredFile] = {}
        self._stale: dict[str, list[StoredFile]] = {}
        self._names: list[str] | None = None

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[StoredFile]:
        return iter(self._files.values())

    def get(self, name: str) -> StoredFile | None:
        """The revision that counts, also when it has expired."""
        return self._files.get(name)

    def put(self, file: StoredFile) -> StoredFile | None:
        """One more revision; returns the one that does not count any more, of the two that there
        are then."""
        before = self._files.get(file.name)
        if before is not None and before.revision >= file.revision:
            return file
        self._files[file.name] = file
        self.sizes[file.name] = file.size
        self.bytes += file.size - (0 if before is None else before.size)
        if before is None:
            self._names = None
        return before

    def drop(self, file: StoredFile) -> None:
        """This revision, which counted, is gone."""
        del self._files[file.name], self.sizes[file.name]
        self.bytes -= file.size
        self._names = None

    def page(
        self, prefix: str, after: str, limit: int, now: float
    ) -> tuple[list[StoredFile], bool]:
        """Files in the order of their names, and whether others follow. ``now``: seconds since the
        Unix epoch."""
        if self._names is None:
            self._names = sorted(self._files)
        found: list[StoredFile] = []
        first = bisect_left(self._names, prefix)
        if after:
            first = max(first, bisect_right(self._names, after))
        for name in itertools.islice(self._names, first, None):
            if not name.startswith(prefix):
                break
            if self._files[name].expired(now):
                continue
            if len(found) == limit:
                return found, True
            found.append(self._files[name])
        return found, False

    # --- revisions that do not count, and could not be removed ------------------------------

    def keep_stale(self, file: StoredFile) -> None:
        """An older revision is still on the disk."""
        self._stale.setdefault(file.name, []).append(file)

    def stale(self, name: str) -> list[StoredFile]:
        """Those of a name."""
        return list(self._stale.get(name, ()))

    def all_stale(self) -> list[StoredFile]:
        """Those of all names."""
        return [file for files in self._stale.values() for file in files]

    def drop_stale(self, file: StoredFile) -> None:
        """One of them is gone."""
        left = self._stale[file.name]
        left.remove(file)
        if not left:
            del self._stale[file.name]


class Index:
    """The shelves of all owners."""

    def __init__(self) -> None:
        self._shelves: dict[str, Shelf] = {}

    @property
    def owners(self) -> list[str]:
        """All that have or had files, in order."""
        return sorted(self._shelves)

    def of(self, owner: str) -> Shelf:
        """The shelf of an owner, which may be empty."""
        found = self._shelves.get(owner)
        return found if found is not None else Shelf()

    def put(self, file: StoredFile) -> StoredFile | None:
        """See `Shelf.put`."""
        return self._shelves.setdefault(file.owner, Shelf()).put(file)

    def find(self, owner: str, name: str, now: float) -> StoredFile | None:
        """The file that there is at ``now``, seconds since the Unix epoch."""
        file = self.of(owner).get(name)
        return None if file is None or file.expired(now) else file

    def expired(self, now: float, owner: str | None = None) -> list[StoredFile]:
        """All that have expired and are still on the disk."""
        shelves = self._shelves.values() if owner is None else [self.of(owner)]
        return [file for shelf in shelves for file in shelf if file.expired(now)]

    def all_stale(self) -> list[StoredFile]:
        """See `Shelf.all_stale`."""
        return [file for shelf in self._shelves.values() for file in shelf.all_stale()]
