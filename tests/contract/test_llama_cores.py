"""Threads that wait for each other all the time each have a core of their own."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from actors.engine.backends import Task
from actors.engine.backends.llama_cpp import LlamaCpp
from configs.engine_settings import EngineSettings
from protocol.messages.engine import ChatMessage, Sampling
from tests.support.model import model_path

_KEPT: list[LlamaCpp] = []
"""Until the process ends: destroying one may hang."""


def kept_to_a_core() -> Counter[int]:
    """By core, how many of this process's threads keep to it alone."""
    found: Counter[int] = Counter()
    for task in Path("/proc/self/task").iterdir():
        cores = os.sched_getaffinity(int(task.name))
        if len(cores) == 1:
            found[cores.pop()] += 1
    return found


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is everybody's")
@pytest.mark.parametrize("fewer", [0, 1])
def test_only_a_model_that_uses_all_cores_keeps_a_thread_on_each(fewer: int) -> None:
    cores = os.sched_getaffinity(0)
    before = kept_to_a_core()
    backend = LlamaCpp()
    _KEPT.append(backend)
    options = EngineSettings.model_validate(
        {"context_tokens": 512, "slots": 1, "threads": len(cores) - fewer}
    )
    backend.load(model_path(), "m", options)
    question = [ChatMessage(role="user", content="Hi")]
    assert backend.generate(Task(question, Sampling(max_tokens=2)), lambda _: None) is not None
    # One that computes has begun another thread, which inherits its core.
    assert set(kept_to_a_core() - before) == (set() if fewer else cores)
    # Only those that compute: messages go wherever there is room.
    assert os.sched_getaffinity(0) == cores
