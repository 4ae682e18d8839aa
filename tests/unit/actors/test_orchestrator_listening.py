"""Listening to an engine: stalls, garbage, errors, and what its circuit breaker learns of each."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from actors.orchestrator.circuit import BreakerMetrics, BreakerPolicy, BreakerState
from actors.orchestrator.garbage import REPLACEMENT
from actors.orchestrator.listening import Listening
from actors.orchestrator.runtime import Runtime
from configs.answering import WatchdogSettings
from protocol.clock import ManualClock
from protocol.errors import (
    ActorDied,
    EngineFailed,
    EngineGarbage,
    EngineStalled,
    InvalidRequest,
    NoyauError,
    Overloaded,
)
from protocol.messages.engine import ChatMessage, Generate, Generated
from protocol.messages.supervisor import Stalled
from tests.support.engines import END, ScriptedCaller, Step, as_caller, entry, reading

ENGINE = entry("gpu_engine", "g-1")
ASKED = Generate(messages=[ChatMessage(role="user", content="Go on.")])
# What is waited for in earnest, as short as the settings allow.
SHORT = WatchdogSettings(load_s=0.1, prefill_s=0.1, decode_s=0.1, min_s=0.05)
POLICY = BreakerPolicy(failures=1, open_s=60, permits=2, probe_s=0.05, successes=2)


class Ear:
    """Somebody who listens to one engine."""

    def __init__(self, watchdog: WatchdogSettings = SHORT) -> None:
        self.clock = ManualClock(1000.0)
        self.caller = ScriptedCaller(self.clock, ENGINE)
        self.runtime = Runtime([ENGINE.name], POLICY, watchdog)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.is_another = True
        """Whether another engine could go on."""
        self.listening = Listening(
            as_caller(self.caller), self.clock, self.runtime, self._published
        )

    def _published(self, what: str, text: str, **data: Any) -> None:
        assert text
        self.events.append((what, data))

    async def hears(self, *steps: Step) -> str:
        """The text that an engine with these says."""
        heard, _ = await self.until(*steps)
        return heard

    async def until(self, *steps: Step) -> tuple[str, NoyauError | None]:
        """What was heard, and the error that ended it."""
        self.caller.says(ENGINE.name, *steps)
        text = ""
        try:
            async with contextlib.aclosing(
                self.listening.listen(ENGINE, ASKED, lambda: self.is_another)
            ) as pieces:
                async for piece in pieces:
                    text += "" if isinstance(piece, Generated) else piece.text
        except NoyauError as error:
            return text, error
        return text, None

    async def opened(self) -> None:
        """The breaker has just become ready to be probed."""
        await self.until(EngineFailed("no"))
        self.clock.advance(60)

    @property
    def breaker(self) -> BreakerMetrics:
        return self.runtime.engines[ENGINE.name].breaker.metrics(self.clock.now())

    @property
    def running(self) -> int:
        return self.runtime.engines[ENGINE.name].running


async def test_all_that_an_engine_says_is_heard_and_then_its_end() -> None:
    ear = Ear()
    stream = ear.caller.says(ENGINE.name, reading(1, 2), "a", "b", END)
    pieces = [piece async for piece in ear.listening.listen(ENGINE, ASKED, lambda: True)]
    assert [getattr(piece, "text", piece) for piece in pieces] == ["a", "b", END]
    assert (ear.breaker.successes, ear.running, stream.closed) == (1, 0, True)


async def test_an_engine_that_says_nothing_within_its_time_has_stalled() -> None:
    ear = Ear()
    text, error = await ear.until("a", None)
    assert (text, type(error)) == ("a", EngineStalled)
    assert error is not None
    assert "gpu_engine.g-1 does not get on: no sign for 0.1 s in its decode" in error.message
    assert (ear.breaker.failures, ear.running) == (1, 0)
    assert [type(event) for event in ear.caller.told] == [Stalled]


async def test_a_stall_before_the_first_text_is_told_as_one_of_the_prefill() -> None:
    _, error = await Ear().until(None)
    assert error is not None
    assert "in its prefill" in error.message


async def test_the_supervisor_is_not_told_of_one_that_gets_on_with_other_answers() -> None:
    ear = Ear()

    def other() -> None:
        use = ear.runtime.begin(ENGINE, ear.clock.now())
        ear.clock.advance(0.01)
        use.pace.heard_at = ear.clock.now()

    _, error = await ear.until("a", other, None)
    assert isinstance(error, EngineStalled)
    assert ear.caller.told == []


@pytest.mark.parametrize("reason", [ActorDied("no supervisor"), Overloaded("too much at once")])
async def test_a_stall_is_one_also_where_the_supervisor_cannot_be_told(reason: NoyauError) -> None:
    ear = Ear()
    ear.caller.telling_fails = reason
    _, error = await ear.until(None)
    assert isinstance(error, EngineStalled)


async def test_what_came_while_this_process_stood_still_is_read_first() -> None:
    ear = Ear()
    # Its alarm comes a second late, and then there is text.
    assert await ear.until("a", 1.0, None, "b") == ("ab", None)


async def test_after_a_pause_of_its_own_an_engine_that_says_nothing_has_stalled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actors.orchestrator.listening.OWN_PAUSE_S", 0.05)
    text, error = await Ear().until("a", 1.0, None, None)
    assert (text, type(error)) == ("a", EngineStalled)


async def test_garbage_ends_it_and_nothing_of_it_is_heard() -> None:
    ear = Ear()
    text, error = await ear.until("good", REPLACEMENT, REPLACEMENT, REPLACEMENT, "more")
    assert (text, type(error)) == ("good", EngineGarbage)
    assert ear.breaker.failures == 1


async def test_a_bad_character_that_ends_an_answer_is_heard() -> None:
    assert await Ear().hears("a", REPLACEMENT) == f"a{REPLACEMENT}"


async def test_an_error_of_the_engine_is_raised_after_what_it_said() -> None:
    ear = Ear()
    text, error = await ear.until("a", EngineFailed("no"))
    assert (text, type(error), ear.breaker.failures) == ("a", EngineFailed, 1)


async def test_a_refusal_of_the_question_is_no_failure() -> None:
    ear = Ear()
    await ear.until(InvalidRequest("too long"))
    assert (ear.breaker.failures, ear.breaker.ignored) == (0, 1)


async def test_who_stops_early_closes_the_stream_and_says_nothing_of_the_engine() -> None:
    ear = Ear()
    stream = ear.caller.says(ENGINE.name, "a", "b")
    said = ear.listening.listen(ENGINE, ASKED, lambda: True)
    async with contextlib.aclosing(said) as pieces:
        await anext(pieces)
    assert stream.closed
    assert (ear.breaker.ignored, ear.breaker.successes, ear.running) == (1, 0, 0)


async def test_a_stream_that_cannot_be_begun_is_a_failure_too() -> None:
    ear = Ear()

    async def refuse(*_: object) -> None:
        raise ActorDied("killed", actor=ENGINE.name, epoch=ENGINE.epoch)

    ear.caller.stream = refuse  # type: ignore[method-assign, assignment]
    _, error = await ear.until()
    assert (type(error), ear.breaker.failures, ear.running) == (ActorDied, 1, 0)


# --- probes ---------------------------------------------------------------------------------------


async def test_what_became_of_a_breaker_is_published() -> None:
    ear = Ear()
    await ear.opened()
    await ear.until("a")
    await ear.until("b")
    assert [what for what, _ in ear.events] == [
        "breaker.open", "breaker.half_open", "breaker.closed",
    ]  # fmt: skip
    assert {data["engine"] for _, data in ear.events} == {ENGINE.name}


async def test_a_probe_has_no_more_time_than_its_lease() -> None:
    ear = Ear(WatchdogSettings())
    await ear.opened()
    _, error = await ear.until(reading(1, 2), None)
    assert isinstance(error, EngineStalled)
    assert "to show in time" in error.message
    assert ear.breaker.state is BreakerState.OPEN
    # A probe's time is the breaker's, and says nothing of a hang.
    assert ear.caller.told == []


async def test_a_probe_goes_on_where_no_other_engine_could_and_has_failed_all_the_same() -> None:
    ear = Ear(WatchdogSettings())
    ear.is_another = False
    await ear.opened()
    states: list[BreakerState] = []
    look: Step = lambda: states.append(ear.breaker.state)  # noqa: E731
    assert await ear.until(reading(1, 2), 10.0, look, "a", 10.0, "b") == ("ab", None)
    assert states == [BreakerState.OPEN]


@pytest.mark.parametrize("late", ["reading", "text"])
async def test_an_engine_that_comes_later_cuts_no_probe_that_was_let_go_on(late: str) -> None:
    ear = Ear(WatchdogSettings())
    ear.is_another = False
    await ear.opened()
    comes: Step = lambda: setattr(ear, "is_another", True)  # noqa: E731
    if late == "reading":
        steps: tuple[Step, ...] = (10.0, reading(1, 2), comes, 10.0, "a", "b")
    else:
        steps = (10.0, "a", comes, 10.0, "b")
    assert await ear.until(*steps) == ("ab", None)


async def test_an_answer_may_take_any_time_once_its_text_flows_from_a_probe() -> None:
    ear = Ear(WatchdogSettings())
    await ear.opened()
    assert await ear.until("a", 10.0, "b", 10.0, "c") == ("abc", None)
    assert ear.breaker.state is BreakerState.HALF_OPEN


async def test_what_may_be_garbage_is_no_text_that_flows_from_a_probe() -> None:
    ear = Ear(WatchdogSettings())
    await ear.opened()
    passed: list[int] = []
    look: Step = lambda: passed.append(ear.breaker.success_count)  # noqa: E731
    _, error = await ear.until(REPLACEMENT, look, REPLACEMENT * 2)
    assert isinstance(error, EngineGarbage)
    assert passed == [0]
    assert ear.breaker.state is BreakerState.OPEN
