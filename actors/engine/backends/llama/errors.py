"""llama.cpp's errors as ours."""

from __future__ import annotations

from typing import Any

from actors.engine.backends import too_long
from protocol.errors import EngineFailed, EngineOutOfMemory, InvalidRequest, NoyauError

_NO_MEMORY = ("out of memory", "failed to allocate", "cudamalloc", "bad_alloc")


def error_of(said: Any) -> NoyauError:
    """What it answers instead of a chunk."""
    if not isinstance(said, dict):
        return failure(f"{said!r:.300}")
    if said.get("type") == "exceed_context_size_error":
        return too_long(int(said.get("n_prompt_tokens", 0)), int(said.get("n_ctx", 0)))
    text = str(said.get("message", said))
    if said.get("type") == "invalid_request_error" or said.get("code") == 400:
        return InvalidRequest(f"llama.cpp refuses the request: {text}")
    return failure(text)


def failure(text: str) -> EngineFailed:
    """What it raises."""
    no_memory = any(sign in text.lower() for sign in _NO_MEMORY)
    return (EngineOutOfMemory if no_memory else EngineFailed)(f"llama.cpp failed: {text}")
