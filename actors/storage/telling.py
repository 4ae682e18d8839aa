"""What is known of assets, as messages: for whoever asks storage, and for the command. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

from actors.storage.guardian import Checked, Guardian, State, Updated
from actors.storage.outcomes import LocatedAsset
from protocol.messages.storage import (
    AssetChange,
    AssetProgress,
    Assets,
    AssetStatus,
    CheckedAsset,
    CheckedAssets,
    Located,
    UpdatedAssets,
)

_STATES: Final[dict[State, Literal["whole", "missing", "damaged"]]] = {
    State.WHOLE: "whole",
    State.MISSING: "missing",
    State.DAMAGED: "damaged",
}


def as_located(found: LocatedAsset) -> Located:
    """Where an asset is."""
    return Located(
        asset=found.name, path=str(found.path), sha256=found.sha256, size=found.size,
        version=found.version, instead_of=found.instead_of,
    )  # fmt: skip


def as_listed(guardian: Guardian, users_of: Callable[[str], list[str]]) -> Assets:
    """All assets; ``users_of`` says who has the file of a sha256 loaded."""
    manifest, pinned = guardian.store.manifest, guardian.pinned()
    return Assets(
        version=manifest.version,
        assets=[
            AssetStatus(
                asset=each.asset.name, description=each.asset.description, path=each.asset.path,
                size=each.asset.size, sha256=each.asset.sha256, version=each.asset.version,
                licence=each.asset.licence, present=each.state is not State.MISSING,
                default=each.asset.name == manifest.default_model, required=each.asset.required,
                pinned=each.asset.name in pinned, fallback=each.asset.fallback,
                used_by=users_of(each.asset.sha256),
            )
            for each in guardian.listed()
        ],
        problems=guardian.problems(),
    )  # fmt: skip


def as_checked(found: Sequence[Checked]) -> CheckedAssets:
    """What files are worth that were read."""
    return CheckedAssets(
        assets=[
            CheckedAsset(
                asset=each.asset.name, state=_STATES[each.state], path=str(each.path),
                size=each.asset.size, damaged_chunks=list(each.damaged_chunks),
                all_chunks=each.all_chunks, reason=each.reason,
            )
            for each in found
        ]
    )  # fmt: skip


def as_updated(updated: Updated) -> UpdatedAssets:
    """What an update did, or would do."""
    return UpdatedAssets(
        version=updated.version,
        changes=[
            AssetChange(
                asset=change.after.name,
                before=change.before.version if change.before is not None else "",
                after=change.after.version, changelog=change.after.changelog,
                size=change.after.size,
            )
            for change in updated.changes
        ],
        fetched_bytes=updated.fetched_bytes, applied=updated.applied,
    )  # fmt: skip


def in_words(told: AssetProgress) -> str:
    """``repairing tiny: chunk 12 of 40, 30 %, 1.2 MB/s, 4 s left``."""
    percent = 100 * told.done_bytes // max(1, told.total_bytes)
    words = [f"{told.stage} {told.asset}: "]
    if told.total_chunks > 1 and told.stage == "repairing":
        words.append(f"chunk {told.done_chunks} of {told.total_chunks}, ")
    words.append(f"{percent} %")
    if told.bytes_per_s is not None:
        words.append(f", {told.bytes_per_s / 1e6:.1f} MB/s")
    if told.remaining_s is not None:
        words.append(f", {told.remaining_s:.0f} s left")
    return "".join(words)
