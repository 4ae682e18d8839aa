"""In which order actors start and stop."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from supervision.order import start_order, stop_order

Needs = dict[str, list[str]]


@st.composite
def graphs(draw: st.DrawFn) -> Needs:
    """Names that need some of those before them in a random order: never a cycle."""
    letters = st.sampled_from(string.ascii_lowercase)
    names = draw(st.lists(letters, unique=True, max_size=8))
    return {
        name: draw(st.lists(st.sampled_from(names[:at]), unique=True)) if at else []
        for at, name in enumerate(names)
    }


@given(graphs())
def test_everyone_starts_once_and_after_what_he_needs(needs: Needs) -> None:
    order = start_order(needs)
    assert sorted(order) == sorted(needs)
    for name, required in needs.items():
        assert all(order.index(one) < order.index(name) for one in required)


@given(graphs())
def test_where_there_is_a_choice_the_first_name_starts_first(needs: Needs) -> None:
    started: list[str] = []
    for name in start_order(needs):
        possible = [n for n in needs if n not in started and set(needs[n]) <= set(started)]
        assert name == min(possible)
        started.append(name)


@given(graphs())
def test_everyone_stops_once_and_before_what_he_needs(needs: Needs) -> None:
    groups = stop_order(needs)
    order = {name: at for at, group in enumerate(groups) for name in group}
    assert sum(len(group) for group in groups) == len(order) == len(needs)
    for name, required in needs.items():
        assert all(order[name] < order[one] for one in required)


def test_those_who_are_not_needed_stop_together() -> None:
    assert stop_order({"a": ["c"], "b": ["c"], "c": []}) == [{"a", "b"}, {"c"}]


def test_nobody_at_all_has_an_order_too() -> None:
    assert start_order({}) == []
    assert stop_order({}) == []


def test_a_need_that_is_named_twice_counts_once() -> None:
    assert start_order({"b": ["a", "a"], "a": []}) == ["a", "b"]
    assert stop_order({"b": ["a", "a"], "a": []}) == [{"b"}, {"a"}]
