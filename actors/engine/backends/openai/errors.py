"""What servers say when they refuse, as errors of ours. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from actors.engine.backends import too_long
from protocol.errors import (
    EngineFailed,
    EngineOutOfMemory,
    InvalidRequest,
    NoyauError,
    Overloaded,
)

RETRY_AFTER_S = 1.0
"""Where an overloaded server does not say when to come back."""
SHORTEST_RETRY_S = 0.05
LONGEST_RETRY_S = 60.0
"""An answer has a deadline, commonly two minutes; no server knows of it."""
SHOWN_CHARS = 300
"""Of what a server says."""

_NO_MEMORY = ("outofmemory", "failedtoallocate", "cudamalloc", "bad_alloc")
"""Without blanks: PyTorch's error is called OutOfMemoryError."""
_CONTEXT = (
    re.compile(r"context (?:length|size|window) (?:is |of |\()(\d+)"),
    re.compile(r"maximum input length (?:is |of )(\d+)"),
    re.compile(r"current batch size: (\d+)"),
)
_PROMPT = (
    # Such as "(4900 in the messages, 100 in the completion)".
    re.compile(r"\((\d+) in the (?:messages|prompt)"),
    re.compile(r"(?:contains|has|resulted in)(?: at least)? (\d+) (?:input )?tokens"),
    re.compile(r"input \((\d+) tokens\)"),
    re.compile(r"(\d+) tokens from the input"),
    re.compile(r"passed (\d+) input tokens"),
)
"""As vLLM, SGLang, and those that take after OpenAI word it."""


@dataclass(frozen=True, slots=True)
class Place:
    """The server, as errors name it."""

    url: str
    key_from: str = ""
    """Where its key was read; empty: it is asked without one."""
    key: str = ""
    """Not to be shown."""

    def hide(self, text: str) -> str:
        """The text without the key, and no longer than can be read."""
        return (text.replace(self.key, "…") if self.key else text)[:SHOWN_CHARS]


def failed(text: str) -> EngineFailed:
    """Of a server that could not do it; `EngineOutOfMemory` where it says that this is why."""
    no_memory = any(sign in text.lower().replace(" ", "") for sign in _NO_MEMORY)
    return (EngineOutOfMemory if no_memory else EngineFailed)(text)


def refusal(
    status: int, body: bytes, place: Place, retry_after: str = "", *, now: datetime
) -> NoyauError:
    """An answer that is none, by its HTTP status. ``retry_after``: the header of that name."""
    error = _error_in(body)
    text = place.hide(_message(error) if error is not None else body.decode(errors="replace"))
    said = f"{place.url} answers {status}" + (f": {text.strip()}" if text.strip() else "")
    if status in (401, 403):
        remedy = (
            f"it does not take the key in {place.key_from}"
            if place.key_from
            else "it wants a key: write it into a file and name that in the setting api_key_file"
        )
        return EngineFailed(f"{said}; {remedy}")
    if status in (429, 503):
        return Overloaded(said, retry_after_s=_seconds(retry_after, now))
    # llama-server refuses a text that it cannot embed in one step with a 500.
    if status in (400, 413, 422) or (status == 500 and _sizes(error) is not None):
        return _refused(error, said)
    return failed(said)


def in_band(error: Any, place: Place) -> NoyauError:
    """An error that a server sent in the middle of its answer."""
    said = f"{place.url} broke off: {place.hide(_message(error))}"
    code = error.get("code") if isinstance(error, dict) else None
    kind = str(error.get("type", "")) if isinstance(error, dict) else ""
    if _sizes(error) is not None or code in (400, 422) or "invalid_request" in kind:
        return _refused(error, said)
    return failed(said)


def _refused(error: Any, said: str) -> InvalidRequest:
    sizes = _sizes(error)
    return InvalidRequest(said) if sizes is None else too_long(*sizes)


def _error_in(body: bytes) -> Any:
    """The error in an answer's body; None where there is none that is understood."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    # Older vLLMs have the error as the whole, FastAPI puts it under `detail`.
    return found.get("error") or found.get("detail") or (found if "message" in found else None)


def _message(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else json.dumps(error, default=str)


def _sizes(error: Any) -> tuple[int, int] | None:
    """Tokens of the prompt and of the context, where it is too small for it."""
    if isinstance(error, dict) and error.get("type") == "exceed_context_size_error":
        return _number(error.get("n_prompt_tokens")), _number(error.get("n_ctx"))
    text = _message(error)
    context, prompt = _first(_CONTEXT, text), _first(_PROMPT, text)
    return None if context is None or prompt is None else (prompt, context)


def _first(patterns: tuple[re.Pattern[str], ...], text: str) -> int | None:
    found = (pattern.search(text) for pattern in patterns)
    return next((int(one.group(1)) for one in found if one is not None), None)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _seconds(retry_after: str, now: datetime) -> float:
    """The header's value: seconds, or a date."""
    try:
        if retry_after.replace(".", "", 1).isdigit():
            seconds = float(retry_after)
        else:
            seconds = (parsedate_to_datetime(retry_after) - now).total_seconds()
    except (TypeError, ValueError):
        return RETRY_AFTER_S
    return min(max(seconds, SHORTEST_RETRY_S), LONGEST_RETRY_S)
