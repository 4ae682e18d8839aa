"""The chunks of an answer, as llama.cpp's server makes them for OpenAI's two interfaces.

One comes for each token, between two steps of a model that uses all cores. Read by their types they
cost a ninth of what they cost as dictionaries of all there is in them (1.2 us instead of 10.7).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct


class Likely(Struct):
    """A token that might have been. None is a number that is none (NaN) in JSON."""

    token: str
    logprob: float | None


class Named(Struct):
    """A token that is."""

    id: int
    token: str = ""
    prob: float | None = 0.0
    """After sampling; only where that was asked for."""
    logprob: float | None = None
    """Before it; only where that was asked for."""
    top_logprobs: list[Likely] = []


class Logprobs(Struct):
    """Those of a chunk."""

    content: list[Named] | None = None


class Delta(Struct):
    """Of a chat's turn."""

    content: str | None = None


class Choice(Struct):
    """The only one of a chunk."""

    finish_reason: str | None
    text: str | None = None
    """Of a completion."""
    delta: Delta | None = None
    """Of a turn."""
    logprobs: Logprobs | None = None

    @property
    def said(self) -> str | None:
        """Its text, in either way."""
        return self.delta.content if self.delta is not None else self.text


class Progress(Struct):
    """How much of the prompt is read, in tokens."""

    processed: int
    total: int


class Timings(Struct):
    """So far."""

    predicted_n: int = 0
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0
    cache_n: int = 0
    draft_n: int = 0
    draft_n_accepted: int = 0


class Chunk(Struct):
    """One call back."""

    choices: list[Choice] | None = None
    """None only beside an error."""
    timings: Timings | None = None
    prompt_progress: Progress | None = None
    error: Any = UNSET


read_chunk = msgspec.json.Decoder(Chunk).decode
"""From its bytes. Raises `msgspec.DecodeError` for what is none."""
