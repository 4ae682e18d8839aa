"""Device profiles in a running noyau."""

from __future__ import annotations

from noyau import Client, Query
from protocol.lifecycle import ActorState, Health, Profile
from protocol.messages.memory import Remember
from protocol.messages.supervisor import Status
from tests.integration.test_failover import CPU, GPU
from tests.support.system import connect, running, status_when


def state_of(status: Status, name: str) -> tuple[ActorState, Health, str]:
    return next((a.state, a.health, a.reason) for a in status.actors if a.name == name)


def go_on(max_tokens: int) -> Query:
    """A query that lacks nothing, however late memory or tool_user would answer."""
    return Query(text="Go on.", max_tokens=max_tokens, memories=False, tools=False)


async def profile_of_an_answer(client: Client) -> tuple[Profile, list[str]]:
    told = (await client.ask(go_on(5))).metadata
    assert told.degraded is bool(told.missing)
    return told.profile, told.missing


async def test_in_micro_no_model_runs_and_tools_and_memory_answer() -> None:
    async with running("device.profile=micro") as system, await connect(system) as client:
        found = await status_when(client, lambda found: found.health is Health.HEALTHY)
        assert found.profile == "micro"
        for engine in ("cpu_engine", "gpu_engine"):
            state, health, reason = state_of(found, engine)
            assert (state, health) == (ActorState.UNAVAILABLE, Health.HEALTHY)
            assert "no language model" in reason or "no GPU" in reason
        exact = await client.ask("what is 17.5 % of 2,340?")
        assert exact.text == "409.5"
        await client.caller.ask("memory", Remember(text="The key is under the blue flowerpot."))
        remembered = await client.ask("Where is the key?")
        assert remembered.text.startswith("No language model runs here")
        assert "- The key is under the blue flowerpot." in remembered.text
        told = remembered.metadata
        assert (told.profile, told.engines, told.degraded) == ("micro", [], False)
        nothing = await client.ask("Who wrote Hamlet?")
        assert "neither a tool nor memory" in nothing.text


async def test_a_conversation_in_micro_is_kept_like_any_other() -> None:
    async with running("device.profile=micro") as system, await connect(system) as client:
        first = await client.ask(Query(text="6 * 7", conversation=""))
        again = await client.ask(
            Query(text="And now?", conversation=first.metadata.conversation, explain=True)
        )
        assert again.metadata.conversation == first.metadata.conversation


async def test_with_a_gpu_the_profile_is_full_and_an_answer_without_it_degraded() -> None:
    failing = "actors.gpu_engine.settings.simulated_failure=fail"
    async with running(*CPU, *GPU) as system, await connect(system) as client:
        assert (await client.status()).profile == "full"
        assert await profile_of_an_answer(client) == ("full", [])
    async with running(*CPU, *GPU, failing) as system, await connect(system) as client:
        told = (await client.ask(go_on(60))).metadata
        assert (told.profile, told.degraded) == ("full", True)
        (lack,) = told.missing
        assert lack.startswith("without the GPU: gpu_engine.")


async def test_in_lite_a_gpu_is_left_alone_and_is_no_lack() -> None:
    lite = "device.profile=lite"
    async with running(*CPU, *GPU, lite) as system, await connect(system) as client:
        found = await status_when(client, lambda found: found.health is Health.HEALTHY)
        assert found.profile == "lite"
        assert state_of(found, "gpu_engine")[::2] == (
            ActorState.UNAVAILABLE, "the device profile lite does without a GPU",
        )  # fmt: skip
        assert await profile_of_an_answer(client) == ("lite", [])
