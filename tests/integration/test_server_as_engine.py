"""A server of the user's own as the first engine, and what noyau makes of its failures."""

from __future__ import annotations

import pytest

from noyau import Query
from protocol.lifecycle import ActorState, Health
from tests.integration.test_failover import CPU
from tests.support.scripted_server import DONE, STREAM, Script, answer, scripted, text
from tests.support.system import connect, running, status_when


def server(script: Script) -> tuple[str, ...]:
    gpu = "actors.gpu_engine.settings"
    return f"{gpu}.backend=openai_http", f"{gpu}.url={script.url}"


async def test_a_server_answers_as_the_engine_on_a_gpu_without_a_gpu_here() -> None:
    with scripted() as script:
        script.chats(STREAM, text("Good day.", "stop"), DONE)
        async with running(*CPU, *server(script)) as system, await connect(system) as client:
            found = await status_when(
                client,
                lambda found: any(
                    (actor.name, actor.state, actor.health)
                    == ("gpu_engine", ActorState.READY, Health.HEALTHY)
                    for actor in found.actors
                ),
            )
            assert found.profile == "full"
            # Memory and tool_user may be late, and are not what this is about.
            query = Query(text="Hello.", max_tokens=20, memories=False, tools=False)
            said = await client.ask(query)
            assert said.text == "Good day."
            (use,) = said.metadata.engines
            assert (use.backend, use.device, use.model_name) == ("openai_http", "gpu", "tiny")
            assert not said.metadata.degraded


@pytest.mark.parametrize("how", ["cut short", "refuses"])
async def test_an_answer_that_a_server_does_not_finish_goes_on_with_the_cpu(how: str) -> None:
    with scripted() as script:
        begins = " the time" if how == "cut short" else ""
        if begins:
            script.chats(STREAM, text(begins))
        else:
            script.chats(answer(500, {"error": {"message": "broken"}}))
        async with running(*CPU, *server(script)) as system, await connect(system) as client:
            said = await client.ask(Query(text="Go on.", max_tokens=40))
            assert said.text.startswith(begins)
            assert len(said.text.split()) >= 39
            seams = [(one.position, one.lost.partition(".")[0]) for one in said.metadata.seams]
            assert seams == ([(len(begins), "gpu_engine")] if begins else [])
            assert said.metadata.engines[-1].device == "cpu"
