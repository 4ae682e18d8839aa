"""Two engines: what one of them cannot finish, the other one goes on with."""

from __future__ import annotations

import os
import signal

import pytest

from noyau import Client, Query
from protocol.lifecycle import ActorState, Health
from protocol.messages.orchestrator import Answered
from tests.support.system import connect, pid_of, running

CPU = ("actors.cpu_engine.settings.backend=simulated",
       "actors.cpu_engine.settings.simulated_token_s=0.001")  # fmt: skip
GPU = ("actors.gpu_engine.settings.backend=simulated",
       "actors.gpu_engine.settings.simulated_token_s=0.001")  # fmt: skip
WORDS = Query(text="Go on.", max_tokens=60)


def failing(how: str) -> str:
    return f"actors.gpu_engine.settings.simulated_failure={how}"


async def answer(client: Client) -> tuple[str, Answered]:
    whole = await client.ask(WORDS)
    return whole.text, whole.metadata


async def uninterrupted() -> str:
    async with running(*CPU, *GPU) as system, await connect(system) as client:
        text, metadata = await answer(client)
        assert [use.device for use in metadata.engines] == ["gpu"]
        assert {use.backend for use in metadata.engines} == {"simulated"}
        assert metadata.seams == []
        return text


async def test_the_gpu_engine_answers_where_it_is_and_is_marked_as_simulated() -> None:
    assert len((await uninterrupted()).split()) == 60


@pytest.mark.parametrize("how", ["fail", "die"])
async def test_when_the_gpu_engine_fails_in_mid_answer_the_cpu_engine_goes_on(how: str) -> None:
    whole = await uninterrupted()
    async with running(*CPU, *GPU, failing(how)) as system, await connect(system) as client:
        text, metadata = await answer(client)
        assert text == whole
        (seam,) = metadata.seams
        assert seam.lost.startswith("gpu_engine.")
        assert len(text[: seam.position].split()) <= 20
        assert metadata.engines[-1].device == "cpu"
        assert metadata.engines[-1].completion_tokens >= 40


async def test_without_a_gpu_its_engine_is_unavailable_and_the_system_healthy() -> None:
    if any(os.path.exists(f"/dev/{name}") for name in ("nvidia0", "kfd", "dri", "dxg")):
        pytest.skip("this machine may have a GPU")
    async with running(*CPU) as system, await connect(system) as client:
        found = await client.status()
        gpu = next(actor for actor in found.actors if actor.name == "gpu_engine")
        assert (gpu.state, gpu.health) == (ActorState.UNAVAILABLE, Health.HEALTHY)
        assert "no GPU" in gpu.reason
        assert found.health is Health.HEALTHY
        os.kill(pid_of(found, "gpu_engine"), signal.SIGKILL)
        _, metadata = await answer(client)
        assert [use.device for use in metadata.engines] == ["cpu"]
