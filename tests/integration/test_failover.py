"""Two engines: what one of them cannot finish, the other one goes on with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncGenerator, Iterator

import pytest

from noyau import Answer, Client, Query
from protocol.errors import CircuitOpen, EngineFailed, InvalidRequest, NotFound, WouldBeDegraded
from protocol.lifecycle import ActorState, Health
from protocol.messages.engine import Format, Misbehave, Misbehaviour
from protocol.messages.orchestrator import Function, GetRuntime, RuntimeStatus
from tests.support.events import watching
from tests.support.system import System, connect, pid_of, running, shared, status_when

CPU, GPU = (
    tuple(
        f"actors.{name}.settings.{setting}"
        for setting in ("backend=simulated", "simulated_token_s=0.001")
    )
    for name in ("cpu_engine", "gpu_engine")
)
SHORT_S, LONG_S = 1.0, 3600.0
"""That a breaker is open: it is over soon; it is not over before the test is."""
SETTINGS = (
    # No engine that a busy machine holds up is taken for stalled.
    *CPU, *GPU, "watchdog.decode_s=60", "watchdog.min_s=60", "engine_breaker.failures=3",
    f"engine_breaker.open_s={SHORT_S}", "engine_breaker.probe_s=60", "restart.max_restarts=1000",
    # Whether an engine is unhealthy besides is not what these tests are about.
    "health.min_calls=100000", "health.failures_in_a_row=1000",
    "supervisor.heartbeat_missed_after_s=60",
    'actors.orchestrator.settings.experts={poet = { system_prompt = "Rhyme.", max_tokens = 7 }}',
)  # fmt: skip
IMPATIENT = ("watchdog.decode_s=2", "watchdog.min_s=2")
"""For those that are to stall."""
LATE_TOKENS, ALL_TOKENS = 400, 460
"""An engine that dies at once takes with it what it has not sent, and text that comes together with
garbage is garbage too. So late in an answer, text of it was said long before."""
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": LATE_TOKENS},
        "age": {"type": "integer"},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = Function(name="weather", description="The weather of a place.", parameters={
    "type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"],
    "additionalProperties": False,
})  # fmt: skip


def failing(how: str) -> str:
    """The setting by which the GPU engine fails in all answers."""
    return f"actors.gpu_engine.settings.simulated_failure={how}"


def words(**more: object) -> Query:
    plain = {"text": "Go on.", "max_tokens": 60, "memories": False, "tools": False}
    return Query.model_validate({**plain, **more})


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with shared(*SETTINGS) as found:
        yield found


@pytest.fixture(scope="module")
def impatient() -> Iterator[System]:
    with shared(*SETTINGS, *IMPATIENT) as found:
        yield found


@contextlib.asynccontextmanager
async def well(system: System) -> AsyncGenerator[Client, None]:
    """A client of it, once both engines are well."""
    async with await connect(system) as found:
        await status_when(found, lambda status: all(
            actor.state is ActorState.READY and actor.health is Health.HEALTHY
            for actor in status.actors if actor.name.endswith("_engine")
        ))  # fmt: skip
        # Answers that end well take the failures of others off the breaker's count.
        while not _all_closed(await found.ask(GetRuntime())):
            await found.ask(words(max_tokens=1))
            await found.caller.wait_for_news(found.caller.clock.now() + 0.05)
        yield found


def _all_closed(runtime: RuntimeStatus) -> bool:
    return all(
        engine.breaker.state == "closed" and engine.breaker.failure_count == 0
        for engine in runtime.engines
    )


async def uninterrupted(client: Client, query: Query) -> Answer:
    whole = await client.ask(query.model_copy(update={"id": f"{query.id}x"}))
    assert [use.device for use in whole.metadata.engines] == ["gpu"]
    assert whole.metadata.seams == []
    assert not whole.metadata.degraded
    return whole


async def spoil(
    client: Client, how: Misbehaviour, after_tokens: int = 20, answers: int = 1
) -> None:
    order = Misbehave(how=how, after_tokens=after_tokens, answers=answers)
    await client.ask(order, to="gpu_engine")


async def test_the_gpu_engine_answers_where_it_is_and_is_marked_as_simulated(
    system: System,
) -> None:
    async with well(system) as client:
        whole = await uninterrupted(client, words())
        assert len(whole.text.split()) == 60
        told = whole.metadata
        assert {use.backend for use in told.engines} == {"simulated"}
        assert (told.device, told.profile, told.failovers) == ("gpu", "full", [])
        assert told.engine.startswith("gpu_engine.")
        assert told.usage.completion_tokens == 60
        assert told.usage.prompt_tokens > 0


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("fail", "engine_failed"),
        ("die", "actor_died"),
        ("garble", "engine_garbage"),
        ("out_of_memory", "engine_out_of_memory"),
        ("nan", "engine_garbage"),
    ],
)
async def test_when_the_gpu_engine_fails_in_mid_answer_the_cpu_engine_goes_on(
    system: System, how: Misbehaviour, code: str
) -> None:
    async with well(system) as client:
        await the_cpu_engine_goes_on(client, how, code)


async def test_when_the_gpu_engine_stalls_in_mid_answer_the_cpu_engine_goes_on(
    impatient: System,
) -> None:
    async with well(impatient) as client:
        await the_cpu_engine_goes_on(client, "stall", "engine_stalled")


async def the_cpu_engine_goes_on(client: Client, how: Misbehaviour, code: str) -> None:
    whole = await uninterrupted(client, query := words(max_tokens=ALL_TOKENS))
    await spoil(client, how, LATE_TOKENS)
    cut = await client.ask(query)
    told = cut.metadata
    assert cut.text == whole.text
    (seam,) = told.seams
    assert seam.lost.startswith("gpu_engine.")
    assert 0 < len(cut.text[: seam.position].split()) <= LATE_TOKENS
    (lost,) = told.failovers
    assert (lost.code, lost.engine, lost.position) == (code, seam.lost, seam.position)
    assert (told.device, told.engines[-1].device) == ("cpu", "cpu")
    assert told.engines[-1].completion_tokens >= ALL_TOKENS - LATE_TOKENS
    assert told.degraded
    assert any("without the GPU" in what for what in told.missing)
    assert told.usage.completion_tokens == ALL_TOKENS


@pytest.mark.parametrize("how", ["fail", "die", "garble"])
async def test_json_that_was_cut_goes_on_within_its_schema(
    system: System, how: Misbehaviour
) -> None:
    async with well(system) as client:
        query = words(format=Format(json_schema=PERSON), max_tokens=ALL_TOKENS)
        whole = await uninterrupted(client, query)
        await spoil(client, how, LATE_TOKENS)
        cut = await client.ask(query)
        assert len(cut.metadata.seams) == 1
        assert cut.text == whole.text
        assert json.loads(cut.text).keys() == {"name", "age"}


async def test_a_function_call_that_was_cut_is_made_once(system: System) -> None:
    async with well(system) as client:
        query = words(functions=[WEATHER], function_choice="required")
        await spoil(client, "fail", after_tokens=25)
        pieces = []
        async with client.stream(query) as stream:
            async for piece in stream:
                pieces.append(piece)
        assert stream.end is not None
        assert len(stream.end.seams) == 1
        assert all(piece.is_call for piece in pieces)
        (call,) = stream.end.calls
        assert (call.name, json.loads(call.arguments).keys()) == ("weather", {"place"})
        assert stream.end.finish_reason == "calls"
        assert (await client.ask(query)).text == ""


async def test_an_answer_that_may_not_be_degraded_is_refused_where_it_would_be(
    system: System,
) -> None:
    async with well(system) as client:
        fine = await client.ask(words(fail_if_degraded=True))
        assert not fine.metadata.degraded
        # In the middle of it, and before it begins.
        for after_tokens in (20, 0):
            await spoil(client, "fail", after_tokens, answers=10)
            with pytest.raises(WouldBeDegraded, match="failed too often"):
                await client.ask(words(fail_if_degraded=True))
            await spoil(client, "none")
        async with running(*SETTINGS, "device.profile=lite") as lite, await connect(lite) as other:
            assert not (await other.ask(words(fail_if_degraded=True))).metadata.degraded


async def fail_again_and_again(client: Client) -> None:
    await spoil(client, "fail", after_tokens=5, answers=3)
    for _ in range(3):
        await client.ask(words())


async def test_an_engine_that_fails_again_and_again_is_left_alone() -> None:
    async with (
        running(*SETTINGS, f"engine_breaker.open_s={LONG_S}") as system,
        well(system) as client,
    ):
        await fail_again_and_again(client)
        passed_over = (await client.ask(words())).metadata
        assert [use.device for use in passed_over.engines] == ["cpu"]
        assert [(one.engine, one.code) for one in passed_over.failovers] == [
            ("gpu_engine", "circuit_open")
        ]
        assert passed_over.degraded
        gpu, cpu = (await client.ask(GetRuntime())).engines
        assert (gpu.breaker.state, cpu.breaker.state) == ("open", "closed")
        assert gpu.breaker.rejections >= 1
        assert gpu.breaker.opens_for_s is not None
        assert 0 < gpu.breaker.opens_for_s <= LONG_S


async def test_an_engine_that_was_left_alone_is_probed_and_then_asked_again() -> None:
    async with (
        running(*SETTINGS) as system,
        well(system) as client,
        watching(client, "breaker.") as told,
    ):
        await fail_again_and_again(client)
        async with asyncio.timeout(60):
            while (await client.ask(words())).metadata.device != "gpu":
                await client.caller.wait_for_news(client.caller.clock.now() + 0.05)
            while not _all_closed(await client.ask(GetRuntime())):
                await client.ask(words())
            await told.until("breaker.closed")
        assert told.names == ["breaker.open", "breaker.half_open", "breaker.closed"]


async def test_a_stalled_engine_is_told_to_the_supervisor(impatient: System) -> None:
    async with well(impatient) as client, watching(client, "actor.stalled") as told:
        await client.ask(words())
        await spoil(client, "stall")
        assert (await client.ask(words())).metadata.device == "cpu"
        await told.until("actor.stalled")


async def test_an_expert_answers_and_one_that_is_not_there_is_told(system: System) -> None:
    async with well(system) as client:
        poem = await client.ask(words(expert="poet", max_tokens=None, explain=True))
        assert len(poem.text.split()) == 7
        assert poem.metadata.expert == "poet"
        assert poem.metadata.prompt[0].content == "Rhyme."
        without = (await client.ask(words(expert="painter"))).metadata
        assert without.expert == ""
        assert without.degraded
        assert "without the expert painter" in without.missing[0]
        assert "there are: poet" in without.missing[0]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"format": {"json_schema": {"type": "nosuch"}}}, "Invalid type: nosuch"),
        ({"format": {"grammar": "root ::= ("}}, "the grammar is not usable"),
        ({"format": {"json_schema": {}, "grammar": 'root ::= "a"'}}, "not both"),
        ({"functions": [WEATHER, WEATHER]}, "same name"),
        ({"function_choice": "rain", "functions": [WEATHER]}, "there are: .*weather"),
        ({"function_choice": "required"}, "no functions are given"),
        ({"functions": [WEATHER], "format": {"json_schema": {}}}, "not both"),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_the_reason(
    system: System, wrong: dict[str, object], reason: str
) -> None:
    async with well(system) as client:
        with pytest.raises(InvalidRequest, match=reason):
            await client.ask(words(**wrong))


async def test_a_model_that_no_engine_has_is_refused_with_those_there_are(system: System) -> None:
    async with well(system) as client:
        with pytest.raises(NotFound, match="there are: default"):
            await client.ask(words(model="nothing"))


BROKEN = (
    *CPU, *GPU, failing("fail"), failing("fail").replace("gpu", "cpu"),
    "query.max_continuations=1", "query_breaker.failures=2", "engine_breaker.failures=1000",
)  # fmt: skip


async def ask_in_vain(client: Client) -> None:
    for _ in range(2):
        with pytest.raises(EngineFailed, match="gave up after 2 lost engines"):
            await client.ask(words())


async def test_when_nothing_can_be_answered_that_is_said_at_once() -> None:
    async with (
        running(*BROKEN, f"query_breaker.open_s={LONG_S}") as system,
        await connect(system) as client,
    ):
        await ask_in_vain(client)
        with pytest.raises(CircuitOpen) as refused:
            await client.ask(words())
        assert 0 < refused.value.details["retry_after_s"] <= LONG_S
        assert (await client.ask(GetRuntime())).queries.state == "open"


async def test_what_can_be_answered_again_is_tried_after_a_while() -> None:
    async with (
        running(*BROKEN, f"query_breaker.open_s={SHORT_S}") as system,
        await connect(system) as client,
        watching(client, "breaker.") as told,
    ):
        await ask_in_vain(client)
        for name in ("cpu_engine", "gpu_engine"):
            await client.ask(Misbehave(how="none"), to=name)
        async with asyncio.timeout(60):
            while (await client.ask(GetRuntime())).queries.state != "closed":
                with contextlib.suppress(CircuitOpen):
                    await client.ask(words())
            await told.until("breaker.closed")
        assert told.names == ["breaker.open", "breaker.half_open", "breaker.closed"]


async def test_without_a_gpu_its_engine_is_unavailable_and_the_system_healthy() -> None:
    if any(os.path.exists(f"/dev/{name}") for name in ("nvidia0", "kfd", "dri", "dxg")):
        pytest.skip("this machine may have a GPU")
    async with running(*CPU) as system, await connect(system) as client:
        # An event loop that was late is told until the next heartbeat.
        found = await status_when(client, lambda status: status.health is Health.HEALTHY)
        gpu = next(actor for actor in found.actors if actor.name == "gpu_engine")
        assert (gpu.state, gpu.health) == (ActorState.UNAVAILABLE, Health.HEALTHY)
        assert "no GPU" in gpu.reason
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid_of(found, "gpu_engine"), signal.SIGKILL)
        answer = await client.ask(words())
        assert [use.device for use in answer.metadata.engines] == ["cpu"]
