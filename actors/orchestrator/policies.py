"""The settings as the policies of breakers and queue. Pure."""

from __future__ import annotations

from actors.orchestrator.admission_terms import AdmissionPolicy, DropMode
from actors.orchestrator.circuit import BreakerPolicy
from configs.answering import AdmissionSettings, EngineBreakerSettings, QueryBreakerSettings


def breaker_policy(settings: EngineBreakerSettings | QueryBreakerSettings) -> BreakerPolicy:
    """Of an engine's breaker, or of that of queries."""
    return BreakerPolicy(**settings.model_dump())


def admission_policy(settings: AdmissionSettings) -> AdmissionPolicy:
    """Of the queue in front of the engines."""
    return AdmissionPolicy(**(settings.model_dump() | {"drop_mode": DropMode(settings.drop_mode)}))
