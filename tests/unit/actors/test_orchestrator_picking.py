"""Which engine is asked: one that is READY, one that comes, and never a worse one than wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from actors.orchestrator.admission_terms import Capacity
from actors.orchestrator.choice import Losses
from actors.orchestrator.circuit import BreakerPolicy
from actors.orchestrator.picking import OFTEN, Picker
from actors.orchestrator.runtime import Runtime
from actors.orchestrator.wanted import Wanted
from configs import load_settings
from protocol.clock import ManualClock
from protocol.directory import SUSPICION_S
from protocol.errors import ActorUnavailable, DeadlineExceeded, EngineFailed, WouldBeDegraded
from protocol.lifecycle import ActorState, Health
from protocol.messages.engine import ChatMessage, Generate
from protocol.messages.supervisor import DirectoryEntry
from tests.support.engines import ScriptedCaller, as_caller, entry

GPU, CPU = entry("gpu_engine", "g-1"), entry("cpu_engine", "c-1")
STARTING, FAILED, UNAVAILABLE = ActorState.STARTING, ActorState.FAILED, ActorState.UNAVAILABLE
POLICY = BreakerPolicy(failures=1, open_s=60, permits=1, probe_s=5, successes=1)


def in_state(engine: DirectoryEntry, state: ActorState) -> DirectoryEntry:
    return engine.model_copy(update={"state": state})


class Pick:
    """A picker in a world that a test changes."""

    def __init__(self, *entries: DirectoryEntry, profile: str = "full") -> None:
        self.clock = ManualClock(100.0)
        self.caller = ScriptedCaller(self.clock, *entries)
        settings = load_settings(environ={}, assignments=[f'device.profile="{profile}"'])
        assert settings.query.engines == [GPU.name, CPU.name]
        assert settings.gpu_engines == [GPU.name]
        self.runtime = Runtime(settings.query.engines, POLICY, settings.watchdog)
        self.picker = Picker(as_caller(self.caller), self.clock, settings, self.runtime)
        self.notes: list[tuple[str, str]] = []

    def later(self, *entries: DirectoryEntry) -> None:
        """At the next wait for news, the directory changes like this."""
        self.caller.news.append(lambda: self._become(entries))

    def _become(self, entries: Sequence[DirectoryEntry]) -> None:
        self.caller.directory.apply(entries)

    def breaks(self, engine: DirectoryEntry) -> None:
        use = self.runtime.begin(engine, self.clock.now())
        self.runtime.end(use, EngineFailed("no"), self.clock.now())

    async def name(self, **wanted: Any) -> str:
        step = Generate(
            messages=[ChatMessage(role="user", content="Go on.")], model=wanted.pop("model", "")
        )
        until = wanted.pop("until", 200.0)
        picked = await self.picker.pick(
            Wanted(step, until=until, **wanted), Losses(), lambda *note: self.notes.append(note)
        )
        return picked.name


async def test_the_preferred_one_is_asked_where_it_is_ready() -> None:
    assert await Pick(GPU, CPU).name() == GPU.name
    assert await Pick(in_state(GPU, STARTING), CPU).name() == CPU.name


async def test_where_none_is_ready_the_first_that_comes_is_asked() -> None:
    pick = Pick(in_state(GPU, FAILED), in_state(CPU, STARTING))
    pick.later(in_state(CPU, STARTING))
    pick.later(CPU)
    assert await pick.name() == CPU.name
    assert pick.caller.waits == [100.0 + SUSPICION_S] * 2


async def test_a_directory_that_is_not_known_yet_is_waited_for() -> None:
    pick = Pick(GPU, CPU)
    pick.caller.directory.clear()
    pick.later(GPU, CPU)
    assert await pick.name() == GPU.name


async def test_where_none_comes_back_that_is_said_with_the_reasons() -> None:
    with pytest.raises(ActorUnavailable, match=r"gpu_engine is unavailable; cpu_engine is failed"):
        await Pick(in_state(GPU, UNAVAILABLE), in_state(CPU, FAILED)).name()


async def test_who_waits_waits_until_the_deadline_and_no_longer() -> None:
    pick = Pick(in_state(GPU, STARTING), in_state(CPU, STARTING))
    with pytest.raises(DeadlineExceeded):
        await pick.name(until=102.5)
    assert pick.clock.now() == 102.5


async def test_an_engine_that_its_breaker_refuses_is_passed_over_and_noted() -> None:
    pick = Pick(GPU, CPU)
    pick.breaks(GPU)
    assert await pick.name() == CPU.name
    assert pick.notes == [(GPU.name, OFTEN)]
    assert pick.runtime.engines[GPU.name].breaker.metrics(100).rejections == 1


async def test_where_all_are_refused_one_is_asked_all_the_same_and_nobody_is_passed_over() -> None:
    pick = Pick(GPU, CPU)
    pick.breaks(GPU)
    pick.breaks(CPU)
    assert await pick.name() == GPU.name
    assert pick.notes == []


async def test_the_engine_that_has_the_model_is_asked_for_it() -> None:
    big = entry("cpu_engine", "c-1", models=["default", "big"])
    pick = Pick(GPU, big)
    assert await pick.name(model="big") == CPU.name
    assert pick.notes == []


# --- no worse answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu", [GPU, in_state(GPU, STARTING), in_state(GPU, ActorState.DRAINING)])
async def test_who_wants_no_worse_answer_gets_the_gpu_or_waits_for_it(gpu: DirectoryEntry) -> None:
    pick = Pick(gpu, CPU)
    pick.later(GPU)
    assert await pick.name(undegraded=True) == GPU.name


@pytest.mark.parametrize(
    ("gpu", "why"),
    [
        (in_state(GPU, FAILED), "gpu_engine is failed"),
        (in_state(GPU, UNAVAILABLE), "gpu_engine is unavailable"),
        (GPU.model_copy(update={"health": Health.UNHEALTHY}), "gpu_engine is unhealthy"),
    ],
)
async def test_who_wants_no_worse_answer_is_refused_one_with_the_reason(
    gpu: DirectoryEntry, why: str
) -> None:
    with pytest.raises(WouldBeDegraded, match=why) as refused:
        await Pick(gpu, CPU).name(undegraded=True)
    assert refused.value.details["missing"] == [why]


async def test_nor_is_an_engine_asked_past_its_breaker_for_one_who_wants_no_worse_answer() -> None:
    pick = Pick(GPU, CPU)
    pick.breaks(GPU)
    with pytest.raises(WouldBeDegraded, match=OFTEN):
        await pick.name(undegraded=True)
    pick.clock.advance(60)
    assert await pick.name(undegraded=True) == GPU.name


@pytest.mark.parametrize("profile", ["lite", "auto"])
async def test_without_a_gpu_an_answer_of_the_cpu_is_no_worse_one(profile: str) -> None:
    pick = Pick(in_state(GPU, UNAVAILABLE), CPU, profile=profile)
    assert await pick.name(undegraded=True) == CPU.name


async def test_nor_is_it_where_that_turns_out_while_the_gpu_is_waited_for() -> None:
    pick = Pick(in_state(GPU, STARTING), CPU, profile="auto")
    pick.later(in_state(GPU, UNAVAILABLE))
    assert await pick.name(undegraded=True) == CPU.name


# --- how many at once -----------------------------------------------------------------------------


def test_the_capacity_is_that_of_the_engines_that_answers_go_to() -> None:
    small = entry("cpu_engine", slots=1)
    assert Pick(GPU, small).picker.capacity() == Capacity(4)
    assert Pick(in_state(GPU, STARTING), small).picker.capacity() == Capacity(1)
    pick = Pick(GPU, small)
    pick.breaks(GPU)
    assert pick.picker.capacity() == Capacity(1)


def test_where_none_is_ready_the_capacity_is_not_known() -> None:
    assert Pick(in_state(GPU, STARTING), in_state(CPU, FAILED)).picker.capacity() is None


@pytest.mark.parametrize(
    ("other", "undegraded", "unable", "could"),
    [
        (CPU, False, False, True),
        (in_state(CPU, STARTING), False, False, False),
        (in_state(CPU, FAILED), False, False, False),
        # A worse answer is not wanted.
        (CPU, True, False, False),
        (CPU, False, True, False),
    ],
)
def test_another_could_go_on_that_is_ready_and_good_enough(
    other: DirectoryEntry, undegraded: bool, unable: bool, could: bool
) -> None:
    pick = Pick(GPU, other)
    step = Generate(messages=[ChatMessage(role="user", content="Go on.")])
    lost = Losses(unable={CPU.name} if unable else set())
    wanted = Wanted(step, until=200.0, undegraded=undegraded)
    assert pick.picker.is_another(wanted, lost, GPU.name) is could
