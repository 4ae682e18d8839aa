"""The table of a supervised actor's states."""

from __future__ import annotations

from itertools import product

import pytest

from protocol.errors import IllegalTransition
from protocol.lifecycle import ActorState
from supervision.child import CHILD, Child, ChildEvent, ChildState
from supervision.restart import RestartPolicy
from tests.support.planning import settings_of

ILLEGAL = [
    (state, event) for state, event in product(ChildState, ChildEvent)
    if not CHILD.allows(state, event)
]  # fmt: skip


def child(state: ChildState = ChildState.WAITING) -> Child:
    return Child("a", [], RestartPolicy(settings_of({"a": []}).restart, "permanent"), state)


def reachable(start: ChildState) -> set[ChildState]:
    found, todo = {start}, [start]
    while todo:
        here = todo.pop()
        following = {to for (state, _), to in CHILD.rows.items() if state is here} - found
        found |= following
        todo += following
    return found


WITH_PROCESS = (
    ChildState.STARTING, ChildState.READY, ChildState.UNAVAILABLE, ChildState.STOPPING
)  # fmt: skip


def test_whether_it_runs_is_whether_it_has_a_process() -> None:
    for state in ChildState:
        it = child(state)
        assert it.runs is (state in WITH_PROCESS)
        assert it.serves is (state in WITH_PROCESS and state is not ChildState.STOPPING)


def test_every_state_can_be_reached_from_the_beginning() -> None:
    assert reachable(ChildState.WAITING) == set(ChildState)


@pytest.mark.parametrize("state", ChildState)
def test_no_state_is_the_end_of_all_things(state: ChildState) -> None:
    assert ChildState.READY in reachable(state)


@pytest.mark.parametrize("state", ChildState)
def test_a_stop_leads_to_stopped_from_every_state_without_a_process(state: ChildState) -> None:
    if state not in {*WITH_PROCESS, ChildState.DEAD}:
        assert CHILD.next(state, ChildEvent.STOP) is ChildState.STOPPED


@pytest.mark.parametrize("state", WITH_PROCESS)
def test_whoever_has_a_process_may_die(state: ChildState) -> None:
    assert CHILD.next(state, ChildEvent.DIED) is ChildState.DEAD


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_an_illegal_event_names_itself_and_the_state_and_changes_nothing(
    state: ChildState, event: ChildEvent
) -> None:
    it = child(state)
    it.due_at = 5.0
    with pytest.raises(IllegalTransition) as caught:
        it.take(event, 7.0)
    assert caught.value.details == {"machine": "child", "state": state, "event": event}
    assert (it.state, it.since, it.due_at) == (state, 0.0, 5.0)


def test_a_new_state_begins_now_and_owes_nothing_to_the_old_ones_time_out() -> None:
    it = child()
    it.due_at = 5.0
    it.take(ChildEvent.SPAWN, 7.0)
    assert (it.state, it.since) == (ChildState.SPAWNING, 7.0)
    assert it.due_at is None


@pytest.mark.parametrize("state", ChildState)
def test_every_state_has_a_public_one(state: ChildState) -> None:
    assert child(state).public_state in ActorState


def test_others_see_starting_only_when_there_is_a_process() -> None:
    shown = {s for s in ChildState if child(s).public_state is ActorState.STARTING}
    assert shown == {ChildState.STARTING}
