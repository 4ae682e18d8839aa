"""Sources of assets for tests: files, read as they are or with faults, and counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

from actors.storage.digests import digest_of
from actors.storage.manifest import Asset, Chunk, Chunking
from actors.storage.sources import FileSource, FileSpec, Order
from protocol.errors import AssetUnavailable

Fault = Callable[[bytes, int], bytes]
"""Given a piece and its offset in the file, what comes of it; may raise."""


class CountedSource:
    """A `FileSource` that counts, and on which ``fault`` may be set."""

    retries_itself = False

    def __init__(self, *, ranged: bool = True) -> None:
        self.ranged = ranged
        self.bytes = 0
        self.reads: list[tuple[str, int, int]] = []
        """Of what, from which offset on, how many bytes were asked for."""
        self.fault: Fault | None = None
        self._files = FileSource()
        self._lock = threading.Lock()

    def space_needed(self, spec: FileSpec, size: int) -> int:
        return 0

    def read(
        self, spec: FileSpec, offset: int, size: int, order: Order
    ) -> Generator[bytes, None, None]:
        with self._lock:
            self.reads.append((spec.path, offset, size))
        at = offset
        for piece in self._files.read(spec, offset, size, order):
            given = self.fault(piece, at) if self.fault is not None else piece
            at += len(piece)
            with self._lock:
                self.bytes += len(given)
            yield given


def cut_at(byte: int, times: int = 1) -> Fault:
    """The connection is cut before the piece with this byte of the file, so many times."""
    left = [times]

    def fault(piece: bytes, offset: int) -> bytes:
        if left[0] and offset <= byte < offset + len(piece):
            left[0] -= 1
            raise AssetUnavailable(f"cut before byte {byte}")
        return piece

    return fault


def flip_at(byte: int) -> Fault:
    """A bit of this byte of the file comes flipped."""

    def fault(piece: bytes, offset: int) -> bytes:
        if offset <= byte < offset + len(piece):
            changed = bytearray(piece)
            changed[byte - offset] ^= 1
            return bytes(changed)
        return piece

    return fault


def chunked(data: bytes, size: int, algorithm: str = "blake3") -> tuple[Chunk, ...]:
    """Chunks of one size."""
    pieces = [(at, data[at : at + size]) for at in range(0, len(data), size)]
    return tuple(
        Chunk(offset=at, size=len(piece), hash=digest_of(piece, algorithm)) for at, piece in pieces
    )


def asset_of(
    data: bytes, *sources: FileSpec, name: str = "tiny", chunk_bytes: int = 0, **more: object
) -> Asset:
    """An asset with these bytes; 0 chunk bytes: a file without chunks."""
    fields: dict[str, object] = {
        "name": name, "path": f"models/{name}.bin", "size": len(data),
        "hash": digest_of(data, "sha256"), "sources": sources,
    }  # fmt: skip
    if chunk_bytes:
        fields |= {
            "chunks": chunked(data, chunk_bytes),
            "chunking": Chunking(method="fixed", piece=chunk_bytes),
        }
    return Asset.model_validate(fields | more)
