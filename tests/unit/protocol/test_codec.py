"""Envelopes to frames and back; what is no envelope is refused with a typed error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, astuple

from protocol.codec import Codec, salvage_id
from protocol.envelope import ID_BYTES, PREFIX, VERSION, Envelope, Kind, Priority, new_id
from protocol.errors import (
    FrameTooLarge,
    InvalidMessage,
    MalformedFrame,
    ProtocolError,
    UnsupportedVersion,
)
from protocol.lifecycle import ActorState
from protocol.messages.engine import ChatMessage, Generate, Sampling
from protocol.messages.supervisor import DirectoryChange, DirectoryEntry

whole = st.integers(-(2**63), 2**64 - 1)
words = st.text(st.characters(codec="utf-8"))
bodies = st.recursive(
    st.none() | st.booleans() | whole | st.floats(allow_nan=False) | words | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=10,
)
ids = st.binary(min_size=ID_BYTES, max_size=ID_BYTES)
envelopes = st.builds(
    Envelope,
    id=ids,
    kind=st.sampled_from(Kind),
    operation=words,
    source=words,
    epoch=words,
    target=words,
    correlation=ids,
    sequence=st.integers(0, 2**64 - 1),
    deadline_ms=st.none() | st.integers(0, 2**64 - 1),
    priority=st.sampled_from(Priority),
    idempotency_key=words,
    traceparent=words,
    body=bodies,
)


@given(envelopes)
def test_an_envelope_comes_back_as_it_was(envelope: Envelope) -> None:
    codec = Codec()
    assert codec.decode(codec.encode(envelope)) == envelope


def test_a_message_crosses_by_its_fields_and_validates_again() -> None:
    codec = Codec()
    message = Generate(
        messages=[ChatMessage(role="user", content="Grüße 🌍")], sampling=Sampling(seed=7)
    )
    back = codec.decode(
        codec.encode(Envelope(new_id(), Kind.REQUEST, "engine.generate", body=message))
    )
    assert type(back.body) is dict
    assert Generate.from_body(back.body) == message


def test_an_enum_in_a_message_crosses_as_its_value() -> None:
    codec = Codec()
    message = DirectoryChange(entries=[DirectoryEntry(name="a", state=ActorState.READY)])
    back = codec.decode(codec.encode(Envelope(new_id(), Kind.CHUNK, "a.b", body=message)))
    assert back.body["entries"][0]["state"] == "ready"
    assert DirectoryChange.from_body(back.body) == message


# --- what cannot be packed ------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "a lone surrogate \ud800",
        {"deep": ["inside \udfff"]},
        object(),
        2**64,
        -(2**63) - 1,
        Path("/tmp"),
        1j,
    ],
    ids=lambda body: type(body).__name__,
)
def test_a_value_without_a_form_is_refused_and_the_codec_goes_on(body: object) -> None:
    codec = Codec()
    # Much of the frame is written before the value that cannot be.
    bad = Envelope(new_id(), Kind.REPLY, "a.b", body=["x" * 1000, body])
    good = Envelope(new_id(), Kind.REPLY, "a.b", body="fine")
    for _ in range(3):
        with pytest.raises(InvalidMessage, match=r"a\.b: cannot be packed"):
            codec.encode(bad)
        assert codec.decode(codec.encode(good)) == good


def test_the_error_about_a_value_without_a_form_can_itself_be_packed() -> None:
    codec = Codec()
    with pytest.raises(InvalidMessage) as caught:
        codec.encode(Envelope(new_id(), Kind.REPLY, "a.b", body="\ud800"))
    codec.encode(Envelope(new_id(), Kind.ERROR, "a.b", body=caught.value.to_body()))


def test_a_value_that_contains_itself_is_refused() -> None:
    codec = Codec()
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidMessage):
        codec.encode(Envelope(new_id(), Kind.REPLY, "a.b", body=endless))
    codec.encode(Envelope(new_id(), Kind.REPLY, "a.b"))


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize("depth", [10, 100, 2000, 100_000])
def test_nesting_crosses_or_is_refused_with_a_typed_error(depth: int) -> None:
    codec = Codec()
    envelope = Envelope(new_id(), Kind.REPLY, "a.b", body=nested(min(depth, 400)))
    assert codec.decode(codec.encode(envelope)) == envelope
    # An array that begins an array that begins an array: one byte for each level.
    head = msgpack.packb([*astuple(envelope)[:-1], None])[:-1]
    frame = PREFIX + head + b"\x91" * depth + b"\xc0"
    if depth <= 100:
        codec.decode(frame)
        return
    with pytest.raises(MalformedFrame) as caught:
        codec.decode(frame)
    assert caught.value.conversation == envelope.id


# --- limits ---------------------------------------------------------------------------------


def test_a_frame_over_the_limit_is_refused_before_it_is_sent_and_when_it_came() -> None:
    small, large = Codec(max_frame_bytes=200), Codec()
    envelope = Envelope(new_id(), Kind.REPLY, "a.b", body="x" * 300)
    with pytest.raises(FrameTooLarge) as caught:
        small.encode(envelope)
    frame = large.encode(envelope)
    assert caught.value.details == {"size": len(frame), "limit": 200}
    with pytest.raises(FrameTooLarge) as caught:
        small.decode(frame)
    assert caught.value.details == {"size": len(frame), "limit": 200}


def test_a_frame_of_exactly_the_limit_passes() -> None:
    envelope = Envelope(new_id(), Kind.REPLY, "a.b", body="x" * 300)
    size = len(Codec().encode(envelope))
    exact = Codec(max_frame_bytes=size)
    assert exact.decode(exact.encode(envelope)) == envelope
    with pytest.raises(FrameTooLarge):
        Codec(max_frame_bytes=size - 1).encode(envelope)


# --- what is no envelope --------------------------------------------------------------------


@pytest.mark.parametrize("version", sorted({0, 2, 3, 127, 255} - {VERSION}))
def test_another_version_is_refused_by_its_number(version: int) -> None:
    frame = bytes((PREFIX[0], version)) + Codec().encode(Envelope(new_id(), 1, "a.b"))[2:]
    with pytest.raises(UnsupportedVersion, match=f"version {version} is not spoken") as caught:
        Codec().decode(frame)
    assert caught.value.details == {"version": version, "spoken": [VERSION]}


@pytest.mark.parametrize("frame", [b"", b"n", b"GET / HTTP/1.1", b"\x00\x01", b"\x80"], ids=repr)
def test_what_does_not_begin_like_an_envelope_is_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedFrame, match="begins with"):
        Codec().decode(frame)


@pytest.mark.parametrize(
    "content", [None, 3, "x", {}, [], [1] * 12, [1] * 14, b"x" * 13], ids=lambda c: repr(c)[:20]
)
def test_what_is_no_array_of_thirteen_is_malformed(content: object) -> None:
    with pytest.raises(MalformedFrame, match="not an array of 13 fields"):
        Codec().decode(PREFIX + msgpack.packb(content))


def frame_with(**fields: object) -> bytes:
    """A frame as another program would make it: with another library, and without checks."""
    envelope = asdict(Envelope(new_id(), Kind.REQUEST.value, "a.b")) | fields
    return PREFIX + bytes(msgpack.packb(list(envelope.values())))


NOT_AN_ID: list[object] = [None, 1, "x" * 16, b"", b"x" * 15, b"x" * 17, [], {}]
NOT_TEXT: list[object] = [None, 1, b"x", [], {}, True, 1.5]
NOT_WHOLE: list[object] = ["1", b"1", 1.0, True, [], {}]
WRONG: dict[str, list[object]] = {
    "id": NOT_AN_ID,
    "kind": [0, 10, -1, None, *NOT_WHOLE],
    "operation": NOT_TEXT,
    "source": NOT_TEXT,
    "epoch": NOT_TEXT,
    "target": NOT_TEXT,
    "correlation": NOT_AN_ID,
    "sequence": [-1, None, *NOT_WHOLE],
    "deadline_ms": NOT_WHOLE,
    "priority": [None, *NOT_WHOLE],
    "idempotency_key": NOT_TEXT,
    "traceparent": NOT_TEXT,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG.items() for value in values],
    ids=lambda one: repr(one)[:20],
)
def test_a_wrong_header_field_is_malformed_and_named(name: str, value: object) -> None:
    with pytest.raises(
        MalformedFrame, match=f"a header field is wrong: {name}: (Expected|Invalid)"
    ):
        Codec().decode(frame_with(**{name: value}))


def test_every_header_field_has_its_wrong_values() -> None:
    assert [*WRONG, "body"] == list(Envelope.__struct_fields__)


# --- the id of a frame that is broken further on ------------------------------------------


def test_the_id_of_a_broken_frame_is_salvaged() -> None:
    one = new_id()
    good = frame_with(id=one, body="x" * 1000)
    broken = [
        good[:-1],
        good[:40],
        good + b"\x00",
        good[:60] + b"\xc1" * 20,
        frame_with(id=one, kind=99),
        PREFIX + bytes(msgpack.packb([one, 1, 2])),
    ]
    for frame in broken:
        with pytest.raises(MalformedFrame) as caught:
            Codec().decode(frame)
        assert caught.value.conversation == one


def test_where_there_is_no_id_nothing_is_salvaged() -> None:
    for frame in (b"", PREFIX, PREFIX + b"\xc1", frame_with(id=b"short"), frame_with()[:10]):
        assert salvage_id(frame) == b""
        with pytest.raises(MalformedFrame) as caught:
            Codec().decode(frame)
        assert caught.value.conversation == b""


# --- noise --------------------------------------------------------------------------------


def reads_or_refuses(frame: bytes) -> None:
    try:
        envelope = Codec(max_frame_bytes=1 << 16).decode(frame)
    except ProtocolError:
        return
    again = Codec().decode(Codec().encode(envelope))
    assert astuple(again)[:-1] == astuple(envelope)[:-1]


@given(st.binary(max_size=200), st.sampled_from([b"", PREFIX, PREFIX + b"\x9d"]))
def test_random_bytes_never_raise_anything_but_a_protocol_error(noise: bytes, head: bytes) -> None:
    reads_or_refuses(head + noise)
    salvage_id(head + noise)


@given(envelopes, st.data())
def test_a_frame_with_a_few_bytes_changed_never_raises_anything_but_a_protocol_error(
    envelope: Envelope, data: st.DataObject
) -> None:
    frame = bytearray(Codec().encode(envelope))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    reads_or_refuses(bytes(frame))


# Not only bodies: any value, of any type, at any place of the header.
strange = (
    bodies
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
    | st.floats()
    | st.dictionaries(whole | st.binary(), bodies, max_size=2)
)


@given(st.sampled_from(Envelope.__struct_fields__), strange)
def test_any_value_at_any_place_never_raises_anything_but_a_protocol_error(
    name: str, value: object
) -> None:
    reads_or_refuses(frame_with(**{name: value}))
