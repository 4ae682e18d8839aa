"""Messages to an engine: generate text, token by token."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from protocol.messages.base import Ask, Empty, Message, Role, Stream

NAME = r"^[0-9A-Za-z_.-]{1,64}$"
"""Of a function, as OpenAI's clients know them."""


class FunctionCall(Message):
    """A function that the model wants called."""

    id: str
    """By which its result is given back."""
    name: str
    arguments: str
    """A JSON object, as text."""


class ChatMessage(Message):
    """One turn of a conversation, as the model's chat template takes it."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    calls: list[FunctionCall] = Field(default_factory=list, max_length=64)
    """Of an assistant's turn: the functions that it wanted called."""
    call_id: str = ""
    """Of a tool's turn: which of those this is the result of."""


class Sampling(Message):
    """How to choose the next token. Temperature 0 is greedy: the same prompt, the same text."""

    max_tokens: int = Field(default=512, ge=1, le=1_000_000)
    temperature: float = Field(default=0.7, ge=0, le=5, allow_inf_nan=False)
    top_p: float = Field(default=0.95, gt=0, le=1, allow_inf_nan=False)
    """Nucleus sampling: the likeliest tokens with this share of the probability; 1 is off."""
    top_k: int = Field(default=40, ge=0, le=1_000_000)
    """The so many likeliest tokens; 0 is off."""
    min_p: float = Field(default=0.05, ge=0, le=1, allow_inf_nan=False)
    """Tokens at least so likely as this share of the likeliest; 0 is off."""
    repeat_penalty: float = Field(default=1.0, gt=0, le=10, allow_inf_nan=False)
    """What the logits of recent tokens are divided by; 1 is off."""
    presence_penalty: float = Field(default=0.0, ge=-2, le=2, allow_inf_nan=False)
    """Taken off the logits of tokens that came already."""
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2, allow_inf_nan=False)
    """Taken off as often as they came."""
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    stop: list[str] = Field(default_factory=list, max_length=16)


class Format(Message):
    """What the answer must look like: JSON of a schema, or text of a grammar; not both."""

    json_schema: dict[str, Any] | None = None
    """JSON Schema, the parts of it that llguidance knows."""
    grammar: str = Field(default="", max_length=65_536)
    """In llama.cpp's GBNF; or in llguidance's Lark, behind a line ``%llguidance {}``."""


class Continuation(Message):
    """An answer begun elsewhere, which this engine is to go on with.

    ``tokens`` are exact where ``model`` is the one this engine runs; else the text is tokenised
    anew, which is safe because text is only ever cut at token boundaries.
    """

    text: str
    tokens: list[int] = Field(default_factory=list)
    model: str = ""
    """The sha256 of the model that the token ids belong to."""
    count: int = 0
    """How many tokens it has; 0 where nobody knows."""


class Alternative(Message):
    """A token that could have come."""

    text: str
    logprob: float


class TokenLogprob(Message):
    """A token that came, and how likely it was."""

    text: str
    logprob: float
    """Natural logarithm of its probability before sampling settings changed it."""
    top: list[Alternative] = Field(default_factory=list)
    """The likeliest ones in its place."""


class Stage(Message):
    """What an engine does before the first text: signs that it gets on."""

    what: Literal["loading", "loaded", "waiting", "reading"]
    """Loading the model, having it, waiting until others' prompts are read, reading the prompt."""
    lack: str = ""
    """Of a model that is loaded: what people should know, as it is not the one that was asked for,
    or not all of it."""
    done: int = 0
    """Tokens of the prompt that have been read."""
    total: int = 0


class Tokens(Message):
    """The next piece of text: whole tokens, valid UTF-8."""

    text: str = ""
    tokens: list[int] = Field(default_factory=list)
    """The ids that make ``text``, or none where the engine could not tell them all."""
    count: int = 1
    """How many tokens this is."""
    logprobs: list[TokenLogprob] = Field(default_factory=list)
    """Of these tokens, where they were asked for."""
    stage: Stage | None = None
    """Instead of text, where there is none yet."""


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
    cached_tokens: int = 0
    """Of the prompt's tokens, those that had not to be read again."""
    load_ms: float = 0.0
    """What loading the model took, where it was not loaded yet."""
    drafted_tokens: int = 0
    """By speculative decoding; 0 without it."""
    accepted_tokens: int = 0
    """Of those, the ones that the model itself would have said."""


class TokenCounts(Message):
    """One for each text."""

    counts: list[int]


class CountTokens(Ask[TokenCounts], operation="engine.count", role=Role.INTERNAL):
    """How many tokens do these texts have?"""

    idempotent = True
    texts: list[str] = Field(max_length=100_000)
    model: str = ""
    """See `Generate.model`."""


Misbehaviour = Literal[
    "none", "fail", "stall", "die", "garble", "slow", "out_of_memory", "nan"
]  # fmt: skip
"""What an engine can be told to get wrong::

    fail            an error
    stall           nothing more comes, though its process answers
    die             SIGKILL of its process
    garble          garbage instead of text
    slow            a tenth of the speed
    out_of_memory   the error of a device without memory
    nan             the error of numbers that are none
"""


class Misbehave(Ask[Empty], operation="engine.misbehave", role=Role.OPERATE):
    """Get generations wrong on purpose from a token on, where the settings allow it
    (``chaos.allowed``) or the engine is a simulated one. ``none`` ends it."""

    how: Misbehaviour
    after_tokens: int = Field(default=0, ge=0, le=1_000_000)
    """Of the whole answer, continued parts included."""
    answers: int = Field(default=0, ge=0, le=1_000_000)
    """So many of them go wrong; 0 is all, until something else is ordered."""


class Generate(Stream[Tokens, Generated], operation="engine.generate", role=Role.INTERNAL):
    """Answer the conversation; or, with ``begun``, go on with an answer."""

    messages: list[ChatMessage] = Field(min_length=1)
    sampling: Sampling = Sampling()
    begun: Continuation | None = None
    format: Format | None = None
    """With it, the answer fits it from its first character on, and is whole unless it became too
    long (``finish_reason``)."""
    logprobs: int | None = Field(default=None, ge=0, le=20)
    """Tell how likely each token was, and so many others."""
    model: str = ""
    """One of those that the engine's settings name; empty is its first."""
    keep_alive_s: float | None = Field(default=None, ge=0, le=2_592_000, allow_inf_nan=False)
    """Seconds that the model stays loaded after this; None is what the settings say."""


class TextVectors(Message):
    """One vector of unit length for each text, in their order."""

    vectors: list[bytes]
    """Each ``dimension`` little-endian float32."""
    dimension: int
    model: str
    """Identifies the model: vectors of different ones must not be compared."""
    model_name: str
    device: Literal["cpu", "gpu"]
    backend: str
    prompt_tokens: int
    """Of all texts together."""


class EmbedTexts(Ask[TextVectors], operation="engine.embed", role=Role.ASK):
    """What do these texts mean, as vectors?"""

    idempotent = True
    texts: list[str] = Field(min_length=1, max_length=256)
    model: str = ""
    """One of those that the engine's settings name for it; empty is the first of them."""
