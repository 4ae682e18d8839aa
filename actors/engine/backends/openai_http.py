"""Any server of OpenAI's API as an engine: llama-server, vLLM, SGLang, LM Studio, Ollama, others.

The model is the server's, and so is its device: nothing is loaded here but what the server says of
itself. How an answer is gone on with, no standard says: it is done with servers whose way is known
(`openai.requests.DIALECTS`), and refused with all others, as a wrong guess says words twice.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from actors.engine.backends import Emit, Loaded, Outcome, Task, Vectors, batches, too_long
from actors.engine.backends.openai.chunks import ChunkReader
from actors.engine.backends.openai.connection import Answer, Connection, Wanted, wanted_always
from actors.engine.backends.openai.errors import Place, refusal
from actors.engine.backends.openai.events import DONE, EventReader
from actors.engine.backends.openai.requests import DIALECTS, chat_request
from actors.engine.backends.openai.servers import (
    Server,
    find_server,
    slot_context,
    version_of,
)
from actors.kernel.vectors import FLOAT_BYTES, packed, rows_of, tokens_of
from configs.engine_settings import EngineSettings
from protocol.errors import (
    Cancelled,
    EngineFailed,
    InvalidRequest,
    NoyauError,
    Overloaded,
    UnusableKey,
)

AGAIN_S = 0.25
"""Between two looks whether a server that is being started is there."""
BYTES_PER_TOKEN = 4
"""Of text, where a server does not count: the usual rule of thumb for English."""


class OpenAIHttp:
    """One model of one server."""

    name = "openai_http"
    needs_model = False

    def __init__(self) -> None:
        self.device: Literal["cpu", "gpu"] = "cpu"
        self._place = Place("")
        self._connection: Connection | None = None
        self._server = Server("other", "")
        self._context_tokens = 0
        self._model = ""

    def check(self, options: EngineSettings) -> None:
        """See `Backend.check`: this machine needs no device."""

    def load(
        self,
        path: Path,
        model: str,
        options: EngineSettings,
        kept: Path | None = None,
        *,
        embeds: bool = False,
    ) -> Loaded:
        """See `Backend.load`: find out what the server is. ``path`` is not looked at.

        Raises `UnusableKey`, and `EngineFailed` with the remedy when the server is not there, does
        not take the key, is none of OpenAI's API, or has no such model.
        """
        self.device, self._model = options.device, model
        url = (options.url or "").rstrip("/")
        self._place = Place(url)
        if options.api_key_file is not None:
            key_file = Path(options.api_key_file)
            self._place = Place(url, str(key_file), read_key(key_file))
        self._connection = Connection(self._place, options.connect_timeout_s)
        models = self._models(time.monotonic() + options.server_wait_s)
        found = find_server(models, options.remote_model or "", options.server_kind, url)
        context, version = found.context_tokens, (0, 0)
        if found.kind == "llama_cpp":
            context = slot_context(self._told("/props")) or context
        if found.kind == "vllm":
            version = version_of(self._told("/version"))
        self._server = Server(found.kind, found.model, context, version)
        self._context_tokens = context or options.context_tokens // options.slots
        return Loaded(found.model_name, self._context_tokens)

    def unload(self) -> None:
        """See `Backend.unload`."""
        if self._connection is not None:
            self._connection.close()

    def count(self, texts: Sequence[str]) -> list[int]:
        """See `Backend.count`. Where the server does not count, a token is taken for four bytes."""
        return [self._count(text) for text in texts]

    def generate(self, task: Task, emit: Emit) -> Outcome | None:
        """See `Backend.generate`. `EngineCannotGoOn` where the server is not known to go on with
        an answer; `Overloaded` when it has no place for one."""
        try:
            return self._generate(task, emit)
        except Cancelled:
            return None

    def embed(self, texts: Sequence[str], cancelled: threading.Event) -> Vectors | None:
        """See `Backend.embed`: the server's ``/embeddings``. Of a text that is too long it says so
        itself, each in its own words."""
        vectors: list[bytes] = []
        tokens = 0
        try:
            for batch in batches(texts):
                told = self._embeddings(batch, lambda: not cancelled.is_set())
                vectors += packed(rows_of(told, len(batch)))
                tokens += tokens_of(told)
        except Cancelled:
            return None
        return Vectors(vectors, len(vectors[0]) // FLOAT_BYTES, tokens)

    def _embeddings(self, texts: Sequence[str], wanted: Wanted) -> Any:
        assert self._connection is not None
        if not wanted():
            raise Cancelled("nobody waits for it any more")
        request = {"model": self._server.model, "input": list(texts), "encoding_format": "float"}
        answer = self._connection.open(f"{self._place.url}/embeddings", request, wanted)
        if answer.status != 200:
            raise self._refusal(answer, wanted)
        return _json(answer, wanted)

    # --- generating -----------------------------------------------------------------------

    def _generate(self, task: Task, emit: Emit) -> Outcome:
        left = task.sampling.max_tokens - self._begun(task)
        if left <= 0:
            return Outcome("length", self._prompt_tokens(task) or 0, 0, 0.0, 0.0)
        reader = ChunkReader(task, emit, self._place, time.monotonic())
        try:
            answer = self._ask(task, left)
        except InvalidRequest as error:
            begun = task.begun is not None and task.begun.text
            if begun and "context_tokens" in error.details:
                return Outcome("length", int(error.details["prompt_tokens"]), 0, 0.0, 0.0)
            if begun:
                # What was well before it was begun is so still: it is the going on that it refuses.
                raise EngineFailed(f"it does not go on with the answer: {error}") from None
            raise
        try:
            self._read(answer, reader, task)
        finally:
            answer.close()
        return reader.outcome()

    def _ask(self, task: Task, left: int) -> Answer:
        """The answer's head. Raises what the server says instead."""
        request = chat_request(self._server, task, left)
        answer = self._post_chat(request, task)
        if answer.status == 200:
            return answer
        error = self._refusal(answer, _wanted(task))
        if isinstance(error, InvalidRequest) and "context_tokens" in error.details:
            # Where llama-server ends an answer when the context is full, others refuse one that
            # might get there. Their numbers are not exact.
            context = int(error.details["context_tokens"])
            prompt = self._prompt_tokens(task) or int(error.details["prompt_tokens"])
            if not 0 < context - prompt < left:
                raise too_long(max(prompt, int(error.details["prompt_tokens"])), context)
            answer = self._post_chat(request | {"max_tokens": context - prompt}, task)
            if answer.status == 200:
                return answer
            error = self._refusal(answer, _wanted(task))
        raise error

    def _post_chat(self, request: dict[str, Any], task: Task) -> Answer:
        assert self._connection is not None
        if task.cancelled.is_set():
            raise Cancelled("nobody waits for it any more")
        return self._connection.open(
            f"{self._place.url}/chat/completions", request,
            _wanted(task), read_timeout_s=None,
        )  # fmt: skip

    def _read(self, answer: Answer, reader: ChunkReader, task: Task) -> None:
        """The stream, up to its end."""
        kind = answer.header("Content-Type")
        if not kind.startswith("text/event-stream"):
            raise EngineFailed(
                f"{self._place.url} answers with {kind or 'something'}, not a stream of events"
            )
        events = EventReader()
        while True:
            try:
                chunk = answer.next(_wanted(task))
            except EngineFailed:
                if reader.finished:
                    return
                raise
            if chunk is None:
                return
            for data in events.feed(chunk):
                if data.strip() == DONE:
                    return
                reader.take(data, time.monotonic())
                if task.cancelled.is_set():
                    raise Cancelled("nobody waits for it any more")

    # --- tokens ---------------------------------------------------------------------------

    def _begun(self, task: Task) -> int:
        """How many tokens the answer has already."""
        begun = task.begun
        if begun is None or not begun.text:
            return 0
        if begun.tokens and begun.model == self._model:
            return len(begun.tokens)
        return begun.count or self._count(begun.text, _wanted(task))

    def _count(self, text: str, wanted: Wanted = wanted_always) -> int:
        if not text:
            return 0
        asked: dict[str, Any] = {"content": text, "add_special": False, "parse_special": False}
        if self._server.kind != "llama_cpp":
            asked = {"model": self._server.model, "prompt": text, "add_special_tokens": False}
        return self._tokens(asked, wanted) or -(-len(text.encode()) // BYTES_PER_TOKEN)

    def _prompt_tokens(self, task: Task) -> int | None:
        """Of the turns, and what the answer begins with, as the model's template puts them; None
        where the server does not count those."""
        if self._server.kind != "vllm":
            return None
        request = chat_request(self._server, task, 1)
        taken = ("model", "messages", "add_generation_prompt", "continue_final_message")
        asked = {name: request[name] for name in taken if name in request}
        return self._tokens(asked, _wanted(task))

    def _tokens(self, asked: dict[str, Any], wanted: Wanted) -> int | None:
        """How many, as the server's ``/tokenize`` says; None where it does not."""
        if self._server.kind not in DIALECTS:
            return None
        told = self._told("/tokenize", asked, wanted)
        tokens = told.get("tokens") if isinstance(told, dict) else None
        return len(tokens) if isinstance(tokens, list) else None

    # --- small things to ask --------------------------------------------------------------

    def _models(self, until: float, wanted: Wanted = wanted_always) -> Any:
        """The server's list of models. One that is not there yet, or still loads its model, is
        waited for."""
        assert self._connection is not None
        while True:
            try:
                answer = self._connection.open(f"{self._place.url}/models", wanted=wanted)
                if answer.status == 200:
                    return _json(answer, wanted)
                if answer.status == 404:
                    answer.close()
                    return None
                raise self._refusal(answer, wanted)
            except (EngineFailed, Overloaded) as error:
                starting = isinstance(error, Overloaded) or "unreachable" in error.details
                if not starting or time.monotonic() >= until:
                    raise EngineFailed(error.message) from None
            time.sleep(AGAIN_S)

    def _told(
        self, path: str, body: dict[str, Any] | None = None, wanted: Wanted = wanted_always
    ) -> Any:
        """What a server says beside OpenAI's API; None where it does not."""
        assert self._connection is not None
        url = f"{self._place.url.removesuffix('/v1')}{path}"
        answer = self._connection.open(url, body, wanted)
        if answer.status == 200:
            return _json(answer, wanted)
        answer.close()
        return None

    def _refusal(self, answer: Answer, wanted: Wanted) -> NoyauError:
        retry_after = answer.header("Retry-After")
        try:
            body = answer.read(wanted)
        finally:
            answer.close()
        if answer.status == 404:
            listed = self._models(0.0, wanted)
            # Raises what names the models that there are.
            find_server(listed, self._server.model, self._server.kind, self._place.url)
        return refusal(answer.status, body, self._place, retry_after, now=datetime.now(UTC))


def _wanted(task: Task) -> Wanted:
    return lambda: not task.cancelled.is_set()


def _json(answer: Answer, wanted: Wanted) -> Any:
    """The body; None where it is no JSON."""
    try:
        return json.loads(answer.read(wanted))
    except (ValueError, RecursionError):
        return None
    finally:
        answer.close()


def read_key(path: Path) -> str:
    """The key in a file: its one line. Raises `UnusableKey`, which does not say it."""
    try:
        key = path.read_text("ascii").strip()
    except UnicodeDecodeError:
        raise UnusableKey(f"{path} holds no key: a key is ASCII") from None
    except OSError as error:
        raise UnusableKey(f"the key {path} cannot be read: {error.strerror}") from None
    if not key or not key.isprintable() or " " in key:
        raise UnusableKey(f"{path} holds no key: write it there, in one line and nothing else")
    return key
