"""Where things lie in the asset folder. One place knows.

    FOLDER/models/…            the assets, at the paths of the manifest
    FOLDER/staging/HASH        files under way: what is right in them is not fetched again
    FOLDER/versions/HASH       whole files of other versions: the one before, the one to come
    FOLDER/quarantine/NAME     what lay at an asset's path and was not the asset, the latest of each
    FOLDER/index/HASH.json     hashes of the pieces of files whose manifest names none
    FOLDER/locks/              locks between processes
    FOLDER/tmp/                scratch folders of sources
    FOLDER/wheels/             wheels that are kept
    FOLDER/verified.json       which files were hashed since boot; a cache
    FOLDER/manifests/HASH      manifests of publishers: the one in force and the one before
    FOLDER/applied.json        which of them is in force
    FOLDER/local.json          files that the user added
    FOLDER/pins.json           files that stay at a version
    FOLDER/history.jsonl       what became of the files
    FOLDER/trust/              what the publisher signed, as it was last trusted

No path in a manifest can begin with one of these names: see `actors.storage.paths`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.storage.manifest import Asset

_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below ``folder``, which is absolute."""

    folder: Path

    def asset(self, asset: Asset) -> Path:
        """Where it is used from."""
        return self.folder / asset.path

    @property
    def staging(self) -> Path:
        """Of files under way."""
        return self.folder / "staging"

    def partial(self, asset: Asset) -> Path:
        """The file under way that becomes this one."""
        return self.staging / asset.sha256

    @property
    def versions(self) -> Path:
        """Of whole files that are not used now."""
        return self.folder / "versions"

    def version(self, sha256: str) -> Path:
        """A whole file by its hash. ``ValueError`` for what is none: it may come from a list that
        the disk has spoiled, and what is here may be removed."""
        if not _HEX.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is no sha256")
        return self.versions / sha256

    def described(self, sha256: str, name: str) -> Path:
        """What a manifest said of a file in `versions`, as that of the asset ``name``."""
        version = self.version(sha256)
        return version.with_name(f"{version.name}.{name}.json")

    def dropped(self, asset: Asset) -> Path:
        """What a manifest said of a file that is where it was used, and in no list any more."""
        return self.versions / f"dropped.{asset.name}.json"

    @property
    def manifests(self) -> Path:
        """Of publishers' manifests, each by its hash."""
        return self.folder / "manifests"

    @property
    def applied(self) -> Path:
        """Which of the manifests is in force."""
        return self.folder / "applied.json"

    @property
    def quarantine(self) -> Path:
        """Of what was not the asset."""
        return self.folder / "quarantine"

    def quarantined(self, asset: Asset) -> Path:
        """The latest file that lay at its path and was not it."""
        return self.quarantine / asset.name

    @property
    def index(self) -> Path:
        """Of hashes of pieces."""
        return self.folder / "index"

    @property
    def scratch(self) -> Path:
        """Of sources at work."""
        return self.folder / "tmp"

    @property
    def wheels(self) -> Path:
        """Of wheels that are kept."""
        return self.folder / "wheels"

    @property
    def trust(self) -> Path:
        """Of what was signed."""
        return self.folder / "trust"

    @property
    def verified(self) -> Path:
        """Of which files were hashed."""
        return self.folder / "verified.json"

    @property
    def local(self) -> Path:
        """The manifest of what the user added."""
        return self.folder / "local.json"

    @property
    def pins(self) -> Path:
        """Of files that stay at a version."""
        return self.folder / "pins.json"

    @property
    def history(self) -> Path:
        """Of what became of the files, a line each."""
        return self.folder / "history.jsonl"

    @property
    def locks(self) -> Path:
        """Of locks."""
        return self.folder / "locks"

    def build_lock(self, asset: Asset) -> Path:
        """Held by whoever makes this file."""
        return self.locks / asset.sha256

    @property
    def publish_lock(self) -> Path:
        """Held, for milliseconds, by whoever gives a file its final name or takes it away."""
        return self.locks / "publish"
