"""Envelopes to frames and back. Nothing enters a process without passing here.

A frame that cannot be read raises `MalformedFrame`, `UnsupportedVersion` or `FrameTooLarge`; its
conversation's id is salvaged where it can be, so that the sender can be told.
"""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel

from protocol.blobs import EXTENSION, MOST_BLOBS, OWN_PART_BYTES, Blob, Loaded, load
from protocol.envelope import ID_BYTES, MAGIC, PREFIX, VERSION, Envelope
from protocol.errors import FrameTooLarge, InvalidMessage, MalformedFrame, UnsupportedVersion

DEFAULT_MAX_FRAME_BYTES = 8 * 1024 * 1024
"""Longer than any prompt a local model takes (a token is about 4 bytes), short enough to hold."""

_FIELDS = Envelope.__struct_fields__
# How every frame begins: msgpack says "an array of 13" in one byte.
_HEAD = PREFIX + bytes((0x90 | len(_FIELDS),))
# "A byte string of 16", as the id comes first.
_ID_HEAD = bytes((0xC4, ID_BYTES))
_ID_AT = len(_HEAD) + len(_ID_HEAD)
_UNPACKABLE = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)
_UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)


class Codec:
    """Packs and unpacks envelopes. Belongs to one thread."""

    def __init__(self, max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES) -> None:
        """``max_frame_bytes``: of a frame and the blobs beside it."""
        self.max_frame_bytes = max_frame_bytes
        self._blobs: list[memoryview] = []
        """Those of the message that is being packed or unpacked."""
        self._met: set[int] = set()
        """Which of them its frame speaks of."""
        # Models are packed straight from their fields: pydantic's own dump would build every dict
        # twice.
        self._pack = msgspec.msgpack.Encoder(enc_hook=self._packable).encode
        # Reads the array and checks every field of the header in one go.
        self._unpack = msgspec.msgpack.Decoder(Envelope).decode
        self._unpack_loaded = msgspec.msgpack.Decoder(Envelope, ext_hook=self._blob).decode

    def encode(self, envelope: Envelope) -> bytes:
        """The frame; `Loaded` where it has blobs. Raises `InvalidMessage` for values msgpack has no
        form for (a lone surrogate, an object) and `FrameTooLarge` before anything is sent."""
        try:
            frame = PREFIX + self._pack(envelope)
        except _UNPACKABLE as error:
            self._blobs.clear()
            raise InvalidMessage(f"{envelope.operation}: cannot be packed: {error}") from None
        if self._blobs:
            frame = load(frame, self._blobs)
            self._blobs = []
            if frame.total > self.max_frame_bytes:
                raise _too_large(frame.total, self.max_frame_bytes)
        elif len(frame) > self.max_frame_bytes:
            raise _too_large(len(frame), self.max_frame_bytes)
        return frame

    def decode(self, frame: bytes) -> Envelope:
        """The envelope, its header checked, its body not yet.

        Raises one of the three errors named at the top; each is a ``ProtocolError``.
        """
        if len(frame) > self.max_frame_bytes:
            raise _too_large(len(frame), self.max_frame_bytes)
        if not frame.startswith(_HEAD):
            raise _wrong_head(frame)
        try:
            if type(frame) is Loaded:
                return self._decode_loaded(frame)
            # A slice, though it copies: making a memoryview costs more at the usual sizes.
            return self._unpack(frame[len(PREFIX) :])
        except msgspec.ValidationError as error:
            raise _malformed(f"a header field is wrong: {_readable(error)}", frame) from None
        except _UNREADABLE as error:
            raise _malformed(f"not msgpack: {error}", frame) from None

    def _decode_loaded(self, frame: Loaded) -> Envelope:
        if frame.total > self.max_frame_bytes:
            raise _too_large(frame.total, self.max_frame_bytes)
        self._blobs = [*frame.blobs]
        try:
            envelope = self._unpack_loaded(frame[len(PREFIX) :])
            if len(self._met) < len(self._blobs):
                raise ValueError("it has parts that the frame does not speak of")
            return envelope
        finally:
            self._blobs = []
            self._met = set()

    def _packable(self, value: object) -> Any:
        if type(value) is Blob:
            if value.view.nbytes < OWN_PART_BYTES:
                return value.view
            if len(self._blobs) == MOST_BLOBS:
                raise TypeError(f"a message has at most {MOST_BLOBS} blobs")
            self._blobs.append(value.view)
            return msgspec.msgpack.Ext(EXTENSION, bytes((len(self._blobs) - 1,)))
        if isinstance(value, BaseModel):
            return value.__dict__
        raise TypeError(f"{type(value).__name__} cannot cross the wire")

    def _blob(self, code: int, data: memoryview) -> Blob:
        if code == EXTENSION and len(data) == 1 and data[0] < len(self._blobs):
            self._met.add(data[0])
            return Blob(self._blobs[data[0]])
        raise ValueError(f"there is no part {bytes(data[:8]).hex()} (extension {code})")


def salvage_id(frame: bytes) -> bytes:
    """The conversation's id in a frame that is broken further on, or nothing."""
    if frame[len(_HEAD) : _ID_AT] != _ID_HEAD:
        return b""
    found = frame[_ID_AT : _ID_AT + ID_BYTES]
    return found if len(found) == ID_BYTES else b""


def _malformed(problem: str, frame: bytes) -> MalformedFrame:
    return MalformedFrame(f"malformed frame: {problem}", conversation=salvage_id(frame))


def _readable(error: msgspec.ValidationError) -> str:
    """``Expected `str`, got `int` - at `$[2]` `` with the field's name for its number."""
    what, _, place = str(error).rpartition(" - at `$[")
    number = place.split("]")[0]
    return f"{_FIELDS[int(number)]}: {what}" if number.isdigit() else str(error)


def _too_large(size: int, limit: int) -> FrameTooLarge:
    return FrameTooLarge(
        f"a frame of {size} bytes is over the limit of {limit} bytes", size=size, limit=limit
    )


def _wrong_head(frame: bytes) -> MalformedFrame | UnsupportedVersion:
    if frame.startswith(PREFIX):
        return _malformed(f"not an array of {len(_FIELDS)} fields", frame)
    if len(frame) >= 2 and frame[0] == MAGIC:
        return UnsupportedVersion(
            f"envelope version {frame[1]} is not spoken here, only version {VERSION}",
            version=frame[1],
            spoken=[VERSION],
        )
    return MalformedFrame(f"malformed frame: begins with {frame[:2].hex(' ') or 'nothing'}")
