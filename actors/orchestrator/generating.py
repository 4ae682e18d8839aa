"""An answer's way through the engines: its turn, its engine, and the next one when that is lost.

::

    turn ─► pick ─► listen ─► pieces ─► end
              ▲        │
              └─ lost ─┘   (with the text so far; a death is counted)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from actors.orchestrator.acceptance import Accepted
from actors.orchestrator.answer import AnswerInProgress
from actors.orchestrator.breaking import Publish
from actors.orchestrator.choice import LOSSES, Losses, lack_of, models_of
from actors.orchestrator.fitting import Fitter
from actors.orchestrator.listening import Listening
from actors.orchestrator.picking import NotePassedOver, Picker
from actors.orchestrator.poison import Quarantine, Stay
from actors.orchestrator.policies import admission_policy, breaker_policy
from actors.orchestrator.promises import unwanted
from actors.orchestrator.repetition import Repetition
from actors.orchestrator.runtime import Runtime
from actors.orchestrator.showing import engine_status, queue_status
from actors.orchestrator.turns import Turns
from actors.orchestrator.wanted import Wanted
from configs import Settings
from protocol.backoff import Backoff
from protocol.caller import Caller
from protocol.clock import Clock
from protocol.envelope import Priority
from protocol.errors import (
    ActorDied,
    AssetError,
    DeadlineExceeded,
    EngineCannotGoOn,
    InvalidRequest,
    NoyauError,
    OptionalAssetMissing,
    Overloaded,
    UnusableModel,
)
from protocol.lifecycle import ActorState
from protocol.messages.engine import Generate, Generated, Tokens
from protocol.messages.orchestrator import EngineStatus, QueueStatus, Text
from protocol.messages.supervisor import DirectoryEntry

AFTER_LOSS = Backoff(first_s=0.005, factor=3.0, max_s=1.0)
"""Before the next try, unless it is the first one after a loss and another engine's. An engine that
refuses while the directory still calls it READY, because it
has just begun to drain, must not use up all tries within a millisecond."""

GONE = (ActorState.FAILED, ActorState.STOPPED, ActorState.UNAVAILABLE)

log = structlog.get_logger("orchestrator")


class Engines:
    """The engines that the settings name, and whose turn it is."""

    def __init__(self, caller: Caller, clock: Clock, settings: Settings, publish: Publish) -> None:
        """``publish``: see `actors.kernel.Actor.publish`."""
        self._clock = clock
        self._directory = caller.directory
        self._repetition_chars = settings.query.repetition_chars
        self._runtime = Runtime(
            settings.query.engines, breaker_policy(settings.engine_breaker), settings.watchdog
        )
        self._listening = Listening(caller, clock, self._runtime, publish)
        self._picker = Picker(caller, clock, settings, self._runtime)
        self._fitter = Fitter(caller)
        self._turns = Turns(admission_policy(settings.admission), clock, publish)
        self._quarantine = Quarantine()
        self._models: dict[str, list[str]] = {}

    @property
    def waiting(self) -> int:
        """Queries that wait for their turn."""
        return self._turns.waiting

    async def generate(
        self,
        wanted: Wanted,
        answer: AnswerInProgress,
        accepted: Accepted,
        before_first: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncGenerator[Text, None]:
        """The pieces of the answer. Raises `Overloaded`,
        `DeadlineExceeded`, `ActorUnavailable`, `WouldBeDegraded`, `Poisoned`, and what engines
        refuse.

        ``before_first`` is awaited between the first piece's coming and its being said; what it
        raises ends the generation, of which nothing is then a part of the answer.
        """
        lost = Losses()
        loop = Repetition(self._repetition_chars)
        loop.take(answer.text)
        async with self._turn(wanted, accepted=accepted.may_exist), self._quarantined() as stay:
            answer.admitted(self._clock.now())
            accepted.begin()
            while True:
                if accepted.suspect:
                    await stay.enter()
                engine = await self._pick(wanted, lost, answer.passed_over)
                who = f"{engine.name}.{engine.epoch}"
                answer.asked(who, str(engine.info.get("device", "")))
                accepted.begin()
                try:
                    step, lacks = await self._step(engine, wanted, answer)
                    said = self._listening.listen(
                        engine, step, partial(self._picker.is_another, wanted, lost, engine.name)
                    )
                    async with contextlib.aclosing(said) as heard:
                        async for piece in heard:
                            if isinstance(piece, Tokens) and piece.stage is not None:
                                lacks.append(_allowed(piece.stage.lack, wanted))
                                continue
                            # Nothing is said before the row is committed.
                            await accepted.committed()
                            if isinstance(piece, Generated):
                                answer.ended_by(who, piece)
                                return
                            if before_first is not None:
                                await before_first()
                                before_first = None
                            stay.leave()
                            answer.made_without(lacks)
                            yield answer.take(piece, self._clock.now(), _model_id(engine, step))
                            if loop.take(piece.text):
                                answer.cut_short()
                                return
                except LOSSES as loss:
                    stay.leave()
                    await self._bear(loss, engine, lost, answer, accepted)
                    is_another = self._picker.is_another(wanted, lost, engine.name)
                    if answer.losses_in_a_row > 1 or not is_another:
                        await asyncio.sleep(AFTER_LOSS.ceiling(answer.losses_in_a_row - 1))
                except (AssetError, UnusableModel) as error:
                    stay.leave()
                    wanted = self._without_model(wanted, answer, error)
                except Overloaded as full:
                    await self._wait_for_slot(full, wanted)

    async def _wait_for_slot(self, full: Overloaded, wanted: Wanted) -> None:
        """Its slots are held for a moment by queries that nobody waits for any more. Raises
        `DeadlineExceeded`."""
        left_s = wanted.until - self._clock.now()
        if left_s <= 0:
            raise DeadlineExceeded("no engine had a free slot in time") from None
        wait_s = float(full.details.get("retry_after_s", 0.05))
        await asyncio.sleep(min(wait_s, left_s))

    @asynccontextmanager
    async def _quarantined(self) -> AsyncGenerator[Stay, None]:
        """A stay that is over with what is done in it."""
        stay = self._quarantine.stay()
        try:
            yield stay
        finally:
            stay.leave()

    async def _bear(
        self,
        loss: NoyauError,
        engine: DirectoryEntry,
        lost: Losses,
        answer: AnswerInProgress,
        accepted: Accepted,
    ) -> None:
        """Note that this engine was lost, so that another can be asked. Raises the loss where none
        will ever do better, and what `AnswerInProgress.lost` and `Accepted.died` raise."""
        self._lost(answer, engine, loss)
        lost.add(engine)
        if isinstance(loss, EngineCannotGoOn):
            # It never will; and where nobody else can, that is how the answer ends.
            lost.unable.add(engine.name)
            if not self._picker.others(lost):
                raise loss
        await self._count_death(accepted, loss, answer.length)

    async def _count_death(self, accepted: Accepted, loss: NoyauError, emitted: int) -> None:
        """Have it counted when the engine's process died over the query. Raises what
        `Accepted.died` raises."""
        if isinstance(loss, ActorDied) and loss.process is not None:
            await accepted.died(loss.process, emitted)

    def _lost(self, answer: AnswerInProgress, engine: DirectoryEntry, loss: NoyauError) -> None:
        log.warning(
            "engine_lost", engine=engine.name, epoch=engine.epoch, code=loss.code,
            reason=loss.message,
        )  # fmt: skip
        answer.lost(f"{engine.name}.{engine.epoch}", loss, self._clock.now())

    async def fill(self, wanted: Wanted, accepted: Accepted) -> Any:
        """A value that the model makes for these turns under a JSON schema.

        Raises `InvalidRequest` when the model made none, `Poisoned`, and what engines raise: it is
        tried once.
        """
        async with self._turn(wanted, accepted=accepted.may_exist), self._quarantined() as stay:
            if accepted.suspect:
                await stay.enter()
            engine = await self._pick(wanted, Losses())
            accepted.begin()
            try:
                # It is tried once: nobody would go on with it.
                heard = self._listening.listen(engine, wanted.step, lambda: False)
                async with contextlib.aclosing(heard) as said:
                    pieces = [one.text async for one in said if isinstance(one, Tokens)]
            except ActorDied as loss:
                stay.leave()
                await self._count_death(accepted, loss, 0)
                raise
        try:
            return json.loads("".join(pieces))
        except ValueError:
            raise InvalidRequest("the model's JSON is not complete") from None

    async def _step(
        self, engine: DirectoryEntry, wanted: Wanted, answer: AnswerInProgress
    ) -> tuple[Generate, list[str]]:
        """What this engine is asked: the turns that fit, and what there is of the answer; and what
        it is known to make it without. Raises `WouldBeDegraded` where that is not wanted."""
        fitting = await self._fitter.fitting(engine, wanted.step, answer)
        answer.prompt = fitting
        model, lacks = wanted.step.model, []
        if model and model not in models_of(engine):
            # The one that has it is lost, and the answer goes on all the same.
            lack = f"without the model {model}: {engine.name} has none by that name"
            lacks.append(_allowed(lack, wanted))
            model = ""
        if lack := lack_of(engine, model):
            lacks.append(_allowed(lack, wanted))
        step = wanted.step.model_copy(
            update={"messages": fitting, "begun": answer.continuation(), "model": model}
        )
        return step, lacks

    def _without_model(self, wanted: Wanted, answer: AnswerInProgress, error: NoyauError) -> Wanted:
        """The same with the default model, where the answer may be made without the one that
        cannot be had: an optional one, one that only its expert names, and any once it was begun.
        Raises ``error`` elsewhere, and `WouldBeDegraded` where that is not wanted."""
        model = wanted.step.model
        may_lack = isinstance(error, OptionalAssetMissing) or wanted.model_may_lack or answer.length
        if not model or not may_lack:
            raise error
        lack = f"without the model {model}: {error.message}"
        answer.made_without([_allowed(lack, wanted)])
        return replace(wanted, step=wanted.step.model_copy(update={"model": ""}))

    # --- turns ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, wanted: Wanted, *, accepted: bool) -> AsyncGenerator[None, None]:
        """Have a turn, through all deaths of engines. Raises `Overloaded` or `DeadlineExceeded`.
        ``accepted``: the query is, by an earlier turn or an earlier incarnation."""
        self._resize()
        async with self._turns.turn(
            # What was accepted goes on: it is not shed, nor refused for what it may take.
            priority=Priority.CRITICAL if accepted else wanted.priority,
            client=wanted.client, cost=wanted.cost, until=None if accepted else wanted.until,
        ):  # fmt: skip
            yield

    async def _pick(
        self, wanted: Wanted, lost: Losses, note: NotePassedOver | None = None
    ) -> DirectoryEntry:
        engine = await self._picker.pick(wanted, lost, note)
        self._resize()
        return engine

    def _resize(self) -> None:
        """As many turns as there are slots now, for all that wait."""
        capacity = self._picker.capacity()
        if capacity is not None:
            self._turns.resize(capacity)

    @property
    def models(self) -> set[str]:
        """The models that the engines have, as far as they said: one that is being started again
        will have those that it had. Empty as long as one that is coming has never said."""
        for name in self._runtime.engines:
            entry = self._directory.entries.get(name)
            if entry is None or entry.state in GONE:
                self._models.pop(name, None)
            elif models := models_of(entry):
                self._models[name] = models
            elif name not in self._models:
                return set()
        return {model for models in self._models.values() for model in models}

    # --- what people see --------------------------------------------------------------------

    def status(self) -> tuple[QueueStatus, list[EngineStatus]]:
        """How the queue and the engines do."""
        self._resize()
        now = self._clock.now()
        entries = self._directory.entries
        engines = [
            engine_status(name, engine, entries.get(name), now)
            for name, engine in self._runtime.engines.items()
        ]
        return queue_status(self._turns.metrics, now), engines


def _allowed(lack: str, wanted: Wanted) -> str:
    """The lack. Raises `WouldBeDegraded` where an answer that has one is not wanted."""
    if wanted.undegraded:
        raise unwanted([lack])
    return lack


def _model_id(engine: DirectoryEntry, step: Generate) -> str:
    """What identifies the model that the engine answers with."""
    if not step.model:
        return str(engine.info.get("model_id", ""))
    # Not known before it was loaded for the first time; then its ids are nobody's.
    return str((engine.info.get("model_ids") or {}).get(step.model, ""))
