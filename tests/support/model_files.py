"""GGUF and safetensors files made byte by byte, so that a test can also make wrong ones."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence

UINT8, UINT32, STRING, ARRAY = 0, 4, 8, 9


def noise(name: str, size: int) -> bytes:
    """The same bytes for the same name, which look like random ones."""
    return hashlib.shake_128(name.encode()).digest(size)


def text(value: bytes | str) -> bytes:
    """A GGUF string."""
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def strings(values: Sequence[str]) -> bytes:
    """The bytes of a GGUF array of strings."""
    return struct.pack("<IQ", STRING, len(values)) + b"".join(map(text, values))


def gguf_header(
    keys: Sequence[tuple[str, int, bytes]],
    offsets: Sequence[tuple[str, int]],
    *,
    version: int = 3,
) -> bytes:
    """A header of keys (name, type, bytes of the value) and tensors (name, offset)."""
    header = b"GGUF" + struct.pack("<IQQ", version, len(offsets), len(keys))
    for name, kind, value in keys:
        header += text(name) + struct.pack("<I", kind) + value
    for name, offset in offsets:
        header += text(name) + struct.pack("<IQIQ", 1, 32, 0, offset)
    return header


def gguf_file(
    tensors: Mapping[str, bytes],
    keys: Sequence[tuple[str, int, bytes]] = (),
    *,
    alignment: int = 32,
    version: int = 3,
) -> bytes:
    """A whole file, with padding as the format wants it."""
    if alignment != 32:
        keys = [*keys, ("general.alignment", UINT32, struct.pack("<I", alignment))]
    offsets, data = [], b""
    for name, raw in tensors.items():
        offsets.append((name, len(data)))
        data += padded(raw, alignment)
    return padded(gguf_header(keys, offsets, version=version), alignment) + data


def padded(raw: bytes, alignment: int) -> bytes:
    """``raw`` with zeros behind it up to a multiple of ``alignment``."""
    return raw + bytes(-len(raw) % alignment)


def safetensors_file(tensors: Mapping[str, bytes], **metadata: str) -> bytes:
    """A whole file of tensors that lie one behind the other."""
    entries: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, raw in tensors.items():
        entries[name] = {"dtype": "U8", "shape": [len(raw)], "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    return with_json(json.dumps(entries).encode(), b"".join(tensors.values()))


def with_json(header: bytes, data: bytes) -> bytes:
    """A safetensors file with any text as its header."""
    return struct.pack("<Q", len(header)) + header + data
