"""What it costs to run a tool in a process of its own.

``python -m benchmarks.tools``. A call of the calculator through the tool user's runner (two forks,
limits, a working folder, everything gone afterwards) against the plain function called in process,
in turns. The overhead is the difference of the two medians of a round.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from actors.tool_user.limits import Limits
from actors.tool_user.runner import Runner
from actors.tool_user.server import fork_tools
from actors.tool_user.tools.calculator import calculator
from benchmarks.harness import (
    Figure,
    Options,
    alternate,
    p99,
    parse_arguments,
    show_figures,
    show_table,
)
from supervision.forking import StartedProcess

EXPRESSION = "17.5 % of 2,340"
CALLS = 50
"""In each round, one after the other."""
DEADLINE_S = 10.0

Turn = list[float]
"""Milliseconds of each call of a round."""


def round_of(call: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[Turn]]:
    """One round of a contestant."""

    async def turn() -> Turn:
        took_ms = []
        for _ in range(CALLS):
            began = time.perf_counter()
            result = await call()
            took_ms.append((time.perf_counter() - began) * 1000)
            assert result == "409.5"
        return took_ms

    return turn


async def measure(options: Options, server: StartedProcess | None) -> dict[str, list[Turn]]:
    """The rounds of both."""
    with tempfile.TemporaryDirectory(prefix="noyau-") as folder:
        runner = Runner([], Limits(), Path(folder) / "scratch")
        runner.start(server)

        async def apart() -> str:
            shaped = await runner.run("calculator", {"expression": EXPRESSION}, {}, DEADLINE_S)
            return shaped.text

        async def in_process() -> str:
            return calculator(EXPRESSION)

        try:
            return await alternate(
                {"apart": round_of(apart), "in process": round_of(in_process)}, options
            )
        finally:
            await runner.close()


def report(turns: dict[str, list[Turn]]) -> None:
    """Print what was measured."""
    show_table(
        [f"{CALLS} calls of the calculator", "median ms", "p99 ms", "rounds"],
        [
            [
                name,
                f"{statistics.median(statistics.median(turn) for turn in of):.3f}",
                f"{statistics.median(p99(turn) for turn in of):.3f}",
                str(len(of)),
            ]
            for name, of in turns.items()
        ],
    )
    overheads = [
        statistics.median(apart) - statistics.median(plain)
        for apart, plain in zip(turns["apart"], turns["in process"], strict=True)
    ]
    show_figures(
        "tools",
        {"tool_call_overhead_ms": Figure(statistics.median(overheads), "ms", "<= 15")},
    )


if __name__ == "__main__":
    chosen = parse_arguments(__doc__, runs=15, quick_runs=7)
    # Forked off a process that has no thread yet and all libraries, as in the tool user itself.
    report(asyncio.run(measure(chosen, fork_tools([]))))
