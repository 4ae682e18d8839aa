"""What is known of the engines: whom their circuit breakers let through, how fast they are, what
they work on. Pure.

The shell asks `candidates` whom it may choose from, opens a `Use` for the one that it chose, and
ends it with the error that the engine gave, if any: that is what breakers learn from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from actors.orchestrator.admission_terms import Capacity
from actors.orchestrator.breaker import CircuitBreaker
from actors.orchestrator.choice import Candidate, lack_of, models_of, those_at_hand
from actors.orchestrator.circuit import BreakerPolicy, Permit
from actors.orchestrator.verdicts import Verdict, classify
from actors.orchestrator.watchdog import Pace
from configs.answering import WatchdogSettings
from protocol.errors import NoyauError
from protocol.messages.supervisor import DirectoryEntry


@dataclass(slots=True)
class Use:
    """An engine that works on an answer."""

    entry: DirectoryEntry
    permit: Permit
    pace: Pace
    flows: bool = False
    """Its text does."""
    over: bool = False

    @property
    def who(self) -> str:
        """``NAME.EPOCH``."""
        return f"{self.entry.name}.{self.entry.epoch}"


class Engine:
    """One engine through all its incarnations."""

    def __init__(self, name: str, policy: BreakerPolicy) -> None:
        self.breaker = CircuitBreaker(name, policy)
        self.running = 0
        self.paces: dict[str, Pace] = {}
        """By model, of the incarnation of this epoch: a small one says nothing of a large one."""
        self.epoch = ""


class Runtime:
    """All engines that the settings name, in the order of preference."""

    def __init__(
        self, names: Iterable[str], policy: BreakerPolicy, watchdog: WatchdogSettings
    ) -> None:
        self._watchdog = watchdog
        self.engines = {name: Engine(name, policy) for name in names}

    def candidates(
        self, ready: Iterable[DirectoryEntry], now: float, model: str = "", *, whole: bool = False
    ) -> list[Candidate]:
        """Those of them that are READY, as they are to be chosen from; ``model``: the name of the
        one that is asked for; ``whole``: one that lacks something of it has it not."""
        return [
            Candidate(
                entry,
                permitted=self.engines[entry.name].breaker.allows(now),
                running=self.engines[entry.name].running,
                has_model=(not model or model in models_of(entry))
                and not (whole and lack_of(entry, model)),
            )
            for entry in ready
        ]

    def capacity(self, candidates: list[Candidate]) -> Capacity | None:
        """What the engines at hand hold; None where none is READY: then nothing is known."""
        at_hand = those_at_hand(candidates)
        if not at_hand:
            return None
        slots = sum(one.slots for one in at_hand)
        tokens = 0.0
        for one in at_hand:
            each = one.entry.info.get("context_tokens")
            tokens += int(each) * one.slots if each else math.inf
        return Capacity(slots, tokens)

    def begin(self, entry: DirectoryEntry, now: float, model: str = "") -> Use:
        """It was chosen, for this of its models. Counts as a rejection of its breaker where that
        had to be passed by."""
        engine = self.engines[entry.name]
        if engine.epoch != entry.epoch:
            engine.paces, engine.epoch = {}, entry.epoch
        pace = engine.paces.setdefault(model, Pace(self._watchdog))
        engine.running += 1
        return Use(entry, engine.breaker.force(now), pace)

    def passed(self, use: Use, now: float) -> None:
        """Its text flows."""
        use.flows = True
        self.engines[use.entry.name].breaker.passed(use.permit, now)

    def refused(self, entry: DirectoryEntry, now: float) -> None:
        """Another was chosen because of its breaker, which counts that."""
        self.engines[entry.name].breaker.acquire(now)

    def end(self, use: Use, error: NoyauError | None, now: float) -> None:
        """It ended, with this error or well. Twice does no harm."""
        # A deadline that ran out was the caller's: the time of an engine is the watchdog's.
        self._end(use, classify(error), now)

    def give_up(self, use: Use, now: float) -> None:
        """Nobody wants it any more, which says nothing of the engine. Twice does no harm."""
        self._end(use, Verdict.IGNORED, now)

    def _end(self, use: Use, verdict: Verdict, now: float) -> None:
        if use.over:
            return
        use.over = True
        engine = self.engines[use.entry.name]
        engine.running -= 1
        engine.breaker.release(use.permit, verdict, now)
