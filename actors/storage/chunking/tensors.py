"""Cutting a file of tensors: each tensor by itself, from its own beginning on.

    header                   │ tensor             │ tensor       │ … │ what follows the last one
    by content, small pieces │ piece, piece, rest │ piece, rest  │ … │ by content

So a tensor that did not change is found wherever it lies now, whatever was inserted, appended,
resized or moved before it. A tensor always begins a piece, also a small one: joined with its
neighbours it would change whenever they do, and small ones are few (61 of the 1,878 pieces of the
default model). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from actors.storage.chunking.gguf_header import MAGIC, gguf_layout
from actors.storage.chunking.layout import Layout, NoLayout
from actors.storage.chunking.regions import Read, Region
from actors.storage.chunking.safetensors_header import safetensors_layout

_HEADER_SHARE: Final = 8
_HEADER_LEAST, _HEADER_MOST = 4 << 10, 64 << 10


def layout_of(read: Read, size: int) -> Layout:
    """Where the tensors of a GGUF or safetensors file lie.

    Reads the header alone, and of that no more than 64 MiB, in at most a few seconds whatever it
    says. Raises ``NoLayout`` for any other file, and what ``read`` raises.
    """
    if size >= len(MAGIC) and bytes(read(0, len(MAGIC))) == MAGIC:
        return gguf_layout(read, size)
    return safetensors_layout(read, size)


def header_average(piece: int) -> int:
    """Bytes of a header's pieces on average, in a file whose tensors are cut to ``piece``.

    Smaller, because what changes in a header is small: a key, a template, the list of tensors.
    """
    return min(max(piece // _HEADER_SHARE, _HEADER_LEAST), _HEADER_MOST)


def tensor_regions(layout: Layout, size: int, piece: int) -> Iterator[Region]:
    """The regions of a file of ``size`` bytes, in order and without gaps."""
    small = header_average(piece)
    for begin, part_end in pairwise((0, *layout.parts, layout.header)):
        yield from _between(begin, part_end, small)
    end = layout.header
    for span in layout.spans:
        yield from _between(end, span.offset, piece)
        yield Region(span.offset, span.size, piece, by_content=False)
        end = span.offset + span.size
    yield from _between(end, size, piece)


def _between(begin: int, end: int, average: int) -> Iterator[Region]:
    if end > begin:
        yield Region(begin, end - begin, average, by_content=True)


__all__ = ["Layout", "NoLayout", "header_average", "layout_of", "tensor_regions"]
