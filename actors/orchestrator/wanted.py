"""What a query wants of the engines. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from protocol.envelope import Priority
from protocol.messages.engine import ChatMessage, Format, Generate, Sampling

CHARS_PER_TOKEN = 4
"""Of English text, about; for how much it weighs in the queue no more is needed."""
FILLED_TOKENS = 128
"""Arguments of tools are short."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of the engines."""

    step: Generate
    """Without what was begun, and with all turns."""
    until: float
    """Monotonic seconds."""
    priority: int = Priority.NORMAL
    client: Hashable = None
    """Whom to be fair to."""
    model_may_lack: bool = False
    """Whether the default model answers where the one asked for cannot be had."""
    undegraded: bool = False
    """Whether it is refused rather than made in a way worse than the device profile promises."""

    @property
    def cost(self) -> int:
        """In tokens, about."""
        prompt = sum(len(turn.content) for turn in self.step.messages) // CHARS_PER_TOKEN
        return prompt + self.step.sampling.max_tokens

    def to_fill(self, turns: Sequence[ChatMessage], schema: dict[str, Any]) -> Wanted:
        """The same to have a value of a schema made for these turns."""
        sampling = Sampling(max_tokens=FILLED_TOKENS, temperature=0)
        step = Generate(
            messages=list(turns), sampling=sampling, format=Format(json_schema=schema),
            model=self.step.model,
        )  # fmt: skip
        return replace(self, step=step)
