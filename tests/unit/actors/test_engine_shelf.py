"""Which models of an engine are loaded, and which make room."""

from __future__ import annotations

import pytest

from actors.engine.shelf import Shelf
from protocol.errors import Overloaded, UnusableModel

GB = 10**9


def shelf(most: int = 3, **loaded: float) -> Shelf:
    """With models of 1 GB, by when each was used last; the first one stays."""
    found = Shelf("first", most, keep_alive_s=300)
    for name, at in {"first": 0.0, **loaded}.items():
        found.put(name, GB, at)
    return found


def test_where_there_is_room_nobody_leaves() -> None:
    assert shelf().to_unload("new", 2 * GB, free_bytes=2 * GB) == []


def test_the_one_used_least_recently_makes_room() -> None:
    found = shelf(most=10, old=10, older=5, young=20)
    found.hold("first", 30)
    found.release("first", 30)
    assert found.to_unload("new", 2 * GB, free_bytes=GB) == ["older"]
    assert found.to_unload("new", 3 * GB, free_bytes=GB) == ["older", "old"]


def test_no_more_than_so_many_are_loaded() -> None:
    assert shelf(most=2, other=5).to_unload("new", GB, free_bytes=100 * GB) == ["first"]


def test_one_that_is_used_stays() -> None:
    found = shelf(most=2, other=5)
    found.hold("first", 6)
    assert found.to_unload("new", GB, free_bytes=100 * GB) == ["other"]
    found.hold("other", 7)
    with pytest.raises(Overloaded, match="in use leave no room for new"):
        found.to_unload("new", GB, free_bytes=100 * GB)
    found.release("other", 8)
    assert found.to_unload("new", GB, free_bytes=100 * GB) == ["other"]


def test_one_that_never_fits_is_refused_with_both_numbers() -> None:
    with pytest.raises(UnusableModel, match=r"needs about 9.0 GB.*3.0 GB"):
        shelf(other=5).to_unload("new", 9 * GB, free_bytes=GB)


def test_one_that_would_fit_without_those_in_use_is_to_be_asked_for_again() -> None:
    found = shelf(other=5)
    found.hold("other", 6)
    with pytest.raises(Overloaded):
        found.to_unload("new", 3 * GB, free_bytes=GB)


def test_whoever_is_not_asked_for_leaves_after_a_while_but_for_the_first() -> None:
    found = shelf(other=10)
    assert found.next_due == 310
    assert found.due(309) == []
    assert found.due(310) == ["other"]
    found.remove("other")
    assert found.next_due is None


def test_its_time_begins_when_it_is_used_no_more_and_may_be_another() -> None:
    found = shelf(other=10)
    found.hold("other", 20)
    assert found.next_due is None
    found.release("other", 50, keep_alive_s=7)
    assert found.next_due == 57
    found.hold("other", 55)
    found.release("other", 60)
    assert found.next_due == 360


def test_giving_back_one_that_is_gone_is_no_mistake() -> None:
    found = shelf()
    found.release("gone", 5)
    assert found.next_due is None
