"""Hashes of a file's pieces where its manifest names none: made here, once the file is proved.

With them damage is found at blake3's speed and told by the piece, and a repair takes no more than
the damaged ones. They prove nothing of where the file came from: the manifest's whole hash does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from actors.storage.digests import digest_of
from actors.storage.layout import Layout
from actors.storage.manifest import Asset, Chunk
from actors.storage.publishing import publish_bytes, read_own

PIECE_BYTES: Final = 1 << 20


class _Index(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    piece_bytes: int
    size: int
    hashes: list[str]
    check: str
    """blake3 over the rest: the disk that spoils a model may spoil this."""


def whole_chunk(asset: Asset) -> tuple[Chunk, ...]:
    """A file without chunks as one."""
    return (Chunk(offset=0, size=asset.size, hash=asset.hash),)


def chunks_for(layout: Layout, asset: Asset) -> tuple[Chunk, ...]:
    """The manifest's chunks, or those made here, or the whole file as one."""
    if asset.chunks:
        return asset.chunks
    return read_index(layout, asset) or whole_chunk(asset)


def chunks_are_known(layout: Layout, asset: Asset) -> bool:
    """Whether there are hashes of the file's pieces: a look, and no proof that they can be read."""
    return bool(asset.chunks) or _path(layout, asset).is_file()


def read_index(layout: Layout, asset: Asset) -> tuple[Chunk, ...]:
    """What `write_index` wrote; empty where there is none, or it is damaged itself."""
    try:
        index = _Index.model_validate_json(read_own(_path(layout, asset)) or b"")
    except ValidationError:
        return ()
    count = -(-asset.size // PIECE_BYTES)
    shape = (index.size, index.piece_bytes, len(index.hashes))
    if shape != (asset.size, PIECE_BYTES, count) or index.check != _check(index.hashes):
        return ()
    return tuple(
        Chunk(
            offset=number * PIECE_BYTES,
            size=min(PIECE_BYTES, asset.size - number * PIECE_BYTES),
            hash=hash_,
        )
        for number, hash_ in enumerate(index.hashes)
    )


def write_index(layout: Layout, asset: Asset, hashes: Sequence[str]) -> None:
    """``hashes``: one of each `PIECE_BYTES` of the file, in their order."""
    index = _Index(
        piece_bytes=PIECE_BYTES, size=asset.size, hashes=list(hashes), check=_check(hashes)
    )
    publish_bytes(index.model_dump_json().encode(), _path(layout, asset))


def _check(hashes: Sequence[str]) -> str:
    return digest_of(json.dumps(list(hashes)).encode(), "blake3")


def _path(layout: Layout, asset: Asset) -> Path:
    return layout.index / f"{asset.sha256}.json"
