"""Who answers a query: an expert, where one is asked for and there; and how is sampled. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from configs.actor_settings import ExpertSettings, OrchestratorSettings
from protocol.errors import NotFound
from protocol.messages.engine import Sampling
from protocol.messages.orchestrator import Query

_SAMPLED = (
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "presence_penalty",
    "frequency_penalty", "seed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Manner:
    """In which manner a query is answered."""

    sampling: Sampling
    system_prompt: str | None
    model: str = ""
    model_may_lack: bool = False
    """Whether the query itself does not name it, but its expert."""
    expert: str = ""
    missing: list[str] = field(default_factory=list)
    """What it is answered without."""


def manner_of(query: Query, options: OrchestratorSettings, models: Collection[str]) -> Manner:
    """What the query says goes before what its expert says, and that before what is usual.

    ``models``: those that the engines have, as far as it is known; empty where it is not. Raises
    `NotFound` for a model that the query itself names and no engine has.
    """
    missing: list[str] = []
    expert = options.experts.get(query.expert)
    if query.expert and expert is None:
        missing.append(_no_expert(query.expert, options.experts))
    if query.model and models and query.model not in models:
        raise NotFound(
            f"no engine has a model {query.model!r}; there are: {', '.join(sorted(models))}"
        )
    model = query.model
    if expert is not None and expert.model and not model:
        model = expert.model
        if models and model not in models:
            missing.append(f"without the model {model} of the expert {query.expert}")
            model = ""
    system_prompt = options.system_prompt
    if expert is not None and expert.system_prompt is not None:
        system_prompt = expert.system_prompt
    return Manner(
        sampling=Sampling(**_sampled(query, expert, options), stop=query.stop),
        system_prompt=system_prompt,
        model=model,
        model_may_lack=not query.model,
        expert=query.expert if expert is not None else "",
        missing=missing,
    )


def _sampled(
    query: Query, expert: ExpertSettings | None, options: OrchestratorSettings
) -> dict[str, Any]:
    chosen = {}
    for name in _SAMPLED:
        for source in (query, expert, options):
            value = getattr(source, name, None)
            if value is not None:
                chosen[name] = value
                break
    return chosen


def _no_expert(name: str, experts: Mapping[str, ExpertSettings]) -> str:
    known = f"there are: {', '.join(sorted(experts))}" if experts else "there are none"
    return f"without the expert {name}: the settings have none by that name; {known}"
