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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import xllamacpp

from actors.engine.backends import Emit, Loaded, Outcome, Piece, Prefill, Task, too_long
from actors.engine.backends.prompts import PromptTurns
from actors.engine.backends.turns import chat_turns
from actors.engine.formats import rest_of_grammar
from configs.engine_settings import EngineSettings
from protocol.errors import (
    EngineFailed,
    EngineGarbage,
    EngineOutOfMemory,
    InvalidRequest,
    MissingHardware,
    NoyauError,
)
from protocol.messages.engine import Alternative, ChatMessage, Continuation, TokenLogprob

HTTP_TIMEOUT_S = 60.0
"""For rendering a template and tokenising: milliseconds, unless the machine is swamped."""

NO_NUMBERS = "llama.cpp computes with numbers that are none (NaN)"
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
        self._turns = PromptTurns(0)

    def check(self, options: EngineSettings) -> None:
        """See `Backend.check`."""
        if options.device == "gpu" and not _gpus():
            raise MissingHardware(
                "llama.cpp sees no GPU: this build of xllamacpp has no support for one; install "
                "its build for your GPU, see https://github.com/xorbitsai/xllamacpp"
            )

    def load(
        self, path: Path, model: str, options: EngineSettings, kept: Path | None = None
    ) -> Loaded:
        """See `Backend.load`; it makes no files of it."""
        self.device = options.device
        threads = options.threads or len(os.sched_getaffinity(0))
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = options.context_tokens
        params.n_parallel = options.slots
        params.n_batch = params.n_ubatch = options.batch_tokens
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.cache_ram_mib = options.prompt_cache_mib
        params.n_gpu_layers = ALL_LAYERS if options.device == "gpu" else 0
        _speculate(params, options)
        params.verbosity = -1
        params.api_keys = [self._key]
        # What a model thinks is a part of what it says, and a part that a continuation needs.
        params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
        # The first real request warms it up as well, and a restart must not wait for it.
        params.warmup = False
        try:
            self._server = xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            failed = _failed(str(error))
            raise type(failed)(f"{path} cannot be loaded: {error}", path=str(path)) from None
        where = urlsplit(self._server.listening_address)
        self._address = (where.hostname or "127.0.0.1", where.port or 0)
        self._model = model
        self._turns = PromptTurns(options.batch_tokens)
        self._context_tokens = options.context_tokens // options.slots
        return Loaded(path.stem, self._context_tokens)

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
            raise _error(answer.get("error", answer))
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
        reader = _Reader(task, emit, lambda: self._turns.over(turn))
        try:
            if not self._turns.wait(
                turn, len(prompt), lambda: not task.cancelled.is_set(),
                lambda: emit(Prefill(0, len(prompt), waits=True)),
            ):  # fmt: skip
                return None
            self._call(task, prompt, left, reader)
        except (RuntimeError, ValueError) as error:
            raise _failed(str(error)) from None
        finally:
            self._turns.over(turn)
        return reader.outcome(len(prompt))

    def _call(self, task: Task, prompt: list[int], left: int, reader: _Reader) -> None:
        wanted, begun = task.format, task.begun
        if begun is None or not begun.text or wanted is None or wanted.json_schema is None:
            request = _request(task, left) | {"prompt": prompt}
            if begun is not None and begun.text and "grammar" in request:
                request["grammar"] = rest_of_grammar(request["grammar"], begun.text)
            self._server.handle_completions(request, reader.take)
            return
        # What is begun has to be taken into account by the schema too, which llama.cpp does for
        # the last turn of a chat alone.
        turns = [*chat_turns(task.messages), {"role": "assistant", "content": begun.text}]
        request = _request(task, left) | {"messages": turns}
        request["response_format"] = {
            "type": "json_schema",
            "json_schema": {"schema": request.pop("json_schema")},
        }
        if task.logprobs is None:
            request.pop("logprobs")
            request.pop("post_sampling_probs")
        else:
            request |= {"logprobs": True, "top_logprobs": task.logprobs}
        self._server.handle_chat_completions(request, reader.take)


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
        draft.cpuparams.n_threads = params.cpuparams.n_threads


def _gpus() -> list[str]:
    """The GPUs that this build of the library can use."""
    kinds = xllamacpp.ggml_backend_dev_type
    wanted = (kinds.GGML_BACKEND_DEVICE_TYPE_GPU, kinds.GGML_BACKEND_DEVICE_TYPE_IGPU)
    return [str(one["name"]) for one in xllamacpp.get_device_info() if one["type"] in wanted]


def _request(task: Task, max_tokens: int) -> dict[str, Any]:
    sampling = task.sampling
    request: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repeat_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": list(sampling.stop),
        "stream": True,
        "return_progress": True,
        # Brings the id of each token along. Of the probabilities after sampling, as those before it
        # are a softmax over the whole vocabulary: about 6 % slower with four answers at once
        # (two runs of each).
        "logprobs": max(1, task.logprobs or 0),
        "post_sampling_probs": task.logprobs is None,
        # And how many tokens there have been so far: proves that all ids came along.
        "timings_per_token": True,
    }
    if sampling.seed is not None:
        request["seed"] = sampling.seed
    if task.format is not None and task.format.json_schema is not None:
        request["json_schema"] = task.format.json_schema
    if task.format is not None and task.format.grammar:
        request["grammar"] = task.format.grammar
    return request


class _Reader:
    """Takes what llama.cpp calls back with. Nothing may be raised into it: an exception in a
    callback is swallowed there and ends the call early."""

    def __init__(self, task: Task, emit: Emit, on_read: Callable[[], None]) -> None:
        """``on_read``: the prompt has been read."""
        self._task = task
        self._emit = emit
        self._on_read: Callable[[], None] | None = on_read
        self._error: NoyauError | None = None
        self._finish: Literal["stop", "length"] | None = None
        self._timings: dict[str, Any] = {}
        self._ids: list[int] = []
        """Of the tokens since the last piece."""
        self._logprobs: list[TokenLogprob] = []
        """Of the same, where they are asked for."""
        self._told = 0
        """How many tokens the pieces so far have."""

    def take(self, chunk: dict[str, Any]) -> bool:
        """One chunk; True asks llama.cpp to stop."""
        try:
            self._take(chunk)
        except NoyauError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - see the class: it is raised after the call
            self._error = EngineFailed(f"llama.cpp sent what is not understood: {error!r}")
        return self._error is not None or self._task.cancelled.is_set()

    def _take(self, chunk: dict[str, Any]) -> None:
        if "error" in chunk:
            self._error = _error(chunk["error"])
            return
        progress = chunk.get("prompt_progress")
        if progress is not None:
            self._emit(Prefill(int(progress["processed"]), int(progress["total"])))
            return
        if self._on_read is not None:
            self._on_read()
            self._on_read = None
        self._timings = chunk.get("timings") or self._timings
        for choice in chunk["choices"]:
            named = (choice.get("logprobs") or {}).get("content") or []
            self._ids += [int(part["id"]) for part in named]
            if any(part.get("prob", 0.0) is None for part in named):
                raise EngineGarbage(NO_NUMBERS)
            if self._task.logprobs is not None:
                self._logprobs += [_logprob(part, self._task.logprobs) for part in named]
            # As a completion, or as a turn of a chat.
            text = choice["text"] if "text" in choice else choice["delta"].get("content")
            if text:
                self._emit(self._piece(text))
            if choice["finish_reason"] is not None:
                self._finish = "length" if choice["finish_reason"] == "length" else "stop"

    def _piece(self, text: str) -> Piece:
        # A chunk may be of several tokens. Of text that was held back, as it might have become a
        # stop string, each is named in an empty chunk of its own; but of the tokens that make one
        # character together only the last is. Then no ids are better than wrong ones.
        so_far = int(self._timings.get("predicted_n", 0))
        count, ids, logprobs = so_far - self._told, self._ids, self._logprobs
        self._told, self._ids, self._logprobs = so_far, [], []
        return Piece(text, ids if len(ids) == count else [], max(1, count), tuple(logprobs))

    def outcome(self, prompt_tokens: int) -> Outcome | None:
        """After the call: how it ended. Raises what went wrong in it."""
        if self._error is not None:
            raise self._error
        if self._finish is None:
            if self._task.cancelled.is_set():
                return None
            raise EngineFailed("llama.cpp stopped without saying why")
        times = self._timings
        return Outcome(
            self._finish,
            prompt_tokens,
            int(times.get("predicted_n", 0)),
            float(times.get("prompt_ms", 0.0)),
            float(times.get("predicted_ms", 0.0)),
            int(times.get("cache_n", 0)),
            int(times.get("draft_n", 0)),
            int(times.get("draft_n_accepted", 0)),
        )


def _logprob(part: dict[str, Any], others: int) -> TokenLogprob:
    """Raises `EngineGarbage` for one that is no number: then the model's weights or the device's
    memory are broken."""
    if part.get("logprob") is None:
        raise EngineGarbage(NO_NUMBERS)
    top = part.get("top_logprobs") or []
    return TokenLogprob(
        text=str(part["token"]), logprob=float(part["logprob"]),
        top=[Alternative(text=str(one["token"]), logprob=float(one["logprob"]))
             for one in top[:others]],
    )  # fmt: skip


def _error(error: Any) -> NoyauError:
    """llama.cpp's error as one of ours."""
    if not isinstance(error, dict):
        return _failed(f"{error!r:.300}")
    if error.get("type") == "exceed_context_size_error":
        return too_long(int(error.get("n_prompt_tokens", 0)), int(error.get("n_ctx", 0)))
    text = str(error.get("message", error))
    if error.get("type") == "invalid_request_error" or error.get("code") == 400:
        return InvalidRequest(f"llama.cpp refuses the request: {text}")
    return _failed(text)


_NO_MEMORY = ("out of memory", "failed to allocate", "cudamalloc", "bad_alloc")


def _failed(text: str) -> EngineFailed:
    no_memory = any(sign in text.lower() for sign in _NO_MEMORY)
    return (EngineOutOfMemory if no_memory else EngineFailed)(f"llama.cpp failed: {text}")
