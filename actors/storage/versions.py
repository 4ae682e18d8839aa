"""Whole files of other versions: the one before, until the new one has proved itself, and the one
to come, until it is used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from actors.storage.layout import Layout
from actors.storage.manifest import Asset
from actors.storage.publishing import fsync_folder, publish_bytes, read_own, remove_tree
from actors.storage.sources import Cancelled, Report
from actors.storage.verification import Fingerprint
from actors.storage.verifier import fingerprint_at, hash_file


class Versions:
    """The folder of versions. Whoever changes what lies at an asset's path holds the publish lock.

    Each method raises ``OSError`` where the disk fails.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._whole: dict[str, Fingerprint] = {}
        """Of files here that were proved, by their hash."""

    def take_in(self, asset: Asset, staged: Path) -> None:
        """Keep a file that was built, whole and proved, until it is used."""
        self.describe(asset)
        version = self._layout.version(asset.sha256)
        staged.replace(version)
        fsync_folder(self._layout.versions)
        proved = fingerprint_at(version)
        if proved is not None:
            self._whole[asset.sha256] = proved

    def keep(self, asset: Asset) -> None:
        """Give the file at the asset's path a second name here: what replaces it takes the other.

        Where the file system has no second names it moves here: for a moment there is none there.
        A file that is not even of its size is no version, and one that is here already stays.
        """
        self.describe(asset)
        final, aside = self._layout.asset(asset), self._layout.version(asset.sha256)
        try:
            if aside.is_file() or final.stat().st_size != asset.size:
                return
        except FileNotFoundError:
            return
        remove_tree(aside)
        try:
            os.link(final, aside)
        except OSError:
            final.replace(aside)
        fsync_folder(self._layout.versions)

    def describe(self, asset: Asset) -> None:
        """Write down what is known of a version that is, or will be, here."""
        text = asset.model_dump_json(by_alias=True).encode()
        publish_bytes(text, self._layout.described(asset.sha256, asset.name))

    def leave(self, asset: Asset) -> None:
        """Write down that a file stays where it was used, though no list will name it."""
        publish_bytes(asset.model_dump_json(by_alias=True).encode(), self._layout.dropped(asset))

    def dropped(self) -> list[Asset]:
        """What was left so; it may be in a list again, or gone."""
        found = []
        for path in self._layout.versions.glob("dropped.*.json"):
            with suppress(ValidationError):
                found.append(Asset.model_validate_json(read_own(path) or b""))
        return found

    def description(self, sha256: str, name: str) -> Asset | None:
        """What the manifest of its time said of a version of an asset; None where nobody knows."""
        try:
            return Asset.model_validate_json(read_own(self._layout.described(sha256, name)) or b"")
        except ValidationError:
            return None

    def has(self, sha256: str) -> bool:
        """Whether the file is here. Not whether it is right, see `is_whole`."""
        return self._layout.version(sha256).is_file()

    def is_whole(self, asset: Asset, report: Report, cancelled: Cancelled) -> bool:
        """Whether the file is here and right. It is read, and not again before it is touched.

        Raises ``Cancelled``.
        """
        path = self._layout.version(asset.sha256)
        found = fingerprint_at(path)
        if found is None or found.size != asset.size:
            return False
        if self._whole.get(asset.sha256) == found:
            return True
        sha256, unchanged = hash_file(path, found, asset, report, cancelled)
        if not unchanged or sha256 != asset.sha256:
            return False
        self._whole[asset.sha256] = found
        return True

    def all(self) -> list[str]:
        """The hashes of all files here."""
        folder = self._layout.versions
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(name for name in names if "." not in name)

    @contextmanager
    def taken(self, sha256: str, *, stays: bool) -> Iterator[Path | None]:
        """A name of a version that can be given away; None where the version is not here. With
        ``stays`` the version keeps one as well, if the file system knows second names."""
        waiting = self._layout.version(sha256)
        if not waiting.is_file():
            yield None
            return
        if not stays:
            yield waiting
            return
        second = self._layout.versions / f"{sha256}.{uuid4().hex}"
        try:
            os.link(waiting, second)
        except OSError:
            yield waiting
            return
        try:
            yield second
        finally:
            remove_tree(second)

    def collect(self, sha256: str) -> int:
        """Remove a version; returns the bytes that it had."""
        path = self._layout.version(sha256)
        size = path.stat().st_size if path.is_file() else 0
        remove_tree(path)
        for described in path.parent.glob(f"{sha256}.*.json"):
            remove_tree(described)
        return size
