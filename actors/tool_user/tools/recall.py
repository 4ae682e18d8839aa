"""Asking memory for what it knows. Runs in the tool user: only actors may ask actors."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field

from protocol.messages.memory import Recall

RUNS = "memory.recall"
MATCH_ORDER = 40
EXAMPLES = {
    "what do you remember about my sister?": {"query": "my sister"},
    "what did I tell you about the garden": {"query": "the garden"},
}

_ASKED = re.compile(
    r"(?:what do you (?:remember|recall|know) about|what (?:did|have) I (?:tell|told) you about"
    r"|do you remember|recall) (?P<query>.+)",
    re.IGNORECASE,
)


def recall(
    query: Annotated[
        str, Field(description="what it is about, in a few words", min_length=1, max_length=2000)
    ],
    limit: Annotated[int, Field(description="how many memories at most", ge=1, le=50)] = 5,
) -> Recall:
    """Recalls what was remembered before: facts and notes that the user told earlier."""
    return Recall(query=query, limit=limit)


def match(text: str) -> dict[str, Any] | None:
    """A question for what was told before."""
    found = _ASKED.fullmatch(text.strip().rstrip("?!. "))
    return None if found is None else {"query": found["query"]}
