"""The kinds of faults: what each is, whom it may hit, and what it may do to a request. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from protocol.messages.engine import Misbehaviour

OWN = ("supervisor", "spawner", "guard")
"""Processes that are no actors."""

Name = Literal[
    "kill", "stop", "spin", "stall", "leak", "slow_exit", "slow_start", "fail", "drop", "delay",
    "die", "freeze", "garble", "slow", "out_of_memory", "nan",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    name: Name
    text: str
    """For people: what it does."""
    own: tuple[str, ...] = ()
    """The processes beside the actors that it may hit."""
    drawn: tuple[str, ...] = ()
    """Those of them that a random run hits without being told to."""
    weight: int = 1
    """How often a random run draws it, against the others."""
    seconds: tuple[float, float] = (0.0, 0.0)
    """Between these a random run draws how long it lasts."""
    rest_s: float = 4.0
    """For so long a random run leaves the same process alone after it. What takes the supervisor a
    while to believe needs longer than what the kernel tells."""
    seen: bool = True
    """Whether the supervisor may come to know of it."""
    errors: frozenset[str] = frozenset()
    """Codes of the errors in which a request may end by it."""
    how: Misbehaviour | None = None
    """What an engine is told to get wrong in its next answers; None: it is no fault of engines
    alone."""


_ENDED = frozenset(
    {"actor_died", "actor_unavailable", "not_running", "deadline_exceeded", "outcome_unknown",
     "engine_failed", "stream_broken", "poisoned"}
)  # fmt: skip
_HELD_UP = _ENDED | {"cancelled"}
_BAD_ENGINE = _ENDED | {"engine_stalled", "engine_garbage", "engine_out_of_memory"}
_FAILED = frozenset({"actor_unavailable", "engine_failed", "outcome_unknown"})
_LOST = frozenset({"deadline_exceeded", "stream_broken", "engine_failed", "outcome_unknown"})

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("kill", "SIGKILL: the process is gone at once", OWN, OWN, weight=6, errors=_ENDED),
        Kind("stop", "SIGSTOP: the process stands still", OWN, OWN, weight=3,
             rest_s=6.0, errors=_HELD_UP),
        Kind("spin", "an endless loop holds the interpreter", rest_s=20.0, errors=_HELD_UP),
        Kind("stall", "a native call that never returns holds the interpreter", rest_s=20.0,
             errors=_HELD_UP),
        Kind("leak", "memory grows over the actor's ceiling, or by 256 MiB and is freed again",
             rest_s=10.0, errors=_ENDED),
        Kind("slow_exit", "an order to end is ignored for some seconds", seconds=(1.0, 6.0),
             rest_s=12.0, errors=_ENDED),
        Kind("slow_start", "it is killed, and its next start is put off for some seconds",
             seconds=(0.5, 3.0), rest_s=10.0, errors=_ENDED),
        Kind("fail", "its next requests end in an error that may be retried", weight=3,
             seconds=(1.0, 5.0), errors=_FAILED),
        Kind("drop", "replies and parts of streams are lost for some seconds", weight=2,
             seconds=(0.1, 1.0), rest_s=6.0, seen=False, errors=_LOST),
        Kind("delay", "what it sends comes late, for some seconds", weight=2,
             seconds=(0.5, 2.0), rest_s=6.0, seen=False, errors=_LOST),
        Kind("die", "an engine is killed in the middle of its next answers", rest_s=10.0,
             seconds=(1.0, 1.0), seen=False, errors=_BAD_ENGINE, how="die"),
        Kind("freeze", "an engine's next answers stand still, though its process answers",
             rest_s=20.0, seconds=(1.0, 1.0), seen=False, errors=_BAD_ENGINE, how="stall"),
        Kind("garble", "an engine says garbage in the middle of its next answers", rest_s=6.0,
             seconds=(1.0, 2.0), seen=False, errors=_BAD_ENGINE, how="garble"),
        Kind("slow", "an engine's next answers come at a tenth of the speed", rest_s=10.0,
             seconds=(1.0, 2.0), seen=False, errors=_BAD_ENGINE, how="slow"),
        Kind("out_of_memory", "the device of an engine has no memory left", rest_s=6.0,
             seconds=(1.0, 2.0), seen=False, errors=_BAD_ENGINE, how="out_of_memory"),
        Kind("nan", "an engine computes with numbers that are none", rest_s=6.0,
             seconds=(1.0, 2.0), seen=False, errors=_BAD_ENGINE, how="nan"),
    )
}  # fmt: skip

ALWAYS = frozenset({"overloaded"})
"""A request may be refused under load, whatever else happens."""


def errors_of(kinds: set[str]) -> frozenset[str]:
    """The codes in which requests may end while these kinds of faults are put in."""
    return ALWAYS.union(*(KINDS[kind].errors for kind in kinds))
