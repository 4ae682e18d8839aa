"""Messages to an engine: generate text, token by token."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from protocol.messages.base import Ask, Message, Role, Stream


class ChatMessage(Message):
    """One turn of a conversation, as the model's chat template takes it."""

    role: Literal["system", "user", "assistant"]
    content: str


class Sampling(Message):
    """How to choose the next token. Temperature 0 is greedy: the same prompt, the same text."""

    max_tokens: int = Field(default=512, ge=1, le=1_000_000)
    temperature: float = Field(default=0.7, ge=0, le=5, allow_inf_nan=False)
    top_p: float = Field(default=0.95, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    stop: list[str] = Field(default_factory=list, max_length=16)


class Continuation(Message):
    """An answer begun elsewhere, which this engine is to go on with.

    ``tokens`` are exact where ``model`` is the one this engine runs; else the text is tokenised
    anew, which is safe because text is only ever cut at token boundaries.
    """

    text: str
    tokens: list[int] = Field(default_factory=list)
    model: str = ""
    """The sha256 of the model that the token ids belong to."""


class Tokens(Message):
    """The next piece of text: whole tokens, valid UTF-8."""

    text: str
    tokens: list[int] = Field(default_factory=list)
    """The ids that make ``text``, or none where the engine could not tell them all."""
    count: int = 1
    """How many tokens this is."""


class Generated(Message):
    """How the generation went."""

    finish_reason: Literal["stop", "length"]
    model: str
    """The sha256 of the model."""
    model_name: str
    device: Literal["cpu", "gpu"]
    backend: str
    """The model library; ``simulated`` is no model at all."""
    prompt_tokens: int
    completion_tokens: int
    """Of this engine's own part, without what it went on from."""
    prefill_ms: float
    decode_ms: float
    tokens_per_s: float
    """Of the decode phase; 0 when there was none."""


class TokenCounts(Message):
    """One for each text."""

    counts: list[int]


class CountTokens(Ask[TokenCounts], operation="engine.count", role=Role.INTERNAL):
    """How many tokens do these texts have?"""

    idempotent = True
    texts: list[str] = Field(max_length=100_000)


class Generate(Stream[Tokens, Generated], operation="engine.generate", role=Role.INTERNAL):
    """Answer the conversation; or, with ``begun``, go on with an answer."""

    messages: list[ChatMessage] = Field(min_length=1)
    sampling: Sampling = Sampling()
    begun: Continuation | None = None
    json_schema: dict[str, Any] | None = None
    """With it, the answer is a JSON value that fits this schema, unless it becomes too long or the
    engine does not understand the schema: who asks checks what comes."""
