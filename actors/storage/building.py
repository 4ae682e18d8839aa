"""Makes the right file, whole and proved, out of whatever is here and the sources.

    what is there ──► plan ──► space ──► copies ──► fetches ──► repeats ──► whole hash ──► fsync

Install, resume, repair and update are all this. Nothing else sees the file before it is done.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from actors.storage.delivery import all_failed
from actors.storage.digests import digest_of
from actors.storage.fetching import Failed, Fetched, Fetcher
from actors.storage.index import chunks_for, write_index
from actors.storage.inventory import Read, find_elsewhere, in_place, pieces_of, reading
from actors.storage.layout import Layout
from actors.storage.manifest import Asset, Chunk, Patch
from actors.storage.outcomes import SourceFailed
from actors.storage.partial import Appended, PartialFile
from actors.storage.patches import apply_patch
from actors.storage.plan import Copy, Found, Plan, Stretch, choose_patch, make_plan
from actors.storage.publishing import (
    clear_way,
    hold_lock,
    make_folders,
    never,
    remove_tree,
    require_space,
)
from actors.storage.sources import Cancelled as IsCancelled
from actors.storage.sources import Order, Progress, Report, Stage
from protocol.errors import (
    AssetCorrupt,
    AssetError,
    AssetUnavailable,
    Cancelled,
    MissingDependency,
)

BLOCK_BYTES: Final = 512
"""Of what ``st_blocks`` counts, whatever the file system's own are (POSIX, sys/stat.h)."""
TRIES: Final = 2
"""With what local files have, and, where that came out wrong, without."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who watches a piece of work."""

    report: Report
    cancelled: IsCancelled

    def check(self, what: str) -> None:
        """Raise ``Cancelled`` once that is asked for."""
        if self.cancelled():
            raise Cancelled(f"{what} was cancelled")


def unreported(_: Progress) -> None:
    """A `Report` for callers who do not watch."""


UNWATCHED: Final = Watch(unreported, never)


@dataclass(frozen=True, slots=True)
class Place:
    """A local file that may have some of what is wanted."""

    path: Path
    sha256: str = ""
    """Of the whole, where it should have that; empty where nobody knows what it is."""


@dataclass(frozen=True, slots=True)
class Built:
    """A file that is whole and right, under a name that nobody reads."""

    path: Path
    plan: Plan
    """The last one that was made for it."""
    fetched: Fetched
    chunks: int
    """All of the file's."""
    repaired: bool
    """Whether most of it was here already."""


class Builder:
    """Builds files below ``layout``. Whoever calls it holds the file's build lock."""

    def __init__(self, layout: Layout, fetcher: Fetcher) -> None:
        self.layout = layout
        self.fetcher = fetcher

    def build(
        self, asset: Asset, places: Sequence[Place], watch: Watch, *, learn: bool = True
    ) -> Built:
        """The whole file, proved and on the disk, at the path of its partial file.

        Args:
            places: local files that may have some of it, the likeliest first.
            learn: whether the hashes of its pieces are kept where its manifest names none.

        Raises:
            DiskFull: said before the first byte where that can be known. What came stays.
            AssetUnavailable, AssetCorrupt, MissingDependency: see `all_failed`. What came stays.
            Cancelled: What came stays.
        """
        make_folders(self.layout.staging)
        clear_way(self.layout.partial(asset))
        with PartialFile(self.layout.partial(asset)) as file:
            built = _Build(self, asset, file, watch, learn=learn and not asset.chunks).run(places)
        if built is not None:
            return built
        # Each chunk was right, and the whole is not: nothing of it can be told right from wrong.
        remove_tree(self.layout.partial(asset))
        raise AssetCorrupt(
            f"what came as {asset.name} does not have {asset.hash}, as the manifest says"
            + (": its chunks and its hash contradict each other" if asset.chunks else ""),
            expected_sha256=asset.sha256,
        )

    def reserve(self, asset: Asset) -> None:
        """Take the disk space for a file that will be built. Raises ``OSError``."""
        make_folders(self.layout.staging)
        with PartialFile(self.layout.partial(asset)) as file:
            file.reserve(asset.size)

    def missing_bytes(self, asset: Asset) -> int:
        """Of the disk space that the file takes while it is built, what it does not have yet.
        Raises ``OSError``."""
        try:
            taken = self.layout.partial(asset).lstat().st_blocks * BLOCK_BYTES
        except FileNotFoundError:
            taken = 0
        return max(0, asset.size - taken)


class _Build:
    """One file being made."""

    def __init__(
        self, builder: Builder, asset: Asset, file: PartialFile, watch: Watch, *, learn: bool
    ) -> None:
        self._builder = builder
        self._layout = builder.layout
        self._fetcher = builder.fetcher
        self._asset = asset
        self._file = file
        self._watch = watch
        self._learn = learn
        self._chunks = chunks_for(builder.layout, asset)
        self._fetched = Fetched()

    def run(self, places: Sequence[Place]) -> Built | None:
        """The file, proved; None where whatever came does not have the whole's hash."""
        for attempt in range(TRIES):
            here = places if attempt == 0 else ()
            plan = self._plan(here)
            repairing = 2 * plan.local_bytes > self._asset.size
            self._require_space(plan)
            if not (attempt == 0 and self._patched(plan, here)):
                self._carry_out(plan, here, "repairing" if repairing else "downloading")
            if self._proved():
                self._file.cut(self._asset.size)
                self._file.sync()
                return Built(self._file.path, plan, self._fetched, len(self._chunks), repairing)
            if not (plan.local_bytes or self._asset.patches):
                break
        return None

    def _plan(self, places: Sequence[Place]) -> Plan:
        right = in_place(self._file.read, self._file.length, self._chunks, self._watch.cancelled)
        missing = [chunk for index, chunk in enumerate(self._chunks) if index not in right]
        found: dict[str, Found] = {}
        if missing:
            paths = [place.path for place in places]
            found = find_elsewhere(paths, self._asset, missing, self._watch.cancelled)
        return make_plan(self._chunks, right, found)

    def _require_space(self, plan: Plan) -> None:
        beside = 0
        if plan.fetched and self._asset.sources:
            likeliest = self._asset.sources[0]
            source = self._fetcher.sources[likeliest.kind]
            beside = source.space_needed(likeliest, self._asset.size)
        missing = self._builder.missing_bytes(self._asset)
        require_space(self._layout.folder, missing + beside)
        self._file.reserve(self._asset.size)

    def _carry_out(self, plan: Plan, places: Sequence[Place], stage: Stage) -> None:
        self._copy(plan.copied, places)
        if plan.fetched:
            self._fetch(plan.fetched, stage)
        for repeat in plan.repeated:
            self._take(self._file.read, repeat.offset, repeat.chunk)

    def _copy(self, copies: Sequence[Copy], places: Sequence[Place]) -> None:
        for number, place in enumerate(places):
            wanted = [copy for copy in copies if copy.found.place == number]
            if not wanted:
                continue
            with reading(place.path) as read:
                for copy in wanted:
                    self._watch.check("copying what is there")
                    self._take(read, copy.found.offset, copy.chunk)

    def _take(self, read: Read, offset: int, chunk: Chunk) -> None:
        """Have the chunk's bytes from where they lie already. Where they changed since they were
        looked at, the whole hash will tell."""
        done = 0
        for piece in pieces_of(read, offset, chunk.size):
            self._file.write(piece, chunk.offset + done)
            done += len(piece)

    def _fetch(self, stretches: Sequence[Stretch], stage: Stage) -> None:
        asset, watch = self._asset, self._watch
        with self._scratch() as scratch:
            order = Order(asset.name, asset.size, scratch, watch.report, watch.cancelled)
            outcome = self._fetcher.fetch(asset, self._chunks, stretches, self._file, order, stage)
        if isinstance(outcome, Failed):
            raise all_failed(asset, self._layout.asset(asset), outcome.reasons)
        self._fetched.add(outcome)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """An empty folder, whose lock says that it is no dead run's."""
        name = uuid4().hex
        lock, scratch = self._layout.locks / name, self._layout.scratch / name
        with hold_lock(lock, never):
            make_folders(scratch)
            try:
                yield scratch
            finally:
                remove_tree(scratch)
                # Nobody else takes a lock of this name.
                lock.unlink()

    def _patched(self, plan: Plan, places: Sequence[Place]) -> bool:
        """Make the file of an earlier version and a patch, where that is less to fetch; false
        where it is not, or did not work: then its chunks are fetched."""
        versions = {f"sha256-{place.sha256}": place.path for place in reversed(places)}
        patch = choose_patch(self._asset.patches, versions.keys(), plan.fetched_bytes)
        if patch is None:
            return False
        try:
            self._apply(patch, versions[patch.from_hash])
        except (AssetError, MissingDependency) as error:
            self._failed(error)
            return False
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # A bad spot in the earlier version: its whole pieces still do.
            path = versions[patch.from_hash]
            self._failed(AssetUnavailable(f"{path} cannot be read: {error}"))
            return False
        return True

    def _failed(self, error: AssetError | MissingDependency) -> None:
        self._fetcher.observe(SourceFailed(self._asset.name, "patch", error))

    def _apply(self, patch: Patch, old: Path) -> None:
        """Fetch the patch, as any file, and write what it makes of the version at ``old``."""
        name = self._asset.name
        as_file = Asset(
            name=name, path="patch", size=patch.size, hash=patch.hash, sources=patch.sources
        )
        try:
            with hold_lock(self._layout.build_lock(as_file), self._watch.cancelled):
                built = self._builder.build(as_file, (), self._watch, learn=False)
                self._fetched.add(built.fetched)
                new = Appended(self._file)
                apply_patch(old, built.path, new, self._asset.size, self._watch.cancelled)
        finally:
            remove_tree(self._layout.partial(as_file))

    def _proved(self) -> bool:
        """Whether the whole has its hash; then its pieces' hashes are kept, if they are wanted."""
        asset, whole, done, pieces = self._asset, hashlib.sha256(), 0, []
        for piece in pieces_of(self._file.read, 0, asset.size):
            self._watch.check(f"verifying {asset.name}")
            whole.update(piece)
            if self._learn:
                pieces.append(digest_of(piece, "blake3"))
            done += len(piece)
            self._watch.report(Progress(asset.name, "verifying", done, asset.size))
        if whole.hexdigest() != asset.sha256:
            return False
        if pieces:
            write_index(self._layout, asset, pieces)
        return True
