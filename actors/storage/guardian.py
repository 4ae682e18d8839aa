"""All that can be done with the assets of one folder: what the storage actor and the command do.

Any number of processes may do it beside each other: files are locked, lists are read anew. It
blocks, and knows nothing of messages. What waits for another process raises ``Cancelled`` once it
is told to by ``cancelled``, or a watch's.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from actors.storage.adding import Additions
from actors.storage.building import UNWATCHED, Watch
from actors.storage.catalogue import Catalogue
from actors.storage.changes import Change
from actors.storage.collecting import collect
from actors.storage.following import Following
from actors.storage.index import chunks_are_known, chunks_for, whole_chunk
from actors.storage.inforce import InForce
from actors.storage.layout import Layout
from actors.storage.lines import Line
from actors.storage.manifest import DEFAULT, Asset
from actors.storage.outcomes import LocatedAsset
from actors.storage.publishing import (
    disk_errors,
    hold_lock,
    make_folders,
    never,
    try_lock,
)
from actors.storage.scrub import damaged
from actors.storage.sources import Cancelled as IsCancelled
from actors.storage.store import AssetStore
from actors.storage.updating import Offer, Updates
from actors.storage.verifier import UNREADABLE, fingerprint_at, hash_file
from protocol.errors import (
    InvalidSettings,
    NotFound,
    Overloaded,
)

VERIFIED_AT_ONCE: Final = 2
"""Files: a hash is one thread's work, and more would only make the disk seek."""


class State(Enum):
    """What is known of an asset's file."""

    WHOLE = "whole"
    MISSING = "missing"
    DAMAGED = "damaged"
    UNREAD = "not read"
    """It has the right size; nobody has looked into it."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One asset and what its file is worth."""

    asset: Asset
    state: State
    path: Path
    damaged_chunks: tuple[int, ...] = ()
    all_chunks: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Updated:
    """What an update did, or would do."""

    version: str
    """Of the manifest."""
    changes: tuple[Change, ...]
    fetched_bytes: int
    applied: bool


class Guardian:
    """The assets in ``store``'s folder.

    Args:
        following: None where no publisher is followed.
    """

    def __init__(
        self, store: AssetStore, catalogue: Catalogue, following: Following | None = None
    ) -> None:
        self.store = store
        self.catalogue = catalogue
        self.in_force = InForce(store, catalogue)
        self.updates = Updates(store, catalogue, self.in_force)
        self.additions = Additions(store, catalogue, self.in_force)
        self.following = following or Following(catalogue, store.fetcher)

    @property
    def layout(self) -> Layout:
        """Of the folder."""
        return self.store.layout

    def reload(self) -> list[str]:
        """Read the lists anew: another process may have changed them. Returns what is wrong with
        those that are damaged; what is right is in force."""
        return self.in_force.reload()

    def chosen(self, names: Sequence[str]) -> list[Asset]:
        """The assets of these names; without names, those that are here or begun. Raises
        ``NotFound``."""
        self.in_force.refresh()
        if names:
            return [self.store.manifest.asset(name) for name in names]
        return [
            asset
            for asset in self.store.manifest.assets
            if fingerprint_at(self.layout.asset(asset)) is not None
            or self.layout.partial(asset).exists()
            or self.layout.quarantined(asset).exists()
        ]

    def listed(self) -> list[Checked]:
        """Every asset, and whether its file is there; nothing is read."""
        self.in_force.refresh()
        return [
            Checked(
                asset,
                State.UNREAD if self.store.present(asset.name) else State.MISSING,
                self.layout.asset(asset),
            )
            for asset in self.store.manifest.assets
        ]

    def pinned(self) -> set[str]:
        """Names of the assets that stay at a version. Of a list that is damaged none are known."""
        try:
            return {asset.name for asset in self.catalogue.pinned().assets}
        except InvalidSettings:
            return set()

    def problems(self) -> list[str]:
        """What is wrong with the lists in the folder, or with what was trusted, in words."""
        warning = self.following.warning()
        return [*self.catalogue.as_far_as_it_goes()[1], *([warning] if warning else [])]

    def verify(self, names: Sequence[str], watch: Watch) -> list[Checked]:
        """Read every byte of the files and compare; nothing is moved or mended."""
        with (
            disk_errors(self.layout.folder),
            ThreadPoolExecutor(VERIFIED_AT_ONCE, thread_name_prefix="verify") as threads,
        ):
            return list(threads.map(lambda asset: self._verified(asset, watch), self.chosen(names)))

    def _verified(self, asset: Asset, watch: Watch) -> Checked:
        path = self.layout.asset(asset)
        found = fingerprint_at(path)
        if found is None:
            return Checked(asset, State.MISSING, path)
        if found.size < 0:
            return Checked(asset, State.DAMAGED, path, reason="it is no file")
        pieces: list[str] = []
        learn = None if chunks_are_known(self.layout, asset) else pieces
        sha256, unchanged = hash_file(path, found, asset, watch.report, watch.cancelled, learn)
        if not unchanged:
            return Checked(asset, State.DAMAGED, path, reason="it changed while it was read")
        if sha256 == asset.sha256:
            self.store.remember(asset, found, pieces)
            return Checked(asset, State.WHOLE, path)
        chunks = chunks_for(self.layout, asset)
        wrong: tuple[int, ...] = ()
        if chunks != whole_chunk(asset) and sha256 != UNREADABLE:
            wrong = tuple(damaged(path, chunks, watch.cancelled, direct=False))
        return Checked(
            asset, State.DAMAGED, path, wrong, len(chunks),
            "the disk cannot read it" if sha256 == UNREADABLE
            else f"its sha256 is {sha256}, not {asset.sha256}",
        )  # fmt: skip

    def repair(self, names: Sequence[str], watch: Watch) -> list[Checked]:
        """Have these files right: what is damaged is mended, what is missing is installed. Every
        byte is read, whatever was proved before. Raises what `AssetStore.install` raises."""
        with disk_errors(self.layout.folder):
            chosen = self.chosen(names)
        mended = []
        for asset in chosen:
            found = self.store.locate(
                asset.name, trust_cache=False, report=watch.report, cancelled=watch.cancelled
            )
            found = found or self.store.install(asset.name, watch.report, watch.cancelled)
            mended.append(Checked(asset, State.WHOLE, found.path))
        return mended

    def trusted(self, name: str) -> LocatedAsset | None:
        """See `AssetStore.trusted`; of what is in force now."""
        self.in_force.refresh()
        return self.store.trusted(name)

    def provide(self, name: str, watch: Watch) -> LocatedAsset:
        """See `AssetStore.provide`; of what is in force now, and still is when it is here."""
        while True:
            self.in_force.refresh()
            asset = self.store.manifest.asset(name)
            found = self.store.provide(name, watch.report, watch.cancelled)
            self.in_force.refresh()
            if self.store.manifest.asset(name) == asset:
                return found

    def have(self, name: str, watch: Watch) -> None:
        """Have the asset here."""
        self.in_force.refresh()
        self.store.install(name, watch.report, watch.cancelled)

    def prove(self, name: str, watch: Watch) -> None:
        """Have the asset right though something speaks against it: read it by its pieces, and mend
        it if need be."""
        self.in_force.refresh()
        self.store.doubt(name)
        self.store.install(name, watch.report, watch.cancelled)

    def mend(self, name: str, watch: Watch) -> None:
        """Mend an asset that is damaged on the disk, whatever memory still has of it."""
        self.in_force.refresh()
        asset = self.store.manifest.asset(name)
        chunks = chunks_for(self.layout, asset)

        def is_damaged(path: Path) -> bool:
            try:
                return bool(damaged(path, chunks, watch.cancelled))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                return True

        self.store.condemn(name, is_damaged)
        self.store.install(name, watch.report, watch.cancelled)

    def update(
        self, watch: Watch, *, check_only: bool = False, fetch_only: bool = False
    ) -> Updated:
        """Ask the publisher for a newer manifest, fetch what changed, and put it in force.

        Raises ``Untrusted``, ``AssetUnavailable``, ``InvalidSettings`` where no publisher is
        followed or its manifest needs a newer noyau, and what `AssetStore.install` raises.
        Whatever it raises, all files stay as they were.
        """
        if check_only:
            self.in_force.refresh()
            with disk_errors(self.layout.folder):
                return self._told(self.updates.offer(self.following.newest(watch)), 0, False)
        with self.updating(watch):
            # Under the lock: an offer says what lies where, and another update would change that.
            self.reload()
            published, fetched = self.following.newest(watch), 0
            while True:
                offer = self.updates.offer(published)
                fetched += self.updates.fetch(offer, watch)
                if fetch_only:
                    return self._told(offer, fetched, False)
                applied = self.updates.apply(offer, self.following.to_come(), watch)
                if applied is not None:
                    return self._told(applied, fetched, True)

    @contextmanager
    def updating(self, watch: Watch) -> Iterator[None]:
        """One at a time changes which versions are in force, and which are kept."""
        with disk_errors(self.layout.folder), hold_lock(self._update_lock, watch.cancelled):
            yield

    @contextmanager
    def _if_none_updates(self) -> Iterator[bool]:
        """As `updating`, for what does not wait; yields whether nobody else does."""
        with disk_errors(self.layout.folder):
            make_folders(self.layout.locks)
            with try_lock(self._update_lock) as alone:
                yield alone

    @property
    def _update_lock(self) -> Path:
        return self.layout.locks / "update"

    def proved(self, name: str, sha256: str) -> None:
        """Somebody has loaded this file of an asset: the versions before it are needed no more."""
        self.in_force.refresh()
        with self._if_none_updates() as alone:
            self.updates.proved(name, sha256, self.following.to_come(), tidy=alone)

    def _told(self, offer: Offer, fetched: int, applied: bool) -> Updated:
        return Updated(offer.manifest.version, offer.changes, fetched, applied)

    def add(self, path: Path, name: str, licence: str, description: str, watch: Watch) -> Asset:
        """Take a file of the user's in: copied, hashed, and from then on guarded as any other.

        Raises ``InvalidRequest`` where the name is taken or no name, or the file is empty,
        ``AssetUnavailable`` where it cannot be read, and what `AssetStore.install` raises. Then an
        earlier file of that name is as it was.
        """
        return self.additions.add(path, name, licence, description, watch)

    def remove(self, name: str, cancelled: IsCancelled = never) -> Asset:
        """Take a file of the user's out again. Raises ``NotFound`` for others, and ``Overloaded``
        while it is being made."""
        return self.additions.remove(self._named(name), cancelled)

    def pin(self, name: str, cancelled: IsCancelled = never) -> Asset:
        """Keep the asset at the version that is in force, whatever updates bring."""
        with disk_errors(self.layout.folder):
            asset = self.catalogue.pin_in_force(self._named(name), cancelled)
        self.reload()
        self.store.note(asset, "pinned")
        return asset

    def unpin(self, name: str, watch: Watch = UNWATCHED) -> Asset:
        """Take back `pin`; returns what is in force then. Raises what `Updates.unpin` raises."""
        with self.updating(watch):
            self.reload()
            return self.updates.unpin(self._named(name), watch, self.following.to_come())

    def _named(self, name: str) -> str:
        """What lists and lines call it: ``default`` is none's own name."""
        return self.store.manifest.asset(name).name if name == DEFAULT else name

    def rollback(self, name: str, watch: Watch = UNWATCHED) -> Asset:
        """Go back to the version in use before, and stay with it. Raises what `Updates.rollback`
        raises."""
        with self.updating(watch):
            self.reload()
            return self.updates.rollback(name, watch)

    def history(self, name: str | None = None) -> list[Line]:
        """What became of the files; the oldest first."""
        with disk_errors(self.layout.folder):
            return self._history(name)

    def _history(self, name: str | None) -> list[Line]:
        if name is not None:
            name = self._named(name)
            known = {asset.name for asset in self.store.manifest.assets}
            lines = self.store.history.lines(name)
            if not lines and name not in known:
                raise NotFound(f"no asset is or was called {name!r}", known=sorted(known))
            return lines
        return self.store.history.lines()

    def collect(self, cancelled: IsCancelled = never) -> int:
        """Remove what nobody needs: earlier versions, what a publisher has dropped, quarantined
        files, files under way that no manifest wants, indexes and kept wheels of others. Returns
        the bytes that are free now.

        What waits for an update, and what somebody works with now, stays. Raises ``Overloaded``
        while an update is under way, and ``InvalidSettings`` where a list is damaged that may want
        some of it.
        """
        with self._if_none_updates() as alone:
            if not alone:
                raise Overloaded("an update is under way: try again when it is done")
            self.catalogue.manifest()
            self.reload()
            return collect(self.store, self.updates, self.following.to_come(), cancelled)
