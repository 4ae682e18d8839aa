"""Conversations: every pair of state and step is in the table or illegal."""

from __future__ import annotations

import itertools

import pytest

from protocol.conversation import ASK, STREAM, Conversation, State, Step
from protocol.errors import IllegalTransition
from protocol.lifecycle import TransitionTable

Table = TransitionTable[State, Step]

ENDS_ANY = {Step.ERROR, Step.CANCEL, Step.DEADLINE, Step.DEATH}
ALLOWED = {
    "ask": dict.fromkeys(ENDS_ANY | {Step.REPLY}, State.DONE),
    "stream": dict.fromkeys(ENDS_ANY | {Step.END}, State.DONE)
    | dict.fromkeys({Step.CHUNK, Step.CREDIT, Step.HEARTBEAT}, State.OPEN),
}


@pytest.mark.parametrize("table", [ASK, STREAM], ids=lambda table: table.name)
@pytest.mark.parametrize(("state", "step"), list(itertools.product(State, Step)))
def test_every_state_and_step_is_in_the_table_or_illegal(
    table: Table, state: State, step: Step
) -> None:
    conversation = Conversation(table)
    conversation.state = state
    after = ALLOWED[table.name].get(step) if state is State.OPEN else None
    if after is not None:
        assert conversation.take(step) is after
        assert conversation.state is after
        return
    with pytest.raises(IllegalTransition) as caught:
        conversation.take(step)
    assert f"'{step}' is not possible in state '{state}'" in str(caught.value)
    assert caught.value.details == {"machine": table.name, "state": str(state), "event": str(step)}
    assert conversation.state is state


def test_a_conversation_begins_open() -> None:
    assert Conversation(ASK).state is State.OPEN
