"""The simulated engine: exact continuations, and failures at the token they were ordered for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.engine.backends import Outcome, Piece, Prefill, Task
from actors.engine.backends.simulated import GARBAGE, Simulated, detokenize, tokenize
from configs.actor_settings import EngineSettings
from protocol.errors import EngineFailed
from protocol.messages.engine import ChatMessage, Continuation, Sampling
from tests.support.scripts import ROOT
from tests.support.unhurried import unhurried


def engine(failure: str = "none", after: int = 5, token_s: float = 0.0) -> Simulated:
    backend = Simulated()
    settings = {
        "backend": "simulated", "simulated_token_s": token_s, "simulated_failure": failure,
        "simulated_failure_after_tokens": after,
    }  # fmt: skip
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


@unhurried
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


def test_it_fails_at_the_token_it_was_told_to_and_not_for_whoever_is_behind_it() -> None:
    pieces: list[Piece] = []
    with pytest.raises(EngineFailed, match="as it was told"):
        engine("fail").generate(
            task(), lambda item: pieces.append(item) if isinstance(item, Piece) else None
        )
    assert len(pieces) == 5
    begun = Continuation(text="".join(piece.text for piece in pieces) + text_from(6))
    assert text_of(engine("fail"), task(12, begun))


def text_from(token: int) -> str:
    """The token before that one, of the answer that nobody interrupts."""
    return detokenize(tokenize(text_of(engine(), task()))[token - 1 : token])


def test_it_stalls_for_ever_and_can_still_be_cancelled() -> None:
    asked = task()
    seen: list[Piece | Prefill] = []
    done: list[Outcome | None] = []
    backend = engine("stall")
    thread = threading.Thread(target=lambda: done.append(backend.generate(asked, seen.append)))
    thread.start()
    asked.cancelled.set()
    thread.join(30)
    assert done == [None]
    assert sum(isinstance(item, Piece) for item in seen) <= 5


def test_it_garbles_from_that_token_on() -> None:
    whole = text_of(engine(), task())
    assert text_of(engine("garble"), task()) == detokenize(tokenize(whole)[:5]) + GARBAGE * 7


def test_it_kills_its_process() -> None:
    code = (
        "from tests.unit.actors.test_engine_simulated import *\n"
        "engine('die').generate(task(), lambda item: None)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("device", "seconds"), [("cpu", 0.05), ("gpu", 0.01)])
def test_it_is_as_fast_as_its_device(device: str, seconds: float) -> None:
    backend = Simulated()
    options = EngineSettings.model_validate({"backend": "simulated", "device": device})
    backend.load(Path(), "simulated", options)
    assert backend.device == device
    assert backend._token_s == seconds
