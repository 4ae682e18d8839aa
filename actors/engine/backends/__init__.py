"""Model libraries behind one interface. A new one is a file here and a line in `BACKENDS`."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, cast

from configs.engine_settings import EngineSettings
from protocol.errors import InvalidRequest, InvalidSettings, MissingDependency
from protocol.messages.engine import ChatMessage, Continuation, Format, Sampling, TokenLogprob


@dataclass(frozen=True, slots=True)
class Place:
    """Where a backend is."""

    where: str
    """``module:Class``. Imported only when it is chosen: model libraries are heavy."""
    extra: str = "engine"
    """Of noyau: what brings its libraries."""


BACKENDS = {
    "llama_cpp": Place("actors.engine.backends.llama_cpp:LlamaCpp"),
    "openai_http": Place("actors.engine.backends.openai_http:OpenAIHttp"),
    "simulated": Place("actors.engine.backends.simulated:Simulated"),
    "transformers": Place("actors.engine.backends.transformers_torch.backend:Transformers", "gpu"),
}


@dataclass(frozen=True, slots=True)
class Prefill:
    """How much of the prompt has been read, in tokens."""

    done: int
    total: int
    waits: bool = False
    """Nothing of it was begun yet: the prompts of others are read first."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The next text: whole tokens, valid UTF-8, never empty."""

    text: str
    tokens: list[int]
    """Their ids, or none where the backend could not tell them all."""
    count: int
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of each token, where the task asks for them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended."""

    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    prefill_ms: float
    decode_ms: float
    cached_tokens: int = 0
    """Of the prompt's, those that were not read again."""
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    """By speculative decoding: see `protocol.messages.engine.Generated`."""


@dataclass(slots=True)
class Task:
    """One generation."""

    messages: Sequence[ChatMessage]
    sampling: Sampling
    begun: Continuation | None = None
    format: Format | None = None
    """What the answer must look like. It was checked: see `actors.engine.formats`."""
    logprobs: int | None = None
    """How many likely tokens are to be told with each that comes; None: not even its own."""
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is known of the model once it is loaded."""

    name: str
    context_tokens: int
    """For each slot."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """What texts mean."""

    vectors: list[bytes]
    """One of unit length for each text, as little-endian float32."""
    dimension: int
    tokens: int
    """Of all texts together."""


BATCH_TEXTS = 16
"""Texts embedded in one call of a library, between two looks whether anybody waits for them."""


def batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many as are embedded in one call."""
    for begin in range(0, len(texts), BATCH_TEXTS):
        yield texts[begin : begin + BATCH_TEXTS]


Emit = Callable[[Prefill | Piece], None]


class Backend(Protocol):
    """A model library. `generate` may be called from several threads at once."""

    device: Literal["cpu", "gpu"]
    """What it computes on; known after `load`."""
    name: str
    """As in `BACKENDS`; every answer says it."""
    needs_model: bool
    """Whether it loads a model file; else its model is elsewhere, or is none."""

    def check(self, options: EngineSettings) -> None:
        """Raises `MissingHardware` when this machine, or this build of the library, lacks the
        device that ``options`` ask for. Called once, before anything is fetched or loaded."""
        ...

    def load(
        self,
        path: Path,
        model: str,
        options: EngineSettings,
        kept: Path | None = None,
        *,
        embeds: bool = False,
    ) -> Loaded:
        """Load the model file; blocks. ``model`` identifies it (its sha256): token ids of a
        continuation are used only when they belong to the same one. ``kept`` is a folder for what
        a backend makes of the file and wants to find again, under names of its own; it need not
        exist, and without one nothing is kept. ``embeds``: it is loaded for `embed`, else for
        `generate`. Called once.

        Raises `EngineFailed` when the file cannot be loaded, `EngineOutOfMemory` where that is why,
        and `UnusableModel` for a model that is to embed where the backend does not.
        """
        ...

    def unload(self) -> None:
        """Give the model's memory back; blocks. Called at most once, after the last generation, and
        nothing is called after it. May hang where the library does: the caller waits for so long
        only, and ends the process then."""
        ...

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, as plain text; blocks. Raises `EngineFailed`."""
        ...

    def generate(self, task: Task, emit: Emit) -> Outcome | None:
        """Generate; blocks and calls ``emit`` from this thread. Returns None when cancelled,
        at the latest after one token or one prefill batch.

        What ``task.begun`` holds is gone on with: no token of it comes again, none is left out, and
        under a format the answer as a whole fits it.

        Raises `InvalidRequest` (prompt too long: ``prompt_tokens`` and ``context_tokens`` in the
        details; a format that it does not know), `EngineFailed`, `EngineOutOfMemory`, `Overloaded`
        where it has no place for it, and `EngineGarbage` when its numbers are none (NaN). What
        ``emit`` raises ends the generation and is raised.
        """
        ...

    def embed(self, texts: Sequence[str], cancelled: threading.Event) -> Vectors | None:
        """What the texts mean, of which none is empty; blocks. Returns None when cancelled, at the
        latest after one batch of texts. Called only where it was loaded for that, by one thread at
        a time.

        Raises `InvalidRequest` for a text that is too long (as `generate` does, and ``text`` is its
        number from 0), `EngineFailed`, `EngineOutOfMemory`, and `EngineGarbage` when its numbers
        are none.
        """
        ...


def make_backend(name: str) -> Backend:
    """The backend of this name. Raises `InvalidSettings` or `MissingDependency`."""
    try:
        place = BACKENDS[name]
    except KeyError:
        known = ", ".join(sorted(BACKENDS))
        raise InvalidSettings(f"there is no engine backend {name!r}; there are: {known}") from None
    module_name, _, class_name = place.where.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f'the engine backend {name} needs {error.name}: pip install "noyau[{place.extra}]"'
        ) from None
    return cast(Backend, getattr(module, class_name)())


def text_too_long(text: int, tokens: int, context_tokens: int) -> InvalidRequest:
    """The error of a text to embed that does not fit; ``text``: its number from 0."""
    return InvalidRequest(
        f"text {text} has {tokens} tokens, the model embeds at most {context_tokens} at once: "
        "cut it into parts",
        text=text, prompt_tokens=tokens, context_tokens=context_tokens,
    )  # fmt: skip


def too_long(prompt_tokens: int, context_tokens: int) -> InvalidRequest:
    """The error of a prompt that does not fit."""
    return InvalidRequest(
        f"the prompt has {prompt_tokens} tokens, the model's context holds {context_tokens}",
        prompt_tokens=prompt_tokens,
        context_tokens=context_tokens,
    )
