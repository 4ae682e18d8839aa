"""Of what others can make happen as often as they like, the log gets some lines and a count."""

from __future__ import annotations

from actors.kernel.throttle import AT_ONCE, PER_S, Throttle


def test_the_first_ones_all_pass() -> None:
    throttle = Throttle()
    assert [throttle.passes(100.0) for _ in range(AT_ONCE)] == [0] * AT_ONCE


def test_of_a_flood_only_so_many_pass_in_a_second() -> None:
    throttle = Throttle()
    passed = [throttle.passes(100.0 + number / 1000) for number in range(10_000)]
    written = [skipped for skipped in passed if skipped is not None]
    assert len(written) == AT_ONCE + int(10 * PER_S) - 1


def test_the_next_one_that_passes_says_how_many_did_not() -> None:
    throttle = Throttle()
    for _ in range(AT_ONCE + 7):
        throttle.passes(100.0)
    assert throttle.passes(100.0 + 1 / PER_S) == 7
    assert throttle.passes(100.0 + 2 / PER_S) == 0
