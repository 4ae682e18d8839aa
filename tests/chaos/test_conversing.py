"""Any of the six is killed at random while clients talk: what was acknowledged is there, once.

Some seconds as one of all tests; ``make chaos`` runs it for five (``CHAOS_S`` seconds).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from noyau import Client, NoyauError, Query
from protocol.lifecycle import SETTLED
from protocol.messages.memory import GetConversation, ListMemories, Remember, StoredTurn
from protocol.messages.supervisor import Status
from tests.support.system import System, connect, running, status_when

SECONDS = float(os.environ.get("CHAOS_S", "10"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
SIX = ("storage", "cpu_engine", "gpu_engine", "memory", "tool_user", "orchestrator")
CLIENTS = 4
BETWEEN_KILLS_S = (0.2, 1.5)
QUERY_S = 60.0
GRACE_S = 1.0
MOST_ERRORS = 0.05
"""As a share of what was asked."""
ENOUGH = int(1 / MOST_ERRORS)
"""Asked, of which one error is that share."""
REMEMBER_EVERY = 5
SETTINGS = (
    "restart.max_restarts=10000",
    # So many kills from outside would be taken for the doing of the queries that they hit.
    "query.max_deaths_in_a_row=1000",
    "query.max_continuations=1000",
    # An engine that was killed has to read everything again: with long conversations, two cores
    # would do nothing else between two kills.
    "actors.orchestrator.settings.history_turns=6",
)


@dataclass
class Talk:
    """What one client said, and what it was told."""

    number: int
    conversation: str = ""
    answered: list[tuple[str, str]] = field(default_factory=list)
    """Each question that was answered, and its answer, in their order."""
    errors: list[NoyauError] = field(default_factory=list)
    remembered: dict[str, str] = field(default_factory=dict)
    """By id, what was acknowledged as remembered."""
    longest_s: float = 0.0

    @property
    def asked(self) -> int:
        """How often it was told anything."""
        return len(self.answered) + len(self.errors)

    async def go_on(self, client: Client, is_over: Callable[[], bool]) -> None:
        """One turn after the other, until it is over."""
        asked = 0
        while not is_over():
            asked += 1
            await self._ask(client, f"Client {self.number} says its sentence number {asked}.")
            if asked % REMEMBER_EVERY == 1:
                await self._remember(client, asked)

    async def _ask(self, client: Client, question: str) -> None:
        query = Query(text=question, conversation=self.conversation, max_tokens=16)
        began = client.caller.clock.now()
        try:
            answer = await client.ask(query, timeout_s=QUERY_S)
        except NoyauError as error:
            self.errors.append(error)
        else:
            assert answer.metadata.finish_reason in ("stop", "length")
            assert self.conversation in ("", answer.metadata.conversation)
            self.conversation = answer.metadata.conversation
            self.answered.append((question, answer.text))
        self.longest_s = max(self.longest_s, client.caller.clock.now() - began)

    async def _remember(self, client: Client, asked: int) -> None:
        text = f"{self.number}/{asked}: " + " ".join(random.choices(WORDS, k=6))
        try:
            done = await client.ask(Remember(text=text), timeout_s=QUERY_S)
        except NoyauError as error:
            self.errors.append(error)
        else:
            self.remembered[done.id] = text


_WORDS = """
harbour violin granite lantern orchard compass saddle thunder meadow anchor kettle marble
falcon ribbon cellar canyon pepper bridge tunnel copper window ladder garden winter pencil
basket candle forest mirror island button cotton dragon engine fabric galaxy hammer insect
jacket kitten lemon
"""
WORDS = tuple(_WORDS.split())


async def kill_at_random(system: System, chance: random.Random) -> list[str]:
    """Kill one of the six after the other until the time is over and each was killed; returns
    whom."""
    killed: list[str] = []
    async with await connect(system) as client:
        over_at = client.caller.clock.now() + SECONDS
        victims: list[str] = []
        while client.caller.clock.now() < over_at or {*killed} != {*SIX}:
            await asyncio.sleep(chance.uniform(*BETWEEN_KILLS_S))
            # Each once, then each once more, in an order of its own every time.
            if not victims:
                victims = chance.sample(SIX, k=len(SIX))
            victim = victims.pop()
            found = await client.status()
            pid = next(actor.pid for actor in found.actors if actor.name == victim)
            if pid is not None:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed.append(victim)
    return killed


@pytest.mark.timeout(SECONDS + 300)
async def test_every_turn_and_memory_is_there_once_whichever_of_the_six_is_killed() -> None:
    print(f"seed {SEED}, {SECONDS:g} s")  # noqa: T201 - shown with a failure, to have it again
    talks = [Talk(number) for number in range(1, CLIENTS + 1)]
    async with running(*SETTINGS) as system:
        clients = [await connect(system) for _ in talks]
        async with asyncio.TaskGroup() as tasks:
            killing = tasks.create_task(kill_at_random(system, random.Random(SEED)))

            def is_over() -> bool:
                return killing.done() and sum(talk.asked for talk in talks) >= ENOUGH

            for talk, client in zip(talks, clients, strict=True):
                tasks.create_task(talk.go_on(client, is_over))
        await status_when(clients[0], all_settled)
        for talk in talks:
            await every_turn_is_there(clients[0], talk)
        await every_memory_is_there(clients[0], talks)
        for client in clients:
            await client.close()
    check_numbers(talks, killing.result())


def all_settled(found: Status) -> bool:
    return all(actor.state in SETTLED for actor in found.actors)


async def every_turn_is_there(client: Client, talk: Talk) -> None:
    """Question and answer side by side, complete, once, in order. What ended in an error may be
    there too, but no more than once."""
    kept = await client.ask(GetConversation(conversation=talk.conversation, last=10_000))
    assert [turn.number for turn in kept.turns] == list(range(kept.total))
    pairs = [*zip(kept.turns[::2], kept.turns[1::2], strict=True)]
    assert all(is_pair(question, answer) for question, answer in pairs)
    stored = [(question.content, answer.content) for question, answer in pairs]
    assert len({question for question, _ in stored}) == len(stored), "something is there twice"
    answered = dict(talk.answered)
    assert [pair for pair in stored if pair[0] in answered] == talk.answered


def is_pair(question: StoredTurn, answer: StoredTurn) -> bool:
    return (question.role, answer.role) == ("user", "assistant")


async def every_memory_is_there(client: Client, talks: list[Talk]) -> None:
    there: dict[str, str] = {}
    while True:
        page = await client.ask(ListMemories(offset=len(there), limit=1000))
        there |= {item.id: item.text for item in page.items}
        if len(there) >= page.total or not page.items:
            break
    assert len(set(there.values())) == len(there), "something is remembered twice"
    for talk in talks:
        for id_ in talk.remembered:
            assert id_ in there


def check_numbers(talks: list[Talk], killed: list[str]) -> None:
    answered = sum(len(talk.answered) for talk in talks)
    errors = [error for talk in talks for error in talk.errors]
    print(  # noqa: T201 - shown with a failure, and with -s
        f"{answered} answered, {len(errors)} errors, {sum(len(t.remembered) for t in talks)} "
        f"remembered, {len(killed)} kills, longest {max(t.longest_s for t in talks):.1f} s"
    )
    assert {*killed} == {*SIX}
    assert len(errors) <= MOST_ERRORS * (answered + len(errors)), errors
    assert all(talk.answered for talk in talks)
    assert any(talk.remembered for talk in talks)
    assert max(talk.longest_s for talk in talks) <= QUERY_S + GRACE_S
