"""A table allows its rows and nothing else."""

from __future__ import annotations

from enum import StrEnum

import pytest

from protocol.errors import IllegalTransition
from protocol.lifecycle import TransitionTable


class Door(StrEnum):
    OPEN = "open"
    SHUT = "shut"


class Act(StrEnum):
    PUSH = "push"
    PULL = "pull"


DOOR = TransitionTable("door", {(Door.OPEN, Act.PUSH): Door.SHUT, (Door.SHUT, Act.PULL): Door.OPEN})


def test_a_row_leads_to_its_state() -> None:
    assert DOOR.next(Door.OPEN, Act.PUSH) is Door.SHUT
    assert DOOR.next(Door.SHUT, Act.PULL) is Door.OPEN


@pytest.mark.parametrize(("state", "event"), [(Door.OPEN, Act.PULL), (Door.SHUT, Act.PUSH)])
def test_what_has_no_row_is_illegal_and_the_error_names_machine_state_and_event(
    state: Door, event: Act
) -> None:
    with pytest.raises(IllegalTransition) as caught:
        DOOR.next(state, event)
    assert str(caught.value) == f"door: '{event}' is not possible in state '{state}'"
    assert caught.value.details == {"machine": "door", "state": str(state), "event": str(event)}


@pytest.mark.parametrize("state", Door)
@pytest.mark.parametrize("event", Act)
def test_allows_says_whether_there_is_a_row(state: Door, event: Act) -> None:
    assert DOOR.allows(state, event) is ((state, event) in DOOR.rows)


def test_a_table_does_not_change_when_the_mapping_it_was_made_of_does() -> None:
    rows = {(Door.OPEN, Act.PUSH): Door.SHUT}
    table = TransitionTable("door", rows)
    rows.clear()
    assert table.next(Door.OPEN, Act.PUSH) is Door.SHUT


def test_the_diagram_has_a_line_for_each_row() -> None:
    assert DOOR.mermaid().splitlines() == [
        "stateDiagram-v2",
        "    open --> shut: push",
        "    shut --> open: pull",
    ]
