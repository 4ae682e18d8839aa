"""What a source of assets must promise, and the values that pass between it and the store.

A source knows how to bring bytes from one kind of place; it decides nothing about trust. Hashing,
publishing and cleaning up are the store's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

Stage = Literal["downloading", "unpacking", "verifying"]


@dataclass(frozen=True)
class Progress:
    """How far one stage of an install is. Bytes of the wheel or file that the stage handles."""

    asset: str
    stage: Stage
    done_bytes: int
    total_bytes: int


Report = Callable[[Progress], None]
Cancelled = Callable[[], bool]


class SourceSpec(BaseModel):
    """One entry under an asset's ``sources``: a kind, and the fields that kind needs."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: str


class Sink(Protocol):
    """Where the asset's bytes go: an open file, or something that counts and hashes on the way."""

    def write(self, piece: bytes, /) -> int:
        """Take all of ``piece``. Raises ``OSError``, or ``AssetCorrupt`` past the size."""
        ...


@dataclass(frozen=True)
class Order:
    """One delivery: which asset, how many bytes it has, where they go, who watches.

    ``scratch`` is an absolute path.
    """

    asset: str
    size: int
    into: Sink
    scratch: Path
    report: Report
    cancelled: Cancelled


SpecT_contra = TypeVar("SpecT_contra", bound=SourceSpec, contravariant=True)


class Source(Protocol[SpecT_contra]):
    """Brings assets from one kind of place. Every implementation runs the same contract suite.

    *Blocking:* yes, for minutes; call it from a thread. It never waits without a bound: when
    nothing moves for the time it was configured with, it gives up.
    *Shared state:* none. One object serves any number of threads, each with its own order.
    *Idempotent:* yes. After any failure the same call with an empty scratch folder and an empty
    sink starts from the beginning.
    *Disk:* it writes into ``order.into`` and below ``order.scratch``, an empty folder on the
    asset folder's file system, and nowhere else. The store empties the scratch folder.
    *Trust:* it hands over exactly ``order.size`` bytes or raises, and never more than that even
    when the place it asks promises otherwise. It checks no hash: the store does.
    """

    def space_needed(self, spec: SpecT_contra, size: int) -> int:
        """Most bytes that lie on the disk at one moment of a ``fetch``, the asset included."""
        ...

    def fetch(self, spec: SpecT_contra, order: Order) -> None:
        """Write the asset's bytes into ``order.into``.

        ``order.report`` is called from the calling thread, several times a second while bytes
        move; ``done_bytes`` never shrinks within a stage. ``order.cancelled`` is asked at least
        four times a second; once it says yes, ``Cancelled`` is raised, and no child process is
        left by then (nor after any other failure).

        Raises:
            AssetUnavailable: nothing came: no network, no such thing there, a stall.
            AssetCorrupt: something came, and it cannot be the asset.
            MissingDependency: a program or library that this kind needs is not installed.
            Cancelled: as asked.
            OSError: the local disk failed; ENOSPC becomes ``DiskFull`` in the store.
        """
        ...
