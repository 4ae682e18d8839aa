"""Which engine answers, and which one goes on."""

from __future__ import annotations

from typing import Any

from actors.orchestrator.choice import Candidate, Losses, choose, those_at_hand
from protocol.lifecycle import ActorState, Health
from protocol.messages.supervisor import DirectoryEntry


def engine(
    name: str, epoch: str, health: Health = Health.HEALTHY, slots: int = 4, **known: Any
) -> Candidate:
    info = {"slots": slots, "device": name.partition("_")[0]}
    entry = DirectoryEntry(
        name=name, epoch=epoch, state=ActorState.READY, health=health, info=info
    )  # fmt: skip
    return Candidate(entry, **known)


def lost(*engines: Candidate) -> Losses:
    losses = Losses()
    for one in engines:
        losses.add(one.entry)
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


def test_an_engine_whose_breaker_is_open_is_asked_where_there_is_no_other_one() -> None:
    refused = engine("gpu_engine", "1", permitted=False)
    assert choose([refused, CPU], lost()) is CPU
    assert choose([refused], lost()) is refused
    assert choose([refused, CPU_AGAIN], lost(CPU)) is refused


def test_of_engines_on_the_same_device_one_with_a_free_slot_is_asked() -> None:
    full, free = engine("cpu_engine", "1", running=4), engine("cpu_two", "2", running=3)
    assert choose([full, free], lost()) is free
    assert choose([full, engine("cpu_two", "2", running=4)], lost()) is full


def test_a_free_slot_on_a_slower_device_is_no_reason_to_take_that() -> None:
    full = engine("gpu_engine", "1", running=4)
    assert choose([full, CPU], lost()) is full


def test_an_engine_with_the_model_goes_before_a_better_one_without_it() -> None:
    without = engine("gpu_engine", "1", has_model=False)
    assert choose([without, CPU], lost()) is CPU
    assert choose([without], lost()) is without


def test_answers_are_spread_over_the_engines_on_the_device_of_the_first_that_is_well() -> None:
    two = [engine("cpu_engine", "1"), engine("cpu_two", "2")]
    refused = engine("gpu_engine", "1", permitted=False)
    assert those_at_hand([GPU, *two]) == [GPU]
    assert those_at_hand([refused, *two]) == two
    assert those_at_hand([refused]) == [refused]
    assert those_at_hand([]) == []
