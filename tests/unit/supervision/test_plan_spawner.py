"""The spawner is slow, or stopped, or gone."""

from __future__ import annotations

import signal

from supervision.child import ChildState
from supervision.effects import ReplaceSpawner, Signal
from supervision.plan import SPAWNS_AT_ONCE
from tests.support.planning import CRASH, PlanDriver, running, signals, spawns, told


def test_a_spawner_that_does_not_answer_in_time_is_replaced() -> None:
    driver = PlanDriver({"a": []}, supervisor={"spawn_timeout_s": 3})
    driver.spawner_ready()
    assert driver.advance(2.9) == []
    effects = driver.advance(0.2)
    assert ReplaceSpawner() in effects
    assert told(effects) == ["spawner.silent"]
    assert driver.plan.next_at() is None


def test_time_in_which_a_spawner_was_not_let_counts_in_no_silence_of_its() -> None:
    driver = PlanDriver({"a": [], "b": []}, supervisor={"spawn_timeout_s": 3})
    driver.spawner_ready()
    driver.up("a")
    driver.died("a")
    driver.clock.advance(2)
    driver.plan.spawner_held_up(2)
    # Neither has it had its time for the order of b, nor for its word on a.
    assert driver.advance(2.9) == []
    assert driver.state("a") is ChildState.DEAD
    effects = driver.advance(0.1)
    assert told(effects) == ["actor.died", "spawner.silent"]
    assert ReplaceSpawner() in effects


def test_a_new_spawner_that_was_not_let_has_its_time_for_its_readiness_all_the_same() -> None:
    driver = PlanDriver({"a": []}, supervisor={"start_timeout_s": 20})
    driver.spawner_started()
    driver.plan.spawner_held_up(5)
    assert driver.advance(24.9) == []
    assert told(driver.advance(0.1)) == ["spawner.silent"]


def test_a_spawner_that_never_says_that_it_is_ready_is_replaced() -> None:
    driver = PlanDriver({"a": []}, supervisor={"start_timeout_s": 20})
    driver.spawner_started()
    assert driver.plan.next_at() == driver.now + 20
    assert driver.advance(19.9) == []
    effects = driver.advance(0.2)
    assert ReplaceSpawner() in effects
    assert told(effects) == ["spawner.silent"]
    assert driver.plan.next_at() is None
    assert driver.advance(100) == []


def test_the_spawner_that_replaces_a_silent_one_is_watched_as_well() -> None:
    driver = PlanDriver({"a": []}, supervisor={"start_timeout_s": 20})
    driver.spawner_started()
    driver.advance(20)
    driver.spawner_lost()
    driver.spawner_started()
    assert ReplaceSpawner() in driver.advance(20)


def test_a_spawner_that_was_ready_in_time_is_left_alone() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_started()
    driver.spawner_ready()
    driver.up("a")
    assert driver.plan.next_at() is None
    assert driver.advance(1000) == []


def test_a_spawner_that_dies_before_it_is_ready_owes_no_readiness_any_more() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_started()
    driver.spawner_lost()
    assert driver.plan.next_at() is None


def test_a_stopped_spawner_is_replaced_at_once_and_told_once() -> None:
    driver = running("a")
    effects = driver.spawner_stopped()
    assert told(effects) == ["spawner.stopped"]
    assert ReplaceSpawner() in effects
    assert driver.spawner_stopped() == []


def test_the_spawner_that_replaces_a_stopped_one_may_be_stopped_as_well() -> None:
    driver = running("a")
    driver.spawner_stopped()
    driver.spawner_lost()
    driver.died("a")
    driver.spawner_started()
    assert ReplaceSpawner() in driver.spawner_stopped()


def test_a_stopped_spawner_is_let_be_while_everything_stops_as_all_would_die_with_it() -> None:
    driver = running("a")
    driver.stop()
    assert driver.spawner_stopped() == []


def test_a_fork_that_fails_is_tried_again_like_a_crash_and_its_siblings_go_on() -> None:
    driver = PlanDriver({"a": [], "good": []}, restart={"backoff_first_s": 1})
    driver.spawner_ready()
    driver.up("good")
    good = driver.epoch("good")
    assert spawns(driver.spawn_failed("a", "cannot fork: no memory")) == ["a"]
    assert spawns(driver.spawn_failed("a", "cannot fork: no memory")) == []
    assert driver.state("a") is ChildState.BACKOFF
    assert driver.reason("a") == "cannot fork: no memory; next try in 1.0 s"
    assert spawns(driver.advance(1)) == ["a"]
    assert (driver.state("good"), driver.epoch("good")) == (ChildState.READY, good)
    assert ReplaceSpawner() not in driver.all


def test_a_fork_that_never_succeeds_ends_as_failed_with_the_reason() -> None:
    driver = PlanDriver({"a": []}, restart={"max_restarts": 1})
    driver.spawner_ready()
    driver.spawn_failed("a", "cannot fork: no memory")
    driver.spawn_failed("a", "cannot fork: no memory")
    assert driver.state("a") is ChildState.FAILED
    assert driver.reason("a").endswith("last: cannot fork: no memory")


def test_the_failed_fork_of_an_order_that_nobody_waits_for_changes_nothing() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    old = driver.epoch("a")
    driver.spawner_lost()
    assert driver.spawn_failed("a", "cannot fork", old) == []
    driver.spawner_ready()
    assert driver.spawn_failed("a", "cannot fork", old) == []
    driver.up("a")
    assert driver.spawn_failed("a", "cannot fork") == []
    assert driver.state("a") is ChildState.READY


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
    assert spawns(driver.died("a")) == ["a"]
    assert driver.plan.children["a"].last_exit == "died with the spawner"


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


def test_the_spawner_has_few_orders_at_a_time_and_the_rest_wait() -> None:
    driver = PlanDriver({f"a{number}": [] for number in range(20)})
    effects = driver.spawner_ready()
    first = spawns(effects)
    assert len(first) == SPAWNS_AT_ONCE
    assert len(spawns(driver.spawned(first[0]))) == 1
    for name in first[1:]:
        driver.spawned(name)
    assert len(spawns(driver.all)) == 2 * SPAWNS_AT_ONCE


def test_a_silent_spawner_is_told_of_once_however_many_wait_for_it() -> None:
    driver = PlanDriver({"a": [], "b": [], "c": []}, supervisor={"spawn_timeout_s": 3})
    driver.spawner_ready()
    assert told(driver.advance(3)) == ["spawner.silent"]
    driver.spawner_lost()
    driver.spawner_ready()
    assert told(driver.advance(3)) == ["spawner.silent"]
