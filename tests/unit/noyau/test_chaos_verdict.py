"""What is seen after a fault, the budget of a run, and its report."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from noyau.chaos.ledger import Ledger
from noyau.chaos.observing import Fault, Observations
from noyau.chaos.plan import Step
from noyau.chaos.report import Report, as_object, as_tables
from noyau.chaos.verdict import Aftermath, judge, percentile


def fault(kind: str = "kill", target: str = "storage", at: float = 100.0, **known: Any) -> Fault:
    """One that was noticed after 10 ms and recovered from after 50 ms."""
    recovered: dict[str, Any] = {"noticed_at": at + 0.01, "recovered_at": at + 0.05, "by": "next"}
    return Fault(Step(1.0, kind, target), at, **(recovered | known))


def books(answered: int = 100, given_up: int = 0, **errors: int) -> Ledger:
    ledger = Ledger()
    for _ in range(answered):
        ledger.begin(1).answered = True
        ledger.answered(ledger.sent(1, "ping", 0), 1)
    for _ in range(given_up):
        ledger.begin(1).code = "actor_died"
    for code, count in errors.items():
        for _ in range(count):
            ledger.failed(ledger.sent(1, "ping", 0), code, 1)
    return ledger


def broken(
    ledger: Ledger | None = None,
    faults: list[Fault] | None = None,
    aftermath: Aftermath | None = None,
    *,
    interrupted: bool = False,
) -> list[str]:
    lines = judge(
        (ledger or books()).count(), faults or [], aftermath or Aftermath(), interrupted=interrupted
    )
    return [f"{line.promise}: {line.found}" for line in lines if not line.held]


# --- what is seen ---------------------------------------------------------------------------


def observed(kind: str = "kill", target: str = "storage") -> tuple[Observations, Fault]:
    found = Observations()
    one = found.begun(Step(0.0, kind, target), 10.0)
    one.epoch = "a-1"
    return found, one


def test_the_first_event_that_names_it_is_when_it_was_noticed() -> None:
    found, one = observed()
    found.told("memory", "actor.died", "memory killed by SIGKILL", 10.1)
    found.told("storage", "asset.progress", "storage: 3 %", 10.2)
    assert one.noticed_at is None
    found.told("storage", "actor.died", "storage killed by SIGKILL", 10.25)
    found.told("storage", "actor.hung", "later", 11.0)
    assert one.detect_ms == 250
    assert one.sign == "storage killed by SIGKILL"


def test_a_change_of_health_is_a_sign_unless_it_is_for_the_better() -> None:
    found, one = observed("fail")
    found.told("storage", "health.changed", "storage is healthy", 10.1)
    assert one.noticed_at is None
    found.told("storage", "health.changed", "storage is unhealthy: 3 failed", 10.2)
    assert one.noticed_at == 10.2


@pytest.mark.parametrize(
    ("epoch", "well", "sees"), [("a-1", True, False), ("a-2", True, True), ("a-1", False, True)]
)
def test_the_directory_tells_by_another_epoch_or_another_state(
    epoch: str, well: bool, sees: bool
) -> None:
    found, one = observed()
    found.entry("storage", epoch, well=well, state="draining", now=10.5)
    assert (one.noticed_at is not None) is sees


def test_what_was_seen_before_a_fault_began_is_no_sign_of_it() -> None:
    found, one = observed("slow_exit")
    found.told("storage", "actor.died", "an older one", 10.1)
    one.begins(10.2)
    assert one.noticed_at is None
    found.entry("storage", "a-1", well=False, state="draining", now=10.25)
    assert one.detect_ms == pytest.approx(50)


@pytest.mark.parametrize("kind", ["drop", "delay"])
def test_a_sign_of_a_fault_that_leaves_none_is_one_of_something_else(kind: str) -> None:
    found, one = observed(kind)
    found.told("storage", "actor.died", "storage killed by SIGKILL", 10.1)
    assert one.noticed_at is None


def test_the_supervisors_own_end_is_seen_by_the_loss_of_its_connection() -> None:
    found, one = observed(target="supervisor")
    found.supervisor_lost(10.4)
    assert one.noticed_at == 10.4


def test_what_comes_after_the_first_answer_belongs_to_no_fault() -> None:
    found, one = observed()
    found.recovered(one, "a-2", 10.3)
    found.told("storage", "actor.died", "once more", 10.4)
    assert one.noticed_at is None
    assert one.recover_ms == pytest.approx(300)
    assert found.pending == []


def test_a_fault_that_could_not_be_put_in_is_none() -> None:
    found, one = observed()
    found.withdrawn(one, "storage has no process")
    assert found.faults == []
    assert found.skipped == ["kill storage: storage has no process"]


# --- the budget -----------------------------------------------------------------------------


def test_a_run_in_which_all_went_well_keeps_the_budget() -> None:
    assert broken(books(actor_died=3), [fault()]) == []


def test_a_request_that_nobody_accounts_for_breaks_it() -> None:
    ledger = books()
    ledger.sent(1, "query", 0, stream=True)
    assert broken(ledger) == [
        "every request is accounted for: 1 are not",
        "every stream has an end: 1 have none",
    ]


def test_an_error_of_a_kind_that_no_fault_causes_breaks_it() -> None:
    assert broken(books(internal_error=1), [fault()]) == [
        "errors are of the kinds that the faults may cause: also internal_error"
    ]
    assert broken(books(actor_died=1), [fault("delay")]) != []
    assert broken(books(overloaded=5)) == []


@pytest.mark.parametrize(("given_up", "holds"), [(5, True), (6, False)])
def test_less_than_95_percent_of_answers_break_it(given_up: int, holds: bool) -> None:
    assert (broken(books(answered=95, given_up=given_up)) == []) is holds


def test_a_fault_that_is_noticed_too_late_breaks_it() -> None:
    late = fault("stop", at=100.0, noticed_within_s=0.2, noticed_at=101.3, recovered_at=102.0)
    assert broken(faults=[late]) == [
        "every fault is noticed in time: stop storage at 1.0 s (noticed after 1.3 s)"
    ]
    assert broken(faults=[fault(noticed_within_s=0.2, noticed_at=101.1)]) == []


def test_the_time_to_notice_begins_with_the_answer_to_the_order() -> None:
    known: dict[str, Any] = {"noticed_within_s": 0.2, "ordered_at": 102.0, "recovered_at": 104.0}
    assert broken(faults=[fault("stop", at=100.0, noticed_at=103.1, **known)]) == []
    assert broken(faults=[fault("stop", at=100.0, noticed_at=103.3, **known)]) == [
        "every fault is noticed in time: stop storage at 1.0 s (noticed after 3.3 s)"
    ]


def test_what_was_over_before_it_had_to_be_noticed_needed_no_notice() -> None:
    assert broken(faults=[fault(noticed_within_s=0.2, noticed_at=None)]) == []


def test_a_fault_that_is_not_recovered_from_breaks_it_unless_the_run_was_interrupted() -> None:
    lost = fault(recovered_at=None)
    assert broken(faults=[lost]) == [
        "every fault is recovered from: kill storage at 1.0 s (noticed after 0.0 s)"
    ]
    assert broken(faults=[lost], interrupted=True) == []


@pytest.mark.parametrize(
    "aftermath",
    [
        Aftermath(orphans=["storage (7, child of 1)"]),
        Aftermath(leaked=["storage.a-1.signs"]),
        Aftermath(unhealthy="memory failed"),
        Aftermath(forgotten=1),
    ],
)
def test_whatever_is_left_breaks_it(aftermath: Aftermath) -> None:
    assert len(broken(aftermath=aftermath)) == 1


# --- the report -----------------------------------------------------------------------------


def report() -> Report:
    found = Observations()
    found.faults += [fault(), fault("stop", "memory", noticed_at=100.3, recovered_at=101.0)]
    return Report(7, 12.34, books(actor_died=2).count(), found, Aftermath())


def test_the_object_for_programs_has_the_promised_form() -> None:
    found = as_object(report())
    assert list(found)[:7] == [
        "faults", "requests", "streams_without_end", "orphans", "leaked", "detect_ms", "recover_ms",
    ]  # fmt: skip
    assert found["faults"] == {
        "total": 2, "by_kind": {"kill": 1, "stop": 1}, "by_target": {"storage": 1, "memory": 1},
    }  # fmt: skip
    assert found["requests"] == {
        "sent": 102, "answered": 100, "typed_errors": 2, "unaccounted": 0,
    }  # fmt: skip
    assert (found["streams_without_end"], found["orphans"], found["leaked"]) == (0, 0, 0)
    assert found["detect_ms"] == {"p50": 10.0, "p99": 300.0}
    assert found["recover_ms"] == {"p50": 50.0, "p99": 1000.0}
    assert (found["seed"], found["held"], found["broken"]) == (7, True, [])


def test_people_are_told_whether_it_held_and_which_line_broke() -> None:
    def shown(aftermath: Aftermath) -> str:
        console = Console(width=100, record=True, file=io.StringIO())
        one = report()
        console.print(
            as_tables(Report(one.seed, one.seconds, one.account, one.observed, aftermath))
        )
        return console.export_text()

    well, badly = shown(Aftermath()), shown(Aftermath(orphans=["memory (7, child of 1)"]))
    assert "the budget held" in well
    assert "✗" not in well
    assert "the budget broke" in badly
    assert "✗ no process is left behind: memory (7, child of 1)" in badly


def test_percentiles_are_of_what_was_measured() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([5], 0.99) == 5
