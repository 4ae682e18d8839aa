"""An engine that is no model: words at a steady pace.

For tests, and for showing what happens when a GPU fails. It keeps the contract of every backend:
the same prompt gives the same text, and a continued answer is exactly what the uninterrupted one
would have been. Whatever it makes is marked as simulated.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from actors.engine.backends import (
    Emit,
    Loaded,
    Outcome,
    Piece,
    Prefill,
    Task,
    Vectors,
    text_too_long,
    too_long,
)
from actors.engine.backends.example import example
from actors.engine.backends.stops import StopStrings
from actors.kernel.vectors import packed
from configs.engine_settings import EngineSettings
from protocol.errors import InvalidRequest
from protocol.messages.engine import Alternative, Format, TokenLogprob

_COMMONEST = """
the a one of and to in is that it for was on are as with they at be this have from or had by but
some what there we can out other were all your when up use how said an each she which do their
time if will way about many then them would write like so these her long make thing see him two
has look more day could go come did my sound no most number who over know water than call first
people may down side been now find any new work part take get place made live where after back
little only round man year came show every good me give our under name very through just form
much great think say help low line before turn cause same mean differ move right boy old too
does tell sentence set three want air well also play small end put home read hand
"""
WORDS = tuple(_COMMONEST.split())
"""The commonest words of English."""
ENDS_AFTER_TOKENS = 1000
"""An answer without another limit is about this long."""
PREFILL_SPEEDUP = 10
"""Reading a prompt is so many times faster than writing: a model's usual order of magnitude."""
DIMENSION = 64
"""Of its vectors."""
LIKELY = 0.5
"""How likely each of its tokens is; the other half belongs to the next word of the list."""

_VOCABULARY = [f" {word}" for word in WORDS]
_IDS = {word: number for number, word in enumerate(_VOCABULARY)}
# What is no word of the vocabulary is spelt out; its ids lie above those of all words.
_SPELT = 1 << 16
_TOKEN = re.compile(r" [a-z]+(?![^\W_])|.", re.DOTALL)


def tokenize(text: str) -> list[int]:
    """Token ids; `detokenize` gives the text back, whatever it is."""
    ids: list[int] = []
    for part in _TOKEN.findall(text):
        known = _IDS.get(part)
        ids += [known] if known is not None else [_SPELT + ord(letter) for letter in part]
    return ids


def detokenize(ids: list[int]) -> str:
    """The text of token ids."""
    return "".join(_VOCABULARY[one] if one < _SPELT else chr(one - _SPELT) for one in ids)


class Simulated:
    """See the module."""

    name = "simulated"
    needs_model = False

    def __init__(self) -> None:
        self.device: Literal["cpu", "gpu"] = "cpu"
        self._options = EngineSettings()
        self._token_s = 0.0
        self._context_tokens = 0
        self._model = ""

    def check(self, options: EngineSettings) -> None:
        """See `Backend.check`: it needs nothing."""

    def load(
        self,
        path: Path,
        model: str,
        options: EngineSettings,
        kept: Path | None = None,
        *,
        embeds: bool = False,
    ) -> Loaded:
        """See `Backend.load`; there is nothing to load."""
        self.device = options.device
        self._options = options
        default_s = 0.01 if options.device == "gpu" else 0.05
        given_s = options.simulated_token_s
        self._token_s = default_s if given_s is None else given_s
        self._context_tokens = options.context_tokens // options.slots
        self._model = model
        return Loaded("simulated", self._context_tokens)

    def unload(self) -> None:
        """See `Backend.unload`; there is nothing to unload."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """See `Backend.count`."""
        return [len(tokenize(text)) for text in texts]

    def embed(self, texts: Sequence[str], cancelled: threading.Event) -> Vectors | None:
        """See `Backend.embed`: by the words of each text, so that texts that share some are near
        each other."""
        if cancelled.is_set():
            return None
        ids = [tokenize(text) for text in texts]
        for number, one in enumerate(ids):
            if len(one) > self._context_tokens:
                raise text_too_long(number, len(one), self._context_tokens)
        rows = [
            [float(sum(token % DIMENSION == place for token in one)) for place in range(DIMENSION)]
            for one in ids
        ]
        return Vectors(packed(rows), DIMENSION, sum(len(one) for one in ids))

    # --- generating -----------------------------------------------------------------------

    def generate(self, task: Task, emit: Emit) -> Outcome | None:
        """See `Backend.generate`."""
        begun = self._begun(task)
        question = tokenize("".join(f"{turn.role}: {turn.content}\n" for turn in task.messages))
        prompt = len(question) + len(begun)
        room = self._context_tokens - prompt
        left = min(task.sampling.max_tokens - len(begun), room)
        if left <= 0:
            if room <= 0 and not begun:
                raise too_long(prompt, self._context_tokens)
            return Outcome("length", prompt, 0, 0.0, 0.0)
        began = time.monotonic()
        if not self._read(task, prompt, emit):
            return None
        read = time.monotonic()
        outcome = self._write(task, question, begun, left, emit)
        if outcome is None:
            return None
        reason, made = outcome
        return Outcome(
            reason, prompt, made, (read - began) * 1000, (time.monotonic() - read) * 1000
        )

    def _begun(self, task: Task) -> list[int]:
        begun = task.begun
        if begun is None or not begun.text:
            return []
        if begun.tokens and begun.model == self._model:
            return begun.tokens
        return tokenize(begun.text)

    def _read(self, task: Task, tokens: int, emit: Emit) -> bool:
        """Read the prompt, batch by batch; whether it was not cancelled."""
        done = 0
        while done < tokens:
            batch = min(self._options.batch_tokens, tokens - done)
            if task.cancelled.wait(batch * self._token_s / PREFILL_SPEEDUP):
                return False
            done += batch
            emit(Prefill(done, tokens))
        return True

    def _write(
        self, task: Task, question: list[int], begun: list[int], left: int, emit: Emit
    ) -> tuple[Literal["stop", "length"], int] | None:
        """Returns how it ended and how many tokens were made; None when cancelled."""
        if task.format is not None:
            return self._write_json(task, task.format, emit)
        seed = zlib.crc32(repr(question).encode())
        stops = StopStrings(task.sampling.stop)
        for made in range(left):
            position = len(begun) + made
            if position >= ENDS_AFTER_TOKENS:
                return "stop", made
            if not self._pause(task):
                return None
            text, ids = self._token(seed, position)
            piece = stops.add(text, ids)
            if piece is not None:
                emit(_with_logprobs(piece, task.logprobs))
            if stops.found:
                return "stop", made + 1
        rest = stops.rest()
        if rest is not None:
            emit(rest)
        return "length", left

    def _write_json(
        self, task: Task, format_: Format, emit: Emit
    ) -> tuple[Literal["stop", "length"], int] | None:
        """A value that fits the schema, letter by letter."""
        if format_.json_schema is None:
            raise InvalidRequest("the simulated engine knows no grammars, JSON schemas alone")
        whole = json.dumps(example(format_.json_schema))
        begun = task.begun.text if task.begun is not None else ""
        rest = whole.removeprefix(begun) if whole.startswith(begun) else ""
        for made, letter in enumerate(rest):
            if made >= task.sampling.max_tokens - len(begun):
                return "length", made
            if not self._pause(task):
                return None
            emit(_with_logprobs(Piece(letter, tokenize(letter), 1), task.logprobs))
        return "stop", len(rest)

    def _token(self, seed: int, position: int) -> tuple[str, list[int]]:
        one = zlib.crc32(f"{seed} {position}".encode()) % len(_VOCABULARY)
        return _VOCABULARY[one], [one]

    def _pause(self, task: Task) -> bool:
        """Take the time of one token; whether it was not cancelled."""
        return not task.cancelled.wait(self._token_s)


def _with_logprobs(piece: Piece, others: int | None) -> Piece:
    if others is None:
        return piece
    told = []
    for one in piece.tokens:
        other = _VOCABULARY[(one + 1) % len(_VOCABULARY)]
        words = [detokenize([one]), other][:others]
        top = [Alternative(text=word, logprob=math.log(LIKELY)) for word in words]
        told.append(
            TokenLogprob(text=detokenize([one]), logprob=math.log(LIKELY), top=top)
        )  # fmt: skip
    return replace(piece, logprobs=tuple(told))
