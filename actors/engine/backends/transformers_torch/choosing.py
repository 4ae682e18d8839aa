"""Which of the likely tokens comes, in the order of steps that llama.cpp has. Pure.

So an answer that goes on in the other engine goes on under the same rules.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protocol.messages.engine import Sampling

RECENT = 64
"""Tokens, those of the prompt included, that penalties look back on: llama.cpp's number."""

Numbers = np.ndarray[Any, np.dtype[Any]]


def choose(logits: Numbers, sampling: Sampling, draw: float) -> int:
    """The place of the token that comes, among ``logits`` of the likeliest ones, largest first.
    ``draw``: evenly distributed in [0, 1)."""
    if sampling.temperature == 0 or len(logits) == 1:
        return 0
    kept = logits.astype(np.float64)
    if sampling.top_k:
        kept = kept[: sampling.top_k]
    shares = _softmax(kept)
    if sampling.top_p < 1:
        # The first ones that reach it together, and always one.
        kept = kept[: int(np.searchsorted(np.cumsum(shares), sampling.top_p)) + 1]
    if sampling.min_p > 0:
        kept = kept[: max(1, int(np.sum(shares[: len(kept)] >= sampling.min_p * shares[0])))]
    shares = np.cumsum(_softmax(kept / sampling.temperature))
    # Of the last bit of a sum that is not quite 1.
    return min(int(np.searchsorted(shares, draw * shares[-1], side="right")), len(kept) - 1)


def wanted(sampling: Sampling) -> int | None:
    """How many of the likeliest tokens `choose` has to see; None is all of them."""
    if sampling.temperature == 0:
        return 1
    return sampling.top_k or None


def _softmax(logits: Numbers) -> Numbers:
    powers = np.exp(logits - logits[0])
    shares: Numbers = powers / powers.sum()
    return shares


class Draws:
    """The random numbers of one answer: one for each of its tokens, so that an answer that is
    continued under its seed gets those that the uninterrupted one would have got."""

    def __init__(self, seed: int | None, begun: int) -> None:
        self._random = random.Random(seed)
        if seed is not None:
            for _ in range(begun):
                self._random.random()
        self.current = self._random.random()
        """For the next token."""

    def advance(self) -> None:
        """That token came."""
        self.current = self._random.random()


@dataclass(frozen=True, slots=True)
class Penalty:
    """What is taken off the logits of recent tokens."""

    counts: dict[int, int]
    repeat: float
    presence: float
    frequency: float

    def of(self, token: int, logit: float) -> float:
        """The logit with the penalty taken off."""
        smaller = logit / self.repeat if logit > 0 else logit * self.repeat
        return smaller - self.presence - self.frequency * self.counts[token]


class Recent:
    """The last tokens of a prompt and its answer."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens: deque[int] = deque(tokens[-RECENT:], maxlen=RECENT)

    def add(self, tokens: Iterable[int]) -> None:
        """These came."""
        self._tokens.extend(tokens)

    def penalty(self, sampling: Sampling) -> Penalty | None:
        """For the next token; None where nothing is to be taken off."""
        if (
            sampling.repeat_penalty == 1
            and not sampling.presence_penalty
            and not sampling.frequency_penalty
        ):
            return None
        return Penalty(
            dict(Counter(self._tokens)), sampling.repeat_penalty,
            sampling.presence_penalty, sampling.frequency_penalty,
        )  # fmt: skip
