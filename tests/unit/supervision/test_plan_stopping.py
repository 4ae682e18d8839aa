"""Everything is stopped: dependants first, nobody forgotten, and it comes to an end."""

from __future__ import annotations

import signal

import pytest

from protocol.lifecycle import ActorState
from supervision.child import ChildState
from supervision.effects import AllStopped, Effect, Signal
from supervision.plan import STOPPING_REPORT_S
from tests.support.planning import (
    CLEAN,
    KILLED,
    PlanDriver,
    published,
    running,
    signals,
    spawns,
    told,
)

TERM, KILL = signal.SIGTERM, signal.SIGKILL


def finished(effects: list[Effect]) -> bool:
    return AllStopped() in effects


def tree() -> PlanDriver:
    driver = PlanDriver({"storage": [], "engine": ["storage"], "front": ["engine"], "lone": []})
    driver.spawner_ready()
    driver.up("storage", "lone", "engine", "front")
    return driver


def in_state(state: ChildState) -> PlanDriver:
    """Two actors: ``other`` is READY, ``a`` is in this state."""
    driver = PlanDriver(
        {"a": [], "other": []},
        {"a": "transient"},
        restart={"backoff_first_s": 1, "max_restarts": 2},
    )
    driver.spawner_ready()
    driver.up("other")
    if state is ChildState.SPAWNING:
        return driver
    driver.spawned("a")
    if state is ChildState.WAITING:
        driver.spawner_lost()
        driver.died("a")
    elif state is ChildState.READY:
        driver.beat("a")
    elif state is ChildState.STOPPING:
        driver.restart("a")
    elif state is ChildState.DEAD:
        driver.died("a")
    elif state is ChildState.STOPPED:
        driver.crash("a", CLEAN)
    elif state in (ChildState.BACKOFF, ChildState.FAILED):
        driver.crash("a")
        driver.spawned("a")
        driver.crash("a")
        if state is ChildState.FAILED:
            driver.advance(1)
            driver.spawned("a")
            driver.crash("a")
    assert driver.state("a") is state
    return driver


def test_dependants_are_told_first_and_the_others_when_they_are_gone() -> None:
    driver = tree()
    assert signals(driver.stop()) == [("front", TERM), ("lone", TERM)]
    assert signals(driver.crash("front", CLEAN)) == []
    assert signals(driver.crash("lone", CLEAN)) == [("engine", TERM)]
    assert signals(driver.crash("engine", CLEAN)) == [("storage", TERM)]
    assert finished(driver.crash("storage", CLEAN))
    assert {driver.state(name) for name in driver.plan.children} == {ChildState.STOPPED}


def test_the_end_is_said_exactly_once() -> None:
    driver = tree()
    driver.stop()
    for name in ("lone", "front", "engine", "storage"):
        driver.crash(name, CLEAN)
    driver.stop()
    driver.spawner_lost()
    driver.spawner_ready()
    driver.advance(100)
    assert driver.all.count(AllStopped()) == 1


def test_a_second_order_to_stop_changes_nothing() -> None:
    driver = tree()
    assert told(driver.stop()) == ["system.stopping"]
    assert driver.stop() == []


def test_the_plan_knows_that_it_is_stopping() -> None:
    driver = running("a")
    assert not driver.plan.stopping
    driver.stop()
    assert driver.plan.stopping


def test_whoever_does_not_end_in_time_is_killed_once() -> None:
    driver = running("a", supervisor={"drain_timeout_s": 5})
    driver.stop()
    assert driver.plan.entry("a").state is ActorState.DRAINING
    assert signals(driver.advance(4.9)) == []
    assert signals(driver.advance(0.2)) == [("a", KILL)]
    assert signals(driver.advance(100)) == []
    assert finished(driver.crash("a", KILLED))


def test_each_group_has_the_whole_drain_time() -> None:
    driver = PlanDriver({"a": [], "b": ["a"]}, supervisor={"drain_timeout_s": 5})
    driver.spawner_ready()
    driver.up("a", "b")
    driver.stop()
    driver.advance(4)
    driver.crash("b", CLEAN)
    assert signals(driver.advance(4)) == []
    assert signals(driver.advance(1)) == [("a", KILL)]


def test_a_death_that_nobody_explains_does_not_hold_up_the_end() -> None:
    driver = running("a")
    driver.stop()
    assert not finished(driver.died("a"))
    assert finished(driver.advance(STOPPING_REPORT_S))


def test_the_spawners_death_does_not_hold_up_the_end() -> None:
    driver = running("a", "b")
    driver.stop()
    driver.died("a")
    driver.spawner_lost()
    assert finished(driver.died("b"))


@pytest.mark.parametrize(
    "state",
    [
        ChildState.WAITING, ChildState.BACKOFF, ChildState.SPAWNING, ChildState.STOPPED,
        ChildState.FAILED,
    ],
)  # fmt: skip
def test_whoever_has_no_process_is_stopped_at_once(state: ChildState) -> None:
    driver = in_state(state)
    driver.stop()
    driver.crash("other", CLEAN)
    assert driver.all[-1] == AllStopped()
    assert driver.plan.entry("a").state is ActorState.STOPPED
    assert spawns(driver.spawner_ready() + driver.advance(100)) == []


@pytest.mark.parametrize("state", [ChildState.STARTING, ChildState.READY, ChildState.STOPPING])
def test_whoever_has_a_process_is_waited_for(state: ChildState) -> None:
    driver = in_state(state)
    driver.stop()
    assert ("a", TERM) in signals(driver.all)
    assert not finished(driver.crash("other", CLEAN))
    assert finished(driver.crash("a", CLEAN))
    assert spawns(driver.all).count("a") == 1


def test_a_death_just_before_the_stop_is_waited_for_and_not_restarted() -> None:
    driver = in_state(ChildState.DEAD)
    driver.stop()
    driver.crash("other", CLEAN)
    effects = driver.ended("a")
    assert finished(effects)
    assert spawns(effects) == []


def test_a_crash_while_stopping_is_not_restarted() -> None:
    driver = tree()
    driver.stop()
    assert spawns(driver.crash("storage")) == []
    assert driver.state("storage") is ChildState.STOPPED


def test_a_restart_by_hand_that_is_under_way_becomes_a_stop() -> None:
    driver = running("a")
    driver.restart("a")
    driver.stop()
    effects = driver.crash("a", CLEAN)
    assert finished(effects)
    assert spawns(effects) == []


def test_a_process_that_comes_when_nobody_wants_it_any_more_is_killed() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    epoch = driver.epoch("a")
    assert finished(driver.stop())
    assert driver.spawned("a", epoch) == [Signal("a", epoch, KILL)]
    assert driver.beat("a", epoch=epoch) == []
    assert driver.ended("a", KILLED, epoch) == []
    driver.died("a", epoch)
    assert driver.state("a") is ChildState.STOPPED
    assert driver.all.count(AllStopped()) == 1


def test_whoever_became_ready_while_stopping_starts_nobody() -> None:
    driver = PlanDriver({"a": [], "b": ["a"], "x": []})
    driver.spawner_ready()
    driver.up("x")
    driver.spawned("a")
    driver.stop()
    driver.beat("a")
    assert driver.state("a") is ChildState.READY
    assert driver.state("b") is ChildState.WAITING
    assert spawns(driver.all) == ["a", "x"]


def test_a_backoff_that_ends_while_stopping_starts_nobody() -> None:
    driver = PlanDriver({"a": [], "b": ["a"]}, restart={"backoff_first_s": 1})
    driver.spawner_ready()
    driver.up("a", "b")
    driver.crash("a")
    driver.spawned("a")
    driver.crash("a")
    assert driver.state("a") is ChildState.BACKOFF
    driver.stop()
    assert spawns(driver.advance(1)) == []
    assert finished(driver.crash("b", CLEAN))


def test_the_directory_is_told_of_everyone_who_stops() -> None:
    driver = PlanDriver({"a": [], "b": ["a"], "c": ["b"]})
    driver.spawner_ready()
    driver.up("a")
    driver.spawned("b")
    assert published(driver.stop()) == ["c", "b"]
    assert "b" in published(driver.ended("b"))
    driver.died("a")
    assert published(driver.ended("a")) == ["a"]


def test_a_process_that_was_killed_already_is_not_killed_again() -> None:
    driver = PlanDriver({"a": []}, supervisor={"start_timeout_s": 20, "drain_timeout_s": 5})
    driver.spawner_ready()
    driver.spawned("a")
    driver.advance(20)
    driver.stop()
    driver.advance(5)
    assert signals(driver.all) == [("a", KILL), ("a", TERM)]
    assert finished(driver.crash("a"))


def test_a_start_that_times_out_in_the_moment_of_the_stop_still_gets_its_drain_time() -> None:
    driver = PlanDriver(
        {"a": [], "b": [], "x": ["b"]}, supervisor={"start_timeout_s": 20, "drain_timeout_s": 5}
    )
    driver.spawner_ready()
    driver.up("a")
    driver.spawned("b")
    driver.stop()
    driver.clock.advance(19.99)
    driver.died("a")
    # Now both are due: that nobody explains the death of a, and that b has said nothing yet.
    assert signals(driver.advance(STOPPING_REPORT_S)) == [("b", TERM)]
    assert signals(driver.advance(5)) == [("b", KILL)]


def test_whoever_uses_others_is_stopped_before_them_and_does_not_wait_for_them_at_the_start() -> (
    None
):
    driver = PlanDriver({"asker": [], "asked": []}, uses={"asker": ["asked", "switched_off"]})
    assert spawns(driver.spawner_ready()) == ["asked", "asker"]
    driver.up("asked", "asker")
    assert signals(driver.stop()) == [("asker", signal.SIGTERM)]
    assert signals(driver.crash("asker", CLEAN)) == [("asked", signal.SIGTERM)]
