"""Circuit breakers where calls are made: what becomes of them is told to all who watch events, and
queries as a whole go through one of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from actors.orchestrator.breaker import CircuitBreaker
from actors.orchestrator.circuit import BreakerPolicy
from actors.orchestrator.verdicts import Verdict, classify
from protocol.clock import Clock
from protocol.errors import CircuitOpen, NoyauError

Publish = Callable[..., None]
"""See `actors.kernel.Actor.publish`."""

QUERIES = "queries"


def tell_transitions(breaker: CircuitBreaker, publish: Publish) -> None:
    """What became of it since the last time, as events."""
    engine = "" if breaker.name == QUERIES else breaker.name
    for one in breaker.take_transitions():
        publish(
            f"breaker.{one.after.value}",
            f"the circuit breaker of {breaker.name} is {one.after.value}: {one.reason.value}",
            engine=engine, before=one.before.value, generation=one.generation,
        )  # fmt: skip


class QueryBreaker:
    """That of queries: when nothing can be answered, the next ones are refused at once."""

    def __init__(self, policy: BreakerPolicy, clock: Clock, publish: Publish) -> None:
        self.breaker = CircuitBreaker(QUERIES, policy)
        self._clock = clock
        self._publish = publish

    @contextlib.contextmanager
    def permitted(self, *, accepted: bool) -> Iterator[Callable[[], None]]:
        """A permit for a query, from whose end the breaker learns; yields what is to be called when
        something of the answer is there. Raises `CircuitOpen`. What was ``accepted`` already goes
        on."""
        now, breaker = self._clock.now(), self.breaker
        permit = breaker.force(now) if accepted else breaker.acquire(now)
        if permit is None:
            raise CircuitOpen(
                "queries failed too often lately, and are refused for a while; see `noyau status`",
                retry_after_s=round(breaker.retry_after_s(now), 2),
            )
        verdict = Verdict.IGNORED
        try:
            yield lambda: breaker.passed(permit, self._clock.now())
            verdict = Verdict.SUCCESS
        except NoyauError as error:
            verdict = classify(error)
            raise
        finally:
            breaker.release(permit, verdict, self._clock.now())
            tell_transitions(breaker, self._publish)
