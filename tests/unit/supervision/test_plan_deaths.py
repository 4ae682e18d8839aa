"""A process ended: one new incarnation, at once or later, or none."""

from __future__ import annotations

import signal

import pytest

from protocol.errors import InvalidRequest, NotFound
from protocol.lifecycle import ActorState
from supervision.child import ChildState
from supervision.effects import Forget, Publish, Signal
from supervision.plan import LAST_WORDS_S
from supervision.restart import SETUP_EXIT_CODE, Exit
from tests.support.planning import (
    CLEAN,
    CRASH,
    KILLED,
    PlanDriver,
    published,
    running,
    signals,
    spawns,
    told,
)

LOOP = {"max_restarts": 3, "window_s": 60, "backoff_first_s": 1, "backoff_max_s": 10}


def crash_at_start(driver: PlanDriver, name: str, exit_: Exit = CRASH) -> None:
    driver.spawned(name)
    driver.crash(name, exit_)


def fail(driver: PlanDriver, name: str) -> None:
    """Crash until the supervisor gives up."""
    while driver.state(name) is not ChildState.FAILED:
        if driver.state(name) is ChildState.BACKOFF:
            driver.advance(10)
        elif driver.state(name) is ChildState.SPAWNING:
            driver.spawned(name)
        else:
            driver.crash(name, CRASH)


# --- one death, one restart -----------------------------------------------------------------


def test_a_death_is_published_and_the_next_incarnation_spawned_at_once() -> None:
    driver = running("a")
    old = driver.epoch("a")
    assert driver.died("a") == [Publish("a"), Forget("a", old)]
    assert driver.plan.entry("a").state is ActorState.WAITING
    effects = driver.ended("a", KILLED)
    assert spawns(effects) == ["a"]
    assert driver.epoch("a") != old
    assert driver.plan.children["a"].last_exit == "killed by SIGKILL"


def test_the_dead_ones_socket_is_forgotten() -> None:
    driver = running("a")
    old = driver.epoch("a")
    assert Forget("a", old) in driver.died("a")


def test_the_exit_report_may_come_before_the_death() -> None:
    driver = running("a")
    old = driver.epoch("a")
    effects = driver.ended("a", KILLED, old) + driver.died("a", old)
    assert spawns(effects) == ["a"]
    assert driver.plan.children["a"].restarts == 1
    assert driver.state("a") is ChildState.SPAWNING


def test_the_exit_report_may_come_after_the_death() -> None:
    driver = running("a")
    old = driver.epoch("a")
    assert spawns(driver.died("a", old)) == []
    assert spawns(driver.advance(1)) == []
    assert spawns(driver.ended("a", KILLED, old)) == ["a"]
    assert driver.advance(1) == []
    assert driver.plan.children["a"].restarts == 1
    assert driver.plan.children["a"].last_exit == "killed by SIGKILL"


def test_a_death_is_acted_upon_even_when_nobody_says_how_it_was() -> None:
    driver = running("a", supervisor={"spawn_timeout_s": 3})
    old = driver.epoch("a")
    assert spawns(driver.died("a")) == []
    assert driver.plan.next_at() == driver.now + 3
    assert spawns(driver.advance(3)) == ["a"]
    assert driver.plan.children["a"].last_exit == "ended, nobody knows how"
    assert driver.ended("a", KILLED, old) == []
    assert driver.plan.children["a"].last_exit == "ended, nobody knows how"


def test_word_of_an_incarnation_long_gone_changes_nothing_but_its_socket() -> None:
    driver = running("a")
    old = driver.epoch("a")
    driver.crash("a")
    driver.up("a")
    assert driver.beat("a", epoch=old, reason="I am still here") == []
    assert driver.ended("a", CRASH, old) == []
    assert driver.died("a", old) == [Forget("a", old)]
    assert driver.spawned("a", old) == [Signal("a", old, signal.SIGKILL)]
    assert driver.state("a") is ChildState.READY
    assert driver.reason("a") == ""


def test_a_dead_incarnations_last_heartbeat_does_not_bring_it_back() -> None:
    driver = running("a")
    driver.died("a")
    assert driver.beat("a") == []
    assert driver.state("a") is ChildState.DEAD


def test_siblings_and_dependants_of_the_dead_go_on() -> None:
    driver = PlanDriver({"a": [], "b": ["a"], "c": []})
    driver.spawner_ready()
    driver.up("a", "c", "b")
    epochs = {name: driver.epoch(name) for name in ("b", "c")}
    effects = driver.crash("a")
    assert signals(effects) == []
    assert {name: driver.epoch(name) for name in ("b", "c")} == epochs
    assert driver.state("b") is driver.state("c") is ChildState.READY


def test_a_dependant_that_dies_waits_until_what_it_needs_is_back() -> None:
    driver = PlanDriver({"a": [], "b": ["a"]})
    driver.spawner_ready()
    driver.up("a", "b")
    driver.crash("a")
    assert spawns(driver.crash("b")) == []
    assert driver.reason("b") == "waits for a"
    driver.spawned("a")
    assert spawns(driver.beat("a")) == ["b"]


def test_the_new_incarnation_starts_without_the_old_ones_troubles() -> None:
    driver = running("a")
    driver.beat("a", reason="everything hurts")
    driver.crash("a")
    driver.spawned("a")
    assert driver.reason("a") == ""
    assert driver.plan.children["a"].heard_at is None


# --- backoff and giving up --------------------------------------------------------------------


def test_the_second_crash_in_a_row_waits_and_says_when_it_is_tried_again() -> None:
    driver = running("a", restart={"backoff_first_s": 1})
    driver.crash("a")
    driver.spawned("a")
    effects = driver.crash("a", CRASH)
    assert spawns(effects) == []
    assert published(effects)[-1] == "a"
    assert driver.state("a") is ChildState.BACKOFF
    assert driver.reason("a") == "exit code 1; next try in 1.0 s"
    assert spawns(driver.advance(0.99)) == []
    assert spawns(driver.advance(0.02)) == ["a"]
    assert driver.reason("a") == ""


def test_being_ready_long_enough_makes_the_next_restart_immediate_again() -> None:
    driver = running("a", restart={"stable_s": 5, "backoff_first_s": 1})
    driver.crash("a")
    driver.up("a")
    driver.advance(5)
    assert spawns(driver.crash("a")) == ["a"]


def test_a_crash_loop_ends_as_failed_while_its_siblings_are_untouched() -> None:
    driver = running("bad", "good", restart=LOOP)
    good = driver.epoch("good")
    fail(driver, "bad")
    assert spawns(driver.all).count("bad") == 4
    assert driver.plan.entry("bad").state is ActorState.FAILED
    assert "4 times within 60 s" in driver.reason("bad")
    assert told(driver.all)[-1] == "actor.failed"
    assert (driver.state("good"), driver.epoch("good")) == (ChildState.READY, good)
    assert driver.plan.next_at() is None
    assert driver.advance(3600) == []


def test_an_order_by_hand_tries_again_what_has_failed_with_a_clean_slate() -> None:
    driver = running("a", restart=LOOP)
    fail(driver, "a")
    assert spawns(driver.restart("a")) == ["a"]
    assert driver.reason("a") == ""
    driver.spawned("a")
    assert spawns(driver.crash("a")) == ["a"]


def test_dependants_of_the_failed_wait_and_say_for_whom() -> None:
    driver = PlanDriver({"a": [], "b": ["a"]}, restart=LOOP)
    driver.spawner_ready()
    fail(driver, "a")
    assert driver.state("b") is ChildState.WAITING
    assert driver.reason("b") == "waits for a"


def test_an_actor_that_cannot_start_fails_at_once_with_its_own_reason() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    driver.spawned("a")
    driver.beat("a", ActorState.STARTING, reason="the model file is not there")
    effects = driver.crash("a", Exit(code=SETUP_EXIT_CODE))
    assert driver.state("a") is ChildState.FAILED
    assert driver.reason("a") == "the model file is not there"
    assert told(effects) == ["actor.failed"]
    assert spawns(effects) == []


def test_an_actor_that_cannot_start_and_said_nothing_fails_with_a_reason_all_the_same() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    driver.spawned("a")
    driver.crash("a", Exit(code=SETUP_EXIT_CODE))
    assert driver.state("a") is ChildState.DEAD
    driver.advance(LAST_WORDS_S)
    assert driver.state("a") is ChildState.FAILED
    assert driver.reason("a") == "it cannot start as it was told to"


def test_last_words_that_come_after_the_end_are_heard() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    driver.spawned("a")
    epoch = driver.epoch("a")
    assert told(driver.crash("a", Exit(code=SETUP_EXIT_CODE))) == []
    # Its hello, with nothing to say yet.
    driver.beat("a", ActorState.STARTING, epoch=epoch)
    effects = driver.beat("a", ActorState.STARTING, reason="no such model", epoch=epoch)
    assert told(effects) == ["actor.failed"]
    assert driver.state("a") is ChildState.FAILED
    assert driver.reason("a") == "no such model"
    assert driver.beat("a", ActorState.STARTING, reason="again", epoch=epoch) == []


def test_last_words_between_the_death_and_the_word_on_it_are_heard() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    driver.spawned("a")
    epoch = driver.epoch("a")
    driver.died("a")
    driver.beat("a", ActorState.STARTING, epoch=epoch)
    driver.beat("a", ActorState.STARTING, reason="no such model", epoch=epoch)
    driver.ended("a", Exit(code=SETUP_EXIT_CODE), epoch)
    assert driver.state("a") is ChildState.FAILED
    assert driver.reason("a") == "no such model"


@pytest.mark.parametrize(
    ("kind", "exit_", "state"),
    [
        ("transient", CLEAN, ChildState.STOPPED),
        ("transient", CRASH, ChildState.SPAWNING),
        ("temporary", CRASH, ChildState.STOPPED),
        ("permanent", CLEAN, ChildState.SPAWNING),
    ],
)
def test_the_restart_type_of_the_settings_is_kept(
    kind: str, exit_: Exit, state: ChildState
) -> None:
    driver = PlanDriver({"a": []}, {"a": kind})  # type: ignore[dict-item]
    driver.spawner_ready()
    driver.up("a")
    driver.crash("a", exit_)
    assert driver.state("a") is state
    assert driver.reason("a") == (str(exit_) if state is ChildState.STOPPED else "")


# --- a restart by hand --------------------------------------------------------------------------


def test_a_restart_by_hand_drains_first_and_starts_again_when_the_process_is_gone() -> None:
    driver = running("a")
    old = driver.epoch("a")
    effects = driver.restart("a")
    assert effects[0] == Signal("a", old, signal.SIGTERM)
    assert driver.plan.entry("a").state is ActorState.DRAINING
    assert driver.advance(1) == []
    assert spawns(driver.crash("a", CLEAN)) == ["a"]
    assert driver.epoch("a") != old
    assert driver.plan.children["a"].restarts == 1


def test_whoever_does_not_drain_in_time_is_killed_once_and_started_again() -> None:
    driver = running("a", supervisor={"drain_timeout_s": 5})
    driver.restart("a")
    assert signals(driver.advance(4.9)) == []
    assert signals(driver.advance(0.2)) == [("a", signal.SIGKILL)]
    assert signals(driver.advance(100)) == []
    assert spawns(driver.crash("a")) == ["a"]


def test_a_restart_by_hand_is_told_its_unknown_name() -> None:
    with pytest.raises(NotFound):
        running("a").restart("b")


def test_a_restart_by_hand_restarts_also_what_its_type_would_leave_alone() -> None:
    driver = PlanDriver({"a": []}, {"a": "temporary"})
    driver.spawner_ready()
    driver.up("a")
    driver.restart("a")
    assert spawns(driver.crash("a", CLEAN)) == ["a"]
    driver.up("a")
    driver.crash("a", CLEAN)
    assert driver.state("a") is ChildState.STOPPED
    assert spawns(driver.restart("a")) == ["a"]


def test_a_restart_by_hand_does_not_wait_for_the_backoff() -> None:
    driver = running("a")
    driver.crash("a")
    crash_at_start(driver, "a")
    assert driver.state("a") is ChildState.BACKOFF
    assert spawns(driver.restart("a")) == ["a"]


def test_a_restart_by_hand_of_one_that_is_starting_drains_it_too() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    driver.spawned("a")
    assert signals(driver.restart("a")) == [("a", signal.SIGTERM)]
    assert spawns(driver.crash("a")) == ["a"]


def test_a_second_restart_by_hand_while_the_first_is_under_way_adds_nothing() -> None:
    driver = running("a")
    driver.restart("a")
    assert driver.restart("a") == []
    assert spawns(driver.crash("a", CLEAN)) == ["a"]
    assert driver.restart("a") == []
    driver.up("a")
    assert spawns(driver.all).count("a") == 2


def test_a_restart_by_hand_is_refused_while_everything_is_being_stopped() -> None:
    driver = running("a")
    driver.stop()
    with pytest.raises(InvalidRequest, match="being stopped"):
        driver.restart("a")
