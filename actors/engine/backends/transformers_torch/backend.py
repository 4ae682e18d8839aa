"""The backend: prompts in, pieces out; see the package for what lies between."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import structlog
import torch

from actors.engine.backends import Emit, Loaded, Outcome, Prefill, Task, Vectors, too_long
from actors.engine.backends.transformers_torch import loading
from actors.engine.backends.transformers_torch.choosing import Draws
from actors.engine.backends.transformers_torch.forward import Forward, is_out_of_memory
from actors.engine.backends.transformers_torch.guide import Guide
from actors.engine.backends.transformers_torch.reading import Pieces
from actors.engine.backends.transformers_torch.requests import Chosen, End, Request
from actors.engine.backends.transformers_torch.worker import Worker
from actors.engine.backends.turns import chat_turns
from configs.engine_settings import EngineSettings
from protocol.errors import (
    EngineFailed,
    EngineOutOfMemory,
    MissingHardware,
    NoyauError,
    UnusableModel,
)
from protocol.messages.engine import Continuation

EMBEDS_NOTHING = (
    "the engine backend transformers embeds no texts; have an engine with llama_cpp or openai_http "
    "do that"
)

log = structlog.get_logger("engine")


class Transformers:
    """One loaded model with its slots."""

    name = "transformers"
    needs_model = True

    def __init__(self) -> None:
        self.device: Literal["cpu", "gpu"] = "cpu"
        self._model = ""
        self._context_tokens = 0
        self.tokens: Any = None
        """The model's `loading.Tokens`, once it is loaded."""
        self.forward: Forward | None = None
        """What computes, once it is loaded."""
        self._worker: Worker | None = None
        self._thread: threading.Thread | None = None

    def check(self, options: EngineSettings) -> None:
        """See `Backend.check`."""
        if options.device == "gpu" and not torch.cuda.is_available():
            raise MissingHardware(
                "torch sees no GPU: this is a build of it for another kind, or the GPU's driver is "
                "missing; install the build for your GPU, see https://pytorch.org/get-started"
            )

    def load(
        self,
        path: Path,
        model: str,
        options: EngineSettings,
        kept: Path | None = None,
        *,
        embeds: bool = False,
    ) -> Loaded:
        """See `Backend.load`."""
        if embeds:
            raise UnusableModel(f"{path}: {EMBEDS_NOTHING}", path=str(path))
        self.device = options.device
        threads = options.threads or len(os.sched_getaffinity(0))
        torch.set_num_threads(threads)
        try:
            self.forward = self._load(path, model, options, kept)
        except Exception as error:  # noqa: BLE001 - the libraries fail in as many ways as a file can
            kind = EngineOutOfMemory if is_out_of_memory(error) else EngineFailed
            raise kind(f"{path} cannot be loaded: {error}", path=str(path)) from None
        self._model = model
        self._worker = Worker(self.forward, options.slots, options.batch_tokens, _end_process)
        self._thread = threading.Thread(
            target=_compute, args=(self._worker, threads), name="compute", daemon=True
        )
        self._thread.start()
        return Loaded(path.stem, self._context_tokens)

    def _load(self, path: Path, model: str, options: EngineSettings, kept: Path | None) -> Forward:
        device = "cuda" if options.device == "gpu" else "cpu"
        loaded, tokenizer = loading.load(path, model, device, kept)
        trained = getattr(loaded.config.get_text_config(), "max_position_embeddings", None)
        context_tokens = options.context_tokens // options.slots
        self._context_tokens = min(context_tokens, trained or context_tokens)
        self.tokens = loading.Tokens(tokenizer, loaded)
        return Forward(loaded, options.slots, self._context_tokens, self.tokens)

    def unload(self) -> None:
        """See `Backend.unload`."""
        if self._worker is not None and self._thread is not None:
            self._worker.stop()
            self._thread.join()
        self._worker = self._thread = self.forward = self.tokens = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def count(self, texts: Sequence[str]) -> list[int]:
        """See `Backend.count`."""
        return [len(self.tokens.plain(text)) for text in texts]

    def embed(self, texts: Sequence[str], cancelled: threading.Event) -> Vectors | None:
        """See `Backend.embed`, which it is never loaded for. Raises `UnusableModel`."""
        raise UnusableModel(EMBEDS_NOTHING)

    def _begun(self, begun: Continuation | None) -> list[int]:
        if begun is None or not begun.text:
            return []
        if begun.tokens and begun.model == self._model:
            return begun.tokens
        # Text is only ever cut between tokens, so this gives no token that spans the cut.
        tokens: list[int] = self.tokens.plain(begun.text)
        return tokens

    # --- generating -----------------------------------------------------------------------

    def generate(self, task: Task, emit: Emit) -> Outcome | None:
        """See `Backend.generate`."""
        begun = self._begun(task.begun)
        prompt = self.tokens.prompt(chat_turns(task.messages, as_objects=True)) + begun
        room = self._context_tokens - len(prompt)
        left = min(task.sampling.max_tokens - len(begun), room)
        if left <= 0:
            if room <= 0 and not begun:
                raise too_long(len(prompt), self._context_tokens)
            return Outcome("length", len(prompt), 0, 0.0, 0.0)
        guide = None
        if task.format is not None and (task.format.json_schema is not None or task.format.grammar):
            guide = Guide(self.tokens.guiding, self.tokens.vocabulary, task.format, begun)
            if guide.over:
                return Outcome("stop", len(prompt), 0, 0.0, 0.0)
        request = Request(task, prompt, left, Draws(task.sampling.seed, len(begun)), guide)
        assert self._worker is not None
        self._worker.add(request)
        try:
            return self._receive(request, emit)
        finally:
            request.gone.set()

    def _receive(self, request: Request, emit: Emit) -> Outcome | None:
        """Take what the worker makes, in the caller's thread. The worker may be some tokens ahead
        when a stop string is found."""
        pieces = Pieces(self.tokens.bytes_of, list(request.task.sampling.stop))
        made = 0
        while True:
            item = request.items.get()
            if request.task.cancelled.is_set():
                return None
            match item:
                case NoyauError():
                    raise item
                case Prefill():
                    emit(item)
                case End(reason="cancelled"):
                    return None
                case End(reason=("stop" | "length") as reason):
                    for piece in pieces.rest():
                        emit(piece)
                    return _outcome(request, reason, made)
                case Chosen(token, logprob):
                    made += 1
                    for piece in pieces.add(token, logprob):
                        emit(piece)
                    if pieces.stopped:
                        return _outcome(request, "stop", made)


def _outcome(request: Request, reason: Literal["stop", "length"], made: int) -> Outcome:
    read_at = request.read_at
    return Outcome(
        reason, len(request.prompt), made,
        (read_at - request.placed_at) * 1000, (time.monotonic() - read_at) * 1000,
    )  # fmt: skip


def _end_process(error: Exception) -> None:
    """At once: nothing can be finished, and who was answered is to know that a process died over
    it. The next incarnation has the device anew."""
    log.error("device_broken", error=f"{error!r:.300}")
    os.kill(os.getpid(), signal.SIGKILL)


def _compute(worker: Worker, threads: int) -> None:
    # The number is kept for each thread that computes, not for the process.
    torch.set_num_threads(threads)
    worker.run()
