"""Tokens that are guessed ahead and checked together: faster or not, the answer is the same."""

from __future__ import annotations

import pytest

from actors.engine.backends import Outcome, Piece, Prefill, Task
from actors.engine.backends.llama_cpp import LlamaCpp
from configs.engine_settings import EngineSettings
from protocol.messages.engine import ChatMessage, Sampling
from tests.support.model import model_path

_KEPT: list[LlamaCpp] = []
"""Until the process ends: destroying one may hang."""
QUESTION = "Repeat: one two three one two three one two three"


def answer(speculation: str) -> tuple[str, Outcome]:
    options = EngineSettings.model_validate(
        {
            "speculation": speculation, "draft_model": str(model_path()), "draft_tokens": 4,
            "context_tokens": 512, "slots": 1, "threads": 1,
        }
    )  # fmt: skip
    backend = LlamaCpp()
    _KEPT.append(backend)
    backend.load(model_path(), "m", options)
    said: list[Piece | Prefill] = []
    task = Task(
        [ChatMessage(role="user", content=QUESTION)], Sampling(max_tokens=24, temperature=0)
    )
    outcome = backend.generate(task, said.append)
    assert outcome is not None
    pieces = [one for one in said if isinstance(one, Piece)]
    assert sum(piece.count for piece in pieces) <= outcome.completion_tokens
    return "".join(piece.text for piece in pieces), outcome


@pytest.mark.parametrize("speculation", ["ngram", "draft"])
def test_what_is_guessed_ahead_changes_no_answer(speculation: str) -> None:
    plain, alone = answer("none")
    guessed, outcome = answer(speculation)
    assert guessed == plain
    assert (alone.drafted_tokens, alone.accepted_tokens) == (0, 0)
    assert outcome.drafted_tokens >= outcome.accepted_tokens
    if speculation == "draft":
        # The model guesses for itself.
        assert outcome.accepted_tokens > 0
