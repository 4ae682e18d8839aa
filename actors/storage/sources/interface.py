"""What a source of assets must promise, and the values that pass between it and who fetches.

A source knows how to bring bytes from one kind of place; it decides nothing about trust. Hashing,
retrying, publishing and cleaning up are the store's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from protocol.errors import AssetUnavailable

Stage = Literal["downloading", "unpacking", "verifying", "repairing"]
PIECE_BYTES = 1 << 20
"""The most that a source hands over at once."""


@dataclass(frozen=True)
class Progress:
    """How far one stage of an install is. Bytes of the wheel or file that the stage handles."""

    asset: str
    stage: Stage
    done_bytes: int
    total_bytes: int
    done_chunks: int = 0
    total_chunks: int = 0
    """Chunks of the file that the stage handles; 0 where it does not go by chunks."""


Report = Callable[[Progress], None]
Cancelled = Callable[[], bool]


class NotThere(AssetUnavailable):
    """The place answers, and has no such thing, or not for us: asking it again cannot help."""


class NoRanges(AssetUnavailable):
    """The place hands this file over from its beginning to its end, and in no other way."""


class SourceSpec(BaseModel):
    """One entry under a file's ``sources``: a kind, and the fields that kind needs."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True
    )

    kind: str

    def where(self) -> str:
        """What people call this place: for logs and errors."""
        raise NotImplementedError


class Versions:
    """Which version of the file each place hands over, as it names it itself. Thread-safe.

    Stretches of two versions would make a chunk that never was. Its hash shows that too, but only
    after all of it has come, and without a word about the reason.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, dict[str, str]] = {}

    def changed(self, place: str, version: Mapping[str, str]) -> str | None:
        """The name of what differs from all that ``place`` said of its version so far; None where
        nothing does. What it leaves unsaid this time says nothing."""
        with self._lock:
            seen = self._seen.setdefault(place, {})
            for name, value in version.items():
                if seen.setdefault(name, value) != value:
                    return name
        return None


@dataclass(frozen=True)
class Order:
    """What is wanted: which asset, how many bytes it has as a whole, who watches.

    All that is read with one order is of one version: what goes on where another reading broke
    off, in the middle of what has one hash, is read with the same. So sources remember nothing.

    ``scratch`` is an absolute path of an empty folder on the asset folder's file system.
    """

    asset: str
    size: int
    scratch: Path
    report: Report
    cancelled: Cancelled
    versions: Versions = field(default_factory=Versions, compare=False)


SpecT_contra = TypeVar("SpecT_contra", bound=SourceSpec, contravariant=True)


class Source(Protocol[SpecT_contra]):
    """Brings bytes from one kind of place. Every implementation runs the same contract suite.

    *Blocking:* yes, for minutes; call it from a thread. It never waits without a bound: when
    nothing moves for the time it was configured with, it gives up.
    *Shared state:* none that can be seen. One object serves any number of threads.
    *Idempotent:* yes. After any failure the same call with an empty scratch folder starts anew.
    Unless it says that it retries itself it tries once: whoever calls it decides about more.
    *Disk:* it writes below ``order.scratch``, and nowhere else.
    *Trust:* it hands over exactly the bytes that were asked for or raises, and never more even
    when the place promises otherwise. It checks no hash: the store does.
    """

    ranged: bool
    """Whether reading may begin and end anywhere. If not, it is asked for the whole file alone."""
    retries_itself: bool
    """Whether it has tried again by itself, and more than once, before it gives up."""

    def space_needed(self, spec: SpecT_contra, size: int) -> int:
        """Most bytes that lie in the scratch folder at one moment of reading a file of ``size``."""
        ...

    def read(
        self, spec: SpecT_contra, offset: int, size: int, order: Order
    ) -> Generator[bytes, None, None]:
        """The ``size`` bytes that begin at ``offset``, in pieces of at most `PIECE_BYTES`.

        Whoever stops early closes the generator, and what it holds (a connection, a child
        process) is given back then. ``order.cancelled`` is asked at least four
        times a second; once it says yes, ``Cancelled`` is raised, and no child process is left by
        then (nor after any other failure). A source that has work to do before the first byte
        tells of it through ``order.report``, from the calling thread.

        Raises:
            AssetUnavailable: nothing came, or too little: no network, a stall, an overloaded
                server. ``retry_after_s`` in its details where the place said when to come back.
            NotThere: it cannot come from here however often one asks.
            NoRanges: only the whole file can be had from here.
            AssetCorrupt: something came, and it cannot be what was asked for.
            MissingDependency: a program or library that this kind needs is not installed.
            Cancelled: as asked.
            OSError: the local disk failed; ENOSPC becomes ``DiskFull`` in the store.
        """
        ...
