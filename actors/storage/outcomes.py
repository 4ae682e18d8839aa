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
    version: str = ""
    instead_of: str = ""
    """The asset that was asked for and could not be had, where this one is its fallback."""


@dataclass(frozen=True)
class Quarantined:
    """A file that is not the asset lay at the asset's path and was moved aside."""

    asset: str
    moved_to: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.asset} is damaged, or another file: {self.reason}. Moved to {self.moved_to}"


@dataclass(frozen=True)
class Installed:
    """A file is there now that was not."""

    asset: str
    size: int
    fetched_bytes: int
    sources: tuple[str, ...]

    def __str__(self) -> str:
        came = f"{_mb(self.fetched_bytes)} from {' and '.join(self.sources)}"
        return f"{self.asset} is here: {_mb(self.size)}, {came if self.sources else 'all local'}"


@dataclass(frozen=True)
class Repaired:
    """A damaged file is right again."""

    asset: str
    sha256: str
    chunks: int
    """That were damaged."""
    all_chunks: int
    wanted_bytes: int
    """In them."""
    fetched_bytes: int
    sources: tuple[str, ...]
    whole: bool
    """Whether the whole file had to pass by, because its source gives no parts of it."""

    def __str__(self) -> str:
        said = f"{self.asset} is repaired: {self.chunks} of {self.all_chunks} chunks were damaged"
        if not self.chunks:
            return f"{self.asset} is repaired: memory still had what the disk had spoiled"
        if not self.sources:
            return f"{said}, and other local files had them"
        places = " and ".join(self.sources)
        if self.whole:
            return (
                f"{said} ({_mb(self.wanted_bytes)}); {places} gives no parts of a file, so all "
                f"{_mb(self.fetched_bytes)} were read for them"
            )
        return f"{said}; {_mb(self.fetched_bytes)} came from {places}"


@dataclass(frozen=True)
class FellBack:
    """An asset could not be had, and its fallback is used in its place."""

    asset: str
    fallback: str
    reason: str

    def __str__(self) -> str:
        return f"{self.fallback} is used in place of {self.asset}: {self.reason}"


@dataclass(frozen=True)
class SourceFailed:
    """One source could not deliver; the next one, if any, is tried."""

    asset: str
    kind: str
    error: NoyauError

    def __str__(self) -> str:
        return f"{self.asset} did not come by {self.kind}: {self.error}"


@dataclass(frozen=True)
class SourceTriedAgain:
    """A source broke off, and is asked again after a while."""

    asset: str
    source: str
    delay_s: float
    reason: str

    def __str__(self) -> str:
        return f"{self.asset}: {self.reason}; again in {self.delay_s:.0f} s"


@dataclass(frozen=True)
class UpdateWaits:
    """A file of an update is not in its place yet; it is put there where it is next asked for."""

    asset: str
    reason: str

    def __str__(self) -> str:
        return f"the new version of {self.asset} is not in use yet: {self.reason}"


@dataclass(frozen=True)
class Dropped:
    """A file that is here is in no list any more: nobody is given it."""

    asset: str
    path: Path

    def __str__(self) -> str:
        return (
            f"the publisher has {self.asset} no more, so it is not in use: {self.path} stays until "
            "noyau assets gc; to go on with it, add it as a file of your own (noyau assets add)"
        )


@dataclass(frozen=True)
class ListDamaged:
    """One of the lists in the asset folder cannot be read; what is right is in force."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class ProofNotKept:
    """A file was verified, but that could not be written down; it will be hashed again."""

    asset: str
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.asset} is right, and is read once more before its next use, because that could "
            f"not be written down: {self.reason}"
        )


@dataclass(frozen=True)
class LeftoverStays:
    """A dead run's leftover could not be removed; the next install tries again."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}, which nobody needs, could not be removed yet: {self.reason}"


StoreEvent = (
    Quarantined
    | Installed
    | Repaired
    | FellBack
    | SourceFailed
    | SourceTriedAgain
    | UpdateWaits
    | Dropped
    | ListDamaged
    | ProofNotKept
    | LeftoverStays
)

Observe = Callable[[StoreEvent], None]
"""Called from a thread that works; must be quick and must not raise."""


def _mb(size: int) -> str:
    """A size for people: megabytes, or kilobytes where it is small."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
