"""Where the tensors of a GGUF file lie, read out of its header with no trust in it.

    magic, version, counts │ key, type, value │ … │ name, dimensions, type, offset │ … │ data

Of a tensor only its beginning counts: it reaches to where the next one begins, or the file ends.
Its size would follow from its type, but then a client that does not know a new type yet would cut
the same file in another way. The padding behind a tensor is so part of it. Pure.

The format: docs/gguf.md of ggml, versions 2 and 3 in little endian.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Final

from actors.storage.chunking.layout import MOST_TENSORS, Layout, NoLayout, Span
from actors.storage.chunking.regions import Read

MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_ALIGNMENT_KEY: Final = b"general.alignment"
_DEFAULT_ALIGNMENT: Final = 32
_UINT32, _STRING, _ARRAY = 4, 8, 9
_WIDTHS: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of the value types that have a fixed size."""

_LENGTH_BYTES: Final = {_STRING: 8, _ARRAY: 12}
"""What stands before the bytes of a string, and before the items of an array."""
LONG_VALUE: Final = 4 << 10
"""Bytes from which on a value is a part by itself: the lists of a vocabulary, a chat template."""

MOST_HEADER: Final = 64 << 20
"""Bytes. With the largest vocabularies in use it is some 20 MB."""
MOST_ITEMS: Final = 1 << 21
"""Keys, strings, arrays and tensors together: two seconds of reading. A vocabulary of 256,000
tokens with its merges has 800,000."""
MOST_DEPTH: Final = 8
"""Of arrays in arrays."""
_WINDOW: Final = 1 << 18

_uint64_at = struct.Struct("<Q").unpack_from


def gguf_layout(read: Read, size: int) -> Layout:
    """The layout of the GGUF file. Raises ``NoLayout`` that says what speaks against it."""
    header = _Header(read, size)
    if header.take(4) != MAGIC:
        raise NoLayout("no GGUF file: it does not begin with GGUF")
    version = header.uint32()
    if version not in _VERSIONS:
        raise NoLayout(f"GGUF of version {version:#x}, which may be one in big endian")
    tensors, keys = header.uint64(), header.uint64()
    header.count(tensors + keys)
    if tensors > MOST_TENSORS:
        raise NoLayout(f"a header of {tensors} tensors")
    alignment = _DEFAULT_ALIGNMENT
    parts: list[int] = []
    for _ in range(keys):
        alignment = _key(header, parts) or alignment
    parts.append(header.at)
    offsets = {_tensor(header) for _ in range(tensors)}
    parts.append(header.at)  # what follows is padding, which an insertion makes longer or shorter
    data = -(-header.at // alignment) * alignment
    spans = _spans(sorted(data + offset for offset in offsets), size)
    return Layout(data, tuple(parts), spans)


def _key(header: _Header, parts: list[int]) -> int | None:
    """Go past a key and its value, noting where a long one lies; the value of the alignment's."""
    name = header.name()
    kind = header.uint32()
    if name != _ALIGNMENT_KEY:
        begin = header.at + _LENGTH_BYTES.get(kind, 0)
        _skip_values(header, kind, 1, MOST_DEPTH)
        if header.at - begin >= LONG_VALUE:
            parts += begin, header.at
        return None
    alignment = header.uint32() if kind == _UINT32 else 0
    if not alignment:
        raise NoLayout("an alignment that is 0 or no uint32")
    return alignment


def _skip_values(header: _Header, kind: int, count: int, depth: int) -> None:
    if kind in _WIDTHS:
        header.skip(_WIDTHS[kind] * count)
    elif kind == _STRING:
        header.skip_strings(count)
    elif kind == _ARRAY:
        if not depth:
            raise NoLayout(f"arrays in more than {MOST_DEPTH} arrays")
        header.count(count)
        for _ in range(count):
            _skip_values(header, header.uint32(), header.uint64(), depth - 1)
    else:
        raise NoLayout(f"a value of the unknown type {kind}")


def _tensor(header: _Header) -> int:
    """Go past what is said of a tensor; bytes from the beginning of the data to its own."""
    header.name()
    dimensions = header.uint32()
    header.skip(8 * dimensions + 4)
    return header.uint64()


def _spans(starts: list[int], size: int) -> tuple[Span, ...]:
    if starts and starts[-1] > size:
        raise NoLayout(f"a tensor at byte {starts[-1]} of {size}")
    spans = tuple(Span(at, end - at) for at, end in pairwise([*starts, size]) if end > at)
    if not spans:
        raise NoLayout("a GGUF file without tensors")
    return spans


class _Header:
    """A place in a header that moves forward only, through a window of the file."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._limit = min(size, MOST_HEADER)
        self._window = b""
        self._base = 0
        self._items = 0
        self.at = 0
        """Bytes from the file's beginning."""

    def count(self, items: int) -> None:
        """Refuse what would take too long, before it is begun."""
        self._items += items
        if self._items > MOST_ITEMS:
            raise NoLayout(f"a header of more than {MOST_ITEMS} items")

    def take(self, count: int) -> bytes:
        """The next few bytes."""
        begin = self._reach(count)
        self.at += count
        return self._window[begin : begin + count]

    def skip(self, count: int) -> None:
        """Go past any number of bytes."""
        self.at += count
        self._check(self.at)

    def uint32(self) -> int:
        """The next four bytes as a number."""
        return int.from_bytes(self.take(4), "little")

    def uint64(self) -> int:
        """The next eight bytes as a number."""
        return int.from_bytes(self.take(8), "little")

    def name(self) -> bytes:
        """The next string, or nothing of one that is too long for any name that matters."""
        length = self.uint64()
        if length == len(_ALIGNMENT_KEY):
            return self.take(length)
        self.skip(length)
        return b""

    def skip_strings(self, count: int) -> None:
        """Go past so many strings, each its length and its bytes."""
        self.count(count)
        for _ in range(count):
            begin = self._reach(8)  # which may move the window
            self.at += 8 + _uint64_at(self._window, begin)[0]
        self._check(self.at)

    def _reach(self, count: int) -> int:
        """Where in the window the next ``count`` bytes begin, having moved it there."""
        begin = self.at - self._base
        if begin + count > len(self._window):
            self._check(self.at + count)
            self._base, begin = self.at, 0
            self._window = bytes(self._read(self.at, min(_WINDOW, self._limit - self.at)))
        return begin

    def _check(self, end: int) -> None:
        if end > self._limit:
            raise NoLayout(f"a header that goes on past byte {self._limit}")
