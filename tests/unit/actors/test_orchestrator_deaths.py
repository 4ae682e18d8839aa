"""Engines die over a query: each death is counted in its row, and suspects are tried alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from actors.kernel.request import Request
from actors.orchestrator.acceptance import Acceptance
from actors.orchestrator.answer import AnswerInProgress
from actors.orchestrator.generating import Engines
from actors.orchestrator.wanted import Wanted
from actors.storage.work import (
    DeathBounds,
    Return,
    Work,
    WorkState,
    accepted_by,
    died_over,
)
from configs import load_settings
from protocol.caller import Caller
from protocol.clock import ManualClock
from protocol.directory import Directory
from protocol.errors import ActorDied, ActorUnavailable, NoyauError, Poisoned
from protocol.lifecycle import ActorState
from protocol.messages.base import Empty
from protocol.messages.engine import ChatMessage, Generate, Generated, Tokens
from protocol.messages.orchestrator import Begun, Query
from protocol.messages.storage import (
    AcceptWork,
    ListPoisoned,
    PoisonedWork,
    RecordDeath,
    SettleWork,
    WorkItem,
)
from protocol.messages.supervisor import DirectoryEntry
from tests.support.waiting import eventually

BOUNDS = DeathBounds(in_a_row=2, in_all=16)
ENGINE = "cpu_engine"
SETTINGS = load_settings(environ={}, assignments=[f'query.engines=["{ENGINE}"]'])
REQUEST = cast(Request, SimpleNamespace(verdict=None))
"""Nobody but its client takes it back."""
END = Generated(
    finish_reason="stop", model="m", model_name="m", device="cpu", backend="simulated",
    prompt_tokens=1, completion_tokens=1, prefill_ms=0, decode_ms=0, tokens_per_s=0,
)  # fmt: skip


def died(epoch: str) -> ActorDied:
    return ActorDied("killed", actor=ENGINE, epoch=epoch)


@dataclass
class EngineStream:
    """What an engine says to one request: pieces, then its end or an error."""

    pieces: list[str]
    error: NoyauError | None
    gate: asyncio.Event | None
    end: Generated | None = None
    _saying: AsyncIterator[Tokens] | None = None

    async def __aenter__(self) -> EngineStream:
        return self

    async def __aexit__(self, *exc: object) -> None: ...

    def __aiter__(self) -> AsyncIterator[Tokens]:
        return self

    async def __anext__(self) -> Tokens:
        if self._saying is None:
            self._saying = self._say()
        return await anext(self._saying)

    async def _say(self) -> AsyncIterator[Tokens]:
        if self.gate is not None:
            await self.gate.wait()
        for piece in self.pieces:
            yield Tokens(text=piece)
        if self.error is not None:
            raise self.error
        self.end = END


@dataclass
class System:
    """Storage and an engine, as the orchestrator's caller sees them."""

    says: dict[str, list[EngineStream]] = field(default_factory=dict)
    """By question, what is said to each try."""
    rows: dict[str, Work] = field(default_factory=dict)
    bounds: DeathBounds = BOUNDS
    settled: list[str] = field(default_factory=list)
    """Ids of the queries whose end was written."""
    tries: list[str] = field(default_factory=list)
    storage_error: NoyauError | None = None
    storage_gate: asyncio.Event | None = None
    """Until it is set, no death is counted."""
    directory: Directory = field(default_factory=Directory)

    def __post_init__(self) -> None:
        self.directory.apply(
            [
                DirectoryEntry(
                    name=ENGINE, epoch="b-4", endpoint="e", state=ActorState.READY,
                    info={"slots": 4},
                )
            ]
        )  # fmt: skip

    async def stream(self, target: str, message: Generate) -> EngineStream:
        question = message.messages[-1].content
        self.tries.append(question)
        return self.says[question].pop(0)

    async def ask(self, target: str, message: object, **options: Any) -> object:
        match message:
            case AcceptWork():
                new = Work(
                    message.id, "query", WorkState.ACCEPTED, message.request, message.holder, 0.0
                )
                returned = Return(message.lost, message.emitted) if message.lost else None
                return self._put(accepted_by(self.rows.get(message.id), new, returned, self.bounds))
            case RecordDeath():
                if self.storage_gate is not None:
                    await self.storage_gate.wait()
                if self.storage_error is not None:
                    raise self.storage_error
                row = self.rows[message.id]
                return self._put(died_over(row, message.died, message.emitted, self.bounds, 0.0))
            case ListPoisoned():
                return PoisonedWork(
                    ids=[row.id for row in self.rows.values() if row.error_code == "poisoned"]
                )
            case SettleWork():
                self.settled.append(message.id)
                return Empty()
        raise AssertionError(f"{message} is not expected")

    def _put(self, work: Work) -> WorkItem:
        self.rows[work.id] = work
        return WorkItem(
            id=work.id, state=work.state.value, request={}, taken_up=work.taken_up,
            accepted_at=0.0, error_code=work.error_code, deaths=list(work.deaths.in_a_row),
            deaths_in_all=work.deaths.in_all,
        )  # fmt: skip


def tries(*each: tuple[list[str], NoyauError | None]) -> list[EngineStream]:
    """What is said to each try."""
    return [EngineStream(pieces, error, None) for pieces, error in each]


class Orchestrating:
    """One incarnation of an orchestrator."""

    def __init__(self, system: System, epoch: str = "b-1", max_deaths_in_a_row: int = 2) -> None:
        caller = cast(Caller, system)
        self.clock = ManualClock()
        self.acceptance = Acceptance(caller, epoch, 30, max_deaths_in_a_row)
        self.engines = Engines(caller, self.clock, SETTINGS, lambda *a, **b: None)

    async def answer(self, query: Query, hear: Callable[[str], object] = lambda _: None) -> str:
        answer = AnswerInProgress(query.id, "", 0.0, 16, query.begun)
        turns = [ChatMessage(role="user", content=query.text)]
        wanted = Wanted(Generate(messages=turns), until=1000.0)
        async with self.acceptance.of(query, REQUEST) as accepted:
            async for piece in self.engines.generate(wanted, answer, accepted):
                accepted.got_on()
                hear(piece.text)
        return answer.text


def returning(query: Query, lost: str, text: str = "") -> Query:
    begun = Begun(text=text, lost=f"orchestrator.{lost}", died=True)
    return query.model_copy(update={"begun": begun})


async def test_the_second_death_in_a_row_ends_the_query_and_there_is_no_third_try() -> None:
    system = System(says={"q": tries(([], died("b-4")), ([], died("b-5")))})
    query = Query(text="q")
    with pytest.raises(Poisoned, match="cpu_engine, 2 times in a row"):
        await Orchestrating(system).answer(query)
    assert system.tries == ["q", "q"]
    assert system.rows[query.id].error_code == "poisoned"


async def test_while_a_first_death_is_counted_the_next_engine_reads_and_says_nothing() -> None:
    gate = asyncio.Event()
    system = System(says={"q": tries((["a"], died("b-4")), (["b"], None))}, storage_gate=gate)
    query = Query(text="q")
    heard: list[str] = []
    here = Orchestrating(system)
    answering = asyncio.create_task(here.answer(query, heard.append))
    await eventually(lambda: system.tries == ["q", "q"])
    assert (heard, system.rows[query.id].deaths.in_all) == (["a"], 0)
    gate.set()
    assert await answering == "ab"
    assert system.rows[query.id].deaths.in_all == 1


async def test_a_second_death_is_not_counted_before_the_first_is() -> None:
    gate = asyncio.Event()
    system = System(says={"q": tries(([], died("b-4")), ([], died("b-5")))}, storage_gate=gate)
    answering = asyncio.create_task(Orchestrating(system).answer(Query(text="q")))
    await eventually(lambda: system.tries == ["q", "q"])
    assert not answering.done()
    gate.set()
    with pytest.raises(Poisoned, match="2 times in a row"):
        await answering
    assert system.tries == ["q", "q"]


async def test_where_one_death_is_too_many_there_is_no_second_try() -> None:
    system = System(says={"q": tries(([], died("b-4")))}, bounds=DeathBounds(1, 16))
    with pytest.raises(Poisoned):
        await Orchestrating(system, max_deaths_in_a_row=1).answer(Query(text="q"))
    assert system.tries == ["q"]


async def test_what_is_taken_back_while_a_death_is_counted_ends_after_that() -> None:
    gate = asyncio.Event()
    said = [*tries(([], died("b-4"))), EngineStream([], None, asyncio.Event())]
    system = System(says={"q": said}, storage_gate=gate)
    here = Orchestrating(system)
    answering = asyncio.create_task(here.answer(Query(text="q")))
    await eventually(lambda: system.tries == ["q", "q"])
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert system.settled == []
    gate.set()
    await here.acceptance.settled(5)
    assert len(system.settled) == 1


async def test_new_text_between_two_deaths_is_no_row_of_deaths() -> None:
    says = tries((["a"], died("b-4")), (["b"], died("b-5")), (["c"], died("b-6")), (["d"], None))
    system = System(says={"q": says})
    assert await Orchestrating(system).answer(Query(text="q")) == "abcd"


async def test_an_engine_that_hands_its_work_back_has_not_died_of_it() -> None:
    drained = ActorUnavailable("cpu_engine is stopping", name=ENGINE)
    system = System(says={"q": tries(*[([], drained)] * 3, (["a"], None))})
    query = Query(text="q")
    assert await Orchestrating(system).answer(query) == "a"
    assert system.rows[query.id].deaths.in_all == 0


async def test_a_query_that_was_given_up_is_given_up_for_whoever_asks_again() -> None:
    system = System(says={"q": tries(([], died("b-4")), ([], died("b-5")))})
    query = Query(text="q")
    here = Orchestrating(system)
    for orchestrator in (here, here, Orchestrating(system, "b-2")):
        with pytest.raises(Poisoned, match="2 times in a row"):
            await orchestrator.answer(query)
    assert system.tries == ["q", "q"]


async def test_deaths_of_engines_and_orchestrators_make_one_row() -> None:
    system = System(says={"q": tries(([], died("b-4")))})
    query = Query(text="q")
    with pytest.raises(Poisoned, match="orchestrator and cpu_engine"):
        await Orchestrating(system, "b-2").answer(returning(query, "b-1"))
    assert system.tries == ["q"]


async def test_a_query_that_two_orchestrators_died_over_is_not_looked_at_by_a_third() -> None:
    system, query = System(), Query(text="q")
    # As much as the second one did before it died.
    accept = AcceptWork(
        id=query.id, kind="query", request={}, holder="b-2", lost="orchestrator.b-1"
    )  # fmt: skip
    await system.ask("storage", accept)
    with pytest.raises(Poisoned, match="orchestrator, 2 times in a row"):
        await Orchestrating(system, "b-3").answer(returning(query, "b-2"))
    assert system.tries == []


async def test_a_death_that_cannot_be_counted_does_not_end_the_answer() -> None:
    system = System(says={"q": tries(([], died("b-4")), ([], died("b-5")), (["a"], None))})
    system.storage_error = ActorUnavailable("storage is failed")
    assert await Orchestrating(system).answer(Query(text="q")) == "a"


async def test_suspects_are_tried_one_at_a_time_until_they_get_on() -> None:
    gate = asyncio.Event()
    system = System(
        says={
            "first": [*tries(([], died("b-4"))), EngineStream(["a"], None, gate)],
            "second": tries(([], died("b-4")), (["b"], None)),
            "fresh": tries((["c"], None)),
        }
    )
    here = Orchestrating(system)
    # Until an engine has told how many slots it has, there is one.
    assert await here.answer(Query(text="fresh")) == "c"
    first = asyncio.create_task(here.answer(Query(text="first")))
    await eventually(lambda: system.tries.count("first") == 2)
    second = asyncio.create_task(here.answer(Query(text="second")))
    await eventually(lambda: any(row.deaths.in_all and not row.in_hand for row in waiting(system)))
    system.says["fresh"] = tries((["c"], None))
    # Nobody else waits for the suspects.
    assert await here.answer(Query(text="fresh")) == "c"
    assert system.tries.count("second") == 1
    gate.set()
    assert (await first, await second) == ("a", "b")


def waiting(system: System) -> list[Work]:
    """The rows of the second query."""
    return [row for row in system.rows.values() if row.request.get("text") == "second"]


async def test_those_that_come_back_are_accepted_one_at_a_time_until_they_get_on() -> None:
    gate = asyncio.Event()
    system = System(
        says={"first": [EngineStream(["a"], None, gate)], "second": tries((["b"], None))}
    )
    here = Orchestrating(system, "b-2")
    queries = [Query(text="first"), Query(text="second")]
    answers = [asyncio.create_task(here.answer(returning(query, "b-1"))) for query in queries]
    await eventually(lambda: system.tries == ["first"])
    assert list(system.rows) == [queries[0].id]
    gate.set()
    assert [await answer for answer in answers] == ["a", "b"]
