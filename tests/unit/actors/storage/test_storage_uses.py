"""Who uses which file: what a process's end, or its being READY, says of the file."""

import pytest

from actors.storage.uses import MOST_DEAD, Uses
from protocol.lifecycle import ActorState
from protocol.messages.supervisor import DirectoryEntry

MODEL, OTHER = "a" * 64, "b" * 64


def entry(
    epoch: str = "e1", state: ActorState = ActorState.READY, *files: str, name: str = "cpu_engine"
) -> DirectoryEntry:
    ids = {f"model {number}": file for number, file in enumerate(files)}
    return DirectoryEntry(name=name, epoch=epoch, state=state, info={"model_ids": ids})


@pytest.fixture
def uses() -> Uses:
    """One process was given the model, and is loading it."""
    uses = Uses()
    uses.given("cpu_engine", "e1", MODEL)
    assert uses.seen([entry("e1", ActorState.STARTING)]) == set()
    return uses


def test_a_file_is_proved_when_its_user_is_ready(uses: Uses) -> None:
    assert uses.seen([entry("e1", ActorState.READY, MODEL)]) == {MODEL}
    assert uses.seen([entry("e1", ActorState.READY, MODEL)]) == set()


def test_a_user_that_does_not_say_what_it_loaded_has_what_it_was_given(uses: Uses) -> None:
    uses.given("memory", "e2", OTHER)
    bare = DirectoryEntry(name="memory", epoch="e2", state=ActorState.READY)
    assert uses.seen([bare]) == {OTHER}


def test_a_file_that_is_loaded_later_is_proved_then(uses: Uses) -> None:
    uses.seen([entry("e1", ActorState.READY, MODEL)])
    uses.given("cpu_engine", "e1", OTHER)
    assert uses.seen([entry("e1", ActorState.READY, MODEL)]) == set()
    assert uses.seen([entry("e1", ActorState.READY, MODEL, OTHER)]) == {OTHER}
    assert uses.users_of(OTHER) == ["cpu_engine"]


def test_a_user_that_dies_while_it_loads_puts_the_file_in_doubt(uses: Uses) -> None:
    assert uses.died("e1") == {MODEL}


def test_an_idle_user_that_dies_does_not(uses: Uses) -> None:
    uses.seen([entry("e1", ActorState.READY, MODEL)])
    assert uses.died("e1") == set()


def test_a_user_that_dies_at_work_does_whoever_says_so_first(uses: Uses) -> None:
    uses.seen([entry("e1", ActorState.READY, MODEL)])
    assert uses.died("e1", at_work=True) == {MODEL}
    assert uses.died("e1") == set()
    assert uses.died("e1", at_work=True) == {MODEL}


def test_files_of_the_users_own_are_nobodys_business(uses: Uses) -> None:
    assert uses.seen([entry("e2", ActorState.READY, "/home/me/x.gguf:12:34")]) == set()
    assert uses.died("e2", at_work=True) == set()


def test_the_users_of_a_file_are_those_alive(uses: Uses) -> None:
    uses.given("gpu_engine", "e2", MODEL)
    assert uses.users_of(MODEL) == ["cpu_engine", "gpu_engine"]
    uses.died("e1")
    assert uses.users_of(MODEL) == ["gpu_engine"]
    assert uses.users_of(OTHER) == []


def test_the_dead_are_not_remembered_for_ever() -> None:
    uses = Uses()
    for number in range(2 * MOST_DEAD):
        uses.given("cpu_engine", f"e{number}", MODEL)
        uses.died(f"e{number}")
    assert uses.died("e0", at_work=True) == set()
    assert uses.died(f"e{2 * MOST_DEAD - 1}", at_work=True) == {MODEL}


def missing(epoch: str, *assets: str, name: str = "cpu_engine") -> DirectoryEntry:
    return DirectoryEntry(
        name=name, epoch=epoch, state=ActorState.READY, info={"missed_assets": list(assets)}
    )


def test_who_says_that_it_goes_without_a_file_misses_it_until_it_says_otherwise() -> None:
    uses = Uses()
    uses.seen([missing("e1", "draft", "big"), missing("e2", "draft", name="gpu_engine")])
    assert uses.missed == {"draft", "big"}
    assert uses.to_restart_for("draft") == ["cpu_engine", "gpu_engine"]
    assert uses.to_restart_for("other") == []
    uses.seen([missing("e1", "big"), missing("e2", name="gpu_engine")])
    assert uses.missed == {"big"}
    assert uses.to_restart_for("draft") == []


def test_a_process_is_started_again_once_and_the_next_one_if_it_misses_it_too() -> None:
    uses = Uses()
    uses.seen([missing("e1", "draft")])
    assert uses.to_restart_for("draft") == ["cpu_engine"]
    assert uses.to_restart_for("draft") == []
    uses.died("e1")
    uses.seen([missing("e2", "draft")])
    assert uses.to_restart_for("draft") == ["cpu_engine"]


def test_a_process_that_could_not_be_started_again_is_named_the_next_time() -> None:
    uses = Uses()
    uses.seen([missing("e1", "draft")])
    assert uses.to_restart_for("draft") == ["cpu_engine"]
    uses.not_restarted_for("draft")
    assert uses.to_restart_for("draft") == ["cpu_engine"]


def test_the_dead_miss_nothing() -> None:
    uses = Uses()
    uses.seen([missing("e1", "draft")])
    uses.died("e1")
    assert uses.missed == set()
    assert uses.to_restart_for("draft") == []
