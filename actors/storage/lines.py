"""What the history of the files says. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from actors.storage.digests import Sha256, digits_of

What = Literal[
    "installed", "repaired", "updated", "rolled back", "proved", "added", "removed", "pinned",
    "unpinned",
]  # fmt: skip


class Line(BaseModel):
    """One thing that happened to one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: float
    """Seconds since the Unix epoch."""
    asset: str
    what: What
    hash: Sha256
    """Of the whole file, as it was afterwards."""
    version: str = ""
    size: int = 0
    """Bytes."""
    fetched_bytes: int = 0
    sources: list[str] = []


def sizes_of(lines: Sequence[Line]) -> dict[str, int]:
    """Bytes of each version that one file had, by its sha256."""
    return {digits_of(line.hash): line.size for line in lines if line.size}


def versions_before(lines: Sequence[Line], hash_: str) -> list[str]:
    """The sha256 of the other versions that one file had, the latest first, each once."""
    seen = [digits_of(line.hash) for line in reversed(lines) if line.hash != hash_]
    return list(dict.fromkeys(seen))


_CAME: Final = ("updated", "installed", "added")


def versions_to_go_back_to(lines: Sequence[Line], hash_: str) -> list[str]:
    """The sha256 of the versions in use before the one of this hash last came, the latest first.

    Those that somebody went back from are none of them, unless they came again: whoever goes back
    twice does not want what he has just left.
    """
    came = [at for at, line in enumerate(lines) if line.hash == hash_ and line.what in _CAME]
    in_use, left = "", set[str]()
    for line in lines:
        if line.what == "rolled back":
            left.add(in_use)
            in_use = line.hash
        elif line.what in _CAME:
            left.discard(line.hash)
            in_use = line.hash
    # Of one that a crash has put in force nothing is written: all of them were before it.
    before = lines[: came[-1]] if came else lines
    found = [digits_of(line.hash) for line in reversed(before) if line.hash not in left | {hash_}]
    return list(dict.fromkeys(found))


def is_on_trial(lines: Sequence[Line]) -> bool:
    """Whether the version in use came by an update and was not loaded since."""
    for line in reversed(lines):
        if line.what in ("updated", "proved", "rolled back", "installed", "added"):
            return line.what == "updated"
    return False
