"""Every engine backend, loaded with a real model, as the contract suite looks at it.

A new backend gets a `Bench` of its own in `BENCHES`.
"""

from __future__ import annotations

import functools
import importlib.util
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from actors.engine.backends import (
    Backend,
    Loaded,
    Outcome,
    Piece,
    Prefill,
    Task,
    make_backend,
)
from actors.engine.backends.llama_cpp import LlamaCpp
from actors.engine.backends.openai_http import OpenAIHttp
from actors.engine.backends.simulated import Simulated, detokenize, tokenize
from configs.engine_settings import EngineSettings
from protocol.messages.engine import (
    ChatMessage,
    Continuation,
    Sampling,
)
from tests.support.model import embedding_model_path, model_path, shared_assets

MODEL = "the real one"
EMBEDDING_MODEL = "the real one that embeds"
CONTEXT_TOKENS = 512
BATCH_TOKENS = 32
OPTIONS = EngineSettings(
    # One thread: two that wait for each other are slower on a machine that does other work.
    context_tokens=2 * CONTEXT_TOKENS, slots=2, batch_tokens=BATCH_TOKENS, threads=1,
    simulated_token_s=0.0005,
)  # fmt: skip

_KEPT: list[Backend] = []
"""Every backend that was ever loaded, until the process ends: destroying one may hang."""


class Bench(Protocol):
    """A loaded backend, and its tokens as a test looks at them."""

    @property
    def backend(self) -> Backend: ...
    @property
    def loaded(self) -> Loaded: ...
    @property
    def knows_grammars(self) -> bool:
        """Whether an answer can be told to fit one in GBNF; else it is refused."""
        ...

    def tokens(self, text: str) -> list[int]: ...
    def text(self, tokens: list[int]) -> str: ...


class LlamaCppBench:
    """llama.cpp with the default model."""

    knows_grammars = True

    def __init__(self) -> None:
        self.backend = LlamaCpp()
        _KEPT.append(self.backend)
        self.loaded = self.backend.load(model_path(), MODEL, OPTIONS)

    def tokens(self, text: str) -> list[int]:
        return self.backend._tokenize(text, special=False)

    def text(self, tokens: list[int]) -> str:
        answer = self.backend._post("/detokenize", {"tokens": tokens})
        return str(answer["content"])

    @staticmethod
    def fresh() -> Backend:
        backend = LlamaCpp()
        _KEPT.append(backend)
        return backend

    @staticmethod
    def embedder() -> Backend:
        return _embedder()


@functools.cache
def _server() -> LlamaCppBench:
    """A llama-server of this process's own, on loopback and with an API key."""
    return LlamaCppBench()


@functools.cache
def _embedder() -> LlamaCpp:
    """The same with an embedding model."""
    backend = LlamaCpp()
    _KEPT.append(backend)
    backend.load(embedding_model_path(), EMBEDDING_MODEL, OPTIONS, embeds=True)
    return backend


class OpenAIHttpBench:
    """The same model, behind llama-server's HTTP."""

    knows_grammars = True

    def __init__(self) -> None:
        server = _server()
        self.tokens, self.text = server.tokens, server.text
        self.backend, self.loaded = self._connected(server.backend, MODEL)

    @staticmethod
    def fresh() -> Backend:
        return OpenAIHttp()

    @classmethod
    def embedder(cls) -> Backend:
        return cls._connected(_embedder(), EMBEDDING_MODEL, embeds=True)[0]

    @classmethod
    def _connected(
        cls, server: LlamaCpp, model: str, *, embeds: bool = False
    ) -> tuple[Backend, Loaded]:
        host, port = server._address
        backend = cls.fresh()
        with tempfile.NamedTemporaryFile("w") as key_file:
            key_file.write(server._key)
            key_file.flush()
            settings = {"url": f"http://{host}:{port}/v1", "api_key_file": Path(key_file.name)}
            options = OPTIONS.model_copy(update=settings)
            return backend, backend.load(Path(), model, options, embeds=embeds)


class SimulatedBench:
    """No model; as fast as it can be."""

    knows_grammars = False

    def __init__(self) -> None:
        self.backend = self.fresh()
        self.loaded = self.backend.load(Path(), MODEL, OPTIONS)

    def tokens(self, text: str) -> list[int]:
        return tokenize(text)

    def text(self, tokens: list[int]) -> str:
        return detokenize(tokens)

    @staticmethod
    def fresh() -> Backend:
        return Simulated()

    @classmethod
    def embedder(cls) -> Backend:
        backend = cls.fresh()
        backend.load(Path(), EMBEDDING_MODEL, OPTIONS, embeds=True)
        return backend


class TransformersBench:
    """torch on the CPU with the same model, converted once and kept beside it."""

    knows_grammars = True

    def __init__(self) -> None:
        self.backend = self.fresh()
        self.loaded = self.backend.load(
            model_path(), MODEL, OPTIONS, shared_assets().parent / "converted"
        )
        self._tokens: Any = vars(self.backend)["tokens"]

    def tokens(self, text: str) -> list[int]:
        return list(self._tokens.plain(text))

    def text(self, tokens: list[int]) -> str:
        return str(self._tokens.text_of(tokens))

    @staticmethod
    def fresh() -> Backend:
        return make_backend("transformers")


BENCHES: dict[str, type[LlamaCppBench | OpenAIHttpBench | SimulatedBench | TransformersBench]] = {
    "llama_cpp": LlamaCppBench,
    "openai_http": OpenAIHttpBench,
    "simulated": SimulatedBench,
    "transformers": TransformersBench,
}
WITHOUT_TORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None,
    reason="torch or transformers is not installed: make test-transformers",
)


def kinds(*names: str) -> list[Any]:
    """Benches as parameters of tests."""
    return [
        pytest.param(name, marks=WITHOUT_TORCH if name == "transformers" else ()) for name in names
    ]


@dataclass
class Run:
    """One generation and all that came of it."""

    task: Task
    outcome: Outcome | None = None
    pieces: list[Piece] = field(default_factory=list)
    prefills: list[Prefill] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def emit(self, item: Prefill | Piece) -> None:
        self.threads.add(threading.get_ident())
        if isinstance(item, Piece):
            self.pieces.append(item)
        else:
            self.prefills.append(item)

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def done(self) -> Outcome:
        assert self.outcome is not None
        return self.outcome


def ask(text: str, max_tokens: int = 16, begun: Continuation | None = None, **more: object) -> Task:
    sampling = Sampling.model_validate({"max_tokens": max_tokens, "temperature": 0, **more})
    return Task([ChatMessage(role="user", content=text)], sampling, begun)


def generate(bench: Bench, task: Task) -> Run:
    run = Run(task)
    run.outcome = bench.backend.generate(task, run.emit)
    return run


def words(count: int, first: str) -> str:
    """A prompt of more than so many tokens that shares no beginning with any other."""
    return first + " and then one more" * (count // 4)
