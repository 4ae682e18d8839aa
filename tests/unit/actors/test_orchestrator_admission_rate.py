"""What the admission queue makes of how fast the engines are."""

from __future__ import annotations

import pytest

from actors.orchestrator.admission_terms import Decision, Refusal
from tests.support.admission import CRITICAL, Desk, retry_after, told


def test_before_anything_is_measured_no_deadline_is_too_near() -> None:
    desk = Desk()
    desk.enter("a")
    assert desk.enter("b", deadline=0.001) == Decision()


def test_what_cannot_be_finished_in_time_is_refused_at_once() -> None:
    desk = Desk()
    desk.measured(10)
    desk.fill("ab")
    refused = desk.enter("c", deadline=desk.now + 29)
    assert told(refused) == {"c": "overloaded"}
    assert desk.queue.metrics().refused[Refusal.TOO_LATE] == 1
    assert desk.enter("d", deadline=desk.now + 31) == Decision()


def test_whoever_goes_ahead_of_the_others_is_not_refused_for_their_number() -> None:
    desk = Desk()
    desk.measured(1)
    desk.fill("abcdefghij")
    assert told(desk.enter("n", deadline=desk.now + 5))
    assert desk.enter("c", CRITICAL, deadline=desk.now + 5) == Decision()
    assert desk.enter("m", client="another", deadline=desk.now + 5) == Decision()


def test_a_free_slot_is_given_however_near_the_deadline() -> None:
    desk = Desk()
    desk.measured(10)
    assert desk.enter("a", deadline=desk.now + 1).ahead


def test_a_slot_that_others_wait_for_is_not_given_to_what_cannot_be_finished() -> None:
    desk = Desk()
    desk.measured(10)
    desk.enter("a")
    desk.enter("b", deadline=desk.now + 25)
    desk.enter("c")
    desk.now += 20
    decision = desk.queue.leave("a", desk.now)
    assert told(decision) == {"b": "overloaded"}
    assert decision.ahead == ("c",)


def test_a_slot_that_nobody_else_waits_for_is() -> None:
    desk = Desk()
    desk.measured(10)
    desk.enter("a")
    desk.enter("b", deadline=desk.now + 25)
    desk.now += 20
    assert desk.leave("a") == ["b"]


def test_on_slow_engines_fewer_may_wait_but_one_for_each_slot() -> None:
    desk = Desk(slots=2)
    desk.measured(20)
    assert desk.queue.metrics().max_waiting == 12, "in 120 s, 2 slots do that many"
    desk.fill("12")
    desk.fill("abcdefghijkl")
    assert told(desk.enter("m")) == {"m": "overloaded"}
    slower = Desk(slots=2)
    slower.measured(1000)
    slower.fill("12ab")
    assert told(slower.enter("c")) == {"c": "overloaded"}
    assert slower.waiting() == slower.queue.metrics().max_waiting == 2


def test_retry_after_is_the_time_that_those_before_it_take() -> None:
    desk = Desk(slots=2, max_waiting=3)
    desk.measured(4)
    desk.fill("12abc")
    assert retry_after(desk.enter("x")) == pytest.approx(4 * 4 / 2)


@pytest.mark.parametrize(("answer_s", "retry_s"), [(0.001, 0.1), (1000, 60)])
def test_retry_after_has_bounds(answer_s: float, retry_s: float) -> None:
    desk = Desk(max_waiting=1)
    desk.measured(answer_s)
    desk.fill("ab")
    assert retry_after(desk.enter("x")) == retry_s


def test_the_measured_rate_follows_the_engines() -> None:
    desk = Desk()
    desk.measured(10)
    assert desk.queue.metrics().rate_per_s == pytest.approx(0.1)
    for _ in range(100):
        desk.measured(1)
    assert desk.queue.metrics().rate_per_s == pytest.approx(1, rel=0.01)
