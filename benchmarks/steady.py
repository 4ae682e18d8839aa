"""Slow is not hung: full load on all cores, and nobody may be restarted.

``python -m benchmarks.steady``. Eight clients ask at the same time, one question after the other,
each with a prompt of about 2,000 tokens that nobody has seen before: so the engine reads prompts
all the time, with every core, and everything else has to wait for its turn. Every restart in that
time is one too many; the default is five minutes (``--minutes``).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.harness import Figure, System, p99, show_figures, show_table
from noyau import NoyauError
from protocol.messages.actor import Ping
from protocol.messages.orchestrator import Query

CLIENTS = 8
PROMPT_WORDS = 1880
"""About 2,000 tokens of these words."""
QUICK_S = 30.0
QUERY_S = 600.0
SETTINGS = (
    f"actors.cpu_engine.settings.slots={CLIENTS}",
    f"actors.cpu_engine.settings.context_tokens={CLIENTS * 3072}",
)
_WORDS = """
harbour violin granite lantern orchard compass saddle thunder meadow anchor kettle marble
falcon ribbon cellar canyon pepper bridge tunnel copper window ladder garden winter pencil
"""
WORDS = tuple(_WORDS.split())


@dataclass
class Seen:
    """What became of the load."""

    answered: int = 0
    errors: list[str] = field(default_factory=list)
    prompt_tokens: list[int] = field(default_factory=list)
    answers_s: list[float] = field(default_factory=list)
    """From each question to its answer's end."""
    pings_ms: list[float] = field(default_factory=list)
    status_ms: list[float] = field(default_factory=list)


def prompts(seed: int) -> Iterator[str]:
    """Long ones, each a new one."""
    chance = random.Random(seed)
    while True:
        yield "Sum up: " + " ".join(chance.choices(WORDS, k=PROMPT_WORDS))


async def talk(system: System, number: int, until: float, seen: Seen) -> None:
    """One question after the other."""
    for prompt in prompts(number):
        if time.monotonic() >= until:
            return
        query = Query(text=prompt, max_tokens=32)
        began = time.monotonic()
        try:
            async with system.client.stream(query, timeout_s=QUERY_S) as stream:
                async for _ in stream:
                    pass
        except NoyauError as error:
            seen.errors.append(f"{error.code}: {error.message}")
            continue
        assert stream.end is not None
        seen.answered += 1
        seen.answers_s.append(time.monotonic() - began)
        seen.prompt_tokens += [use.prompt_tokens for use in stream.end.engines]


async def look(system: System, until: float, seen: Seen) -> None:
    """Ask a light actor, and for the status, ten times a second."""
    for turn in itertools.count():
        if time.monotonic() >= until:
            return
        began = time.perf_counter()
        if turn % 2:
            await system.client.ask(Ping(), to="storage")
            seen.pings_ms.append((time.perf_counter() - began) * 1000)
        else:
            await system.client.status()
            seen.status_ms.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.1)


async def measure(seconds: float) -> int:
    """Run the load and print what happened; returns the exit code."""
    seen = Seen()
    async with System(*SETTINGS) as system:
        until = time.monotonic() + seconds
        await asyncio.gather(
            look(system, until, seen), *(talk(system, n, until, seen) for n in range(CLIENTS))
        )
        status = await system.client.status()
    counts = {actor.name: actor.restarts for actor in status.actors}
    for name in ("supervisor", "spawner", "guard"):
        counts[name] = getattr(status, name).restarts
    restarts = {name: count for name, count in counts.items() if count}
    show_table(
        [f"{seconds:.0f} s of full load", "value"],
        [
            ["questions answered", str(seen.answered)],
            ["tokens of a prompt, median", f"{statistics.median(seen.prompt_tokens or [0]):.0f}"],
            ["an answer, median and longest s",
             f"{statistics.median(seen.answers_s or [0]):.0f}, {max(seen.answers_s or [0]):.0f}"],
            ["errors", "; ".join(seen.errors[:3]) or "none"],
            ["restarts", ", ".join(f"{n} {c}" for n, c in restarts.items()) or "none"],
            ["ping of storage, median and p99 ms", f"{statistics.median(seen.pings_ms):.1f}, "
             f"{p99(seen.pings_ms):.1f}"],
            ["status, median and p99 ms", f"{statistics.median(seen.status_ms):.1f}, "
             f"{p99(seen.status_ms):.1f}"],
        ],
    )  # fmt: skip
    false_restarts = sum(restarts.values())
    show_figures(
        "steady",
        {
            "false_restarts": Figure(false_restarts, "restarts", "<= 0"),
            "errors": Figure(len(seen.errors), "queries", "<= 0"),
            "status_p99_ms": Figure(p99(seen.status_ms), "ms"),
            "longest_vs_median": Figure(
                max(seen.answers_s or [0]) / max(statistics.median(seen.answers_s or [0]), 0.001),
                "times",
            ),
        },
    )
    return 1 if false_restarts or seen.errors else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_S:g} s instead")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (default: 5)")
    given = parser.parse_args()
    sys.exit(asyncio.run(measure(QUICK_S if given.quick else given.minutes * 60)))
