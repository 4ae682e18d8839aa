"""A file of the user's own becomes an asset, and is taken out again."""

from __future__ import annotations

from pathlib import Path

from actors.storage.building import Watch
from actors.storage.catalogue import Catalogue
from actors.storage.inforce import InForce
from actors.storage.manifest import Asset, name_of
from actors.storage.publishing import (
    disk_errors,
    hold_lock,
    inside,
    make_folders,
    never,
    remove_tree,
    try_lock,
)
from actors.storage.sources import Cancelled as IsCancelled
from actors.storage.store import AssetStore
from actors.storage.verifier import fingerprint_at, hash_file
from protocol.errors import AssetUnavailable, InvalidRequest, Overloaded


class Additions:
    """The user's own files among those of ``store``."""

    def __init__(self, store: AssetStore, catalogue: Catalogue, in_force: InForce) -> None:
        self._store = store
        self._catalogue = catalogue
        self._in_force = in_force

    def add(self, path: Path, name: str, licence: str, description: str, watch: Watch) -> Asset:
        """See `Guardian.add`. The copy is whole before the list names it: whatever ends this
        before, an earlier file of the name is as it was."""
        store = self._store
        name = name or name_of(path.stem)
        self._catalogue.check_name(name)
        asset = asset_of_file(path, name, licence, description, watch)
        final = store.layout.asset(asset)
        with (
            disk_errors(store.layout.folder),
            hold_lock(store.layout.build_lock(asset), watch.cancelled),
        ):
            inside(store.layout.folder, final)
            is_here = store.is_in_place(asset) or (final.exists() and final.samefile(path))
            built = None if is_here else store.build(asset, watch)
            before = self._catalogue.add(asset, watch.cancelled)
            try:
                self._in_force.reload()
                store.place(asset, built, "added")
            except BaseException:
                self._catalogue.undo_add(asset, before)
                self._in_force.reload()
                raise
            if before is not None and before.path != asset.path:
                self._take_away(before)
        return asset

    def remove(self, name: str, cancelled: IsCancelled = never) -> Asset:
        """See `Guardian.remove`."""
        store = self._store
        with disk_errors(store.layout.folder):
            asset = self._catalogue.local().asset(name)
            make_folders(store.layout.locks)
            with try_lock(store.layout.build_lock(asset)) as mine:
                if not mine:
                    raise Overloaded(f"{name} is being made now: try again when that is done")
                self._catalogue.remove(name, cancelled)
                self._in_force.reload()
                self._take_away(asset)
        store.note(asset, "removed")
        return asset

    def _take_away(self, asset: Asset) -> None:
        """Remove the copy; where the file was added from its own place there is none."""
        path = self._store.layout.asset(asset)
        with hold_lock(self._store.layout.publish_lock, never):
            if all(getattr(each, "path", None) != str(path) for each in asset.sources):
                remove_tree(path)


def asset_of_file(path: Path, name: str, licence: str, description: str, watch: Watch) -> Asset:
    """What a manifest says of the file, which is its own source.

    Raises ``InvalidRequest`` where it is empty or cannot be named so, and ``AssetUnavailable``
    where it cannot be read.
    """
    try:
        found = fingerprint_at(path)
    except OSError as error:
        raise AssetUnavailable(f"{path} cannot be read: {error.strerror}") from error
    if found is None or not path.is_file():
        raise AssetUnavailable(f"there is no file {path}", path=str(path))
    if not found.size:
        raise InvalidRequest(f"{path} is empty")
    try:
        asset = Asset.model_validate(
            {
                "name": name, "path": f"models/{path.name}", "size": found.size,
                "hash": f"sha256-{'0' * 64}", "licence": licence,
                "description": description or f"added from {path.absolute()}",
                "sources": [{"kind": "file", "path": str(path.absolute())}],
            }
        )  # fmt: skip
    except ValueError as error:
        raise InvalidRequest(f"{name!r} or {path.name!r} cannot be a name here: {error}") from error
    sha256, unchanged = hash_file(path, found, asset, watch.report, watch.cancelled)
    if not unchanged:
        raise AssetUnavailable(f"{path} changed while it was read; try again once it is whole")
    return asset.model_copy(update={"hash": f"sha256-{sha256}"})
