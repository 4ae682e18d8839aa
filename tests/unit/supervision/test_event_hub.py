"""The bounded buffer of one who watches events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.messages.supervisor import Events, Happened
from supervision.hub import BUFFER, Watcher


def event(what: str) -> Happened:
    return Happened(what=what)


def names(events: Events | None) -> list[str]:
    return [one.what for one in events.events] if events is not None else []


def test_events_come_out_in_the_order_they_came_in_and_only_once() -> None:
    watcher = Watcher("")
    for what in ("a", "b", "c"):
        assert watcher.offer(event(what))
    assert names(watcher.take()) == ["a", "b", "c"]
    assert watcher.take() is None


def test_nothing_to_tell_is_none() -> None:
    assert Watcher("").take() is None


@pytest.mark.parametrize(
    ("what", "wanted"),
    [("actor.died", True), ("actor.", True), ("asset.progress", False), ("acto", False)],
)
def test_only_events_that_start_with_the_prefix_are_taken(what: str, wanted: bool) -> None:
    watcher = Watcher("actor.")
    assert watcher.offer(event(what)) is wanted
    assert names(watcher.take()) == ([what] if wanted else [])


def test_a_full_buffer_drops_the_oldest_and_counts_them() -> None:
    watcher = Watcher("", bound=2)
    for what in ("a", "b", "c", "d"):
        watcher.offer(event(what))
    events = watcher.take()
    assert names(events) == ["c", "d"]
    assert events is not None
    assert events.dropped == 2


def test_dropped_events_are_told_once() -> None:
    watcher = Watcher("", bound=1)
    watcher.offer(event("a"))
    watcher.offer(event("b"))
    watcher.take()
    watcher.offer(event("c"))
    events = watcher.take()
    assert events is not None
    assert events.dropped == 0


def test_events_that_nobody_wants_drop_none_that_somebody_does() -> None:
    watcher = Watcher("a", bound=1)
    watcher.offer(event("a"))
    watcher.offer(event("b"))
    events = watcher.take()
    assert names(events) == ["a"]
    assert events is not None
    assert events.dropped == 0


def test_the_usual_bound_is_kept() -> None:
    watcher = Watcher("")
    for number in range(BUFFER + 1):
        watcher.offer(event(str(number)))
    assert len(names(watcher.take())) == BUFFER


@given(st.integers(1, 5), st.lists(st.none() | st.sampled_from(["x.a", "x.b", "y"])))
def test_every_wanted_event_is_delivered_or_counted(bound: int, steps: list[str | None]) -> None:
    """A None in the steps is a reader who reads."""
    watcher, wanted, delivered = Watcher("x.", bound), 0, 0
    for step in [*steps, None]:
        if step is None:
            events = watcher.take()
            if events is not None:
                assert len(events.events) <= bound
                delivered += len(events.events) + events.dropped
        else:
            wanted += watcher.offer(event(step))
    assert delivered == wanted
