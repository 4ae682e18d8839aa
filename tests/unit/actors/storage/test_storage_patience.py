"""How long a server is waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.storage.sources.patience import Patience


def patience(stall_s: float = 10, minimum: float = 100, window_s: float = 5) -> Patience:
    return Patience(stall_s, minimum, window_s)


def test_without_a_byte_it_stalls_after_its_time_out() -> None:
    waiting = patience()
    waiting.wait(100)
    assert waiting.lost(109.9) is None
    assert waiting.lost(110) == "stalled"


def test_every_byte_begins_the_time_out_anew() -> None:
    waiting = patience(minimum=0)
    for second in range(0, 90, 9):
        waiting.wait(second)
        assert waiting.lost(second + 8.9) is None
        waiting.came(1, second + 9)
    waiting.wait(90)
    assert waiting.lost(100) == "stalled"


def test_coming_back_without_a_byte_is_still_waiting() -> None:
    waiting = patience()
    for second in range(10):
        waiting.wait(second)
        waiting.came(0, second + 1)
    waiting.wait(10)
    assert waiting.lost(10) == "stalled"


def test_the_rate_is_that_of_the_window_after_the_first_byte() -> None:
    waiting = patience()
    waiting.wait(0)
    waiting.came(1, 9)
    waiting.wait(9)
    assert waiting.lost(13.9) is None
    assert waiting.lost(14) == "slow"


def test_a_fast_beginning_does_not_pay_for_a_slow_end() -> None:
    waiting = patience()
    waiting.wait(0)
    waiting.came(1_000_000, 1)
    second, lost = 1, None
    while lost is None and second < 100:
        waiting.wait(second)
        second += 1
        lost = waiting.lost(second)
        waiting.came(10, second)
    assert lost == "slow"
    assert second <= 1 + 5 + 5


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 1e6)), max_size=50))
def test_a_slow_reader_makes_no_server_slow(steps: list[tuple[float, float]]) -> None:
    waiting, now = patience(), 0.0
    for waited_s, busy_s in steps:
        waiting.wait(now)
        now += waited_s
        assert waiting.lost(now) is None
        # Twice what is fast enough: what is still on its way at the window's end is not counted.
        waiting.came(int(200 * waited_s) + 1, now)
        now += busy_s


@given(st.floats(1, 1e6), st.floats(0.01, 2))
def test_whatever_drips_is_given_up_within_two_windows(minimum: float, every_s: float) -> None:
    waiting, now = Patience(1000, minimum * 2 / every_s, 5), 0.0
    for _ in range(2000):
        waiting.wait(now)
        now += every_s
        if waiting.lost(now):
            break
        waiting.came(int(minimum), now)
    assert now <= 2 * (5 + every_s) + every_s


def test_a_clock_that_goes_back_is_no_waiting() -> None:
    waiting = patience()
    waiting.wait(100)
    assert waiting.lost(0) is None
    waiting.came(0, 0)
    waiting.wait(0)
    assert waiting.lost(9.9) is None
    assert waiting.lost(10) == "stalled"


@pytest.mark.parametrize("window_s", [1, 5, 60])
def test_no_minimum_is_never_slow(window_s: float) -> None:
    waiting = Patience(10, 0, window_s)
    for second in range(0, 900, 9):
        waiting.wait(second)
        assert waiting.lost(second + 9) is None
        waiting.came(1, second + 9)
