"""Messages to the tool user: which tools there are, which one fits a text, and running one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from protocol.messages.base import Ask, Message, Role

MAX_TEXT = 10_000
"""Characters of a text that a tool is looked for: longer ones are no question to a tool."""


class ToolInfo(Message):
    """What a tool is, for people and for models."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON schema of the arguments, an object."""
    examples: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Texts that it is meant for, each with the arguments that it means."""


class BrokenTool(Message):
    """A file among the tools that cannot be used, and why."""

    file: str
    problem: str


class Tools(Message):
    """All tools, by name, and what could not become one."""

    tools: list[ToolInfo]
    broken: list[BrokenTool] = Field(default_factory=list)


class ListTools(Ask[Tools], operation="tool_user.list", role=Role.ASK):
    """Which tools are there?"""

    idempotent = True


class FoundTool(Message):
    """The tool that fits a text, or none, which is a normal outcome."""

    tool: ToolInfo | None = None
    how: Literal["exact", "similar", "none"] = "none"
    """exact: the tool itself says that the text is for it; similar: the text is like what the tool
    is described by."""
    arguments: dict[str, Any] | None = None
    """Known after an exact find alone."""
    score: float = 0.0
    """1 for an exact find, else the cosine of the nearest tool, also when it is too far away."""
    note: str = ""
    """What could not be looked at, and why; empty when all was."""


class FindTool(Ask[FoundTool], operation="tool_user.find", role=Role.ASK):
    """Which tool is this text meant for?"""

    idempotent = True
    text: str = Field(max_length=MAX_TEXT)
    similar: bool = True
    """Whether likeness counts too; it takes a vector of the text, which is a model's work."""


class ToolResult(Message):
    """What a tool answered."""

    tool: str
    value: Any = None
    """A JSON value; the cut ``text`` where ``truncated``."""
    text: str
    """The value in words: text as it is, anything else as JSON."""
    took_ms: float
    """From the request's arrival to the result."""
    truncated: bool = False
    """Whether the result was longer than the output limit; ``text`` says so at its end."""


class CallTool(Ask[ToolResult], operation="tool_user.call", role=Role.ASK):
    """Run a tool. Not idempotent: what a tool does outside may be done twice."""

    acts_outside = True
    name: str = Field(min_length=1, max_length=100)
    arguments: dict[str, Any] = Field(default_factory=dict)
    timeout_s: float | None = Field(default=None, gt=0, le=86_400, allow_inf_nan=False)
    """Seconds; by default the setting's."""
