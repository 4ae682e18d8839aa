"""What an update of a model file costs to fetch: by the size of pieces, and by other ways.

``python -m benchmarks.updates [--quick] [MODEL.gguf]``. Of each edit in `benchmarks.gguf_edits`:
the pieces that the old file does not have, plus the list of all pieces, in KB. Nothing is timed.

A flipped byte costs a whole piece, whatever the size of pieces: the one edit that needs a patch.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from actors.storage.chunking import best_chunking, chunks_of
from actors.storage.manifest import Chunk, Chunking
from actors.storage.patches import make_patch
from benchmarks.gguf_edits import Edit, edits
from benchmarks.gguf_model import read, synthetic
from benchmarks.harness import Figure, parse_arguments, progress, show_figures, show_table

PIECES = tuple(kib << 10 for kib in (32, 64, 128, 256, 512))


@dataclass(frozen=True)
class Cost:
    """Bytes that whoever has the old file fetches for the new one."""

    pieces: int
    """Of chunks that are not in the old file."""
    index: int
    """Of the list of chunks in the manifest, as JSON without blanks."""

    @property
    def total(self) -> int:
        """Bytes of both."""
        return self.pieces + self.index


def cost_of(edit: Edit, chunking: Chunking) -> Cost:
    """What the edit costs if both versions are cut so."""
    have = {chunk.hash for chunk in chunks_of(edit.old, chunking)}
    new = chunks_of(edit.new, chunking)
    missing = {chunk.hash: chunk.size for chunk in new if chunk.hash not in have}
    return Cost(sum(missing.values()), index_bytes(new))


def index_bytes(chunks: tuple[Chunk, ...]) -> int:
    """Bytes of the list of chunks in a manifest, written without blanks: some 114 for each."""
    return len(json.dumps([chunk.model_dump() for chunk in chunks], separators=(",", ":")))


def ratio(edit: Edit, cost: Cost) -> float:
    """What is fetched, by what has to be: the changed bytes and the list of chunks."""
    return cost.total / (edit.changed_bytes + cost.index)


class _Counting:
    """A sink that keeps nothing."""

    def write(self, piece: bytes, /) -> None:
        """Let it go."""


def report(made: Mapping[str, Edit], reach: str | None) -> None:
    """Print what each edit costs in each way. ``reach``: see `Figure`, of the ratios."""
    ways = {f"{piece >> 10} KiB": Chunking(method="tensors", piece=piece) for piece in PIECES}
    ways["content"] = Chunking(method="content", piece=64 << 10)
    ways["fixed 32 MiB"] = Chunking(method="fixed", piece=32 << 20)
    rows, figures = [], {}
    for name, edit in made.items():
        progress(name)
        costs = [cost_of(edit, way) for way in ways.values()]
        size = edit.new.stat().st_size
        chosen = ratio(edit, cost_of(edit, best_chunking(edit.new, size)))
        figures[f"fetched_{name.replace(' ', '_')}"] = Figure(
            chosen, "× changed + index", None if name == "byte flipped" else reach
        )
        patch = make_patch(edit.old, edit.new, _Counting())
        amounts = [edit.changed_bytes, *(cost.total for cost in costs), size, patch]
        rows.append([name, *(f"{amount / 1000:,.1f}" for amount in amounts)])
    show_table(["KB fetched", "changed", *ways, "whole", "zstd patch"], rows)
    show_figures("updates", figures)


def main() -> None:
    """Make the edits of a synthetic model, or the one that is named, and report."""
    given = sys.argv[1:]
    model = Path(given.pop()) if given and given[-1].endswith(".gguf") else None
    options = parse_arguments(__doc__, runs=1, quick_runs=1, arguments=given)
    with tempfile.TemporaryDirectory(prefix="noyau-") as folder:
        of = read(model) if model else synthetic(64 << 20 if options.quick else 256 << 20)
        report(edits(Path(folder), of), None if options.quick or model else "<= 1.1")


if __name__ == "__main__":
    main()
