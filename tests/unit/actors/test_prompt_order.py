"""Whose prompt is read next: nobody waits for ever, and a short one not for a long one."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from actors.engine.backends.prompts import PromptOrder, PromptTurns
from tests.support.unhurried import unhurried

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


@unhurried
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


def test_a_thread_that_waits_is_told_when_it_is_its_turn() -> None:
    turns = PromptTurns(BATCH)
    assert turns.wait("first", LONG, lambda: True)
    came: list[bool] = []
    waiter = threading.Thread(target=lambda: came.append(turns.wait("next", LONG, lambda: True)))
    waiter.start()
    turns.over("first")
    waiter.join(20)
    assert came == [True]


def test_a_thread_whose_prompt_is_not_wanted_any_more_stops_waiting() -> None:
    turns, wanted = PromptTurns(BATCH), threading.Event()
    wanted.set()
    assert turns.wait("first", LONG, wanted.is_set)
    came: list[bool] = []
    waiter = threading.Thread(target=lambda: came.append(turns.wait("next", LONG, wanted.is_set)))
    waiter.start()
    wanted.clear()
    waiter.join(20)
    assert came == [False]
