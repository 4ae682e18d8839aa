"""Looks at processes: what the kernel says of each, and its page of signs; for `hangs.py`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from protocol.signs import SUFFIX, Signs, SignsReader
from supervision.looks import Eye, Look

LOOKS_AT_ONCE = 40
"""Processes of which the kernel is asked in one look. It takes some 25 us for each; with more of
them, those whose event loops turn take turns."""
QUIET_LOOKS = 4
"""Looks without a turn of its event loop after which a process is asked about at each. With the
defaults, a loop turns every second or third look."""


@dataclass(slots=True)
class _Eyes:
    """What is kept open to look at one incarnation."""

    kernel: Eye
    signs: SignsReader | None = None
    beat_at: float = 0.0
    quiet: int = 0
    """Looks since the last turn of its event loop."""

    def read_signs(self) -> Signs | None:
        signs = self.signs.read() if self.signs is not None else None
        if signs is None or signs.beat_at == self.beat_at:
            self.quiet += 1
        else:
            self.quiet, self.beat_at = 0, signs.beat_at
        return signs

    def close(self) -> None:
        self.kernel.close()
        if self.signs is not None:
            self.signs.close()


class Looker:
    """Keeps an eye on each incarnation that it is asked about."""

    def __init__(self, run_folder: Path) -> None:
        self._run_folder = run_folder
        self._eyes: dict[str, _Eyes] = {}
        self._next = 0

    def look(
        self, processes: Iterable[tuple[str, int]]
    ) -> list[tuple[str, Look | None, Signs | None]]:
        """Look at these, each its key (``NAME.EPOCH``) and pid. One that is gone is left out; where
        there are many, what the kernel says of one is None at most looks."""
        wanted = dict(processes)
        for key in self._eyes.keys() - wanted.keys():
            self._eyes.pop(key).close()
        found: list[tuple[str, Look | None, Signs | None]] = []
        turn = self._turn(list(wanted))
        for key, pid in wanted.items():
            # It may end at any moment; the kernel tells of that in another way.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                eyes = self._eyes_for(key, pid)
                signs = eyes.read_signs()
                asked = key in turn or eyes.quiet >= QUIET_LOOKS
                found.append((key, eyes.kernel.look() if asked else None, signs))
        return found

    def _turn(self, keys: list[str]) -> set[str]:
        if len(keys) <= LOOKS_AT_ONCE:
            return set(keys)
        self._next %= len(keys)
        turn = (keys * 2)[self._next : self._next + LOOKS_AT_ONCE]
        self._next += LOOKS_AT_ONCE
        return set(turn)

    def _eyes_for(self, key: str, pid: int) -> _Eyes:
        eyes = self._eyes.get(key)
        if eyes is None:
            eyes = self._eyes[key] = _Eyes(Eye(pid))
        if eyes.signs is None:
            eyes.signs = SignsReader.open(self._run_folder / f"{key}{SUFFIX}")
        return eyes

    def close(self) -> None:
        """Let go of everything."""
        for eyes in self._eyes.values():
            eyes.close()
        self._eyes.clear()
