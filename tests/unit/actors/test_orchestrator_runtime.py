"""What is known of the engines: whom to choose from, how much they hold, what their ends say."""

from __future__ import annotations

import math

import pytest

from actors.orchestrator.admission_terms import Capacity, DropMode
from actors.orchestrator.circuit import BreakerPolicy, BreakerState
from actors.orchestrator.policies import admission_policy, breaker_policy
from actors.orchestrator.runtime import Runtime
from configs.answering import (
    AdmissionSettings,
    EngineBreakerSettings,
    QueryBreakerSettings,
    WatchdogSettings,
)
from protocol.errors import (
    ActorDied,
    Cancelled,
    DeadlineExceeded,
    EngineFailed,
    EngineStalled,
    InvalidRequest,
    NoyauError,
    Overloaded,
)
from protocol.lifecycle import Health
from protocol.messages.supervisor import DirectoryEntry
from tests.support.engines import entry

GPU, CPU = entry("gpu_engine", "g-1"), entry("cpu_engine", "c-1", slots=1)
POLICY = BreakerPolicy(failures=1, open_s=60, permits=2, probe_s=5, successes=2)


def engines() -> Runtime:
    return Runtime(["gpu_engine", "cpu_engine"], POLICY, WatchdogSettings())


def failed(runtime: Runtime, engine: DirectoryEntry = GPU, now: float = 0.0) -> None:
    runtime.end(runtime.begin(engine, now), EngineFailed("no"), now)


def capacity(runtime: Runtime, *ready: DirectoryEntry, now: float = 0.0) -> Capacity | None:
    return runtime.capacity(runtime.candidates(ready, now))


def test_where_none_is_ready_nothing_is_known_of_the_capacity() -> None:
    assert capacity(engines()) is None


def test_the_capacity_is_that_of_the_device_of_the_first_that_is_well() -> None:
    other = entry("gpu_engine", "g-2", slots=2, device="gpu")
    assert capacity(engines(), GPU, CPU) == Capacity(4, math.inf)
    assert capacity(engines(), GPU, other, CPU) == Capacity(6, math.inf)
    sick = GPU.model_copy(update={"health": Health.UNHEALTHY})
    assert capacity(engines(), sick, CPU) == Capacity(1, math.inf)


def test_an_engine_that_its_breaker_refuses_holds_nothing_while_another_is_there() -> None:
    runtime = engines()
    failed(runtime)
    assert capacity(runtime, GPU, CPU) == Capacity(1, math.inf)
    assert capacity(runtime, GPU) == Capacity(4, math.inf)


def test_the_tokens_are_those_of_all_slots_where_every_engine_says_how_many() -> None:
    told = entry("gpu_engine", slots=4, context_tokens=1000)
    assert capacity(engines(), told) == Capacity(4, 4000)
    untold = entry("cpu_engine", device="gpu", slots=2)
    assert capacity(engines(), told, untold) == Capacity(6, math.inf)


def test_an_answer_counts_as_running_from_its_beginning_to_its_end() -> None:
    runtime = engines()
    use = runtime.begin(GPU, 0)
    assert use.who == "gpu_engine.g-1"
    assert [one.running for one in runtime.candidates([GPU, CPU], 0)] == [1, 0]
    runtime.end(use, None, 1)
    assert runtime.engines["gpu_engine"].running == 0


def test_an_end_counts_once_however_often_it_is_told() -> None:
    runtime = engines()
    use = runtime.begin(GPU, 0)
    for _ in range(2):
        runtime.give_up(use, 1)
        runtime.end(use, EngineFailed("late"), 2)
    engine = runtime.engines["gpu_engine"]
    known = engine.breaker.metrics(2)
    assert engine.running == 0
    assert (known.ignored, known.failures, known.state) == (1, 0, BreakerState.CLOSED)


@pytest.mark.parametrize(
    "error", [EngineFailed("no"), EngineStalled("no"), ActorDied("dead"), NoyauError("new")]
)
def test_what_another_engine_would_have_done_better_is_a_failure(error: NoyauError) -> None:
    runtime = engines()
    runtime.end(runtime.begin(GPU, 0), error, 0)
    assert not runtime.candidates([GPU], 0)[0].permitted


@pytest.mark.parametrize(
    "error",
    [
        Cancelled("no longer"),
        InvalidRequest("too long"),
        Overloaded("full"),
        DeadlineExceeded("the caller had no more time"),
    ],
)
def test_what_its_caller_is_to_blame_for_is_none(error: NoyauError) -> None:
    runtime = engines()
    for _ in range(10):
        runtime.end(runtime.begin(GPU, 0), error, 0)
    assert runtime.candidates([GPU], 0)[0].permitted


def test_text_that_flows_from_a_probe_closes_a_half_open_breaker() -> None:
    runtime = engines()
    failed(runtime)
    probes = [runtime.begin(GPU, 60), runtime.begin(GPU, 60)]
    assert not runtime.candidates([GPU], 60)[0].permitted
    for probe in probes:
        runtime.passed(probe, 61)
    assert runtime.engines["gpu_engine"].breaker.metrics(61).state is BreakerState.CLOSED
    assert runtime.candidates([GPU], 61)[0].permitted


def test_one_that_is_asked_past_its_breaker_is_counted_and_moves_nothing() -> None:
    runtime = engines()
    failed(runtime)
    runtime.end(runtime.begin(GPU, 1), None, 2)
    known = runtime.engines["gpu_engine"].breaker.metrics(2)
    assert (known.forced, known.state) == (1, BreakerState.OPEN)


def test_a_refusal_is_counted_by_its_breaker_and_takes_no_permit() -> None:
    runtime = engines()
    failed(runtime)
    runtime.refused(GPU, 1)
    known = runtime.engines["gpu_engine"].breaker.metrics(1)
    assert (known.rejections, known.granted) == (1, 1)


def test_the_pace_is_that_of_an_incarnation() -> None:
    runtime = engines()
    first, second = runtime.begin(GPU, 0), runtime.begin(GPU, 0)
    assert first.pace is second.pace
    again = runtime.begin(GPU.model_copy(update={"epoch": "g-2"}), 1)
    assert again.pace is not first.pace


def test_a_candidate_has_the_model_that_is_asked_for_or_none_is() -> None:
    runtime = engines()
    big = entry("gpu_engine", models=["default", "big"])
    assert [one.has_model for one in runtime.candidates([big, CPU], 0, "big")] == [True, False]
    assert [one.has_model for one in runtime.candidates([big, CPU], 0)] == [True, True]


# --- the settings as policies ---------------------------------------------------------------------


@pytest.mark.parametrize("settings", [EngineBreakerSettings(), QueryBreakerSettings()])
def test_every_setting_of_a_breaker_is_in_its_policy(
    settings: EngineBreakerSettings | QueryBreakerSettings,
) -> None:
    policy = breaker_policy(settings)
    assert {name: getattr(policy, name) for name in type(settings).model_fields} == (
        settings.model_dump()
    )


def test_every_setting_of_the_queue_is_in_its_policy() -> None:
    settings = AdmissionSettings(drop_mode="oldest", max_waiting=7)
    policy = admission_policy(settings)
    assert policy.drop_mode is DropMode.OLDEST
    assert {name: getattr(policy, name) for name in type(settings).model_fields} == (
        settings.model_dump() | {"drop_mode": DropMode.OLDEST}
    )
