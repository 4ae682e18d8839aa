"""When a source is tried again, and when it is given up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.storage.retrying import Retries, RetryPolicy
from actors.storage.sources import NoRanges, NotThere
from protocol.errors import (
    AssetCorrupt,
    AssetUnavailable,
    Cancelled,
    DiskFull,
    MissingDependency,
    NoyauError,
)

AWAY = AssetUnavailable("away")
DRAWS = st.floats(0, 1, exclude_max=True)


def evenly() -> float:
    return 0.0


def waits(retries: Retries, error: NoyauError, count: int) -> list[float | None]:
    return [retries.again_at(error, now=0.0) for _ in range(count)]


def test_three_retries_come_after_two_four_and_eight_seconds() -> None:
    assert waits(Retries(draw=evenly), AWAY, 5) == [2, 4, 8, None, None]


@given(DRAWS, st.floats(0, 1e6))
def test_jitter_adds_at_most_a_quarter(drawn: float, now: float) -> None:
    at = Retries(draw=lambda: drawn).again_at(AWAY, now)
    assert at is not None
    assert 2 - 1e-6 <= at - now <= 2.5 + 1e-6


def test_progress_gives_all_retries_back() -> None:
    retries = Retries(draw=evenly)
    waits(retries, AWAY, 3)
    retries.progressed()
    assert waits(retries, AWAY, 4) == [2, 4, 8, None]


@pytest.mark.parametrize(
    "error",
    [
        *(NotThere("x"), NoRanges("x"), AssetCorrupt("x"), MissingDependency("x")),
        *(Cancelled("x"), DiskFull("x"), NotThere("x", retry_after_s=1)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_trying_again_cannot_help_is_never_tried_again(error: NoyauError) -> None:
    assert Retries().again_at(error, now=0.0) is None


@given(st.floats(0, 120), DRAWS)
def test_nobody_comes_back_sooner_than_asked(asked_s: float, drawn: float) -> None:
    error = AssetUnavailable("busy", retry_after_s=asked_s)
    at = Retries(draw=lambda: drawn).again_at(error, now=0.0)
    assert at is not None
    assert max(2, asked_s) <= at <= max(2, asked_s) * 1.25


def test_a_place_that_asks_for_too_much_patience_is_given_up() -> None:
    assert Retries().again_at(AssetUnavailable("busy", retry_after_s=121.0), now=0.0) is None


@pytest.mark.parametrize("asked", ["5", None, -3, float("nan"), [1]])
def test_a_wait_that_is_no_number_of_seconds_is_none(asked: object) -> None:
    error = AssetUnavailable("busy", retry_after_s=asked)
    assert Retries(draw=evenly).again_at(error, now=0.0) == 2


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 5))
def test_without_progress_there_are_never_more_tries_than_the_policys(
    history: list[bool], allowed: int
) -> None:
    retries, in_a_row = Retries(RetryPolicy(retries=allowed), draw=evenly), 0
    for progress in history:
        if progress:
            retries.progressed()
            in_a_row = 0
        else:
            again = retries.again_at(AWAY, now=0.0) is not None
            assert again == (in_a_row < allowed)
            in_a_row += 1
