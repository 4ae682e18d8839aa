"""How a file gets on disk so that nobody ever sees half of it, not even after a power cut.

    exclusive temporary file ──► write, hash and count ──► fsync ──► rename ──► fsync the folder

Also here, because they guard the same moments: the locks between processes, and the translation
of what the operating system says of a disk into noyau's errors.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from actors.storage.sources import Cancelled as IsCancelled
from protocol.errors import AssetCorrupt, AssetUnavailable, Cancelled, DiskFull

LOCK_POLL_S: Final = 0.1
"""A waiting install looks this often whether it is its turn or cancelled: unnoticed by a user,
and nothing to a CPU."""

Pause = Callable[[float], None]


class MeasuringWriter:
    """A `Sink` over an open file that hashes what passes and refuses to exceed ``limit`` bytes."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._hash = hashlib.sha256()
        self.written = 0
        """Bytes so far."""

    def write(self, piece: bytes, /) -> int:
        """Write all of ``piece``; raises ``AssetCorrupt`` past the limit, having written none."""
        if self.written + len(piece) > self._limit:
            raise AssetCorrupt(f"the source sent more than the {self._limit} bytes it should")
        self._file.write(piece)
        self._hash.update(piece)
        self.written += len(piece)
        return len(piece)

    def sha256(self) -> str:
        """Of everything so far, lower-case hex."""
        return self._hash.hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make the folder's entries durable: a rename is not until its folder is on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Create ``folder`` and what it lies in, durably. Nothing happens where it exists."""
    if not folder.is_dir():
        make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync_folder(folder.parent)


def publish(staged: Path, final: Path) -> None:
    """Move a finished, fsynced file to its final name, replacing what is there, durably.

    Both names must lie on one file system.
    """
    make_folders(final.parent)
    staged.replace(final)
    fsync_folder(final.parent)


def remove_tree(path: Path) -> None:
    """Remove a file, link or whole folder; nothing there is fine.

    Raises ``OSError`` when something stays.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock file at ``path`` if it is free; yields whether it was.

    The kernel frees it when the process ends, however it ends. The file itself stays: removing it
    would let two processes hold locks on two files of one name.
    """
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def hold_lock(path: Path, cancelled: IsCancelled, pause: Pause = time.sleep) -> Iterator[None]:
    """Hold the lock file at ``path``, waiting for other processes and threads that do.

    Raises ``Cancelled`` once ``cancelled()`` while waiting. It polls, because nothing but a signal
    could take a blocking flock back.
    """
    while True:
        with try_lock(path) as mine:
            if mine:
                yield
                return
        if cancelled():
            raise Cancelled(f"waiting for {path.name} was cancelled")
        pause(LOCK_POLL_S)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn ``OSError`` from work in ``folder`` into ``DiskFull`` or ``AssetUnavailable``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"the disk of {folder} became full while writing; after cleaning up "
                f"{free_bytes(folder) / 1e6:.1f} MB are free. Free some space and try again",
                folder=str(folder),
            ) from error
        raise AssetUnavailable(
            f"the disk of {folder} did not do its part: {error}", folder=str(folder)
        ) from error


def free_bytes(folder: Path) -> int:
    """Bytes that this user can still write to the file system where ``folder`` is or will be."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(there).free


def require_space(folder: Path, needed: int) -> None:
    """Raise ``DiskFull``, saying how much is needed and free and where, unless it fits."""
    free = free_bytes(folder)
    if free < needed:
        raise DiskFull(
            f"{needed / 1e6:.1f} MB are needed in {folder}, but {free / 1e6:.1f} MB are free; "
            "free some space or move the data folder",
            needed_bytes=needed,
            free_bytes=free,
            folder=str(folder),
        )
