"""The spawner is slow, or stopped, or gone."""

from __future__ import annotations

import signal

from supervision.child import ChildState
from supervision.plan import EXIT_REPORT_S, ReplaceSpawner, Signal
from tests.support.planning import CRASH, PlanDriver, running, signals, spawns, told


def test_a_spawner_that_does_not_answer_in_time_is_replaced() -> None:
    driver = PlanDriver({"a": []}, supervisor={"spawn_timeout_s": 3})
    driver.spawner_ready()
    assert driver.advance(2.9) == []
    effects = driver.advance(0.2)
    assert ReplaceSpawner() in effects
    assert told(effects) == ["spawner.silent"]
    assert driver.plan.next_at() is None


def test_what_was_asked_of_a_lost_spawner_is_asked_of_the_next_one() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    old = driver.epoch("a")
    driver.advance(3)
    assert spawns(driver.spawner_lost()) == []
    assert driver.state("a") is ChildState.WAITING
    assert spawns(driver.spawner_ready()) == ["a"]
    assert driver.epoch("a") != old
    assert driver.plan.children["a"].restarts == 0


def test_the_lost_spawners_process_is_killed_should_it_turn_up_after_all() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    old = driver.epoch("a")
    driver.spawner_lost()
    assert driver.spawned("a", old) == [Signal("a", old, signal.SIGKILL)]
    driver.spawner_ready()
    assert driver.spawned("a", old) == [Signal("a", old, signal.SIGKILL)]
    assert driver.state("a") is ChildState.SPAWNING


def test_a_death_seen_after_the_spawners_waits_for_no_exit_report() -> None:
    driver = running("a")
    driver.spawner_lost()
    driver.died("a")
    assert driver.state("a") is ChildState.WAITING
    assert spawns(driver.spawner_ready()) == ["a"]


def test_a_death_seen_before_the_spawners_waits_for_no_exit_report_either() -> None:
    driver = running("a")
    driver.died("a")
    driver.spawner_lost()
    assert driver.state("a") is ChildState.WAITING
    assert spawns(driver.spawner_ready()) == ["a"]


def test_dying_with_the_spawner_is_held_against_nobody() -> None:
    driver = running("a", restart={"max_restarts": 1})
    for _ in range(10):
        driver.spawner_lost()
        driver.died("a")
        driver.spawner_ready()
        driver.up("a")
    assert driver.state("a") is ChildState.READY
    assert driver.plan.children["a"].last_exit == "died with the spawner"
    assert spawns(driver.crash("a", CRASH)) == ["a"]


def test_everyone_comes_back_in_order_after_the_spawner_died() -> None:
    driver = PlanDriver({"a": [], "b": ["a"]})
    driver.spawner_ready()
    driver.up("a", "b")
    driver.spawner_lost()
    driver.died("b")
    driver.died("a")
    assert spawns(driver.spawner_ready()) == ["a"]
    driver.spawned("a")
    assert spawns(driver.beat("a")) == ["b"]


def test_whoever_dies_after_the_new_spawner_is_there_comes_back_too() -> None:
    driver = running("a")
    driver.spawner_lost()
    driver.spawner_ready()
    assert spawns(driver.died("a")) == []
    assert spawns(driver.advance(EXIT_REPORT_S)) == ["a"]


def test_an_exit_report_that_the_lost_spawner_had_still_sent_gives_one_restart() -> None:
    driver = running("a")
    old = driver.epoch("a")
    driver.spawner_lost()
    driver.ended("a", CRASH, old)
    driver.died("a", old)
    assert spawns(driver.spawner_ready()) == ["a"]
    assert driver.plan.children["a"].restarts == 1


def test_what_has_failed_or_stopped_stays_so_with_a_new_spawner() -> None:
    driver = PlanDriver({"a": [], "b": []}, {"a": "temporary"}, restart={"max_restarts": 0})
    driver.spawner_ready()
    driver.up("a", "b")
    driver.crash("a")
    driver.crash("b")
    driver.spawner_lost()
    assert spawns(driver.spawner_ready()) == []
    assert (driver.state("a"), driver.state("b")) == (ChildState.STOPPED, ChildState.FAILED)


def test_a_backoff_that_ends_while_there_is_no_spawner_is_made_good_by_the_next_one() -> None:
    driver = running("a", restart={"backoff_first_s": 1})
    driver.crash("a")
    driver.spawned("a")
    driver.crash("a")
    driver.spawner_lost()
    assert spawns(driver.advance(1)) == []
    assert spawns(driver.spawner_ready()) == ["a"]


def test_a_restart_by_hand_while_there_is_no_spawner_is_made_good_by_the_next_one() -> None:
    driver = running("a", restart={"max_restarts": 0})
    driver.crash("a")
    driver.spawner_lost()
    assert spawns(driver.restart("a")) == []
    assert spawns(driver.spawner_ready()) == ["a"]


def test_a_restart_by_hand_survives_the_spawners_death() -> None:
    driver = running("a")
    assert signals(driver.restart("a")) == [("a", signal.SIGTERM)]
    driver.spawner_lost()
    driver.died("a")
    assert spawns(driver.spawner_ready()) == ["a"]
