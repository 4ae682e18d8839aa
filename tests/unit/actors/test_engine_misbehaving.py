"""Failures that an engine was ordered, at the token they were ordered for, with any backend."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from actors.engine.backends import Outcome, Piece, Prefill, Task
from actors.engine.backends.simulated import Simulated, detokenize, tokenize
from actors.engine.misbehaving import GARBAGE, Misbehaving
from configs.engine_settings import EngineSettings
from protocol.errors import EngineFailed, EngineGarbage, EngineOutOfMemory, NoyauError
from protocol.messages.engine import ChatMessage, Continuation, Misbehaviour, Sampling
from tests.support.scripts import ROOT

AFTER = 5


class Bad:
    """A fast engine with an order to fail."""

    def __init__(self, how: Misbehaviour = "none", answers: int = 0) -> None:
        self._backend = Simulated()
        settings = {"backend": "simulated", "simulated_token_s": 0.0}
        self._backend.load(Path(), "simulated", EngineSettings.model_validate(settings))
        self.misbehaving = Misbehaving()
        self.misbehaving.order(how, AFTER, answers)
        self.seen: list[Piece | Prefill] = []

    def generate(self, task: Task) -> Outcome | None:
        begun = task.begun.count if task.begun else 0
        emit = self.misbehaving.between(task, begun, self.seen.append)
        return self._backend.generate(task, emit)

    @property
    def pieces(self) -> list[str]:
        return [item.text for item in self.seen if isinstance(item, Piece)]


def asked(begun: Continuation | None = None) -> Task:
    return Task([ChatMessage(role="user", content="Go on.")], Sampling(max_tokens=12), begun)


def whole() -> list[str]:
    good = Bad()
    good.generate(asked())
    return good.pieces


@pytest.mark.parametrize(
    ("how", "error"),
    [("fail", EngineFailed), ("out_of_memory", EngineOutOfMemory), ("nan", EngineGarbage)],
)
def test_it_fails_at_the_token_it_was_told_to(how: Misbehaviour, error: type[NoyauError]) -> None:
    bad = Bad(how)
    with pytest.raises(error, match="as it was told"):
        bad.generate(asked())
    assert bad.pieces == whole()[:AFTER]


def test_whoever_goes_on_behind_that_token_has_survived_it() -> None:
    before = whole()[: AFTER + 1]
    bad = Bad("fail")
    bad.generate(asked(Continuation(text="".join(before), count=len(before))))
    assert before + bad.pieces == whole()


def test_it_stalls_for_ever_and_can_still_be_cancelled() -> None:
    bad, task = Bad("stall"), asked()
    done: list[Outcome | None] = []
    thread = threading.Thread(target=lambda: done.append(bad.generate(task)))
    thread.start()
    task.cancelled.set()
    thread.join(30)
    assert done == [None]
    assert len(bad.pieces) <= AFTER + 1


def test_it_garbles_from_that_token_on() -> None:
    bad = Bad("garble")
    bad.generate(asked())
    assert bad.pieces == whole()[:AFTER] + [GARBAGE] * 7


def test_only_so_many_answers_go_wrong_as_were_ordered() -> None:
    bad = Bad("garble", answers=1)
    bad.generate(asked())
    bad.seen.clear()
    bad.generate(asked())
    assert bad.pieces == whole()


def test_an_order_of_none_ends_it() -> None:
    bad = Bad("fail")
    bad.misbehaving.order("none", 0, 0)
    bad.generate(asked())
    assert bad.pieces == whole()


def test_it_kills_its_process() -> None:
    code = "from tests.unit.actors.test_engine_misbehaving import *\nBad('die').generate(asked())"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_the_tokens_of_a_garbled_answer_are_counted_all_the_same() -> None:
    ids = tokenize("".join(whole()))
    bad = Bad("garble")
    bad.generate(asked())
    assert sum(item.count for item in bad.seen if isinstance(item, Piece)) == len(ids)
    assert detokenize(ids) == "".join(whole())
