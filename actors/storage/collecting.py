"""Removes what lies in an asset folder and nobody needs."""

from __future__ import annotations

from collections.abc import Callable, Set
from pathlib import Path

from actors.storage.publishing import hold_lock, never, remove_tree, try_lock
from actors.storage.sources import Cancelled as IsCancelled
from actors.storage.store import AssetStore
from actors.storage.updating import Updates
from actors.storage.verifier import fingerprint_at
from protocol.errors import Cancelled


def collect(
    store: AssetStore, updates: Updates, to_come: Set[str] | None, cancelled: IsCancelled = never
) -> int:
    """Remove earlier versions, what a publisher has dropped, quarantined files, files under way
    that no manifest wants, indexes and kept wheels of others. Returns the bytes that are free now.

    What waits for an update (``to_come``, see `Updates.tidy`), and what somebody works with now,
    stays. The caller holds the update lock. Raises ``OSError``, and ``Cancelled`` between two kinds
    of them.
    """
    before = bytes_below(store.layout.folder)
    steps: list[Callable[[], object]] = [
        store.end_trials,
        lambda: updates.tidy(to_come),
        lambda: _dropped(store),
        lambda: _quarantined(store),
        lambda: _indexes(store),
        store.sweep,
    ]
    for step in steps:
        if cancelled():
            raise Cancelled("removing what nobody needs was cancelled")
        step()
    return max(0, before - bytes_below(store.layout.folder))


def _dropped(store: AssetStore) -> None:
    """Files at paths that lists once had."""
    paths = {asset.path for asset in store.manifest.assets}
    names = {asset.name for asset in store.manifest.assets}
    for asset in store.versions.dropped():
        path = store.layout.asset(asset)
        with hold_lock(store.layout.publish_lock, never):
            found = fingerprint_at(path)
            wanted = asset.name in names or asset.path in paths
            # Of another size: somebody has put a file of his own there since.
            goes = not wanted and found is not None and found.size == asset.size
            if goes:
                remove_tree(path)
            remove_tree(store.layout.dropped(asset))
        if goes:
            store.note(asset, "removed")


def _quarantined(store: AssetStore) -> None:
    """Damaged files, and kept wheels, that no build takes anything from now."""
    layout, busy = store.layout, False
    for asset in store.manifest.assets:
        with try_lock(layout.build_lock(asset)) as mine:
            if mine:
                remove_tree(layout.quarantined(asset))
            else:
                busy = True
    if not busy:
        remove_tree(layout.quarantine)
        remove_tree(layout.wheels)


def _indexes(store: AssetStore) -> None:
    known = {asset.sha256 for asset in store.manifest.assets} | {"scrubbed"}
    if store.layout.index.is_dir():
        for path in store.layout.index.iterdir():
            if path.name.removesuffix(".json") not in known:
                remove_tree(path)


def bytes_below(folder: Path) -> int:
    """Of the disk, by all files below a folder; one with several names counts once."""
    if not folder.is_dir():
        return 0
    seen: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            stat = path.stat()
            seen[(stat.st_dev, stat.st_ino)] = stat.st_blocks * 512
    return sum(seen.values())
