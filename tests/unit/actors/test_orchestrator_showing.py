"""What others see of queue, engines and breakers; what a query weighs; what fits a context."""

from __future__ import annotations

from typing import Any, cast

import pytest

from actors.orchestrator.admission import AdmissionQueue
from actors.orchestrator.admission_terms import AdmissionPolicy, Capacity, Ticket
from actors.orchestrator.answer import AnswerInProgress
from actors.orchestrator.breaker import CircuitBreaker
from actors.orchestrator.circuit import BreakerPolicy
from actors.orchestrator.fitting import TEMPLATE_TOKENS, Fitter
from actors.orchestrator.runtime import Engine
from actors.orchestrator.showing import breaker_status, engine_status, queue_status
from actors.orchestrator.verdicts import Verdict
from actors.orchestrator.wanted import FILLED_TOKENS, Wanted
from protocol.caller import Caller
from protocol.envelope import Priority
from protocol.errors import ActorDied, DeadlineExceeded, EngineFailed, NoyauError
from protocol.lifecycle import ActorState
from protocol.messages.engine import ChatMessage, CountTokens, Generate, Sampling, TokenCounts
from tests.support.engines import entry

POLICY = BreakerPolicy(failures=1, open_s=60)


def test_a_breaker_is_shown_with_ages_instead_of_times() -> None:
    breaker = CircuitBreaker("b", POLICY)
    known = breaker_status(breaker, 1000.0)
    assert (known.state, known.opens_for_s, known.last_failure_s) == ("closed", None, None)
    breaker.release(breaker.force(1000.0), Verdict.FAILURE, 1000.0)
    known = breaker_status(breaker, 1010.0)
    assert (known.state, known.opens_for_s, known.last_failure_s) == ("open", 50.0, 10.0)
    known = breaker_status(breaker, 1060.0)
    assert (known.state, known.opens_for_s) == ("half_open", None)


def test_an_engine_is_shown_as_the_directory_has_it() -> None:
    engine = Engine("gpu_engine", POLICY)
    engine.running = 2
    known = engine_status("gpu_engine", engine, entry("gpu_engine", model="m", backend="b"), 0.0)
    assert (known.device, known.model, known.slots, known.running) == ("gpu", "m", 4, 2)


def test_an_engine_that_the_directory_does_not_have_is_stopped() -> None:
    known = engine_status("gpu_engine", Engine("gpu_engine", POLICY), None, 0.0)
    assert (known.state, known.epoch, known.slots) == (ActorState.STOPPED, "", 0)


def test_the_queue_is_shown_by_priority() -> None:
    queue: AdmissionQueue[str] = AdmissionQueue(AdmissionPolicy(), Capacity(1))
    for key, priority in [("a", Priority.NORMAL), ("b", Priority.LOW), ("c", Priority.LOW)]:
        queue.enter(Ticket(key, priority, cost=5), 0.0)
    known = queue_status(queue.metrics(), 0.0)
    assert known.waiting == {"critical": 0, "high": 0, "normal": 0, "low": 2}
    assert (known.running, known.slots, known.tokens) == (1, 1, 5)
    assert known.overloaded_for_s is None


# --- what is wanted -------------------------------------------------------------------------------


def turn(content: str, role: str = "user") -> ChatMessage:
    return ChatMessage.model_validate({"role": role, "content": content})


def test_a_query_weighs_its_prompt_and_its_longest_answer() -> None:
    step = Generate(messages=[turn("x" * 400), turn("y" * 4)], sampling=Sampling(max_tokens=10))
    assert Wanted(step, until=0).cost == 101 + 10


def test_filling_in_a_tool_is_wanted_in_the_same_turn_and_of_the_same_model() -> None:
    step = Generate(messages=[turn("q")], model="big")
    wanted = Wanted(step, until=7, priority=Priority.LOW, client="c", undegraded=True)
    filled = wanted.to_fill([turn("fill in")], {"type": "object"})
    assert (filled.until, filled.priority, filled.client) == (7, Priority.LOW, "c")
    assert filled.undegraded
    assert filled.step.model == "big"
    assert filled.step.sampling.max_tokens == FILLED_TOKENS
    assert filled.step.sampling.temperature == 0
    assert filled.step.format is not None
    assert filled.step.format.json_schema == {"type": "object"}


# --- what fits ------------------------------------------------------------------------------------


class Counting:
    """An engine that counts words, or does not."""

    def __init__(self, error: NoyauError | None = None) -> None:
        self.error = error
        self.asked = 0

    async def ask(self, name: str, message: CountTokens, *, again: bool) -> TokenCounts:
        assert not again
        self.asked += 1
        if self.error is not None:
            raise self.error
        return TokenCounts(counts=[len(text.split()) for text in message.texts])


TURNS = [turn("w " * 50), turn("w " * 50, "assistant"), turn("w " * 50)]


async def fitting(
    turns: list[ChatMessage], context: int | None, error: NoyauError | None = None
) -> tuple[int, int, int]:
    """How many turns are kept and dropped, and how often was counted."""
    caller = Counting(error)
    answer = AnswerInProgress("q", "", 0.0, 16)
    info: dict[str, Any] = {} if context is None else {"context_tokens": context}
    step = Generate(messages=turns, sampling=Sampling(max_tokens=8))
    kept = await Fitter(cast(Caller, caller)).fitting(entry("cpu_engine", **info), step, answer)
    assert kept == turns[len(turns) - len(kept) :]
    return len(kept), answer.dropped_turns, caller.asked


@pytest.mark.parametrize("context", [None, 10_000])
async def test_what_surely_fits_is_not_counted(context: int | None) -> None:
    assert await fitting(TURNS, context) == (3, 0, 0)


async def test_one_turn_alone_is_never_left_out() -> None:
    assert await fitting(TURNS[:1], 8) == (1, 0, 0)


async def test_what_may_not_fit_is_counted_and_kept_where_it_does() -> None:
    assert await fitting(TURNS, 3 * (50 + TEMPLATE_TOKENS) + 8) == (3, 0, 1)


async def test_the_oldest_turns_are_left_out_where_it_does_not() -> None:
    kept, dropped, _ = await fitting(TURNS, 3 * (50 + TEMPLATE_TOKENS))
    assert (kept, dropped) == (1, 2)


async def test_bytes_are_counted_where_the_engine_does_not() -> None:
    assert (await fitting(TURNS, 220, EngineFailed("no")))[:2] == (1, 2)


@pytest.mark.parametrize("error", [ActorDied("dead"), DeadlineExceeded("over")])
async def test_a_death_over_it_is_one_over_the_answer(error: NoyauError) -> None:
    with pytest.raises(type(error)):
        await fitting(TURNS, 220, error)
