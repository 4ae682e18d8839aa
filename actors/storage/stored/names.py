"""Names of stored files and of their owners: which are allowed. Pure.

A name has to mean one file on every file system that a data folder may be moved to. So it is made
of characters that no two of them treat otherwise: nothing has capital letters, nothing can be
written in two ways of Unicode, no part is ``..`` or hidden, and none is a device of another system.
An owner is the name of an actor, and becomes a folder.
"""

from __future__ import annotations

import re
from typing import Final

from protocol.errors import InvalidRequest

MOST_NAME_CHARACTERS: Final = 120
"""Beside it, a file's name on disk holds up to 121 more, and file systems take 255."""
MOST_OWNER_CHARACTERS: Final = 64

_PART = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_OWNER = re.compile(r"[a-z][a-z0-9_]*")
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul"] + [f"{port}{n}" for port in ("com", "lpt") for n in range(10)]
)
"""What Windows takes for devices, whatever stands behind their first dot."""


def check_name(name: str) -> str:
    """The name of a file, if it may be one. Raises `InvalidRequest`, which says what would be."""
    if not name:
        raise _wrong("a file needs a name")
    if len(name) > MOST_NAME_CHARACTERS:
        raise _wrong(f"the name has {len(name)} characters; {MOST_NAME_CHARACTERS} are the most")
    for part in name.split("/"):
        if not _PART.fullmatch(part):
            raise _wrong(f"{name!r} is no name of a file, because of {part!r}")
        _check_device(name, part)
    return name


def check_owner(owner: str) -> str:
    """The name of an owner, if it may be one. Raises `InvalidRequest`."""
    if len(owner) > MOST_OWNER_CHARACTERS or not _OWNER.fullmatch(owner):
        raise InvalidRequest(
            f"{owner[: MOST_OWNER_CHARACTERS + 1]!r} owns no files: an owner is the name of an "
            f"actor, such as job_worker, of at most {MOST_OWNER_CHARACTERS} characters"
        )
    _check_device(owner, owner)
    return owner


def _check_device(name: str, part: str) -> None:
    if part.partition(".")[0] in _DEVICES:
        raise _wrong(f"{name!r} has a part that is a device on some systems: {part!r}")


def _wrong(problem: str) -> InvalidRequest:
    return InvalidRequest(
        f"{problem}. Use lower-case letters a to z, digits, and . _ - between them, with / between "
        "parts, such as traces/2026-01-31.jsonl"
    )
