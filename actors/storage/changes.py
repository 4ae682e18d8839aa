"""What an update brings, and which versions of files are needed beside those in use. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from actors.storage.lines import Line, is_on_trial, versions_before
from actors.storage.manifest import Asset, Manifest


@dataclass(frozen=True, slots=True)
class Change:
    """A file that an update brings."""

    before: Asset | None
    """None: it is new."""
    after: Asset


def changes_between(
    before: Manifest, after: Manifest, is_here: Callable[[Asset], bool]
) -> tuple[Change, ...]:
    """What to bring: newer versions of what is here, and what is required and new."""
    known = {asset.name: asset for asset in before.assets}
    changes = []
    for asset in after.assets:
        old = known.get(asset.name)
        if old is not None and old.hash == asset.hash and old.path == asset.path:
            continue
        if (old is not None and is_here(old)) or (old is None and asset.required):
            changes.append(Change(old, asset))
    return tuple(changes)


def dropped_between(
    before: Manifest, after: Manifest, is_here: Callable[[Asset], bool]
) -> tuple[Asset, ...]:
    """Of what is here, that of which the newer one knows neither the name nor the path."""
    names = {asset.name for asset in after.assets}
    paths = {asset.path for asset in after.assets}
    return tuple(
        old
        for old in before.assets
        if old.name not in names and old.path not in paths and is_here(old)
    )


def left_behind(before: Manifest, after: Manifest) -> list[str]:
    """The sha256 of the files that were in force, each as that of its name, and are no more."""
    now = {asset.name: asset.sha256 for asset in after.assets}
    return [each.sha256 for each in before.assets if now.get(each.name) != each.sha256]


def needed_versions(
    assets: Sequence[Asset],
    histories: Mapping[str, Sequence[Line]],
    in_place: Set[str],
    to_come: Set[str],
) -> set[str]:
    """The sha256 of the versions to keep beside the files in use.

    Args:
        assets: what is in force.
        histories: of each, by its name.
        in_place: names of those whose file was proved where it is used: it needs no second name.
        to_come: what waits for an update.
    """
    needed = {asset.sha256 for asset in assets if asset.name not in in_place} | set(to_come)
    for asset in assets:
        lines = histories[asset.name]
        if is_on_trial(lines):
            needed |= set(versions_before(lines, asset.hash))
    return needed
