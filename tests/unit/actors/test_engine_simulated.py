"""The simulated engine: exact continuations, at the speed of its device."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.engine.backends import Piece, Prefill, Task
from actors.engine.backends.simulated import Simulated, detokenize, tokenize
from configs.engine_settings import EngineSettings
from protocol.messages.engine import ChatMessage, Continuation, Sampling


def engine() -> Simulated:
    backend = Simulated()
    settings = {"backend": "simulated", "simulated_token_s": 0.0}
    backend.load(Path(), "simulated", EngineSettings.model_validate(settings))
    return backend


def task(max_tokens: int = 12, begun: Continuation | None = None) -> Task:
    return Task(
        [ChatMessage(role="user", content="Go on.")], Sampling(max_tokens=max_tokens), begun
    )


def text_of(backend: Simulated, asked: Task) -> str:
    pieces: list[str] = []

    def emit(item: Piece | Prefill) -> None:
        if isinstance(item, Piece):
            pieces.append(item.text)

    assert backend.generate(asked, emit) is not None
    return "".join(pieces)


@given(st.text())
def test_any_text_survives_its_tokens(text: str) -> None:
    assert detokenize(tokenize(text)) == text


def test_a_continued_answer_is_exactly_the_uninterrupted_one() -> None:
    whole = text_of(engine(), task(40))
    ids = tokenize(whole)
    assert len(ids) == 40
    for cut in range(1, 40):
        begun = Continuation(text=detokenize(ids[:cut]))
        assert begun.text + text_of(engine(), task(40, begun)) == whole


@pytest.mark.parametrize(("device", "seconds"), [("cpu", 0.05), ("gpu", 0.01)])
def test_it_is_as_fast_as_its_device(device: str, seconds: float) -> None:
    backend = Simulated()
    options = EngineSettings.model_validate({"backend": "simulated", "device": device})
    backend.load(Path(), "simulated", options)
    assert backend.device == device
    assert backend._token_s == seconds
