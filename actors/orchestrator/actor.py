"""The orchestrator: a query's way. It owns nothing: any incarnation can go on where one died.

::

    query ─► slot ─► engine READY? ─► generate ─► pieces ─► end with metadata
                        ▲                │
                        └── engine lost ─┘   (with the text so far)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypeVar

from actors.kernel import Actor, Surroundings, handles
from actors.kernel.request import Request
from actors.orchestrator.acceptance import Acceptance
from actors.orchestrator.answer import AnswerInProgress
from actors.orchestrator.choice import choose
from actors.orchestrator.slots import Slots
from configs.schema import OrchestratorSettings
from protocol.backoff import Backoff
from protocol.directory import SUSPICION_S
from protocol.errors import (
    ActorDied,
    ActorUnavailable,
    DeadlineExceeded,
    EngineFailed,
    InternalError,
    InvalidRequest,
    NoyauError,
    Overloaded,
    StreamBroken,
)
from protocol.messages.engine import ChatMessage, Generate, Generated, Sampling, Tokens
from protocol.messages.orchestrator import Answered, Query, Text
from protocol.messages.supervisor import DirectoryEntry
from protocol.pending import OutgoingStream

T = TypeVar("T")

LOSSES = (ActorDied, ActorUnavailable, StreamBroken, EngineFailed, InternalError)
"""Ends of an engine's stream after which another engine, or its next incarnation, may go on."""

SETTLE_ON_STOP_S = 1.0
"""How long a stop waits for the ends of its queries to be written; what is not, is ended by the
next incarnation."""
AFTER_LOSS = Backoff(first_s=0.005, factor=3.0, max_s=1.0)
"""Before the next try. An engine that refuses while the directory still calls it READY, because it
has just begun to drain, must not use up all tries within a millisecond."""


class Orchestrator(Actor):
    """Takes questions and sees each through to its end."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._options = self.options(OrchestratorSettings)
        self._query = surroundings.incarnation.settings.query
        # One at a time until an engine says how many slots it has.
        self._slots: Slots[asyncio.Future[None]] = Slots(1, self._query.max_waiting)
        self._acceptance = Acceptance(self.caller, self.epoch, self._query.abandoned_after_s)
        self._sweeping: asyncio.Task[list[str]] | None = None

    async def on_start(self) -> None:
        """Look after what a dead incarnation left; in the background."""
        self._sweeping = asyncio.create_task(self._acceptance.end_abandoned())
        self._sweeping.add_done_callback(self._swept)

    def _swept(self, sweeping: asyncio.Task[list[str]]) -> None:
        if not sweeping.cancelled() and (error := sweeping.exception()) is not None:
            self.log.warning("abandoned_queries_not_ended", error=str(error))

    async def on_stop(self) -> None:
        """Have written how every query ended."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._acceptance.settled(SETTLE_ON_STOP_S)

    @handles(Query)
    async def query(
        self, message: Query, request: Request
    ) -> AsyncGenerator[Text | Answered, None]:
        """Answer one question."""
        now = self.clock.now()
        if request.context.deadline is None:
            request.context.deadline = now + self._query.deadline_s
        until = request.context.deadline
        answer = AnswerInProgress(
            message.id, request.context.correlation.hex(), now, self._query.max_continuations,
            message.begun,
        )  # fmt: skip
        generate = Generate(messages=self._prompt(message), sampling=self._sampling(message))
        lost: set[str] = set()
        async with self._acceptance.of(message, request) as accepted, self._slot(until):
            answer.admitted(self.clock.now())
            accepted.begin()
            while True:
                engine = await self._engine(until, lost)
                step = generate.model_copy(update={"begun": answer.continuation()})
                try:
                    async with await self.caller.stream(engine.name, step) as stream:
                        async for piece in stream:
                            # Nothing is said before the row is committed.
                            await accepted.committed()
                            yield self._passed_on(answer, piece, engine)
                    await accepted.committed()
                    accepted.done = True
                    yield self._finished(answer, stream, engine)
                    return
                except LOSSES as loss:
                    self._lost(answer, engine, loss)
                    lost.add(engine.epoch)
                    await asyncio.sleep(AFTER_LOSS.ceiling(answer.losses_in_a_row - 1))
                except Overloaded as full:
                    # Its slots are held for a moment by queries that nobody waits for any more.
                    await asyncio.sleep(float(full.details.get("retry_after_s", 0.05)))

    # --- the question -----------------------------------------------------------------------

    def _prompt(self, message: Query) -> list[ChatMessage]:
        if message.text and message.messages:
            raise InvalidRequest("give the question as text or as messages, not as both")
        turns = list(message.messages)
        if message.text:
            turns.append(ChatMessage(role="user", content=message.text))
        if not any(turn.role == "user" and turn.content.strip() for turn in turns):
            raise InvalidRequest("the question is empty")
        system = self._options.system_prompt
        if system and turns[0].role != "system":
            turns.insert(0, ChatMessage(role="system", content=system))
        return turns

    def _sampling(self, message: Query) -> Sampling:
        options = self._options
        return Sampling(
            max_tokens=_chosen(message.max_tokens, options.max_tokens),
            temperature=_chosen(message.temperature, options.temperature),
            top_p=_chosen(message.top_p, options.top_p),
            seed=_chosen(message.seed, options.seed),
            stop=message.stop,
        )

    # --- the engine -------------------------------------------------------------------------

    async def _engine(self, until: float, lost: set[str]) -> DirectoryEntry:
        """The engine to ask, see `choose`; waits for one until the deadline.

        Raises `ActorUnavailable` when none of them will come back, or none came in time.
        """
        while True:
            gone: list[str] = []
            ready: list[DirectoryEntry] = []
            for name in self._query.engines:
                try:
                    entry = self.caller.directory.ready(name, self.clock.now())
                except NoyauError as error:
                    gone.append(error.message)
                else:
                    ready += [entry] if entry is not None else []
            engine = choose(ready, lost)
            if engine is not None:
                self._resize(engine)
                return engine
            if len(gone) == len(self._query.engines):
                raise ActorUnavailable(
                    "no engine can answer: " + ("; ".join(gone) or "none is set")
                )
            if self.clock.now() >= until:
                raise DeadlineExceeded("no engine was ready in time")
            await self.caller.wait_for_news(min(until, self.clock.now() + SUSPICION_S))

    def _passed_on(self, answer: AnswerInProgress, piece: Tokens, engine: DirectoryEntry) -> Text:
        self.progressed(piece.count)
        return answer.take(piece, self.clock.now(), str(engine.info.get("model_id", "")))

    def _finished(
        self,
        answer: AnswerInProgress,
        stream: OutgoingStream[Tokens, Generated],
        engine: DirectoryEntry,
    ) -> Answered:
        if stream.end is None:
            raise InternalError("an engine's stream ended without its end")
        return answer.finish(f"{engine.name}.{engine.epoch}", stream.end, self.clock.now())

    def _lost(self, answer: AnswerInProgress, engine: DirectoryEntry, loss: NoyauError) -> None:
        self.log.warning(
            "engine_lost", engine=engine.name, epoch=engine.epoch, code=loss.code,
            reason=loss.message,
        )  # fmt: skip
        answer.lost(f"{engine.name}.{engine.epoch}", loss, self.clock.now())

    # --- slots ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _slot(self, until: float) -> AsyncGenerator[None, None]:
        """Hold one of the engine's slots, through all of its deaths. Raises `Overloaded` or
        `DeadlineExceeded`."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._slots.enter(turn):
            await self._wait_for_turn(turn, until)
        try:
            yield
        finally:
            self._call(self._slots.leave())

    async def _wait_for_turn(self, turn: asyncio.Future[None], until: float) -> None:
        try:
            await asyncio.wait_for(asyncio.shield(turn), max(0.0, until - self.clock.now()))
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done():
                self._call(self._slots.leave())
            else:
                self._slots.abandon(turn)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded("no engine slot was free in time") from None
            raise

    def _resize(self, engine: DirectoryEntry) -> None:
        slots = int(engine.info.get("slots", 1))
        if slots != self._slots.capacity:
            self._call(self._slots.resize(slots))

    def _call(self, turns: list[asyncio.Future[None]]) -> None:
        for turn in turns:
            if not turn.done():
                turn.set_result(None)


def _chosen(asked: T | None, default: T) -> T:
    return default if asked is None else asked
