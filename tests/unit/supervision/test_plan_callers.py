"""What actors say of those that they ask: heard for the incarnation that was asked."""

from __future__ import annotations

from protocol.lifecycle import ActorState, Health
from protocol.messages.supervisor import Heartbeat
from supervision.health import judge
from tests.support.planning import KILLED, PlanDriver, running


def says(driver: PlanDriver, caller: str, unanswered: dict[str, int]) -> None:
    beat = Heartbeat(state=ActorState.READY, unanswered=unanswered)
    driver.plan.heartbeat(caller, driver.epoch(caller), beat, driver.now)


def health(driver: PlanDriver, name: str) -> Health:
    return judge(driver.plan.children[name], driver.now, driver.settings).health


def test_who_leaves_three_requests_of_others_unanswered_is_unhealthy() -> None:
    driver = running("a", "b", "c")
    says(driver, "a", {driver.epoch("c"): 2})
    assert health(driver, "c") is Health.HEALTHY
    says(driver, "b", {driver.epoch("c"): 1})
    assert health(driver, "c") is Health.UNHEALTHY
    assert health(driver, "a") is Health.HEALTHY


def test_a_count_that_is_said_again_counts_once() -> None:
    driver = running("a", "b")
    for _ in range(5):
        says(driver, "a", {driver.epoch("b"): 2})
    assert health(driver, "b") is Health.HEALTHY


def test_what_a_dead_incarnation_left_is_not_held_against_the_next() -> None:
    driver = running("a", "b")
    old = driver.epoch("b")
    driver.crash("b", KILLED)
    driver.up("b")
    says(driver, "a", {old: 5})
    assert health(driver, "b") is Health.HEALTHY


def test_the_next_incarnation_of_a_caller_counts_from_nothing() -> None:
    driver = running("a", "b")
    says(driver, "a", {driver.epoch("b"): 2})
    driver.crash("a", KILLED)
    driver.up("a")
    says(driver, "a", {driver.epoch("b"): 1})
    assert health(driver, "b") is Health.UNHEALTHY
