"""What the worker and the model say to each other, and what a request is made of."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Literal, Protocol

from actors.engine.backends import Prefill, Task
from actors.engine.backends.transformers_torch.choosing import Draws, Numbers, Penalty, Recent
from protocol.errors import NoyauError
from protocol.messages.engine import Sampling, TokenLogprob


@dataclass(frozen=True, slots=True)
class Want:
    """How the next token of one answer is to be chosen."""

    sampling: Sampling
    draw: float
    penalty: Penalty | None
    allowed: Numbers | None
    """For each token whether it may come; None: all may."""
    logprobs: int | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """A token that came."""

    token: int
    logprob: TokenLogprob | None


class Steps(Protocol):
    """The model, as the worker sees it. All of it is called from one thread."""

    ends: frozenset[int]
    """The tokens that say the end of an answer."""

    def read(self, row: int, tokens: Sequence[int], start: int) -> Any:
        """Read tokens of a prompt at this position; returns the last one's logits."""
        ...

    def write(self, last: dict[int, tuple[int, int]]) -> Any:
        """For each row its last token and that one's position; returns the logits behind them, in
        that order. May be called again with the same when it failed."""
        ...

    def choose(self, logits: Any, wants: Sequence[Want]) -> list[Chosen | NoyauError]:
        """The next token of each, or what is wrong with it (`EngineGarbage`: its logits are no
        numbers)."""
        ...

    def forget(self, row: int) -> None:
        """Nothing of what was computed in this row may be looked at again."""
        ...

    def release(self) -> None:
        """Give memory back that is not in use."""
        ...

    def is_out_of_memory(self, error: Exception) -> bool:
        """Whether that is what went wrong."""
        ...

    def is_broken(self, error: Exception) -> bool:
        """Whether the device computes nothing more for this process after that."""
        ...


class Guiding(Protocol):
    """Keeps an answer to its format."""

    def allowed(self) -> Numbers | None:
        """For each token whether it may come next; None after a failure, which `take` raises."""
        ...

    def take(self, token: int) -> None:
        """This one came. Raises `EngineFailed`."""
        ...

    @property
    def over(self) -> bool:
        """Whether nothing more may come."""
        ...


@dataclass(frozen=True, slots=True)
class End:
    """The last item of a request."""

    reason: Literal["stop", "length", "cancelled"]


Item = Prefill | Chosen | End | NoyauError


@dataclass(eq=False, slots=True)
class Request:
    """One answer that is being made."""

    task: Task
    prompt: Sequence[int]
    """What is begun of the answer included."""
    left: int
    """Tokens that it may still get; at least one."""
    draws: Draws
    guide: Guiding | None = None
    done: int = 0
    """Of the prompt, what has been read."""
    made: list[int] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    """Nobody reads its items any more."""
    items: SimpleQueue[Item] = field(default_factory=SimpleQueue)
    placed_at: float = 0.0
    read_at: float = 0.0
    recent: Recent = field(init=False)

    def __post_init__(self) -> None:
        self.recent = Recent(self.prompt)

    @property
    def unwanted(self) -> bool:
        """Whether it was taken back."""
        return self.gone.is_set() or self.task.cancelled.is_set()
