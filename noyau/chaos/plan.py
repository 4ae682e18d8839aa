"""What a random run does, and when: the same seed gives the same plan. Pure.

A plan stays within what noyau promises to survive. It leaves a process alone for a while after a
fault, ends none so often that its restart intensity would be used up, and never hits supervisor and
guard at once: each brings the other back, and nobody brings back both.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from noyau.chaos.kinds import KINDS, OWN, Kind

WINDOW_S = 65.0
MOST_ENDS = {"supervisor": 3, "guard": 3, "spawner": 4}
MOST_ENDS_OF_AN_ACTOR = 10
"""Within the window. The guard starts a supervisor again five times a minute, the supervisor a
process eight times in half a minute; what dies with another process is not counted there."""
ENDING = {"kill", "stop", "spin", "stall", "leak", "slow_exit", "slow_start", "die", "freeze"}
JITTER = 0.5
"""Faults come between half and one and a half times the interval apart."""
PAIR = {"supervisor": "guard", "guard": "supervisor"}


@dataclass(frozen=True, slots=True)
class Step:
    """One fault of a plan."""

    at_s: float
    """Since the beginning of the run."""
    kind: str
    target: str
    seconds: float = 0.0
    """How long it lasts, where it is of a kind that lasts; else how many requests, see `counts`."""


def counts(kind: str) -> bool:
    """Whether how long it lasts is a number of requests."""
    return kind == "fail" or KINDS[kind].how is not None


def targets_of(
    kind: Kind, actors: Sequence[str], named: Sequence[str] = (), engines: Sequence[str] = ()
) -> list[str]:
    """Whom a random run may hit with this kind; ``named``: whom the user wants hit alone;
    ``engines``: those of the actors that are one."""
    if kind.how is not None:
        return [name for name in engines if not named or name in named]
    if not named:
        return [*actors, *kind.drawn]
    return [name for name in named if name in kind.own or name not in OWN]


def make_plan(
    seed: int,
    seconds: float,
    every_s: float,
    actors: Sequence[str],
    kinds: Sequence[str] = tuple(KINDS),
    named: Sequence[str] = (),
    engines: Sequence[str] = (),
) -> list[Step]:
    """The faults of a run of so many seconds, about one every ``every_s``; ``engines``: those of
    the actors that are one."""
    chance = random.Random(seed)
    limits = _Limits()
    plan: list[Step] = []
    at = 0.0
    while (at := at + every_s * chance.uniform(1 - JITTER, 1 + JITTER)) < seconds:
        choices = {
            kind: [
                name
                for name in targets_of(KINDS[kind], actors, named, engines)
                if limits.allow(at, kind, name)
            ]
            for kind in kinds
        }
        possible = [kind for kind, names in choices.items() if names]
        if not possible:
            continue
        (kind,) = chance.choices(possible, [KINDS[one].weight for one in possible])
        target = chance.choice(choices[kind])
        lasts = round(chance.uniform(*KINDS[kind].seconds), 2)
        plan.append(Step(round(at, 3), kind, target, float(int(lasts)) if counts(kind) else lasts))
        limits.take(at, kind, target)
    return plan


class _Limits:
    """Who is to be left alone at a moment."""

    def __init__(self) -> None:
        self._free_at: dict[str, float] = defaultdict(float)
        self._ends: dict[str, list[float]] = defaultdict(list)

    def allow(self, at: float, kind: str, target: str) -> bool:
        if at < self._free_at[target]:
            return False
        if kind not in ENDING:
            return True
        recent = [end for end in self._ends[target] if at - end < WINDOW_S]
        most = MOST_ENDS.get(target, MOST_ENDS_OF_AN_ACTOR)
        # Half of them within half of the time: the restart intensity's window is shorter.
        late = [end for end in recent if at - end < WINDOW_S / 2]
        return len(recent) < most and len(late) < max(1, most // 2)

    def take(self, at: float, kind: str, target: str) -> None:
        free_at = at + KINDS[kind].rest_s
        self._free_at[target] = free_at
        if target in PAIR:
            self._free_at[PAIR[target]] = max(self._free_at[PAIR[target]], free_at)
        if kind in ENDING:
            self._ends[target].append(at)
