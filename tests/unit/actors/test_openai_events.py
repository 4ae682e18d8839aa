"""Server-sent events: the same ones wherever the network cuts the bytes."""

from __future__ import annotations

import pytest

from actors.engine.backends.openai.events import MAX_EVENT_BYTES, EventReader
from protocol.errors import EngineFailed

STREAM = (
    ': a comment\r\n\r\ndata: {"a": "é漢😀"}\n\nevent: message\rdata:two\rdata: lines\r\rid: 7\n'
    "retry: 3000\n\nerror: {}\n\ndata: [DONE]\n\ndata: never ended"
).encode()
EVENTS = ['{"a": "é漢😀"}', "two\nlines", "{}", "[DONE]"]


@pytest.mark.parametrize("size", [*range(1, 12), len(STREAM)])
def test_events_are_the_same_wherever_they_are_cut(size: int) -> None:
    reader, found = EventReader(), []
    for start in range(0, len(STREAM), size):
        found += reader.feed(STREAM[start : start + size])
    assert found == EVENTS


def test_a_line_feed_behind_a_return_is_one_end_also_in_two_reads() -> None:
    reader = EventReader()
    assert reader.feed(b"data: one\r") == []
    assert reader.feed(b"\ndata: two\r\n\r") == ["one\ntwo"]
    assert reader.feed(b"\ndata: three\n\n") == ["three"]


@pytest.mark.parametrize(
    "line", [b"<html>", b'{"choices": []}', b"dat: 1", b"\x00\x01", b"data1: x"]
)
def test_a_line_that_is_none_of_a_streams_is_a_failure(line: bytes) -> None:
    with pytest.raises(EngineFailed, match="no stream of events"):
        EventReader().feed(line + b"\n")


@pytest.mark.parametrize("part", [b"x" * 1000, b"x\ndata: " * 120])
def test_an_event_is_bounded_however_many_lines_it_has(part: bytes) -> None:
    reader = EventReader()
    reader.feed(b"data: ")
    fed = (reader.feed(part) for _ in range(2 * MAX_EVENT_BYTES // len(part)))
    with pytest.raises(EngineFailed, match="more than"):
        list(fed)


def test_what_is_no_utf_8_is_a_failure() -> None:
    with pytest.raises(EngineFailed, match="no UTF-8"):
        EventReader().feed(b"data: \xf0\x9f\n\n")
