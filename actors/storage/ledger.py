"""The table of work on a thread of its own: commits wait for the disk, the event loop does not.

The database is opened in the background. Files are handed out without it, so neither it nor the
loading of its library delays the actor's start; what asks for it waits, or is told why it cannot be
had.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from actors.storage.work import DeathBounds

if TYPE_CHECKING:
    from actors.storage.worktable import WorkTable

T = TypeVar("T")


class Ledger:
    """Does what is asked of the table, one after the other."""

    def __init__(
        self, path: Path, bounds: DeathBounds, wall_clock: Callable[[], float] = time.time
    ) -> None:
        """``wall_clock`` gives seconds since the Unix epoch: rows outlive the machine's boot."""
        self._path = path
        self._bounds = bounds
        self._now = wall_clock
        self._loop = asyncio.get_running_loop()
        # One: sqlite's writers wait for each other anyway.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._table: asyncio.Future[WorkTable] | None = None

    def open(self) -> asyncio.Future[WorkTable]:
        """Begin to open it, or say how that went."""
        if self._table is None or (self._table.done() and self._table.exception() is not None):
            # A failure is tried again by whoever asks next: the file may have been moved away.
            self._table = self._loop.run_in_executor(self._thread, self._open)
        return self._table

    def _open(self) -> WorkTable:
        from actors.storage.worktable import WorkTable

        table = WorkTable(self._path, self._bounds)
        table.prune(self._now())
        return table

    async def do(self, action: Callable[[WorkTable, float], T]) -> T:
        """Run ``action`` with the table and the time of day; returns when it is on the disk. Raises
        what opening the table or the action raises."""
        table = await asyncio.shield(self.open())
        # Not cancelled with its caller: what was begun is finished.
        return await asyncio.shield(
            self._loop.run_in_executor(self._thread, lambda: action(table, self._now()))
        )
