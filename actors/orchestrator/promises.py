"""What the device profile promises, and what an answer lacked of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.errors import CircuitOpen, WouldBeDegraded
from protocol.lifecycle import ActorState, Health, Profile
from protocol.messages.memory import Hit
from protocol.messages.orchestrator import Answered
from protocol.messages.supervisor import DirectoryEntry

CIRCUIT_OPEN = CircuitOpen.code
NO_MODEL = "No language model runs here (device profile micro)"


def unwanted(missing: Sequence[str]) -> WouldBeDegraded:
    """The error for who wants no answer that lacks something."""
    return WouldBeDegraded(
        f"an answer that lacks something is not wanted: {'; '.join(missing)}",
        missing=list(missing),
    )


def without_gpu(
    profile: Profile, told: Answered, gpu_engines: Sequence[DirectoryEntry]
) -> str | None:
    """Why this answer was not made on the GPU, where that is promised; else None."""
    devices = {*told.devices, *(use.device for use in told.engines)}
    if profile != "full" or devices <= {"gpu"}:
        return None
    names = {entry.name for entry in gpu_engines}
    for seam in told.seams:
        if seam.lost.partition(".")[0] in names:
            return f"without the GPU: {seam.lost} was lost in the middle of the answer"
    for one in told.failovers:
        if one.engine in names and one.code == CIRCUIT_OPEN:
            return f"without the GPU: {one.engine} was not asked, as {one.reason}"
    return f"without the GPU: {'; '.join(map(_how, gpu_engines)) or 'no GPU engine is set'}"


def _how(engine: DirectoryEntry) -> str:
    if engine.state is ActorState.READY and engine.health is Health.UNHEALTHY:
        return f"{engine.name} is unhealthy"
    why = f" ({engine.reason})" if engine.reason else ""
    return f"{engine.name} is {engine.state.value}{why}"


def answer_without_model(hits: Sequence[Hit]) -> str:
    """What is said where no model runs and no tool fits: that, and what memory has."""
    if not hits:
        return f"{NO_MODEL}, and neither a tool nor memory has anything on this."
    lines = [f"- {hit.text}" for hit in hits]
    return "\n".join([f"{NO_MODEL}. Memory has on this:", *lines])
