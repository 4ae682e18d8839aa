"""What is printed becomes lines: bounded in length, in number, and in what waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.clock import ManualClock
from supervision.printed import (
    LAST_LINES,
    LINE_BYTES,
    LINES_AT_ONCE,
    LINES_PER_S,
    Allowed,
    LineLimit,
    LineSplitter,
)


def lines(*pieces: bytes) -> list[bytes]:
    """All lines of a stream that comes in these pieces, and then ends."""
    splitter = LineSplitter()
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.end()


# --- splitting ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        ([b"one\ntwo\n"], [b"one", b"two"]),
        ([b"o", b"ne\nt", b"wo"], [b"one", b"two"]),
        ([b"windows\r", b"\nunix\n"], [b"windows", b"unix"]),
        ([b"10 %\r20 %\r", b"30 %"], [b"10 %", b"20 %", b"30 %"]),
        ([b"one\n\n  \n\ntwo\n"], [b"one", b"two"]),
        ([b"  indented\n"], [b"  indented"]),
        ([], []),
    ],
)
def test_lines_are_whole_whatever_pieces_they_come_in(
    pieces: list[bytes], found: list[bytes]
) -> None:
    assert lines(*pieces) == found


def test_a_line_that_has_only_begun_waits_for_its_end() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"half") == []
    assert splitter.feed(b" and half\n") == [b"half and half"]
    assert splitter.end() == []


def test_a_line_over_the_bound_comes_in_pieces_and_nothing_of_it_is_lost() -> None:
    long = bytes(range(33, 127)) * 300
    found = lines(long[:10_000], long[10_000:] + b"\nnext\n")
    assert b"".join(found[:-1]) == long
    assert max(map(len, found)) == LINE_BYTES
    assert found[-1] == b"next"


def test_a_stream_without_line_ends_is_not_kept_in_memory() -> None:
    splitter = LineSplitter()
    came = sum(len(line) for _ in range(100) for line in splitter.feed(b"x" * 1000))
    assert 100_000 - came <= LINE_BYTES


@pytest.mark.parametrize("offset", range(4))
def test_no_piece_ends_inside_a_character(offset: int) -> None:
    text = "x" * offset + "€😀" * 3000
    assert "".join(piece.decode() for piece in lines(text.encode())) == text


@given(st.lists(st.binary(max_size=40)))
def test_no_visible_byte_is_lost_however_a_stream_is_cut(pieces: list[bytes]) -> None:
    def visible(data: bytes) -> bytes:
        return b"".join(data.split())

    assert visible(b"".join(lines(*pieces))) == visible(b"".join(pieces))
    assert lines(*pieces) == lines(b"".join(pieces))


# --- limiting -------------------------------------------------------------------------------


def numbered(begin: int, end: int) -> list[bytes]:
    return [str(number).encode() for number in range(begin, end)]


class Limited:
    """A limit, and time that the test moves."""

    def __init__(self) -> None:
        self.clock = ManualClock(100.0)
        self.limit = LineLimit(self.clock.now())

    def take(self, given: list[bytes]) -> Allowed:
        return self.limit.take(given, self.clock.now())


def test_what_is_printed_at_a_quiet_pace_passes() -> None:
    it = Limited()
    for number in range(5000):
        it.clock.advance(1 / LINES_PER_S)
        assert it.take(numbered(number, number + 1)) == (0, numbered(number, number + 1))


def test_a_burst_passes_and_what_is_more_is_dropped_and_counted() -> None:
    it = Limited()
    given = numbered(0, LINES_AT_ONCE + 500)
    assert it.take(given) == (0, given[:LINES_AT_ONCE])
    assert it.limit.dropping
    it.clock.advance(1.0)
    # The last of those that were dropped come then, behind the count of the others.
    assert it.take([]) == (500 - LAST_LINES, given[-LAST_LINES:])
    assert not it.limit.dropping


def test_nothing_passes_for_a_second_so_that_a_flood_costs_one_note_a_second() -> None:
    it = Limited()
    it.take(numbered(0, LINES_AT_ONCE + 1))
    notes = written = 0
    for _ in range(1000):
        it.clock.advance(0.01)
        allowed = it.take(numbered(0, 500))
        notes += allowed.dropped > 0
        written += len(allowed.lines)
    assert 9 <= notes <= 10
    assert written <= 10 * LINES_PER_S


def test_every_line_is_written_or_counted() -> None:
    it = Limited()
    written = dropped = 0
    for _ in range(300):
        it.clock.advance(0.05)
        allowed = it.take(numbered(0, 77))
        dropped += allowed.dropped
        written += len(allowed.lines)
    rest = it.limit.end()
    assert written + len(rest.lines) + dropped + rest.dropped == 300 * 77


def test_the_last_words_in_a_flood_are_written_at_the_end() -> None:
    it = Limited()
    it.take(numbered(0, 10_000))
    it.take([b"out of memory"])
    dropped, last = it.limit.end()
    assert last[-1] == b"out of memory"
    assert len(last) == LAST_LINES
    assert dropped == 10_001 - LINES_AT_ONCE - LAST_LINES
    assert it.limit.end() == (0, [])


def test_a_few_lines_too_many_are_late_and_not_lost() -> None:
    it = Limited()
    it.take(numbered(0, LINES_AT_ONCE))
    assert it.take([b"late"]) == (0, [])
    it.clock.advance(1.0)
    assert it.take([b"next"]) == (0, [b"late", b"next"])
