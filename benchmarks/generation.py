"""Tokens per second and first token through the whole stack, against xllamacpp called directly.

``python -m benchmarks.generation``. Both generate from the same model file with the same threads,
slots and batch, greedily, for the same prompts; a round is new prompts, so that neither finds them
in its cache. The stack is a client, the orchestrator and the engine: three processes, with storage,
memory and the tools beside them. Memories and tools are not looked up but where a row says so.

Then how soon the slot of an answer is free that its client cancels: `benchmarks.cancelling`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cancelling
from benchmarks.harness import (
    Figure,
    Options,
    System,
    alternate,
    median_ratio,
    parse_arguments,
    show_figures,
    show_table,
)
from protocol.messages.orchestrator import Query

TOGETHER = (1, 4, 8)
SLOTS = 8
CONTEXT_TOKENS = 8 * 1024
BATCH_TOKENS = 64
MAX_TOKENS = 96
LOOKING_UP = "noyau with look-ups, 1"
"""What it costs that a question may be answered from memory or by a tool: the floor never looks."""


@dataclass(frozen=True)
class Round:
    """What one round gave."""

    tokens: int
    seconds: float
    first_ms: list[float]

    @property
    def rate(self) -> float:
        """Tokens per second of all together."""
        return self.tokens / self.seconds


class Direct:
    """The floor's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, model: Path, threads: int) -> Direct:
        """Start it and wait until its model is loaded."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.direct", str(model),
            str(SLOTS), str(CONTEXT_TOKENS), str(BATCH_TOKENS), str(threads),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        direct = cls(process)
        await direct._line()
        return direct

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the floor's process ended")
        return line

    async def run(self, prompts: list[str]) -> Round:
        """One round."""
        assert self._process.stdin is not None
        order = json.dumps({"prompts": prompts, "max_tokens": MAX_TOKENS})
        self._process.stdin.write(order.encode() + b"\n")
        await self._process.stdin.drain()
        return Round(**json.loads(await self._line()))

    async def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


async def one_answer(system: System, prompt: str, look_ups: bool) -> tuple[int, float]:
    """Tokens of one answer, and milliseconds until its first text."""
    began, first = time.perf_counter(), 0.0
    query = Query(
        text=prompt, temperature=0, max_tokens=MAX_TOKENS, memories=look_ups, tools=look_ups
    )
    async with system.client.stream(query) as stream:
        async for _ in stream:
            first = first or (time.perf_counter() - began) * 1000
    assert stream.end is not None
    return sum(use.completion_tokens for use in stream.end.engines), first


async def through_noyau(system: System, prompts: list[str], look_ups: bool = False) -> Round:
    """One round; with ``look_ups`` a memory and a tool are looked for first, as by default."""
    began = time.perf_counter()
    answers = await asyncio.gather(*(one_answer(system, one, look_ups) for one in prompts))
    seconds = time.perf_counter() - began
    return Round(sum(tokens for tokens, _ in answers), seconds, [first for _, first in answers])


def prompts_for(numbers: itertools.count[int], together: int) -> list[str]:
    """Prompts of one length that nobody has seen before."""
    return [f"Tell me a long story about number {next(numbers):05d}." for _ in range(together)]


async def measure(options: Options) -> dict[str, list[Round]]:
    """The rounds of all, which take turns."""
    threads = len(os.sched_getaffinity(0))
    settings = [
        f"actors.cpu_engine.settings.{name}={value}"
        for name, value in (
            ("slots", SLOTS), ("context_tokens", CONTEXT_TOKENS),
            ("batch_tokens", BATCH_TOKENS), ("threads", threads),
        )
    ]  # fmt: skip
    async with System(*settings) as system:
        model = next((system.data_folder / "assets").glob("models/*.gguf"))
        direct = await Direct.start(model, threads)
        results: dict[str, list[Round]] = {}
        numbers = itertools.count(50_000)

        def directly(n: itertools.count[int], t: int) -> Callable[[], Awaitable[Round]]:
            return lambda: direct.run(prompts_for(n, t))

        def through(n: itertools.count[int], t: int) -> Callable[[], Awaitable[Round]]:
            return lambda: through_noyau(system, prompts_for(n, t))

        async def looking_up() -> Round:
            return await through_noyau(system, prompts_for(numbers, 1), look_ups=True)

        for together in TOGETHER:
            floor_numbers, stack_numbers = (
                itertools.count(together * 1000),
                itertools.count(together * 1000),
            )
            contestants: dict[str, Callable[[], Awaitable[Round]]] = {
                f"direct, {together}": directly(floor_numbers, together),
                f"noyau, {together}": through(stack_numbers, together),
            }
            if together == 1:
                contestants[LOOKING_UP] = looking_up
            results |= await alternate(contestants, options)
        await direct.stop()
    return results


def show(results: dict[str, list[Round]]) -> None:
    """Print what was measured."""
    show_table(
        ["requests together", "tokens/s", "first token ms", "rounds"],
        [
            [
                name,
                f"{statistics.median(r.rate for r in rounds):.1f}",
                f"{statistics.median(first for r in rounds for first in r.first_ms):.1f}",
                str(len(rounds)),
            ]
            for name, rounds in results.items()
        ],
    )


def figures(results: dict[str, list[Round]]) -> dict[str, Figure]:
    """Against the floor."""
    made = {}
    for together in TOGETHER:
        ours = [r.rate for r in results[f"noyau, {together}"]]
        floor = [r.rate for r in results[f"direct, {together}"]]
        made[f"tokens_per_s_vs_direct_{together}"] = Figure(
            median_ratio(ours, floor), "ratio", ">= 0.97"
        )
    extra = [
        mine.first_ms[0] - theirs.first_ms[0]
        for mine, theirs in zip(results["noyau, 1"], results["direct, 1"], strict=True)
    ]
    made["first_token_extra_ms"] = Figure(statistics.median(extra), "ms", "<= 5")
    looked_up = [
        mine.first_ms[0] - theirs.first_ms[0]
        for mine, theirs in zip(results[LOOKING_UP], results["direct, 1"], strict=True)
    ]
    made["first_token_extra_with_look_ups_ms"] = Figure(statistics.median(looked_up), "ms")
    return made


async def main(options: Options) -> None:
    """Run the benchmark and print its figures."""
    results = await measure(options.part(0.7))
    show(results)
    times = await cancelling.measure(options)
    cancelling.show(times)
    show_figures("generation", figures(results) | cancelling.figures(times))


if __name__ == "__main__":
    asyncio.run(main(parse_arguments(__doc__, runs=12, quick_runs=3)))
