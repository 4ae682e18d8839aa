"""Envelopes to frames and back. Nothing enters a process without passing here.

A frame that cannot be read raises `MalformedFrame`, `UnsupportedVersion` or `FrameTooLarge`; its
conversation's id is salvaged where it can be, so that the sender can be told.
"""

from __future__ import annotations

from typing import Any

import msgpack
from pydantic import BaseModel

from protocol.envelope import ID_BYTES, MAGIC, PREFIX, VERSION, Envelope, Kind
from protocol.errors import FrameTooLarge, InvalidMessage, MalformedFrame, UnsupportedVersion

DEFAULT_MAX_FRAME_BYTES = 8 * 1024 * 1024
"""Longer than any prompt a local model takes (a token is about 4 bytes), short enough to hold."""

_FIELDS = len(Envelope._fields)
# What `Envelope._make` does, without its check of the length, which is done before.
_as_envelope = tuple.__new__
_KINDS = frozenset(int(kind) for kind in Kind)
# Long enough for the array's head and the id, which is all that salvage reads.
_SALVAGE_BYTES = len(PREFIX) + 8 + ID_BYTES


def _fields_of(value: object) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        return value.__dict__
    raise TypeError(f"{type(value).__name__} cannot cross the wire")


class Codec:
    """Packs and unpacks envelopes. Not for use by two threads at once."""

    def __init__(self, max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes = max_frame_bytes
        # Models are packed straight from their fields: pydantic's own dump would build every
        # dict a second time.
        self._pack = msgpack.Packer(default=_fields_of).pack

    def encode(self, envelope: Envelope) -> bytes:
        """The frame. Raises `InvalidMessage` for values msgpack has no form for (a lone
        surrogate, an object) and `FrameTooLarge` before anything is sent."""
        try:
            frame: bytes = PREFIX + self._pack(envelope)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidMessage(f"{envelope.operation}: cannot be packed: {error}") from None
        if len(frame) > self.max_frame_bytes:
            raise _too_large(len(frame), self.max_frame_bytes)
        return frame

    def decode(self, frame: bytes) -> Envelope:
        """The envelope, its header checked, its body not yet.

        Raises one of the three errors named at the top; each is a ``ProtocolError``.
        """
        if len(frame) > self.max_frame_bytes:
            raise _too_large(len(frame), self.max_frame_bytes)
        if frame[:2] != PREFIX:
            raise _wrong_prefix(frame)
        try:
            # A slice, though it copies: making a memoryview costs more at the usual sizes.
            fields = msgpack.unpackb(frame[2:])
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
            raise _malformed(f"not msgpack: {error or type(error).__name__}", frame) from None
        if type(fields) is not list or len(fields) != _FIELDS:
            raise _malformed(f"not an array of {_FIELDS} fields", frame)
        # Local names are several times faster to read than a named tuple's, and this is read for
        # every message.
        (
            id_, kind, operation, source, epoch, target, correlation,
            sequence, deadline_ms, priority, idempotency_key, traceparent, _,
        ) = fields  # fmt: skip
        if (
            type(id_) is bytes
            and len(id_) == ID_BYTES
            and type(kind) is int
            and kind in _KINDS
            and type(operation) is str
            and type(source) is str
            and type(epoch) is str
            and type(target) is str
            and type(correlation) is bytes
            and len(correlation) == ID_BYTES
            and type(sequence) is int
            and sequence >= 0
            and (deadline_ms is None or type(deadline_ms) is int)
            and type(priority) is int
            and type(idempotency_key) is str
            and type(traceparent) is str
        ):
            return _as_envelope(Envelope, fields)
        raise _malformed(f"a header field is wrong: {_first_wrong(Envelope._make(fields))}", frame)


def salvage_id(frame: bytes) -> bytes:
    """The conversation's id in a frame that is broken further on, or nothing."""
    unpacker = msgpack.Unpacker(max_buffer_size=_SALVAGE_BYTES)
    unpacker.feed(frame[len(PREFIX) : _SALVAGE_BYTES])
    try:
        unpacker.read_array_header()
        found = unpacker.unpack()
    except (ValueError, TypeError, msgpack.UnpackException):
        return b""
    return found if type(found) is bytes and len(found) == ID_BYTES else b""


def _malformed(problem: str, frame: bytes) -> MalformedFrame:
    return MalformedFrame(f"malformed frame: {problem}", conversation=salvage_id(frame))


def _too_large(size: int, limit: int) -> FrameTooLarge:
    return FrameTooLarge(
        f"a frame of {size} bytes is over the limit of {limit} bytes", size=size, limit=limit
    )


def _wrong_prefix(frame: bytes) -> MalformedFrame | UnsupportedVersion:
    if len(frame) >= 2 and frame[0] == MAGIC:
        return UnsupportedVersion(
            f"envelope version {frame[1]} is not spoken here, only version {VERSION}",
            version=frame[1],
            spoken=[VERSION],
        )
    return MalformedFrame(f"malformed frame: begins with {frame[:2].hex(' ') or 'nothing'}")


def _first_wrong(envelope: Envelope) -> str:
    """For the error text only: which field, so that a client's author finds the mistake."""
    expected: dict[str, type] = {
        "operation": str, "source": str, "epoch": str, "target": str,
        "idempotency_key": str, "traceparent": str, "priority": int,
    }  # fmt: skip
    for name in ("id", "correlation"):
        value = getattr(envelope, name)
        if type(value) is not bytes or len(value) != ID_BYTES:
            return f"{name} must be {ID_BYTES} bytes"
    if type(envelope.kind) is not int or envelope.kind not in _KINDS:
        return f"kind must be one of {sorted(_KINDS)}"
    for name, kind in expected.items():
        if type(getattr(envelope, name)) is not kind:
            return f"{name} must be of type {kind.__name__}"
    if type(envelope.sequence) is not int or envelope.sequence < 0:
        return "sequence must be a whole number from 0"
    return "deadline_ms must be a whole number or nil"
