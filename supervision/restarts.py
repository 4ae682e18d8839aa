"""How often each process was started again since the first start, through all supervisors.

A supervisor that follows a crashed one finds the counts of its predecessor in the run folder, and
adds the restart that it brings to every process itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

FILE = "restarts.json"


def inherited(text: str, names: Iterable[str], supervisors: int) -> dict[str, int]:
    """The counts to begin with. Pure.

    ``text`` is what the predecessor left behind; where it is no such file (it was killed before it
    wrote one), at least all ``supervisors`` that there were before this one are counted.
    """
    if not supervisors:
        return dict.fromkeys(names, 0)
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        found = {}
    return {name: max(supervisors, _count(found.get(name)) + 1) for name in names}


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0


class RestartsFile:
    """The file in the run folder. What is lost with it is a number, never a process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._written: dict[str, int] = {}

    def read(self) -> str:
        """Its content, or nothing."""
        try:
            return self._path.read_text()
        except (OSError, ValueError):
            return ""

    def write(self, counts: Mapping[str, int]) -> None:
        """Keep the counts, where they have changed. Raises OSError."""
        if counts == self._written:
            return
        self._written = dict(counts)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._written))
        fresh.replace(self._path)

    def remove(self) -> None:
        """The system ends: the next one counts from zero."""
        self._path.unlink(missing_ok=True)
