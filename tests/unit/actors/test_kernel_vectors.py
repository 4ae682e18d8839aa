"""Vectors of texts: as libraries and servers give them, and as they cross the wire."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from actors.kernel.vectors import packed, read_vector, rows_of, tokens_of
from protocol.errors import EngineFailed, EngineGarbage


def test_a_row_becomes_a_vector_of_unit_length_in_little_endian_floats() -> None:
    assert packed([[3, 4], [0.0, -2.0]]) == [
        struct.pack("<2f", 0.6, 0.8),
        struct.pack("<2f", 0, -1),
    ]


def test_lengths_beyond_a_float_are_no_obstacle() -> None:
    assert packed([[1e200, 0.0]]) == [struct.pack("<2f", 1, 0)]


@pytest.mark.parametrize("row", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [None, 1.0]])
def test_a_row_of_no_numbers_or_without_a_direction_is_garbage(row: list[Any]) -> None:
    with pytest.raises(EngineGarbage):
        packed([[1.0, 0.0], row])


@pytest.mark.parametrize("rows", [[], [[]], [[1.0], [1.0, 2.0]]])
def test_rows_of_different_lengths_are_refused(rows: list[list[float]]) -> None:
    with pytest.raises(EngineFailed, match="numbers"):
        packed(rows)


def test_rows_of_another_length_than_is_wanted_are_refused() -> None:
    with pytest.raises(EngineFailed, match="a vector of 1 numbers, where 2 are wanted"):
        packed([[1.0]], 2)


def test_what_is_packed_is_read() -> None:
    assert list(read_vector(packed([[3, 4]])[0])) == pytest.approx([0.6, 0.8])


def test_a_vector_is_read_as_little_endian_floats() -> None:
    assert list(read_vector(struct.pack("<3f", 1.0, -0.5, 0.25))) == [1.0, -0.5, 0.25]
    with pytest.raises(ValueError, match="bytes"):
        read_vector(b"abc")


def test_the_rows_of_an_answer_are_put_in_the_order_of_the_texts() -> None:
    answer = {"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}]}
    assert rows_of(answer, 2) == [[1], [2]]


@pytest.mark.parametrize(
    "answer",
    [
        None, [], "no", {}, {"data": None}, {"data": [{}]}, {"data": [{"index": 0}]}, {"data": [1]},
        {"data": [{"index": "x", "embedding": [1]}]}, {"data": [{"index": 0, "embedding": 5}]},
        {"data": []}, {"data": [{"index": 0, "embedding": [1]}] * 2},
    ],
)  # fmt: skip
def test_an_answer_without_a_vector_for_each_text_is_the_servers_failure(answer: Any) -> None:
    with pytest.raises(EngineFailed):
        rows_of(answer, 1)


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [({"usage": {"prompt_tokens": 7}}, 7), ({}, 0), ({"usage": None}, 0), ({"usage": {}}, 0)],
)
def test_tokens_are_counted_where_a_server_says_how_many(answer: Any, tokens: int) -> None:
    assert tokens_of(answer) == tokens
