"""Actors for chaos tests: started by the real supervisor, in real processes."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import AsyncGenerator

from actors.kernel import Actor, handles
from actors.orchestrator import Orchestrator
from protocol.errors import EngineFailed, NotFound
from protocol.lifecycle import ActorState
from protocol.messages.base import Ask, Empty, Message, Role
from protocol.messages.engine import (
    ChatMessage,
    CountTokens,
    EmbedTexts,
    Generate,
    Generated,
    Misbehave,
    TextVectors,
    TokenCounts,
    Tokens,
)
from protocol.messages.orchestrator import Query
from tests.support.waiting import eventually


class CountingEngine(Actor):
    """An engine whose answer is known: ``0 1 2 3 …``, so that a seam can be checked exactly.

    It goes on from the text it is given, as a model does, and from nothing else.
    """

    async def on_start(self) -> None:
        """Be an engine with four slots."""
        self.info = {"slots": 4, "device": "cpu", "model": "counting", "model_id": "counting"}

    @handles(CountTokens)
    def count(self, message: CountTokens) -> TokenCounts:
        """A number is a token."""
        return TokenCounts(counts=[len(text.split()) for text in message.texts])

    @handles(EmbedTexts)
    def embed(self, message: EmbedTexts) -> TextVectors:
        """It has no model for that."""
        raise NotFound(f"{self.name} has no model that embeds texts")

    @handles(Misbehave)
    def misbehave(self, message: Misbehave) -> Empty:
        """It counts right whatever is ordered."""
        self.incarnation.settings.chaos.check()
        return Empty()

    @handles(Generate)
    async def generate(self, message: Generate) -> AsyncGenerator[Tokens | Generated, None]:
        """Count on, one number every few milliseconds."""
        said = message.begun.text if message.begun is not None else ""
        numbers = said.split()
        if said and not said.endswith(" "):
            raise EngineFailed(f"the text was cut inside a token: {said[-20:]!r}")
        if numbers != [str(n) for n in range(len(numbers))]:
            raise EngineFailed(f"words are missing or double in {said[-60:]!r}")
        for number in range(len(numbers), message.sampling.max_tokens):
            await asyncio.sleep(0.002)
            self.progressed()
            yield Tokens(text=f"{number} ")
        yield Generated(
            finish_reason="length", model="counting", model_name="counting", device="cpu",
            backend="simulated",
            prompt_tokens=1, completion_tokens=message.sampling.max_tokens - len(numbers),
            prefill_ms=0, decode_ms=0, tokens_per_s=0,
        )  # fmt: skip


POISON, FREEZER = "poison", "freezer"
"""Words in a question that fragile actors die of: at once, or because they hang."""


def die_of(text: str) -> None:
    """Die, or hang and be killed, where the text has one of these words."""
    if POISON in text:
        os.kill(os.getpid(), signal.SIGKILL)
    if FREEZER in text:
        os.kill(os.getpid(), signal.SIGSTOP)


class FragileEngine(CountingEngine):
    """Dies of some questions before it says a word; counts for all others."""

    @handles(Generate)
    async def generate(self, message: Generate) -> AsyncGenerator[Tokens | Generated, None]:
        """See `CountingEngine.generate`."""
        die_of(message.messages[-1].content)
        async with contextlib.aclosing(super().generate(message)) as items:
            async for item in items:
                yield item


class StubbornEngine(CountingEngine):
    """Stands still after five numbers, for whoever asks from then on, and does not let go of its
    work either. Its next incarnation, which goes on behind them, is well."""

    _stands = False

    @handles(Generate)
    async def generate(self, message: Generate) -> AsyncGenerator[Tokens | Generated, None]:
        """See `CountingEngine.generate`."""
        self.say("generating", 1, 4, "slots", working=True)
        fresh = message.begun is None
        if self._stands:
            await _for_ever()
        async with contextlib.aclosing(super().generate(message)) as items:
            async for item in items:
                if fresh and isinstance(item, Tokens) and item.text.strip() == "5":
                    self._stands = True
                    await _for_ever()
                yield item
        self.say("idle")


async def _for_ever() -> None:
    """As a library that cannot be interrupted."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


class FragileCounter(CountingEngine):
    """Dies when it is to count the tokens of some questions."""

    async def on_start(self) -> None:
        """Have a context that must be counted for."""
        await super().on_start()
        self.info["context_tokens"] = 2048

    @handles(CountTokens)
    def count(self, message: CountTokens) -> TokenCounts:
        """See `CountingEngine.count`."""
        die_of(" ".join(message.texts))
        return super().count(message)


class FragileOrchestrator(Orchestrator):
    """Dies of some questions as soon as it looks at them, before they have a slot."""

    def _turns(self, message: Query) -> list[ChatMessage]:
        die_of(message.text)
        return super()._turns(message)


class Crasher(Actor):
    """Ends with a crash as soon as it starts."""

    async def on_start(self) -> None:
        """Crash."""
        os._exit(3)


class Aborting(Actor):
    """Prints, and ends as a native library ends that meets what cannot be."""

    async def on_start(self) -> None:
        """Abort."""
        print("tensor 1 of 2")  # noqa: T201 - what is printed is what is tested
        libc = ctypes.CDLL(None)
        libc.puts(b"tensor 2 of 2")
        os.write(2, b"ggml: not enough memory")
        libc.abort()


class Unstartable(Actor):
    """Says that it cannot start, and why, for as long as it runs."""

    async def on_start(self) -> None:
        """Fail for a reason that may pass."""
        raise EngineFailed("the moon is in the wrong phase")


class Slow(Message):
    """How far it came."""

    finished: bool


class WorkSlowly(Ask[Slow], operation="slow.work", role=Role.ASK):
    """Work for some time."""

    seconds: float = 1.0
    until_drained: bool = False
    """Whether that time begins only when its actor is drained."""


class Defect(Ask[Empty], operation="slow.defect", role=Role.ASK):
    """Meet a defect."""


class SlowWorker(Actor):
    """Takes its time, and has a defect."""

    @handles(WorkSlowly)
    async def work(self, message: WorkSlowly) -> Slow:
        """Wait, then answer."""
        if message.until_drained:
            await eventually(lambda: self.state is ActorState.DRAINING)
        await asyncio.sleep(message.seconds)
        return Slow(finished=True)

    @handles(Defect)
    def defect(self, message: Defect) -> Empty:
        """Raise what no handler should."""
        raise ZeroDivisionError("a defect")


class Hang(Ask[Empty], operation="hanging.hang", role=Role.ASK):
    """Hang in this way: ``spin`` and ``sleep`` hold the event loop up; ``stick`` lets it turn, and
    says that threads work which do not; ``slow`` does not, as a thread gets on; ``grow`` only needs
    200 MiB of memory."""

    how: str


class Hanging(Actor):
    """Hangs when it is told to."""

    @handles(Hang)
    def hang(self, message: Hang) -> Empty:
        """Do not come back, but for ``stick`` and ``slow``."""
        if message.how == "spin":
            while True:
                pass
        if message.how == "sleep":
            time.sleep(600)
        if message.how == "grow":
            self._ballast = bytearray(os.urandom(1) * (200 * 2**20))
        if message.how == "stick":
            self.say("sticking", working=True)
        if message.how == "slow":
            self.say("working slowly", working=True)
            threading.Thread(target=self._work_slowly).start()
        return Empty()

    def _work_slowly(self) -> None:
        """Twice as long as an idle one would be given."""
        for _ in range(40):
            time.sleep(0.05)
            self.progressed()
        self.say("idle")
