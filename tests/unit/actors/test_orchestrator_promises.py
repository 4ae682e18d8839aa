"""What an answer lacked of what the device profile promises."""

from __future__ import annotations

import pytest

from actors.orchestrator.promises import NO_MODEL, answer_without_model, without_gpu
from protocol.lifecycle import ActorState, Health, Profile
from protocol.messages.memory import Hit
from protocol.messages.orchestrator import Answered, EngineUse, Seam
from protocol.messages.supervisor import DirectoryEntry


def answered(*devices: str, seams: tuple[Seam, ...] = ()) -> Answered:
    engines = [
        EngineUse(
            engine=f"{device}_engine.1", device=device, backend="llama_cpp", model_name="m",
            prompt_tokens=1, completion_tokens=1, prefill_ms=1, decode_ms=1, tokens_per_s=1,
        )
        for device in devices
    ]  # fmt: skip
    return Answered(
        id="1", query="q", finish_reason="stop", profile="full", engines=engines,
        seams=list(seams), tokens=1, queued_ms=0, first_token_ms=1, total_ms=1,
    )  # fmt: skip


def gpu(state: ActorState, reason: str = "") -> DirectoryEntry:
    return DirectoryEntry(name="gpu_engine", state=state, reason=reason)


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        ("full", answered("gpu")),
        ("full", answered()),
        ("lite", answered("cpu")),
        ("micro", answered()),
    ],
)
def test_nothing_is_lacking_where_the_promise_was_kept(profile: Profile, told: Answered) -> None:
    assert without_gpu(profile, told, [gpu(ActorState.READY)]) is None


def test_an_answer_of_the_cpu_says_why_it_was_not_the_gpu() -> None:
    lack = without_gpu("full", answered("cpu"), [gpu(ActorState.FAILED, "out of memory")])
    assert lack == "without the GPU: gpu_engine is failed (out of memory)"
    sick = gpu(ActorState.READY).model_copy(update={"health": Health.UNHEALTHY})
    assert without_gpu("full", answered("cpu"), [sick]) == (
        "without the GPU: gpu_engine is unhealthy"
    )
    assert without_gpu("full", answered("cpu"), []) == "without the GPU: no GPU engine is set"


def test_an_answer_that_the_cpu_finished_says_which_gpu_engine_was_lost() -> None:
    seams = (
        Seam(position=3, lost="orchestrator.1", reason="killed"),
        Seam(position=9, lost="gpu_engine.7", reason="killed"),
    )
    lack = without_gpu("full", answered("cpu", seams=seams), [gpu(ActorState.READY)])
    assert lack == "without the GPU: gpu_engine.7 was lost in the middle of the answer"


def test_without_a_model_memory_speaks_and_says_that_no_model_does() -> None:
    hits = [Hit(id=str(n), text=f"fact {n}", score=0.5, age_s=1, source="me") for n in (1, 2)]
    assert answer_without_model(hits) == f"{NO_MODEL}. Memory has on this:\n- fact 1\n- fact 2"
    assert "neither a tool nor memory" in answer_without_model([])


def test_an_answer_of_the_cpu_that_was_cut_short_lacks_the_gpu_too() -> None:
    told = answered().model_copy(update={"engine": "cpu_engine.1", "devices": ["cpu"]})
    assert without_gpu("full", told, []) == "without the GPU: no GPU engine is set"
    assert without_gpu("full", told.model_copy(update={"devices": ["gpu"]}), []) is None
