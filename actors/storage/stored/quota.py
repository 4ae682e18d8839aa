"""How much an owner may keep, and whether one more upload fits. Pure.

What counts is what will be there once every open upload has come to its end, the larger one
counting where an upload replaces a file: so no end of an upload, in whatever order, and no removal
of a file in between, can bring an owner above its quota. An upload counts from its beginning with
the size that was told for it, or with what has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from protocol.errors import QuotaExceeded

Claim = tuple[str, int]
"""Of one open upload: the name that it will have, and its bytes."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What one owner may keep."""

    bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What one owner keeps."""

    bytes: int = 0
    files: int = 0
    reserved_bytes: int = 0
    """What open uploads will add."""
    reserved_files: int = 0


def usage(kept: Mapping[str, int], kept_bytes: int, claims: Iterable[Claim]) -> Usage:
    """What it is with these open uploads. ``kept``: bytes by name; ``kept_bytes``: their sum, which
    its keeper has anyway."""
    largest: dict[str, int] = {}
    for name, size in claims:
        largest[name] = max(size, largest.get(name, 0))
    return Usage(
        bytes=kept_bytes,
        files=len(kept),
        reserved_bytes=sum(max(0, size - kept.get(name, 0)) for name, size in largest.items()),
        reserved_files=sum(name not in kept for name in largest),
    )


def admit(owner: str, quota: Quota, before: Usage, after: Usage) -> None:
    """Raise `QuotaExceeded` when what is asked for brings the owner above its quota.

    An owner that is above it already, as it was lowered, may still replace files by smaller ones.
    """
    had, has = before.bytes + before.reserved_bytes, after.bytes + after.reserved_bytes
    if has > quota.bytes and has > had:
        raise QuotaExceeded(
            f"{owner} keeps {_mb(had)} of the {_mb(quota.bytes)} that it may keep, "
            f"{_mb(before.reserved_bytes)} of them reserved by open uploads, and "
            f"{_mb(has - had)} more are needed: delete files, let them expire (ttl_s), or raise "
            f"files_mib, or file_quotas of {owner}, in the settings of storage",
            owner=owner, what="bytes", used=had, reserved=before.reserved_bytes,
            allowed=quota.bytes, needed=has - had,
        )  # fmt: skip
    had, has = before.files + before.reserved_files, after.files + after.reserved_files
    if has > quota.files and has > had:
        raise QuotaExceeded(
            f"{owner} keeps {had} of the {quota.files} files that it may keep, "
            f"{before.reserved_files} of them reserved by open uploads, and {has - had} more is "
            "needed: delete some, let them expire (ttl_s), keep more in each, or raise max_files, "
            f"or file_quotas of {owner}, in the settings of storage",
            owner=owner, what="files", used=had, reserved=before.reserved_files,
            allowed=quota.files, needed=has - had,
        )  # fmt: skip


def _mb(size: int) -> str:
    return f"{size:,} bytes" if size < 1_000_000 else f"{size / 1e6:,.1f} MB"
