"""Whom the circuit breaker lets through, and what it makes of what comes of it."""

from __future__ import annotations

import pytest

from actors.orchestrator.breaker import KEPT_TRANSITIONS, CircuitBreaker
from actors.orchestrator.circuit import (
    BREAKER,
    BreakerEvent,
    BreakerPolicy,
    BreakerState,
    Permit,
)
from actors.orchestrator.verdicts import Verdict
from protocol.errors import IllegalTransition

SUCCESS, FAILURE, IGNORED = Verdict.SUCCESS, Verdict.FAILURE, Verdict.IGNORED
CLOSED, OPEN, HALF_OPEN = BreakerState


def breaker(policy: BreakerPolicy | None = None) -> CircuitBreaker:
    """A closed one; it opens after 3 failures for 60 s, and has 2 probes of 5 s."""
    return CircuitBreaker("gpu_engine", policy or BreakerPolicy())


def take(one: CircuitBreaker, now: float) -> Permit:
    """A permit that has to be given."""
    permit = one.acquire(now)
    assert permit is not None
    return permit


def call(one: CircuitBreaker, verdict: Verdict, now: float) -> None:
    """A whole call."""
    one.release(take(one, now), verdict, now)


def opened(now: float = 0.0) -> CircuitBreaker:
    """One that opened then."""
    one = breaker()
    for _ in range(3):
        call(one, FAILURE, now)
    assert one.metrics(now).state is OPEN
    return one


def half_open() -> CircuitBreaker:
    """One that turned HALF_OPEN at 60."""
    one = opened()
    one.refresh(60.0)
    assert one.metrics(60.0).state is HALF_OPEN
    return one


# --- the table --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", BreakerState)
@pytest.mark.parametrize("event", BreakerEvent)
def test_what_the_table_does_not_say_is_illegal_and_both_are_named(
    state: BreakerState, event: BreakerEvent
) -> None:
    if BREAKER.allows(state, event):
        assert BREAKER.next(state, event) is not state
        return
    with pytest.raises(IllegalTransition) as caught:
        BREAKER.next(state, event)
    assert state.value in str(caught.value)
    assert event.value in str(caught.value)


def test_no_state_is_a_dead_end() -> None:
    assert {before for before, _ in BREAKER.rows} == set(BreakerState)
    assert set(BREAKER.rows.values()) == set(BreakerState)


# --- CLOSED -----------------------------------------------------------------------------------


def test_a_new_breaker_lets_all_through() -> None:
    one = breaker()
    permits = [take(one, 0.0) for _ in range(1000)]
    assert not any(permit.probe or permit.forced for permit in permits)
    assert one.metrics(0.0).granted == 1000


def test_a_permit_says_when_and_in_which_generation_it_was_taken() -> None:
    permit = take(breaker(), 7.0)
    assert (permit.taken_at, permit.generation, permit.lease_until) == (7.0, 0, None)


def test_the_third_failure_opens_it() -> None:
    one = breaker()
    for verdict in (FAILURE, FAILURE):
        call(one, verdict, 1.0)
    assert one.metrics(1.0).state is CLOSED
    call(one, FAILURE, 2.0)
    assert one.metrics(2.0).state is OPEN
    assert one.metrics(2.0).open_until == 62.0


def test_a_success_takes_one_off_the_count() -> None:
    one = breaker()
    for verdict in (FAILURE, FAILURE, SUCCESS, FAILURE):
        call(one, verdict, 0.0)
    assert one.metrics(0.0).state is CLOSED
    assert one.metrics(0.0).failure_count == 2
    call(one, FAILURE, 0.0)
    assert one.metrics(0.0).state is OPEN


def test_successes_are_not_saved_up() -> None:
    one = breaker()
    for verdict in [SUCCESS] * 10 + [FAILURE] * 3:
        call(one, verdict, 0.0)
    assert one.metrics(0.0).state is OPEN


def test_what_is_ignored_counts_neither_way() -> None:
    one = breaker()
    for verdict in [FAILURE, FAILURE] + [IGNORED] * 10:
        call(one, verdict, 0.0)
    assert one.metrics(0.0).failure_count == 2
    assert one.metrics(0.0).ignored == 10


def test_a_permit_given_back_twice_counts_once() -> None:
    one = breaker()
    permit = take(one, 0.0)
    for _ in range(5):
        one.release(permit, FAILURE, 0.0)
    assert one.metrics(0.0).failures == one.metrics(0.0).failure_count == 1


def test_a_success_that_took_too_long_is_a_failure() -> None:
    one = breaker(BreakerPolicy(slow_call_s=10))
    fast, slow = take(one, 0.0), take(one, 0.0)
    one.release(fast, SUCCESS, 10.0)
    one.release(slow, SUCCESS, 10.5)
    metrics = one.metrics(11.0)
    assert (metrics.successes, metrics.failures, metrics.slow) == (1, 1, 1)
    assert metrics.failure_count == 1


def test_what_was_cancelled_late_is_not_slow() -> None:
    one = breaker(BreakerPolicy(slow_call_s=10))
    one.release(take(one, 0.0), IGNORED, 100.0)
    assert (one.metrics(100.0).slow, one.metrics(100.0).failures) == (0, 0)


def test_without_a_bound_no_success_is_too_slow() -> None:
    one = breaker()
    one.release(take(one, 0.0), SUCCESS, 1e6)
    assert one.metrics(1e6).successes == 1


def test_to_pass_early_is_nothing_for_an_ordinary_call() -> None:
    one = breaker()
    call(one, FAILURE, 0.0)
    permit = take(one, 0.0)
    one.passed(permit, 0.0)
    assert one.metrics(0.0).failure_count == 1
    one.release(permit, SUCCESS, 0.0)
    assert one.metrics(0.0).failure_count == 0


# --- OPEN -------------------------------------------------------------------------------------


def test_an_open_one_refuses_until_its_time_is_over() -> None:
    one = opened()
    assert one.acquire(0.0) is None
    assert one.acquire(59.9) is None
    assert one.metrics(59.9).rejections == 2
    assert take(one, 60.0).probe


def test_to_ask_whether_it_allows_a_call_takes_and_counts_nothing() -> None:
    one = opened()
    assert not one.allows(1.0)
    assert one.metrics(1.0).rejections == 0
    assert all(one.allows(60.0) for _ in range(10))
    assert one.metrics(60.0).probes_in_flight == 0
    assert one.metrics(60.0).granted == 3


def test_it_says_when_to_come_back() -> None:
    one = opened()
    assert one.retry_after_s(0.0) == 60.0
    assert one.retry_after_s(59.0) == 1.0
    assert one.retry_after_s(60.0) == 0.0
    take(one, 60.0)
    assert one.retry_after_s(60.0) == 0.0
    take(one, 61.0)
    assert one.retry_after_s(62.0) == 3.0, "when the first lease is over"
    assert breaker().retry_after_s(0.0) == 0.0


def test_whoever_asks_late_finds_what_they_would_have_found_in_time() -> None:
    one = opened()
    assert one.metrics(1000.0).state is HALF_OPEN
    assert [t.at for t in one.take_transitions()] == [0.0, 60.0]


def test_a_call_from_before_it_opened_changes_totals_alone() -> None:
    one = breaker()
    late = [take(one, 0.0) for _ in range(3)]
    for _ in range(3):
        call(one, FAILURE, 1.0)
    for permit, verdict in zip(late, (SUCCESS, FAILURE, IGNORED), strict=True):
        one.release(permit, verdict, 2.0)
    metrics = one.metrics(2.0)
    assert (metrics.state, metrics.generation, metrics.open_until) == (OPEN, 1, 61.0)
    assert (metrics.failure_count, metrics.success_count) == (0, 0)
    assert (metrics.successes, metrics.failures, metrics.ignored) == (1, 4, 1)


@pytest.mark.parametrize("verdict", Verdict)
def test_a_late_result_is_no_probes_result(verdict: Verdict) -> None:
    one = breaker()
    late = take(one, 0.0)
    for _ in range(3):
        call(one, FAILURE, 0.0)
    probe = take(one, 60.0)
    one.release(late, verdict, 61.0)
    assert one.metrics(61.0).state is HALF_OPEN
    assert one.metrics(61.0).success_count == 0
    assert one.metrics(61.0).probes_in_flight == 1
    one.release(probe, SUCCESS, 61.0)
    assert one.metrics(61.0).success_count == 1


# --- past an open one -------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", Verdict)
def test_a_forced_call_goes_past_an_open_breaker_and_does_not_move_it(verdict: Verdict) -> None:
    one = opened()
    permits = [one.force(1.0) for _ in range(5)]
    assert all(permit.forced and not permit.probe for permit in permits)
    for permit in permits:
        one.release(permit, verdict, 2.0)
    metrics = one.metrics(2.0)
    assert (metrics.state, metrics.open_until) == (OPEN, 60.0)
    assert (metrics.forced, metrics.rejections) == (5, 0)


@pytest.mark.parametrize("verdict", Verdict)
def test_a_forced_call_beside_the_probes_is_none_of_them(verdict: Verdict) -> None:
    one = half_open()
    probes = [take(one, 60.0), take(one, 60.0)]
    forced = one.force(60.0)
    one.passed(forced, 60.0)
    one.release(forced, verdict, 60.0)
    metrics = one.metrics(60.0)
    assert (metrics.state, metrics.success_count) == (HALF_OPEN, 0)
    assert metrics.probes_in_flight == len(probes)


def test_to_force_takes_what_can_be_had_without() -> None:
    assert not breaker().force(0.0).forced
    one = half_open()
    probes = [one.force(60.0), one.force(60.0)]
    assert all(probe.probe and not probe.forced for probe in probes)
    assert one.force(60.0).forced


# --- HALF_OPEN --------------------------------------------------------------------------------


def test_exactly_so_many_probes_get_through_at_once() -> None:
    one = half_open()
    got = [one.acquire(60.0) for _ in range(50)]
    assert sum(permit is not None for permit in got) == 2
    assert one.metrics(60.0).rejections == 48
    assert not one.allows(60.0)


def test_a_probe_says_when_its_lease_is_over() -> None:
    probe = take(half_open(), 61.0)
    assert (probe.probe, probe.taken_at, probe.lease_until) == (True, 61.0, 66.0)


def test_two_successes_close_it() -> None:
    one = half_open()
    call(one, SUCCESS, 60.0)
    assert one.metrics(60.0).state is HALF_OPEN
    call(one, SUCCESS, 61.0)
    assert one.metrics(61.0).state is CLOSED
    assert one.metrics(61.0).failure_count == 0


def test_one_failure_opens_it_again_for_the_whole_time() -> None:
    one = half_open()
    call(one, SUCCESS, 60.0)
    call(one, FAILURE, 61.0)
    assert one.metrics(61.0).state is OPEN
    assert one.metrics(61.0).open_until == 121.0
    call(one, SUCCESS, 121.0)
    assert one.metrics(121.0).state is HALF_OPEN, "the success of the time before counts no more"


def test_a_probes_permit_returns_when_it_is_cancelled() -> None:
    one = half_open()
    first, second = take(one, 60.0), take(one, 60.0)
    assert not one.allows(60.0)
    one.release(first, IGNORED, 61.0)
    one.release(first, IGNORED, 61.0)
    assert one.metrics(61.0).state is HALF_OPEN
    assert one.metrics(61.0).success_count == 0
    take(one, 61.0)
    assert one.acquire(61.0) is None, "one permit was returned, not two"
    one.release(second, SUCCESS, 61.0)


def test_a_probe_that_is_forgotten_opens_it_when_its_lease_is_over() -> None:
    one = half_open()
    take(one, 62.0)
    assert one.metrics(66.9).state is HALF_OPEN
    assert one.metrics(67.0).state is OPEN
    assert one.metrics(67.0).probes_in_flight == 0
    assert one.metrics(67.0).failures == 4


def test_a_lease_counts_from_when_it_was_over_and_not_from_when_that_was_noticed() -> None:
    one = half_open()
    take(one, 60.0)
    assert one.metrics(100.0).open_until == 125.0
    assert one.metrics(100.0).last_failure_at == 65.0
    assert one.metrics(125.0).state is HALF_OPEN
    assert [t.at for t in one.take_transitions()] == [0.0, 60.0, 65.0, 125.0]


def test_it_is_probed_again_however_often_probes_are_forgotten() -> None:
    one = half_open()
    now = 60.0
    for _ in range(20):
        take(one, now)
        take(one, now)
        now += 5 + 60
        assert one.allows(now)
    call(one, SUCCESS, now)
    call(one, SUCCESS, now)
    assert one.metrics(now).state is CLOSED


def test_a_probe_that_ends_with_its_lease_is_too_late() -> None:
    one = half_open()
    probe = take(one, 60.0)
    one.release(probe, SUCCESS, 65.0)
    metrics = one.metrics(65.0)
    assert metrics.state is OPEN
    assert (metrics.successes, metrics.failures) == (0, 4), "it counted once, as a failure"


def test_the_other_probe_of_one_that_failed_is_late() -> None:
    one = half_open()
    first, second = take(one, 60.0), take(one, 60.0)
    one.release(first, FAILURE, 61.0)
    one.release(second, SUCCESS, 62.0)
    assert one.metrics(62.0).state is OPEN
    assert one.metrics(121.0).success_count == 0
    assert one.metrics(121.0).probes_in_flight == 0


def test_a_probe_that_is_still_out_when_others_have_closed_it_is_late() -> None:
    one = half_open()
    late = take(one, 60.0)
    for _ in range(2):
        call(one, SUCCESS, 60.0)
    one.release(late, FAILURE, 61.0)
    assert one.metrics(61.0).state is CLOSED
    assert one.metrics(61.0).failure_count == 0


def test_the_lease_of_a_probe_ends_with_its_generation() -> None:
    one = half_open()
    take(one, 60.0)
    for _ in range(2):
        call(one, SUCCESS, 60.0)
    assert one.metrics(1000.0).state is CLOSED
    assert one.metrics(1000.0).probes_in_flight == 0


def test_a_probe_that_was_too_slow_opens_it() -> None:
    one = breaker(BreakerPolicy(failures=1, slow_call_s=2))
    call(one, FAILURE, 0.0)
    one.release(take(one, 60.0), SUCCESS, 63.0)
    assert one.metrics(63.0).state is OPEN
    assert one.metrics(63.0).slow == 1


# --- answers that are longer than a probe may be ----------------------------------------------


def test_a_probe_whose_text_flows_has_passed_and_may_take_its_time() -> None:
    one = half_open()
    probe = take(one, 60.0)
    one.passed(probe, 61.0)
    assert (probe.probe, probe.lease_until) == (False, None)
    metrics = one.metrics(1000.0)
    assert (metrics.state, metrics.success_count, metrics.probes_in_flight) == (HALF_OPEN, 1, 0)


def test_two_probes_whose_text_flows_close_it() -> None:
    one = half_open()
    probes = [take(one, 60.0), take(one, 60.0)]
    for probe in probes:
        one.passed(probe, 61.0)
    assert one.metrics(61.0).state is CLOSED
    assert one.metrics(61.0).successes == 0, "neither is over yet"
    for probe in probes:
        one.release(probe, SUCCESS, 90.0)
    assert one.metrics(90.0).successes == 2


def test_one_probe_passes_once_however_often_its_text_flows_and_however_it_ends() -> None:
    one = half_open()
    probe = take(one, 60.0)
    for second in range(4):
        one.passed(probe, 60.0 + second)
    one.release(probe, SUCCESS, 70.0)
    assert one.metrics(70.0).success_count == 1
    assert one.metrics(70.0).state is HALF_OPEN


def test_one_that_passed_and_fails_before_the_other_ends_opens_it() -> None:
    one = half_open()
    probe = take(one, 60.0)
    one.passed(probe, 61.0)
    one.release(probe, FAILURE, 70.0)
    assert one.metrics(70.0).state is OPEN


def test_one_that_passed_and_fails_once_it_is_closed_is_one_failure() -> None:
    one = half_open()
    first, second = take(one, 60.0), take(one, 60.0)
    one.passed(first, 61.0)
    one.passed(second, 61.0)
    one.release(first, FAILURE, 70.0)
    one.release(second, FAILURE, 70.0)
    assert one.metrics(70.0).state is CLOSED
    assert one.metrics(70.0).failure_count == 2
    call(one, FAILURE, 71.0)
    assert one.metrics(71.0).state is OPEN


def test_one_that_passed_two_generations_ago_is_late() -> None:
    one = half_open()
    first, second = take(one, 60.0), take(one, 60.0)
    one.passed(first, 61.0)
    one.release(second, FAILURE, 62.0)
    one.release(first, FAILURE, 122.0)
    assert one.metrics(122.0).state is HALF_OPEN


def test_text_that_comes_after_the_lease_does_not_help() -> None:
    one = half_open()
    probe = take(one, 60.0)
    one.passed(probe, 65.0)
    one.release(probe, SUCCESS, 66.0)
    assert one.metrics(66.0).state is OPEN
    assert one.metrics(66.0).successes == 0


# --- what it says of itself -------------------------------------------------------------------


def test_each_change_of_state_is_told_once_with_its_reason_and_generation() -> None:
    one = opened(now=10.0)
    call(one, FAILURE, 70.0)
    for _ in range(2):
        call(one, SUCCESS, 130.0)
    told = one.take_transitions()
    assert [(t.before, t.after, t.at, t.reason, t.generation) for t in told] == [
        (CLOSED, OPEN, 10.0, BreakerEvent.TRIPPED, 1),
        (OPEN, HALF_OPEN, 70.0, BreakerEvent.WAITED, 2),
        (HALF_OPEN, OPEN, 70.0, BreakerEvent.PROBE_FAILED, 3),
        (OPEN, HALF_OPEN, 130.0, BreakerEvent.WAITED, 4),
        (HALF_OPEN, CLOSED, 130.0, BreakerEvent.PROBES_PASSED, 5),
    ]
    assert one.take_transitions() == []


def test_of_what_nobody_takes_the_latest_is_kept() -> None:
    one = opened()
    now = 0.0
    for _ in range(KEPT_TRANSITIONS):
        now += 60
        call(one, FAILURE, now)
    told = one.take_transitions()
    assert len(told) == KEPT_TRANSITIONS
    assert told[-1].generation == one.metrics(now).generation == 2 * KEPT_TRANSITIONS + 1
    assert told[0].generation == told[-1].generation - KEPT_TRANSITIONS + 1, "it shows what is gone"


def test_it_says_when_it_last_went_well_and_when_not() -> None:
    one = breaker()
    assert (one.metrics(0.0).last_success_at, one.metrics(0.0).last_failure_at) == (None, None)
    call(one, SUCCESS, 1.0)
    call(one, FAILURE, 2.0)
    call(one, IGNORED, 3.0)
    metrics = one.metrics(4.0)
    assert (metrics.name, metrics.last_success_at, metrics.last_failure_at) == (
        "gpu_engine", 1.0, 2.0,
    )  # fmt: skip
