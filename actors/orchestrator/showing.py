"""What is known of queue, engines and breakers, as others see it. Pure."""

from __future__ import annotations

from actors.orchestrator.admission_terms import AdmissionMetrics
from actors.orchestrator.breaker import CircuitBreaker
from actors.orchestrator.runtime import Engine
from protocol.lifecycle import ActorState, Health
from protocol.messages.orchestrator import BreakerStatus, EngineStatus, QueueStatus
from protocol.messages.supervisor import DirectoryEntry


def breaker_status(breaker: CircuitBreaker, now: float) -> BreakerStatus:
    """A circuit breaker, with ages instead of times: monotonic ones mean nothing elsewhere."""
    known = breaker.metrics(now)
    return BreakerStatus(
        state=known.state.value,
        generation=known.generation,
        failure_count=known.failure_count,
        success_count=known.success_count,
        probes_in_flight=known.probes_in_flight,
        opens_for_s=_until(known.open_until, now),
        granted=known.granted,
        successes=known.successes,
        failures=known.failures,
        ignored=known.ignored,
        rejections=known.rejections,
        forced=known.forced,
        slow=known.slow,
        last_failure_s=_since(known.last_failure_at, now),
        last_success_s=_since(known.last_success_at, now),
    )


def engine_status(
    name: str, engine: Engine, entry: DirectoryEntry | None, now: float
) -> EngineStatus:
    """An engine; ``entry``: None where the directory has none."""
    info = entry.info if entry is not None else {}
    return EngineStatus(
        name=name,
        epoch=entry.epoch if entry is not None else "",
        state=entry.state if entry is not None else ActorState.STOPPED,
        health=entry.health if entry is not None else Health.HEALTHY,
        reason=entry.reason if entry is not None else "",
        device=str(info.get("device", "")),
        backend=str(info.get("backend", "")),
        model=str(info.get("model", "")),
        slots=int(info.get("slots", 0)),
        running=engine.running,
        breaker=breaker_status(engine.breaker, now),
    )


def queue_status(known: AdmissionMetrics, now: float) -> QueueStatus:
    """The admission queue."""
    return QueueStatus(
        waiting={priority.name.lower(): count for priority, count in known.waiting.items()},
        running=known.running,
        slots=known.capacity.slots,
        tokens=known.tokens,
        max_waiting=known.max_waiting,
        entered=known.entered,
        admitted=known.admitted,
        finished=known.finished,
        dropped=known.dropped,
        abandoned=known.abandoned,
        expired=known.expired,
        refused={refusal.value: count for refusal, count in known.refused.items()},
        rate_per_s=known.rate_per_s,
        estimated_wait_s=known.estimated_wait_s,
        overloaded_for_s=_until(known.hard_open_until, now),
    )


def _since(at: float | None, now: float) -> float | None:
    return None if at is None else round(now - at, 3)


def _until(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, at - now), 3)
