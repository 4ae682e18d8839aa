"""Listening to one engine: each piece within its time, text alone, and what its end says of it.

::

    stream ─► within its time? ─► is it text? ─► piece
                  │                  └─► EngineGarbage
                  └─► EngineStalled, and the supervisor is told

Whoever stops listening closes the stream, which takes the work back.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Callable

from actors.orchestrator.breaking import Publish, tell_transitions
from actors.orchestrator.doubts import Doubts
from actors.orchestrator.garbage import GarbageFilter
from actors.orchestrator.runtime import Runtime, Use
from actors.orchestrator.watchdog import Vigil
from protocol.caller import Caller
from protocol.clock import Clock
from protocol.errors import (
    ActorDied,
    EngineGarbage,
    EngineStalled,
    InternalError,
    NoyauError,
    Overloaded,
)
from protocol.messages.engine import Generate, Generated, Tokens
from protocol.messages.supervisor import DirectoryEntry, Stalled
from protocol.pending import OutgoingStream

OWN_PAUSE_S = 0.5
"""An alarm that comes so late says that this process stood still itself."""


class Listening:
    """To the engines, for the orchestrator."""

    def __init__(self, caller: Caller, clock: Clock, runtime: Runtime, publish: Publish) -> None:
        """``publish``: see `actors.kernel.Actor.publish`."""
        self._caller = caller
        self._clock = clock
        self._runtime = runtime
        self._publish = publish
        self._doubts = Doubts(caller)

    async def listen(
        self, engine: DirectoryEntry, step: Generate, is_another: Callable[[], bool]
    ) -> AsyncGenerator[Tokens | Generated, None]:
        """What an engine says to this up to its end: text, and of the stages before it those that
        say a lack. Raises its errors, `EngineStalled` and `EngineGarbage`; its circuit breaker
        learns of each. ``is_another``: whether another engine could go on. Only then is a probe
        given up with its lease."""
        use = self._runtime.begin(engine, self._clock.now(), step.model)
        text = GarbageFilter()
        try:
            async with await self._caller.stream(engine.name, step) as stream:
                async with contextlib.aclosing(self._watched(stream, use, is_another)) as pieces:
                    async for piece in pieces:
                        if piece.stage is not None:
                            yield piece
                            continue
                        for one in text.take(piece):
                            self._runtime.passed(use, self._clock.now())
                            yield one
                for one in text.rest():
                    yield one
                if stream.end is None:
                    raise InternalError("an engine's stream ended without its end")
                self._runtime.end(use, None, self._clock.now())
                yield stream.end
        except NoyauError as error:
            self._runtime.end(use, error, self._clock.now())
            if isinstance(error, EngineGarbage):
                self._doubts.garbage(engine, step.model)
            raise
        finally:
            self._runtime.give_up(use, self._clock.now())
            tell_transitions(self._runtime.engines[engine.name].breaker, self._publish)

    async def _watched(
        self,
        stream: OutgoingStream[Tokens, Generated],
        use: Use,
        is_another: Callable[[], bool],
    ) -> AsyncGenerator[Tokens, None]:
        """The pieces, each within its time. Raises `EngineStalled`."""
        vigil = Vigil(use.pace, self._clock.now())
        while True:
            now, lease_until = self._clock.now(), use.permit.lease_until
            budget_s, left_s = vigil.begin_wait(now), math.inf
            # One that went on beyond its lease, for want of another, is not cut when one comes.
            if lease_until is not None and now < lease_until and not use.flows and is_another():
                left_s = lease_until - now
            try:
                piece = await self._within(stream, min(budget_s, left_s))
            except StopAsyncIteration:
                return
            except TimeoutError:
                if left_s < budget_s:
                    raise self._failed_probe(use) from None
                raise self._stalled(use, vigil, budget_s) from None
            vigil.heard(piece, self._clock.now())
            if piece.stage is None or piece.stage.lack:
                yield piece

    async def _within(self, stream: OutgoingStream[Tokens, Generated], budget_s: float) -> Tokens:
        """The next piece. Raises TimeoutError, but not where this process was the one that stood
        still: what came meanwhile is to be read first."""
        due = self._clock.now() + budget_s
        try:
            async with asyncio.timeout(budget_s):
                return await anext(stream)
        except TimeoutError:
            if self._clock.now() - due < OWN_PAUSE_S:
                raise
            async with asyncio.timeout(OWN_PAUSE_S):
                return await anext(stream)

    def _stalled(self, use: Use, vigil: Vigil, budget_s: float) -> EngineStalled:
        """Give it up, and have the supervisor look at it where it does nothing else either."""
        reason = f"no sign for {budget_s:.1f} s in its {vigil.phase}"
        use.pace.forget(vigil.phase)
        if vigil.is_alone(self._clock.now()):
            # A supervisor that cannot be told at this moment sees the engine's silence later.
            with contextlib.suppress(ActorDied, Overloaded):
                self._caller.tell_supervisor(
                    Stalled(name=use.entry.name, epoch=use.entry.epoch, reason=reason)
                )
        return EngineStalled(f"{use.who} does not get on: {reason}", name=use.entry.name)

    def _failed_probe(self, use: Use) -> EngineStalled:
        """Its time is its breaker's, and says nothing of a hang."""
        reason = "it was to show in time that it works again, and did not"
        return EngineStalled(f"{use.who} does not get on: {reason}", name=use.entry.name)
