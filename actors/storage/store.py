"""The asset store: a folder of files that are there whole and right, or not there at all.

    locate ──► here? ──yes──────────────────────────────────────────► LocatedAsset
                 no ──► lock ──► here now? ──no──► source, source, … ──► publish ──┘

Synchronous, and it knows nothing of messages: the storage actor calls it from a thread.

    FOLDER/models/…         the assets, at the paths of the manifest
    FOLDER/quarantine/      what lay at an asset's path and was not the asset, the latest of each
    FOLDER/staging/         work of installs under way
    FOLDER/verified.json    which files were hashed since boot; a cache
    FOLDER/*.lock           locks between processes
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.storage.delivery import SOURCE_ERRORS, SourceError, all_failed, check_delivery
from actors.storage.manifest import Asset, Manifest
from actors.storage.outcomes import (
    LeftoverStays,
    LocatedAsset,
    Observe,
    SourceFailed,
    StoreEvent,
)
from actors.storage.publishing import (
    MeasuringWriter,
    Pause,
    disk_errors,
    hold_lock,
    make_folders,
    publish,
    remove_tree,
    require_space,
    try_lock,
)
from actors.storage.sources import Cancelled as IsCancelled
from actors.storage.sources import (
    Order,
    Progress,
    Report,
    Source,
    SourceSpec,
    default_sources,
)
from actors.storage.verifier import Verifier, fingerprint_at
from protocol.errors import Cancelled, InvalidSettings


def unreported(_: Progress) -> None:
    """A `Report` for callers who do not watch."""


def never() -> bool:
    """A `Cancelled` for callers who will not cancel."""
    return False


def unobserved(_: StoreEvent) -> None:
    """An `Observe` for callers who do not log."""


class AssetStore:
    """The assets of ``manifest`` in ``folder``. Safe for any number of threads and processes.

    Args:
        folder: need not exist yet; everything the store writes is below it.
        manifest: what the assets are.
        boot_id: names this boot of the machine. Hashes proved under another one count no more.
        sources: by kind; by default one of each kind. Raises ``InvalidSettings`` when the
            manifest names a kind that is not among them.
        observe: is told what callers should log, see `StoreEvent`.
        pause: waits the given seconds between two looks at a lock. A test's hand on the wheel.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        boot_id: str,
        # Any, because each kind takes its own spec; the registry pairs them by the same name.
        sources: Mapping[str, Source[Any]] | None = None,
        observe: Observe = unobserved,
        pause: Pause = time.sleep,
    ) -> None:
        self._folder = folder.absolute()
        self._manifest = manifest
        self._sources = default_sources() if sources is None else sources
        self._observe = observe
        self._pause = pause
        self._verifier = Verifier(self._folder, boot_id, observe)
        self._install_lock = self._folder / "install.lock"
        self._staging = self._folder / "staging"
        named = {spec.kind for asset in manifest.assets for spec in asset.sources}
        if missing := sorted(named - self._sources.keys()):
            raise InvalidSettings(f"the manifest names unknown source kinds: {', '.join(missing)}")

    def path_of(self, name: str) -> Path:
        """Where the asset lies, or would. Raises ``NotFound``."""
        return self._folder / self._manifest.asset(name).path

    def present(self, name: str) -> bool:
        """Whether a file of the right size is there. A look, no proof, and no reading.

        Raises ``NotFound``, or ``AssetUnavailable`` when the folder cannot be read.
        """
        asset = self._manifest.asset(name)
        with disk_errors(self._folder):
            found = fingerprint_at(self._folder / asset.path)
        return found is not None and found.size == asset.size

    def locate(
        self,
        name: str,
        *,
        trust_cache: bool = True,
        report: Report = unreported,
        cancelled: IsCancelled = never,
    ) -> LocatedAsset | None:
        """The asset, proved to be right, or None if it must be installed.

        A file that was hashed since boot and is untouched since is not hashed again, unless
        ``trust_cache`` is false. A file that is not the asset is moved to ``quarantine/``, told as
        a `Quarantined` event, and counts as missing. Whoever brings a file by hand and wants it
        left alone until it is whole copies it under another name and renames it.

        Raises ``NotFound``, ``Cancelled``, or ``AssetUnavailable`` when the folder is unusable.
        """
        asset = self._manifest.asset(name)
        with disk_errors(self._folder):
            return self._verifier.locate(asset, trust_cache, report, cancelled)

    def install(
        self, name: str, report: Report = unreported, cancelled: IsCancelled = never
    ) -> LocatedAsset:
        """The asset, fetched if it is not here. Blocks, possibly for minutes.

        One install at a time works in a folder; another waits and then finds what it left.
        Nothing half-written is ever at the asset's path, whenever this process dies. A failed
        install leaves nothing behind and can be called again.

        Raises:
            NotFound: the manifest has no such asset.
            DiskFull: it does not fit; said before the first byte where that can be known.
            AssetUnavailable: no source could deliver; says what to do. A retry can help.
            AssetCorrupt: what the sources delivered is not the asset.
            MissingDependency: the one way to get it needs something that is not installed.
            Cancelled: ``cancelled()``, asked several times a second, said yes.
        """
        asset = self._manifest.asset(name)
        with disk_errors(self._folder):
            found = self._verifier.locate(asset, True, report, cancelled)
            if found is not None:
                return found
            make_folders(self._folder)
            with hold_lock(self._install_lock, cancelled, self._pause):
                self._remove_leftovers()
                # Whoever held the lock before may have installed it.
                found = self._verifier.locate(asset, True, report, cancelled)
                return found or self._fetch(asset, report, cancelled)

    def sweep(self) -> None:
        """Remove what dead runs left in ``staging/``, unless an install is under way.

        `install` does so too; the actor calls this at start so that a dead run's gigabytes do not
        wait for the next install. Raises ``AssetUnavailable`` when the folder is unusable.
        """
        with disk_errors(self._folder):
            if self._staging.is_dir():
                with try_lock(self._install_lock) as mine:
                    if mine:
                        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """Only under the install lock: then every staging folder is a dead run's."""
        if not self._staging.is_dir():
            return
        for leftover in list(self._staging.iterdir()):
            try:
                remove_tree(leftover)
            except OSError as error:
                # A child of the dead run may still be writing there; it is no part of this run.
                self._observe(LeftoverStays(leftover, str(error)))

    def _fetch(self, asset: Asset, report: Report, cancelled: IsCancelled) -> LocatedAsset:
        failures: list[SourceError] = []
        for spec in asset.sources:
            if cancelled():
                raise Cancelled(f"installing {asset.name} was cancelled")
            try:
                return self._fetch_from(spec, asset, report, cancelled)
            except SOURCE_ERRORS as error:
                failures.append(error)
                self._observe(SourceFailed(asset.name, spec.kind, error))
        raise all_failed(asset, self._folder / asset.path, failures)

    def _fetch_from(
        self, spec: SourceSpec, asset: Asset, report: Report, cancelled: IsCancelled
    ) -> LocatedAsset:
        source = self._sources[spec.kind]
        require_space(self._folder, source.space_needed(spec, asset.size))
        make_folders(self._staging)
        run = Path(tempfile.mkdtemp(dir=self._staging))
        try:
            scratch, staged = run / "scratch", run / "asset"
            scratch.mkdir()
            with staged.open("xb") as file:
                sink = MeasuringWriter(file, asset.size)
                order = Order(asset.name, asset.size, sink, scratch, report, cancelled)
                source.fetch(spec, order)
                check_delivery(asset, sink.written, sink.sha256())
                file.flush()
                os.fsync(file.fileno())
            report(Progress(asset.name, "verifying", asset.size, asset.size))
            return self._publish(asset, staged, cancelled)
        finally:
            remove_tree(run)

    def _publish(self, asset: Asset, staged: Path, cancelled: IsCancelled) -> LocatedAsset:
        final = self._folder / asset.path
        with hold_lock(self._verifier.publish_lock, cancelled):
            publish(staged, final)
            proved = fingerprint_at(final)
        if proved is not None:
            self._verifier.remember(asset, proved, cancelled)
        return LocatedAsset(asset.name, final, asset.sha256, asset.size)
