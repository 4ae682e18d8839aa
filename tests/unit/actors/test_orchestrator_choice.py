"""Which engine answers, and which one goes on."""

from __future__ import annotations

from actors.orchestrator.choice import Losses, choose
from protocol.lifecycle import ActorState, Health
from protocol.messages.supervisor import DirectoryEntry


def engine(name: str, epoch: str, health: Health = Health.HEALTHY) -> DirectoryEntry:
    return DirectoryEntry(name=name, epoch=epoch, state=ActorState.READY, health=health)


def lost(*entries: DirectoryEntry) -> Losses:
    losses = Losses()
    for entry in entries:
        losses.add(entry)
    return losses


GPU, CPU = engine("gpu_engine", "1"), engine("cpu_engine", "2")
GPU_AGAIN, CPU_AGAIN = engine("gpu_engine", "3"), engine("cpu_engine", "4")


def test_the_first_of_the_list_answers() -> None:
    assert choose([GPU, CPU], lost()) is GPU


def test_whoever_was_lost_by_this_answer_does_not_go_on_with_it() -> None:
    assert choose([GPU, CPU], lost(GPU)) is CPU


def test_the_other_engine_goes_before_the_next_incarnation_of_whoever_was_lost() -> None:
    assert choose([GPU_AGAIN, CPU], lost(GPU)) is CPU


def test_the_next_incarnation_goes_on_where_there_is_no_other_engine() -> None:
    assert choose([GPU_AGAIN], lost(GPU)) is GPU_AGAIN


def test_when_both_were_lost_as_often_the_first_of_the_list_goes_on() -> None:
    assert choose([GPU_AGAIN, CPU_AGAIN], lost(GPU, CPU)) is GPU_AGAIN
    assert choose([GPU_AGAIN, CPU_AGAIN], lost(GPU, CPU, GPU)) is CPU_AGAIN


def test_an_incarnation_that_was_lost_and_still_looks_ready_goes_last() -> None:
    assert choose([GPU, CPU_AGAIN], lost(GPU, CPU, CPU)) is CPU_AGAIN
    assert choose([GPU, CPU], lost(GPU, CPU)) is GPU


def test_without_anybody_there_is_nobody() -> None:
    assert choose([], lost(GPU)) is None


def test_an_unhealthy_engine_is_asked_where_there_is_no_better_one() -> None:
    sick = engine("gpu_engine", "1", Health.UNHEALTHY)
    poor = engine("gpu_engine", "1", Health.DEGRADED)
    assert choose([sick, CPU], lost()) is CPU
    assert choose([sick], lost()) is sick
    assert choose([poor, CPU], lost()) is poor
    assert choose([sick, CPU_AGAIN], lost(CPU)) is sick
