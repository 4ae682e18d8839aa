"""What every index of vectors promises, run on each of them.

A new kind is one line in `INDEXES`; the tests stay as they are. The judge is a plain comparison
of all with all.
"""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable

import numpy as np
import pytest

from actors.memory.vectors import INDEXES, VectorIndex

DIMENSION = 96
COUNT = 3000
QUERIES = 100

Make = Callable[[int], VectorIndex]


@pytest.fixture(params=sorted(INDEXES))
def make(request: pytest.FixtureRequest) -> Make:
    return INDEXES[request.param]


def packed(*vectors: tuple[float, ...]) -> bytes:
    return b"".join(struct.pack(f"<{len(vector)}f", *vector) for vector in vectors)


def numbers_of(index: VectorIndex, vector: bytes, limit: int = 10, least: float = -1) -> list[int]:
    return [match.number for match in index.search(vector, limit, least)]


EAST, NORTH, WEST = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)
NORTHEAST = (1.0, 1.0)


@pytest.fixture
def compass(make: Make) -> VectorIndex:
    index = make(2)
    index.add([10, 20, 30, 40], packed(EAST, NORTH, WEST, NORTHEAST))
    return index


def test_an_empty_index_finds_nothing(make: Make) -> None:
    index = make(2)
    assert len(index) == 0
    assert index.search(packed(EAST), 5) == []


def test_the_nearest_come_first_with_their_cosine(compass: VectorIndex) -> None:
    found = compass.search(packed(EAST), 4)
    assert [match.number for match in found] == [10, 40, 20, 30]
    assert [match.score for match in found] == pytest.approx([1, 0.7071, 0, -1], abs=1e-3)


def test_the_length_of_a_vector_does_not_matter(compass: VectorIndex) -> None:
    compass.add([50], packed((300.0, 300.0)))
    assert set(numbers_of(compass, packed((0.001, 0.001)), 2)) == {40, 50}
    assert compass.search(packed((5.0, 5.0)), 1)[0].score == pytest.approx(1, abs=1e-3)


def test_no_more_than_the_limit_and_none_below_the_least_score(compass: VectorIndex) -> None:
    assert numbers_of(compass, packed(EAST), 2) == [10, 40]
    assert numbers_of(compass, packed(EAST), 4, 0.5) == [10, 40]
    assert numbers_of(compass, packed(EAST), 100) == [10, 40, 20, 30]


def test_a_score_never_exceeds_one(make: Make) -> None:
    index, vector = make(3), packed((0.1, 0.7, 0.3))
    index.add([1], vector)
    assert index.search(vector, 1)[0].score <= 1


def test_what_was_removed_is_not_found_and_the_rest_is(compass: VectorIndex) -> None:
    compass.remove([10, 999])
    assert len(compass) == 3
    assert numbers_of(compass, packed(EAST)) == [40, 20, 30]
    compass.remove([40, 20, 30])
    assert compass.search(packed(EAST), 3) == []
    compass.add([7], packed(EAST))
    assert numbers_of(compass, packed(EAST)) == [7]


def test_a_number_given_again_has_its_new_vector_alone(compass: VectorIndex) -> None:
    compass.add([10], packed(WEST))
    assert len(compass) == 4
    assert set(numbers_of(compass, packed(WEST), 2)) == {10, 30}


def test_a_vector_of_zeros_is_like_nothing_and_does_no_harm(compass: VectorIndex) -> None:
    compass.add([60], packed((0.0, 0.0)))
    assert numbers_of(compass, packed(EAST), 1) == [10]


def test_what_does_not_fit_is_refused_and_changes_nothing(compass: VectorIndex) -> None:
    for numbers, vectors in (([1], packed((1.0, 0.0, 0.0))), ([1, 2], packed(EAST)),
                             ([1, 1], packed(EAST, WEST))):  # fmt: skip
        with pytest.raises(ValueError, match=r"vectors of 2|twice"):
            compass.add(numbers, vectors)
    assert len(compass) == 4


def test_large_numbers_are_kept(make: Make) -> None:
    index = make(2)
    index.add([2**40 + 1], packed(EAST))
    assert numbers_of(index, packed(EAST)) == [2**40 + 1]


def test_adding_and_removing_at_random_leaves_what_a_plain_list_would(make: Make) -> None:
    draw, index = random.Random(7), make(8)
    expected: dict[int, bytes] = {}
    fresh = itertools.count(1)
    for _ in range(400):
        if expected and draw.random() < 0.45:
            number = draw.choice(list(expected))
            del expected[number]
            index.remove([number])
        else:
            number = next(fresh)
            expected[number] = packed(tuple(draw.gauss(0, 1) for _ in range(8)))
            index.add([number], expected[number])
    assert len(index) == len(expected)
    for number, vector in expected.items():
        assert numbers_of(index, vector, 1) == [number]


def test_ten_of_random_vectors_are_found_as_by_comparing_all(make: Make) -> None:
    drawn = np.random.default_rng(11)
    vectors = drawn.standard_normal((COUNT, DIMENSION)).astype("<f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = make(DIMENSION)
    # In pieces, as they come in life.
    for begin in range(0, COUNT, 1000):
        index.add(list(range(begin, begin + 1000)), vectors[begin : begin + 1000].tobytes())
    found = 0
    for query in drawn.standard_normal((QUERIES, DIMENSION)).astype("<f4"):
        best = set(np.argsort(vectors @ query)[-10:].tolist())
        found += len(best & set(numbers_of(index, query.tobytes())))
    assert found / (10 * QUERIES) >= 0.99
