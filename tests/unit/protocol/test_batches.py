"""Frames that travel together: nothing lost, nothing out of order, nothing larger than agreed."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.batch import MAX_BYTES, MAX_FRAMES, MOST_FRAMES, PREFIX, Lane, join, split
from protocol.codec import Codec
from protocol.envelope import Envelope, Kind, new_id
from protocol.errors import ActorDied, MalformedFrame


class Wire:
    """Takes messages until it is full."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.messages: list[bytes] = []

    def transmit(self, message: bytes) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.messages.append(message)
        return True

    @property
    def frames(self) -> list[bytes]:
        return [frame for message in self.messages for frame in split(message)]


def lane_with(wire: Wire, frames: list[bytes]) -> Lane:
    lane = Lane(wire.transmit)
    for frame in frames:
        lane.add(frame)
    return lane


@given(st.lists(st.binary(), min_size=1, max_size=40))
def test_a_batch_is_taken_apart_as_it_was_put_together(frames: list[bytes]) -> None:
    assert split(join(frames)) == frames


def test_an_envelope_alone_is_no_batch() -> None:
    frame = Codec().encode(Envelope(new_id(), Kind.REQUEST, "a.b"))
    assert split(frame) == [frame]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        msgpack.packb([b"x", b"y"])[:-1],
        msgpack.packb([]),
        msgpack.packb(b"x"),
        msgpack.packb({b"x": b"y"}),
        msgpack.packb([b"x", "y"]),
        msgpack.packb([b"x", [b"y"]]),
        msgpack.packb([b""] * (MOST_FRAMES + 1)),
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
    ],
    ids=lambda content: repr(content)[:20],
)
def test_a_broken_batch_is_one_frame_that_no_codec_takes(content: bytes) -> None:
    (frame,) = split(PREFIX + content)
    with pytest.raises(MalformedFrame):
        Codec().decode(frame)


def test_a_batch_in_a_batch_is_a_frame_that_no_codec_takes() -> None:
    inner = join([b"one", b"two"])
    assert split(join([inner, b"three"])) == [inner, b"three"]
    with pytest.raises(MalformedFrame):
        Codec().decode(inner)


def test_a_frame_alone_travels_as_it_is() -> None:
    wire = Wire()
    lane_with(wire, [b"only"]).flush()
    assert wire.messages == [b"only"]


def test_frames_that_wait_travel_as_one_message() -> None:
    wire = Wire()
    lane = lane_with(wire, [b"one", b"two", b"three"])
    lane.flush()
    assert wire.messages == [join([b"one", b"two", b"three"])]
    assert not lane.frames


def test_a_batch_is_whole_with_so_many_frames_or_bytes() -> None:
    lane = Lane(Wire().transmit)
    assert [lane.add(b"x") for _ in range(MAX_FRAMES)] == [False] * (MAX_FRAMES - 1) + [True]
    lane = Lane(Wire().transmit)
    assert [lane.add(bytes(MAX_BYTES // 2)) for _ in range(2)] == [False, True]
    assert Lane(Wire().transmit).add(bytes(MAX_BYTES))


@given(st.lists(st.sampled_from([0, 1, 300, 5000, MAX_BYTES - 1, MAX_BYTES, MAX_BYTES + 1])))
def test_whatever_waits_goes_out_in_order_in_messages_of_bounded_size(sizes: list[int]) -> None:
    frames = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    wire = Wire()
    lane_with(wire, frames).flush()
    assert wire.frames == frames
    for message in wire.messages:
        within = split(message)
        assert len(within) <= MAX_FRAMES
        assert len(within) == 1 or sum(map(len, within)) < 2 * MAX_BYTES


def test_a_large_frame_goes_alone_between_those_before_and_after_it() -> None:
    wire = Wire()
    large = bytes(MAX_BYTES + 1)
    lane_with(wire, [b"a", b"b", large, b"c", b"d"]).flush()
    assert wire.messages == [join([b"a", b"b"]), large, join([b"c", b"d"])]


def test_a_lane_that_is_stuck_keeps_what_was_not_taken_and_goes_on_with_it() -> None:
    wire = Wire(room=1)
    frames = [str(number).encode() for number in range(3 * MAX_FRAMES)]
    lane = lane_with(wire, frames)
    lane.flush()
    assert lane.stuck
    assert wire.frames == frames[:MAX_FRAMES]
    lane.add(b"late")
    wire.room = 10
    lane.flush()
    assert not lane.stuck
    assert wire.frames == [*frames, b"late"]


def test_what_the_transport_raises_passes_through_and_the_frames_stay() -> None:
    def gone(message: bytes) -> bool:
        raise ActorDied("gone")

    lane = Lane(gone)
    lane.add(b"x")
    with pytest.raises(ActorDied):
        lane.flush()
    assert list(lane.frames) == [b"x"]
