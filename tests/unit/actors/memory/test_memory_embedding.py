"""What llama.cpp's vectors must be before anybody uses them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from actors.kernel.vectors import packed, read_vector
from actors.memory.reference import DIMENSION
from protocol.errors import EngineFailed


def test_a_vector_is_brought_to_unit_length() -> None:
    values = read_vector(packed([[3.0] * DIMENSION], DIMENSION)[0])
    assert math.fsum(x * x for x in values) == pytest.approx(1)
    assert set(values) == {values[0]}


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1.0] * (DIMENSION - 1),
        [0.0] * DIMENSION,
        [math.nan] * DIMENSION,
        [math.inf] * DIMENSION,
        # How llama.cpp's JSON shows what is no number.
        [1.0] * (DIMENSION - 1) + [None],
    ],
    ids=["none", "too few", "zeros", "nan", "infinite", "null"],
)
def test_a_vector_that_means_nothing_is_a_failure_and_never_an_answer(
    values: list[Any],
) -> None:
    with pytest.raises(EngineFailed, match="made a vector of"):
        packed([values], DIMENSION)
