"""How a file gets on disk so that nobody ever sees half of it, not even after a power cut.

    temporary file ──► write, verify ──► fsync ──► rename ──► fsync the folder

Also here, because they guard the same moments: the locks between processes, and the translation
of what the operating system says of a disk into noyau's errors.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from actors.storage.sources import Cancelled as IsCancelled
from protocol.errors import AssetUnavailable, Cancelled, DiskFull

LOCK_POLL_S: Final = 0.1
"""A waiting install looks this often whether it is its turn or cancelled: unnoticed by a user,
and nothing to a CPU."""

Pause = Callable[[float], None]
MOST_OWN_BYTES: Final = 256 << 20
"""Of a file that the store keeps for itself: the hashes of two million pieces."""
PERMIT: Final = "Give the whole folder to the user that runs noyau, or run noyau as its user"
"""What to do where the system permits too little."""
_NONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO)


def never() -> bool:
    """A `Cancelled` for callers who will not cancel."""
    return False


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
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(
                errno.ENOTDIR,
                "this is no folder, and one has to be here: move it away",
                str(folder),
            ) from error
        fsync_folder(folder.parent)


def inside(folder: Path, path: Path) -> None:
    """Raise ``AssetUnavailable`` where a link on the way leads ``path`` out of ``folder``."""
    there = next(place for place in path.parents if place.exists())
    if not there.resolve().is_relative_to(folder.resolve()):
        raise AssetUnavailable(
            f"{there} leads out of {folder} by a link; nothing is written there. Move the whole "
            "folder instead (the setting data.folder)",
            path=str(path),
        )


def publish(staged: Path, final: Path) -> None:
    """Move a finished, fsynced file to its final name, replacing what is there, durably.

    Both names must lie on one file system.
    """
    make_folders(final.parent)
    staged.replace(final)
    fsync_folder(final.parent)


def publish_bytes(data: bytes, final: Path) -> None:
    """Write a small file whole, durably, replacing what is there. Any number of writers: the last
    one's stays. What a death leaves of it is a hidden file beside, which the next one removes."""
    make_folders(final.parent)
    clear_way(final)
    with staging(final) as staged:
        _write_durably(data, staged)
        publish(staged, final)


def publish_new_bytes(data: bytes, final: Path) -> None:
    """The same, and never over another one. Raises ``FileExistsError`` where there is one."""
    make_folders(final.parent)
    with staging(final) as staged:
        _write_durably(data, staged)
        # A link, unlike a rename, replaces nothing.
        os.link(staged, final)
        fsync_folder(final.parent)


@contextmanager
def staging(final: Path) -> Iterator[Path]:
    """A hidden name beside ``final``, this thread's own, for what is to be published there: gone
    at the end, as are those that the dead have left. The folder must exist."""
    _remove_parts_of_the_dead(final)
    staged = final.with_name(f".{final.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield staged
    finally:
        staged.unlink(missing_ok=True)


def _write_durably(data: bytes, path: Path) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_own(path: Path, most: int = MOST_OWN_BYTES) -> bytes | None:
    """One of the small files that the store itself keeps; None where there is none.

    What is no file, or is larger than ``most`` bytes, is none: somebody put it there, or the disk
    did. Nothing of it is waited for, and `clear_way` makes room for the right one.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(descriptor)


def clear_way(path: Path) -> None:
    """Remove what lies at the path of one of the store's own files and is no file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            remove_tree(path)
    except FileNotFoundError:
        # A link to nowhere is in the way as well.
        path.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in _NONE:
            raise
        remove_tree(path)


def _remove_parts_of_the_dead(final: Path) -> None:
    prefix = f".{final.name}."
    for path in final.parent.iterdir():
        if path.name.startswith(prefix) and path.name.endswith(".part"):
            process = path.name.removeprefix(prefix).partition(".")[0]
            if not (process.isdigit() and Path(f"/proc/{process}").exists()):
                path.unlink(missing_ok=True)


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
    make_folders(path.parent)
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
        forbidden = isinstance(error, PermissionError)
        raise AssetUnavailable(
            f"the disk of {folder} did not do its part: {error}"
            + (f". {PERMIT}" if forbidden else ""),
            folder=str(folder),
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
