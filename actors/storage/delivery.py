"""What to make of what the sources delivered, or did not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from actors.storage.manifest import Asset
from protocol.errors import (
    AssetCorrupt,
    AssetUnavailable,
    MissingDependency,
    NoyauError,
    OptionalAssetMissing,
)

SourceError = AssetUnavailable | AssetCorrupt | MissingDependency
SOURCE_ERRORS: Final = (AssetUnavailable, AssetCorrupt, MissingDependency)
"""What makes the store try the next source."""


def missing(asset: Asset, error: NoyauError, fallback: NoyauError | None = None) -> NoyauError:
    """The error for an asset that could not be installed, and whose fallback, where it has one,
    could not be either: of the same class for a required one."""
    words = error.message
    if fallback is not None:
        words = f"{words} Nor can its fallback be used: {fallback.message}"
    if asset.required:
        return type(error)(words, **error.details)
    words = f"{asset.name}, which is optional, cannot be had now: {words}"
    return OptionalAssetMissing(words, **{**error.details, "asset": asset.name})


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
    kinds = {kind for failure in failures for kind in SOURCE_ERRORS if isinstance(failure, kind)}
    kind = kinds.pop() if len(kinds) == 1 else AssetUnavailable
    return kind(f"{asset.name} could not be fetched: {causes.rstrip('.')}. {by_hand}", **details)
