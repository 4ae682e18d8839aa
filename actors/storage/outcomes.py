"""What the asset store hands back, and what it tells beside that so that callers can log it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import NoyauError


@dataclass(frozen=True)
class LocatedAsset:
    """A file that is on disk and is what the manifest says it is."""

    name: str
    path: Path
    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Quarantined:
    """A file that is not the asset lay at the asset's path and was moved aside."""

    asset: str
    moved_to: Path
    reason: str


@dataclass(frozen=True)
class SourceFailed:
    """One source could not deliver; the next one, if any, is tried."""

    asset: str
    kind: str
    error: NoyauError


@dataclass(frozen=True)
class ProofNotKept:
    """A file was verified, but that could not be written down; it will be hashed again."""

    asset: str
    reason: str


@dataclass(frozen=True)
class LeftoverStays:
    """A dead run's leftover could not be removed; the next install tries again."""

    path: Path
    reason: str


StoreEvent = Quarantined | SourceFailed | ProofNotKept | LeftoverStays

Observe = Callable[[StoreEvent], None]
"""Called from the thread that works; must be quick and must not raise."""
