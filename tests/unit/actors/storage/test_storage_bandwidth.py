"""The token bucket that all fetching threads draw from."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.storage.bandwidth import BURST_S, Bandwidth, TokenBucket
from protocol.clock import ManualClock
from protocol.errors import Cancelled

RATES = st.floats(1, 1e9)
SIZES = st.integers(1, 4 << 20)


def never() -> bool:
    return False


def passing(bucket: TokenBucket, count: int, now: float) -> float:
    """The moment when ``count`` bytes pass, for whoever takes them at ``now`` and waits."""
    ticket = bucket.take(count, now)
    while wait_s := bucket.wait_s(ticket, now):
        now += wait_s
    return now


@given(RATES, st.integers(0, 1 << 20), st.lists(st.tuples(SIZES, st.floats(0, 10)), min_size=2))
def test_no_stretch_of_time_lets_more_pass_than_the_burst_and_its_share(
    rate: float, burst: int, takes: list[tuple[int, float]]
) -> None:
    bucket, now = TokenBucket(rate, burst, 0.0), 0.0
    passed: list[tuple[float, int]] = []
    for count, idle_s in takes:
        now = passing(bucket, count, now + idle_s)
        passed.append((now, count))
    for first in range(len(passed)):
        came = 0
        for at, count in passed[first + 1 :]:
            came += count
            allowed = burst + rate * (at - passed[first][0])
            assert came <= allowed * (1 + 1e-6) + 1


@given(RATES, st.lists(SIZES, min_size=1))
def test_the_limit_is_used_to_the_full(rate: float, takes: list[int]) -> None:
    bucket, now = TokenBucket(rate, 0, 0.0), 0.0
    for count in takes:
        now = passing(bucket, count, now)
    assert now == pytest.approx(sum(takes) / rate, rel=1e-6)


def test_a_burst_passes_at_once_and_is_there_again_after_a_pause() -> None:
    bucket = TokenBucket(100, 50, now=0)
    assert bucket.wait_s(bucket.take(50, 0), 0) == 0
    assert bucket.wait_s(bucket.take(10, 0), 0) == pytest.approx(0.1)
    assert bucket.wait_s(bucket.take(50, 10), 10) == 0


def test_who_waits_is_not_overtaken_by_something_small() -> None:
    bucket = TokenBucket(100, 0, now=0)
    large, small = bucket.take(1000, 0), bucket.take(1, 0)
    assert bucket.wait_s(large, 0) < bucket.wait_s(small, 0)


def test_another_limit_counts_for_who_waits_already() -> None:
    bucket = TokenBucket(10, 0, now=0)
    ticket = bucket.take(1000, 0)
    assert bucket.wait_s(ticket, 50) == pytest.approx(50)
    bucket.change(500, 0, now=50)
    assert bucket.wait_s(ticket, 50) == pytest.approx(1)


def test_what_is_given_back_passes_sooner_for_the_others() -> None:
    bucket = TokenBucket(10, 0, now=0)
    bucket.take(100, 0)
    other = bucket.take(10, 0)
    bucket.give_back(100, 0)
    assert bucket.wait_s(other, 0) == pytest.approx(1)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, -1), (float("nan"), 1)])
def test_a_limit_that_is_none_is_refused(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="no limit"):
        TokenBucket(rate, burst, 0)


def test_without_a_limit_nobody_waits() -> None:
    def no_waiting(_: float) -> None:
        raise AssertionError("waited")

    Bandwidth(None, ManualClock(), no_waiting).take(1 << 40, never)


def test_several_threads_share_one_limit() -> None:
    clock = ManualClock()
    bandwidth = Bandwidth(1000, clock, clock.advance)

    def fetch() -> None:
        for _ in range(50):
            bandwidth.take(100, never)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1000 * (clock.now() + BURST_S) + 1 >= 4 * 50 * 100


def test_cancelling_ends_the_waiting_and_gives_the_share_back() -> None:
    clock = ManualClock()
    bandwidth = Bandwidth(1000, clock, clock.advance)
    with pytest.raises(Cancelled):
        bandwidth.take(1_000_000, lambda: clock.now() > 1)
    assert clock.now() < 2
    began = clock.now()
    bandwidth.take(1000, never)
    assert clock.now() - began <= 1


def test_lifting_the_limit_frees_who_waits() -> None:
    clock = ManualClock()

    def lift_after_a_while(seconds: float) -> None:
        if clock.advance(seconds) > 1:
            bandwidth.limit(None)

    bandwidth = Bandwidth(1000, clock, lift_after_a_while)
    bandwidth.take(1_000_000, never)
    assert clock.now() < 2
