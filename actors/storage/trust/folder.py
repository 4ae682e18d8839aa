"""The metadata a client has seen, on disk: python-tuf works in a copy, what it verified is kept.

    FOLDER/*.json, root_history/ ──copy──► .staging-XXXX/ ──python-tuf──► verified
                 ▲                                                          │
                 └── temporary file, fsync, rename, fsync the folder ◄──────┘

python-tuf writes a file beside and renames it, but never fsyncs: after a power cut its newest file
may be empty, and with it is lost what a rollback is measured by. It also takes ``root.json`` away
for a moment, and what a killed run leaves has names that nobody would know to remove. In a copy
none of that matters. A run that is killed has simply not happened.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from actors.storage.publishing import publish_bytes, remove_tree
from actors.storage.trust.chain import RENEWED, Evidence, following, last_root, newest, version_of

FILE_MAX_BYTES: Final = 5_000_000
"""python-tuf's bound for the largest kind of metadata. A longer file here is damage."""

_ROOT: Final = re.compile(r"([1-9][0-9]{0,9})\.root\.json")
_STAGING: Final = ".staging-"


class MetadataFolder:
    """The newest verified metadata of each role. For one process at a time: its user has a lock."""

    def __init__(self, folder: Path) -> None:
        self.path = folder

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """A copy to work in. What it holds at the end is kept, however the block ends: metadata
        that was verified before something failed protects against rollback all the same.

        Raises ``OSError``.
        """
        for leftover in self.path.glob(f"{_STAGING}*"):
            remove_tree(leftover)
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self.path))
        try:
            for name, data in self._files().items():
                _write(staging / name, data)
            try:
                yield staging
            finally:
                self._keep(MetadataFolder(staging)._files())
        finally:
            remove_tree(staging)

    def roots(self) -> list[bytes]:
        """Every root there is, the oldest first; not verified."""
        files = self._files()
        return [files[name] for name in _roots_in_order(files)]

    def read(self, name: str) -> bytes | None:
        """One file; None where there is none that could be one."""
        return self._files().get(name)

    def mend(self, first: bytes, evidence: Evidence) -> None:
        """Replace what is older or worse than the ``evidence``, which was proven before.

        So damage here does not take away what a rollback is measured by. ``first`` is the root that
        the chain begins with.
        """
        history = {root_name(data): data for data in evidence.roots}
        for name, data in history.items():
            _write(self.path / name, data)
        # A damaged one ends the chain earlier; python-tuf asks for that one again.
        root = last_root(first, following(first, self.roots()))
        proven = (evidence.timestamp, evidence.snapshot, evidence.targets)
        for role, spare in zip(RENEWED, proven, strict=True):
            seen = self.read(f"{role.type}.json")
            best = newest(root, role, [data for data in (seen, spare) if data is not None])
            if best is not None and best != seen:
                _write(self.path / f"{role.type}.json", best)

    def _files(self) -> dict[str, bytes]:
        """Everything here that could be metadata, by its name below the folder."""
        paths = [*self.path.glob("*.json"), *self.path.glob("root_history/*.json")]
        found = {str(path.relative_to(self.path)): _content(path) for path in paths}
        return {name: data for name, data in found.items() if data is not None}

    def _keep(self, new: dict[str, bytes]) -> None:
        """Write what is new. Roots first: each later file is worth something only with them."""
        old = self._files()
        roots = _roots_in_order(new)
        known = [*roots, "root.json", *(f"{role.type}.json" for role in RENEWED)]
        rest = sorted(new.keys() - {*known})
        for name in [*known, *rest]:
            if name in new and new[name] != old.get(name):
                final = self.path / name
                clear_way(final.parent, folder=True)
                clear_way(final)
                publish_bytes(new[name], final)


def root_name(data: bytes) -> str:
    """Where a root's file lies below the folder, by the version that it claims."""
    return f"root_history/{version_of(data)}.root.json"


def _roots_in_order(names: dict[str, bytes]) -> list[str]:
    found = {name: _ROOT.fullmatch(name.removeprefix("root_history/")) for name in names}
    versions = {int(match[1]): name for name, match in found.items() if match and "/" in name}
    return [versions[version] for version in sorted(versions)]


def _content(path: Path) -> bytes | None:
    """A file's bytes, links followed; None for what is no file, or too long, or unreadable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > FILE_MAX_BYTES:
            return None
        return os.read(descriptor, FILE_MAX_BYTES)
    except OSError:
        # A bad spot on the disk. It is asked for again, like any file that is not there.
        return None
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    """In a copy, where nothing needs to be durable."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def clear_way(path: Path, *, folder: bool = False) -> None:
    """Remove what lies there and is of the wrong kind: damage, which must not stop us for ever."""
    if path.exists() and path.is_dir() is not folder:
        remove_tree(path)
