"""How actors come up: in order, each watched until it is READY."""

from __future__ import annotations

import signal

import pytest

from protocol.errors import NotFound
from protocol.lifecycle import ActorState
from supervision.child import ChildState
from supervision.effects import Signal, Spawn
from tests.support.planning import CLEAN, PlanDriver, published, running, signals, spawns, told

CHAIN = {"storage": [], "engine": ["storage"], "front": ["engine", "storage"]}


def test_nothing_is_spawned_before_the_spawner_takes_orders() -> None:
    driver = PlanDriver({"a": []})
    assert driver.advance(100) == []
    assert spawns(driver.spawner_ready()) == ["a"]


def test_those_who_need_nobody_start_together() -> None:
    driver = PlanDriver({"a": [], "b": [], "c": ["a"]})
    assert spawns(driver.spawner_ready()) == ["a", "b"]


def test_an_actor_waits_until_all_it_needs_are_ready_and_says_for_whom() -> None:
    driver = PlanDriver(CHAIN)
    effects = driver.spawner_ready()
    assert spawns(effects) == ["storage"]
    assert published(effects) == ["engine", "front"]
    assert driver.reason("front") == "waits for engine, storage"
    assert spawns(driver.spawned("storage")) == []
    assert spawns(driver.beat("storage", ActorState.STARTING)) == []
    assert spawns(driver.beat("storage")) == ["engine"]
    assert driver.reason("front") == "waits for engine"
    driver.spawned("engine")
    assert spawns(driver.beat("engine")) == ["front"]
    assert driver.reason("front") == ""


def test_a_dependant_is_not_started_by_the_readiness_of_an_incarnation_that_died() -> None:
    driver = PlanDriver({"a": [], "b": ["a"]})
    driver.spawner_ready()
    driver.spawned("a")
    gone = driver.epoch("a")
    driver.crash("a")
    assert driver.beat("a", epoch=gone) == []
    assert driver.state("b") is ChildState.WAITING


def test_ready_is_published_told_and_shown_with_the_epoch_and_what_the_actor_says_of_itself() -> (
    None
):
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    driver.spawned("a")
    driver.clock.advance(0.25)
    effects = driver.beat("a", slots=4)
    assert published(effects) == ["a"]
    assert told(effects) == ["actor.ready"]
    entry = driver.plan.entry("a")
    assert (entry.state, entry.epoch) == (ActorState.READY, driver.epoch("a"))
    assert entry.info == {"slots": 4}


def test_the_directory_shows_an_epoch_only_while_there_is_a_process() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    assert driver.plan.entry("a").epoch == ""
    driver.spawned("a")
    assert driver.plan.entry("a").epoch == driver.epoch("a") != ""
    driver.beat("a")
    driver.died("a")
    assert driver.plan.entry("a").epoch == ""


def test_the_directory_shows_no_process_with_what_the_one_before_it_said_of_itself() -> None:
    driver = running("a")
    driver.beat("a", missed_assets=["draft"])
    driver.crash("a")
    driver.spawned("a")
    assert driver.plan.entry("a").epoch == driver.epoch("a")
    assert driver.plan.entry("a").info == {}


def test_the_pid_is_known_as_long_as_the_process_lives() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    pids = [driver.plan.children["a"].pid]
    driver.plan.spawned("a", driver.epoch("a"), 4711, driver.now)
    pids.append(driver.plan.children["a"].pid)
    driver.died("a")
    assert [*pids, driver.plan.children["a"].pid] == [None, 4711, None]


def test_a_heartbeat_is_published_only_when_it_says_something_new() -> None:
    driver = running("a")
    assert driver.beat("a") == []
    assert published(driver.beat("a", reason="the disk is nearly full")) == ["a"]
    assert driver.beat("a", reason="the disk is nearly full") == []


def test_a_heartbeat_of_a_stranger_is_ignored() -> None:
    driver = running("a")
    assert driver.beat("nobody", epoch="boot-1-1") == []
    assert driver.beat("a", epoch="boot-1-99", reason="not me") == []
    assert driver.reason("a") == ""


def test_every_incarnation_has_an_epoch_of_its_own() -> None:
    driver = running("a", "b")
    driver.crash("a")
    driver.spawned("a")
    driver.crash("b")
    epochs = [effect.epoch for effect in driver.all if isinstance(effect, Spawn)]
    assert len(set(epochs)) == len(epochs) == 4
    assert all(epoch.startswith("boot-1-") for epoch in epochs)


def test_epochs_say_who_was_made_by_the_same_spawner_and_died_with_it() -> None:
    driver = running("a", "b")
    driver.spawner_lost()
    driver.died("a")
    driver.died("b")
    driver.spawner_ready()
    made = [effect.epoch.rpartition("-")[0] for effect in driver.all if isinstance(effect, Spawn)]
    assert made == ["boot-1", "boot-1", "boot-2", "boot-2"]


def test_a_process_that_says_nothing_in_time_is_killed_once() -> None:
    driver = PlanDriver({"a": []}, supervisor={"start_timeout_s": 20})
    driver.spawner_ready()
    driver.spawned("a")
    assert driver.advance(19.9) == []
    effects = driver.advance(0.1)
    assert effects[1:] == [Signal("a", driver.epoch("a"), signal.SIGKILL)]
    assert told(effects) == ["actor.killed"]
    assert signals(driver.advance(1000)) == []
    assert spawns(driver.crash("a")) == ["a"]


def test_the_next_incarnation_of_one_that_was_killed_is_watched_as_well() -> None:
    driver = PlanDriver({"a": []}, supervisor={"start_timeout_s": 20})
    driver.spawner_ready()
    driver.spawned("a")
    driver.advance(20)
    driver.crash("a")
    driver.spawned("a")
    assert signals(driver.advance(20)) == [("a", signal.SIGKILL)]


def test_loading_has_no_time_limit_once_a_sign_of_life_came() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    driver.spawned("a")
    driver.beat("a", ActorState.STARTING)
    assert driver.advance(24 * 3600) == []
    assert driver.state("a") is ChildState.STARTING


def test_a_sign_of_life_that_overtakes_the_spawners_word_does_no_harm() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    driver.beat("a")
    assert driver.state("a") is ChildState.SPAWNING
    driver.spawned("a")
    driver.beat("a")
    assert driver.state("a") is ChildState.READY


def test_an_unknown_name_is_told_who_is_there() -> None:
    with pytest.raises(NotFound, match="no actor 'c'; there are: a, b"):
        PlanDriver({"a": [], "b": []}).plan.child("c")


def test_only_later_incarnations_count_as_restarted() -> None:
    driver = running("a")
    assert not driver.plan.restarted("a")
    driver.crash("a")
    assert driver.plan.restarted("a")
    assert not driver.plan.restarted("nobody")


def test_the_plan_says_when_it_is_next_to_be_asked() -> None:
    driver = PlanDriver({"a": [], "b": []}, supervisor={"spawn_timeout_s": 3})
    assert driver.plan.next_at() is None
    driver.spawner_ready()
    assert driver.plan.next_at() == driver.now + 3
    driver.up("a", "b")
    assert driver.plan.next_at() is None


def test_an_actor_whose_machine_lacks_what_it_needs_runs_and_is_unavailable() -> None:
    driver = PlanDriver({"gpu": [], "user_of_it": ["gpu"]})
    driver.spawner_ready()
    driver.spawned("gpu")
    effects = driver.beat("gpu", ActorState.UNAVAILABLE, reason="no GPU")
    assert published(effects) == ["gpu"]
    assert told(effects) == ["actor.unavailable"]
    assert spawns(effects) == []
    entry = driver.plan.entry("gpu")
    assert (entry.state, entry.reason) == (ActorState.UNAVAILABLE, "no GPU")
    assert entry.epoch == driver.epoch("gpu") != ""
    assert driver.state("user_of_it") is ChildState.WAITING


def unavailable() -> PlanDriver:
    driver = PlanDriver({"gpu": []})
    driver.spawner_ready()
    driver.spawned("gpu")
    driver.beat("gpu", ActorState.UNAVAILABLE, reason="no GPU")
    return driver


def test_an_unavailable_actor_that_dies_is_restarted_like_any_other() -> None:
    assert spawns(unavailable().crash("gpu")) == ["gpu"]


def test_an_unavailable_actor_can_be_told_to_look_again() -> None:
    driver = unavailable()
    assert signals(driver.restart("gpu")) == [("gpu", signal.SIGTERM)]
    assert spawns(driver.crash("gpu", CLEAN)) == ["gpu"]


def test_an_unavailable_actor_is_stopped_with_the_others() -> None:
    driver = unavailable()
    assert signals(driver.stop()) == [("gpu", signal.SIGTERM)]
    driver.crash("gpu", CLEAN)
    assert driver.state("gpu") is ChildState.STOPPED


# --- a process that is quicker than the word on it ------------------------------------------------


@pytest.mark.parametrize(
    ("said", "state"),
    [(ActorState.READY, ChildState.READY), (ActorState.UNAVAILABLE, ChildState.UNAVAILABLE)],
)
def test_what_a_process_says_before_the_spawner_tells_of_it_is_heard(
    said: ActorState, state: ChildState
) -> None:
    driver = PlanDriver({"a": [], "b": ["a"]})
    driver.spawner_ready()
    assert driver.beat("a", said, reason="why") == []
    assert driver.reason("a") == ""
    effects = driver.spawned("a")
    assert driver.state("a") is state
    assert driver.reason("a") == "why"
    assert spawns(effects) == (["b"] if state is ChildState.READY else [])


def test_what_another_incarnation_said_early_is_not_heard() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    driver.beat("a")
    driver.spawn_failed("a", "no memory")
    driver.advance(60)
    driver.spawned("a")
    assert driver.state("a") is ChildState.STARTING
