"""Looks at processes: what the kernel says of each, and its page of signs; for `hangs.py`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from protocol.signs import SUFFIX, Signs, SignsReader
from supervision.looks import Eye, Look
from supervision.turns import Quiet, Turns


@dataclass(slots=True)
class _Eyes:
    """What is kept open to look at one incarnation."""

    kernel: Eye
    signs: SignsReader | None = None
    quiet: Quiet = field(default_factory=Quiet)

    def close(self) -> None:
        self.kernel.close()
        if self.signs is not None:
            self.signs.close()


class Looker:
    """Keeps an eye on each incarnation that it is asked about."""

    def __init__(self, run_folder: Path) -> None:
        self._run_folder = run_folder
        self._eyes: dict[str, _Eyes] = {}
        self._turns = Turns()

    def look(
        self, processes: Iterable[tuple[str, int]]
    ) -> list[tuple[str, Look | None, Signs | None]]:
        """Look at these, each its key (``NAME.EPOCH``) and pid. One that is gone is left out; where
        there are many, what the kernel says of one is None at most looks."""
        wanted = dict(processes)
        for key in self._eyes.keys() - wanted.keys():
            self._eyes.pop(key).close()
        found: list[tuple[str, Look | None, Signs | None]] = []
        turn = self._turns.take(list(wanted))
        for key, pid in wanted.items():
            # It may end at any moment; the kernel tells of that in another way.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                eyes = self._eyes_for(key, pid)
                signs = eyes.signs.read() if eyes.signs is not None else None
                quiet = eyes.quiet.look(signs.beat_at if signs is not None else None)
                asked = quiet or key in turn
                found.append((key, eyes.kernel.look() if asked else None, signs))
        return found

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
