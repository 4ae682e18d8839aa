"""Wheels that are kept once they were fetched: the next time something of them is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import blake3

from actors.storage.sources.interface import PIECE_BYTES

_DIGITS: Final = 32
"""Of the hash in a wheel's name."""


class KeptWheels:
    """The wheels in ``folder``, each under a name that says what its bytes must be: one that the
    disk has spoiled is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, requirement: str) -> Path | None:
        """The wheel of ``NAME==VERSION``, whole; one that is not is removed."""
        for path in self._folder.glob(f"{requirement}-*.whl") if self._folder.is_dir() else ():
            if path.name == f"{requirement}-{_hash(path)}.whl":
                return path
            path.unlink(missing_ok=True)
        return None

    def keep(self, wheel: Path, requirement: str) -> Path:
        """Move a wheel here, which lies on the same file system; returns where it is now."""
        self._folder.mkdir(exist_ok=True)
        kept = self._folder / f"{requirement}-{_hash(wheel)}.whl"
        wheel.replace(kept)
        return kept


def _hash(path: Path) -> str:
    hasher = blake3.blake3()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            hasher.update(piece)
    return hasher.hexdigest()[:_DIGITS]
