"""Large byte strings: they travel beside the frame that speaks of them, and nobody copies them.

In a body, a blob of `OWN_PART_BYTES` or more is an extension of msgpack's, `EXTENSION`, whose one
byte says which of the parts behind the frame it is, from 0; a smaller one is a byte string like any
other. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

OWN_PART_BYTES = 64 * 1024
"""Below that, one more part of a message costs more than copying does."""
MOST_BLOBS = 16
"""Beside one frame."""
EXTENSION = 1
"""The code of msgpack's extension type."""


class Blob:
    """Bytes in a message that may be large. What came over the wire is a view into the message."""

    __slots__ = ("view",)

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        """``data`` is copied where it is a bytearray, which could change."""
        self.view = memoryview(bytes(data) if type(data) is bytearray else data)

    def __len__(self) -> int:
        return self.view.nbytes

    def __bytes__(self) -> bytes:
        return self.view.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and self.view == other.view

    def __hash__(self) -> int:
        return hash(bytes(self))

    def __repr__(self) -> str:
        return f"<{len(self):,} bytes>"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _blob, serialization=core_schema.plain_serializer_function_ser_schema(bytes)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"x-msgpack": "blob"}


def _blob(value: object) -> Blob:
    if type(value) is bytes:
        return Blob(value)
    if isinstance(value, Blob):
        return value
    raise ValueError("a byte string is wanted")


class Loaded(bytes):
    """A frame that has blobs beside it; as bytes it is the frame alone."""

    blobs: Sequence[memoryview] = ()
    total: int = 0
    """Bytes of the frame and its blobs."""


def load(frame: bytes, blobs: Sequence[memoryview]) -> Loaded:
    """A frame with its blobs."""
    loaded = Loaded(frame)
    loaded.blobs = blobs
    loaded.total = len(frame) + sum(blob.nbytes for blob in blobs)
    return loaded


def size_of(frame: bytes) -> int:
    """The bytes of a frame, with its blobs where it has some."""
    return frame.total if type(frame) is Loaded else len(frame)
