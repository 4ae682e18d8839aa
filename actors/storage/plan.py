"""The one plan for install, resume, repair and update: what to keep, what to copy, what to fetch.

    what is wanted (chunks by hash) × what is there (hashes found in local files)

    chunk lies right in the new file already ──► kept
    some local file has its bytes ──────────────► copied
    a chunk fetched for another offset has them ► repeated, once that one is there
    else ───────────────────────────────────────► fetched, neighbours in one request

An install finds nothing, a resume finds the kept ones in the file it had begun, a repair finds all
but the damaged ones in the damaged file, an update finds most in the version before. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from actors.storage.manifest import Chunk, Patch

MOST_STRETCH_BYTES: Final = 16 << 20
"""Of one request: several connections share a large file, and each asks rarely."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where the bytes of a chunk lie: ``place`` is an index of the local files, ``offset`` bytes
    from that file's beginning."""

    place: int
    offset: int


@dataclass(frozen=True, slots=True)
class Copy:
    """A chunk whose bytes are taken from a local file."""

    chunk: Chunk
    found: Found


@dataclass(frozen=True, slots=True)
class Repeat:
    """A chunk with the same bytes as another one of the file, which is there by then."""

    chunk: Chunk
    offset: int
    """Of the other one."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Chunks that lie side by side, fetched by one request."""

    chunks: tuple[Chunk, ...]

    @property
    def offset(self) -> int:
        """Of its first byte."""
        return self.chunks[0].offset

    @property
    def size(self) -> int:
        """Bytes."""
        last = self.chunks[-1]
        return last.offset + last.size - self.offset


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for one file, in this order."""

    kept: tuple[Chunk, ...]
    copied: tuple[Copy, ...]
    fetched: tuple[Stretch, ...]
    repeated: tuple[Repeat, ...]

    @property
    def fetched_bytes(self) -> int:
        """What has to come from a source that takes ranges."""
        return sum(stretch.size for stretch in self.fetched)

    @property
    def fetched_chunks(self) -> int:
        """Chunks among them."""
        return sum(len(stretch.chunks) for stretch in self.fetched)

    @property
    def local_bytes(self) -> int:
        """What is here already."""
        return sum(chunk.size for chunk in self.kept) + sum(copy.chunk.size for copy in self.copied)


def make_plan(
    chunks: Sequence[Chunk],
    in_place: Set[int],
    found: Mapping[str, Found],
    most_stretch_bytes: int = MOST_STRETCH_BYTES,
) -> Plan:
    """Args:
    chunks: what is wanted, in the order of their offsets.
    in_place: indexes of those that lie right in the new file already.
    found: by hash, where else their bytes lie.
    most_stretch_bytes: of one request; a larger chunk is a request of its own.
    """
    kept: list[Chunk] = []
    copied: list[Copy] = []
    repeated: list[Repeat] = []
    missing: list[Chunk] = []
    first: dict[str, int] = {}
    for index, chunk in enumerate(chunks):
        if index in in_place:
            kept.append(chunk)
            first.setdefault(chunk.hash, chunk.offset)
    for index, chunk in enumerate(chunks):
        if index in in_place:
            continue
        if chunk.hash in first:
            repeated.append(Repeat(chunk, first[chunk.hash]))
        elif chunk.hash in found:
            copied.append(Copy(chunk, found[chunk.hash]))
        else:
            missing.append(chunk)
            first[chunk.hash] = chunk.offset
    return Plan(
        tuple(kept), tuple(copied), tuple(_stretches(missing, most_stretch_bytes)), tuple(repeated)
    )


def choose_patch(patches: Sequence[Patch], here: Set[str], fetched_bytes: int) -> Patch | None:
    """The smallest patch for a version that is here, if it is less than what is fetched without.

    Args:
        here: whole hashes of the versions that lie here, as the manifest writes them.
        fetched_bytes: what the chunks that are missing come to.
    """
    usable = [patch for patch in patches if patch.from_hash in here and patch.size < fetched_bytes]
    return min(usable, key=lambda patch: patch.size, default=None)


def _stretches(missing: Sequence[Chunk], most: int) -> list[Stretch]:
    """Neighbours together, up to ``most`` bytes."""
    stretches: list[list[Chunk]] = []
    size = 0
    for chunk in missing:
        end = stretches[-1][-1].offset + stretches[-1][-1].size if stretches else -1
        if chunk.offset == end and size + chunk.size <= most:
            stretches[-1].append(chunk)
            size += chunk.size
        else:
            stretches.append([chunk])
            size = chunk.size
    return [Stretch(tuple(stretch)) for stretch in stretches]
