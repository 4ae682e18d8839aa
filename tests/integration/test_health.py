"""Health that follows from failures: told to everybody, and routed by."""

from __future__ import annotations

from noyau import Client, Query
from protocol.lifecycle import Health
from protocol.messages.orchestrator import Answered
from protocol.messages.supervisor import Status
from tests.integration.test_failover import CPU, GPU, failing
from tests.support.events import watching
from tests.support.system import connect, running, status_when

ALONE = "engine_breaker.failures=1000"
"""Else its circuit breaker would have it passed over as well."""


async def answer(client: Client) -> Answered:
    return (await client.ask(Query(text="Go on.", max_tokens=40))).metadata


async def test_an_engine_that_fails_again_and_again_is_passed_over_and_everybody_is_told() -> None:
    settings = (*CPU, *GPU, failing("fail"), ALONE)
    async with (
        running(*settings) as system,
        await connect(system) as client,
        watching(client, "health.") as told,
    ):
        for _ in range(3):
            assert [seam.lost.partition(".")[0] for seam in (await answer(client)).seams] == [
                "gpu_engine"
            ]
        found = await status_when(client, lambda s: health_of(s, "gpu_engine") == "unhealthy")
        assert found.health is Health.DEGRADED
        assert "gpu_engine its last 3 requests all failed" in found.reason
        entries = client.caller.directory.entries
        while entries["gpu_engine"].health is not Health.UNHEALTHY or not told.events:
            await client.caller.wait_for_news(client.caller.clock.now() + 0.1)

        routed = await answer(client)
        assert routed.seams == []
        assert [use.device for use in routed.engines] == ["cpu"]
        # Where the models were never fetched, memories are missing too for a while.
        assert "without the GPU: gpu_engine is unhealthy" in routed.missing

        changes = [(one.actor, one.data) for one in told.events if one.actor == "gpu_engine"]
        assert changes[-1] == ("gpu_engine", {"health": "unhealthy", "was": "healthy"})


def health_of(status: Status, name: str) -> str:
    return next(actor.health.value for actor in status.actors if actor.name == name)
