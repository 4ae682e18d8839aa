"""An update: from the manifest in force to a newer one, file by file, so that at every moment each
asset is there whole, in the one version or the other.

    changes ──► space for all ──► each file made in versions/ ──► the manifest ──► the files

A crash before the manifest changes nothing; after it, each file is put in place where it is next
asked for. The version before stays until the new one has proved itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from actors.storage.building import UNWATCHED, Watch
from actors.storage.catalogue import Catalogue, Published
from actors.storage.changes import (
    Change,
    changes_between,
    dropped_between,
    needed_versions,
)
from actors.storage.digests import digits_of
from actors.storage.inforce import InForce
from actors.storage.lines import What, is_on_trial, sizes_of, versions_to_go_back_to
from actors.storage.manifest import Asset, Manifest
from actors.storage.outcomes import Dropped, UpdateWaits
from actors.storage.publishing import (
    disk_errors,
    hold_lock,
    inside,
    never,
    publish,
    remove_tree,
    require_space,
)
from actors.storage.store import AssetStore
from protocol.errors import AssetError, MissingDependency, NotFound, NoyauError


@dataclass(frozen=True, slots=True)
class Step:
    """From the lists in force to others."""

    manifest: Manifest
    """By the others."""
    changes: tuple[Change, ...]
    dropped: tuple[Asset, ...]
    """What is here, and of what the others know nothing."""


@dataclass(frozen=True, slots=True)
class Offer(Step):
    """What an update would do."""

    published: Published


Taken = TypeVar("Taken", bound=Step)


class Updates:
    """Brings the files of ``store`` from one manifest to another."""

    def __init__(
        self, store: AssetStore, catalogue: Catalogue, in_force: InForce | None = None
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._in_force = in_force or InForce(store, catalogue)

    def offer(self, published: Published) -> Offer:
        """What applying this manifest would change. Raises ``InvalidSettings``."""
        manifest = self._catalogue.manifest_with(published)
        step = self._step_to(manifest)
        return Offer(manifest, step.changes, step.dropped, published)

    def _without_pin(self, name: str) -> Step:
        return self._step_to(self._catalogue.manifest_without_pin(name))

    def _step_to(self, manifest: Manifest) -> Step:
        before = self._store.manifest

        def is_here(old: Asset) -> bool:
            return self._store.present(old.name)

        return Step(
            manifest,
            changes_between(before, manifest, is_here),
            dropped_between(before, manifest, is_here),
        )

    def fetch(self, offer: Step, watch: Watch) -> int:
        """Have every file of the offer here, whole, where nobody uses it yet; returns the bytes
        that sources handed over. The disk space for all of them is taken before the first byte.

        What waits here from an earlier time is read: what is damaged of it is fetched anew. Raises
        what `AssetStore.install` raises; what came stays.
        """
        return self._have([change.after for change in offer.changes], watch)

    def _have(self, assets: Sequence[Asset], watch: Watch) -> int:
        store, fetched = self._store, 0
        with disk_errors(store.layout.folder):
            waiting = [asset for asset in assets if not self._is_ready(asset, watch)]
            require_space(store.layout.folder, sum(map(store.missing_bytes, waiting)))
            for asset in waiting:
                with hold_lock(store.layout.build_lock(asset), watch.cancelled):
                    store.reserve(asset)
            for asset in waiting:
                with hold_lock(store.layout.build_lock(asset), watch.cancelled):
                    built = store.build(asset, watch)
                    store.versions.take_in(asset, built.path)
                    fetched += built.fetched.bytes
        return fetched

    def _is_ready(self, asset: Asset, watch: Watch) -> bool:
        return self._store.versions.is_whole(asset, watch.report, watch.cancelled)

    def apply(
        self, offer: Offer, to_come: Set[str] | None = frozenset(), watch: Watch = UNWATCHED
    ) -> Offer | None:
        """Put the manifest in force, and the files in their places. The caller holds the update
        lock. ``to_come``: sha256 of files that wait for a later update.

        What it changes is looked at anew: something may have been added or pinned while files were
        fetched. Returns what was changed; None, and nothing was, where a file of it is not here
        whole. Raises ``InvalidSettings`` where it does not fit to what was added.

        A file that cannot be put now is put where it is next asked for, and keeps no other.
        """
        published = offer.published
        with disk_errors(self._store.layout.folder):
            taken = self._take(
                lambda: self.offer(published), lambda: self._catalogue.apply(published), watch
            )
            if taken is not None:
                self._put_all(taken)
                self.tidy(to_come)
        return taken

    def unpin(
        self, name: str, watch: Watch = UNWATCHED, to_come: Set[str] | None = frozenset()
    ) -> Asset:
        """Take back that a file stays at a version; returns what is in force then. The caller holds
        the update lock.

        Where other lists have another version that one is fetched before, and is as one that an
        update has brought. Raises ``NotFound`` where the file is not pinned, and what
        `AssetStore.install` raises; then it still is.
        """
        store = self._store
        with disk_errors(store.layout.folder):
            pinned, taken = list[Asset](), None
            while taken is None:
                self.fetch(self._without_pin(name), watch)
                taken = self._take(
                    lambda: self._without_pin(name),
                    lambda: pinned.append(self._catalogue.unpin(name)),
                    watch,
                )
            store.note(pinned[0], "unpinned")
            self._put_all(taken)
            self.tidy(to_come)
        return next((each for each in store.manifest.assets if each.name == name), pinned[0])

    def _take(
        self, look: Callable[[], Taken], enact: Callable[[], object], watch: Watch
    ) -> Taken | None:
        """Change the lists by ``enact``, if every file of the step that ``look`` finds is here,
        whole; else nothing is changed."""
        with self._catalogue.changing(watch.cancelled):
            self._in_force.reload()
            step = look()
            if not all(self._is_ready(change.after, watch) for change in step.changes):
                return None
            for change in step.changes:
                if change.before is not None:
                    self._know(change.before)
            for asset in step.dropped:
                self._store.versions.leave(asset)
            self._in_force.change(enact)
        return step

    def _put_all(self, step: Step) -> None:
        store, changes = self._store, step.changes
        # All the old ones before any new one: a new one may lie where an old one lay.
        for change in changes:
            if change.before is not None:
                with self._publishing():
                    store.versions.keep(change.before)
        left = Counter(change.after.sha256 for change in changes)
        for change in changes:
            left[change.after.sha256] -= 1
            shared = left[change.after.sha256] > 0
            try:
                self._put(change.before, change.after, "updated", stays=shared)
            except (OSError, NoyauError) as error:
                store.observe(UpdateWaits(change.after.name, str(error)))
        for asset in step.dropped:
            store.observe(Dropped(asset.name, store.layout.asset(asset)))

    def _know(self, asset: Asset) -> None:
        """Whatever happens from here on, it is known what the file at the asset's path is."""
        store = self._store
        store.versions.describe(asset)
        known = sizes_of(store.history.lines(asset.name))
        if asset.sha256 not in known and store.present(asset.name):
            # Brought by hand, or before there was a history.
            store.note(asset, "installed")

    @contextmanager
    def _publishing(self) -> Iterator[None]:
        with hold_lock(self._store.layout.publish_lock, never):
            yield

    def rollback(self, name: str, watch: Watch = UNWATCHED) -> Asset:
        """Go back to the version of a file that was in use before, and stay there (it is pinned).

        Raises ``NotFound`` where none was kept, and, where the one that was is damaged and cannot
        be mended, what `AssetStore.install` raises; then the present one stays.
        """
        store = self._store
        now = store.manifest.asset(name)
        with disk_errors(store.layout.folder):
            before = self._kept_before(now)
            self._mend(before, watch)
            self._in_force.change(lambda: self._catalogue.pin(before, watch.cancelled))
            self._put(now, before, "rolled back")
        return before

    def _kept_before(self, now: Asset) -> Asset:
        store = self._store
        for sha256 in versions_to_go_back_to(store.history.lines(now.name), now.hash):
            before = store.versions.description(sha256, now.name)
            if before is not None and store.versions.has(sha256):
                return before
        raise NotFound(
            f"no earlier version of {now.name} was kept: it is removed once the new one was loaded "
            "(noyau assets history tells)",
            asset=now.name,
        )

    def _mend(self, kept: Asset, watch: Watch) -> None:
        """Have a version that was kept whole."""
        try:
            self._have([kept], watch)
        except (AssetError, MissingDependency) as error:
            raise type(error)(
                f"the earlier version of {kept.name} that was kept is damaged; the present one "
                f"stays. {error.message}",
                **error.details,
            ) from error

    def proved(
        self, name: str, sha256: str, to_come: Set[str] | None = frozenset(), *, tidy: bool = True
    ) -> None:
        """The version that is in use was loaded: the ones before are no longer needed. They go now
        with ``tidy``, which whoever holds the update lock may want, else some other time."""
        store = self._store
        asset = store.manifest.asset(name)
        lines = store.history.lines(asset.name)
        if asset.sha256 != sha256 or not is_on_trial(lines):
            return
        with disk_errors(store.layout.folder):
            store.note(asset, "proved")
            if tidy:
                self.tidy(to_come)

    def tidy(self, to_come: Set[str] | None) -> int:
        """Remove versions that nobody needs any more; returns how many. Those stay that are wanted
        now, that wait for an update, or that were in use before one that is still on trial. Of
        lists that are damaged nobody knows what they want: then all stay. ``to_come`` None: nobody
        knows what waits, so all do that never were in use."""
        store = self._store
        if self._in_force.reload():
            return 0
        assets = store.manifest.assets
        if to_come is None:
            used = {digits_of(line.hash) for line in store.history.lines()}
            to_come = set(store.versions.all()) - used
        needed = needed_versions(
            assets,
            {asset.name: store.history.lines(asset.name) for asset in assets},
            {asset.name for asset in assets if store.trusted(asset.name) is not None},
            to_come,
        )
        over = [sha256 for sha256 in store.versions.all() if sha256 not in needed]
        for sha256 in over:
            store.versions.collect(sha256)
        return len(over)

    def _put(self, before: Asset | None, after: Asset, what: What, *, stays: bool = False) -> None:
        """Swap the file at the asset's path; there is one at every moment."""
        store = self._store
        final = store.layout.asset(after)
        inside(store.layout.folder, final)
        with self._publishing():
            if before is not None:
                store.versions.keep(before)
            with store.versions.taken(after.sha256, stays=stays) as waiting:
                if waiting is None:
                    # It is made where it is next asked for.
                    return
                publish(waiting, final)
            if before is not None and before.path not in {
                asset.path for asset in store.manifest.assets
            }:
                remove_tree(store.layout.asset(before))
        store.note(after, what)
