"""What llama.cpp calls back with while it generates, as pieces and an outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import UNSET

from actors.engine.backends import Emit, Outcome, Piece, Prefill, Task
from actors.engine.backends.llama.chunks import Chunk, Named, Timings, read_chunk
from actors.engine.backends.llama.errors import error_of
from protocol.errors import EngineFailed, EngineGarbage, NoyauError
from protocol.messages.engine import Alternative, TokenLogprob

NO_NUMBERS = "llama.cpp computes with numbers that are none (NaN)"


class Reader:
    """Takes what llama.cpp calls back with. Nothing may be raised into it: an exception in a
    callback is swallowed there and ends the call early."""

    def __init__(self, task: Task, emit: Emit, on_read: Callable[[], None]) -> None:
        """``on_read``: the prompt has been read."""
        self._task = task
        self._emit = emit
        self._on_read: Callable[[], None] | None = on_read
        self._error: NoyauError | None = None
        self._finish: Literal["stop", "length"] | None = None
        self._timings = Timings()
        self._ids: list[int] = []
        """Of the tokens since the last piece."""
        self._logprobs: list[TokenLogprob] = []
        """Of the same, where they are asked for."""
        self._told = 0
        """How many tokens the pieces so far have."""

    @property
    def has_read(self) -> bool:
        """Whether the prompt has been read."""
        return self._on_read is None

    def take(self, raw: bytes) -> bool:
        """One chunk; True asks llama.cpp to stop."""
        try:
            self._take(read_chunk(raw))
        except NoyauError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - see the class: it is raised after the call
            self._error = EngineFailed(f"llama.cpp sent what is not understood: {error!r}")
        return self._error is not None or self._task.cancelled.is_set()

    def _take(self, chunk: Chunk) -> None:
        if chunk.error is not UNSET:
            self._error = error_of(chunk.error)
            return
        if chunk.prompt_progress is not None:
            self._emit(Prefill(chunk.prompt_progress.processed, chunk.prompt_progress.total))
            return
        if chunk.choices is None:
            raise EngineFailed("llama.cpp sent what is not understood: neither text nor error")
        if self._on_read is not None:
            self._on_read()
            self._on_read = None
        if chunk.timings is not None:
            self._timings = chunk.timings
        for choice in chunk.choices:
            if choice.logprobs is not None and choice.logprobs.content:
                self._name(choice.logprobs.content)
            if choice.said:
                self._emit(self._piece(choice.said))
            if choice.finish_reason is not None:
                self._finish = "length" if choice.finish_reason == "length" else "stop"

    def _name(self, named: list[Named]) -> None:
        """Raises `EngineGarbage` for what is no number: then the model's weights or the device's
        memory are broken."""
        for token in named:
            if token.prob is None:
                raise EngineGarbage(NO_NUMBERS)
            self._ids.append(token.id)
            if self._task.logprobs is not None:
                self._logprobs.append(_logprob(token, self._task.logprobs))

    def _piece(self, text: str) -> Piece:
        # A chunk may be of several tokens. Of text that was held back, as it might have become a
        # stop string, each is named in an empty chunk of its own; but of the tokens that make one
        # character together only the last is. Then no ids are better than wrong ones.
        so_far = self._timings.predicted_n
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
            self._finish, prompt_tokens, times.predicted_n, times.prompt_ms, times.predicted_ms,
            times.cache_n, times.draft_n, times.draft_n_accepted,
        )  # fmt: skip


def _logprob(token: Named, others: int) -> TokenLogprob:
    top = [_number(one.logprob, one.token) for one in token.top_logprobs[:others]]
    own = _number(token.logprob, token.token)
    return TokenLogprob(text=own.text, logprob=own.logprob, top=top)


def _number(logprob: float | None, token: str) -> Alternative:
    if logprob is None:
        raise EngineGarbage(NO_NUMBERS)
    return Alternative(text=token, logprob=logprob)
