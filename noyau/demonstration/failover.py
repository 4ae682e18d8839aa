"""A GPU that dies in the middle of an answer; simulated, so that every machine can show it."""

from __future__ import annotations

from noyau.demonstration.answers import tell
from noyau.demonstration.report import Report
from protocol.client import Client

SIMULATED_GPU = (
    "actors.gpu_engine.enabled=true",
    "actors.gpu_engine.settings.backend=simulated",
    "actors.gpu_engine.settings.simulated_failure=die",
    "actors.gpu_engine.settings.simulated_failure_after_tokens=25",
    "device.profile=full",
)
"""25 words, 10 ms each, then its process is killed."""


async def failover(client: Client, report: Report) -> None:
    """The CPU goes on where the GPU stopped."""
    told = await tell(client, report, "Tell me about the sea.", max_tokens=80)
    seams, engines = told.end.seams, told.end.engines
    report.check(
        "the GPU engine died in the middle: "
        + "; ".join(f"{s.lost} lost at character {s.position}" for s in seams),
        len(seams) == 1 and seams[0].lost.startswith("gpu_engine."),
    )
    report.check(
        "the answer was finished by the real model on the CPU (green)",
        [use.device for use in engines] == ["cpu"] and engines[0].backend != "simulated",
    )
    report.check(f"and the user is told: {'; '.join(told.end.missing)}", told.end.degraded)
    report.measure("pause when the GPU engine died", f"{told.longest_gap_s * 1000:.0f} ms")
