"""What is accepted as text, and how a conversation gets its title. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from protocol.errors import InvalidRequest

TITLE_CHARS: Final = 60
"""A title fits one line of a list."""


def check_text(text: str, what: str, max_chars: int, *, empty: bool = False) -> None:
    """Raise ``InvalidRequest`` unless ``text`` can be kept as it is. NUL and all else that UTF-8
    can carry may be in it. ``empty``: whether nothing, or only white space, is fine."""
    if len(text) > max_chars:
        raise InvalidRequest(
            f"{what} has {len(text)} characters, at most {max_chars} are taken; give it in parts",
            chars=len(text),
            max_chars=max_chars,
        )
    if not empty and not text.strip():
        raise InvalidRequest(f"{what} is empty; give it some text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{what} is no valid Unicode: a lone surrogate at character {error.start}; "
            "decode it with errors='replace' first"
        ) from None


def metadata_as_json(metadata: dict[str, Any], max_chars: int) -> str:
    """The metadata of a turn as it is stored. Raises ``InvalidRequest``."""
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the metadata of a turn cannot be JSON: {error}") from None
    check_text(text, "the metadata of a turn", max_chars)
    return text


def title_of(content: str) -> str:
    """A conversation's title from what the user said first: one line of at most 60 characters,
    cut at a word where it has several."""
    line = " ".join("".join(c if c.isprintable() else " " for c in content).split())
    if len(line) <= TITLE_CHARS:
        return line
    cut = line[:TITLE_CHARS]
    # One character is for the ellipsis; a word that fits exactly before it stays whole.
    head, space, _ = cut.rpartition(" ")
    return f"{head if space else cut[:-1]}…"
