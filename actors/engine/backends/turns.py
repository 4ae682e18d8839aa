"""Turns of a conversation as chat templates take them. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from protocol.messages.engine import ChatMessage, FunctionCall


def chat_turns(
    messages: Sequence[ChatMessage], *, as_objects: bool = False
) -> list[dict[str, Any]]:
    """The turns as OpenAI's API has them. ``as_objects``: a call's arguments as what their JSON
    says, which templates turn into text again in their own way."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.calls:
            turn["tool_calls"] = [_call(call, as_objects) for call in message.calls]
        if message.call_id:
            turn["tool_call_id"] = message.call_id
        turns.append(turn)
    return turns


def _call(call: FunctionCall, as_object: bool) -> dict[str, Any]:
    arguments = _object(call.arguments) if as_object else call.arguments
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _object(text: str) -> Any:
    """What the JSON says; the text itself where it is none, as a model wrote it."""
    try:
        return json.loads(text)
    except ValueError:
        return text
