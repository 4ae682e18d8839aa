"""Clients that want something all the time, and write down what became of it.

They do what a careful program does: what ended in an error that may be retried, or may have been
done or not, is asked again, until a minute is over. What is remembered has a source of its own, so
that it can be forgotten.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from noyau.chaos.ledger import Entry, Ledger, Task
from protocol.backoff import Backoff
from protocol.client import Client
from protocol.errors import DeadlineExceeded, NoyauError, OutcomeUnknown
from protocol.messages.actor import Ping
from protocol.messages.memory import Recall, Remember
from protocol.messages.orchestrator import Query
from protocol.messages.tool_user import CallTool

ASK_S = 10.0
STREAM_S = 30.0
"""The deadline of one request. An engine that hangs is believed to after 15 s."""
GRACE_S = 1.0
"""An end may come so long after its deadline; then there is none."""
TASK_S = 60.0
"""For so long a client asks again for what it wants."""
AGAIN = Backoff(first_s=0.05, factor=2.0, max_s=2.0)
PAUSE_S = 0.03
"""Between what a client wants: it is load, but no benchmark."""
MAX_TOKENS = 24
_WORDS = """
harbour violin granite lantern orchard compass saddle thunder meadow anchor kettle marble
falcon ribbon cellar canyon pepper bridge tunnel copper window ladder garden winter pencil
basket candle forest mirror island button cotton dragon engine fabric galaxy hammer
"""
WORDS = tuple(_WORDS.split())


class WrongAnswer(Exception):
    """An answer came, and it is not the right one. Never leaves this module."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants: an operation that may be done any number of times."""

    operation: str
    ask: Callable[[Client], Awaitable[Any]]
    stream: bool = False
    timeout_s: float = ASK_S


@dataclass(slots=True)
class Load:
    """All clients of a run and what they share."""

    ledger: Ledger
    source: str
    """Of what is remembered."""
    actors: tuple[str, ...]
    """Those that are there to be asked."""
    seed: int
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    remembered: set[str] = field(default_factory=set)
    """Ids of the memories that were acknowledged."""

    async def run(self, number: int, client: Client) -> None:
        """Be one client until it is told to stop."""
        chance = random.Random(self.seed * 1000 + number)
        wishes = self._wishes(chance)
        while not self.stop.is_set():
            wish = chance.choice(wishes)()
            await self._fulfil(client, self.ledger.begin(number), wish)
            await asyncio.sleep(PAUSE_S)

    # --- one wish -------------------------------------------------------------------------

    async def _fulfil(self, client: Client, task: Task, wish: Wish) -> None:
        until = time.monotonic() + TASK_S
        attempt = 0
        while True:
            error = await self._request(client, task, wish)
            if error is None:
                return
            task.code = error.code
            # Its deadline is this client's own patience; and nothing that it wishes for is harmed
            # by being done twice, which nobody but itself can know.
            again = error.retryable or isinstance(error, (DeadlineExceeded, OutcomeUnknown))
            if not again or time.monotonic() >= until:
                return
            if self.stop.is_set():
                task.code = "cancelled"
                return
            await asyncio.sleep(error.details.get("retry_after_s", AGAIN.delay(attempt)))
            attempt += 1

    async def _request(self, client: Client, task: Task, wish: Wish) -> NoyauError | None:
        """One request, from its sending to its end; the error that it ended in."""
        ledger = self.ledger
        entry = ledger.sent(task.client, wish.operation, time.monotonic(), stream=wish.stream)
        try:
            async with asyncio.timeout(wish.timeout_s + GRACE_S):
                await wish.ask(client)
        except NoyauError as error:
            ledger.failed(entry, error.code, time.monotonic())
            return error
        except asyncio.CancelledError:
            ledger.failed(entry, "cancelled", time.monotonic())
            raise
        except TimeoutError:
            self._odd(task, entry, f"no end {GRACE_S:g} s after its deadline")
        except Exception as error:  # noqa: BLE001 - told in the report: a request needs a typed end
            self._odd(task, entry, f"{type(error).__name__}: {error}")
        else:
            ledger.answered(entry, time.monotonic())
            task.answered = True
        return None

    def _odd(self, task: Task, entry: Entry, what: str) -> None:
        self.ledger.odd(entry, what)
        task.code = "unaccounted"

    # --- what there is to wish for --------------------------------------------------------

    def _wishes(self, chance: random.Random) -> list[Callable[[], Wish]]:
        """By how often each is wished for."""
        wishes: list[Callable[[], Wish]] = [lambda: _ping(chance.choice(self.actors))]
        if "orchestrator" in self.actors:
            wishes += [lambda: _query(chance)] * 4
        if "memory" in self.actors:
            wishes += [lambda: self._remember(chance), lambda: _recall(chance)]
        if "tool_user" in self.actors:
            wishes += [lambda: _sum(chance)]
        return wishes

    def _remember(self, chance: random.Random) -> Wish:
        text = f"{chance.randrange(10**9)}: {' '.join(chance.choices(WORDS, k=8))}"
        message = Remember(text=text, source=self.source)

        async def ask(client: Client) -> None:
            done = await client.ask(message, timeout_s=ASK_S)
            self.remembered.add(done.id)

        return Wish("remember", ask)


def _query(chance: random.Random) -> Wish:
    text = f"Tell me about the {chance.choice(WORDS)} of the {chance.choice(WORDS)}."

    async def ask(client: Client) -> None:
        query = Query(text=text, max_tokens=MAX_TOKENS, temperature=0)
        async with client.stream(query, timeout_s=STREAM_S) as stream:
            pieces = [piece.text async for piece in stream]
        if stream.end is None:
            raise WrongAnswer("the stream stopped without its end")
        if not "".join(pieces).strip():
            raise WrongAnswer("the answer is empty")

    return Wish("query", ask, stream=True, timeout_s=STREAM_S)


def _recall(chance: random.Random) -> Wish:
    message = Recall(query=" ".join(chance.choices(WORDS, k=3)), limit=3)

    async def ask(client: Client) -> None:
        await client.ask(message, timeout_s=ASK_S)

    return Wish("recall", ask)


def _sum(chance: random.Random) -> Wish:
    one, other = chance.randrange(1000), chance.randrange(1000)
    message = CallTool(name="calculator", arguments={"expression": f"{one} * {other}"})

    async def ask(client: Client) -> None:
        result = await client.ask(message, timeout_s=ASK_S)
        if result.text.replace(",", "") != str(one * other):
            raise WrongAnswer(f"{one} * {other} was said to be {result.text}")

    return Wish("call_tool", ask)


def _ping(name: str) -> Wish:
    async def ask(client: Client) -> None:
        await client.ask(Ping(), to=name, timeout_s=ASK_S)

    return Wish("ping", ask)
