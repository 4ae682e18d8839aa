"""What a service manager is told, and when; and what of that is whose."""

from __future__ import annotations

import pytest

from protocol.lifecycle import ActorState, Health
from supervision.health import Verdict
from supervision.notices import STATUS_S, Notices, at_rest
from supervision.notify import Service, take_service
from supervision.restart import SETUP_EXIT_CODE, Exit
from tests.support.planning import CRASH, PlanDriver, running

GOOD = Verdict(Health.HEALTHY)


def bad(reason: str) -> Verdict:
    return Verdict(Health.DEGRADED, reason)


def rests(driver: PlanDriver) -> bool:
    return at_rest(driver.plan.children)


# --- READY ------------------------------------------------------------------------------------


def test_nobody_rests_before_the_last_one_is_ready() -> None:
    driver = PlanDriver({"a": [], "b": ["a"]})
    assert not rests(driver)
    driver.spawner_ready()
    driver.up("a")
    assert not rests(driver)
    driver.up("b")
    assert rests(driver)


def test_what_this_machine_lacks_is_not_waited_for() -> None:
    driver = PlanDriver({"a": []})
    driver.spawner_ready()
    driver.spawned("a")
    assert not rests(driver)
    driver.beat("a", ActorState.UNAVAILABLE, "no GPU")
    assert rests(driver)


def test_who_has_failed_is_not_waited_for_and_neither_is_who_needs_it() -> None:
    driver = PlanDriver({"a": [], "b": ["a"], "c": ["b"]})
    driver.spawner_ready()
    driver.spawned("a")
    driver.beat("a", ActorState.STARTING)
    assert not rests(driver)
    driver.beat("a", ActorState.STARTING, "its settings are wrong")
    driver.crash("a", Exit(code=SETUP_EXIT_CODE))
    assert rests(driver)


def test_who_says_what_keeps_it_from_starting_is_not_waited_for() -> None:
    driver = PlanDriver({"a": [], "b": ["a"]})
    driver.spawner_ready()
    driver.spawned("a")
    driver.beat("a", ActorState.STARTING)
    assert not rests(driver)
    driver.beat("a", ActorState.STARTING, "no network (tried 1x)")
    assert rests(driver)


def test_who_is_about_to_be_started_again_is_waited_for() -> None:
    driver = running("a", restart={"backoff_first_s": 1})
    driver.crash("a", CRASH)
    driver.spawned("a")
    driver.crash("a", CRASH)
    assert not rests(driver)


def test_readiness_is_told_once_whatever_dies_later() -> None:
    driver, notices = running("a"), Notices()
    assert notices.look(0, driver.plan.children, GOOD) == {"READY": "1", "STATUS": "healthy"}
    driver.crash("a")
    assert notices.look(1, driver.plan.children, GOOD) == {}
    driver.up("a")
    assert notices.look(2, driver.plan.children, GOOD) == {}


# --- STATUS and STOPPING ----------------------------------------------------------------------


def told(notices: Notices, now: float, whole: Verdict) -> str | None:
    return notices.look(now, {}, whole).get("STATUS")


def test_another_health_is_told_at_once_with_its_reason() -> None:
    notices = Notices()
    assert told(notices, 0.0, GOOD) == "healthy"
    assert told(notices, 0.1, GOOD) is None
    assert told(notices, 0.2, bad("a failed: why")) == "degraded: a failed: why"
    assert told(notices, 0.3, GOOD) == "healthy"


def test_another_reason_of_the_same_health_is_told_once_a_second() -> None:
    notices = Notices()
    told(notices, 0.0, bad("silent for 1 s"))
    assert told(notices, STATUS_S - 0.1, bad("silent for 2 s")) is None
    assert told(notices, STATUS_S, bad("silent for 2 s")) == "degraded: silent for 2 s"


def test_a_reason_of_several_lines_is_one_line() -> None:
    assert told(Notices(), 0, bad("a\nREADY=1\n b")) == "degraded: a READY=1 b"


def test_the_end_is_told_once_and_who_has_not_been_ready_will_not_be() -> None:
    notices = Notices()
    assert notices.stopping() == {"STOPPING": "1"}
    assert notices.stopping() == {}
    assert notices.look(0, running("a").plan.children, GOOD) == {"STATUS": "healthy"}


# --- whose it is ------------------------------------------------------------------------------


def test_without_a_service_manager_there_is_none() -> None:
    assert take_service({}, 7) is None


def test_what_a_service_manager_said_is_taken_out_of_the_environment() -> None:
    environ = {
        "NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "HOME": "/h",
    }  # fmt: skip
    assert take_service(environ, 7) == Service("/run/x", 30.0)
    assert environ == {"HOME": "/h"}


@pytest.mark.parametrize(
    ("usec", "pid", "watchdog_s"),
    [
        ("2000000", "7", 2.0),
        ("2000000", None, 2.0),
        ("2000000", "8", None),
        ("0", "7", None),
        ("soon", "7", None),
        (None, "7", None),
    ],
)
def test_the_watchdog_is_meant_for_the_process_that_it_names(
    usec: str | None, pid: str | None, watchdog_s: float | None
) -> None:
    told = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    environ = {name: value for name, value in told.items() if value is not None}
    assert take_service(environ, 7) == Service("@x", watchdog_s)


def test_a_socket_that_is_no_local_one_is_nobodys() -> None:
    assert take_service({"NOTIFY_SOCKET": "vsock:2:1"}, 7) is None
