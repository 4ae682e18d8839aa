"""The folder of stored files: the only place that touches the disk for them, but for reading.

::

    FOLDER/OWNER/…             the files, under the names of `entries`
    FOLDER/.staging/           uploads under way
    FOLDER/.quarantine/OWNER/  what was not what was saved, the latest few
    FOLDER/.lock               held by the process that has the folder

Nothing in it is followed when it is a link. Methods raise OSError where the disk fails, or
`NoyauError`; see `disk.file_errors`.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from actors.storage.publishing import (
    fsync_folder,
    make_folders,
    publish,
    remove_tree,
    try_lock,
)
from actors.storage.stored.disk import Damaged, Staged, Write
from actors.storage.stored.entries import StoredFile, from_disk_name
from actors.storage.stored.names import check_owner
from actors.storage.stored.outcomes import FileStays, Observe, StrangersIgnored
from protocol.errors import AssetUnavailable, InvalidRequest

MOST_QUARANTINED: Final = 20
"""Damaged files kept for each owner, the latest: enough to look into, and a disk that goes bad does
not fill itself."""


class FileFolder:
    """Owns the folder from its making to `close`."""

    def __init__(self, root: Path, observe: Observe) -> None:
        """Make it where it is missing, and take it. Raises `AssetUnavailable` when another process
        has it."""
        self.root = root
        self._observe = observe
        self._staging = root / ".staging"
        make_folders(root)
        with ExitStack() as held:
            if not held.enter_context(try_lock(root / ".lock")):
                raise AssetUnavailable(
                    f"another process has the stored files in {root}: end the other noyau with "
                    "this data folder, or use another one"
                )
            self._check_real(self._staging)
            make_folders(self._staging)
            # Nothing failed: it is held beyond this.
            self._held = held.pop_all()

    def close(self) -> None:
        """Let another process have it."""
        self._held.close()

    # --- at the start -----------------------------------------------------------------------

    def clear_staging(self) -> None:
        """Remove what a dead process left half done. Only before anything is staged."""
        for leftover in list(self._staging.iterdir()):
            try:
                remove_tree(leftover)
            except OSError as error:
                self._observe(FileStays(leftover, str(error)))

    def scan(self) -> Iterator[StoredFile]:
        """Every file, by its name alone: whether it is whole is found when it is read."""
        strangers = []
        for path in self.root.iterdir():
            if path.name.startswith("."):
                continue
            if path.is_dir() and not path.is_symlink() and _is_owner(path.name):
                yield from self._scan_owner(path.name)
            else:
                strangers.append(path.name)
        self._tell_strangers(self.root, strangers)

    def _scan_owner(self, owner: str) -> Iterator[StoredFile]:
        strangers = []
        for path in (self.root / owner).iterdir():
            file = from_disk_name(owner, path.name)
            if file is None:
                strangers.append(path.name)
            else:
                yield file
        self._tell_strangers(self.root / owner, strangers)

    def _tell_strangers(self, folder: Path, names: list[str]) -> None:
        if names:
            self._observe(StrangersIgnored(folder, len(names), min(names)))

    # --- coming and going -------------------------------------------------------------------

    def stage(self, write: Write) -> Staged:
        """A file to write to, which nobody sees."""
        return Staged(self._staging / secrets.token_hex(8), write)

    def publish(self, staged: Staged, file: StoredFile) -> None:
        """Give a synced file its name, durably; on an error it has none."""
        final = self._path(file)
        self._check_real(final.parent)
        try:
            publish(staged.path, final)
        except OSError:
            # It may be there and not be on the disk; then it must not be there at all.
            final.unlink(missing_ok=True)
            raise

    def remove(self, file: StoredFile) -> None:
        """Its name is gone; durably after `sync`. Nothing there is fine."""
        self._check_real(self.root / file.owner)
        self._path(file).unlink(missing_ok=True)

    def sync(self, owner: str) -> None:
        """What was removed stays removed."""
        fsync_folder(self.root / owner)

    def open(self, file: StoredFile) -> int:
        """A descriptor to read it. Raises `Damaged` where it is seen at once that it is not it."""
        self._check_real(self.root / file.owner)
        # Not blocking: what lies there may be a pipe by now.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(self._path(file), flags)
        except FileNotFoundError:
            raise Damaged("it is not in its folder any more") from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise Damaged("a link or a socket lies in its place") from None
            raise
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != file.size:
            os.close(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Damaged("what lies in its place is no file")
            raise Damaged(f"it has {found.st_size} bytes and not {file.size}")
        return descriptor

    def quarantine(self, file: StoredFile) -> Path | None:
        """Move aside what lies in its place; None where nothing does."""
        self._check_real(self.root / file.owner)
        folder = self.root / ".quarantine" / file.owner
        self._check_real(folder.parent)
        self._check_real(folder)
        make_folders(folder)
        aside = folder / file.disk_name
        try:
            self._path(file).rename(aside)
        except FileNotFoundError:
            return None
        others = [path for path in folder.iterdir() if path != aside]
        # By when they came there, which is what the change time of a file that was renamed says.
        others.sort(key=lambda path: path.lstat().st_ctime_ns, reverse=True)
        for path in others[MOST_QUARANTINED - 1 :]:
            remove_tree(path)
        fsync_folder(folder)
        self.sync(file.owner)
        return aside

    def _path(self, file: StoredFile) -> Path:
        return self.root / file.owner / file.disk_name

    def _check_real(self, folder: Path) -> None:
        """Raises `AssetUnavailable` for a folder that is a link: it would lead outside."""
        if folder.is_symlink():
            raise AssetUnavailable(
                f"{folder} is a link, and stored files are kept in real folders: put the folder "
                "itself there, or remove the link",
                folder=str(folder),
            )


def _is_owner(name: str) -> bool:
    try:
        check_owner(name)
    except InvalidRequest:
        return False
    return True
