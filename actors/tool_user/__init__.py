"""The tool user: finds the tool a text is meant for, and runs tools in processes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.tool_user.actor import ToolUser

__all__ = ["ToolUser"]


def __getattr__(name: str) -> object:
    # Only when asked for: the fork server is a module of this package, and each call copies all
    # that it has loaded.
    if name == "ToolUser":
        from actors.tool_user.actor import ToolUser

        return ToolUser
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
