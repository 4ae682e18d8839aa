"""llama.cpp through xllamacpp: GGUF models on the CPU.

A generation is always begun from token ids: the chat template is rendered and tokenised by the
library itself, and what an answer is continued from is put behind it, as ids where they are
known. So a continued answer sees exactly the tokens that an uninterrupted one would have seen.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import xllamacpp

from actors.engine.backends import (
    Emit,
    Loaded,
    Outcome,
    Prefill,
    Task,
    Vectors,
    batches,
    text_too_long,
    too_long,
)
from actors.engine.backends.llama.errors import error_of, failure
from actors.engine.backends.llama.reading import Reader
from actors.engine.backends.llama.requests import request_of
from actors.engine.backends.prompts import PromptTurns
from actors.engine.backends.turns import chat_turns
from actors.engine.formats import rest_of_grammar
from actors.engine.model_file import read_model
from actors.kernel.cores import spread_threads
from actors.kernel.vectors import FLOAT_BYTES, packed, rows_of
from configs.engine_settings import EngineSettings
from protocol.errors import (
    EngineFailed,
    MissingHardware,
)
from protocol.messages.engine import ChatMessage, Continuation

HTTP_TIMEOUT_S = 60.0
"""For rendering a template and tokenising: milliseconds, unless the machine is swamped."""

ALL_LAYERS = 999
"""More than any model has; llama.cpp takes it for all of them."""


class LlamaCpp:
    """One loaded model with its slots."""

    name = "llama_cpp"
    needs_model = True

    def __init__(self) -> None:
        self.device: Literal["cpu", "gpu"] = "cpu"
        self._model = ""
        self._context_tokens = 0
        # Every xllamacpp server opens a port on loopback, with open CORS: without this secret
        # any page in a browser on this machine could use it.
        self._key = secrets.token_urlsafe(32)
        self._address = ("", 0)
        self._connections = threading.local()
        self._server: Any = None
        self._turns = PromptTurns(0, 1)

    def check(self, options: EngineSettings) -> None:
        """See `Backend.check`."""
        if options.device == "gpu" and not _gpus():
            raise MissingHardware(
                "llama.cpp sees no GPU: this build of xllamacpp has no support for one; install "
                "its build for your GPU, see https://github.com/xorbitsai/xllamacpp"
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
        """See `Backend.load`; it makes no files of it."""
        self.device = options.device
        threads = options.threads or len(os.sched_getaffinity(0))
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel = options.slots
        self._context_tokens = options.context_tokens // options.slots
        if embeds:
            self._have_it_embed(params, path)
        else:
            params.n_ctx = options.context_tokens
            params.n_batch = params.n_ubatch = options.batch_tokens
            params.cache_ram_mib = options.prompt_cache_mib
            _speculate(params, options)
        spread_threads(params, threads)
        params.n_gpu_layers = ALL_LAYERS if options.device == "gpu" else 0
        params.verbosity = -1
        params.api_keys = [self._key]
        # What a model thinks is a part of what it says, and a part that a continuation needs.
        params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
        # The first real request warms it up as well, and a restart must not wait for it.
        params.warmup = False
        # Nothing is left to be fitted to the device's memory, and finding that out takes a quarter
        # of the time.
        params.fit_params = False
        try:
            self._server = xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            failed = failure(str(error))
            raise type(failed)(f"{path} cannot be loaded: {error}", path=str(path)) from None
        where = urlsplit(self._server.listening_address)
        self._address = (where.hostname or "127.0.0.1", where.port or 0)
        self._model = model
        self._turns = PromptTurns(options.batch_tokens, options.slots)
        return Loaded(path.stem, self._context_tokens)

    def _have_it_embed(self, params: Any, path: Path) -> None:
        """A text is read in one step, and as far as the model was trained to look back."""
        model = read_model(path)
        if model.trained_context_tokens:
            self._context_tokens = min(self._context_tokens, model.trained_context_tokens)
        params.n_batch = params.n_ubatch = self._context_tokens
        params.n_ctx = self._context_tokens * params.n_parallel
        params.embedding = True
        if not model.pools:
            # A model that was made to write. Of its tokens' vectors the mean tells the most.
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN

    def unload(self) -> None:
        """See `Backend.unload`. It is destroyed with the last reference to it."""
        self._server = None

    # --- prompts --------------------------------------------------------------------------

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A call to the server's own interface: for what its Python one does not offer."""
        data = json.dumps(body).encode()
        try:
            status, content = self._exchange(path, data)
            answer: dict[str, Any] = json.loads(content)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EngineFailed(f"llama.cpp did not answer {path}: {error}") from None
        if status != 200:
            raise error_of(answer.get("error", answer))
        return answer

    def _exchange(self, path: str, data: bytes) -> tuple[int, bytes]:
        """One request on this thread's connection. The server closes those that were idle for
        some seconds, so a kept one that fails is replaced by a fresh one, once."""
        kept = getattr(self._connections, "http", None)
        if kept is not None:
            try:
                return self._send(kept, path, data)
            except (OSError, http.client.HTTPException):
                kept.close()
        fresh = http.client.HTTPConnection(*self._address, timeout=HTTP_TIMEOUT_S)
        self._connections.http = None
        answer = self._send(fresh, path, data)
        self._connections.http = fresh
        return answer

    def _send(
        self, connection: http.client.HTTPConnection, path: str, data: bytes
    ) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        connection.request("POST", path, data, headers)
        response = connection.getresponse()
        return response.status, response.read()

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        answer = self._post("/tokenize", {"content": text, "parse_special": special})
        return [int(token) for token in answer["tokens"]]

    def _prompt(self, messages: Sequence[ChatMessage]) -> list[int]:
        rendered = self._post("/apply-template", {"messages": chat_turns(messages)})["prompt"]
        return self._tokenize(rendered, special=True)

    def _begun(self, begun: Continuation | None) -> list[int]:
        if begun is None or not begun.text:
            return []
        if begun.tokens and begun.model == self._model:
            return begun.tokens
        # Text is only ever cut between tokens, so this gives no token that spans the cut.
        return self._tokenize(begun.text, special=False)

    def count(self, texts: Sequence[str]) -> list[int]:
        """See `Backend.count`."""
        return [len(self._tokenize(text, special=False)) for text in texts]

    # --- embedding ------------------------------------------------------------------------

    def embed(self, texts: Sequence[str], cancelled: threading.Event) -> Vectors | None:
        """See `Backend.embed`."""
        vectors: list[bytes] = []
        tokens = 0
        for batch in batches(texts):
            if cancelled.is_set():
                return None
            inputs = [self._input(len(vectors) + number, text) for number, text in enumerate(batch)]
            tokens += sum(len(one) for one in inputs)
            vectors += packed(self._embedded(inputs))
        return Vectors(vectors, len(vectors[0]) // FLOAT_BYTES, tokens)

    def _input(self, number: int, text: str) -> list[int]:
        # As it reads a text itself: with the marks of beginning and end that the model wants.
        answer = self._post("/tokenize", {"content": text, "add_special": True})
        tokens = [int(token) for token in answer["tokens"]]
        if len(tokens) > self._context_tokens:
            raise text_too_long(number, len(tokens), self._context_tokens)
        return tokens

    def _embedded(self, inputs: Sequence[list[int]]) -> list[list[float]]:
        try:
            answer = self._server.handle_embeddings({"input": list(inputs)})
        except (RuntimeError, ValueError) as error:
            raise failure(str(error)) from None
        if "error" in answer:
            raise error_of(answer["error"])
        return rows_of(answer, len(inputs))

    # --- generating -----------------------------------------------------------------------

    def generate(self, task: Task, emit: Emit) -> Outcome | None:
        """See `Backend.generate`."""
        begun = self._begun(task.begun)
        prompt = self._prompt(task.messages) + begun
        left = task.sampling.max_tokens - len(begun)
        if left <= 0:
            return Outcome("length", len(prompt), 0, 0.0, 0.0)
        if len(prompt) >= self._context_tokens:
            if begun:
                return Outcome("length", len(prompt), 0, 0.0, 0.0)
            raise too_long(len(prompt), self._context_tokens)
        turn = object()
        reader = Reader(task, emit, lambda: self._turns.over(turn))
        try:
            if not self._turns.wait(
                turn, prompt, lambda: not task.cancelled.is_set(),
                lambda: emit(Prefill(0, len(prompt), waits=True)),
            ):  # fmt: skip
                return None
            self._call(task, prompt, left, reader)
        except (RuntimeError, ValueError) as error:
            raise failure(str(error)) from None
        finally:
            self._turns.leave(turn, prompt if reader.has_read else ())
        return reader.outcome(len(prompt))

    def _call(self, task: Task, prompt: list[int], left: int, reader: Reader) -> None:
        wanted, begun = task.format, task.begun
        if begun is None or not begun.text or wanted is None or wanted.json_schema is None:
            request = request_of(task, left) | {"prompt": prompt}
            if begun is not None and begun.text and "grammar" in request:
                request["grammar"] = rest_of_grammar(request["grammar"], begun.text)
            self._server.handle_completions(_bytes(request), reader.take)
            return
        # What is begun has to be taken into account by the schema too, which llama.cpp does for
        # the last turn of a chat alone.
        turns = [*chat_turns(task.messages), {"role": "assistant", "content": begun.text}]
        request = request_of(task, left) | {"messages": turns}
        request["response_format"] = {
            "type": "json_schema",
            "json_schema": {"schema": request.pop("json_schema")},
        }
        if task.logprobs is None:
            request.pop("logprobs")
            request.pop("post_sampling_probs")
        else:
            request |= {"logprobs": True, "top_logprobs": task.logprobs}
        self._server.handle_chat_completions(_bytes(request), reader.take)


def _speculate(params: Any, options: EngineSettings) -> None:
    """Have tokens guessed ahead, as the settings say."""
    kinds = xllamacpp.common_speculative_type
    if options.speculation == "ngram":
        params.speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
    if options.speculation == "draft":
        params.speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        draft = params.speculative.draft
        draft.mparams.path = str(options.draft_model)
        draft.n_max = options.draft_tokens
        draft.n_gpu_layers = params.n_gpu_layers
        draft.cpuparams = params.cpuparams


def _gpus() -> list[str]:
    """The GPUs that this build of the library can use."""
    kinds = xllamacpp.ggml_backend_dev_type
    wanted = (kinds.GGML_BACKEND_DEVICE_TYPE_GPU, kinds.GGML_BACKEND_DEVICE_TYPE_IGPU)
    return [str(one["name"]) for one in xllamacpp.get_device_info() if one["type"] in wanted]


def _bytes(request: dict[str, Any]) -> bytes:
    """As bytes: then what llama.cpp calls back with is bytes too."""
    return json.dumps(request).encode()
