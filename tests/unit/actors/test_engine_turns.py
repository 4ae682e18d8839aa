"""Turns of a conversation as chat templates take them."""

from __future__ import annotations

import pytest

from actors.engine.backends.turns import chat_turns
from protocol.messages.engine import ChatMessage, FunctionCall


def arguments(text: str, *, as_objects: bool) -> object:
    call = FunctionCall(id="1", name="weather", arguments=text)
    turns = [ChatMessage(role="assistant", calls=[call])]
    (turn,) = chat_turns(turns, as_objects=as_objects)
    return turn["tool_calls"][0]["function"]["arguments"]


def test_a_turn_has_no_more_than_it_needs() -> None:
    turns = [ChatMessage(role="user", content="?"), ChatMessage(role="tool", call_id="1")]
    assert chat_turns(turns) == [
        {"role": "user", "content": "?"},
        {"role": "tool", "content": "", "tool_call_id": "1"},
    ]


@pytest.mark.parametrize("text", ['{"place": "Paris"}', "no JSON"])
def test_arguments_are_text_as_in_openais_api(text: str) -> None:
    assert arguments(text, as_objects=False) == text


def test_arguments_are_objects_where_the_template_wants_them_and_they_are() -> None:
    assert arguments('{"place": "Paris"}', as_objects=True) == {"place": "Paris"}
    assert arguments("no JSON", as_objects=True) == "no JSON"
