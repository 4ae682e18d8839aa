"""Whose turn it is to be looked at, where there are many."""

from __future__ import annotations

from supervision.turns import LOOKS_AT_ONCE, QUIET_LOOKS, Quiet, Turns


def test_few_are_all_looked_at_every_time() -> None:
    keys = [f"a.{number}" for number in range(LOOKS_AT_ONCE)]
    turns = Turns()
    assert [turns.take(keys), turns.take(keys)] == [set(keys)] * 2


def test_of_many_each_has_its_turn_before_any_has_a_second() -> None:
    keys = [f"a.{number}" for number in range(3 * LOOKS_AT_ONCE)]
    turns = Turns()
    taken = [turns.take(keys) for _ in range(3)]
    assert all(len(some) == LOOKS_AT_ONCE for some in taken)
    assert set().union(*taken) == set(keys)


def test_turns_go_on_when_there_are_suddenly_fewer() -> None:
    turns = Turns()
    many = [f"a.{number}" for number in range(5 * LOOKS_AT_ONCE)]
    for _ in range(4):
        turns.take(many)
    fewer = many[: LOOKS_AT_ONCE + 1]
    assert set().union(*(turns.take(fewer) for _ in range(2))) == set(fewer)


def test_a_loop_that_stands_still_is_asked_about_after_some_looks_until_it_turns() -> None:
    quiet = Quiet()
    assert not quiet.look(1.0)
    looks = [quiet.look(1.0) for _ in range(QUIET_LOOKS + 2)]
    assert looks == [False] * (QUIET_LOOKS - 1) + [True] * 3
    assert not quiet.look(2.0)


def test_one_that_shows_nothing_is_asked_about_in_the_end() -> None:
    quiet = Quiet()
    assert any(quiet.look(None) for _ in range(QUIET_LOOKS))
