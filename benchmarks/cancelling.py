"""How soon is an engine's slot free when nobody wants its answer any more?

Of an engine with one slot. A second question waits until the first one's client cancels it, while
it writes or while it still reads its prompt; what counts is when the second one's first token
comes. From that is taken what the same takes behind an answer that ends by itself. So it is the
time that a cancelled answer held the slot longer than one that was over.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from benchmarks.harness import Figure, Options, System, alternate, show_table
from benchmarks.steady import WORDS
from protocol.messages.orchestrator import Query

SETTINGS = ("slots=1", "context_tokens=8192")
PROMPT_WORDS = 3000
"""More than 3,000 tokens, which take seconds to read."""
CANCELLED_AFTER_S = (1.0, 2.5)
"""In the middle of that."""
CANCELLED_AFTER_TOKENS = (10, 50)
QUEUED_S = 0.1
"""By then the second question waits."""
REACH_MS = {"decode": 100.0, "prefill": 500.0}
OWN_ENDS, QUICK_OWN_ENDS = 4, 1
"""Rounds of the long prompt that is read to its end."""

Round = Callable[[], Awaitable[float]]


def _query(text: str, tokens: int) -> Query:
    return Query(text=text, max_tokens=tokens, temperature=0, memories=False, tools=False)


class Slot:
    """The engine's only one."""

    def __init__(self, system: System) -> None:
        self._client = system.client
        self._chance = random.Random(7)
        self._numbers = itertools.count(1000)

    async def _next_first(self) -> float:
        """Ask the second question; returns when its first text came, in performance seconds."""
        async with self._client.stream(_query(f"Say {next(self._numbers)}.", 1)) as stream:
            async for _ in stream:
                return time.perf_counter()
        raise RuntimeError("an answer without text")

    def _story(self, tokens: int) -> Query:
        return _query(f"Tell me a long story about number {next(self._numbers)}.", tokens)

    def _long(self) -> Query:
        words = " ".join(self._chance.choices(WORDS, k=PROMPT_WORDS))
        return _query(f"{next(self._numbers)}: sum up {words}", 1)

    async def decode(self, *, cancels: bool) -> float:
        """Milliseconds from the cancel, or from the answer's own end, to the next first token."""
        tokens = self._chance.randint(*CANCELLED_AFTER_TOKENS)
        waiting: asyncio.Task[float] | None = None
        read = 0
        async with self._client.stream(self._story(1000 if cancels else tokens)) as stream:
            async for piece in stream:
                read += piece.count
                waiting = waiting or asyncio.create_task(self._next_first())
                if cancels and read >= tokens:
                    break
            if cancels:
                await asyncio.sleep(QUEUED_S)
            over_at = time.perf_counter()
        assert waiting is not None
        return (await waiting - over_at) * 1000

    async def prefill(self, *, cancels: bool) -> float:
        """The same of one that reads."""
        over_at: list[float] = []

        async def read() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                async with self._client.stream(self._long()) as stream:
                    async for _ in stream:
                        pass
            over_at.append(time.perf_counter())

        reading = asyncio.create_task(read())
        await asyncio.sleep(self._chance.uniform(*CANCELLED_AFTER_S))
        waiting = asyncio.create_task(self._next_first())
        await asyncio.sleep(QUEUED_S)
        if cancels:
            assert not reading.done(), "the prompt was read too fast to be cancelled"
            began = time.perf_counter()
            reading.cancel()
            return (await waiting - began) * 1000
        await reading
        return (await waiting - over_at[0]) * 1000


async def measure(options: Options) -> dict[str, list[float]]:
    """The rounds of all, which take turns."""
    settings = [f"actors.cpu_engine.settings.{one}" for one in SETTINGS]
    async with System("actors.gpu_engine.enabled=false", *settings) as system:
        slot = Slot(system)
        rounds: dict[str, Round] = {
            "decode, cancelled": lambda: slot.decode(cancels=True),
            "decode, own end": lambda: slot.decode(cancels=False),
            "prefill, cancelled": lambda: slot.prefill(cancels=True),
            "prefill, own end": lambda: slot.prefill(cancels=False),
        }
        fewer = {"prefill, own end": QUICK_OWN_ENDS if options.quick else OWN_ENDS}
        return await alternate(rounds, options, rounds=fewer)


def show(times: Mapping[str, Sequence[float]]) -> None:
    """Print what was measured."""
    show_table(
        ["to the next first token", "median ms", "worst ms", "rounds"],
        [
            [name, f"{statistics.median(t):.0f}", f"{max(t):.0f}", str(len(t))]
            for name, t in times.items()
        ],
    )


def figures(times: Mapping[str, Sequence[float]]) -> dict[str, Figure]:
    """How much longer than behind one that was over: the median, and the worst."""
    made = {}
    for phase, reach_ms in REACH_MS.items():
        usual = statistics.median(times[f"{phase}, own end"])
        cancelled = times[f"{phase}, cancelled"]
        made[f"cancel_{phase}_ms"] = Figure(
            statistics.median(cancelled) - usual, "ms", f"<= {reach_ms:g}"
        )
        made[f"cancel_{phase}_worst_ms"] = Figure(max(cancelled) - usual, "ms")
    return made
