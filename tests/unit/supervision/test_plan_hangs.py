"""A process hangs: it is asked to end, or killed, and its next incarnation is none the worse."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from protocol.lifecycle import ActorState, Health
from protocol.messages.actor import Counters
from protocol.messages.supervisor import Heartbeat
from supervision.child import ChildState
from supervision.effects import Effect, Tell
from supervision.hangs import Hung
from supervision.health import judge
from supervision.restart import Exit
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

SPINS = Hung("it spins")
STUCK = Hung("its work is stuck", loop_turns=True)
STOPPED = Hung("it was stopped", stopped=True)


def hung(driver: PlanDriver, name: str, verdict: Hung, epoch: str | None = None) -> list[Effect]:
    return driver.plan.hung(name, epoch or driver.epoch(name), verdict, driver.now)


def test_a_stopped_one_is_killed_at_once() -> None:
    driver = running("a", "b")
    effects = hung(driver, "a", STOPPED)
    assert signals(effects) == [("a", signal.SIGKILL)]
    assert told(effects) == ["actor.hung"]
    assert hung(driver, "a", STOPPED) == []
    effects = driver.crash("a", KILLED)
    assert spawns(effects) == ["a"]
    assert driver.plan.children["a"].last_exit == "hung: it was stopped"


def test_any_other_is_asked_to_end_and_killed_after_its_time() -> None:
    driver = running("a", hang={"term_s": 0.5})
    assert signals(hung(driver, "a", SPINS)) == [("a", signal.SIGTERM)]
    assert driver.state("a") is ChildState.STOPPING
    assert hung(driver, "a", SPINS) == []
    assert driver.advance(0.4) == []
    assert signals(driver.advance(0.2)) == [("a", signal.SIGKILL)]
    assert hung(driver, "a", SPINS) == []
    assert spawns(driver.crash("a", KILLED)) == ["a"]


def test_stuck_work_is_to_be_given_up_first_while_the_loop_turns() -> None:
    driver = running("a", hang={"cancel_s": 1, "term_s": 0.5})
    assert signals(hung(driver, "a", STUCK)) == [("a", signal.SIGUSR1)]
    assert driver.state("a") is ChildState.READY
    driver.advance(0.9)
    assert hung(driver, "a", STUCK) == []
    driver.advance(0.2)
    effects = hung(driver, "a", STUCK)
    assert signals(effects) == [("a", signal.SIGTERM)]
    assert data(effects) == {"cancel_ms": 1100.0}
    effects = driver.advance(0.5)
    assert signals(effects) == [("a", signal.SIGKILL)]
    assert data(effects) == {"cancel_ms": 1100.0, "term_ms": 500.0}
    driver.clock.advance(0.01)
    effects = driver.crash("a", KILLED)
    assert spawns(effects) == ["a"]
    assert data(effects) == {"cancel_ms": 1100.0, "term_ms": 500.0, "kill_ms": 10.0}


def test_who_gives_its_work_up_and_gets_on_lives() -> None:
    driver = running("a")
    hung(driver, "a", STUCK)
    judged = judge(driver.plan.children["a"], driver.now, driver.settings)
    assert (judged.health, judged.reason) == (Health.UNHEALTHY, "hung: its work is stuck")
    works(driver, "a", progress=1)
    driver.advance(60)
    assert judge(driver.plan.children["a"], driver.now - 60, driver.settings).reason
    works(driver, "a", progress=2)
    assert judge(driver.plan.children["a"], driver.now, driver.settings).health is Health.HEALTHY
    # The next time is a new one.
    assert signals(hung(driver, "a", STUCK)) == [("a", signal.SIGUSR1)]


def test_who_gave_its_work_up_and_is_stuck_again_with_the_next_is_asked_to_end() -> None:
    driver = running("a")
    hung(driver, "a", STUCK)
    driver.advance(60)
    works(driver, "a", progress=0)
    assert signals(hung(driver, "a", STUCK)) == [("a", signal.SIGTERM)]


def test_one_that_sigkill_does_not_end_is_told_of() -> None:
    driver = running("a")
    hung(driver, "a", STOPPED)
    assert told(driver.advance(4.9)) == []
    effects = driver.advance(0.2)
    assert (told(effects), signals(effects)) == (["actor.unkillable"], [])
    assert driver.advance(1000) == []
    assert spawns(driver.crash("a", KILLED)) == ["a"]


def works(driver: PlanDriver, name: str, progress: int) -> None:
    beat = Heartbeat(state=ActorState.READY, counters=Counters(progress=progress))
    driver.plan.heartbeat(name, driver.epoch(name), beat, driver.now)


def data(effects: list[Effect]) -> dict[str, object]:
    """Of the one thing that is told."""
    (tell,) = [effect for effect in effects if isinstance(effect, Tell)]
    return dict(tell.data)


def test_one_that_ends_in_order_when_it_is_asked_is_started_again_all_the_same() -> None:
    driver = PlanDriver({"a": []}, {"a": "transient"})
    driver.spawner_ready()
    driver.up("a")
    hung(driver, "a", SPINS)
    assert spawns(driver.crash("a", CLEAN)) == ["a"]
    assert driver.plan.children["a"].last_exit == "hung: it spins"


def test_one_that_is_being_stopped_and_hangs_is_killed() -> None:
    driver = running("a")
    driver.restart("a")
    assert signals(hung(driver, "a", SPINS)) == [("a", signal.SIGKILL)]
    assert spawns(driver.crash("a", KILLED)) == ["a"]


def test_one_that_hangs_again_and_again_is_given_up() -> None:
    loop = {"max_restarts": 2, "window_s": 60, "backoff_first_s": 1, "backoff_max_s": 1}
    driver = running("a", restart=loop)
    for _ in range(3):
        hung(driver, "a", STOPPED)
        driver.crash("a", KILLED)
        driver.advance(1)
        if driver.state("a") is ChildState.SPAWNING:
            driver.up("a")
    assert driver.state("a") is ChildState.FAILED
    assert "hung: it was stopped" in driver.reason("a")


def test_the_next_incarnation_is_not_taken_for_hung() -> None:
    driver = running("a")
    old = driver.epoch("a")
    hung(driver, "a", STOPPED)
    driver.crash("a", KILLED)
    driver.up("a")
    assert hung(driver, "a", STOPPED, epoch=old) == []
    assert driver.plan.children["a"].ended_for == ""


@pytest.mark.parametrize("verdict", [SPINS, STOPPED])
def test_whoever_asks_sees_that_it_hangs_and_why(verdict: Hung) -> None:
    driver = running("a")
    assert published(hung(driver, "a", verdict)) == ["a"]
    child = driver.plan.children["a"]
    seen = judge(child, driver.now, driver.settings)
    assert seen.health is Health.UNHEALTHY
    assert verdict.reason in seen.reason


def test_a_hung_end_is_never_a_clean_one() -> None:
    assert CLEAN.clean
    assert not Exit(code=0, ended_for="hung: it spins").clean


# --- too large ----------------------------------------------------------------------------------

MIB = 2**20


def limited(memory_mib: float | None, **sections: Any) -> PlanDriver:
    driver = running("a", **sections)
    entry = driver.settings.actors["a"].model_copy(update={"memory_mib": memory_mib})
    driver.settings.actors["a"] = entry
    return driver


def test_one_that_needs_too_much_memory_is_drained_and_started_again() -> None:
    driver = limited(500)
    assert driver.plan.has_memory("a", driver.epoch("a"), 500 * MIB, driver.now) == []
    effects = driver.plan.has_memory("a", driver.epoch("a"), 612 * MIB, driver.now)
    assert signals(effects) == [("a", signal.SIGTERM)]
    assert told(effects) == ["actor.too_large"]
    assert driver.state("a") is ChildState.STOPPING
    assert driver.plan.has_memory("a", driver.epoch("a"), 612 * MIB, driver.now) == []
    assert spawns(driver.crash("a", CLEAN)) == ["a"]
    assert driver.plan.children["a"].last_exit == "needed 612 MiB of memory, more than its 500"


def test_without_a_ceiling_nobody_is_too_large() -> None:
    driver = limited(None)
    assert driver.plan.has_memory("a", driver.epoch("a"), 10**12, driver.now) == []


def test_one_that_is_too_large_again_and_again_is_given_up() -> None:
    loop = {"max_restarts": 2, "window_s": 60, "backoff_first_s": 1, "backoff_max_s": 1}
    driver = limited(1, restart=loop)
    for _ in range(3):
        driver.plan.has_memory("a", driver.epoch("a"), 2 * MIB, driver.now)
        driver.crash("a", CLEAN)
        driver.advance(1)
        if driver.state("a") is ChildState.SPAWNING:
            driver.up("a")
    assert driver.state("a") is ChildState.FAILED
    assert "more than its 1" in driver.reason("a")
