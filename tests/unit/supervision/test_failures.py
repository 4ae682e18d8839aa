"""What an actor's counters say of its failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.sections import HealthSettings
from protocol.lifecycle import Health
from protocol.messages.actor import Counters
from supervision.failures import Failures

SETTINGS = HealthSettings(
    window_s=30, min_calls=10, failures_in_a_row=3, degraded_error_rate=0.1,
    unhealthy_error_rate=0.2,
)  # fmt: skip


class Actor:
    """Counts as an actor does, and is looked at once a second."""

    def __init__(self) -> None:
        self.failures = Failures(SETTINGS)
        self.now = 100.0
        self._handled = self._failed = self._in_a_row = 0

    def work(self, good: int, bad: int = 0, *, bad_last: bool = False) -> Health:
        """A second with so many good and bad requests; the bad ones come first."""
        self.now += 1
        self._handled += good
        self._failed += bad
        self._in_a_row = self._in_a_row + bad if not good else (bad if bad_last else 0)
        self.failures.take(
            Counters(
                handled=self._handled, failed=self._failed, failed_in_a_row=self._in_a_row
            ),
            self.now,
        )  # fmt: skip
        return self.health

    @property
    def health(self) -> Health:
        return self.failures.judge(self.now)[0]

    @property
    def reason(self) -> str:
        return self.failures.judge(self.now)[1]


@pytest.mark.parametrize(
    ("good", "bad", "health"),
    [
        (100, 0, Health.HEALTHY), (91, 9, Health.HEALTHY), (90, 10, Health.DEGRADED),
        (80, 20, Health.DEGRADED), (79, 21, Health.UNHEALTHY), (8, 2, Health.DEGRADED),
        # Too few to mean anything.
        (8, 1, Health.HEALTHY), (0, 1, Health.HEALTHY), (0, 2, Health.HEALTHY),
    ],
)  # fmt: skip
def test_the_share_of_failures_decides_once_there_are_enough_requests(
    good: int, bad: int, health: Health
) -> None:
    assert Actor().work(good, bad) is health


def test_three_failures_in_a_row_are_enough_however_few_requests_there_were() -> None:
    it = Actor()
    assert it.work(0, 2) is Health.HEALTHY
    assert it.work(0, 1) is Health.UNHEALTHY
    assert it.reason == "its last 3 requests all failed"
    assert it.work(1) is Health.HEALTHY


def test_failures_in_a_row_are_forgotten_when_nobody_asks_any_more() -> None:
    it = Actor()
    it.work(0, 3)
    it.now += SETTINGS.window_s - 1
    seen = [it.health]
    it.now += 2
    seen.append(it.health)
    assert seen == [Health.UNHEALTHY, Health.HEALTHY]


def test_what_is_older_than_the_window_does_not_count() -> None:
    it = Actor()
    assert it.work(70, 30) is Health.UNHEALTHY
    it.now += SETTINGS.window_s
    assert it.work(100) is Health.HEALTHY


def test_the_reason_has_the_numbers() -> None:
    it = Actor()
    it.work(85, 15)
    assert it.reason == "15 of 100 requests failed within 30 s (15 %)"
    it.now += 100
    assert it.reason == ""


def test_a_rate_at_a_threshold_does_not_change_the_health_with_every_request() -> None:
    it = Actor()
    it.work(790, 210)
    seen = {it.work(9, 1) for _ in range(3)} | {it.work(4) for _ in range(3)}
    assert seen == {Health.UNHEALTHY}
    # Clearly below it: 210 of 1,400 is 15 %.
    assert it.work(400) is Health.DEGRADED
    # And the same below the lower one: 7.5 %.
    assert it.work(1300) is Health.DEGRADED
    assert it.work(300) is Health.HEALTHY


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=40))
def test_counters_that_only_grow_never_confuse_it(seconds: list[tuple[int, int]]) -> None:
    it = Actor()
    for good, bad in seconds:
        it.work(good, bad, bad_last=True)
        health, reason = it.failures.judge(it.now)
        assert (health is Health.HEALTHY) is (reason == "")


def test_what_callers_wait_for_in_vain_makes_it_unhealthy_though_it_counts_nothing() -> None:
    it = Actor()
    it.work(good=5)
    it.now += 1
    it.failures.seen_by_callers(2, it.now)
    assert it.reason == ""
    it.failures.seen_by_callers(1, it.now)
    assert it.health is Health.UNHEALTHY
    assert it.reason == "its callers had no answer to their last 3 requests"


def test_an_answer_to_anybody_ends_what_callers_saw() -> None:
    it = Actor()
    it.failures.seen_by_callers(5, it.now)
    assert it.health is Health.UNHEALTHY
    assert it.work(good=1) is Health.HEALTHY


def test_what_callers_saw_is_forgotten_after_the_window() -> None:
    it = Actor()
    it.failures.seen_by_callers(5, it.now)
    it.now += SETTINGS.window_s + 1
    assert it.health is Health.HEALTHY


def test_a_failure_that_it_counts_itself_is_not_counted_twice() -> None:
    it = Actor()
    it.failures.seen_by_callers(2, it.now)
    assert it.work(good=18, bad=1) is Health.HEALTHY
