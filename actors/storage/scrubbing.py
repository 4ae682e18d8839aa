"""The background scrub: one thread of the least priority that reads every asset once a period."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from actors.storage.background import next_to_scrub, times_from_json
from actors.storage.bandwidth import Bandwidth
from actors.storage.index import chunks_for, whole_chunk
from actors.storage.manifest import Asset
from actors.storage.publishing import publish_bytes, read_own
from actors.storage.scrub import damaged, give_way
from actors.storage.store import AssetStore
from protocol.errors import Cancelled, NoyauError

LOOK_S: Final = 60.0
"""Between two looks whether a file is due. Also before the first: a start has better to do."""


class Scrubbing:
    """Reads the files of ``store``, one after the other, each once in ``period_s``.

    Args:
        bytes_per_s: the pace; None: as fast as it goes.
        found: called in the scrub's thread with a damaged asset and which of its chunks are wrong.
        scrubbed: called with an asset that was read whole and is right.
        failed: called with words for what could not be done.
    """

    def __init__(
        self,
        store: AssetStore,
        *,
        period_s: float,
        bytes_per_s: float | None,
        found: Callable[[Asset, list[int]], None],
        scrubbed: Callable[[Asset], None],
        failed: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._period_s = period_s
        self._pace = Bandwidth(bytes_per_s)
        self._found = found
        self._scrubbed = scrubbed
        self._failed = failed
        self._wall = wall
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)

    def start(self) -> None:
        """Begin. Does nothing where the period is 0."""
        if self._period_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """End within a fraction of a second."""
        self._stop.set()

    def _run(self) -> None:
        give_way()
        while not self._stop.wait(min(LOOK_S, self._period_s)):
            while not self._stop.is_set() and self._turn():
                pass

    def _turn(self) -> bool:
        """As `turn`; what goes wrong with one file ends no scrub."""
        try:
            return self.turn()
        except (NoyauError, OSError) as error:
            self._failed(str(error))
            return False

    def turn(self) -> bool:
        """Read the file whose turn it is; returns whether there was one."""
        here = {
            asset.sha256: asset
            for asset in self._store.manifest.assets
            if self._store.present(asset.name)
        }
        due = next_to_scrub(self._times(), list(here), self._wall(), self._period_s)
        if due is None:
            return False
        asset = here[due]
        try:
            wrong = self._wrong(asset)
        except Cancelled:
            return False
        except OSError as error:
            # A file that cannot be read is looked at again a period later, and told now.
            self._note(due)
            self._failed(f"{asset.name} cannot be read: {error}")
            return True
        self._note(due)
        if wrong:
            self._found(asset, wrong)
        else:
            self._scrubbed(asset)
        return True

    def _wrong(self, asset: Asset) -> list[int]:
        """Indexes of the pieces that the disk has spoiled, or of the whole as one."""
        path, chunks = self._store.layout.asset(asset), chunks_for(self._store.layout, asset)
        try:
            wrong = damaged(path, chunks, self._stop.is_set, self._wait)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # A bad spot. Which piece it is in shows when the file is repaired.
            return [0]
        if not wrong and chunks == whole_chunk(asset):
            # Now that it is known to be right its pieces are worth knowing.
            self._store.locate(asset.name, trust_cache=False, cancelled=self._stop.is_set)
        return wrong

    def _wait(self, size: int) -> None:
        self._pace.take(size, self._stop.is_set)

    def _times(self) -> dict[str, float]:
        return times_from_json(read_own(self._path) or b"")

    def _note(self, sha256: str) -> None:
        known = {asset.sha256 for asset in self._store.manifest.assets}
        times = {each: at for each, at in self._times().items() if each in known}
        publish_bytes(json.dumps(times | {sha256: self._wall()}).encode(), self._path)

    @property
    def _path(self) -> Path:
        return self._store.layout.index / "scrubbed.json"
