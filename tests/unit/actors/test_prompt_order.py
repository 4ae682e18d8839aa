"""Whose prompt is read next: nobody waits for ever, and a short one not for a long one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from actors.engine.backends.prompts import KnownPrompts, PromptOrder, PromptTurns

BATCH = 256
SHORT, LONG = 50, 2000


def coming(*sizes: int) -> PromptOrder:
    """Prompts that came in this order, called by their number."""
    order = PromptOrder(BATCH)
    for number, size in enumerate(sizes):
        order.come(number, size)
    return order


def test_of_long_prompts_the_first_one_is_read_first_and_alone() -> None:
    order = coming(LONG, LONG, LONG)
    assert not order.begins(1)
    assert order.begins(0)
    assert not order.begins(1)
    order.over(0)
    assert not order.begins(2)
    assert order.begins(1)


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    order = coming(LONG, LONG, SHORT)
    assert order.begins(0)
    assert order.begins(2)


def test_short_ones_together_leave_half_of_each_batch_to_a_long_one() -> None:
    order = coming(LONG, SHORT, SHORT, SHORT)
    assert order.begins(0)
    assert [order.begins(number) for number in (1, 2, 3)] == [True, True, False]
    order.over(1)
    assert order.begins(3)


def test_where_all_are_small_several_are_read_together_however_small_a_batch_is() -> None:
    order = PromptOrder(64)
    for number in range(4):
        order.come(number, SHORT)
    assert [order.begins(number) for number in range(4)] == [True, True, False, False]
    order.come("long", LONG)
    order.over(0)
    # As soon as there is a long one, each waits for its turn.
    assert not order.begins(2)
    order.over(1)
    assert order.begins(2)
    assert not order.begins(3)


def test_short_ones_keep_their_order_too() -> None:
    order = coming(SHORT, SHORT)
    assert not order.begins(1)
    assert order.begins(0)
    assert order.begins(1)


def test_a_prompt_that_nobody_wants_any_more_holds_up_nobody() -> None:
    order = coming(LONG, LONG, LONG)
    order.over(0)
    assert order.begins(1)
    order.over(1)
    order.over(1)
    assert order.begins(2)


@given(st.lists(st.integers(1, 4 * BATCH), min_size=1, max_size=20), st.data())
def test_in_the_end_all_are_read_and_the_short_ones_never_take_more_than_their_half(
    sizes: list[int], data: st.DataObject
) -> None:
    order = coming(*sizes)
    waiting, reading = list(range(len(sizes))), list[int]()
    while waiting or reading:
        began = [number for number in waiting if order.begins(number)]
        waiting = [number for number in waiting if number not in began]
        reading += began
        short = [sizes[number] for number in reading if sizes[number] <= BATCH // 2]
        long = [sizes[number] for number in reading if sizes[number] > BATCH // 2]
        assert len(long) <= 1
        assert sum(short) <= BATCH // 2
        assert reading, "somebody waits, and nobody is read"
        over = data.draw(st.sampled_from(reading))
        reading.remove(over)
        order.over(over)


def unread(known: KnownPrompts, prompt: list[int]) -> int:
    """How much of it has to be read; nothing is taken away for it."""
    count, held = known.take(prompt)
    known.give_back(held)
    return count


def test_what_an_idle_slot_holds_has_not_to_be_read() -> None:
    known = KnownPrompts(slots=2)
    assert unread(known, [1, 2, 3]) == 3
    known.give_back([1, 2, 3])
    assert unread(known, [1, 2, 3, 4, 5]) == 2
    assert unread(known, [1, 2, 9]) == 1
    assert unread(known, [9, 2, 3]) == 3
    # The last token is always read.
    assert unread(known, [1, 2, 3]) == 1


def test_a_slot_serves_one_answer() -> None:
    known = KnownPrompts(slots=2)
    known.give_back([1, 2, 3])
    count, held = known.take([1, 2, 3, 4])
    assert (count, unread(known, [1, 2, 3, 4])) == (1, 4)
    known.give_back(held)
    assert unread(known, [1, 2, 3, 4]) == 1


def test_no_more_is_known_than_there_are_slots() -> None:
    known = KnownPrompts(slots=2)
    for prompt in ([1, 1], [2, 2], [3, 3]):
        known.give_back(prompt)
    assert [unread(known, [n, n, n]) for n in (1, 2, 3)] == [3, 1, 1]


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2), min_size=1))
def test_what_is_unread_is_what_differs(one: list[int], other: list[int]) -> None:
    known = KnownPrompts(slots=1)
    known.give_back(one)
    alike = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    assert unread(known, other) == max(1, len(other) - alike)


def wanted_twice() -> Callable[[], bool]:
    """Somebody who looks once whether it is his turn, and then wants it no more."""
    left = [True]
    return lambda: bool(left) and left.pop()


def test_a_conversation_that_goes_on_does_not_wait_for_a_long_prompt() -> None:
    turns = PromptTurns(BATCH, 2)
    talk = list(range(LONG))
    assert turns.wait("talk", talk, lambda: True)
    turns.leave("talk", talk)
    assert turns.wait("long", range(-LONG, 0), lambda: True)
    assert turns.wait("next turn", [*talk, *range(-SHORT, 0)], lambda: True)


def test_long_prompts_that_begin_alike_are_read_one_at_a_time_while_no_slot_holds_them() -> None:
    turns = PromptTurns(BATCH, 8)
    alike = [[*range(LONG), -number] for number in range(8)]
    assert turns.wait(0, alike[0], lambda: True)
    for number in range(1, 8):
        assert not turns.wait(number, alike[number], wanted_twice())
        turns.leave(number)


def test_what_was_not_read_to_its_end_is_not_known() -> None:
    turns = PromptTurns(BATCH, 2)
    assert turns.wait("cancelled", range(LONG), lambda: True)
    turns.leave("cancelled")
    assert turns.wait("long", range(-LONG, 0), lambda: True)
    assert not turns.wait("again", range(LONG), wanted_twice())


def test_a_thread_that_waits_is_told_when_it_is_its_turn() -> None:
    turns = PromptTurns(BATCH, 2)
    assert turns.wait("first", range(LONG), lambda: True)
    came: list[bool] = []
    waiter = threading.Thread(
        target=lambda: came.append(turns.wait("next", range(-LONG, 0), lambda: True))
    )
    waiter.start()
    turns.over("first")
    waiter.join(20)
    assert came == [True]


def test_a_thread_whose_prompt_is_not_wanted_any_more_stops_waiting() -> None:
    turns, wanted = PromptTurns(BATCH, 2), threading.Event()
    wanted.set()
    assert turns.wait("first", range(LONG), wanted.is_set)
    came: list[bool] = []
    waiter = threading.Thread(
        target=lambda: came.append(turns.wait("next", range(-LONG, 0), wanted.is_set))
    )
    waiter.start()
    wanted.clear()
    waiter.join(20)
    assert came == [False]
