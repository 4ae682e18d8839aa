"""Clocks never go back."""

from __future__ import annotations

import pytest

from protocol.clock import ManualClock, MonotonicClock


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(5.0)
    assert clock.now() == clock.now() == 5.0
    assert clock.advance(1.5) == 6.5
    assert clock.now() == 6.5


def test_a_manual_clock_may_be_moved_by_nothing_but_not_back() -> None:
    clock = ManualClock()
    assert clock.advance(0) == 0
    with pytest.raises(ValueError, match="cannot go back by 2 s"):
        clock.advance(-2)
    assert clock.now() == 0


def test_the_monotonic_clock_never_goes_back() -> None:
    clock = MonotonicClock()
    seen = [clock.now() for _ in range(1000)]
    assert seen == sorted(seen)
