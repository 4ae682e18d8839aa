"""The prompt: what the system says, what is remembered, what was said before, and the question.
Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from protocol.messages.engine import ChatMessage
from protocol.messages.memory import Hit, StoredTurn
from protocol.messages.orchestrator import Query
from protocol.messages.tool_user import ToolInfo, ToolResult

REMEMBERED = "You remember:"
TOOL_CHARS = 2000
"""Of what a tool says: about a quarter of a small model's context."""
EXAMPLES = 5
"""Shown to the model; more would take longer to read than they help."""


def question_of(query: Query) -> str:
    """What the query asks: its text, or the last thing its user said."""
    if query.text:
        return query.text
    asked = [turn.content for turn in query.messages if turn.role == "user"]
    return asked[-1] if asked else ""


def own_tools(query: Query) -> bool:
    """Whether noyau's own tools may be asked: not where a client brings functions, or
    wants a format, which tools know nothing of."""
    return query.tools and not query.functions and query.format is None


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
    turns: Sequence[ChatMessage],
    system: str | None,
    hits: Sequence[Hit],
    said: ToolResult | None = None,
    functions: str = "",
) -> list[ChatMessage]:
    """The turns behind one system message: their own or else ``system``, and below it the memories
    that fit, what a tool said and which functions there are; none where there is nothing to say."""
    own = turns[0].content if turns and turns[0].role == "system" else None
    rest = list(turns[1:] if own is not None else turns)
    parts = [own if own is not None else system, _remembered(hits), _said(said),
             functions]  # fmt: skip
    text = "\n\n".join(part for part in parts if part)
    if not text:
        return rest
    return [ChatMessage(role="system", content=text), *rest]


def _remembered(hits: Sequence[Hit]) -> str:
    if not hits:
        return ""
    return "\n".join([REMEMBERED, *(f"- {hit.text}" for hit in hits)])


def _said(result: ToolResult | None) -> str:
    if result is None:
        return ""
    cut = result.text[:TOOL_CHARS]
    more = "…" if len(cut) < len(result.text) else ""
    return f"The tool {result.tool} says: {cut}{more}"


def filling(tool: ToolInfo, question: str) -> list[ChatMessage]:
    """What the model is asked for a tool's arguments: the tool, its examples, the question."""
    task = f"{tool.description}\n\nAnswer with the arguments of {tool.name} as JSON."
    turns = [ChatMessage(role="system", content=task)]
    for text, arguments in list(tool.examples.items())[:EXAMPLES]:
        turns.append(ChatMessage(role="user", content=text))
        turns.append(ChatMessage(role="assistant", content=json.dumps(arguments)))
    return [*turns, ChatMessage(role="user", content=question)]
