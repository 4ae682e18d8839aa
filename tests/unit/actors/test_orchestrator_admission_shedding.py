"""When the admission queue opens hard, what it then does, and when it closes."""

from __future__ import annotations

from actors.orchestrator.admission_terms import Decision, HardClosed, HardOpen, Refusal
from tests.support.admission import CRITICAL, HIGH, LOW, NORMAL, Desk, retry_after, told


def open_hard(desk: Desk) -> None:
    """Have it reject until it is hard open, with four NORMAL ones waiting: the queue is full."""
    assert desk.queue.policy.max_waiting == 4
    desk.fill("abcd")
    for number in range(desk.queue.policy.hard_open_rejections):
        assert told(desk.enter(f"refused {number}"))
    assert desk.queue.metrics().hard_open_until is not None


def test_five_rejections_within_the_window_open_hard() -> None:
    desk = Desk(max_waiting=1, hard_open_rejections=5)
    desk.fill("ab")
    for number in range(5):
        assert desk.queue.metrics().hard_open_until is None
        desk.enter(str(number))
        desk.now += 2
    assert desk.queue.metrics().hard_open_until == 8 + 60
    [event] = desk.queue.take_events()
    assert event == HardOpen(8, 68, "5 rejections within 8.0 s", waiting=1, running=1)
    assert desk.queue.take_events() == []


def test_rejections_far_apart_do_not() -> None:
    desk = Desk(max_waiting=1, hard_open_rejections=5)
    desk.fill("ab")
    for number in range(20):
        desk.enter(str(number))
        desk.now += 2.6
    assert desk.queue.metrics().hard_open_until is None


def test_who_was_displaced_counts_as_rejected() -> None:
    desk = Desk(max_waiting=2, hard_open_rejections=2)
    desk.fill("r")
    desk.fill("ab", LOW)
    desk.fill("cd", HIGH)
    assert desk.queue.metrics().hard_open_until is not None


def test_while_hard_open_low_and_normal_are_shed_and_the_others_are_not() -> None:
    desk = Desk(max_waiting=4, hard_open_rejections=2)
    desk.enter("1")
    open_hard(desk)
    desk.leave("1")
    for priority in (LOW, NORMAL):
        shed = desk.enter("shed", priority)
        assert told(shed) == {"shed": "overloaded"}
        assert 0 < retry_after(shed) <= 60
    assert desk.queue.metrics().refused[Refusal.SHEDDING] == 2
    assert desk.enter("h", HIGH) == Decision()
    assert not told(desk.enter("c", CRITICAL)).get("c")


def test_hard_open_ends_when_half_of_the_queue_has_drained() -> None:
    desk = Desk(max_waiting=4, hard_open_rejections=2)
    desk.enter("1")
    open_hard(desk)
    desk.now = 3.0
    desk.enter("shed")
    desk.leave("1")
    assert desk.queue.metrics().hard_open_until is not None
    desk.leave("a")
    assert desk.queue.metrics().hard_open_until is None
    _, closed = desk.queue.take_events()
    assert closed == HardClosed(3, "the queue has drained", waiting=2, shed=1, lasted_s=3)
    assert desk.enter("e") == Decision()


def test_hard_open_ends_when_its_time_is_over_and_frees_the_kept_slot() -> None:
    desk = Desk(slots=2, max_waiting=4, hard_open_rejections=2)
    desk.fill("12")
    open_hard(desk)
    assert desk.leave("1") == [], "one slot is kept"
    assert desk.queue.next_tick == 10.0, "when some rise"
    desk.now = 30.0
    desk.queue.tick(desk.now)
    assert desk.queue.next_tick == 60.0
    desk.now = 60.0
    assert desk.queue.tick(desk.now).ahead == ("a",)
    _, closed = desk.queue.take_events()
    assert isinstance(closed, HardClosed)
    assert closed.reason == "the longest time is over"


def test_hard_open_is_over_in_time_though_nothing_but_an_arrival_says_so() -> None:
    desk = Desk(max_waiting=1, hard_open_rejections=2)
    desk.enter("1")
    desk.fill("abc", HIGH)
    assert desk.queue.metrics().hard_open_until == desk.queue.next_tick == 60.0
    desk.now = 59.9
    assert told(desk.enter("x")) == {"x": "overloaded"}
    assert desk.queue.metrics().refused[Refusal.SHEDDING] == 1
    desk.now = 60.0
    desk.enter("x")
    assert desk.queue.metrics().refused == {"shedding": 1, "full": 3, "too_late": 0}


def test_hard_open_without_anybody_waiting_ends_with_the_next_answer() -> None:
    desk = Desk(max_waiting=0, hard_open_rejections=2)
    desk.fill("abc")
    assert desk.queue.next_tick == 60.0
    desk.leave("a")
    assert desk.queue.metrics().hard_open_until is None
    assert desk.queue.next_tick is None


def test_after_hard_open_rejections_are_counted_from_none() -> None:
    desk = Desk(max_waiting=4, hard_open_rejections=2)
    desk.enter("1")
    open_hard(desk)
    desk.leave("1")
    desk.leave("a")
    desk.fill("efg")
    assert desk.queue.metrics().refused[Refusal.FULL] == 3
    assert desk.queue.metrics().hard_open_until is None


def test_rejections_while_hard_open_do_not_keep_it_open() -> None:
    desk = Desk(max_waiting=4, hard_open_rejections=2)
    desk.enter("1")
    open_hard(desk)
    for second in range(60):
        desk.now = second
        assert told(desk.enter(f"again {second}"))
    desk.now = 60.0
    desk.queue.tick(desk.now)
    assert desk.queue.metrics().hard_open_until is None
    assert told(desk.enter("one more")) == {"one more": "overloaded"}
    assert desk.queue.metrics().hard_open_until is None, "they are not counted afterwards either"


def test_while_hard_open_one_slot_is_kept_for_critical_work() -> None:
    desk = Desk(slots=3, max_waiting=4, hard_open_rejections=2)
    desk.fill("123")
    open_hard(desk)
    assert desk.leave("1") == []
    assert not desk.enter("h", HIGH).ahead
    assert desk.enter("c", CRITICAL).ahead == ("c",)
    assert desk.leave("2") == [], "its next one finds a slot as well"


def test_a_slot_that_is_the_only_one_is_not_kept() -> None:
    desk = Desk(max_waiting=4, hard_open_rejections=2)
    desk.enter("1")
    open_hard(desk)
    assert desk.leave("1") == ["a"]


def test_the_kept_slot_has_tokens() -> None:
    desk = Desk(slots=4, tokens=100, max_waiting=4, hard_open_rejections=2)
    desk.enter("1", cost=100)
    for key in "abcd":
        desk.enter(key, cost=50)
    for key in "xy":
        desk.enter(key)
    assert desk.leave("1") == ["a"], "75 tokens are left to those that are not critical"
    assert desk.enter("c!", CRITICAL, cost=25).ahead == ("c!",)
