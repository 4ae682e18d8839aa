"""What to make of what the sources delivered, or did not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from actors.storage.manifest import Asset
from protocol.errors import AssetCorrupt, AssetUnavailable, MissingDependency

SourceError = AssetUnavailable | AssetCorrupt | MissingDependency
SOURCE_ERRORS: Final = (AssetUnavailable, AssetCorrupt, MissingDependency)
"""What makes the store try the next source."""


def check_delivery(asset: Asset, size: int, sha256: str) -> None:
    """Pure: raise ``AssetCorrupt`` unless what was written is the asset."""
    if size != asset.size:
        raise AssetCorrupt(f"{asset.name} ended after {size} of {asset.size} bytes")
    if sha256 != asset.sha256:
        raise AssetCorrupt(
            f"what came as {asset.name} has sha256 {sha256}, but the manifest says {asset.sha256}",
            found_sha256=sha256,
            expected_sha256=asset.sha256,
        )


def all_failed(asset: Asset, path: Path, failures: Sequence[SourceError]) -> SourceError:
    """Pure: the error for an asset that no source could deliver, with the way to get it by hand.

    Failures of one class stay that class, so that a caller knows whether a retry can help; a
    mixture is unavailable, because the source that was only away may come back.
    """
    by_hand = f"Or put the file at {path} yourself; its sha256 must be {asset.sha256}."
    if not failures:
        return AssetUnavailable(f"the manifest has no source for {asset.name}. {by_hand}")
    causes = "; ".join(failure.message for failure in failures)
    details: dict[str, Any] = {"path": str(path), "sha256": asset.sha256}
    for failure in failures:
        details |= failure.details
    kinds = {type(failure) for failure in failures}
    kind = kinds.pop() if len(kinds) == 1 else AssetUnavailable
    return kind(f"{asset.name} could not be fetched: {causes.rstrip('.')}. {by_hand}", **details)
