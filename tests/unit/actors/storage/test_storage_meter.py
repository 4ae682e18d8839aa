"""What a progress bar says of speed and remaining time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.storage.meter import FIRST_S, WINDOW_S, Meter


def test_nothing_is_said_before_the_first_second() -> None:
    meter = Meter()
    assert meter.rate(0) is None
    meter.note(0, 0)
    meter.note(0.9, 1000)
    assert meter.rate(0.9) is None
    assert meter.remaining_s(0.9, 2000) is None


@given(st.floats(1, 1e9), st.lists(st.floats(0.001, 3), min_size=1, max_size=200))
def test_a_steady_line_has_its_rate_however_often_it_is_read(
    rate: float, steps: list[float]
) -> None:
    meter, now = Meter(), 0.0
    meter.note(0, 0)
    for step in steps:
        now += step
        meter.note(now, round(rate * now))
    said = meter.rate(now)
    if now < FIRST_S:
        assert said is None
    else:
        assert said == pytest.approx(rate, rel=1e-3, abs=1.5)


@given(st.lists(st.tuples(st.floats(0.01, 5), st.integers(0, 1 << 30)), min_size=1, max_size=100))
def test_the_rate_is_never_negative_nor_above_the_fastest_stretch(
    steps: list[tuple[float, int]],
) -> None:
    meter, now, done = Meter(), 0.0, 0
    meter.note(0, 0)
    for step, count in steps:
        now, done = now + step, done + count
        meter.note(now, done)
    said = meter.rate(now)
    if said is not None:
        assert 0 <= said <= max(count / step for step, count in steps) * (1 + 1e-9)


def test_a_line_that_became_slow_shows_its_new_rate_after_the_window() -> None:
    meter = Meter()
    for second in range(100):
        meter.note(second, second * 1000)
    for second in range(100, 100 + int(WINDOW_S) + 1):
        meter.note(second, 99_000 + (second - 99) * 10)
    assert meter.rate(100 + WINDOW_S) == pytest.approx(10)


def test_a_line_that_stands_still_comes_down_to_nothing_and_has_no_remaining_time() -> None:
    meter = Meter()
    meter.note(0, 0)
    meter.note(2, 2000)
    assert meter.rate(2) == 1000
    assert meter.rate(4) == 500
    assert meter.rate(2 + WINDOW_S) == 0
    assert meter.remaining_s(2 + WINDOW_S, 4000) is None


def test_a_reading_close_to_the_one_before_is_forgotten_after_the_window_too() -> None:
    meter = Meter()
    for now, done in ((0, 0), (2, 2000), (2.01, 2500)):
        meter.note(now, done)
    assert meter.rate(2 + WINDOW_S + 0.1) == 0


def test_bytes_from_before_the_first_reading_are_not_counted_as_fast_ones() -> None:
    meter = Meter()
    meter.note(0, 5_000_000)
    meter.note(2, 5_002_000)
    assert meter.rate(2) == 1000
    assert meter.remaining_s(2, 5_012_000) == 10


def test_starting_over_begins_the_measuring_anew() -> None:
    meter = Meter()
    meter.note(0, 0)
    meter.note(2, 2000)
    meter.note(3, 0)
    assert meter.rate(3) is None
    meter.note(5, 200)
    assert meter.rate(5) == 100


def test_more_done_than_the_total_has_no_time_left() -> None:
    meter = Meter()
    meter.note(0, 0)
    meter.note(2, 2000)
    assert meter.remaining_s(2, 1000) == 0


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no window"):
        Meter(0)
