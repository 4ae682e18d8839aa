"""Backoff grows, is bounded, and is drawn from zero to its ceiling."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.backoff import Backoff


@st.composite
def backoffs(draw: st.DrawFn) -> Backoff:
    first = draw(st.floats(0, 100))
    return Backoff(first, draw(st.floats(1, 100)), draw(st.floats(first, 1e6)))


attempts = st.integers(0, 10_000)


@given(backoffs(), attempts, st.floats(0, 1, exclude_max=True))
def test_a_delay_lies_between_zero_and_the_ceiling_and_the_ceiling_below_the_maximum(
    backoff: Backoff, attempt: int, drawn: float
) -> None:
    delay = backoff.delay(attempt, lambda: drawn)
    assert 0 <= delay <= backoff.ceiling(attempt) <= backoff.max_s


@given(backoffs(), attempts)
def test_the_ceiling_never_shrinks(backoff: Backoff, attempt: int) -> None:
    assert backoff.ceiling(attempt) <= backoff.ceiling(attempt + 1)


def test_the_ceiling_grows_by_the_factor_until_the_maximum() -> None:
    backoff = Backoff(first_s=0.1, factor=3.0, max_s=2.0)
    ceilings = [backoff.ceiling(attempt) for attempt in range(5)]
    assert ceilings == pytest.approx([0.1, 0.3, 0.9, 2.0, 2.0])


def test_the_drawn_number_scales_the_ceiling() -> None:
    assert Backoff(1.0, 2.0, 8.0).delay(2, lambda: 0.25) == 1.0


def test_own_draws_differ() -> None:
    backoff = Backoff()
    assert len({backoff.delay(5) for _ in range(20)}) > 1


def test_attempts_are_counted_from_zero() -> None:
    with pytest.raises(ValueError, match="not -1"):
        Backoff().ceiling(-1)


@pytest.mark.parametrize(
    ("first", "factor", "most"),
    [(-0.1, 2, 1), (0.1, 0.9, 1), (2, 2, 1), (math.nan, 2, 1), (0.1, math.nan, 1)],
)
def test_what_does_not_grow_or_is_not_bounded_is_refused(
    first: float, factor: float, most: float
) -> None:
    with pytest.raises(ValueError, match="not a growing, bounded backoff"):
        Backoff(first, factor, most)
