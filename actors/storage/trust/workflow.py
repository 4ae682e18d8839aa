"""The client workflow of the TUF specification over one folder: python-tuf's, made durable.

    lock ──► copy the folder ──► mend what is damaged ──► Updater: root, timestamp, snapshot,
    targets ──► a target ──► keep what was verified, also where a later step failed ──► unlock

python-tuf says that two of its clients must not use one folder at a time; the lock sees to that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import TargetFile, Updater

from actors.storage.publishing import (
    Pause,
    disk_errors,
    hold_lock,
    make_folders,
    never,
    publish,
)
from actors.storage.sources.interface import Cancelled as IsCancelled
from actors.storage.trust.chain import Evidence
from actors.storage.trust.download import TARGET_MAX_BYTES, BoundedFetcher, Download
from actors.storage.trust.folder import MetadataFolder
from actors.storage.trust.refusals import refused
from protocol.clock import Clock, MonotonicClock
from protocol.errors import AssetCorrupt, AssetUnavailable, Untrusted

WITHIN_S: Final = 300.0
"""For all metadata of one refresh. noyau's own has a few kB, and a file of python-tuf's largest
kind (5 MB) comes in that time at 17 kB/s; beyond that a server plays for time."""


class Workflow:
    """One folder of metadata, and the repository that it follows.

    Args:
        folder: made when it is first needed.
        metadata_url, targets_url: where the repository's two folders are.
        first: the root that is trusted because the program or its user brought it.
        within_s: seconds for all metadata of one session. Targets have what their signed length
            takes on a slow line.
        pause: waits the given seconds between two looks at the lock.
    """

    def __init__(
        self,
        folder: Path,
        metadata_url: str,
        targets_url: str,
        first: bytes,
        download: Download,
        *,
        within_s: float = WITHIN_S,
        clock: Clock | None = None,
        pause: Pause = time.sleep,
    ) -> None:
        self.folder = folder
        self._metadata_url = metadata_url
        self._targets_url = targets_url
        self._first = first
        self._download = download
        self._within_s = within_s
        self._clock = clock or MonotonicClock()
        self._pause = pause

    @contextmanager
    def session(
        self, cancelled: IsCancelled = never, spare: Callable[[], Evidence | None] = lambda: None
    ) -> Iterator[Session]:
        """Hold the folder's lock and bring the metadata up to date; then ask the session for files.

        ``spare`` is asked under the lock for what was trusted before, proven from the same first
        root; it mends what is damaged.

        Raises:
            Untrusted: what came does not hold, or has expired.
            AssetUnavailable: nothing came, or the folder cannot be used.
            DiskFull, Cancelled.
        """
        with disk_errors(self.folder):
            make_folders(self.folder)
            with (
                hold_lock(self.folder / ".lock", cancelled, self._pause),
                MetadataFolder(self.folder).staged() as staging,
                self._refusals(),
            ):
                known = spare()
                if known is not None:
                    MetadataFolder(staging).mend(self._first, known)
                fetcher = BoundedFetcher(self._download, self._within_s, self._clock, cancelled)
                updater = Updater(
                    str(staging), self._metadata_url, None, self._targets_url, fetcher,
                    bootstrap=self._first,
                )  # fmt: skip
                updater.refresh()
                yield Session(updater, fetcher, MetadataFolder(staging), known)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except (RepositoryError, DownloadError, AssetCorrupt) as error:
            raise refused(error, self._metadata_url, datetime.now(UTC)) from error


class Session:
    """A repository that was just found to be in order. Its methods raise as `Workflow.session`."""

    def __init__(
        self,
        updater: Updater,
        fetcher: BoundedFetcher,
        metadata: MetadataFolder,
        known: Evidence | None,
    ) -> None:
        self._updater = updater
        self._fetcher = fetcher
        self.metadata = metadata
        """As verified just now; to be read while the session lasts."""
        self.known = known
        """What was trusted before."""

    def fetch(self, name: str, folder: Path) -> Path:
        """The target of that name as a file in ``folder``: downloaded unless it is there already.

        A file is replaced in one moment; another one of that name is replaced, too.
        """
        target = self._updater.get_targetinfo(name)
        if target is None:
            raise AssetUnavailable(f"the repository has published no {name}")
        if target.length > TARGET_MAX_BYTES:
            raise Untrusted(
                f"{name} is said to have {target.length} bytes, more than the {TARGET_MAX_BYTES} "
                "that it may have. No update is taken; ask the publisher",
                reason="length",
            )
        # Quoted, so that no name leads out of the folder.
        final = folder / quote(name, "")
        if self._updater.find_cached_target(target, str(final)) is None:
            self._download(target, final)
        return final

    def _download(self, target: TargetFile, final: Path) -> None:
        make_folders(final.parent)
        staged = final.with_name(f".{final.name}.part")
        self._fetcher.allow(target.length)
        self._updater.download_target(target, str(staged))
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        publish(staged, final)
