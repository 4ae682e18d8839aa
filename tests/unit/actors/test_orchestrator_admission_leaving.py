"""Who stops waiting before its turn, and what can be seen of everybody."""

from __future__ import annotations

from actors.orchestrator.admission_terms import Decision, Refusal
from protocol.errors import DeadlineExceeded
from tests.support.admission import CRITICAL, HIGH, LOW, NORMAL, Desk, told

# --- deadlines and who stops waiting ------------------------------------------------------------


def test_whoever_waits_past_its_deadline_is_told() -> None:
    desk = Desk()
    desk.enter("a")
    desk.enter("b", deadline=5.0)
    desk.enter("c", deadline=3.0)
    assert desk.queue.next_tick == 3.0
    desk.now = 3.0
    decision = desk.queue.tick(desk.now)
    assert told(decision) == {"c": DeadlineExceeded.code}
    assert desk.queue.next_tick == 5.0
    assert desk.queue.metrics().expired == 1
    assert desk.order("a") == "b"


def test_when_the_next_in_order_expires_whoever_is_behind_it_goes_ahead() -> None:
    desk = Desk(slots=2, tokens=100)
    desk.enter("a", cost=60)
    desk.enter("large", cost=90, deadline=5.0)
    desk.enter("small", cost=1)
    desk.now = 5.0
    decision = desk.queue.tick(desk.now)
    assert told(decision) == {"large": DeadlineExceeded.code}
    assert decision.ahead == ("small",)


def test_a_deadline_says_nothing_of_who_went_ahead() -> None:
    desk = Desk()
    desk.enter("a", deadline=1.0)
    assert desk.queue.next_tick is None
    desk.now = 2.0
    assert desk.queue.tick(desk.now) == Decision()


def test_who_no_longer_wants_to_wait_is_passed_over() -> None:
    desk = Desk()
    desk.fill("abc")
    assert not desk.queue.abandon("b", 0).ahead
    assert desk.order("a") == "c"


def test_who_stops_waiting_when_it_was_just_told_to_go_ahead_frees_its_slot() -> None:
    desk = Desk()
    desk.measured(1)
    desk.fill("abc")
    desk.now += 100
    assert desk.queue.abandon("a", desk.now).ahead == ("b",)
    assert desk.queue.metrics().rate_per_s == 1, "nothing was measured by it"


def test_who_is_not_inside_any_more_can_stop_waiting() -> None:
    desk = Desk(max_waiting=0)
    desk.enter("a")
    desk.enter("refused")
    assert desk.queue.abandon("refused", 0) == Decision()


# --- what can be seen ---------------------------------------------------------------------------


def test_the_metrics_say_what_became_of_everybody() -> None:
    desk = Desk(slots=2, tokens=1000, max_waiting=4)
    desk.enter("a", cost=100)
    desk.enter("b", cost=200)
    for key, priority in (("c", CRITICAL), ("n", NORMAL), ("m", NORMAL), ("l", LOW)):
        desk.enter(key, priority, deadline=9.0 if key == "m" else None)
    desk.enter("h", HIGH)
    desk.enter("refused", LOW)
    desk.now = 4.0
    desk.leave("a")
    desk.queue.abandon("n", desk.now)
    desk.now = 9.0
    desk.queue.tick(desk.now)
    seen = desk.queue.metrics()
    assert seen.waiting == {CRITICAL: 0, HIGH: 1, NORMAL: 0, LOW: 0}
    assert (seen.running, seen.tokens) == (2, 201)
    assert (seen.entered, seen.admitted, seen.finished) == (7, 3, 1)
    assert (seen.dropped, seen.abandoned, seen.expired) == (1, 1, 1)
    assert seen.refused == {Refusal.FULL: 1, Refusal.TOO_LATE: 0, Refusal.SHEDDING: 0}
    assert seen.rate_per_s == 2 / 4
    assert seen.estimated_wait_s == 4.0
    assert seen.max_waiting == 4


def test_a_queue_that_nobody_has_entered_shows_what_it_does_not_know() -> None:
    seen = Desk(slots=2).queue.metrics()
    assert seen.rate_per_s is None
    assert seen.hard_open_until is None
    assert (seen.estimated_wait_s, seen.max_waiting) == (0.0, 100)
