"""Large byte strings beside the frame that speaks of them."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError

from protocol.batch import MAX_BYTES, Lane, split
from protocol.blobs import MOST_BLOBS, OWN_PART_BYTES, Blob, Loaded, load, size_of
from protocol.codec import Codec
from protocol.envelope import Envelope, Kind, new_id
from protocol.errors import FrameTooLarge, InvalidMessage
from protocol.messages.base import Message

LARGE = bytes(range(256)) * (OWN_PART_BYTES // 256)
SMALL = LARGE[1:]


class Carried(Message):
    """Some blobs."""

    one: Blob
    more: list[Blob] = Field(default_factory=list)


def envelope(body: object) -> Envelope:
    return Envelope(new_id(), Kind.CHUNK, "probe.carry", body=body)


def test_what_is_large_travels_beside_the_frame_and_comes_back_as_it_was() -> None:
    codec = Codec()
    sent = Carried(one=Blob(LARGE), more=[Blob(SMALL), Blob(LARGE[::-1]), Blob(b"")])
    frame = codec.encode(envelope(sent))
    assert isinstance(frame, Loaded)
    assert [bytes(blob) for blob in frame.blobs] == [LARGE, LARGE[::-1]]
    assert len(SMALL) < len(frame) < len(SMALL) + 200
    assert size_of(frame) == frame.total == len(frame) + 2 * len(LARGE)
    assert Carried.from_body(codec.decode(frame).body) == sent


def test_what_is_small_is_a_byte_string_like_any_other() -> None:
    codec = Codec()
    frame = codec.encode(envelope(Carried(one=Blob(SMALL))))
    assert type(frame) is bytes
    body = codec.decode(frame).body
    assert body["one"] == SMALL
    assert bytes(Carried.from_body(body).one) == SMALL


def test_nothing_is_copied_that_cannot_change() -> None:
    codec = Codec()
    blob = Blob(LARGE)
    assert blob.view.obj is LARGE
    frame = codec.encode(envelope(Carried(one=blob)))
    assert isinstance(frame, Loaded)
    assert frame.blobs[0].obj is LARGE
    got = Carried.from_body(codec.decode(frame).body)
    assert got.one.view.obj is LARGE
    mutable = bytearray(LARGE)
    kept = Blob(mutable)
    mutable[0] = 7
    assert bytes(kept) == LARGE


def test_a_message_has_room_for_so_many_and_no_more_and_the_next_one_is_whole() -> None:
    codec = Codec(max_frame_bytes=64 << 20)
    full = Carried(one=Blob(LARGE), more=[Blob(LARGE)] * (MOST_BLOBS - 1))
    frame = codec.encode(envelope(full))
    assert isinstance(frame, Loaded)
    assert len(frame.blobs) == MOST_BLOBS
    with pytest.raises(InvalidMessage, match=f"at most {MOST_BLOBS} blobs"):
        codec.encode(envelope(Carried(one=Blob(LARGE), more=[Blob(LARGE)] * MOST_BLOBS)))
    after = codec.encode(envelope(Carried(one=Blob(LARGE))))
    assert isinstance(after, Loaded)
    assert len(after.blobs) == 1


def test_frame_and_blobs_together_are_what_is_limited() -> None:
    frame = Codec().encode(envelope(Carried(one=Blob(LARGE))))
    strict = Codec(max_frame_bytes=len(LARGE))
    with pytest.raises(FrameTooLarge):
        strict.encode(envelope(Carried(one=Blob(LARGE))))
    with pytest.raises(FrameTooLarge):
        strict.decode(frame)
    # What was refused leaves nothing behind.
    small = strict.encode(envelope(Carried(one=Blob(b"x"))))
    assert type(small) is bytes
    assert strict.decode(small).body["one"] == b"x"


@pytest.mark.parametrize("value", ["text", 3, None, [1]])
def test_what_is_no_byte_string_is_no_blob(value: object) -> None:
    with pytest.raises(ValidationError, match="byte string"):
        Carried.model_validate({"one": value})


def test_a_loaded_frame_is_joined_to_no_other_and_keeps_its_place() -> None:
    sent: list[bytes] = []

    def transmit(message: bytes) -> bool:
        sent.append(message)
        return True

    lane = Lane(transmit)
    loaded = load(b"loaded", [memoryview(LARGE)])
    assert [lane.add(frame) for frame in (b"1", b"2", loaded)] == [False, False, True]
    lane.add(b"3")
    lane.add(b"4")
    assert lane.size == 4 + len(b"loaded") + len(LARGE) > MAX_BYTES
    lane.flush()
    assert [split(message) for message in sent] == [[b"1", b"2"], [b"loaded"], [b"3", b"4"]]
    assert sent[1] is loaded
    assert (lane.size, len(lane.frames)) == (0, 0)
