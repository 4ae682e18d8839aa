"""How far the work on assets is, for people who look."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from noyau.terminal import errors
from protocol.messages.storage import AssetProgress


class Bar:
    """One line for each asset and stage. Any thread may show progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._lock = threading.Lock()

    def show(self, told: AssetProgress) -> None:
        """Draw it."""
        with self._lock:
            key = (told.asset, told.stage)
            words = f"{told.stage} {told.asset}"
            if told.total_chunks > 1 and told.stage == "repairing":
                words += f", chunk {told.done_chunks} of {told.total_chunks}"
            if key not in self._tasks:
                self._tasks[key] = self._progress.add_task(words, total=told.total_bytes)
            self._progress.update(
                self._tasks[key], description=words, completed=told.done_bytes,
                total=told.total_bytes,
            )  # fmt: skip


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Bar]:
    """A bar on stderr, for as long as the work lasts; where nobody looks at a terminal, none."""
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=errors, transient=True, disable=quiet or not errors.is_terminal,
    )  # fmt: skip
    with progress:
        yield Bar(progress)
