"""Who may use the engine now and who waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.orchestrator.slots import Slots
from protocol.errors import Overloaded


def test_whoever_finds_a_free_slot_goes_ahead() -> None:
    slots: Slots[str] = Slots(2, 10)
    assert slots.enter("a")
    assert slots.enter("b")
    assert not slots.enter("c")
    assert (slots.using, slots.waiting) == (2, 1)


def test_a_slot_that_is_left_goes_to_who_came_first() -> None:
    slots: Slots[str] = Slots(1, 10)
    for who in ("a", "b", "c"):
        slots.enter(who)
    assert slots.leave() == ["b"]
    assert slots.leave() == ["c"]
    assert slots.leave() == []
    assert slots.using == 0


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    slots: Slots[str] = Slots(1, 2)
    for who in ("a", "b", "c"):
        slots.enter(who)
    with pytest.raises(Overloaded) as caught:
        slots.enter("d")
    assert caught.value.details["retry_after_s"] > 0
    assert slots.waiting == 2
    assert slots.leave() == ["b"]
    assert not slots.enter("d")


def test_without_a_queue_only_a_free_slot_will_do() -> None:
    slots: Slots[str] = Slots(1, 0)
    assert slots.enter("a")
    with pytest.raises(Overloaded):
        slots.enter("b")
    assert slots.leave() == []
    assert slots.enter("b")


def test_who_no_longer_wants_to_wait_is_passed_over() -> None:
    slots: Slots[str] = Slots(1, 10)
    for who in ("a", "b", "c"):
        slots.enter(who)
    slots.abandon("b")
    assert slots.leave() == ["c"]


def test_who_does_not_wait_cannot_stop_waiting() -> None:
    slots: Slots[str] = Slots(1, 10)
    slots.enter("a")
    with pytest.raises(ValueError, match="not in deque"):
        slots.abandon("a")


def test_more_slots_let_more_go_ahead_at_once_in_their_order() -> None:
    slots: Slots[str] = Slots(1, 10)
    for who in ("a", "b", "c", "d"):
        slots.enter(who)
    assert slots.resize(3) == ["b", "c"]
    assert (slots.using, slots.waiting) == (3, 1)


def test_fewer_slots_turn_nobody_out_and_let_nobody_in() -> None:
    slots: Slots[str] = Slots(3, 10)
    for who in ("a", "b", "c", "d"):
        slots.enter(who)
    assert slots.resize(1) == []
    assert slots.using == 3
    assert slots.leave() == []
    assert slots.leave() == []
    assert slots.leave() == ["d"]


STEPS = st.lists(
    st.one_of(
        st.just(("enter", 0)),
        st.tuples(st.sampled_from(["leave", "abandon"]), st.integers(0, 20)),
        st.tuples(st.just("resize"), st.integers(0, 4)),
    ),
    max_size=60,
)


@given(st.integers(0, 4), st.integers(0, 4), STEPS)
def test_first_come_first_served_within_all_bounds(
    capacity: int, max_waiting: int, steps: list[tuple[str, int]]
) -> None:
    """Against a list of who uses and a list of who waits."""
    slots: Slots[int] = Slots(capacity, max_waiting)
    using: list[int] = []
    waiting: list[int] = []
    for number, (step, argument) in enumerate(steps):
        before = len(using)
        admitted: list[int] = []
        if step == "enter":
            try:
                (using if slots.enter(number) else waiting).append(number)
            except Overloaded:
                assert len(waiting) == max_waiting
                assert before >= capacity or waiting
        elif step == "leave" and using:
            using.pop(argument % len(using))
            admitted = slots.leave()
        elif step == "abandon" and waiting:
            slots.abandon(waiting.pop(argument % len(waiting)))
        elif step == "resize":
            capacity = argument
            admitted = slots.resize(capacity)
        assert admitted == waiting[: len(admitted)], "somebody was overtaken"
        using += admitted
        del waiting[: len(admitted)]
        assert (slots.using, slots.waiting) == (len(using), len(waiting))
        assert len(using) <= max(capacity, before), "more than there are slots for"
        assert len(waiting) <= max_waiting
        assert not waiting or len(using) >= capacity, "somebody waits beside a free slot"
