"""An answer's way through the engines, with engines that say as told."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

import pytest

from actors.orchestrator.acceptance import Accepted
from actors.orchestrator.answer import AnswerInProgress
from actors.orchestrator.generating import Engines
from actors.orchestrator.wanted import Wanted
from configs import load_settings
from protocol.clock import ManualClock
from protocol.errors import (
    AssetUnavailable,
    DeadlineExceeded,
    EngineFailed,
    NoyauError,
    OptionalAssetMissing,
    Overloaded,
    UnusableModel,
    WouldBeDegraded,
)
from protocol.lifecycle import ActorState
from protocol.messages.engine import ChatMessage, Generate, Stage, Tokens
from tests.support.engines import END, ScriptedCaller, as_caller, entry

GPU = entry("gpu_engine", "g-1", models=["default", "big"])
CPU = entry("cpu_engine", "c-1")


class AlwaysAccepted:
    """A row that is there at once."""

    suspect = False
    may_exist = False

    def begin(self) -> None: ...

    async def committed(self) -> None: ...


class World:
    """Engines, and answers that are made by them."""

    def __init__(self, *assignments: str) -> None:
        self.clock = ManualClock(100.0)
        self.caller = ScriptedCaller(self.clock, GPU, CPU)
        settings = load_settings(environ={}, assignments=['device.profile="lite"', *assignments])
        self.engines = Engines(as_caller(self.caller), self.clock, settings, lambda *a, **b: None)

    def answering(self, *, accepted: bool = False, **wanted: Any) -> tuple[AnswerInProgress, Any]:
        answer = AnswerInProgress("q", "", self.clock.now(), 16)
        step = Generate(
            messages=[ChatMessage(role="user", content="Go on.")], model=wanted.pop("model", "")
        )
        asked = Wanted(step, until=wanted.pop("until", 200.0), **wanted)
        row = AlwaysAccepted()
        row.may_exist = accepted
        return answer, self.engines.generate(asked, answer, cast(Accepted, row))

    async def answer(self, **wanted: Any) -> AnswerInProgress:
        answer, pieces = self.answering(**wanted)
        async for _ in pieces:
            pass
        return answer


async def test_an_answer_goes_on_with_the_next_engine_from_the_text_so_far() -> None:
    world = World()
    world.caller.says(GPU.name, "one ", "two ", EngineFailed("no"))
    world.caller.says(CPU.name, "three")
    answer = await world.answer()
    assert answer.text == "one two three"
    (_, first), (_, second) = world.caller.asked
    assert first.begun is None
    assert second.begun is not None
    assert second.begun.text == "one two "
    assert [one.position for one in answer.failovers] == [8]


async def test_who_leaves_in_the_middle_closes_the_stream_and_gives_its_turn_back() -> None:
    world = World()
    stream = world.caller.says(GPU.name, "one ", "two ")
    _, pieces = world.answering()
    async with contextlib.aclosing(pieces):
        await anext(pieces)
    queue, engines = world.engines.status()
    assert stream.closed
    assert (queue.running, queue.finished) == (0, 1)
    assert [one.running for one in engines] == [0, 0]
    assert engines[0].breaker.ignored == 1


async def test_who_is_cancelled_in_the_middle_does_too() -> None:
    world = World()
    stream = world.caller.says(GPU.name, None)
    task = asyncio.create_task(world.answer())
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    queue, engines = world.engines.status()
    assert (stream.closed, queue.running, engines[0].running) == (True, 0, 0)


async def test_an_engine_without_a_free_slot_is_asked_again_in_a_moment() -> None:
    world = World()
    world.caller.says(GPU.name, Overloaded("full", retry_after_s=0.0))
    world.caller.says(GPU.name, "one")
    answer = await world.answer()
    assert (answer.text, answer.failovers) == ("one", [])


async def test_but_not_past_the_deadline_however_long_it_wants_to_be_waited_for() -> None:
    world = World()
    for _ in range(3):
        world.caller.says(GPU.name, 0.99, Overloaded("full", retry_after_s=3600.0))
    with pytest.raises(DeadlineExceeded):
        await world.answer(until=101.0)


async def test_what_was_accepted_takes_the_place_of_what_was_not_yet() -> None:
    world = World("admission.max_waiting=1")
    world.caller.says(GPU.name, "one", None)
    running = [world.answering()[1]]
    await anext(running[0])
    for _ in range(3):
        world.caller.says(GPU.name, "one", None)
        running.append(world.answering()[1])
        await anext(running[-1])
    newcomer = asyncio.create_task(anext(world.answering()[1]))
    await asyncio.sleep(0)
    resumed = asyncio.create_task(anext(world.answering(accepted=True)[1]))
    with pytest.raises(Overloaded):
        await newcomer
    world.caller.says(GPU.name, "two")
    await running[0].aclose()
    assert (await resumed).text == "two"
    for one in running:
        await one.aclose()


async def test_an_answer_that_says_the_same_over_and_over_is_ended() -> None:
    world = World("query.repetition_chars=256")
    stream = world.caller.says(GPU.name, *["again and again "] * 100)
    answer = await world.answer()
    told = answer.finish(100.0, "lite")
    assert told.finish_reason == "repetition"
    assert (told.engine, told.device) == ("gpu_engine.g-1", "gpu")
    assert stream.closed
    assert len(answer.text) < 400


# --- models ---------------------------------------------------------------------------------------


async def test_an_answer_without_the_model_that_was_asked_for_says_so() -> None:
    world = World()
    world.caller.says(GPU.name, "one ", EngineFailed("no"))
    world.caller.says(CPU.name, "two")
    answer = await world.answer(model="big")
    assert answer.missing == ["without the model big: cpu_engine has none by that name"]
    assert [asked.model for _, asked in world.caller.asked] == ["big", ""]


async def test_and_is_refused_where_nothing_may_be_missing() -> None:
    world = World()
    world.caller.says(GPU.name, "one ", EngineFailed("no"))
    with pytest.raises(WouldBeDegraded, match="without the model big"):
        await world.answer(model="big", undegraded=True)


async def test_the_models_are_those_of_all_engines() -> None:
    assert World().engines.models == {"default", "big"}


async def test_an_engine_that_is_being_started_again_still_has_its_models() -> None:
    world = World()
    assert "big" in world.engines.models
    away = GPU.model_copy(update={"epoch": "", "state": ActorState.STARTING, "info": {}})
    world.caller.directory.apply([away])
    assert "big" in world.engines.models
    world.caller.directory.apply([away.model_copy(update={"state": ActorState.FAILED})])
    assert world.engines.models == {"default"}


async def test_as_long_as_one_has_not_said_what_it_has_the_models_are_not_known() -> None:
    world = World()
    away = GPU.model_copy(update={"epoch": "", "state": ActorState.STARTING, "info": {}})
    world.caller.directory.apply([away])
    assert world.engines.models == set()


# --- what was used --------------------------------------------------------------------------------


def end(prompt: int, made: int, cached: int = 0) -> Any:
    return END.model_copy(
        update={"prompt_tokens": prompt, "completion_tokens": made, "cached_tokens": cached}
    )


async def test_what_an_engine_went_on_from_is_no_part_of_the_prompt() -> None:
    world = World()
    world.caller.says(GPU.name, "one ", "two ", EngineFailed("no"))
    world.caller.says(CPU.name, "three", end(12, 1, cached=11))
    used = (await world.answer()).finish(100.0, "lite").usage
    assert (used.prompt_tokens, used.completion_tokens, used.cached_tokens) == (10, 3, 10)


async def test_nor_do_tokens_that_were_made_and_not_said_add_to_it() -> None:
    world = World()
    # Of four tokens two were a stop string.
    world.caller.says(GPU.name, "one ", "two ", end(10, 4))
    used = (await world.answer()).finish(100.0, "lite").usage
    assert (used.prompt_tokens, used.completion_tokens) == (10, 2)


NOT_HERE = AssetUnavailable("big could not be fetched: no network")
OPTIONAL = OptionalAssetMissing("big, which is optional, cannot be had now: no network")


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (OPTIONAL, {}),
        (NOT_HERE, {"model_may_lack": True}),
        (UnusableModel("big is no model"), {"model_may_lack": True}),
    ],
)
async def test_the_default_model_answers_where_the_one_asked_for_may_lack(
    error: NoyauError, wanted: dict[str, Any]
) -> None:
    world = World()
    world.caller.says(GPU.name, error)
    world.caller.says(GPU.name, "by the default")
    answer = await world.answer(model="big", **wanted)
    assert answer.text == "by the default"
    assert [asked.model for _, asked in world.caller.asked] == ["big", ""]
    assert answer.missing == [f"without the model big: {error.message}"]
    assert answer.failovers == []


async def test_a_model_that_the_query_names_and_that_is_required_is_refused() -> None:
    world = World()
    world.caller.says(GPU.name, NOT_HERE)
    with pytest.raises(AssetUnavailable, match="no network"):
        await world.answer(model="big")


async def test_an_answer_that_was_begun_goes_on_without_its_model() -> None:
    world = World()
    world.caller.says(GPU.name, "one ", EngineFailed("no"))
    world.caller.says(CPU.name, NOT_HERE)
    world.caller.says(CPU.name, "two")
    cpu = entry("cpu_engine", "c-1", models=["default", "big"])
    world.caller.directory.entries[CPU.name] = cpu
    answer = await world.answer(model="big")
    assert answer.text == "one two"
    assert answer.missing == [f"without the model big: {NOT_HERE.message}"]


async def test_who_wants_nothing_worse_is_refused_rather_than_answered_by_the_default() -> None:
    world = World()
    world.caller.says(GPU.name, OPTIONAL)
    with pytest.raises(WouldBeDegraded, match="without the model big"):
        await world.answer(model="big", undegraded=True)


async def test_the_default_model_that_cannot_be_had_is_an_error() -> None:
    world = World()
    world.caller.says(GPU.name, OPTIONAL)
    with pytest.raises(OptionalAssetMissing):
        await world.answer(model_may_lack=True)


LACKING = entry("gpu_engine", "g-1", lacks={"default": "without big: small answers"})


async def test_a_lack_of_an_engine_that_said_nothing_is_no_lack_of_the_answer() -> None:
    world = World()
    world.caller.directory.entries[GPU.name] = LACKING
    world.caller.says(GPU.name, EngineFailed("no"))
    world.caller.says(CPU.name, "all of it")
    assert (await world.answer()).missing == []


async def test_a_lack_of_an_engine_that_said_some_of_it_is_the_answers() -> None:
    world = World()
    world.caller.directory.entries[GPU.name] = LACKING
    world.caller.says(GPU.name, "some ", EngineFailed("no"))
    world.caller.says(CPU.name, "of it")
    assert (await world.answer()).missing == ["without big: small answers"]


async def test_who_wants_nothing_worse_is_answered_by_an_engine_that_lacks_nothing() -> None:
    world = World()
    world.caller.directory.entries[GPU.name] = LACKING
    world.caller.says(CPU.name, "all of it")
    answer = await world.answer(undegraded=True)
    assert (answer.text, answer.missing) == ("all of it", [])


def loaded(lack: str) -> Tokens:
    return Tokens(count=0, stage=Stage(what="loaded", lack=lack))


async def test_a_lack_of_a_model_that_was_loaded_for_the_answer_is_told() -> None:
    world = World()
    world.caller.says(GPU.name, loaded("without big: small answers"), "an answer")
    answer = await world.answer(model="big")
    assert (answer.text, answer.missing) == ("an answer", ["without big: small answers"])


async def test_a_lack_of_a_model_that_was_loaded_refuses_an_answer_that_must_not_be_worse() -> None:
    world = World()
    world.caller.says(GPU.name, loaded("without big: small answers"), "an answer")
    with pytest.raises(WouldBeDegraded, match="without big: small answers"):
        await world.answer(model="big", undegraded=True)
