"""Engines as the orchestrator sees them: entries of a directory, and streams that say as told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

from protocol.caller import Caller
from protocol.clock import ManualClock
from protocol.directory import Directory
from protocol.errors import NoyauError
from protocol.lifecycle import ActorState, Health
from protocol.messages.base import Event
from protocol.messages.engine import Generate, Generated, Stage, Tokens
from protocol.messages.supervisor import DirectoryEntry

END = Generated(
    finish_reason="stop", model="m", model_name="m", device="cpu", backend="simulated",
    prompt_tokens=10, completion_tokens=1, prefill_ms=0, decode_ms=0, tokens_per_s=0,
)  # fmt: skip


def entry(
    name: str,
    epoch: str = "b-1",
    state: ActorState = ActorState.READY,
    health: Health = Health.HEALTHY,
    **info: Any,
) -> DirectoryEntry:
    """An engine; its device is what its name begins with."""
    known = {"slots": 4, "device": name.partition("_")[0], "models": ["default"]} | info
    return DirectoryEntry(
        name=name, epoch=epoch, endpoint="e", state=state, health=health, info=known
    )  # fmt: skip


def reading(done: int, total: int) -> Tokens:
    return Tokens(count=0, stage=Stage(what="reading", done=done, total=total))


def waiting() -> Tokens:
    return Tokens(count=0, stage=Stage(what="waiting"))


def loading() -> Tokens:
    return Tokens(count=0, stage=Stage(what="loading"))


Step = str | Tokens | float | NoyauError | Generated | Callable[[], None] | None
"""What a stream does next: say this, let so many seconds pass and go on, fail, end, call this; None
says nothing any more."""


class ScriptedStream:
    """A stream that does these, one after the other."""

    def __init__(self, steps: Sequence[Step], clock: ManualClock) -> None:
        self._steps = list(steps)
        self._clock = clock
        self.end: Generated | None = None
        self.closed = False

    def __aiter__(self) -> ScriptedStream:
        return self

    async def __anext__(self) -> Tokens:
        while True:
            match self._steps.pop(0) if self._steps else END:
                case str(text):
                    return Tokens(text=text)
                case Tokens() as piece:
                    return piece
                case float(seconds):
                    self._clock.advance(seconds)
                case NoyauError() as error:
                    raise error
                case Generated() as end:
                    self.end = end
                    raise StopAsyncIteration
                case None:
                    await asyncio.get_running_loop().create_future()
                case call:
                    call()

    async def __aenter__(self) -> ScriptedStream:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.closed = True


class ScriptedCaller:
    """Engines that say as told, and a directory that a test changes."""

    def __init__(self, clock: ManualClock, *entries: DirectoryEntry) -> None:
        self.clock = clock
        self.directory = Directory()
        self.directory.apply(entries)
        self.scripts: dict[str, list[ScriptedStream]] = {}
        self.asked: list[tuple[str, Generate]] = []
        self.told: list[Event] = []
        self.telling_fails: NoyauError | None = None
        self.waits: list[float] = []
        self.news: list[Callable[[], None]] = []
        """What happens at each wait for news; then only time passes."""

    def says(self, engine: str, *steps: Step) -> ScriptedStream:
        """To the next one who asks."""
        stream = ScriptedStream(steps, self.clock)
        self.scripts.setdefault(engine, []).append(stream)
        return stream

    async def stream(self, target: str, message: Generate) -> ScriptedStream:
        self.asked.append((target, message))
        return self.scripts[target].pop(0)

    async def wait_for_news(self, until: float) -> None:
        self.waits.append(until)
        if self.news:
            self.news.pop(0)()
        else:
            self.clock.advance(until - self.clock.now())

    def tell_supervisor(self, event: Event) -> None:
        if self.telling_fails is not None:
            raise self.telling_fails
        self.told.append(event)


def as_caller(scripted: ScriptedCaller) -> Caller:
    return cast(Caller, scripted)
