"""Which engine answers, and which one goes on."""

from __future__ import annotations

from actors.orchestrator.choice import choose
from protocol.lifecycle import ActorState
from protocol.messages.supervisor import DirectoryEntry


def engine(name: str, epoch: str) -> DirectoryEntry:
    return DirectoryEntry(name=name, epoch=epoch, state=ActorState.READY)


GPU, CPU = engine("gpu_engine", "1"), engine("cpu_engine", "2")


def test_the_first_of_the_list_answers() -> None:
    assert choose([GPU, CPU], set()) is GPU


def test_whoever_was_lost_by_this_answer_does_not_go_on_with_it() -> None:
    assert choose([GPU, CPU], {"1"}) is CPU


def test_the_next_incarnation_of_whoever_was_lost_does() -> None:
    again = engine("gpu_engine", "3")
    assert choose([again, CPU], {"1"}) is again


def test_when_all_were_lost_the_first_gets_another_try() -> None:
    assert choose([GPU, CPU], {"1", "2"}) is GPU


def test_without_anybody_there_is_nobody() -> None:
    assert choose([], {"1"}) is None
