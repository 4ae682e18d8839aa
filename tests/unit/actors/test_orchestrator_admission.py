"""Who may use the engines now, who waits and in which order, and who makes room."""

from __future__ import annotations

import pytest

from actors.orchestrator.admission_terms import Capacity, Decision, DropMode
from tests.support.admission import CRITICAL, HIGH, LOW, NORMAL, Desk, retry_after, told

# --- slots and tokens ---------------------------------------------------------------------------


def test_whoever_finds_a_free_slot_goes_ahead() -> None:
    desk = Desk(slots=2)
    assert desk.enter("a").ahead == ("a",)
    assert desk.enter("b").ahead == ("b",)
    assert desk.enter("c") == Decision()


def test_a_slot_that_is_left_goes_to_who_came_first() -> None:
    desk = Desk()
    desk.fill("abcd")
    assert desk.order("a") == "bcd"


def test_whoever_does_not_fit_by_tokens_waits_beside_a_free_slot() -> None:
    desk = Desk(slots=3, tokens=100)
    desk.enter("a", cost=60)
    assert not desk.enter("b", cost=41).ahead
    assert desk.leave("a") == ["b"]


def test_nobody_overtakes_the_next_in_order_because_it_is_large() -> None:
    desk = Desk(slots=3, tokens=100)
    desk.enter("a", cost=60)
    desk.enter("large", cost=90)
    assert not desk.enter("small", cost=1).ahead
    assert desk.leave("a") == ["large", "small"]


def test_what_is_larger_than_everything_goes_alone() -> None:
    desk = Desk(slots=3, tokens=100)
    desk.enter("a")
    assert not desk.enter("huge", cost=500).ahead
    assert desk.leave("a") == ["huge"]
    assert not desk.enter("b").ahead
    assert desk.leave("huge") == ["b"]


def test_more_slots_let_more_go_ahead_at_once_in_their_order() -> None:
    desk = Desk()
    desk.fill("abcd")
    assert desk.queue.resize(Capacity(3), 0).ahead == ("b", "c")


def test_fewer_slots_turn_nobody_out_and_let_nobody_in() -> None:
    desk = Desk(slots=3)
    desk.fill("abcd")
    assert not desk.queue.resize(Capacity(1), 0).ahead
    assert desk.leave("a") == desk.leave("b") == []
    assert desk.leave("c") == ["d"]


def test_without_slots_everybody_waits_for_some() -> None:
    desk = Desk(slots=0)
    assert desk.enter("a", CRITICAL) == Decision()
    assert desk.queue.resize(Capacity(1), 0).ahead == ("a",)


def test_whoever_did_not_go_ahead_cannot_leave() -> None:
    desk = Desk()
    desk.fill("ab")
    with pytest.raises(KeyError):
        desk.leave("b")


# --- order --------------------------------------------------------------------------------------


def test_the_more_urgent_goes_first() -> None:
    desk = Desk()
    desk.enter("running")
    for key, priority in (("l", LOW), ("n", NORMAL), ("h", HIGH), ("c", CRITICAL)):
        desk.enter(key, priority)
    assert desk.order("running") == "chnl"


def test_the_more_urgent_goes_ahead_of_one_that_does_not_fit_yet() -> None:
    desk = Desk(slots=2, tokens=100)
    desk.enter("a", cost=60)
    desk.enter("large", cost=90)
    assert desk.enter("urgent", CRITICAL, cost=40).ahead == ("urgent",)


def test_a_client_with_many_tickets_does_not_delay_one_with_one() -> None:
    desk = Desk()
    desk.enter("running", client="busy")
    for key in "abcd":
        desk.enter(key, client="busy")
    desk.enter("x", client="quiet")
    assert desk.order("running") == "axbcd"


def test_clients_take_turns() -> None:
    desk = Desk()
    desk.enter("running")
    for key in ("a1", "a2", "a3", "b1", "b2", "c1"):
        desk.enter(key, client=key[0])
    assert desk.order("running") == "a1b1c1a2b2a3"


def test_new_clients_do_not_keep_one_from_its_next_turn() -> None:
    desk = Desk()
    desk.enter("running")
    desk.enter("a1", client="a")
    desk.enter("a2", client="a")
    desk.enter("b", client="b")
    assert desk.leave("running") == ["a1"]
    for number in range(5):
        desk.enter(f"new {number}", client=number)
    assert desk.leave("a1") == ["b"]
    assert desk.leave("b") == ["a2"]


def test_low_work_takes_its_turn_though_normal_and_high_work_never_ends() -> None:
    desk = Desk()
    desk.enter("0", HIGH)
    desk.enter("low", LOW, client="patient")
    for second in range(1, 40):
        desk.enter(str(second), (NORMAL, HIGH)[second % 2], client=second)
        desk.enter(f"{second} too", (NORMAL, HIGH)[second % 2], client=-second)
        desk.now = second
        [running] = desk.queue._running
        if desk.leave(running) == ["low"]:
            assert 20 <= second < 40
            return
    pytest.fail("it never went ahead")


@pytest.mark.parametrize(("waited", "before"), [(9.9, "hnl"), (10.0, "hln"), (20.0, "lhn")])
def test_a_ticket_rises_by_one_class_for_each_ten_seconds(waited: float, before: str) -> None:
    """It stands behind those that were in that class before it, and before those after it."""
    desk = Desk()
    desk.enter("running")
    desk.enter("l", LOW, client="l")
    desk.now = waited
    desk.queue.tick(desk.now)
    desk.enter("n", NORMAL, client="n")
    desk.enter("h", HIGH, client="h")
    assert desk.order("running") == before


def test_nothing_rises_into_the_critical_class() -> None:
    desk = Desk()
    desk.enter("running")
    desk.enter("h", HIGH)
    desk.enter("l", LOW)
    desk.now = 3600.0
    desk.enter("c", CRITICAL)
    assert desk.order("running") == "chl"


def test_whoever_rises_past_one_that_does_not_fit_goes_ahead_at_once() -> None:
    desk = Desk(slots=2, tokens=100)
    desk.enter("a", cost=60)
    desk.enter("b", cost=10)
    desk.enter("y1", client="y", cost=10)
    desk.enter("y2", client="y", cost=10)
    desk.now = 5.0
    desk.enter("large", client="x", cost=90)
    assert desk.leave("b") == ["y1"]
    assert desk.leave("y1") == [], "it is x's turn"
    assert desk.queue.next_tick == 10.0
    desk.now = 10.0
    assert desk.queue.tick(desk.now).ahead == ("y2",)


# --- a full queue -------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    desk = Desk(max_waiting=2)
    desk.fill("abc")
    refused = desk.enter("d")
    assert told(refused) == {"d": "overloaded"}
    assert retry_after(refused) > 0
    assert desk.order("a") == "bc"


def test_without_a_queue_only_a_free_slot_will_do() -> None:
    desk = Desk(max_waiting=0)
    assert desk.enter("a").ahead
    assert told(desk.enter("b", CRITICAL)) == {"b": "overloaded"}
    desk.leave("a")
    assert desk.enter("b").ahead


def test_drop_mode_low_displaces_the_youngest_of_the_lowest_class_below() -> None:
    desk = Desk(max_waiting=4)
    desk.fill("rn", NORMAL)
    desk.fill("12", LOW)
    desk.fill("h", HIGH)
    assert told(desk.enter("H", HIGH)) == {"2": "overloaded"}
    assert told(desk.enter("N", NORMAL)) == {"1": "overloaded"}
    assert told(desk.enter("x", NORMAL)) == {"x": "overloaded"}, "none is below it"
    assert desk.order("r") == "hHnN"


def test_drop_mode_oldest_displaces_who_waits_longest_in_the_lowest_class() -> None:
    desk = Desk(max_waiting=3, drop_mode=DropMode.OLDEST)
    desk.fill("rn", NORMAL)
    desk.fill("12", LOW)
    assert told(desk.enter("3", LOW)) == {"1": "overloaded"}
    assert told(desk.enter("h", HIGH)) == {"2": "overloaded"}
    assert told(desk.enter("N", NORMAL)) == {"3": "overloaded"}
    assert told(desk.enter("4", LOW)) == {"4": "overloaded"}, "all are above it"
    assert told(desk.enter("M", NORMAL)) == {"n": "overloaded"}
    assert desk.order("r") == "hNM"


def test_drop_mode_all_drops_everybody_but_the_critical() -> None:
    desk = Desk(max_waiting=4, drop_mode=DropMode.ALL)
    desk.fill("r")
    desk.enter("c", CRITICAL)
    desk.enter("h", HIGH)
    desk.fill("nm")
    assert told(desk.enter("l", LOW)) == dict.fromkeys("hnm", "overloaded")
    assert desk.order("r") == "cl"


@pytest.mark.parametrize("mode", DropMode)
def test_what_is_critical_is_never_displaced(mode: DropMode) -> None:
    desk = Desk(max_waiting=2, drop_mode=mode)
    desk.fill("rab", CRITICAL)
    assert told(desk.enter("x", CRITICAL)) == {"x": "overloaded"}
    assert desk.order("r") == "ab"


def test_when_the_large_one_at_the_front_is_displaced_the_next_goes_ahead() -> None:
    desk = Desk(slots=3, tokens=100, max_waiting=2)
    desk.enter("running", cost=60)
    desk.enter("large", LOW, cost=90, client="l")
    desk.enter("c", CRITICAL, cost=90)
    decision = desk.enter("h", HIGH, cost=10)
    assert told(decision) == {"large": "overloaded"}
    assert not decision.ahead, "the critical one does not fit yet, and is before it"
    assert desk.queue.abandon("c", desk.now).ahead == ("h",)


@pytest.mark.parametrize(
    ("mode", "dropped", "ahead"),
    [
        (DropMode.OLDEST, ["large"], ("small", "last")),
        (DropMode.ALL, ["large", "small"], ("last",)),
    ],
)
def test_who_stood_behind_a_dropped_one_that_did_not_fit_goes_ahead(
    mode: DropMode, dropped: list[str], ahead: tuple[str, ...]
) -> None:
    desk = Desk(slots=3, tokens=100, max_waiting=2, drop_mode=mode)
    desk.enter("running", cost=60)
    desk.enter("large", cost=90)
    desk.enter("small")
    decision = desk.enter("last")
    assert told(decision) == dict.fromkeys(dropped, "overloaded")
    assert decision.ahead == ahead
