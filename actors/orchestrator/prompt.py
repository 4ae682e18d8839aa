"""The prompt: what the system says, what is remembered, what was said before, and the question.
Pure."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.messages.engine import ChatMessage
from protocol.messages.memory import Hit, StoredTurn
from protocol.messages.orchestrator import Query

REMEMBERED = "You remember:"


def question_of(query: Query) -> str:
    """What the query asks: its text, or the last thing its user said."""
    if query.text:
        return query.text
    asked = [turn.content for turn in query.messages if turn.role == "user"]
    return asked[-1] if asked else ""


def said_before(turns: Sequence[StoredTurn]) -> list[ChatMessage]:
    """The turns of a conversation as the model's template takes them. What a tool answered was an
    answer like any other."""
    return [
        ChatMessage(
            role="assistant" if turn.role == "tool" else turn.role, content=turn.content
        )
        for turn in turns
    ]  # fmt: skip


def with_system(
    turns: Sequence[ChatMessage], system: str | None, hits: Sequence[Hit]
) -> list[ChatMessage]:
    """The turns behind one system message: their own or else ``system``, and below it the memories
    that fit; none where there is nothing to say."""
    own = turns[0].content if turns and turns[0].role == "system" else None
    rest = list(turns[1:] if own is not None else turns)
    parts = [part for part in (own if own is not None else system, _remembered(hits)) if part]
    return [ChatMessage(role="system", content="\n\n".join(parts)), *rest] if parts else rest


def _remembered(hits: Sequence[Hit]) -> str:
    if not hits:
        return ""
    return "\n".join([REMEMBERED, *(f"- {hit.text}" for hit in hits)])
