"""The run folder: private, ours, and short enough for the sockets that will stand in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from configs.fields import RESERVED_NAMES
from protocol.endpoints import MAX_SOCKET_PATH_BYTES
from protocol.errors import RunFolderUnusable

EPOCH_CHARACTERS = 16
"""Length of an epoch, the mark of one incarnation in its socket's name ``NAME.EPOCH``."""

_REMEDY = "choose another one, such as --set run.folder=/tmp/noyau"


def prepare_run_folder(folder: Path, actors: Iterable[str] = ()) -> Path:
    """The absolute run folder, which now exists, is ours and has mode 0700.

    ``actors`` are the configured actor names; the longest decides whether the folder's path is
    short enough. Parent folders are made as needed. A folder of ours that others may enter is made
    private.

    Raises ``RunFolderUnusable``, with a remedy in the message, when the folder is too long, is no
    folder, belongs to another user, or cannot be made or made private.
    """
    folder = folder.expanduser().absolute()
    _refuse_too_long(folder, actors)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise _unusable(folder, "it is not a folder") from error
    except OSError as error:
        raise _unusable(folder, f"it cannot be made: {error.strerror}") from error
    try:
        _make_private(folder)
    except OSError as error:
        raise _unusable(folder, f"it cannot be made private: {error.strerror}") from error
    return folder


def _refuse_too_long(folder: Path, actors: Iterable[str]) -> None:
    longest = max([*RESERVED_NAMES, *actors], key=len)
    path = folder / f"{longest}.{'0' * EPOCH_CHARACTERS}"
    excess = len(os.fsencode(path)) - MAX_SOCKET_PATH_BYTES
    if excess > 0:
        raise _unusable(
            folder,
            f"its path is too long by {excess} byte{'s' * (excess > 1)}: a local socket's path has "
            f"at most {MAX_SOCKET_PATH_BYTES}, and this is for {path.name}",
        )


def _make_private(folder: Path) -> None:
    # In a folder that all may write to, such as /tmp, another user can put a link in our place.
    if folder.lstat().st_uid != os.geteuid():
        raise _unusable(folder, "it belongs to another user")
    # Looked at and changed through one descriptor, so that it stays one and the same folder.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise _unusable(folder, "it belongs to another user")
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.fchmod(descriptor, 0o700)
        # Some file systems (of other systems, or in containers) accept a mode and ignore it.
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            raise _unusable(folder, "others may enter it, and its file system keeps it so")
    finally:
        os.close(descriptor)


def _unusable(folder: Path, reason: str) -> RunFolderUnusable:
    return RunFolderUnusable(
        f"the run folder {folder} cannot be used: {reason}; {_REMEDY}", folder=str(folder)
    )
