"""An answer's way through the engines: its slot, its engine, and the next one when that is lost.

::

    slot ─► engine READY? ─► generate ─► pieces ─► end
               ▲                │
               └── engine lost ─┘   (with the text so far; its death is counted)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog

from actors.orchestrator.acceptance import Accepted
from actors.orchestrator.answer import AnswerInProgress
from actors.orchestrator.choice import Losses, choose
from actors.orchestrator.history import History
from actors.orchestrator.poison import Quarantine, Stay
from actors.orchestrator.slots import Slots
from configs.sections import QuerySettings
from protocol.backoff import Backoff
from protocol.caller import Caller
from protocol.clock import Clock
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
from protocol.messages.engine import (
    ChatMessage,
    CountTokens,
    Format,
    Generate,
    Generated,
    Sampling,
)
from protocol.messages.orchestrator import Text
from protocol.messages.supervisor import DirectoryEntry

LOSSES = (ActorDied, ActorUnavailable, StreamBroken, EngineFailed, InternalError)
"""Ends of an engine's stream after which another engine, or its next incarnation, may go on."""

AFTER_LOSS = Backoff(first_s=0.005, factor=3.0, max_s=1.0)
"""Before the next try. An engine that refuses while the directory still calls it READY, because it
has just begun to drain, must not use up all tries within a millisecond."""

TEMPLATE_TOKENS = 8
"""What a chat template puts around a turn: at most this in the templates in common use."""
FILLED_TOKENS = 128
"""Arguments of tools are short."""
ANSWER_SHARE = 4
"""An answer keeps at most a quarter of the context free for itself: the history is worth more."""

log = structlog.get_logger("orchestrator")


class Engines:
    """The engines that the settings name, and whose turn it is."""

    def __init__(self, caller: Caller, clock: Clock, settings: QuerySettings) -> None:
        self._caller = caller
        self._clock = clock
        self._settings = settings
        # One at a time until an engine says how many slots it has.
        self._slots: Slots[asyncio.Future[None]] = Slots(1, settings.max_waiting)
        self._quarantine = Quarantine()

    @property
    def waiting(self) -> int:
        """Queries that wait for a slot."""
        return self._slots.waiting

    async def generate(
        self,
        turns: Sequence[ChatMessage],
        sampling: Sampling,
        answer: AnswerInProgress,
        accepted: Accepted,
        until: float,
        before_first: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncGenerator[Text | Generated, None]:
        """The pieces of the answer, then how its last engine ended it. Raises `Overloaded`,
        `DeadlineExceeded`, `ActorUnavailable`, `Poisoned`, and what engines refuse.

        ``before_first`` is awaited between the first piece's coming and its being said; what it
        raises ends the generation, of which nothing is then a part of the answer.
        """
        lost = Losses()
        async with self._slot(until), self._quarantined() as stay:
            answer.admitted(self._clock.now())
            accepted.begin()
            while True:
                if accepted.suspect:
                    await stay.enter()
                engine = await self._engine(until, lost)
                accepted.begin()
                try:
                    answer.prompt = await self._fitting(engine, turns, sampling, answer)
                    step = Generate(
                        messages=answer.prompt, sampling=sampling, begun=answer.continuation()
                    )  # fmt: skip
                    async with await self._caller.stream(engine.name, step) as stream:
                        async for piece in stream:
                            # Nothing is said before the row is committed.
                            await accepted.committed()
                            if before_first is not None:
                                await before_first()
                                before_first = None
                            model = str(engine.info.get("model_id", ""))
                            stay.leave()
                            yield answer.take(piece, self._clock.now(), model)
                    await accepted.committed()
                    if stream.end is None:
                        raise InternalError("an engine's stream ended without its end")
                    answer.ended_by(f"{engine.name}.{engine.epoch}", stream.end)
                    yield stream.end
                    return
                except LOSSES as loss:
                    stay.leave()
                    self._lost(answer, engine, loss)
                    lost.add(engine)
                    await asyncio.sleep(AFTER_LOSS.ceiling(answer.losses_in_a_row - 1))
                    await self._count_death(accepted, loss, answer.length)
                except Overloaded as full:
                    # Its slots are held for a moment by queries that nobody waits for any more.
                    await asyncio.sleep(float(full.details.get("retry_after_s", 0.05)))

    @asynccontextmanager
    async def _quarantined(self) -> AsyncGenerator[Stay, None]:
        """A stay that is over with what is done in it."""
        stay = self._quarantine.stay()
        try:
            yield stay
        finally:
            stay.leave()

    async def _count_death(self, accepted: Accepted, loss: NoyauError, emitted: int) -> None:
        """Have it counted when the engine's process died over the query. Raises what
        `Accepted.died` raises. Not called at once: where all die together, the engine first, this
        process is to be gone before it can count the same thing twice."""
        if isinstance(loss, ActorDied) and loss.process is not None:
            await accepted.died(loss.process, emitted)

    def _lost(self, answer: AnswerInProgress, engine: DirectoryEntry, loss: NoyauError) -> None:
        log.warning(
            "engine_lost", engine=engine.name, epoch=engine.epoch, code=loss.code,
            reason=loss.message,
        )  # fmt: skip
        answer.lost(f"{engine.name}.{engine.epoch}", loss, self._clock.now())

    async def fill(
        self,
        turns: Sequence[ChatMessage],
        schema: dict[str, Any],
        accepted: Accepted,
        until: float,
    ) -> Any:
        """A value that the model makes for these turns under a JSON schema.

        Raises `InvalidRequest` when the model made none, `Poisoned`, and what engines raise: it is
        tried once.
        """
        sampling = Sampling(max_tokens=FILLED_TOKENS, temperature=0)
        step = Generate(messages=list(turns), sampling=sampling, format=Format(json_schema=schema))
        pieces: list[str] = []
        async with self._slot(until), self._quarantined() as stay:
            if accepted.suspect:
                await stay.enter()
            engine = await self._engine(until, Losses())
            accepted.begin()
            try:
                async with await self._caller.stream(engine.name, step) as stream:
                    async for piece in stream:
                        pieces.append(piece.text)
            except ActorDied as loss:
                stay.leave()
                await self._count_death(accepted, loss, 0)
                raise
        try:
            return json.loads("".join(pieces))
        except ValueError:
            raise InvalidRequest("the model's JSON is not complete") from None

    async def _engine(self, until: float, lost: Losses) -> DirectoryEntry:
        """The engine to ask, see `choose`; waits for one until the deadline.

        Raises `ActorUnavailable` when none of them will come back, or none came in time.
        """
        while True:
            gone: list[str] = []
            ready: list[DirectoryEntry] = []
            for name in self._settings.engines:
                try:
                    entry = self._caller.directory.ready(name, self._clock.now())
                except NoyauError as error:
                    gone.append(error.message)
                else:
                    ready += [entry] if entry is not None else []
            engine = choose(ready, lost)
            if engine is not None:
                self._resize(engine)
                return engine
            if len(gone) == len(self._settings.engines):
                raise ActorUnavailable(
                    "no engine can answer: " + ("; ".join(gone) or "none is set")
                )
            if self._clock.now() >= until:
                raise DeadlineExceeded("no engine was ready in time")
            await self._caller.wait_for_news(min(until, self._clock.now() + SUSPICION_S))

    # --- what fits into the context ---------------------------------------------------------

    async def _fitting(
        self,
        engine: DirectoryEntry,
        turns: Sequence[ChatMessage],
        sampling: Sampling,
        answer: AnswerInProgress,
    ) -> list[ChatMessage]:
        """The turns that fit into this engine's context, the oldest left out. Raises `ActorDied`
        when the engine dies over them."""
        context = int(engine.info.get("context_tokens", 0))
        budget = context - min(sampling.max_tokens, context // ANSWER_SHARE)
        sizes = [len(turn.content.encode()) + TEMPLATE_TOKENS for turn in turns]
        # No token is shorter than a byte, so most conversations need not be counted.
        if not context or len(turns) == 1 or sum(sizes) <= budget:
            return list(turns)
        try:
            texts = [turn.content for turn in turns]
            # Once: should it die over this, that counts as if it had died over the answer.
            counted = await self._caller.ask(engine.name, CountTokens(texts=texts), again=False)
        except ActorDied:
            raise
        except LOSSES:
            # It is lost, and whoever generates finds that out; bytes are on the safe side.
            counts = sizes
        else:
            counts = [count + TEMPLATE_TOKENS for count in counted.counts]
        return self._trim(turns, counts, budget, answer)

    def _trim(
        self,
        turns: Sequence[ChatMessage],
        counts: Sequence[int],
        budget: int,
        answer: AnswerInProgress,
    ) -> list[ChatMessage]:
        cost = {id(turn): count for turn, count in zip(turns, counts, strict=True)}
        history: History[ChatMessage] = History(budget, lambda turn: cost[id(turn)])
        trimmed = history.trim(turns)
        answer.dropped_turns = len(trimmed.dropped)
        return trimmed.kept

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
            await asyncio.wait_for(asyncio.shield(turn), max(0.0, until - self._clock.now()))
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
