"""Opening a file inside allowed folders, and nowhere else, whatever its path says.

The path is walked from an allowed folder one name at a time, each opened relative to the last and
without following links: what is checked is what is opened, however the tree changes meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from protocol.errors import InvalidRequest, NotAllowed, NotFound

MAX_BYTES = 8 * 1024 * 1024
"""Of a file that is read: longer than any text that a model takes in."""


def read_text(path: str, allowed: Sequence[Path], setting: str) -> str:
    """The whole text of a file.

    Raises `NotAllowed` when it is outside of all allowed folders or its way goes through a link
    (``setting`` is named as the remedy), `NotFound`, or `InvalidRequest` when it is no regular
    file, too large or no text.
    """
    root, names = _inside(path, allowed, setting)
    fd = _open_below(root, names, path)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidRequest(f"{path} is no regular file; name a text file")
        if found.st_size > MAX_BYTES:
            raise InvalidRequest(
                f"{path} has {found.st_size:,} bytes, at most {MAX_BYTES:,} are read"
            )
        with os.fdopen(os.dup(fd), "rb") as file:
            # One more than allowed: it may grow while it is read, and some say 0 and are not.
            data = file.read(MAX_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > MAX_BYTES:
        raise InvalidRequest(f"{path} has more than the {MAX_BYTES:,} bytes that are read")
    if b"\0" in data:
        raise InvalidRequest(f"{path} is binary, not text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is no UTF-8 text") from None


def _inside(path: str, allowed: Sequence[Path], setting: str) -> tuple[Path, list[str]]:
    """The allowed folder and the names from there on."""
    if "\0" in path:
        raise InvalidRequest("a path holds no NUL character")
    if not allowed:
        raise NotAllowed(f'no folder may be read; allow one with {setting} = ["/path/of/folder"]')
    wanted = Path(path)
    if not wanted.is_absolute() and len(allowed) == 1:
        wanted = allowed[0] / wanted
    if ".." in wanted.parts:
        raise NotAllowed(f"{path}: a path with .. is not read; name the file by its direct path")
    for folder in allowed:
        if wanted.is_relative_to(folder):
            return folder, list(wanted.relative_to(folder).parts)
    names = ", ".join(map(str, allowed))
    raise NotAllowed(f"{path} is outside of what may be read: {names}; {setting} allows more")


def _open_below(root: Path, names: Sequence[str], path: str) -> int:
    if not names:
        raise InvalidRequest(f"{path} is a folder; name a text file in it")
    fd = _open(str(root), os.O_RDONLY | os.O_DIRECTORY, None, path)
    try:
        for name in names[:-1]:
            inner = _open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, fd, path)
            os.close(fd)
            fd = inner
        # Not blocking, as opening a FIFO would wait for its writer.
        return _open(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, fd, path)
    finally:
        os.close(fd)


def _open(name: str, flags: int, folder: int | None, path: str) -> int:
    try:
        mode = os.lstat(name, dir_fd=folder).st_mode
        if folder is not None and stat.S_ISLNK(mode):
            raise NotAllowed(f"{path} leads through the link {name}, and links are not followed")
        # Opening a device can already do something.
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or folder is None):
            raise InvalidRequest(f"{path} is no regular file; name a text file")
        return os.open(name, flags | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from None
