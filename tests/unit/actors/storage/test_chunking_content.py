"""Cutting by content: the same everywhere and for ever, and only near a change another."""

from __future__ import annotations

import hashlib
import random

import pyfastcdc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfastcdc.py import FastCDC as PureFastCDC

from actors.storage.chunking import content
from actors.storage.chunking.content import content_cuts
from protocol.errors import InvalidSettings, MissingDependency
from tests.support.model_files import noise

AVERAGE = 1024
DATA = noise("content", 200_000)


def pieces(data: bytes, average: int = AVERAGE) -> list[bytes]:
    def read(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    return [bytes(piece) for _, piece in content_cuts(read, 0, len(data), average)]


@given(st.binary(max_size=20_000), st.integers(0, 100))
def test_pieces_tile_the_stretch(data: bytes, before: int) -> None:
    whole = noise("before", before) + data + b"after"
    end = before
    for offset, piece in content_cuts(lambda at, n: whole[at : at + n], before, len(data), AVERAGE):
        assert offset == end
        assert 0 < len(piece) <= 4 * AVERAGE
        assert piece == whole[offset : offset + len(piece)]
        end += len(piece)
    assert end == before + len(data)


@pytest.mark.parametrize("most", [1, 7, 1000, 1 << 20])
def test_pieces_do_not_depend_on_how_much_is_read_at_once(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pieces(DATA[:30_000])
    monkeypatch.setattr(content, "READ_BYTES", most)
    assert pieces(DATA[:30_000]) == expected


def test_an_insertion_changes_the_pieces_around_it_and_no_others() -> None:
    old = set(pieces(DATA))
    rng = random.Random(5)
    costs = []
    for _ in range(50):
        at = rng.randrange(len(DATA))
        new = pieces(DATA[:at] + rng.randbytes(37) + DATA[at:])
        costs.append(sum(len(piece) for piece in new if piece not in old))
    assert sum(costs) / len(costs) < 2 * AVERAGE
    assert max(costs) < 16 * AVERAGE


def test_the_compiled_and_the_pure_library_cut_alike() -> None:
    assert pyfastcdc.FastCDC.__module__ == "pyfastcdc.cy.fastcdc"
    for data in (DATA, bytes(50_000), b"ab" * 20_000, DATA[:255], DATA[:257]):
        pure = PureFastCDC(
            AVERAGE, min_size=AVERAGE // 4, max_size=4 * AVERAGE, normalized_chunking=2, seed=0
        )
        assert [len(piece) for piece in pieces(data)] == [
            piece.length for piece in pure.cut_buf(data)
        ]


@pytest.mark.parametrize(
    ("average", "expected"),
    [
        (1 << 10, "c52456dcffa3"),
        (1 << 16, "ba8c4bd0cb7c"),
        (100_000, "8980082b0dca"),
    ],
)
def test_boundaries_are_where_they_always_were(average: int, expected: str) -> None:
    data = DATA * 3 + bytes(300_000) + noise("more", 1_500_000)
    lengths = [len(piece) for piece in pieces(data, average)]
    assert hashlib.sha256(repr(lengths).encode()).hexdigest().startswith(expected)


def test_a_library_that_cuts_in_another_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content.check_library.cache_clear()
    monkeypatch.setattr(content, "_NORMALISATION", 3)
    with pytest.raises(MissingDependency, match="cuts in another way"):
        pieces(DATA)
    monkeypatch.undo()
    content.check_library.cache_clear()
    assert pieces(DATA)


@pytest.mark.parametrize("average", [0, 1023, (4 << 20) + 1])
def test_an_average_that_cannot_be_cut_by_is_refused(average: int) -> None:
    with pytest.raises(InvalidSettings, match="piece"):
        pieces(DATA, average)
