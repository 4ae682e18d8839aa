"""Peers die at random moments: no reply is another's, nobody waits on, nothing is done twice.

Some hundred deaths as one of all tests; ``make kills`` is 10,000 of peers in this process and 200
of real ones (``KILLS``, ``PROCESS_KILLS``; ``CHAOS_SEED`` for the same again).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.kernel.handlers import handles
from noyau import Client, NoyauError
from protocol.caller import Caller
from protocol.directory import Death
from protocol.errors import ActorDied, ActorUnavailable, Poisoned
from protocol.lifecycle import ActorState
from protocol.messages.memory import AppendTurns, GetConversation, Turn
from tests.support.messages import Count, Counted, Deposit, Look, Number, Said, Say
from tests.support.network import ACTOR, Network, Probe, knows
from tests.support.owners import soon
from tests.support.system import connect, running, running_pid, status_when
from tests.support.waiting import eventually
from tests.support.wirings import LoopbackWiring, Wiring, ZmqWiring

pytestmark = pytest.mark.alone

KILLS = int(os.environ.get("KILLS", "300"))
PROCESS_KILLS = int(os.environ.get("PROCESS_KILLS", "5"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
BURST = 6
"""Of each kind of request, in flight when a peer dies."""
TURNS_AFTER = 10
"""Turns of the event loop within which whoever waited for the dead is told: far below 100 ms."""


# --- peers in this process --------------------------------------------------------------------


class Ledger:
    """What outlives every incarnation, as a database does. Key and effect are one transaction."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()
        self._answers: dict[str, str] = {}

    def once(self, key: str) -> str:
        """Do it, or say again what was said when it was done."""
        if key not in self._answers:
            self.effects[key] += 1
            self._answers[key] = f"done {key}"
        return self._answers[key]


class Mortal(Probe):
    """Answers late, in its own order, and may die before."""

    def __init__(self, ledger: Ledger, chance: random.Random) -> None:
        self._ledger = ledger
        self._chance = chance

    async def _dawdle(self) -> None:
        for _ in range(self._chance.randrange(6)):
            await asyncio.sleep(0)

    @handles(Say)
    async def say(self, message: Say) -> Said:
        await self._dawdle()
        return Said(text=message.text)

    @handles(Look)
    async def look(self, message: Look) -> Said:
        await self._dawdle()
        return Said(text=message.text)

    @handles(Deposit)
    async def deposit(self, message: Deposit) -> Said:
        await self._dawdle()
        said = self._ledger.once(message.key)
        await self._dawdle()
        return Said(text=said)

    @handles(Count)
    async def count(self, message: Count) -> AsyncGenerator[Number | Counted, None]:
        for number in range(message.upto):
            await self._dawdle()
            yield Number(number=number)
        yield Counted(total=message.upto)


@dataclass
class Book:
    """What became of all requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    late: int = 0
    """Requests that were not told of the death in time."""

    async def ask(self, caller: Caller, text: str, *, again: bool) -> None:
        """An ask that must be answered with its own text, or by an error that a death may cause."""
        try:
            answer = await caller.ask(ACTOR, Look(text=text) if again else Say(text=text))
        except (ActorDied, ActorUnavailable, Poisoned) as error:
            self.outcomes[error.code] += 1
        else:
            assert answer.text == text, "a reply was given to another"
            self.outcomes["answered"] += 1

    async def deposit(self, caller: Caller, key: str) -> None:
        """Something that must be done once."""
        try:
            answer = await caller.ask(ACTOR, Deposit(key=key))
        except (ActorDied, ActorUnavailable, Poisoned) as error:
            self.outcomes[error.code] += 1
        else:
            assert answer.text == f"done {key}", "a reply was given to another"
            self.acknowledged.add(key)
            self.outcomes["answered"] += 1

    async def count(self, caller: Caller, upto: int) -> None:
        """A stream that must be whole, or end in an error."""
        numbers = []
        try:
            stream = await caller.stream(ACTOR, Count(upto=upto))
            async with stream:
                numbers = [chunk.number async for chunk in stream]
        except (ActorDied, ActorUnavailable) as error:
            self.outcomes[error.code] += 1
        else:
            assert numbers == list(range(upto)), "a stream was cut short"
            assert stream.end == Counted(total=upto)
            self.outcomes["answered"] += 1


class Rounds:
    """One death after the other."""

    def __init__(self, network: Network, caller: Caller, chance: random.Random) -> None:
        self._network = network
        self._caller = caller
        self._chance = chance
        self.book = Book()
        self.ledger = Ledger()
        self._told = asyncio.Event()
        caller.on_death.append(self._on_death)

    def _on_death(self, death: Death) -> None:
        if death.name == ACTOR:
            self._told.set()

    async def die(self, number: int) -> None:
        """A new incarnation, many requests, and its death; then another for those who ask again,
        and its death."""
        epoch, chance, book, caller = f"{number}", self._chance, self.book, self._caller
        node = self._network.start(Mortal(self.ledger, chance), epoch=epoch)
        await knows(caller, lambda there: ACTOR in there and there[ACTOR].epoch == epoch)
        once: list[Coroutine[Any, Any, None]] = []
        again: list[Coroutine[Any, Any, None]] = []
        for item in range(BURST):
            once.append(book.ask(caller, f"{number}.{item}", again=False))
            once.append(book.count(caller, chance.randrange(100)))
            again.append(book.ask(caller, f"{number}.{item}", again=True))
            again.append(book.deposit(caller, f"{number}.{item}"))
        waiting = [asyncio.ensure_future(work) for work in once]
        asking = [asyncio.ensure_future(work) for work in again]
        for _ in range(chance.randrange(25)):
            await asyncio.sleep(0)
        self._told.clear()
        await node.die()
        self._network.tell(state=ActorState.STARTING, epoch=f"{number} is dead")
        await soon(self._told.wait())
        for _ in range(TURNS_AFTER):
            await asyncio.sleep(0)
        book.late += sum(not one.done() for one in waiting)
        # The next incarnation answers these, but for those that are taken for poison by then.
        last = self._network.start(Mortal(self.ledger, chance), epoch=f"{number}+")
        await soon(asyncio.gather(*waiting, *asking))
        await last.die()


@pytest.mark.timeout(60 + KILLS // 4)
@pytest.mark.parametrize("kind", [LoopbackWiring, ZmqWiring])
async def test_whoever_waits_for_a_peer_that_dies_is_told_and_nothing_is_done_twice(
    kind: type[Wiring],
) -> None:
    wiring = kind()
    async with Network(wiring) as network:
        caller = await network.caller()
        rounds = Rounds(network, caller, random.Random(SEED))
        for number in range(KILLS // 4):
            await rounds.die(number)
    wiring.close()
    assert wiring.complaints == []
    book, effects = rounds.book, rounds.ledger.effects
    report = f"seed {SEED}: {dict(book.outcomes)}"
    assert book.late == 0, report
    assert max(effects.values()) == 1, report
    assert book.acknowledged <= effects.keys(), report
    assert sum(book.outcomes.values()) == KILLS // 4 * BURST * 4, report
    # Deaths did hit requests, and most requests outlived them.
    assert book.outcomes["actor_died"] > 0, report
    assert book.outcomes["answered"] > book.outcomes["actor_died"], report


# --- real processes ---------------------------------------------------------------------------


@dataclass
class Writer:
    """Writes turns into a conversation of its own, one after the other."""

    number: int
    conversation: str = ""
    written: list[str] = field(default_factory=list)
    """What was acknowledged."""
    errors: list[NoyauError] = field(default_factory=list)

    async def write(self, client: Client, stop: asyncio.Event) -> None:
        """Until it is told to stop."""
        for number in range(10**9):
            if stop.is_set():
                return
            text = f"{self.number}: {number}"
            turns = [Turn(role="user", content=text)]
            try:
                done = await client.ask(AppendTurns(conversation=self.conversation, turns=turns))
            except NoyauError as error:
                self.errors.append(error)
            else:
                self.conversation = done.conversation
                self.written.append(text)

    async def check(self, client: Client) -> None:
        """All that was acknowledged is there; nothing is there twice."""
        wrong = [e for e in self.errors if not (e.retryable or isinstance(e, Poisoned))]
        assert wrong == []
        found = await client.ask(GetConversation(conversation=self.conversation, last=10_000))
        texts = [turn.content for turn in found.turns]
        assert found.total == len(texts), "more turns than one answer holds: write less"
        assert Counter(texts).most_common(1)[0][1] == 1
        assert [text for text in texts if text in set(self.written)] == self.written


async def next_pid(client: Client, old: int | None) -> int:
    """That of the memory actor that is there after the one that was killed."""
    found = await status_when(client, lambda s: running_pid(s, "memory") not in (None, old))
    pid = running_pid(found, "memory")
    assert pid is not None
    return pid


async def written(writers: list[Writer], more: int) -> None:
    """Wait until so many more turns are acknowledged."""

    def count() -> int:
        return sum(len(writer.written) for writer in writers)

    wanted = count() + more
    await eventually(lambda: count() >= wanted)


@pytest.mark.timeout(120 + 5 * PROCESS_KILLS)
async def test_what_is_written_while_its_process_is_killed_again_and_again_is_there_once() -> None:
    chance, stop = random.Random(SEED), asyncio.Event()
    writers = [Writer(number) for number in range(3)]
    settings = (
        "restart.max_restarts=10000", "restart.backoff_first_s=0.001",
        "restart.backoff_max_s=0.05", "device.profile=micro",
    )  # fmt: skip
    async with running(*settings) as system, await connect(system) as client:
        writing = [asyncio.ensure_future(writer.write(client, stop)) for writer in writers]
        pid: int | None = None
        for _ in range(PROCESS_KILLS):
            pid = await next_pid(client, pid)
            await written(writers, chance.randrange(12))
            os.kill(pid, signal.SIGKILL)
        stop.set()
        await asyncio.gather(*writing)
        for writer in writers:
            await writer.check(client)
        assert all(writer.written for writer in writers)
