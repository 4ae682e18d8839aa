"""Questions to an engine: as many as it can take, or by the clock, whatever becomes of them.

Each question ends in an answer or in an error with a code, and is written down with it; what does
neither is `LOST`. Whoever is refused does not try again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.client import Client
from protocol.envelope import Priority
from protocol.errors import NoyauError, Overloaded
from protocol.messages.orchestrator import Query

SHARES = {
    Priority.CRITICAL: 0.02, Priority.HIGH: 0.08, Priority.NORMAL: 0.7, Priority.LOW: 0.2,
}  # fmt: skip
DEADLINE_S = 5.0
"""Of each question. As many may wait as are served in about six seconds, so it matters."""
TOKENS = (25, 75)
"""An answer's, evenly drawn: with 20 ms a token about a second. Answers of one length would leave
the engine all at once, again and again."""
GRACE_S = 10.0
"""What neither was answered nor failed so long behind its deadline is lost."""
RAMP_S = 3.0
"""From the beginning of a load to where its rate is measured."""
ANSWERED, LOST = "answered", "lost"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one question."""

    priority: Priority
    how: str
    """`ANSWERED`, `LOST`, or the error's code, with its reason where it has one."""
    sent_at: float
    ended_at: float
    """Monotonic seconds."""
    tokens: int = 0
    queued_ms: float = 0.0

    @property
    def in_time(self) -> bool:
        """Whether it was answered by its deadline."""
        return self.how == ANSWERED and self.ended_at - self.sent_at <= DEADLINE_S


async def ask(client: Client, number: int, priority: Priority, tokens: int) -> Outcome:
    """One question."""
    query = Query(
        text=f"Go on from {number}.", max_tokens=tokens, memories=False, tools=False
    )  # fmt: skip
    sent_at, how, answered, queued_ms = time.monotonic(), ANSWERED, 0, 0.0
    try:
        async with asyncio.timeout(DEADLINE_S + GRACE_S):
            answer = await client.ask(query, timeout_s=DEADLINE_S, priority=priority)
        answered, queued_ms = answer.metadata.tokens, answer.metadata.queued_ms
    except Overloaded as error:
        how = f"{error.code}: {error.details.get('reason', '')}"
    except NoyauError as error:
        how = error.code
    except TimeoutError:
        how = LOST
    return Outcome(priority, how, sent_at, time.monotonic(), answered, queued_ms)


@dataclass
class Load:
    """What was asked, from when until when, and what became of it."""

    began_at: float
    ended_at: float
    outcomes: list[Outcome]
    sent: int
    latest_s: float = 0.0
    """The most that a question was sent behind its time: then this process was too busy."""

    def counts(self, priority: Priority | None = None) -> Counter[str]:
        """How questions ended; of one class, or of all."""
        return Counter(o.how for o in self.outcomes if priority in (None, o.priority))

    def tokens_per_s(self) -> float:
        """Of answers in time, once the load is there and as long as it is."""
        return sum(one.tokens for one in self._in_time()) / self._measured_s

    def answers_per_s(self) -> float:
        """The same in answers."""
        return len(self._in_time()) / self._measured_s

    @property
    def _measured_s(self) -> float:
        return self.ended_at - self.began_at - RAMP_S

    def _in_time(self) -> list[Outcome]:
        begin = self.began_at + RAMP_S
        return [o for o in self.outcomes if o.in_time and begin <= o.ended_at <= self.ended_at]


async def at_capacity(clients: Sequence[Client], slots: int, seconds: float) -> Load:
    """As many at a time as there are slots, the next one when one is answered."""
    chance, outcomes, began = random.Random(5), list[Outcome](), time.monotonic()

    async def one_after_the_other(client: Client) -> None:
        while time.monotonic() < began + seconds:
            tokens = chance.randint(*TOKENS)
            outcomes.append(await ask(client, chance.getrandbits(32), Priority.NORMAL, tokens))

    await asyncio.gather(
        *(one_after_the_other(clients[n % len(clients)]) for n in range(slots))
    )  # fmt: skip
    return Load(began, began + seconds, outcomes, len(outcomes))


async def by_the_clock(clients: Sequence[Client], per_s: float, seconds: float) -> Load:
    """So many a second at random moments, whatever becomes of those before; then wait for all."""
    chance, tasks = random.Random(6), list[asyncio.Task[Outcome]]()
    classes, weights = list(SHARES), list(SHARES.values())
    began = due = time.monotonic()
    latest_s = 0.0
    while (due := due + chance.expovariate(per_s)) < began + seconds:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        latest_s = max(latest_s, time.monotonic() - due)
        (priority,) = chance.choices(classes, weights)
        asking = ask(chance.choice(clients), len(tasks), priority, chance.randint(*TOKENS))
        tasks.append(asyncio.create_task(asking))
    return Load(began, began + seconds, await asyncio.gather(*tasks), len(tasks), latest_s)
