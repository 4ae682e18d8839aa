"""Which tokens a schema or a grammar allows next, by llguidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from actors.engine.backends.transformers_torch.choosing import Numbers
from actors.engine.formats import compile_format
from protocol.errors import EngineCannotGoOn, EngineFailed
from protocol.messages.engine import Format


class Guide:
    """The format of one answer and how far the answer has got in it."""

    def __init__(
        self, tokenizer: Any, vocabulary: int, wanted: Format, begun: Sequence[int]
    ) -> None:
        """``tokenizer``: llguidance's; ``begun``: what there is of the answer already.

        Raises `EngineCannotGoOn` where that does not fit the format.
        """
        self._matcher = LLMatcher(tokenizer, compile_format(wanted))
        self._bits = allocate_token_bitmask(1, vocabulary)
        self._vocabulary = vocabulary
        self._check()
        if begun and not self._matcher.consume_tokens(list(begun)):
            raise EngineCannotGoOn("what there is of the answer does not fit its format")

    def allowed(self) -> Numbers | None:
        """For each token of the vocabulary, whether it may come next; None after a failure, which
        `take` raises."""
        if self._matcher.is_error():
            return None
        fill_next_token_bitmask(self._matcher, self._bits)
        if self._matcher.is_error():
            return None
        bits = np.unpackbits(self._bits[0].view(np.uint8), bitorder="little")
        return bits[: self._vocabulary].astype(bool)

    def take(self, token: int) -> None:
        """This one came; not the one that says the end. Raises `EngineFailed`."""
        self._check()
        self._matcher.consume_token(token)
        self._check()

    @property
    def over(self) -> bool:
        """Whether nothing more may come."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise EngineFailed(f"llguidance failed: {self._matcher.get_error()}")
