"""Reading text files in folders that the owner allowed."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field

from actors.tool_user.files import read_text
from configs.fields import LocalPath
from protocol.errors import InvalidRequest

MATCH_ORDER = 30
EXAMPLES = {"read the file notes.txt": {"path": "notes.txt"}}

_SETTING = "actors.tool_user.settings.options.read_file.allowed"
_ASKED = re.compile(
    r"(?:please )?(?:read|show|open)(?: me)?(?: the)? file (?P<path>\S+)", re.IGNORECASE
)


def read_file(
    path: Annotated[
        str,
        Field(
            description="the file; relative to the allowed folder where there is one only",
            min_length=1,
            max_length=4096,
        ),
    ],
    first_line: Annotated[int, Field(description="counted from 1", ge=1)] = 1,
    last_line: Annotated[
        int | None, Field(description="inclusive; by default the file's last", ge=1)
    ] = None,
    *,
    allowed: Annotated[
        list[LocalPath], Field(description="folders that may be read, with all that is below them")
    ] = [],  # noqa: B006 - never changed, and read as the option's default
) -> str:
    """Reads a text file, or some lines of one, in the folders that its owner allowed."""
    if last_line is not None and last_line < first_line:
        raise InvalidRequest(f"last_line {last_line} is before first_line {first_line}")
    lines = read_text(path, allowed, _SETTING).splitlines(keepends=True)
    if first_line > max(1, len(lines)):
        raise InvalidRequest(f"{path} has {len(lines)} lines, none numbered {first_line}")
    return "".join(lines[first_line - 1 : last_line])


def match(text: str) -> dict[str, Any] | None:
    """An order to read a named file."""
    found = _ASKED.fullmatch(text.strip().rstrip("?!"))
    return None if found is None else {"path": found["path"].strip("\"'`")}
