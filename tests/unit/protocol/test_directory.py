"""Who is where, as the supervisor tells it and as a process sees for itself."""

from __future__ import annotations

import pytest

from protocol.directory import SUSPICION_S, Death, Directory
from protocol.errors import ActorUnavailable, NotFound
from protocol.lifecycle import ActorState
from protocol.messages.supervisor import DirectoryEntry


def entry(
    name: str, epoch: str = "1", state: ActorState = ActorState.READY, reason: str = ""
) -> DirectoryEntry:
    endpoint = f"ipc://{name}.{epoch}" if epoch else ""
    return DirectoryEntry(name=name, epoch=epoch, endpoint=endpoint, state=state, reason=reason)


def test_nothing_is_known_before_the_first_snapshot() -> None:
    directory = Directory()
    assert not directory.known
    assert directory.ready("engine", 0.0) is None


def test_a_snapshot_makes_it_known_and_kills_nobody() -> None:
    directory = Directory()
    assert directory.apply([entry("engine"), entry("memory")]) == []
    assert directory.known
    assert directory.ready("engine", 0.0) == entry("engine")


def test_an_empty_snapshot_is_a_snapshot() -> None:
    directory = Directory()
    directory.apply([])
    assert directory.known
    with pytest.raises(NotFound, match="there are: none"):
        directory.ready("engine", 0.0)


def test_a_new_epoch_is_the_death_of_the_old_one() -> None:
    directory = Directory()
    directory.apply([entry("engine", "1"), entry("memory", "1")])
    deaths = directory.apply([entry("engine", "2", ActorState.STARTING, "killed by signal 9")])
    assert deaths == [Death("engine", "1", "killed by signal 9")]
    assert directory.entries["memory"] == entry("memory", "1")


def test_an_epoch_that_is_gone_without_another_is_a_death_too() -> None:
    directory = Directory()
    directory.apply([entry("engine", "1")])
    deaths = directory.apply([entry("engine", "", ActorState.WAITING)])
    assert [(death.name, death.epoch) for death in deaths] == [("engine", "1")]
    assert directory.apply([entry("engine", "2")]) == []


def test_a_change_of_state_alone_is_no_death() -> None:
    directory = Directory()
    directory.apply([entry("engine", "1", ActorState.STARTING)])
    assert directory.apply([entry("engine", "1", ActorState.READY)]) == []


@pytest.mark.parametrize("state", [ActorState.WAITING, ActorState.STARTING, ActorState.DRAINING])
def test_an_actor_that_will_be_ready_is_worth_waiting_for(state: ActorState) -> None:
    directory = Directory()
    directory.apply([entry("engine", "1", state)])
    assert directory.ready("engine", 0.0) is None


@pytest.mark.parametrize("state", [ActorState.FAILED, ActorState.STOPPED])
def test_an_actor_that_will_not_come_back_is_unavailable_and_says_why(state: ActorState) -> None:
    directory = Directory()
    directory.apply([entry("engine", "", state, "crashed 5 times")])
    with pytest.raises(ActorUnavailable, match=f"engine is {state}: crashed 5 times") as caught:
        directory.ready("engine", 0.0)
    assert caught.value.details == {"name": "engine"}


def test_every_state_is_ready_or_waited_for_or_unavailable() -> None:
    for state in ActorState:
        directory = Directory()
        directory.apply([entry("engine", "1", state)])
        try:
            found = directory.ready("engine", 0.0)
        except ActorUnavailable:
            found = None
        assert (found is not None) is (state is ActorState.READY)


def test_a_name_that_is_not_configured_is_not_found_and_the_others_are_named() -> None:
    directory = Directory()
    directory.apply([entry("memory"), entry("engine")])
    with pytest.raises(NotFound, match="no actor 'engin'; there are: engine, memory") as caught:
        directory.ready("engin", 0.0)
    assert caught.value.details == {"name": "engin"}


def test_a_suspect_is_not_called_for_a_while() -> None:
    directory = Directory()
    directory.apply([entry("engine", "1")])
    directory.suspect("1", 10.0)
    assert directory.ready("engine", 10.0) is None
    assert directory.ready("engine", 10.0 + SUSPICION_S - 0.001) is None
    assert directory.ready("engine", 10.0 + SUSPICION_S) == entry("engine", "1")


def test_suspicion_does_not_pass_to_the_next_incarnation() -> None:
    directory = Directory()
    directory.apply([entry("engine", "1"), entry("memory", "5")])
    directory.suspect("1", 10.0)
    directory.apply([entry("engine", "2")])
    assert directory.ready("engine", 10.0) == entry("engine", "2")
    assert directory.ready("memory", 10.0) == entry("memory", "5")


def test_without_its_supervisor_every_incarnation_is_dead() -> None:
    directory = Directory()
    directory.apply([entry("engine", "1"), entry("memory", "", ActorState.FAILED)])
    directory.suspect("1", 10.0)
    deaths = directory.clear()
    assert deaths == [Death("engine", "1", "the supervisor is gone")]
    assert not directory.known
    assert directory.ready("engine", 10.0) is None
    assert directory.clear() == []


def test_after_a_clear_the_next_snapshot_begins_anew() -> None:
    directory = Directory()
    directory.apply([entry("engine", "1")])
    directory.suspect("1", 10.0)
    directory.clear()
    assert directory.apply([entry("engine", "1")]) == []
    assert directory.ready("engine", 10.0) == entry("engine", "1")
