"""Where the tensors of a safetensors file lie, read out of its header with no trust in it.

    8 bytes: the header's length │ JSON: {name: {"data_offsets": [begin, end], …}, …} │ data

Pure. The format: the README of the safetensors library.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import msgspec

from actors.storage.chunking.layout import MOST_TENSORS, Layout, NoLayout, Span
from actors.storage.chunking.regions import Read

MOST_HEADER: Final = 16 << 20
"""Bytes of JSON, which is 140,000 tensors; decoding it takes up to some 200 MB for a moment."""
_LENGTH_BYTES: Final = 8


class _Entry(msgspec.Struct, gc=False):
    """Of a tensor only where its data lies, from the beginning of all data. What is not named
    here is skipped without building anything of it."""

    data_offsets: tuple[int, int] | None = None
    """None for ``__metadata__``, which is no tensor."""


_decoder = msgspec.json.Decoder(dict[str, _Entry])


def safetensors_layout(read: Read, size: int) -> Layout:
    """The layout of the safetensors file. Raises ``NoLayout`` that says what speaks against it."""
    if size < _LENGTH_BYTES + 2:
        raise NoLayout("no safetensors file: too small")
    length = int.from_bytes(read(0, _LENGTH_BYTES), "little")
    if length > min(MOST_HEADER, size - _LENGTH_BYTES) or bytes(read(_LENGTH_BYTES, 1)) != b"{":
        raise NoLayout("no safetensors file: it does not begin with a length and JSON")
    try:
        entries = _decoder.decode(read(_LENGTH_BYTES, length))
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise NoLayout(f"a safetensors file with a wrong header: {error}") from error
    data = _LENGTH_BYTES + length
    if len(entries) > MOST_TENSORS:
        raise NoLayout(f"a header of {len(entries)} tensors")
    ranges = [entry.data_offsets for entry in entries.values() if entry.data_offsets]
    return Layout(data, (), _spans(ranges, data, size))


def _spans(ranges: list[tuple[int, int]], data: int, size: int) -> tuple[Span, ...]:
    ranges = sorted({(begin, end) for begin, end in ranges if begin != end})
    if not ranges:
        raise NoLayout("a safetensors file without tensors")
    if any(begin > end for begin, end in ranges):
        raise NoLayout("a tensor that ends before it begins")
    if ranges[0][0] < 0 or data + max(end for _, end in ranges) > size:
        raise NoLayout("a tensor outside of the file")
    if any(end > begin for (_, end), (begin, _) in pairwise(ranges)):
        raise NoLayout("two tensors in one place")
    return tuple(Span(data + begin, end - begin) for begin, end in ranges)
