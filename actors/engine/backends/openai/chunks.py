"""The chunks of a streamed answer, and what becomes of them: pieces, and how it ended. Pure.

An answer is whole when its end was said (``finish_reason``), and only then: a stream that just
stops is that of a server that died, and looks whole to every client that does not ask for it.
"""

from __future__ import annotations

import json
import math
from typing import Any, Literal

from actors.engine.backends import Emit, Outcome, Piece, Prefill, Task
from actors.engine.backends.openai.errors import Place, in_band
from protocol.errors import EngineFailed, EngineGarbage
from protocol.messages.engine import Alternative, TokenLogprob

_ENDS: dict[str, Literal["stop", "length"]] = {"stop": "stop", "length": "length"}

NO_NUMBERS = "the server computes with numbers that are none (NaN)"


class ChunkReader:
    """Of one answer."""

    def __init__(self, task: Task, emit: Emit, place: Place, began: float) -> None:
        """``began``: when it was asked for, in seconds of any clock; so are the other times."""
        self._task = task
        self._emit = emit
        self._place = place
        self._began = began
        self._first: float | None = None
        self._last = began
        self._finish: Literal["stop", "length"] | None = None
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}
        """What llama-server adds."""
        self._ids: list[int] = []
        """Of the tokens since the last piece, where they are told."""
        self._named = 0
        """How many of those were named one by one."""
        self._logprobs: list[TokenLogprob] = []
        self._told = 0
        """How many tokens the pieces so far have."""
        self._thought = 0

    @property
    def finished(self) -> bool:
        """Whether the end was said: no text is missing, whatever comes."""
        return self._finish is not None

    def take(self, data: str, now: float) -> None:
        """The data of one event. Raises what the server says, `EngineFailed` for what is none of
        this, `EngineGarbage`, and what ``emit`` raises."""
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            chunk = None
        if not isinstance(chunk, dict):
            raise EngineFailed(
                f"{self._place.url} sent what is no JSON: {self._place.hide(data)!r:.100}"
            )
        if chunk.get("error") or chunk.get("object") == "error":
            raise in_band(chunk.get("error") or chunk, self._place)
        self._last = now
        try:
            item = self._read(chunk)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EngineFailed(
                f"{self._place.url} sent what is not understood: {error!r:.100}"
            ) from None
        if item is None:
            return
        if self._first is None and isinstance(item, Piece):
            self._first = now
        self._emit(item)

    def _read(self, chunk: dict[str, Any]) -> Piece | Prefill | None:
        self._usage = chunk.get("usage") or self._usage
        self._timings = chunk.get("timings") or self._timings
        progress = chunk.get("prompt_progress")
        if progress is not None:
            return Prefill(int(progress["processed"]), int(progress["total"]))
        choices = chunk.get("choices") or []
        if not choices:
            return None
        choice, delta = choices[0], choices[0].get("delta") or {}
        self._name((choice.get("logprobs") or {}).get("content") or [])
        # Some servers send an empty one with every chunk.
        if choice.get("finish_reason"):
            self._end(choice["finish_reason"])
        text = delta.get("content")
        if text:
            return self._piece(str(text))
        if delta.get("reasoning_content") or delta.get("reasoning"):
            return self._thinks()
        return None

    def _end(self, reason: Any) -> None:
        # A filter, an abort, a function's call that nobody asked for: the text is not all.
        if reason not in _ENDS:
            raise EngineFailed(
                f"{self._place.url} ended it before its end: {self._place.hide(str(reason))}"
            )
        self._finish = _ENDS[reason]

    def _name(self, content: list[dict[str, Any]]) -> None:
        """The tokens of a chunk, one by one."""
        self._named += len(content)
        self._ids += [int(one["id"]) for one in content if "id" in one]
        for one in content:
            if one.get("prob", 0.0) is None:
                raise EngineGarbage(NO_NUMBERS)
            if self._task.logprobs is not None:
                self._logprobs.append(_logprob(one, self._task.logprobs))

    def _so_far(self) -> int:
        """How many tokens there have been, at least."""
        counted = self._timings.get("predicted_n") or self._usage.get("completion_tokens")
        return int(counted or self._told + max(1, self._named))

    def _piece(self, text: str) -> Piece:
        # A token may come without a text of its own: the beginning of a character, or of what
        # might have become a stop string. And not all are named then: no ids are better than
        # wrong ones.
        so_far = max(self._so_far(), self._told + 1)
        count, ids, logprobs = so_far - self._told, self._ids, self._logprobs
        self._told, self._ids, self._logprobs, self._named = so_far, [], [], 0
        return Piece(text, ids if len(ids) == count else [], count, tuple(logprobs))

    def _thinks(self) -> Prefill:
        """A thought that the server keeps apart. It is no part of the answer; to who waits for
        that, it is like reading on: there is work, and its end is not known."""
        self._thought += 1
        self._told = self._so_far()
        self._ids, self._logprobs, self._named = [], [], 0
        return Prefill(self._thought, self._thought + 1)

    def outcome(self) -> Outcome:
        """After the last chunk. Raises `EngineFailed` when the end was never said."""
        if self._finish is None:
            raise EngineFailed(
                f"{self._place.url} broke off in the middle of an answer: its stream ended without "
                "a finish_reason"
            )
        first = self._last if self._first is None else self._first
        details = self._usage.get("prompt_tokens_details") or {}
        times = self._timings
        return Outcome(
            self._finish,
            int(self._usage.get("prompt_tokens") or 0),
            int(self._usage.get("completion_tokens") or self._told),
            float(times.get("prompt_ms", (first - self._began) * 1000)),
            float(times.get("predicted_ms", (self._last - first) * 1000)),
            int(details.get("cached_tokens") or times.get("cache_n", 0)),
            int(times.get("draft_n", 0)),
            int(times.get("draft_n_accepted", 0)),
        )


def _logprob(part: dict[str, Any], others: int) -> TokenLogprob:
    """Raises `EngineGarbage` for one that is no number: then the model's weights or the device's
    memory are broken."""
    value = part.get("logprob")
    if value is None or math.isnan(value):
        raise EngineGarbage(NO_NUMBERS)
    top = part.get("top_logprobs") or []
    return TokenLogprob(
        text=str(part["token"]), logprob=float(value),
        top=[Alternative(text=str(one["token"]), logprob=float(one["logprob"]))
             for one in top[:others]],
    )  # fmt: skip
