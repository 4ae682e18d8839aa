"""The asset store: a folder of files that are there whole and right, or not there at all.

    locate ──► here? ──yes─────────────────────────────────────────────────► LocatedAsset
                 no ──► lock ──► here now? ──no──► build ──► publish ──────────────┘
                                                     └─ cannot be had ──► its fallback

Synchronous, and it knows nothing of messages: the storage actor calls it from a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.storage.bandwidth import Bandwidth
from actors.storage.building import Builder, Built, Place, Watch, unreported
from actors.storage.delivery import missing
from actors.storage.fetching import CONNECTIONS, Fetched, Fetcher
from actors.storage.history import History
from actors.storage.layout import Layout
from actors.storage.lines import Line, What, is_on_trial, sizes_of, versions_before
from actors.storage.manifest import Asset, Manifest
from actors.storage.outcomes import (
    FellBack,
    Installed,
    LeftoverStays,
    LocatedAsset,
    Observe,
    Repaired,
    StoreEvent,
)
from actors.storage.publishing import (
    Pause,
    disk_errors,
    hold_lock,
    inside,
    make_folders,
    never,
    publish,
    remove_tree,
    try_lock,
)
from actors.storage.sources import Cancelled as IsCancelled
from actors.storage.sources import Report, Source, default_sources
from actors.storage.verification import Fingerprint
from actors.storage.verifier import Verifier, fingerprint_at, located
from actors.storage.versions import Versions
from protocol.clock import Clock, MonotonicClock
from protocol.errors import AssetError, AssetUnavailable, InvalidSettings, MissingDependency

BEGUN_S = 7 * 86400.0
"""How long a download that no manifest in force wants waits for an update to go on with it."""


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
        wall: seconds since the Unix epoch.
        bandwidth: what all downloads together may take.
        connections: to one server for one file.
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
        wall: Callable[[], float] = time.time,
        clock: Clock | None = None,
        bandwidth: Bandwidth | None = None,
        connections: int = CONNECTIONS,
    ) -> None:
        self.layout = Layout(folder.absolute())
        self.manifest = manifest
        self.history = History(self.layout.history)
        self.versions = Versions(self.layout)
        self.observe = observe
        self._pause = pause
        self._wall = wall
        self._verifier = Verifier(
            self.layout,
            boot_id,
            observe,
            wall,
            lambda asset: sizes_of(self.history.lines(asset.name)),
        )
        sources = default_sources() if sources is None else sources
        self.fetcher = Fetcher(
            sources, clock=clock or MonotonicClock(), observe=observe, pause=pause,
            bandwidth=bandwidth, connections=connections,
        )  # fmt: skip
        self._builder = Builder(self.layout, self.fetcher)
        named = {spec.kind for asset in manifest.assets for spec in asset.sources}
        if missing := sorted(named - sources.keys()):
            raise InvalidSettings(f"the manifest names unknown source kinds: {', '.join(missing)}")

    def path_of(self, name: str) -> Path:
        """Where the asset lies, or would. Raises ``NotFound``."""
        return self.layout.asset(self.manifest.asset(name))

    def present(self, name: str) -> bool:
        """Whether a file of the right size is there. A look, no proof, and no reading.

        Raises ``NotFound``, or ``AssetUnavailable`` when the folder cannot be read.
        """
        asset = self.manifest.asset(name)
        with disk_errors(self.layout.folder):
            found = fingerprint_at(self.layout.asset(asset))
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
        a `Quarantined` event, and counts as missing; one that was proved to be another version is
        kept in ``versions/``. Whoever brings a file by hand and wants it left alone until it is
        whole copies it under another name and renames it.

        Raises ``NotFound``, ``Cancelled``, or ``AssetUnavailable`` when the folder is unusable.
        """
        asset = self.manifest.asset(name)
        with disk_errors(self.layout.folder):
            return self._verifier.locate(asset, trust_cache, report, cancelled)

    def trusted(self, name: str) -> LocatedAsset | None:
        """The asset, where it was proved and nothing speaks against it since; None where it has to
        be read, or fetched. Quick. Raises as `locate` does."""
        asset = self.manifest.asset(name)
        with disk_errors(self.layout.folder):
            return self._verifier.trusted(asset, never)

    def condemn(self, name: str, is_damaged: Callable[[Path], bool]) -> bool:
        """Move the asset's file aside if ``is_damaged`` says so, which may know more than what is
        in memory of it; whether it was. Raises as `locate` does, and what ``is_damaged`` raises."""
        asset = self.manifest.asset(name)
        with disk_errors(self.layout.folder):
            found = fingerprint_at(self.layout.asset(asset))
            if found is None or not is_damaged(self.layout.asset(asset)):
                return False
            return self._verifier.condemn(asset, found, never)

    def used_before_boot(self) -> dict[str, float]:
        """When each file was last used, by its hash, where this boot has proved none yet; empty
        later on: then the machine has done what a boot brings."""
        return self._verifier.used_before_boot()

    def doubt(self, name: str) -> None:
        """What was proved of the asset is not enough any more: it is read before its next use."""
        asset = self.manifest.asset(name)
        with disk_errors(self.layout.folder):
            self._verifier.doubt(asset, never)

    def provide(
        self, name: str, report: Report = unreported, cancelled: IsCancelled = never
    ) -> LocatedAsset:
        """The asset, installed if it is not here; where it cannot be had, its fallback, labelled.

        Raises what `install` raises, of the asset that was asked for; ``OptionalAssetMissing`` in
        its place where the manifest calls that one optional.
        """
        asset = self.manifest.asset(name)
        try:
            return self.install(name, report, cancelled)
        except (AssetError, MissingDependency) as error:
            if not asset.fallback:
                raise missing(asset, error) from error
            self.observe(FellBack(asset.name, asset.fallback, error.message))
            try:
                found = self.provide(asset.fallback, report, cancelled)
            except (AssetError, MissingDependency) as other:
                raise missing(asset, error, other) from error
        return LocatedAsset(
            found.name, found.path, found.sha256, found.size, found.version, instead_of=asset.name
        )

    def install(
        self, name: str, report: Report = unreported, cancelled: IsCancelled = never
    ) -> LocatedAsset:
        """The asset, fetched or repaired if it is not here. Blocks, possibly for minutes.

        One at a time makes a file; another waits and then finds what it left. Nothing half-written
        is ever at the asset's path, whenever this process dies. What a failed or killed install
        has fetched stays, and the next one goes on from there.

        Raises:
            NotFound: the manifest has no such asset.
            DiskFull: it does not fit; said before the first byte where that can be known.
            AssetUnavailable: no source could deliver; says what to do. A retry can help.
            AssetCorrupt: what the sources delivered is not the asset.
            MissingDependency: the one way to get it needs something that is not installed.
            Cancelled: ``cancelled()``, asked several times a second, said yes.
        """
        asset = self.manifest.asset(name)
        with disk_errors(self.layout.folder):
            found = self._verifier.locate(asset, True, report, cancelled)
            if found is not None:
                return found
            with hold_lock(self.layout.build_lock(asset), cancelled, self._pause):
                # Whoever held the lock before may have installed it.
                found = self._verifier.locate(asset, True, report, cancelled)
                found = found or self._use_version(asset, report, cancelled)
                return found or self._build(asset, Watch(report, cancelled))

    def sweep(self) -> None:
        """Remove what dead runs left that no later one can use.

        A file that was begun stays while the manifest wants it, and else for some days, for an
        update may: what is right in it need not be fetched again. Raises ``AssetUnavailable`` when
        the folder is unusable.
        """
        wanted = {asset.sha256 for asset in self.manifest.assets}
        with disk_errors(self.layout.folder):
            for leftover in _entries(self.layout.staging):
                if leftover.name not in wanted and self._is_old(leftover):
                    self._remove_unless_locked(leftover, self.layout.locks / leftover.name)
            for leftover in _entries(self.layout.scratch):
                self._remove_unless_locked(leftover, self.layout.locks / leftover.name)

    def _is_old(self, leftover: Path) -> bool:
        return not 0 <= self._wall() - leftover.lstat().st_mtime < BEGUN_S

    def _remove_unless_locked(self, leftover: Path, lock: Path) -> None:
        try:
            make_folders(lock.parent)
            with try_lock(lock) as mine:
                if mine:
                    remove_tree(leftover)
        except OSError as error:
            # A child of the dead run may still be writing there.
            self.observe(LeftoverStays(leftover, str(error)))

    def _build(self, asset: Asset, watch: Watch) -> LocatedAsset:
        inside(self.layout.folder, self.layout.asset(asset))
        built = self.build(asset, watch)
        self._put(asset, built.path, watch.cancelled)
        self._tell(asset, built)
        return located(asset, self.layout.asset(asset))

    def build(self, asset: Asset, watch: Watch) -> Built:
        """Make the file, whole and proved, under a name that nobody reads. The caller holds its
        build lock. Raises what `install` raises."""
        return self._builder.build(asset, self._places(asset), watch)

    def place(self, asset: Asset, built: Built | None, what: What) -> None:
        """Put what `build` made where the asset is used; what lies there goes aside. ``built``
        None: it lies there already. ``what`` is noted of it. The caller holds its build lock.

        Raises ``AssetUnavailable`` where the file that lies there is another one by now.
        """
        with disk_errors(self.layout.folder):
            if self._verifier.locate(asset, True, unreported, never) is None:
                if built is None:
                    raise AssetUnavailable(
                        f"{self.layout.asset(asset)} changed while it was read; try again once it "
                        "is whole"
                    )
                self._put(asset, built.path, never)
            self.note(asset, what)
            if built is not None:
                self._tell(asset, built)

    def is_in_place(self, asset: Asset) -> bool:
        """Whether the file of an asset, which need not be in force yet, was proved where it is
        used. Quick. Raises ``OSError``."""
        return self._verifier.trusted(asset, never) is not None

    def remember(self, asset: Asset, proved: Fingerprint, pieces: list[str]) -> None:
        """The file with this fingerprint, at the asset's path, was read and has its hash.
        ``pieces``: see `hash_file`; empty where they are known."""
        self._verifier.remember(asset, proved, never)
        self._verifier.learn(asset, pieces)

    def note(self, asset: Asset, what: What, fetched: Fetched | None = None) -> None:
        """Write down what became of an asset."""
        fetched = fetched or Fetched()
        line = Line(
            at=self._wall(), asset=asset.name, what=what, hash=asset.hash,
            version=asset.version, size=asset.size, fetched_bytes=fetched.bytes,
            sources=fetched.sources,
        )  # fmt: skip
        with disk_errors(self.layout.folder):
            self.history.add(line)

    def end_trials(self) -> None:
        """Whoever removes earlier versions has decided that the ones in use are right."""
        for asset in self.manifest.assets:
            if is_on_trial(self.history.lines(asset.name)):
                self.note(asset, "proved")

    def reserve(self, asset: Asset) -> None:
        """Take the disk space of a file that will be built. Raises ``OSError``."""
        self._builder.reserve(asset)

    def missing_bytes(self, asset: Asset) -> int:
        """Of that space, what is not taken yet. Raises ``OSError``."""
        return self._builder.missing_bytes(asset)

    def _put(self, asset: Asset, staged: Path, cancelled: IsCancelled) -> None:
        """Give a file that was just proved its final name."""
        final = self.layout.asset(asset)
        with hold_lock(self.layout.publish_lock, cancelled):
            publish(staged, final)
            proved = fingerprint_at(final)
        if proved is not None:
            self._verifier.remember(asset, proved, cancelled)

    def _use_version(
        self, asset: Asset, report: Report, cancelled: IsCancelled
    ) -> LocatedAsset | None:
        """The asset out of `versions`, where it waits or was kept; None where it does not."""
        if not self.versions.is_whole(asset, report, cancelled):
            # Whatever of it is right is taken when the file is built.
            return None
        inside(self.layout.folder, self.layout.asset(asset))
        self._put(asset, self.layout.version(asset.sha256), cancelled)
        return located(asset, self.layout.asset(asset))

    def _places(self, asset: Asset) -> Sequence[Place]:
        """Local files that may have some of the asset, the likeliest first."""
        before = versions_before(self.history.lines(asset.name), asset.hash)
        here = [each for each in self.manifest.assets if each.name == asset.name]
        hashes = {chunk.hash for chunk in asset.chunks}
        others = [
            other
            for other in self.manifest.assets
            if other.name != asset.name
            and (other.hash == asset.hash or any(each.hash in hashes for each in other.chunks))
        ]
        places = [
            Place(self.layout.version(asset.sha256), asset.sha256),
            # While an update is made, the version in use lies where it is used.
            *(Place(self.layout.asset(each), each.sha256) for each in here),
            Place(self.layout.asset(asset)),
            Place(self.layout.quarantined(asset)),
            *(Place(self.layout.version(sha256), sha256) for sha256 in before),
            *(Place(self.layout.asset(each), each.sha256) for each in others),
        ]
        # Of a path that stands there twice the first says more of it.
        once = {place.path: place for place in reversed(places)}
        return [place for place in places if once[place.path] is place and place.path.is_file()]

    def _tell(self, asset: Asset, built: Built) -> None:
        """What was done, to those who watch and to those who ask later."""
        fetched, aside = built.fetched, self.layout.quarantined(asset)
        missing = built.plan.fetched_chunks
        what: What = "installed"
        size = aside.stat().st_size if aside.is_file() else None
        if size is not None and (built.repaired or size == asset.size):
            what = "repaired"
            if built.repaired:
                # It was nearly the asset: of what it had nothing is lost.
                remove_tree(aside)
            self.observe(
                Repaired(
                    asset.name, asset.sha256, missing, built.chunks, built.plan.fetched_bytes,
                    fetched.bytes, tuple(fetched.sources), fetched.whole,
                )
            )  # fmt: skip
        else:
            self.observe(Installed(asset.name, asset.size, fetched.bytes, tuple(fetched.sources)))
        self.note(asset, what, fetched)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
